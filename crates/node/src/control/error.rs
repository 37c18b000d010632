//! Why the node did not do what it was asked, one enum per operation.

use std::path::PathBuf;

use dyad_cluster::StoreError;
use dyad_units::{Bytes, ImageId};

/// A question got no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The node is going away.
    #[error("the node is stopping")]
    Stopping,
    /// Too many questions are waiting.
    #[error("{waiting} questions are waiting already; ask again in a moment")]
    Crowded {
        /// How many.
        waiting: usize,
    },
    /// The reactor did not answer in time.
    #[error("the node did not answer within {seconds} s; its machine is overloaded or stuck, see its log")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// There is no such thing.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// pool, volume, session...
        kind: &'static str,
        /// What was asked for.
        name: String,
    },
}

/// A pool was not made. A file made for it is gone again; a device may be laid out already where the store did not take the
/// record ([`Self::Store`]).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreatePoolError {
    /// The name cannot be used.
    #[error("`{name}` cannot be a pool's name; use 1 to 63 of a-z, 0-9, `-` and `.`")]
    BadName {
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("there is a pool `{name}` already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Another pool of this node is there.
    #[error("{} belongs to the pool `{pool}` already", .path.display())]
    PathTaken {
        /// The path.
        path: PathBuf,
        /// The pool.
        pool: String,
    },
    /// There is something on the disk.
    #[error("{} is not empty: {what}; clear it first if it may be lost", .path.display())]
    NotEmpty {
        /// The path.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A new file needs a size.
    #[error("{} does not exist; say how large it shall be", .path.display())]
    SizeMissing {
        /// The path.
        path: PathBuf,
    },
    /// The size given is not that of the disk.
    #[error("{} has {actual}, not {wanted}; leave the size out to use all of it", .path.display())]
    SizeDiffers {
        /// The path.
        path: PathBuf,
        /// What it has.
        actual: Bytes,
        /// What was asked for.
        wanted: Bytes,
    },
    /// The disk cannot be used.
    #[error("{}: the disk cannot be used", .path.display())]
    Disk {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk could not be formatted.
    #[error("{}: the pool could not be laid out", .path.display())]
    Format {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The config store did not take the record.
    #[error("the pool could not be recorded")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The node cannot take requests now.
    #[error(transparent)]
    Node(#[from] QueryError),
}

/// A pool was not opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenPoolError {
    /// Its disk is missing, locked, foreign or damaged.
    #[error("the pool `{pool}` cannot be opened: {reason}")]
    Disk {
        /// The pool.
        pool: String,
        /// Why, and what to do.
        reason: String,
    },
    /// It is open, and its disk is not believed any more (P11).
    #[error("the disk of the pool `{pool}` failed a write or a sync and is not believed any more; restart the node")]
    Poisoned {
        /// The pool.
        pool: String,
    },
    /// No such pool, or the node cannot take requests now.
    #[error(transparent)]
    Node(#[from] QueryError),
}

/// A pool was not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeletePoolError {
    /// It holds images.
    #[error("the pool `{pool}` holds images of {}; delete those volumes first", .volumes.join(", "))]
    InUse {
        /// The pool.
        pool: String,
        /// Names of the volumes.
        volumes: Vec<String>,
    },
    /// It holds images that no record names, as after a record was lost or an image was forgotten (`--forget`).
    #[error("the pool `{pool}` holds {images} image(s) of no volume that this node knows of")]
    Leftovers {
        /// The pool.
        pool: String,
        /// How many.
        images: usize,
    },
    /// The disk could not be cleared or closed; the pool is forgotten nevertheless.
    #[error("{}: the pool is forgotten, but its disk could not be cleared", .path.display())]
    Disk {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pool's log of recent operations could not be removed; the pool is closed, but not forgotten.
    #[error("the log of recent operations of the pool `{pool}` could not be removed; delete the pool again")]
    Log {
        /// The pool.
        pool: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The config store did not take the change.
    #[error("the deletion could not be recorded")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No such pool, or the node cannot take requests now.
    #[error(transparent)]
    Node(#[from] QueryError),
}

/// An image that no record names was not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteOrphanError {
    /// One does.
    #[error("the image {image} belongs to the volume `{volume}`")]
    Named {
        /// The image.
        image: ImageId,
        /// The volume.
        volume: String,
    },
    /// Whether one does is not known.
    #[error("the records cannot all be read, and one of them may name the image")]
    Store(#[source] StoreError),
    /// The pool did not do it.
    #[error("the image {image} was not deleted: {reason}")]
    Pool {
        /// The image.
        image: ImageId,
        /// Why.
        reason: String,
    },
    /// No such pool or image, or the node cannot take requests now.
    #[error(transparent)]
    Node(#[from] QueryError),
}

/// A volume was not made. What was begun is undone, now or at the next start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateVolumeError {
    /// The name cannot be used.
    #[error("`{name}` cannot be a volume's name; use 1 to 63 of a-z, 0-9, `-` and `.`")]
    BadName {
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("there is a volume `{name}` already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The size cannot be used.
    #[error("a volume cannot have {size}; use {min} to {max}")]
    BadSize {
        /// The size.
        size: Bytes,
        /// Smallest.
        min: Bytes,
        /// Largest.
        max: Bytes,
    },
    /// Something else in the request cannot be used.
    #[error("{problem}")]
    BadRequest {
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A pool cannot take the image.
    #[error("the pool `{pool}` cannot take an image: {reason}")]
    Pool {
        /// The pool.
        pool: String,
        /// Why.
        reason: String,
    },
    /// The config store did not take a record.
    #[error("the volume could not be recorded")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No such pool, or the node cannot take requests now.
    #[error(transparent)]
    Node(#[from] QueryError),
}

/// A volume was not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteVolumeError {
    /// Hosts use it.
    #[error("the volume `{volume}` has {sessions} sessions; log the hosts out first, or force it")]
    InUse {
        /// The volume.
        volume: String,
        /// How many.
        sessions: u32,
    },
    /// Hosts may use it through a node that cannot be asked.
    #[error("whether hosts use the volume `{volume}` through node `{node}` is not known: it does not answer")]
    Silent {
        /// The volume.
        volume: String,
        /// Name of the node.
        node: String,
    },
    /// A pool could not free an image; the volume stays in the state `deleting` until it can, or is deleted.
    #[error("the pool `{pool}` could not free its image yet: {reason}; it is done when the pool can be used again")]
    Pool {
        /// The pool.
        pool: String,
        /// Why.
        reason: String,
    },
    /// Another node has images of it; the volume stays in the state `deleting` until they are gone.
    #[error("node `{node}` has not freed its image yet: it does not answer; it is done when that node is back")]
    Waits {
        /// Name of the node.
        node: String,
    },
    /// The config store did not take a record.
    #[error("the deletion could not be recorded")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No such volume, or the node cannot take requests now.
    #[error(transparent)]
    Node(#[from] QueryError),
}

/// A session was not closed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseSessionError {
    /// No such session or node, or the node cannot take requests now.
    #[error(transparent)]
    Node(#[from] QueryError),
    /// The node that has it cannot be asked.
    #[error("node {node} did not close the session: {why}")]
    NotDone {
        /// As it was named.
        node: String,
        /// Half a sentence.
        why: String,
    },
}

/// The node did not end in good order. What was acknowledged is safe; the next start recovers.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// Something did not finish in time and was cut off.
    #[error("after {seconds} s {left} operations were not finished and were cut off; the next start recovers")]
    CutOff {
        /// How long it was waited for.
        seconds: u64,
        /// How many operations.
        left: usize,
    },
    /// A thread of the node had ended by a fault.
    #[error("the {thread} thread had ended by a fault; the next start recovers")]
    Fault {
        /// Which.
        thread: &'static str,
    },
}
