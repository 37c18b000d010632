//! Why a disk cannot be formatted, opened or changed.

use dyad_units::{Bytes, DiskId, ImageId, PoolId};

use crate::disk::DiskError;

/// A disk was not formatted; nothing on it changed unless a write failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Smaller than the smallest pool.
    #[error("the disk has {size}, a pool needs at least {needed}; give a larger disk or file")]
    TooSmall {
        /// What it has.
        size: Bytes,
        /// What it needs.
        needed: Bytes,
    },
    /// It holds a pool.
    #[error("the disk holds disk {disk} of pool {pool} already; open that pool, or say that it may be overwritten")]
    InUse {
        /// Whose.
        pool: PoolId,
        /// Which.
        disk: DiskId,
    },
    /// It seems to hold a pool that this Dyad cannot open.
    #[error("the disk may hold a pool; say that it may be overwritten if that is not needed")]
    Doubtful(#[source] OpenError),
    /// It could not be read or written.
    #[error("the disk could not be formatted")]
    Disk(#[source] DiskError),
}

/// A pool was not opened; nothing on the disk changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Neither superblock carries the mark of a pool.
    #[error("the disk holds no Dyad pool; give the right disk, or create a pool on it")]
    Foreign,
    /// Both superblocks are damaged.
    #[error("both superblocks of the disk are damaged; restore the disk, or replace it and let its images resync")]
    SuperblocksDamaged,
    /// Made by a newer Dyad.
    #[error("the disk has format version {found}, this Dyad knows up to {known}; start a newer Dyad")]
    NewerVersion {
        /// What the disk says.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// Made by a newer Dyad, with features that this one does not know.
    #[error("the disk uses features ({flags:#x}) that this Dyad does not know; start a newer Dyad")]
    UnknownFeatures {
        /// What the disk says.
        flags: u32,
    },
    /// It belongs to another pool.
    #[error("the disk belongs to pool {found}, not to pool {wanted}; give the right disk")]
    OtherPool {
        /// What the disk says.
        found: PoolId,
        /// What was asked for.
        wanted: PoolId,
    },
    /// It is smaller than when it was formatted.
    #[error("the disk has {size}, but its pool was made with {needed}; it was cut off: restore it")]
    Truncated {
        /// What it has.
        size: Bytes,
        /// What it had.
        needed: Bytes,
    },
    /// The commit journal is damaged in the middle: commits that were answered cannot be read (P2).
    #[error("the commit journal is damaged at byte {offset}; replace the disk and let its images resync")]
    JournalDamaged {
        /// Where.
        offset: u64,
    },
    /// A directory or image page is damaged in both homes.
    #[error("metadata page {page} is damaged in both places; replace the disk and let its images resync")]
    PageDamaged {
        /// Its number.
        page: u32,
    },
    /// Metadata contradicts itself: two extents claim a slot, a slot is beyond the disk, …
    #[error("the pool's metadata contradicts itself ({what}); replace the disk and let its images resync")]
    Inconsistent {
        /// What was found.
        what: &'static str,
    },
    /// It could not be read or written.
    #[error("the disk could not be read or written while opening the pool")]
    Disk(#[source] DiskError),
}

/// An administrator's change was refused; nothing changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// There is one with this id.
    #[error("the pool has an image {0} already")]
    Exists(ImageId),
    /// There is none.
    #[error("the pool has no image {0}")]
    Unknown(ImageId),
    /// Requests to it are in flight.
    #[error("image {0} is in use; stop its volume first")]
    Busy(ImageId),
    /// No metadata page or journal space for another image.
    #[error("the pool has no room for the metadata of another image; delete something or add space")]
    Full,
    /// Larger than an image can be.
    #[error("an image cannot be larger than {max}")]
    TooLarge {
        /// The bound.
        max: Bytes,
    },
    /// The disk failed (P11).
    #[error("the disk failed and is out of use until the node is restarted")]
    Poisoned,
}
