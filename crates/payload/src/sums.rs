//! The checksums of one piece: up to 64, the few of a small write kept in place.

use crate::{BlockSum, Buf, Exhausted, Payload, Slab};

/// Sums kept without a buffer of their own; a 16 KiB write still fits.
const INLINE: usize = 4;
const SUM_BYTES: usize = 8;

/// The [`BlockSum`] of each block of a payload, in order. Clones share memory and allocate nothing.
#[derive(Clone, Debug)]
pub struct Sums(Kept);

#[derive(Clone, Debug)]
enum Kept {
    Inline([BlockSum; INLINE], u8),
    Spilled(Buf),
}

impl Sums {
    /// Computes the sums of `data`, which must be whole blocks (P7).
    ///
    /// # Errors
    /// [`Exhausted`] if there are more than four and the slab has no buffer for them.
    ///
    /// # Panics
    /// If the length of `data` is not a multiple of the block.
    pub fn of(data: &Payload, slab: &Slab) -> Result<Self, Exhausted> {
        let blocks = data.len() / crate::sum::BLOCK;
        if blocks <= INLINE {
            let mut sums = [BlockSum::default(); INLINE];
            for (kept, sum) in sums.iter_mut().zip(data.block_sums()) {
                *kept = sum;
            }
            return Ok(Self(Kept::Inline(sums, blocks as u8)));
        }
        let mut buf = slab.take(blocks * SUM_BYTES)?;
        for (bytes, sum) in buf.chunks_exact_mut(SUM_BYTES).zip(data.block_sums()) {
            bytes.copy_from_slice(&sum.0.to_le_bytes());
        }
        Ok(Self(Kept::Spilled(buf.freeze())))
    }

    /// Sums that none of the blocks of `data` matches: whoever keeps them knows the blocks as bad ([`BlockSum::of_bad`]).
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn unmatched(data: &Payload, slab: &Slab) -> Result<Self, Exhausted> {
        let sums = Self::of(data, slab)?;
        if let Kept::Inline(mut inline, len) = sums.0 {
            inline.iter_mut().for_each(|sum| *sum = sum.of_bad());
            return Ok(Self(Kept::Inline(inline, len)));
        }
        let mut buf = slab.take(sums.len() * SUM_BYTES)?;
        for (bytes, sum) in buf.chunks_exact_mut(SUM_BYTES).zip(sums.iter()) {
            bytes.copy_from_slice(&sum.of_bad().0.to_le_bytes());
        }
        Ok(Self(Kept::Spilled(buf.freeze())))
    }

    /// Sums that came with their data, eight bytes each, little endian (P7). Whether they match is for the caller to say.
    ///
    /// # Errors
    /// As [`Self::of`].
    ///
    /// # Panics
    /// If the bytes are not whole sums: a fault of the caller.
    pub fn from_le_bytes(bytes: &[u8], slab: &Slab) -> Result<Self, Exhausted> {
        let (all, []) = bytes.as_chunks() else { panic!("a broken sum") };
        if all.len() <= INLINE {
            let mut sums = [BlockSum::default(); INLINE];
            for (kept, sum) in sums.iter_mut().zip(all) {
                *kept = BlockSum(u64::from_le_bytes(*sum));
            }
            return Ok(Self(Kept::Inline(sums, all.len() as u8)));
        }
        Ok(Self(Kept::Spilled(slab.copy_of(bytes)?)))
    }

    /// How many.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Inline(_, len) => usize::from(*len),
            Kept::Spilled(buf) => buf.len() / SUM_BYTES,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = BlockSum> + '_ {
        (0..self.len()).map(|at| self.at(at))
    }

    /// The sum of block `at` of the payload.
    ///
    /// # Panics
    /// If there is no such block: a fault of the caller.
    pub fn at(&self, at: usize) -> BlockSum {
        match &self.0 {
            Kept::Inline(sums, len) => sums[..usize::from(*len)][at],
            Kept::Spilled(buf) => {
                let bytes = buf[at * SUM_BYTES..].first_chunk().expect("within the sums");
                BlockSum(u64::from_le_bytes(*bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_sums_read_back_alike() {
        let slab = Slab::new(1 << 22);
        for blocks in [0, 1, 4, 5, 64] {
            let bytes: Vec<u8> = (0..blocks * 4096).map(|i| (i / 4096 + i) as u8).collect();
            let data = Payload::from(slab.copy_of(&bytes).unwrap());
            let sums = Sums::of(&data, &slab).unwrap();
            assert_eq!(sums.iter().collect::<Vec<_>>(), data.block_sums().collect::<Vec<_>>());
            let carried: Vec<u8> = sums.iter().flat_map(|sum| sum.0.to_le_bytes()).collect();
            let carried = Sums::from_le_bytes(&carried, &slab).unwrap();
            assert!(carried.iter().eq(sums.iter()));
        }
    }
}
