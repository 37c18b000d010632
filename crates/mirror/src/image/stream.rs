//! The image and the stream that it obeys.

use std::collections::VecDeque;

use dyad_cluster::{OutReason, SegmentRecord};
use dyad_contract::image::{ImageError, Reply, Request, Survey, Token};
use dyad_units::{Epoch, ImageId, NodeId};

use crate::image::action::{Asker, ImageAction};
use crate::image::open::Opening;
use crate::records::RecordBuffers;
use crate::tally::Tally;

/// Marks tokens of requests that are the image's own: the owner's tokens stay below (they would reach it after
/// 2^43 phases).
const OWN: u64 = 1 << 63;
/// Most questions of what the image knows that wait for the pool at once: every node and every role may ask once, twice.
const SHOWS_MAX: usize = 32;
/// Most requests that wait for a record of their own stream to become durable: what an owner may have under way.
const WAITING_MAX: usize = 64 * 1024;

/// A stream that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) from: NodeId,
    pub(super) link: u64,
}

/// What becomes of the pool's answer to a record.
#[derive(Clone, Debug)]
pub(super) enum Recording {
    /// A stream opens with it.
    Opening,
    /// It came in the open stream, with this token.
    InStream(Token),
}

/// An image of this node, as its owner sees it.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) id: ImageId,
    /// Why the pool cannot be asked; none: it can.
    down: Option<OutReason>,
    /// The pool has said what the image knows.
    pub(super) is_known: bool,
    /// Highest epoch that is durable at the image.
    pub(super) epoch: Epoch,
    /// The newest record that is durable at the image.
    pub(super) kept: Option<Box<SegmentRecord>>,
    pub(super) link: u64,
    /// The stream that is obeyed.
    pub(super) stream: Option<Stream>,
    /// The stream that is about to be.
    pub(super) opening: Option<Opening>,
    /// A record that is becoming durable, by this request.
    pub(super) recording: Option<(Token, Box<SegmentRecord>, Recording)>,
    /// A record of the open stream that waits for what came before it.
    pub(super) next_record: Option<(Token, Box<SegmentRecord>)>,
    /// What came after that record.
    pub(super) waiting: VecDeque<(Token, Request)>,
    /// Requests of streams that the pool has not answered. They are all of one stream: the next one waits for them.
    pub(super) in_flight: usize,
    /// The epoch of a stored record that has the image out of the set: what was promised to owners of before is void when
    /// nothing of theirs is in flight any more.
    pub(super) out_since: Option<Epoch>,
    shows: Vec<(Token, Asker)>,
    own_token: u64,
    pub(super) buffers: RecordBuffers,
    /// Requests of a stream that is obeyed no more.
    pub(super) discarded: Tally<u64>,
}

impl Image {
    /// An image whose pool is not open yet. `start` is the node's durable count of starts: no number of a stream is given
    /// twice (M3).
    pub fn new(id: ImageId, start: u64) -> Self {
        Self {
            id,
            down: Some(OutReason::Absent),
            is_known: false,
            epoch: Epoch::new(0),
            kept: None,
            link: start << 32,
            stream: None,
            opening: None,
            recording: None,
            next_record: None,
            waiting: VecDeque::new(),
            in_flight: 0,
            out_since: None,
            shows: Vec::new(),
            own_token: OWN,
            buffers: RecordBuffers::new(),
            discarded: Tally::default(),
        }
    }

    /// Which image.
    pub const fn id(&self) -> ImageId {
        self.id
    }

    /// Whether its pool is open and has said what it knows.
    pub const fn is_up(&self) -> bool {
        self.down.is_none() && self.is_known
    }

    /// Why it cannot be asked.
    pub const fn down(&self) -> Option<OutReason> {
        self.down
    }

    /// The epoch that is durable at the image, if it is known.
    pub fn adopted(&self) -> Option<Epoch> {
        self.is_up().then_some(self.epoch)
    }

    /// The newest record that is durable at the image.
    pub fn kept(&self) -> Option<&SegmentRecord> {
        self.kept.as_deref()
    }

    /// Whose stream it obeys.
    pub fn obeys(&self) -> Option<NodeId> {
        self.stream.map(|stream| stream.from)
    }

    /// Requests that were thrown away because their stream was obeyed no more.
    pub fn discarded(&self) -> u64 {
        *self.discarded
    }

    /// The pool is open.
    pub fn pool_up(&mut self, out: &mut Vec<ImageAction>) {
        if self.down.take().is_some() {
            self.is_known = false;
            self.show(Asker::Part, out);
        }
    }

    /// The pool is not open any more: what it did not answer has no effect.
    pub fn pool_down(&mut self, reason: OutReason, out: &mut Vec<ImageAction>) {
        self.down = Some(reason);
        self.is_known = false;
        (self.in_flight, self.recording, self.next_record) = (0, None, None);
        self.waiting.clear();
        (self.opening, self.stream, self.out_since) = (None, None, None);
        out.extend(self.shows.drain(..).map(|(_, to)| unanswered(to)));
    }

    /// The connection to this node ended: nothing of it comes any more.
    pub fn peer_down(&mut self, node: NodeId) {
        if self.opening.as_ref().is_some_and(|opening| opening.from == node) {
            self.opening = None;
        }
        if self.stream.is_some_and(|stream| stream.from == node) {
            self.close();
        }
    }

    /// The stream ends; what the pool has of it goes on and is waited for by the next one.
    pub(super) fn close(&mut self) {
        self.stream = None;
        *self.discarded += self.waiting.len() as u64;
        self.waiting.clear();
        self.next_record = None;
    }

    /// A record that is stored, and that its owner knows, has the image out of the set. Nobody writes to it until it adopts a
    /// newer one, which may be never: the space that it promised is for others (P15).
    pub fn left(&mut self, epoch: Epoch, out: &mut Vec<ImageAction>) {
        self.out_since = Some(epoch);
        self.go_on(out);
    }

    /// Somebody wants to know what the image knows; nothing changes by it (M11).
    pub fn show(&mut self, to: Asker, out: &mut Vec<ImageAction>) {
        self.look(to, Request::Show, out);
    }

    /// As [`Self::show`], for any request that changes nothing.
    pub fn look(&mut self, to: Asker, request: Request, out: &mut Vec<ImageAction>) {
        if self.down.is_some() || self.shows.len() >= SHOWS_MAX {
            return out.push(unanswered(to));
        }
        let token = self.own_token();
        self.shows.push((token, to));
        out.push(ImageAction::Pool { token, request });
    }

    /// The owner asks for something on its stream.
    pub fn ask(&mut self, from: NodeId, link: u64, token: Token, request: Request, out: &mut Vec<ImageAction>) {
        if !self.stream.is_some_and(|stream| stream.link == link && stream.from == from) || token.0 & OWN != 0 {
            *self.discarded += 1; // M3: unread, without an effect
            return;
        }
        if self.next_record.is_some() || self.recording.is_some() {
            if self.waiting.len() >= WAITING_MAX {
                return self.tell(token, Reply::Failed(ImageError::Overloaded), out);
            }
            self.waiting.push_back((token, request));
        } else {
            self.obey(token, request, out);
        }
    }

    /// The pool replied.
    pub fn on_reply(&mut self, token: Token, reply: Reply, out: &mut Vec<ImageAction>) {
        if self.down.is_some() {
            return; // what was asked of it before has no effect, and no answer that counts
        }
        if token.0 & OWN == 0 {
            self.in_flight = self.in_flight.saturating_sub(1);
            self.tell(token, reply, out);
            self.go_on(out);
        } else if let Some(at) = self.shows.iter().position(|(known, _)| *known == token) {
            let (_, to) = self.shows.swap_remove(at);
            match to {
                Asker::Loss(_) | Asker::Lister(..) => out.push(ImageAction::Looked { to, reply: Some(reply) }),
                _ => self.on_shown(to, reply, out),
            }
        } else if self.recording.as_ref().is_some_and(|(recording, ..)| *recording == token) {
            self.on_recorded(reply, out);
        }
    }

    fn on_shown(&mut self, to: Asker, reply: Reply, out: &mut Vec<ImageAction>) {
        let survey = if let Reply::Survey(survey) = reply { Some(survey) } else { None };
        if let (false, Some(survey)) = (self.is_known, &survey) {
            self.is_known = true;
            self.learn(survey);
            out.push(ImageAction::Came { survey: survey.clone() });
            self.go_on(out);
        }
        out.push(ImageAction::Shown { to, survey });
    }

    fn learn(&mut self, survey: &Survey) {
        self.epoch = survey.epoch;
        self.kept = SegmentRecord::decode(&survey.record).ok().map(Box::new);
    }

    /// A request in the order of its stream.
    pub(super) fn obey(&mut self, token: Token, request: Request, out: &mut Vec<ImageAction>) {
        match request {
            Request::Record { epoch, record } => self.on_record(token, epoch, &record, out),
            request => {
                self.in_flight += 1;
                out.push(ImageAction::Pool { token, request });
            }
        }
    }

    /// Tells the owner, unless its stream ended meanwhile.
    pub(super) fn tell(&self, token: Token, reply: Reply, out: &mut Vec<ImageAction>) {
        if let Some(Stream { from, link }) = self.stream {
            out.push(ImageAction::Told { to: from, link, token, reply });
        }
    }

    pub(super) fn own_token(&mut self) -> Token {
        self.own_token += 1;
        Token(self.own_token)
    }
}

/// To whoever asked: it cannot be asked.
const fn unanswered(to: Asker) -> ImageAction {
    match to {
        Asker::Loss(_) | Asker::Lister(..) => ImageAction::Looked { to, reply: None },
        _ => ImageAction::Shown { to, survey: None },
    }
}
