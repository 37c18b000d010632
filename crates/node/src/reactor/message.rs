//! What other threads tell the reactor.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use dyad_cluster::{Outcome, SegmentRecord, VolumeRecord};
use dyad_mirror::PartEvent;
use dyad_pool::{AdminError, ImageMeta, Pool};
use dyad_units::{ImageId, NodeId, Piece, PoolId, SegmentId, VolumeId};

use super::copy::Copied;
use super::exports::ExportFault;
use super::forget::Forgotten;
use super::overlay::Detached;
use super::redirect::Way;
use super::snapshot::Snapshot;
use super::talk::Commanded;
use crate::disk::DiskFile;
use crate::peers::Link;
use crate::talk::AnswerTo;

/// Where an answer goes: a channel with room for one, so that answering never waits.
pub(crate) type Reply<T> = SyncSender<T>;

/// A message to the reactor.
pub(crate) enum Message {
    /// Take over an opened pool.
    AddPool { pool: Box<Pool>, file: Arc<DiskFile>, reply: Reply<std::io::Result<()>> },
    /// Flush a pool, close it cleanly and give up its disk; `false` if it could not be closed cleanly.
    ClosePool { pool: PoolId, reply: Reply<bool> },
    /// Make an image.
    CreateImage { pool: PoolId, meta: Box<ImageMeta>, reply: Reply<Result<(), ImageFault>> },
    /// Delete an image.
    DeleteImage { pool: PoolId, image: ImageId, reply: Reply<Result<(), ImageFault>> },
    /// Which of these images are there.
    HasImage { pool: PoolId, image: ImageId, reply: Reply<Option<bool>> },
    /// Serve a volume. Answered when it is served, or when it is known why it is not.
    AddVolume { volume: Box<VolumeRecord>, segment: Box<SegmentRecord>, reply: Reply<Result<(), String>> },
    /// A volume's record was changed in use.
    VolumeChanged(Box<VolumeRecord>),
    /// Stop serving a volume: close its sessions, drain, flush, close.
    RemoveVolume { volume: VolumeId, reply: Reply<()> },
    /// What the config store answered to a volume's part.
    Answer { volume: VolumeId, part: u64, answer: StoreAnswer },
    /// A connection to another node.
    Peer(Box<Link>),
    /// What the config store holds of a segment; none: it was deleted.
    Watched(SegmentId, Option<Box<SegmentRecord>>),
    /// A node was removed from the cluster.
    Removed(NodeId),
    /// The nodes of the cluster, this one included, in ascending order.
    Nodes(Vec<NodeId>),
    /// How hosts come to each of them.
    Ways(Vec<Way>),
    /// Tell everything.
    Look(Reply<Snapshot>),
    /// Whether an image was being filled when it was given up.
    IsHalfFilled { pool: PoolId, image: ImageId, reply: Reply<bool> },
    /// Read the first blocks of a piece of a detached image, at least one; the reply is dropped if it is not there.
    ReadImage { of: Detached, piece: Piece, reply: Reply<Copied> },
    /// Export a detached image; its target's name. `is_new`: an administrator asks for it.
    ExportImage { volume: VolumeId, image: ImageId, is_new: bool, reply: Reply<Result<String, ExportFault>> },
    /// Export it no more; `false`: it was not.
    UnexportImage { image: ImageId, reply: Reply<bool> },
    /// A command to the part of a volume; the reply is dropped if the volume is not in service here.
    Command { volume: VolumeId, command: dyad_mirror::Command, reply: Reply<Commanded> },
    /// Forget the reservations of a volume that this node owns; `is_forced`: although they can be read.
    ForgetReservations { volume: VolumeId, is_forced: bool, reply: Reply<Forgotten> },
    /// Ask another node; the reply is dropped if it cannot be asked.
    AskNode { node: NodeId, body: Vec<u8>, reply: AnswerTo },
    /// The answer to another node's question.
    TellNode { node: NodeId, id: u64, body: Vec<u8> },
    /// Close a session.
    CloseSession { id: u64, reply: Reply<bool> },
    /// Volumes are there as far as they can be: sessions may come.
    Open,
    /// End: drain, flush, close.
    Stop,
    /// Pretend that this part had a fault.
    #[cfg(test)]
    Break(Part),
}

/// What a test breaks.
#[cfg(test)]
pub(crate) enum Part {
    Session(u64),
    Volume(VolumeId),
    Pool(PoolId),
    /// Its disk hangs, or goes on.
    Stick(PoolId, bool),
    /// An image of the pool is half filled.
    Filling(PoolId, ImageId),
    /// Blocks of an image hold something else, as if a part had asked for it; without bytes they were never written.
    Mend {
        pool: PoolId,
        image: ImageId,
        piece: Piece,
        bytes: Vec<u8>,
        reply: Reply<Copied>,
    },
    /// The reactor itself is held up, as by a system call, until the other end goes.
    Reactor(std::sync::mpsc::Receiver<()>),
}

/// An image was not made or deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ImageFault {
    /// The pool is not open.
    #[error("it is not open")]
    NoPool,
    /// The pool refused.
    #[error(transparent)]
    Refused(AdminError),
}

/// What a volume's part asks of the config store.
pub(crate) struct Question {
    pub(crate) volume: VolumeId,
    /// Comes back with the answer.
    pub(crate) part: u64,
    pub(crate) what: Asked,
}

/// See [`Question`].
pub(crate) enum Asked {
    /// Store this record in the place of the one with epoch `expected`.
    Propose { record: Box<SegmentRecord>, expected: dyad_units::Epoch },
    /// Read the segment's record.
    Read(SegmentId),
}

/// What the config store said.
pub(crate) enum StoreAnswer {
    /// What became of a proposal (M7).
    Outcome(Outcome),
    /// The record as it is now; none: the segment was deleted.
    Seen(Option<Box<SegmentRecord>>),
    /// It could not be read.
    Unseen,
}

impl StoreAnswer {
    /// Whether the store was there.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Self::Unseen | Self::Outcome(Outcome::Unknown))
    }

    /// As the part is told.
    pub(crate) fn event(self) -> PartEvent {
        match self {
            Self::Outcome(outcome) => PartEvent::Outcome(outcome),
            Self::Seen(record) => PartEvent::Seen(record),
            Self::Unseen => PartEvent::Unseen,
        }
    }
}
