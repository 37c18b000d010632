//! An inquiry into a loss: one at a time per part, one question at a time, so that hosts do not notice it.

use dyad_cluster::ImageState;
use dyad_contract::image::{Changed, Reply, Request, Token};
use dyad_contract::volume::VolumeResult;
use dyad_units::{BLOCK_BYTES, Bytes, EXTENT_BYTES, Extent, ImageId, Moment, NodeId, Period, Span, Stamp};

use crate::image::Asker;
use crate::part::event::{CommandError, PartAction};
use crate::part::loss::LossReport;
use crate::part::loss::forecast::Forecast;
use crate::part::loss::list::List;
use crate::part::message::PeerMessage;
use crate::part::part::Part;

/// An inquiry that learns nothing for so long has failed: longer than T, in which a read is answered one way or the other,
/// several times over.
const SILENCE_MAX: Period = Period::from_secs(15);
/// Pause before a read that was answered busy is tried again.
pub(super) const READ_AGAIN: Period = Period::from_millis(300);

/// The inquiry that is under way, and how the last one ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    inquiry: Option<Inquiry>,
    /// Answers that came and were not looked at yet.
    came: Vec<Came>,
    /// Names questions: an answer to an earlier one is ignored.
    asked: u64,
}

#[derive(Clone, Debug)]
struct Inquiry {
    /// The command's name.
    id: u64,
    image: ImageId,
    /// Nothing new by then: it failed.
    until: Moment,
    again_at: Option<Moment>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Forecast(Forecast),
    List(List),
}

#[derive(Clone, Debug)]
enum Came {
    /// An image's reply; none: it cannot be asked.
    Image(u64, Option<Reply>),
    Read(u64, VolumeResult),
}

/// What an inquiry wants to know next.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// Ask this image of this node.
    Here(ImageId, Request),
    /// Ask for a list of another node's image.
    There { node: NodeId, image: ImageId, after: Stamp, from: Extent },
    /// Read the volume.
    Read(Span),
    /// The same read, a little later.
    ReadAgain,
    /// That was all.
    Done(LossReport),
    /// The image itself cannot be asked any more.
    Gone,
}

impl Losses {
    /// An image answered, or cannot.
    pub(crate) fn on_reply(&mut self, asked: u64, reply: Option<Reply>) {
        self.come(asked, Came::Image(asked, reply));
    }

    /// The volume was read, or not.
    pub(crate) fn on_read(&mut self, asked: u64, result: VolumeResult) {
        self.come(asked, Came::Read(asked, result));
    }

    fn come(&mut self, asked: u64, came: Came) {
        if self.inquiry.is_some() && asked == self.asked {
            self.came.push(came);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        let inquiry = self.inquiry.as_ref()?;
        Some(inquiry.again_at.map_or(inquiry.until, |at| at.min(inquiry.until)))
    }

    pub(crate) fn fail(&mut self, error: &CommandError, out: &mut Vec<PartAction>) {
        if let Some(inquiry) = self.inquiry.take() {
            out.push(PartAction::Done { id: inquiry.id, result: Err(error.clone()) });
        }
    }
}

/// It is none that others went on without.
fn not_left(image: ImageId) -> CommandError {
    CommandError::WrongState {
        image,
        because: "is in sync, or catches up, or was dropped: it has nothing that others lack",
    }
}

impl Part {
    /// What would be lost by promoting this node's image.
    pub(crate) fn begin_forecast(&mut self, id: u64, image: ImageId) -> Result<(), CommandError> {
        self.check_promotable(image)?;
        self.begin_inquiry(id, image, What::Forecast(Forecast::new(image)))
    }

    /// What only this node's image has.
    pub(crate) fn begin_list(&mut self, id: u64, image: ImageId) -> Result<(), CommandError> {
        if !self.is_left(image) {
            return Err(not_left(image));
        }
        self.begin_inquiry(id, image, What::List(List::new(image)))
    }

    fn is_left(&self, image: ImageId) -> bool {
        let state = self.record.image(image).map(|image| image.state);
        matches!(state, Some(ImageState::Detached | ImageState::Stale))
    }

    fn begin_inquiry(&mut self, id: u64, image: ImageId, what: What) -> Result<(), CommandError> {
        if self.losses.inquiry.is_some() {
            return Err(CommandError::Underway);
        }
        if !self.image(image).is_some_and(crate::image::Image::is_up) {
            return Err(CommandError::NotHere(image));
        }
        let until = self.now + SILENCE_MAX;
        self.losses.inquiry = Some(Inquiry { id, image, until, again_at: None, what });
        self.look_here(image, Request::Show);
        Ok(())
    }

    fn look_here(&mut self, image: ImageId, request: Request) {
        self.losses.asked += 1;
        let asker = Asker::Loss(self.losses.asked);
        self.with_image(image, |image, to| image.look(asker, request, to));
    }

    /// Goes on with an inquiry, as far as answers came.
    pub(crate) fn pump_losses(&mut self, out: &mut Vec<PartAction>) {
        let now = self.now;
        let Some(inquiry) = &mut self.losses.inquiry else { return self.losses.came.clear() };
        let is_list = matches!(inquiry.what, What::List(_));
        if inquiry.until <= now {
            return self.losses.fail(&CommandError::TooLate, out);
        }
        let (image, is_due) = (inquiry.image, inquiry.again_at.take_if(|at| *at <= now).is_some());
        if is_list && !self.is_left(image) {
            return self.losses.fail(&not_left(image), out); // it catches up, or was dropped
        }
        for came in std::mem::take(&mut self.losses.came) {
            self.take_answer(came, out);
        }
        if is_due && let Some(Inquiry { what: What::List(list), .. }) = &self.losses.inquiry {
            let next = list.read();
            self.carry_on(next, out);
        }
    }

    fn take_answer(&mut self, came: Came, out: &mut Vec<PartAction>) {
        let (now, record) = (self.now, &self.record);
        let Some(inquiry) = &mut self.losses.inquiry else { return };
        let next = match (&mut inquiry.what, came) {
            (_, Came::Image(asked, _) | Came::Read(asked, _)) if asked != self.losses.asked => return,
            (What::Forecast(forecast), Came::Image(_, reply)) => {
                let is_up = |node| node == self.setup.node || self.peers.is_up(node);
                forecast.on_reply(record, reply, self.setup.node, is_up)
            }
            (What::List(list), Came::Image(_, reply)) => list.on_reply(record, reply),
            (What::List(list), Came::Read(_, result)) => list.on_read(record, result),
            (What::Forecast(_), Came::Read(..)) => return,
        };
        if !matches!(next, Next::ReadAgain) {
            inquiry.until = now + SILENCE_MAX;
        }
        self.carry_on(next, out);
    }

    fn carry_on(&mut self, next: Next, out: &mut Vec<PartAction>) {
        match next {
            Next::Here(image, request) => self.look_here(image, request),
            Next::There { node, image, after, from } => {
                self.losses.asked += 1;
                let token = Token(self.losses.asked);
                out.push(PartAction::Send { to: node, message: PeerMessage::List { image, token, after, from } });
            }
            Next::Read(span) => {
                self.losses.asked += 1;
                self.read_for_loss(self.losses.asked, span, out);
            }
            Next::ReadAgain => {
                let again_at = self.now + READ_AGAIN;
                if let Some(inquiry) = &mut self.losses.inquiry {
                    inquiry.again_at = Some(again_at);
                }
            }
            Next::Done(report) => {
                if let Some(inquiry) = self.losses.inquiry.take() {
                    out.push(PartAction::Loss { id: inquiry.id, report });
                }
            }
            Next::Gone => {
                let image = self.losses.inquiry.as_ref().map(|inquiry| inquiry.image);
                if let Some(image) = image {
                    self.losses.fail(&CommandError::NotHere(image), out);
                }
            }
        }
        self.again = true;
    }

    /// Another node lists what was written to its image, or cannot be asked.
    pub(crate) fn on_listed(&mut self, token: Token, changed: Option<Box<Changed>>) {
        self.losses.on_reply(token.0, changed.map(Reply::Changed));
        self.again = true;
    }

    /// The connection to a node ended: it will not list anything.
    pub(crate) fn on_lister_down(&mut self, node: NodeId) {
        if let Some(Inquiry { what: What::Forecast(forecast), .. }) = &self.losses.inquiry
            && forecast.asks(node)
        {
            self.losses.on_reply(self.losses.asked, None);
        }
    }
}

/// An extent as a range of a segment of this size; none: it is not the host's.
pub(super) fn span_of(extent: Extent, size: Bytes) -> Option<Span> {
    let offset = u64::from(extent.0) * u64::from(EXTENT_BYTES);
    span_within(offset, u64::from(EXTENT_BYTES), size)
}

/// A block of an extent.
pub(super) fn block_of(extent: Extent, block: usize, size: Bytes) -> Option<Span> {
    let offset = u64::from(extent.0) * u64::from(EXTENT_BYTES) + block as u64 * u64::from(BLOCK_BYTES);
    span_within(offset, u64::from(BLOCK_BYTES), size)
}

/// A range, up to the end of the segment.
pub(super) fn span_within(offset: u64, len: u64, size: Bytes) -> Option<Span> {
    let len = len.min(size.value().checked_sub(offset)?);
    Span::new(offset, len).ok()
}
