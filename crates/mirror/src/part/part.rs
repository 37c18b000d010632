//! The part's doors. Every event runs to completion: when a door closes, nothing is left to do but wait.

use std::collections::VecDeque;

use dyad_cluster::{IMAGES_MAX, ImageState, SegmentRecord};
use dyad_contract::volume::VolumeError;
use dyad_payload::Slab;
use dyad_units::{ImageId, Moment, NodeId, Span};

use crate::image::{Image, ImageAction};
use crate::lease::Leases;
use crate::owner::{Action, ImageIndex, SetupError};
use crate::part::claim::Claim;
use crate::part::command::Commands;
use crate::part::event::{CommandError, PartAction, PartEvent, PartNote};
use crate::part::front::{Front, Origin};
use crate::part::loss::Losses;
use crate::part::peers::Peers;
use crate::part::reign::Reign;
use crate::part::returns::Returns;
use crate::part::setup::PartSetup;
use crate::part::status::PartCounters;
use crate::part::store::StoreWork;
use crate::tally::Tally;

/// Most rounds of one call: each round only follows from what the one before changed; a bound all the same.
const ROUNDS_MAX: usize = 64;

/// Whether the part lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Life {
    Live,
    /// Nothing more is taken in; the end follows.
    Stopping,
    Stopped,
    /// The segment was deleted.
    Deleted,
}

/// One node's part in one segment: an image of it, sessions of its volume, or both.
#[derive(Clone, Debug)]
pub struct Part {
    pub(super) now: Moment,
    /// Until when a segment that nobody ever owned waits for all its images.
    pub(super) fresh_until: Option<Moment>,
    pub(super) setup: PartSetup,
    pub(super) slab: Slab,
    /// The newest record known to be stored.
    pub(super) record: SegmentRecord,
    pub(super) life: Life,
    /// Images of this node.
    pub(super) images: Vec<Image>,
    /// Of those, which have said what they know, and whether they have everything (M11).
    pub(super) came: Vec<(ImageId, bool)>,
    pub(super) peers: Peers,
    pub(super) front: Front,
    /// While this node is, or is about to become, owner.
    pub(super) reign: Option<Reign>,
    /// While this node thinks of becoming owner.
    pub(super) claim: Option<Claim>,
    /// Count of rounds of questions.
    pub(super) claims: u64,
    /// This node does not claim before this (M5, M6), as it was when last looked at.
    pub(super) promised_until: Moment,
    pub(super) store: StoreWork,
    pub(super) commands: Commands,
    pub(super) losses: Losses,
    pub(super) returns: Returns,
    pub(super) counters: Tally<PartCounters>,
    pauses_seen: Option<u64>,
    /// Count of times that sessions were to be closed and are not yet: their commands may be from before a pause (M19).
    closings: u32,
    pub(super) acts: VecDeque<Action>,
    pub(super) mirror_out: Vec<Action>,
    pub(super) image_acts: VecDeque<(ImageId, ImageAction)>,
    pub(super) image_out: Vec<ImageAction>,
    pub(super) keys: Vec<u64>,
    /// Something changed that other decisions follow from.
    pub(super) again: bool,
}

impl Part {
    /// A part for the segment of `record`, the newest one known. It begins with nothing up: pools and peers are told by
    /// events. `slab` gives the owner's side its buffers.
    ///
    /// # Errors
    /// [`SetupError`] if the record cannot be used at all.
    pub fn new(record: SegmentRecord, setup: PartSetup, slab: Slab) -> Result<Self, SetupError> {
        if !(1..=IMAGES_MAX).contains(&record.images.len()) {
            return Err(SetupError::Images(record.images.len()));
        }
        if Span::new(0, record.size.value()).is_err() {
            return Err(SetupError::Size(record.size));
        }
        let mut part = Self {
            now: Moment::START,
            fresh_until: None,
            setup,
            slab,
            record,
            life: Life::Live,
            images: Vec::new(),
            came: Vec::new(),
            peers: Peers::default(),
            front: Front::default(),
            reign: None,
            claim: None,
            claims: 0,
            promised_until: Moment::START,
            store: StoreWork::default(),
            commands: Commands::default(),
            losses: Losses::default(),
            returns: Returns::default(),
            counters: Tally::default(),
            pauses_seen: None,
            closings: 0,
            acts: VecDeque::new(),
            mirror_out: Vec::new(),
            image_acts: VecDeque::new(),
            image_out: Vec::new(),
            keys: Vec::new(),
            again: false,
        };
        part.know_images();
        part.release_those_that_left(None);
        Ok(part)
    }

    /// The only way in. `now` is the only clock; what has to be done is added to `out`.
    pub fn handle(&mut self, now: Moment, event: PartEvent, leases: &mut Leases, out: &mut Vec<PartAction>) {
        self.pass_to(now, leases);
        if matches!(self.life, Life::Stopped | Life::Deleted) {
            return self.decline(event, out);
        }
        self.look_for_pause(leases, out);
        self.renew(leases);
        match event {
            PartEvent::Op { id, op, arrived } => self.on_op(Origin::Host(id), op, arrived, out),
            PartEvent::Abort { id } => self.on_abort(Origin::Host(id), out),
            PartEvent::Pool { image, token, reply } => {
                self.with_image(image, |image, to| image.on_reply(token, reply, to))
            }
            PartEvent::PoolUp { image } => self.with_image(image, Image::pool_up),
            PartEvent::PoolDown { image, reason } => self.on_pool_down(image, reason, out),
            PartEvent::Peer { from, message } => self.on_message(from, message, leases, out),
            PartEvent::PeerUp { node, incarnation } => self.on_peer_up(node, incarnation, leases, out),
            PartEvent::PeerDown { node } => self.on_peer_down(node, out),
            PartEvent::Outcome(outcome) => self.on_outcome(outcome, out),
            PartEvent::Seen(record) => self.on_seen(record, leases, out),
            PartEvent::SessionsClosed => self.closings = self.closings.saturating_sub(1),
            PartEvent::Unseen => self.on_unseen(),
            PartEvent::MarksOverBudget { .. } => self.tell_mirror(crate::owner::Event::MarksOverBudget),
            PartEvent::Policy(policy) => {
                self.setup.policy = policy;
                self.tell_mirror(crate::owner::Event::Policy(policy));
            }
            PartEvent::Command { id, command } => self.on_command(id, command, leases, out),
        }
        self.run(leases, out);
    }

    /// It is `now`; the first time, the part says what it was made with.
    fn pass_to(&mut self, now: Moment, leases: &mut Leases) {
        if self.now == Moment::START {
            leases.know(self.record.id, self.record.epoch);
            if self.record.owner.is_none() {
                self.fresh_until = Some(now + self.setup.tuning.fresh_wait);
            }
        }
        self.now = self.now.max(now);
    }

    /// Time has passed. To be called no later than [`Self::next_deadline`] asks.
    pub fn tick(&mut self, now: Moment, leases: &mut Leases, out: &mut Vec<PartAction>) {
        self.pass_to(now, leases);
        if matches!(self.life, Life::Stopped | Life::Deleted) {
            return;
        }
        self.look_for_pause(leases, out);
        self.renew(leases);
        self.tick_mirror();
        self.expire(leases, out);
        self.run(leases, out);
    }

    /// When [`Self::tick`] is wanted; none: nothing waits for time.
    pub fn next_deadline(&self) -> Option<Moment> {
        if matches!(self.life, Life::Stopped | Life::Deleted) {
            return None;
        }
        let claim = self.claim.as_ref().map(|claim| claim.look_at);
        let parts = [
            self.front.look_at,
            claim,
            self.store.retry_at,
            self.reign.as_ref().and_then(Reign::next_deadline),
            self.commands.deadline(),
            self.losses.deadline(),
            self.returns_deadline(),
            self.idle_until(),
        ];
        parts.into_iter().flatten().min()
    }

    /// The newest record known to be stored.
    pub const fn record(&self) -> &SegmentRecord {
        &self.record
    }

    /// Which image a note of the mirror names; none: the mirror that said it serves no more.
    pub fn image_at(&self, image: ImageIndex) -> Option<ImageId> {
        self.reign.as_ref()?.mirror.image_at(image)
    }

    /// Goes on until nothing is left to do but wait.
    fn run(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        for _ in 0..ROUNDS_MAX {
            self.again = false;
            self.pump(leases, out);
            self.expire_commands(out);
            self.report_promotion(leases, out);
            self.pump_losses(out);
            self.end_reign(leases, out);
            self.follow_mirror(leases, out);
            self.sync_links(out);
            self.consider_claim(leases, out);
            self.consider_returns(leases, out);
            self.admit_waiting(leases, out);
            self.consider_end(out);
            if self.acts.is_empty() && self.image_acts.is_empty() && !self.again {
                break;
            }
        }
        self.renew(leases);
        self.update_grants(leases);
    }

    /// Carries out what the mirror and the images ask for, in order.
    fn pump(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        loop {
            if let Some((image, act)) = self.image_acts.pop_front() {
                self.on_image_action(image, act, leases, out);
            } else if let Some(act) = self.acts.pop_front() {
                self.on_action(act, leases, out);
            } else {
                return;
            }
        }
    }

    /// M6, M19: a process that was paused closes its hosts' sessions and thinks again. Until they are closed no command of
    /// a host is taken: it may have lain in a socket through the pause, and its host may have gone on elsewhere.
    fn look_for_pause(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        leases.look(self.now);
        let pauses = leases.pauses();
        if self.pauses_seen.replace(pauses).is_some_and(|seen| seen != pauses) {
            self.counters.pauses += 1;
            self.claim = None;
            self.closings += 1;
            self.busy_waiting(out);
            out.push(PartAction::Note(PartNote::Paused));
            out.push(PartAction::CloseSessions);
        }
    }

    /// It has ended: nothing is taken in.
    fn decline(&self, event: PartEvent, out: &mut Vec<PartAction>) {
        let error = match self.life {
            Life::Deleted => CommandError::Deleted,
            _ => CommandError::NotServing,
        };
        match event {
            PartEvent::Op { id, .. } => out.push(PartAction::Answer { id, result: Err(VolumeError::Busy) }),
            PartEvent::Command { id, .. } => out.push(PartAction::Done { id, result: Err(error) }),
            _ => {}
        }
    }

    /// Lets an image of this node act.
    pub(super) fn with_image(&mut self, id: ImageId, act: impl FnOnce(&mut Image, &mut Vec<ImageAction>)) {
        let Some(image) = self.images.iter_mut().find(|image| image.id() == id) else { return };
        act(image, &mut self.image_out);
        self.image_acts.extend(self.image_out.drain(..).map(|action| (id, action)));
    }

    /// Whether an operation may be taken in.
    pub(super) fn takes(&self, origin: Origin) -> bool {
        self.life == Life::Live && (self.closings == 0 || !matches!(origin, Origin::Host(_)))
    }

    /// This node.
    pub(super) const fn me(&self) -> NodeId {
        self.setup.node
    }

    /// Knows every image that the record places on this node. An image that was dropped is not asked any more.
    pub(super) fn know_images(&mut self) {
        let (me, start) = (self.me(), self.setup.incarnation.start);
        for image in self.record.images.iter().filter(|image| image.node == me) {
            if !self.images.iter().any(|known| known.id() == image.id) {
                self.images.push(Image::new(image.id, start));
            }
        }
        let record = &self.record;
        self.images.retain(|image| record.image(image.id()).is_some());
    }

    /// Images of this node that the record, which is stored, has out of the set promise nothing more (P15), as soon as its
    /// owner knows it, who relied on that before: it says so (`said_by`), is here, or has no stream.
    pub(super) fn release_those_that_left(&mut self, said_by: Option<NodeId>) {
        let (me, epoch) = (self.me(), self.record.epoch);
        let is_known = self.record.owner.is_none_or(|owner| owner == me || Some(owner) == said_by);
        let is_out = |image: &Image| {
            let state = self.record.image(image.id()).map(|image| image.state);
            matches!(state, Some(ImageState::Stale | ImageState::Detached)) && (is_known || image.obeys().is_none())
        };
        let left: Vec<ImageId> = self.images.iter().filter(|image| is_out(image)).map(Image::id).collect();
        for image in left {
            self.with_image(image, |image, out| image.left(epoch, out));
        }
    }
}
