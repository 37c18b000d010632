//! Which extents an image that catches up still needs: one bit each, half a MiB for a TiB.

use dyad_units::{EXTENT_BYTES, EXTENTS_PER_REGION, Extent, FIRST_HIDDEN, INTENT_EXTENTS, Region, STATE_EXTENT};

/// How many are not the host's.
const HIDDEN: u32 = INTENT_EXTENTS + 1;

/// A set of extents of one segment. Those that are not the host's count as the last ones.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    words: Vec<u64>,
    /// Extents of the segment, the hidden ones not counted.
    extents: u32,
    count: u64,
}

impl Need {
    /// None of a segment of `size` bytes.
    pub(crate) fn none(size: u64) -> Self {
        let extents = size.div_ceil(u64::from(EXTENT_BYTES)) as u32;
        Self { words: vec![0; (extents as usize + HIDDEN as usize).div_ceil(64)], extents, count: 0 }
    }

    /// The place of an extent in the order of copying; none: it is not of this segment.
    pub(crate) const fn index(&self, extent: Extent) -> Option<u32> {
        if extent.is_hidden() {
            Some(self.extents + (extent.0 - FIRST_HIDDEN.0))
        } else if extent.0 < self.extents {
            Some(extent.0)
        } else {
            None
        }
    }

    /// The place of the first extent of the segment from this one on. Who lists may go on at one that is none of it: the state's
    /// leaf begins before the state (M20).
    pub(crate) const fn place_from(&self, extent: Extent) -> u32 {
        if extent.0 < self.extents { extent.0 } else { self.extents + extent.0.saturating_sub(FIRST_HIDDEN.0) }
    }

    /// The extent at a place.
    pub(crate) const fn extent(&self, index: u32) -> Extent {
        match index.checked_sub(self.extents) {
            // At the end of all it is where a list would go on: there is nothing.
            Some(at) if at >= HIDDEN => STATE_EXTENT,
            Some(at) => Extent(FIRST_HIDDEN.0 + at),
            None => Extent(index),
        }
    }

    /// One place after the last.
    pub(crate) const fn end(&self) -> u32 {
        self.extents + HIDDEN
    }

    /// How many are needed.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.words[index as usize / 64] & 1 << (index % 64) != 0
    }

    pub(crate) fn insert(&mut self, index: u32) {
        let word = &mut self.words[index as usize / 64];
        let bit = 1 << (index % 64);
        self.count += u64::from(*word & bit == 0);
        *word |= bit;
    }

    pub(crate) fn remove(&mut self, index: u32) {
        let word = &mut self.words[index as usize / 64];
        let bit = 1 << (index % 64);
        self.count -= u64::from(*word & bit != 0);
        *word &= !bit;
    }

    /// Inserts an extent if it is of this segment.
    pub(crate) fn add(&mut self, extent: Extent) {
        if let Some(index) = self.index(extent) {
            self.insert(index);
        }
    }

    /// Inserts all extents of a region.
    pub(crate) fn add_region(&mut self, region: Region) {
        if STATE_EXTENT.region() == region {
            (self.extents..self.end()).for_each(|index| self.insert(index));
        }
        let first = u64::from(region.0) * u64::from(EXTENTS_PER_REGION);
        let last = (first + u64::from(EXTENTS_PER_REGION)).min(u64::from(self.extents));
        (first..last).for_each(|index| self.insert(index as u32));
    }

    /// The first one at `from` or after it.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let mut at = from as usize / 64;
        let mut word = self.words.get(at)? & u64::MAX << (from % 64);
        loop {
            if word != 0 {
                return Some(at as u32 * 64 + word.trailing_zeros());
            }
            at += 1;
            word = *self.words.get(at)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{EXTENT_BYTES, Extent, FIRST_HIDDEN, Region, STATE_EXTENT};

    use super::Need;

    #[test]
    fn extents_come_in_order_and_the_hidden_ones_last() {
        let mut need = Need::none(100 * u64::from(EXTENT_BYTES));
        need.add(STATE_EXTENT);
        need.add(Extent(64));
        need.add(Extent(100)); // beyond the end
        need.add_region(Region(6)); // 96 to 111
        need.add_region(STATE_EXTENT.region());
        assert_eq!((need.count(), need.end()), (10, 105));
        let mut from = 0;
        let mut all = Vec::new();
        while let Some(index) = need.next(from) {
            all.push(need.extent(index).0);
            from = index + 1;
        }
        assert_eq!(need.extent(need.end()), STATE_EXTENT);
        let hidden = FIRST_HIDDEN.0..=STATE_EXTENT.0;
        assert_eq!(all, [64, 96, 97, 98, 99].into_iter().chain(hidden).collect::<Vec<_>>());
        need.remove(64);
        need.remove(64);
        assert_eq!((need.count(), need.next(0)), (9, Some(96)));
    }
}
