//! What a mirror is told and what it asks for.

use dyad_cluster::{AckPolicy, OutReason, Outcome, SegmentRecord};
use dyad_contract::image::{Reply, Request, Token};
use dyad_contract::volume::{VolumeOp, VolumeResult};
use dyad_units::{Epoch, Moment};

/// Names an operation of a host until it is answered. Chosen by the caller, unique among those not answered.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OpId(pub u64);

/// An image's place in the segment record's list of images.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ImageIndex(pub u8);

/// What happened.
#[derive(Debug)]
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
    /// An image has more marked regions than its budget: the interval closes early (P5).
    MarksOverBudget,
    /// The administrator changed when writes may be acknowledged (A4).
    Policy(AckPolicy),
}

/// What has to be done, in this order.
#[derive(Debug)]
pub enum Action {
    /// Answer a host's operation.
    Answer {
        /// Which one.
        id: OpId,
        /// How it ended.
        result: VolumeResult,
    },
    /// Hand a request to an image. Requests to one image keep their order.
    Image {
        /// Which image.
        image: ImageIndex,
        /// Comes back with the reply.
        token: Token,
        /// What it shall do.
        request: Request,
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
    /// The end of [`Mirror::stop`](crate::Mirror::stop): everything is answered, flushed and, if possible,
    /// closed. No action follows.
    Stopped,
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
    /// Somebody else owns the segment, or it was deleted; nothing is answered from here any more (M7).
    SteppedDown {
        /// The newest epoch seen.
        epoch: Epoch,
    },
}
