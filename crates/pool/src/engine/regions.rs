//! The region log of one image in memory (P5).
//!
//! A region remembers the newest stamp that a write to it carried. Closing X clears the marks of regions that were last
//! written before X: what was written in X itself may well be written again soon, and what is newer than X is not closed.

use std::collections::BTreeSet;

use dyad_units::{Bytes, EXTENTS_PER_REGION, Epoch, Extent, Interval, REGION_BYTES, Region, STATE_EXTENT, Stamp};

use crate::format::page::MARKS_PER_PAGE;

/// Marked regions per image beyond which its interval should close early: 64 GiB to compare after a crash (P5).
pub(super) const MARKED_MAX: u64 = 16_384;

/// Regions per chunk of memory: 4 GiB of an image cost 8 KiB once something in them is marked.
const CHUNK: usize = 1024;

const CLEAN: Stamp = Stamp::NEVER;
/// Marked by an earlier life of the pool: below every stamp that a write can carry, above clean.
const EARLIER: Stamp = Stamp::new(Epoch::new(0), Interval::new(1));

struct Chunk {
    written: [Stamp; CHUNK],
    marked: u32,
}

/// The region log of one image.
pub(super) struct Regions {
    chunks: Vec<Option<Box<Chunk>>>,
    /// The region of the state extent, which lies beyond the size (M20).
    state_written: Stamp,
    marked: u64,
    /// Cleared here, but the journal does not say so yet: pages still show them marked.
    clearing: BTreeSet<Region>,
}

impl Regions {
    pub(super) fn new(size: Bytes, marks: &[u64], state_mark: bool) -> Self {
        let count = size.value().div_ceil(u64::from(REGION_BYTES)) as usize;
        let mut chunks = Vec::new();
        chunks.resize_with(count.div_ceil(CHUNK), || None);
        let mut regions = Self { chunks, state_written: CLEAN, marked: 0, clearing: BTreeSet::new() };
        for (word, &bits) in marks.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            for region in (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| word * 64 + bit) {
                if region < count {
                    regions.note_write(Region(region as u32), EARLIER);
                }
            }
        }
        if state_mark {
            regions.note_write(STATE_EXTENT.region(), EARLIER);
        }
        regions
    }

    fn last(&self, region: Region) -> Stamp {
        if region == STATE_EXTENT.region() {
            return self.state_written;
        }
        let at = region.0 as usize;
        self.chunks[at / CHUNK].as_ref().map_or(CLEAN, |chunk| chunk.written[at % CHUNK])
    }

    pub(super) fn is_marked(&self, region: Region) -> bool {
        self.last(region) != CLEAN
    }

    /// Notes a write; whether the region was clean, so that its mark has to be made durable first.
    pub(super) fn note_write(&mut self, region: Region, stamp: Stamp) -> bool {
        let stamp = stamp.max(EARLIER);
        let was_clean = if region == STATE_EXTENT.region() {
            let was_clean = self.state_written == CLEAN;
            self.state_written = self.state_written.max(stamp);
            was_clean
        } else {
            let at = region.0 as usize;
            let chunk =
                self.chunks[at / CHUNK].get_or_insert_with(|| Box::new(Chunk { written: [CLEAN; CHUNK], marked: 0 }));
            let last = &mut chunk.written[at % CHUNK];
            let was_clean = *last == CLEAN;
            *last = stamp.max(*last);
            chunk.marked += u32::from(was_clean);
            was_clean
        };
        self.marked += u64::from(was_clean);
        was_clean
    }

    pub(super) fn marked(&self) -> u64 {
        self.marked
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.marked > MARKED_MAX
    }

    /// Regions that are marked, ascending, with the newest stamp in each.
    fn iter_stamps(&self, chunks: std::ops::Range<usize>) -> impl Iterator<Item = (Region, Stamp)> + '_ {
        let first = chunks.start;
        let chunks = self.chunks.get(chunks).unwrap_or_default().iter().enumerate();
        chunks.filter_map(|(at, chunk)| Some((at, chunk.as_ref()?))).flat_map(move |(at, chunk)| {
            let written = chunk.written.iter().enumerate().filter(|(_, last)| **last != CLEAN);
            written.map(move |(nth, &last)| (Region(((first + at) * CHUNK + nth) as u32), last))
        })
    }

    /// Regions that are marked, ascending.
    pub(super) fn iter_marked(&self) -> impl Iterator<Item = Region> + '_ {
        let state = (self.state_written != CLEAN).then_some(STATE_EXTENT.region());
        self.iter_stamps(0..self.chunks.len()).map(|(region, _)| region).chain(state)
    }

    /// Regions that were last written before `closed`.
    pub(super) fn quiet(&self, closed: Stamp) -> Vec<Region> {
        let is_quiet = |last: Stamp| last != CLEAN && last < closed;
        let state = is_quiet(self.state_written).then_some(STATE_EXTENT.region());
        let host = self.iter_stamps(0..self.chunks.len()).filter(|(_, last)| is_quiet(*last));
        host.map(|(region, _)| region).chain(state).collect()
    }

    /// Marks within part `index` of the region log as far as the journal knows, counted from its start.
    pub(super) fn committed_part(&self, index: u32) -> impl Iterator<Item = usize> + '_ {
        let first = index as usize * MARKS_PER_PAGE;
        let regions = first..first + MARKS_PER_PAGE;
        let chunks = regions.start / CHUNK..regions.end.div_ceil(CHUNK).min(self.chunks.len());
        let chunks = chunks.start.min(chunks.end)..chunks.end;
        let marked = self.iter_stamps(chunks).map(|(region, _)| region);
        let all = marked.chain(self.clearing.iter().copied());
        all.map(|region| region.0 as usize).filter(move |at| regions.contains(at)).map(move |at| at - first)
    }

    /// The state extent's mark as far as the journal knows.
    pub(super) fn committed_state_mark(&self) -> bool {
        let region = STATE_EXTENT.region();
        self.is_marked(region) || self.clearing.contains(&region)
    }

    /// Clears a mark in memory; [`Self::cleared`] follows when the journal has it.
    pub(super) fn clear(&mut self, region: Region) {
        self.clearing.insert(region);
        self.marked -= 1;
        if region == STATE_EXTENT.region() {
            self.state_written = CLEAN;
            return;
        }
        let at = region.0 as usize;
        let place = &mut self.chunks[at / CHUNK];
        if let Some(chunk) = place {
            chunk.written[at % CHUNK] = CLEAN;
            chunk.marked -= 1;
            if chunk.marked == 0 {
                *place = None;
            }
        }
    }

    /// The journal says so too.
    pub(super) fn cleared(&mut self, region: Region) {
        self.clearing.remove(&region);
    }
}

/// The extents that share a region's mark.
pub(super) fn extents_of(region: Region) -> impl Iterator<Item = Extent> {
    let first = region.0 * EXTENTS_PER_REGION;
    (first..=first + (EXTENTS_PER_REGION - 1)).map(Extent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(interval: u32) -> Stamp {
        Stamp::new(Epoch::new(1), Interval::new(interval))
    }

    #[test]
    fn only_regions_written_before_the_closed_interval_are_quiet() {
        let mut regions = Regions::new(Bytes::gib(100), &[0b100], true);
        assert!(!regions.note_write(Region(2), stamp(1)), "marked by an earlier life");
        assert!(regions.note_write(Region(20_000), stamp(2)));
        assert!(!regions.note_write(Region(20_000), stamp(1)), "stamps never fall");
        assert_eq!(regions.quiet(stamp(1)), [STATE_EXTENT.region()]);
        assert_eq!(regions.quiet(stamp(2)), [Region(2), STATE_EXTENT.region()]);
        assert_eq!(regions.marked(), 3);
        regions.clear(Region(20_000));
        assert!(!regions.is_marked(Region(20_000)));
        assert_eq!(regions.committed_part(0).collect::<Vec<_>>(), [2, 20_000], "until the journal says so");
        regions.cleared(Region(20_000));
        assert_eq!(regions.committed_part(0).collect::<Vec<_>>(), [2]);
        assert_eq!(regions.committed_part(7).count(), 0);
    }
}
