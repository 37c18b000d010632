//! CRC-64/NVME of a block: computed once where the data enters the cluster, carried to every image (P7).

use crc_fast::{CrcAlgorithm, Digest, checksum};

use crate::slab::Buf;

pub(crate) const BLOCK: usize = 4096;

/// CRC-64/NVME of the 4096 bytes of one block (NVM command set specification 1.0, 64b CRC).
///
/// This is the sum of the *data*. A pool stores it mixed with the block's place (P7).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BlockSum(pub u64);

impl BlockSum {
    /// The sum of one block.
    ///
    /// # Panics
    /// If `block` is not 4096 bytes long.
    pub fn of(block: &[u8]) -> Self {
        assert_eq!(block.len(), BLOCK, "a block has 4096 bytes");
        Self(checksum(CrcAlgorithm::Crc64Nvme, block))
    }

    /// What is kept in place of this sum for a block that is known to be bad (M15): reading it fails, and a crash does not
    /// make anybody believe it.
    #[must_use]
    pub fn of_bad(self) -> Self {
        Self(!self.0)
    }

    /// The same where zeros lie, as they do where no image had the block, or whatever else: it tells that the block was bad also
    /// when a part of it was overwritten since.
    pub fn bad() -> Self {
        Self::of(&[0; BLOCK]).of_bad()
    }
}

/// The same over any bytes, to tell them apart.
pub(crate) fn sum_of_any(bytes: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

/// Sums of consecutive blocks over slices that may break anywhere.
pub(crate) struct Sums<'a> {
    slices: &'a [Buf],
    at: usize,
    left: usize,
}

impl<'a> Sums<'a> {
    pub(crate) fn new(slices: &'a [Buf], blocks: usize) -> Self {
        Self { slices, at: 0, left: blocks }
    }
}

impl Iterator for Sums<'_> {
    type Item = BlockSum;

    fn next(&mut self) -> Option<BlockSum> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let (first, rest) = self.slices.split_first()?;
        if let Some(block) = first.get(self.at..self.at + BLOCK) {
            self.at += BLOCK;
            if self.at == first.len() {
                (self.slices, self.at) = (rest, 0);
            }
            return Some(BlockSum::of(block));
        }
        let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
        let mut want = BLOCK;
        while want > 0 {
            let (first, rest) = self.slices.split_first()?;
            let take = want.min(first.len() - self.at);
            digest.update(&first[self.at..self.at + take]);
            want -= take;
            self.at += take;
            if self.at == first.len() {
                (self.slices, self.at) = (rest, 0);
            }
        }
        Some(BlockSum(digest.finalize()))
    }
}
