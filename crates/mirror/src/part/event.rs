//! What a part is told and what it asks for.

use dyad_cluster::{AckPolicy, ChangeError, Incarnation, OutReason, Outcome, SegmentRecord};
use dyad_contract::image::{Reply, Request, Token};
use dyad_contract::volume::{VolumeOp, VolumeResult};
use dyad_units::{Epoch, ImageId, Moment, NodeId, PoolId};

use crate::owner::{Note, OpId};
use crate::part::loss::LossReport;
use crate::part::message::PeerMessage;

/// What happened.
#[derive(Clone, Debug)]
pub enum PartEvent {
    /// A host of one of this node's sessions wants something. Answered exactly once by [`PartAction::Answer`].
    Op {
        /// Its name.
        id: OpId,
        /// What it wants.
        op: VolumeOp,
        /// When its command arrived.
        arrived: Moment,
    },
    /// The host gave the operation up; it is answered all the same, once it took effect or never will (M19). Unknown
    /// names are ignored: they were answered before.
    Abort {
        /// Which one.
        id: OpId,
    },
    /// An image of this node replied to [`PartAction::Pool`].
    Pool {
        /// Which image.
        image: ImageId,
        /// To which request.
        token: Token,
        /// What it said.
        reply: Reply,
    },
    /// An image of this node can be asked: its pool is open.
    PoolUp {
        /// Which image.
        image: ImageId,
    },
    /// An image of this node cannot be asked (any more). Requests that it did not reply to will never be replied to
    /// and have no effect any more.
    PoolDown {
        /// Which image.
        image: ImageId,
        /// Said in the record and to people.
        reason: OutReason,
    },
    /// A message of another node's part.
    Peer {
        /// From whom.
        from: NodeId,
        /// What it says.
        message: PeerMessage,
    },
    /// A connection to this node's life begins. One that was up has ended before.
    PeerUp {
        /// Which node.
        node: NodeId,
        /// Which life of it, proved in the hello (M11).
        incarnation: Incarnation,
    },
    /// The connection ended; nothing of it comes any more.
    PeerDown {
        /// Which node.
        node: NodeId,
    },
    /// The sessions that [`PartAction::CloseSessions`] meant are closed: whatever they had sent and was not handed over yet
    /// never will be. Said once for each.
    SessionsClosed,
    /// What became of the last [`PartAction::Propose`].
    Outcome(Outcome),
    /// What the store holds, by a watch or as the answer to [`PartAction::Read`]; none: the segment was deleted.
    Seen(Option<Box<SegmentRecord>>),
    /// The store could not be read: the answer to a [`PartAction::Read`] that found nothing out.
    Unseen,
    /// An image of this node has more marked regions than its budget: the interval closes early (P5).
    MarksOverBudget {
        /// Which image.
        image: ImageId,
    },
    /// The administrator changed when writes may be acknowledged (A4).
    Policy(AckPolicy),
    /// An administrator's command. Answered by [`PartAction::Done`].
    Command {
        /// Comes back with the answer.
        id: u64,
        /// What shall be done.
        command: Command,
    },
}

/// What an administrator, or the balancer, may ask of a part. All but [`Command::Promote`],
/// [`Command::ForecastLoss`], [`Command::ListLoss`] and [`Command::Stop`] are for the owner's node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Let this node be the owner (M12).
    HandOver {
        /// It holds an in-sync image.
        to: NodeId,
    },
    /// Forced promotion of this node's image, which is not in sync: the loss was shown and accepted, and the old owner
    /// is known to be off (M10).
    Promote {
        /// The image, on this node.
        image: ImageId,
    },
    /// What a forced promotion of this node's image would lose, as exactly as can be known (M10). Changes nothing;
    /// answered by [`PartAction::Loss`], or by [`PartAction::Done`] with an error.
    ForecastLoss {
        /// The image, on this node.
        image: ImageId,
    },
    /// What only this node's image has, which a forced promotion left behind (M10): detached, or taken out. Reads as much of
    /// the volume as was written there since, one extent at a time; answered like [`Command::ForecastLoss`].
    ListLoss {
        /// The image, on this node.
        image: ImageId,
    },
    /// Take an image out of the set, or end its resync; it comes back when asked to by [`Command::Resync`].
    TakeOut {
        /// Which image.
        image: ImageId,
    },
    /// Bring a stale image back now.
    Resync {
        /// Which image.
        image: ImageId,
    },
    /// An image that is not in sync leaves the volume and is kept as it is.
    Detach {
        /// Which image.
        image: ImageId,
    },
    /// A detached image becomes part of the volume again; what it alone has is lost by the resync that follows (M10).
    Reattach {
        /// Which image.
        image: ImageId,
    },
    /// A new image, which is empty; its node makes it, after which it catches up.
    Add {
        /// Which image.
        image: ImageId,
        /// Where it is to be.
        node: NodeId,
        /// In which pool there.
        pool: PoolId,
        /// The image that it is to take the place of.
        replaces: Option<ImageId>,
    },
    /// An image that is not in sync is given up: its node deletes it, then it is dropped.
    Remove {
        /// Which image.
        image: ImageId,
    },
    /// A detached image is forgotten.
    Drop {
        /// Which image.
        image: ImageId,
    },
    /// End in good order: drain, close, release (M12). [`PartAction::Stopped`] follows.
    Stop,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// Ask another node.
    #[error("this node does not serve the segment{}", .owner.map(|owner| format!("; ask node {owner}")).unwrap_or_default())]
    NotOwner {
        /// The owner of the newest record known.
        owner: Option<NodeId>,
    },
    /// The segment is not served yet.
    #[error("the segment is not served yet; try again")]
    NotServing,
    /// Another command or change of the record is under way.
    #[error("another change of the segment is under way; try again")]
    Underway,
    /// The record does not allow it.
    #[error("the record does not allow it")]
    Illegal(#[from] ChangeError),
    /// It could not be done in time; everything is as before.
    #[error("it could not be done in time; everything is as before")]
    TooLate,
    /// Another owner took over meanwhile.
    #[error("node {owner:?} took the segment over meanwhile; ask there")]
    Overtaken {
        /// The owner of the newest record known.
        owner: Option<NodeId>,
    },
    /// The image is not one of this node's, or its pool is not open.
    #[error("image {0} is not on this node, or its pool is not open")]
    NotHere(ImageId),
    /// The image is in sync, or the owner is alive: nothing has to be forced.
    #[error("the segment's owner {owner} was heard lately: hand over instead, or shut that node down")]
    OwnerAlive {
        /// Who.
        owner: NodeId,
    },
    /// The image is not in a state for that.
    #[error("image {image} {because}")]
    WrongState {
        /// Which image.
        image: ImageId,
        /// What it is, and what to do.
        because: &'static str,
    },
    /// The segment was deleted.
    #[error("the segment was deleted")]
    Deleted,
}

/// What has to be done, in this order.
#[derive(Clone, Debug)]
pub enum PartAction {
    /// Answer a host's operation.
    Answer {
        /// Which one.
        id: OpId,
        /// How it ended.
        result: VolumeResult,
    },
    /// Hand a request to an image of this node. Requests to one image keep their order.
    Pool {
        /// Which image.
        image: ImageId,
        /// Comes back with the reply.
        token: Token,
        /// What it shall do.
        request: Request,
    },
    /// Send a message on the connection to this node. Without one it may be dropped.
    Send {
        /// To whom.
        to: NodeId,
        /// What to say.
        message: PeerMessage,
    },
    /// Propose this record to the config store in the place of the one with epoch `expected`
    /// (`dyad_cluster::propose`). Answered by [`PartEvent::Outcome`]; one proposal is under way at a time.
    Propose {
        /// The record to be.
        record: Box<SegmentRecord>,
        /// Epoch of the record to be replaced.
        expected: Epoch,
    },
    /// Read the segment's record from the store, linearizably. Answered by [`PartEvent::Seen`] or
    /// [`PartEvent::Unseen`]; one is under way at a time.
    Read,
    /// The node was paused for so long that its hosts may have gone on elsewhere: close the sessions of the segment's
    /// volume, what they sent unread (M19). Told by [`PartEvent::SessionsClosed`].
    CloseSessions,
    /// Something that people want to read in the log.
    Note(PartNote),
    /// The answer to a command.
    Done {
        /// Which one.
        id: u64,
        /// How it ended.
        result: Result<(), CommandError>,
    },
    /// The answer to a command that asked what is lost (M10); no [`PartAction::Done`] follows.
    Loss {
        /// Which one.
        id: u64,
        /// What it found.
        report: LossReport,
    },
    /// The end of [`Command::Stop`]: no action follows.
    Stopped,
}

/// News for the log and for whoever watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartNote {
    /// What the owner's side says.
    Mirror(Note),
    /// This node tries to become owner.
    Claiming {
        /// Epoch of the record that it would replace.
        epoch: Epoch,
        /// The owner that it would follow.
        after: Option<NodeId>,
    },
    /// An image of this node obeys a new stream (M3).
    Adopted {
        /// Which image.
        image: ImageId,
        /// The epoch.
        epoch: Epoch,
    },
    /// An image of this node refused an older owner (M3).
    RefusedOwner {
        /// Which image.
        image: ImageId,
        /// The epoch of the refused one.
        epoch: Epoch,
    },
    /// The process was paused longer than a lease (M6, M19).
    Paused,
    /// The image could catch up, but images of other segments do: it waits for its turn.
    AwaitsTurn {
        /// Which image.
        image: ImageId,
    },
}
