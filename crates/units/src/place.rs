//! Places on a segment: bytes, blocks, extents, regions, and the pieces that a host's range falls into.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Unit of a host's address on a 512e volume, and of what a disk writes untorn at least (A5).
pub const SECTOR_BYTES: u32 = 512;
/// Unit of checksum.
pub const BLOCK_BYTES: u32 = 4096;
/// Unit of allocation, snapshot sharing, stamp and resync.
pub const EXTENT_BYTES: u32 = 256 * 1024;
/// Blocks in an extent: one bit each in a 64-bit written bitmap (P1).
pub const BLOCKS_PER_EXTENT: u32 = EXTENT_BYTES / BLOCK_BYTES;
/// Unit of the region log.
pub const REGION_BYTES: u32 = 4 * 1024 * 1024;
/// Extents in a region.
pub const EXTENTS_PER_REGION: u32 = REGION_BYTES / EXTENT_BYTES;

const _: () = assert!(BLOCKS_PER_EXTENT == u64::BITS);

/// A count of bytes. Printed in binary units, parsed with them (`1GiB`, `512 MiB`, `4096`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many KiB.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// This many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// This many GiB.
    pub const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }

    /// The bare number.
    pub const fn value(self) -> u64 {
        self.0
    }
}

const BINARY_UNITS: [(&str, u32); 5] = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, shift) in BINARY_UNITS {
            let unit = 1_u64 << shift;
            if self.0 >= unit {
                return if self.0.is_multiple_of(unit) {
                    f.pad(&format!("{} {name}", self.0 / unit))
                } else {
                    f.pad(&format!("{:.1} {name}", self.0 as f64 / unit as f64))
                };
            }
        }
        f.pad(&format!("{} B", self.0))
    }
}

/// The text was not a size.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a size (write bytes, or a whole number with KiB, MiB, GiB, TiB or PiB, such as 10GiB)")]
pub struct ParseBytesError(String);

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, ParseBytesError> {
        let refuse = || ParseBytesError(text.chars().take(64).collect());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.trim();
        let shift = if unit.is_empty() || unit == "B" {
            0
        } else {
            let matches_unit = |name: &str| unit == name || unit.eq_ignore_ascii_case(&name[..1]);
            BINARY_UNITS.iter().find(|(name, _)| matches_unit(name)).ok_or_else(refuse)?.1
        };
        number.checked_shl(shift).filter(|bytes| bytes >> shift == number).map(Self).ok_or_else(refuse)
    }
}

/// Index of a 4 KiB block within a segment.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Block(pub u64);

/// Index of an extent within a layer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Extent(pub u32);

/// The extent that is not the host's: it holds the segment's SCSI state (M20). It lies in the same map, is
/// written, stamped, checksummed and resynced like any other, and lies beyond every possible size.
pub const STATE_EXTENT: Extent = Extent(u32::MAX);

/// How many extents before [`STATE_EXTENT`] hold what an atomic write is about to write (M21): 1 MiB.
pub const INTENT_EXTENTS: u32 = 4;

/// The first extent that is not the host's: from here to [`STATE_EXTENT`] they all are in one region.
pub const FIRST_HIDDEN: Extent = Extent(STATE_EXTENT.0 - INTENT_EXTENTS);

const _: () = assert!(FIRST_HIDDEN.0 / EXTENTS_PER_REGION == STATE_EXTENT.0 / EXTENTS_PER_REGION, "under one mark");

impl Extent {
    /// Whether no host reads or writes it: SCSI state (M20), or what an atomic write is about to write (M21).
    pub const fn is_hidden(self) -> bool {
        self.0 >= FIRST_HIDDEN.0
    }

    /// The region that the extent's mark is in.
    pub const fn region(self) -> Region {
        Region(self.0 / EXTENTS_PER_REGION)
    }
}

/// Index of a 4 MiB region within an image: unit of the region log.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Region(pub u32);

/// A range of bytes of a segment, as a host asks for it: a multiple of 512 bytes, not empty.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Span {
    offset: u64,
    len: u64,
}

/// The range was empty, not made of sectors, or ended beyond what can be addressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{len} bytes at {offset} are not a range of a segment")]
pub struct OutOfRange {
    /// Where the range would start.
    pub offset: u64,
    /// How long it would be.
    pub len: u64,
}

impl Span {
    /// Largest offset that a span may reach: the extents below [`FIRST_HIDDEN`].
    pub const END_MAX: u64 = FIRST_HIDDEN.0 as u64 * EXTENT_BYTES as u64;

    /// A range of `len` bytes at `offset`; both multiples of 512, `len` not zero.
    pub const fn new(offset: u64, len: u64) -> Result<Self, OutOfRange> {
        let odd = !offset.is_multiple_of(SECTOR_BYTES as u64) || !len.is_multiple_of(SECTOR_BYTES as u64) || len == 0;
        match offset.checked_add(len) {
            Some(end) if !odd && end <= Self::END_MAX => Ok(Self { offset, len }),
            _ => Err(OutOfRange { offset, len }),
        }
    }

    /// First byte.
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// Count of bytes, at least 512.
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Never: a span covers at least one sector.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// First byte after the range.
    pub const fn end(self) -> u64 {
        self.offset + self.len
    }

    /// Whether it begins and ends on block boundaries, so that no block has to be merged (P7).
    pub const fn is_whole_blocks(self) -> bool {
        self.offset.is_multiple_of(BLOCK_BYTES as u64) && self.len.is_multiple_of(BLOCK_BYTES as u64)
    }

    /// First and last block touched.
    pub const fn blocks(self) -> (Block, Block) {
        (Block(self.offset / BLOCK_BYTES as u64), Block((self.end() - 1) / BLOCK_BYTES as u64))
    }

    /// The pieces, one per extent, of all blocks touched.
    pub const fn pieces(self) -> Pieces {
        let (first, last) = self.blocks();
        Pieces { next: first.0, last: last.0 }
    }
}

/// Blocks `first .. first + count` of one extent; at least one block.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Piece {
    /// The extent.
    pub extent: Extent,
    first: u8,
    count: u8,
}

impl Piece {
    /// `None` unless `first + count` is within the extent and `count` is not zero.
    pub const fn new(extent: Extent, first: u8, count: u8) -> Option<Self> {
        if count == 0 || first as u32 + count as u32 > BLOCKS_PER_EXTENT {
            return None;
        }
        Some(Self { extent, first, count })
    }

    /// A whole extent.
    pub const fn whole(extent: Extent) -> Self {
        Self { extent, first: 0, count: BLOCKS_PER_EXTENT as u8 }
    }

    /// Index of the first block within the extent.
    pub const fn first(self) -> u8 {
        self.first
    }

    /// Count of blocks, 1 to 64.
    pub const fn count(self) -> u8 {
        self.count
    }

    /// Count of bytes.
    pub const fn len(self) -> usize {
        self.count as usize * BLOCK_BYTES as usize
    }

    /// Never: a piece covers at least one block.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The bits of its blocks in the extent's written bitmap.
    pub const fn mask(self) -> u64 {
        (u64::MAX >> (BLOCKS_PER_EXTENT - self.count as u32)) << self.first
    }

    /// Its first block within the segment.
    pub const fn block(self) -> Block {
        Block(self.extent.0 as u64 * BLOCKS_PER_EXTENT as u64 + self.first as u64)
    }

    /// Its first byte within the segment.
    pub const fn offset(self) -> u64 {
        self.block().0 * BLOCK_BYTES as u64
    }

    /// Whether it covers its extent entirely.
    pub const fn is_whole_extent(self) -> bool {
        self.count as u32 == BLOCKS_PER_EXTENT
    }
}

/// Iterator over the pieces of a range, in ascending order.
#[derive(Clone, Debug)]
pub struct Pieces {
    next: u64,
    last: u64,
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.next > self.last {
            return None;
        }
        let per_extent = u64::from(BLOCKS_PER_EXTENT);
        let first = self.next % per_extent;
        let count = (per_extent - first).min(self.last - self.next + 1);
        // A span ends below END_MAX, so the extent's index fits.
        let extent = Extent((self.next / per_extent) as u32);
        self.next += count;
        Some(Piece { extent, first: first as u8, count: count as u8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("1GiB", 1 << 30), ("3 MiB", 3 << 20), ("2t", 2 << 40), ("7K", 7 << 10)]
        {
            assert_eq!(text.parse(), Ok(Bytes::new(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5GiB", "1GB", "99999999999 PiB", "1 GiBx"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        assert_eq!(Bytes::gib(1).to_string(), "1 GiB");
        assert_eq!(Bytes::new(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes::new(511).to_string(), "511 B");
    }

    #[test]
    fn a_range_falls_into_one_piece_per_extent() {
        let span = Span::new(u64::from(EXTENT_BYTES) - 512, u64::from(EXTENT_BYTES) + 1024).unwrap();
        let pieces: Vec<_> = span.pieces().map(|p| (p.extent.0, p.first(), p.count())).collect();
        assert_eq!(pieces, [(0, 63, 1), (1, 0, 64), (2, 0, 1)]);
    }

    #[test]
    fn odd_empty_and_endless_ranges_are_refused() {
        for (offset, len) in [(1, 512), (0, 100), (0, 0), (u64::MAX - 511, 512), (Span::END_MAX, 512)] {
            assert!(Span::new(offset, len).is_err(), "{offset} {len}");
        }
        assert!(Span::new(Span::END_MAX - 512, 512).is_ok());
    }

    #[test]
    fn a_piece_knows_its_bits() {
        assert_eq!(Piece::new(Extent(0), 0, 64).unwrap().mask(), u64::MAX);
        assert_eq!(Piece::new(Extent(0), 63, 1).unwrap().mask(), 1 << 63);
        assert_eq!(Piece::new(Extent(0), 60, 5), None);
        assert_eq!(Piece::new(Extent(0), 4, 0), None);
    }
}
