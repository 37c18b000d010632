//! The small disk that a pool is written for.

use std::fmt;

use dyad_payload::{Buf, BufMut, Payload};
use dyad_units::Bytes;

/// Names a [`DiskOp`] until [`crate::Pool::complete`]. Chosen by the pool.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DiskToken(pub u64);

/// What the pool wants the disk to do. Ops may be carried out and completed in any order: the pool never has
/// two in flight that overlap, unless both read.
#[derive(Debug)]
pub enum DiskOp {
    /// Fill `buf` from `offset`.
    Read {
        /// Completes with the buffer in [`DiskDone::Read`].
        token: DiskToken,
        /// Byte on the disk.
        offset: u64,
        /// Where to; its length says how much.
        buf: BufMut,
    },
    /// Write through the page cache: survives a crash of the process once complete, not of the machine.
    Write {
        /// Completes with [`DiskDone::Done`].
        token: DiskToken,
        /// Byte on the disk, a multiple of 4096.
        offset: u64,
        /// What; a multiple of 4096 bytes.
        data: Payload,
    },
    /// Write past the page cache; durable when complete (O_DIRECT and O_DSYNC). For the journal.
    WriteDurable {
        /// Completes with [`DiskDone::Done`].
        token: DiskToken,
        /// Byte on the disk, a multiple of 4096.
        offset: u64,
        /// What; page-aligned, a multiple of 4096 bytes.
        data: Buf,
    },
    /// Make durable every [`DiskOp::Write`] that was complete before this op was handed out.
    Sync {
        /// Completes with [`DiskDone::Done`].
        token: DiskToken,
    },
}

impl DiskOp {
    /// The token that the completion must carry.
    pub fn token(&self) -> DiskToken {
        match self {
            Self::Read { token, .. }
            | Self::Write { token, .. }
            | Self::WriteDurable { token, .. }
            | Self::Sync { token } => *token,
        }
    }
}

/// A [`DiskOp`] succeeded.
#[derive(Debug)]
pub enum DiskDone {
    /// The buffer of a read, filled.
    Read(BufMut),
    /// Anything else.
    Done,
}

/// The disk could not do it; the system's error number tells the administrator why.
#[derive(Clone, Copy, Eq, PartialEq, thiserror::Error)]
#[error("system error {errno}")]
pub struct DiskError {
    /// As in errno.h; 5 (EIO) where there is none.
    pub errno: i32,
}

impl DiskError {
    /// EIO.
    pub const IO: Self = Self { errno: 5 };
}

impl fmt::Debug for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskError({})", self.errno)
    }
}

/// The disk while nothing else uses it: formatting, opening, recovery, inspection.
pub trait BlockingDisk {
    /// Size of the disk or file.
    fn size(&self) -> Bytes;

    /// What the disk writes untorn: 512 or 4096 bytes (A5).
    fn physical_block(&self) -> u32;

    /// Fills `to` from `offset`, through the page cache.
    ///
    /// # Errors
    /// [`DiskError`], also where the disk ends before.
    fn read_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError>;

    /// As [`Self::read_at`], but what the disk itself holds (P11). Offset and length are multiples of 4096.
    ///
    /// # Errors
    /// [`DiskError`].
    fn read_direct_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError>;

    /// Writes through the page cache.
    ///
    /// # Errors
    /// [`DiskError`].
    fn write_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError>;

    /// Writes durably. Offset and length are multiples of 4096; the memory need not be aligned.
    ///
    /// # Errors
    /// [`DiskError`].
    fn write_durable_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError>;

    /// Makes everything written so far durable, and reports any earlier write that failed (P11).
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync(&mut self) -> Result<(), DiskError>;
}
