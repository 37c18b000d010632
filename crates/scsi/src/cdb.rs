//! Fields of a CDB that many commands share.

use crate::sense::{Asc, Condition, Field, SenseKey};
use crate::table::Cdb;
use crate::task::Range;

/// LOGICAL BLOCK ADDRESS and the count behind it, not checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    /// First byte of the count, for the field pointer.
    pub(crate) count_at: u16,
}

impl Asked {
    /// From the CDB's form, which is in its operation code's group (SPC-4 §4.2.5.2).
    #[inline]
    pub(crate) fn from_cdb(cdb: &Cdb) -> Self {
        match cdb[0] >> 5 {
            0 => Self::six(cdb),
            4 => Self { lba: be64(cdb, 2), blocks: be32(cdb, 10), count_at: 10 },
            5 => Self { lba: be32(cdb, 2), blocks: be32(cdb, 6), count_at: 6 },
            _ => Self { lba: be32(cdb, 2), blocks: be16(cdb, 7), count_at: 7 },
        }
    }

    fn six(cdb: &Cdb) -> Self {
        let lba = be32(cdb, 0) & 0x001f_ffff;
        // A TRANSFER LENGTH of zero means 256 blocks (SBC-3 §5.10).
        let blocks = if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) };
        Self { lba, blocks, count_at: 4 }
    }

    /// Checks the range against the capacity and the count against `blocks_max`.
    #[inline]
    pub(crate) fn within(self, capacity: u64, blocks_max: u64) -> Result<Range, Condition> {
        let end = self.lba.checked_add(self.blocks);
        if end.is_none_or(|end| end > capacity) {
            return Err(out_of_range());
        }
        if self.blocks > blocks_max {
            return Err(Condition::invalid_cdb(Field::cdb(self.count_at)));
        }
        Ok(Range { lba: self.lba, blocks: self.blocks })
    }

    /// As [`Self::within`] without a limit, where a count of zero means "up to the last block".
    pub(crate) fn or_rest(self, capacity: u64) -> Result<Range, Condition> {
        let range = self.within(capacity, u64::MAX)?;
        let blocks = if range.blocks == 0 { capacity - range.lba } else { range.blocks };
        Ok(Range { blocks, ..range })
    }
}

/// LOGICAL BLOCK ADDRESS OUT OF RANGE.
#[cold]
pub(crate) const fn out_of_range() -> Condition {
    Condition::new(SenseKey::IllegalRequest, Asc::LBA_OUT_OF_RANGE)
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u64 {
    u64::from(bytes[at]) << 8 | u64::from(bytes[at + 1])
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u64 {
    be16(bytes, at) << 16 | be16(bytes, at + 2)
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    be32(bytes, at) << 32 | be32(bytes, at + 4)
}

/// ALLOCATION LENGTH and PARAMETER LIST LENGTH are at most 32 bits.
pub(crate) fn length(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
