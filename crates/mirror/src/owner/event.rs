//! What a mirror is told and what it asks for.

use dyad_cluster::{AckPolicy, Change, ChangeError, OutReason, Outcome, SegmentRecord};
use dyad_contract::image::{Reply, Request, Token};
use dyad_contract::volume::{VolumeOp, VolumeResult};
use dyad_units::{Epoch, Moment, NodeId};

/// Names an operation of a host until it is answered. Chosen by the caller, unique among those not answered.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OpId(pub u64);

/// An image's place among the segment's images: as in the record that the mirror was made with. An image added
/// later takes the first free place, one that is dropped gives its place up ([`Mirror::index_of`]).
///
/// [`Mirror::index_of`]: crate::Mirror::index_of
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ImageIndex(pub u8);

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A host wants something. Answered exactly once by [`Action::Answer`].
    Op {
        /// Its name.
        id: OpId,
        /// What it wants.
        op: VolumeOp,
        /// When its command arrived: it gets its lock within T of that, or [`Busy`] (M19).
        ///
        /// [`Busy`]: dyad_contract::volume::VolumeError::Busy
        arrived: Moment,
    },
    /// The host gave the operation up. It is answered all the same, once it took effect (with its result) or
    /// never will ([`Aborted`]); until then an abort must not be answered (M19). Unknown ids are ignored:
    /// they were answered before.
    ///
    /// [`Aborted`]: dyad_contract::volume::VolumeError::Aborted
    Abort {
        /// Which one.
        id: OpId,
    },
    /// An image replied.
    Image {
        /// Which image.
        image: ImageIndex,
        /// To which request.
        token: Token,
        /// What it said.
        reply: Reply,
    },
    /// What became of the last [`Action::Propose`].
    Outcome(Outcome),
    /// The image cannot be reached: its pool is not open (any more), or its node is gone. Requests that it
    /// did not reply to will never be replied to.
    Gone {
        /// Which image.
        image: ImageIndex,
        /// Said in the record and to people.
        reason: OutReason,
    },
    /// The connection to the image's node broke. Requests that were not replied to may or may not have arrived;
    /// they are kept, and nothing more is asked until [`Event::Back`] or [`Event::Gone`] says how it goes on.
    Lost {
        /// Which image.
        image: ImageIndex,
    },
    /// The image can be asked (again), by a fresh link at the newest epoch. Every unanswered request is sent again,
    /// in order; writes keep their number. To be told only when the image has everything that it replied to (the
    /// same life of its node, or one that kept memory); otherwise it is [`Event::Gone`] first.
    ///
    /// A segment that waits for an image (M11) asks anew.
    Back {
        /// Which image.
        image: ImageIndex,
    },
    /// A record of this segment was seen, in the store or shown by an image (M7). An older or equal one means
    /// nothing.
    Seen(Box<SegmentRecord>),
    /// An administrator's change of the record. Proposed when nothing else is; answered by [`Action::Changed`].
    Change {
        /// Its name.
        id: u64,
        /// What shall change.
        change: Change,
    },
    /// An image has more marked regions than its budget: the interval closes early (P5).
    MarksOverBudget,
    /// The administrator changed when writes may be acknowledged (A4).
    Policy(AckPolicy),
}

/// What has to be done, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer a host's operation.
    Answer {
        /// Which one.
        id: OpId,
        /// How it ended.
        result: VolumeResult,
    },
    /// Hand a request to an image. Requests to one image keep their order. A [`Request::Record`] with a higher
    /// epoch than the stream's opens the stream anew at that epoch: what came before it is finished first, what
    /// follows it waits for it (M3). [`Request::Show`] needs no stream.
    Image {
        /// Which image.
        image: ImageIndex,
        /// Comes back with the reply.
        token: Token,
        /// What it shall do.
        request: Request,
    },
    /// The operation ends here without an answer: it may or may not have taken effect, and will take none any
    /// more once the segment's newest record is durable at its images. What the host is told is the caller's
    /// affair; it must not be that nothing happened.
    Abandoned {
        /// Which one.
        id: OpId,
    },
    /// Propose this record to the config store in the place of the one with epoch `expected`
    /// (`dyad_cluster::propose`). Answered by [`Event::Outcome`]; one proposal is under way at a time.
    Propose {
        /// The record to be.
        record: Box<SegmentRecord>,
        /// Epoch of the record to be replaced.
        expected: Epoch,
    },
    /// Something that people want to read in the log.
    Note(Note),
    /// What became of an [`Event::Change`].
    Changed {
        /// Its name.
        id: u64,
        /// The epoch that has it, or why it is not legal now.
        result: Result<Epoch, ChangeRefused>,
    },
    /// The end of [`Mirror::hand_over`](crate::Mirror::hand_over), or of an ownership whose own image failed (M8):
    /// the record names the other node, and nothing is answered here in this or any lower epoch (M12).
    HandedOver {
        /// The owner to be.
        to: NodeId,
        /// The record's epoch.
        epoch: Epoch,
    },
    /// The end of [`Mirror::stop`](crate::Mirror::stop): everything is answered, flushed and, if possible,
    /// closed. No action follows.
    Stopped,
}

/// Why a change of the record was not made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeRefused {
    /// The record does not allow it now.
    #[error("the segment's record does not allow it")]
    Illegal(#[source] ChangeError),
    /// Others have to be made first.
    #[error("too many changes of the segment wait; try again")]
    TooMany,
    /// The segment is not served from here.
    #[error("the segment is not served by this node now; ask its owner")]
    NotServing,
}

/// News for the log and for whoever watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Note {
    /// The segment is served in this epoch; so many extents have yet to be compared (P8).
    Serving {
        /// The new epoch.
        epoch: Epoch,
        /// Extents that a crash left suspect.
        suspect: u64,
    },
    /// All suspect extents are equal again.
    Equalised {
        /// Blocks that one image had to take from another.
        mended: u64,
        /// Blocks that no image could verify (P8).
        adopted: u64,
    },
    /// The image is out of the in-sync set; the record says so.
    TakenOut {
        /// Which image.
        image: ImageIndex,
        /// Why.
        reason: OutReason,
    },
    /// The only in-sync image failed and stays in the set; hosts get errors.
    LastImageFailed {
        /// Which image.
        image: ImageIndex,
        /// How.
        reason: OutReason,
    },
    /// A damaged block was rewritten from another image (P14).
    Healed {
        /// The image that had it damaged.
        image: ImageIndex,
        /// Count of blocks.
        blocks: u32,
    },
    /// An image begins to catch up (M13).
    ResyncBegan {
        /// Which image.
        image: ImageIndex,
    },
    /// The run ended early; the image is stale, and the next run goes on where this one came to (M15).
    ResyncEnded {
        /// Which image.
        image: ImageIndex,
        /// Why.
        reason: OutReason,
    },
    /// The image has everything and is in sync (M16).
    Joined {
        /// Which image.
        image: ImageIndex,
    },
    /// Blocks that no image in sync has: the image that catches up keeps them as bad (M15).
    Unreadable {
        /// Count of blocks.
        blocks: u32,
    },
    /// What an atomic write left half done cannot be read: no image has one of the homes of the SCSI state, and nobody can tell
    /// whether there was any, or none has what was to be written, and its blocks are bad now (M21). It is never carried out.
    IntentVoided,
    /// The hand-over took too long, or cannot be now; this owner goes on (M12).
    HandOverFailed,
    /// Somebody else owns the segment, or it was deleted; nothing is answered from here any more (M7).
    SteppedDown {
        /// The newest epoch seen.
        epoch: Epoch,
    },
}
