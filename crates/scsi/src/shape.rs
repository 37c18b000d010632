//! Size and blocks of a logical unit, and the limits it announces.

use dyad_contract::volume::ATOMIC_BLOCKS_MAX;
use dyad_units::{BLOCK_BYTES, Bytes, SECTOR_BYTES, Span};

use crate::task::Range;

/// How a volume shows its blocks to hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BlockSize {
    /// 512-byte logical blocks, eight to a physical block of 4096: "512e".
    Emulated512,
    /// 4096-byte logical blocks: "4Kn".
    Native4096,
}

impl BlockSize {
    /// The one with logical blocks of so many bytes: 512 or 4096.
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            SECTOR_BYTES => Some(Self::Emulated512),
            BLOCK_BYTES => Some(Self::Native4096),
            _ => None,
        }
    }

    /// Bytes of a logical block.
    pub const fn bytes(self) -> u32 {
        1 << self.shift()
    }

    pub(crate) const fn shift(self) -> u32 {
        match self {
            Self::Emulated512 => SECTOR_BYTES.ilog2(),
            Self::Native4096 => BLOCK_BYTES.ilog2(),
        }
    }

    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT (SBC-3 §5.16.2).
    pub(crate) const fn physical_exponent(self) -> u32 {
        BLOCK_BYTES.ilog2() - self.shift()
    }
}

/// The size is not one that a volume can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a volume of {size} is not possible: give a multiple of 4 KiB, at least 4 KiB and at most {}",
    Bytes::new(Span::END_MAX)
)]
pub struct SizeError {
    /// What was asked for.
    pub size: Bytes,
}

/// Logical block size and count of logical blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    block: BlockSize,
    blocks: u64,
}

impl Shape {
    /// A volume of `size` bytes.
    ///
    /// # Errors
    /// [`SizeError`] unless it is whole 4 KiB blocks, not empty, and within what a segment can address.
    pub const fn new(block: BlockSize, size: Bytes) -> Result<Self, SizeError> {
        let bytes = size.value();
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES as u64) || bytes > Span::END_MAX {
            return Err(SizeError { size });
        }
        Ok(Self { block, blocks: bytes >> block.shift() })
    }

    /// The logical block size.
    pub const fn block(self) -> BlockSize {
        self.block
    }

    /// Count of logical blocks.
    pub const fn blocks(self) -> u64 {
        self.blocks
    }

    /// The bytes of a range that was checked against the capacity; it must not be empty.
    pub(crate) fn span(self, range: Range) -> Span {
        let shift = self.block.shift();
        Span::new(range.lba << shift, range.blocks << shift).expect("a checked range is a span")
    }

    /// The size in bytes.
    pub const fn size(self) -> Bytes {
        Bytes::new(self.blocks << self.block.shift())
    }
}

/// What one command may ask for at most, in logical blocks: the Block Limits page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Limits {
    /// MAXIMUM TRANSFER LENGTH, of PRE-FETCH too.
    pub(crate) transfer: u32,
    /// OPTIMAL TRANSFER LENGTH.
    pub(crate) transfer_optimal: u32,
    /// MAXIMUM UNMAP LBA COUNT, of all descriptors together.
    pub(crate) unmap: u32,
    /// Blocks that share one physical block: OPTIMAL TRANSFER LENGTH GRANULARITY, OPTIMAL UNMAP GRANULARITY.
    pub(crate) granularity: u32,
    /// MAXIMUM ATOMIC TRANSFER LENGTH.
    pub(crate) atomic: u32,
}

/// The most bytes that one command reads or writes; longer ones are refused. Its data are held in memory while it runs; this
/// times the queue depth bounds them.
pub const TRANSFER_BYTES_MAX: u32 = 8 << 20;
/// Hosts split their requests at this length. Longer ones gain nothing: it is four extents.
const TRANSFER_BYTES_OPTIMAL: u32 = 1 << 20;
/// Some 2,048 extents: milliseconds of work on the map, well below the time that a lock may be waited for.
const UNMAP_BYTES_MAX: u32 = 512 << 20;
/// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT: a parameter list of one page and a bit.
pub(crate) const UNMAP_DESCRIPTORS_MAX: u32 = 256;
/// MAXIMUM COMPARE AND WRITE LENGTH: all that its one-byte count can say. 1 MiB of 4 KiB blocks at most.
pub(crate) const COMPARE_AND_WRITE_BLOCKS_MAX: u8 = 255;
/// MAXIMUM WRITE SAME LENGTH: what the ten-byte form can say, so that both forms reach equally far. 256 MiB
/// of 4 KiB blocks at most.
pub(crate) const WRITE_SAME_BLOCKS_MAX: u64 = 0xffff;

const _: () =
    assert!(ATOMIC_BLOCKS_MAX * BLOCK_BYTES as u64 <= TRANSFER_BYTES_MAX as u64, "at most MAXIMUM TRANSFER LENGTH");

/// What an atomic write may have in logical blocks. ATOMIC ALIGNMENT is zero: where a logical block is a part of a physical
/// one, a write that begins within one touches one more than it fills.
const fn atomic(block: BlockSize) -> u32 {
    let blocks = ATOMIC_BLOCKS_MAX as u32;
    match block {
        BlockSize::Emulated512 => (blocks - 1) << block.physical_exponent(),
        BlockSize::Native4096 => blocks,
    }
}

impl Limits {
    pub(crate) const fn of(block: BlockSize) -> Self {
        Self {
            transfer: TRANSFER_BYTES_MAX / block.bytes(),
            transfer_optimal: TRANSFER_BYTES_OPTIMAL / block.bytes(),
            unmap: UNMAP_BYTES_MAX / block.bytes(),
            granularity: 1 << block.physical_exponent(),
            atomic: atomic(block),
        }
    }
}
