//! What a volume is asked to do for a host, and how it answers.

use std::fmt;

use dyad_payload::Payload;
use dyad_units::{BLOCKS_PER_EXTENT, Epoch, INTENT_EXTENTS, Span};
use smallvec::SmallVec;

/// One command of a host, reduced to what it does to the bytes of the volume. All spans were checked
/// against the volume's size by whoever made the request, and are checked again by the mirror.
#[derive(Clone, Debug)]
pub enum VolumeOp {
    /// Return the bytes of `span`.
    Read {
        /// What to read.
        span: Span,
    },
    /// Replace the bytes of `span`.
    Write {
        /// Where to write.
        span: Span,
        /// Exactly as many bytes.
        data: Payload,
        /// FUA, or the volume's cache is off: answer only when durable on every in-sync image (A2).
        durable: bool,
    },
    /// Replace the bytes of `span` by repetitions of `pattern` (WRITE SAME without unmap).
    Fill {
        /// Where to write.
        span: Span,
        /// One logical block, 512 or 4096 bytes, that divides the span.
        pattern: Payload,
        /// As for [`VolumeOp::Write`].
        durable: bool,
    },
    /// Let the bytes of the spans read as zeros and free what lies wholly within (P9). Not an empty list.
    Unmap {
        /// Where; they may overlap.
        spans: SmallVec<[Span; 1]>,
        /// As for [`VolumeOp::Write`].
        durable: bool,
    },
    /// Replace the bytes of `span` by `data` if they equal `expected`, as one step against all other
    /// commands (COMPARE AND WRITE).
    CompareAndWrite {
        /// Where.
        span: Span,
        /// Exactly as many bytes.
        expected: Payload,
        /// Exactly as many bytes.
        data: Payload,
        /// As for [`VolumeOp::Write`].
        durable: bool,
    },
    /// Replace the bytes of `span`, durably: whatever fails meanwhile, all of them are new afterwards or none (M21).
    WriteAtomic {
        /// Where to write; it touches at most [`ATOMIC_BLOCKS_MAX`] blocks.
        span: Span,
        /// Exactly as many bytes.
        data: Payload,
    },
    /// Check that the bytes of `span` equal `expected` (VERIFY with BYTCHK 1).
    Compare {
        /// Where.
        span: Span,
        /// Exactly as many bytes.
        expected: Payload,
    },
    /// Check that `span` can be read (VERIFY with BYTCHK 0), on every in-sync image.
    Verify {
        /// Where.
        span: Span,
    },
    /// Make everything answered before durable on every in-sync image (A2).
    Flush,
    /// Return the SCSI state (M20): what the last [`VolumeOp::WriteState`] wrote, nothing if there was none.
    ReadState,
    /// Replace the SCSI state, as a whole, durably on every in-sync image (M20): a crash leaves the old or the new.
    WriteState {
        /// At most [`STATE_BYTES_MAX`] bytes; it may be empty.
        data: Payload,
    },
}

/// Most blocks that an atomic write touches: what is kept of it until all images have it (M21).
pub const ATOMIC_BLOCKS_MAX: u64 = INTENT_EXTENTS as u64 * BLOCKS_PER_EXTENT as u64;

/// Bound of the SCSI state: registrations of a few hundred nexuses.
pub const STATE_BYTES_MAX: usize = 60 * 1024;

/// Which SCSI state (M20): the owner's epoch, and how often the state was changed in it. What two nodes know is one state
/// only if the editions are equal; a new epoch begins a new one, whether anything was changed or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Edition {
    /// Of the owner's record.
    pub epoch: Epoch,
    /// Changes since the epoch began.
    pub changes: u64,
}

impl Edition {
    /// After one more change.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { changes: self.changes + 1, ..self }
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.changes)
    }
}

/// How a volume answers.
pub type VolumeResult = Result<VolumeDone, VolumeError>;

/// The operation was carried out.
#[derive(Clone, Debug)]
pub enum VolumeDone {
    /// Nothing to hand back.
    Done,
    /// The bytes of a [`VolumeOp::Read`] or a [`VolumeOp::ReadState`].
    Data(Payload),
}

/// The operation was refused or failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VolumeError {
    /// A compare found another byte; nothing was written. Offset in bytes from the start of the span.
    #[error("the data differs from byte {offset} of the range on")]
    Miscompare {
        /// First differing byte, from the start of the span.
        offset: u64,
    },
    /// No in-sync image has a good copy of the block that holds this byte of the volume (P14).
    #[error("no good copy of the block at byte {offset} is left")]
    Medium {
        /// A byte of the volume within the bad block.
        offset: u64,
    },
    /// A pool that the write needs is full; nothing was written (P15).
    #[error("a pool of the volume is full")]
    NoSpace,
    /// Not now: the host should send the command again (M2, M18, M19, A4). As a rule it had no effect. Where its owner was
    /// lost it may have had it (M9): whoever asks again asks for the same, and a compare may differ from what it wrote itself.
    #[error("the volume cannot serve the command now; send it again")]
    Busy,
    /// The command was aborted before it took effect (M19).
    #[error("the command was aborted")]
    Aborted,
    /// The last image could not take the write, or could not make it durable.
    #[error("the last image of the volume could not take the write")]
    WriteFault,
    /// The range does not lie within the volume (it may have shrunk meanwhile).
    #[error("the range is beyond the end of the volume")]
    OutOfRange,
}
