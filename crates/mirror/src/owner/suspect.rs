//! The extents that a crash left suspect: not served before they were compared and made equal (P8, M9).

use std::collections::{BTreeMap, VecDeque};

use dyad_units::{EXTENTS_PER_REGION, Extent, FIRST_HIDDEN, Piece, Region, STATE_EXTENT};

use crate::owner::lock::Range;

/// Bound of the extents that waiting operations want compared first; an operation that touches more of them
/// is served by the ordinary order.
const URGENT_MAX: usize = 256;

/// A set of extents, as disjoint runs: all of a large volume may be suspect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects {
    /// First extent of a run to its last.
    runs: BTreeMap<u32, u32>,
    count: u64,
    urgent: VecDeque<Extent>,
    /// Being compared now; still suspect.
    under_way: Vec<Extent>,
    /// Where the ordinary order goes on.
    next: u32,
}

impl Suspects {
    /// How many are left.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many are being compared.
    pub(crate) const fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Adds the extent of a piece.
    pub(crate) fn add_piece(&mut self, piece: Piece) {
        self.add(piece.extent.0, piece.extent.0);
    }

    /// Adds those extents of a region that are below `end`, or not the host's.
    pub(crate) fn add_region(&mut self, region: Region, end: u32) {
        let Some(first) = region.0.checked_mul(EXTENTS_PER_REGION) else { return };
        let last = first | (EXTENTS_PER_REGION - 1);
        if first < end {
            self.add(first, last.min(end - 1));
        }
        if STATE_EXTENT.region() == region {
            self.add(FIRST_HIDDEN.0, STATE_EXTENT.0);
        }
    }

    /// Adds those of another set.
    pub(crate) fn add_all(&mut self, others: &Self) {
        others.runs.iter().for_each(|(&first, &last)| self.add(first, last));
    }

    fn add(&mut self, first: u32, last: u32) {
        let (mut first, mut last) = (first, last);
        while let Some((&start, &end)) = self.runs.range(..=last).next_back() {
            if end < first {
                break;
            }
            self.runs.remove(&start);
            self.count -= u64::from(end - start) + 1;
            (first, last) = (first.min(start), last.max(end));
        }
        self.runs.insert(first, last);
        self.count += u64::from(last - first) + 1;
    }

    pub(crate) fn contains(&self, extent: Extent) -> bool {
        self.runs.range(..=extent.0).next_back().is_some_and(|(_, &last)| last >= extent.0)
    }

    /// Whether a range of blocks touches one.
    pub(crate) fn touches(&self, range: Range) -> bool {
        if self.count == 0 {
            return false;
        }
        let (first, last) = extents(range);
        self.runs.range(..=last).next_back().is_some_and(|(_, &end)| end >= first)
    }

    /// Wants those in a range compared first.
    pub(crate) fn hurry(&mut self, range: Range) {
        let (first, last) = extents(range);
        let mut from = first;
        while self.urgent.len() < URGENT_MAX {
            let run = self.runs.range(..=from).next_back().filter(|&(_, &end)| end >= from);
            let run = run.or_else(|| self.runs.range(from..=last).next());
            let Some((&start, &end)) = run else { break };
            from = from.max(start);
            let extent = Extent(from);
            if !self.urgent.contains(&extent) && !self.under_way.contains(&extent) {
                self.urgent.push_back(extent);
            }
            if from >= last.min(end) && from >= last {
                break;
            }
            from += 1;
        }
    }

    /// Whether somebody waits for one that is not being compared.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// The next one to compare, urgent ones first; it counts as under way.
    pub(crate) fn take(&mut self) -> Option<Extent> {
        while let Some(extent) = self.urgent.pop_front() {
            if self.contains(extent) && !self.under_way.contains(&extent) {
                self.under_way.push(extent);
                return Some(extent);
            }
        }
        if self.under_way.len() as u64 >= self.count {
            return None;
        }
        // At most one lap plus those under way: some extent is neither.
        loop {
            let from = self.next;
            let within = self.runs.range(..=from).next_back().filter(|&(_, &end)| end >= from).map(|_| from);
            let found = within.or_else(|| self.runs.range(from..).next().map(|(&start, _)| start));
            let Some(found) = found else {
                self.next = 0;
                continue;
            };
            self.next = found.wrapping_add(1);
            if !self.under_way.contains(&Extent(found)) {
                self.under_way.push(Extent(found));
                return Some(Extent(found));
            }
        }
    }

    /// It could not be compared now; it stays suspect.
    pub(crate) fn put_back(&mut self, extent: Extent) {
        self.under_way.retain(|&other| other != extent);
    }

    /// It is equal everywhere.
    pub(crate) fn remove(&mut self, extent: Extent) {
        self.put_back(extent);
        let found = self.runs.range(..=extent.0).next_back().map(|(&start, &end)| (start, end));
        let Some((start, end)) = found.filter(|&(_, end)| end >= extent.0) else { return };
        self.runs.remove(&start);
        if start < extent.0 {
            self.runs.insert(start, extent.0 - 1);
        }
        if end > extent.0 {
            self.runs.insert(extent.0 + 1, end);
        }
        self.count -= 1;
    }
}

fn extents(range: Range) -> (u32, u32) {
    let per_extent = u64::from(dyad_units::BLOCKS_PER_EXTENT);
    // A range lies within a segment, so its extents' indices fit.
    ((range.first / per_extent) as u32, (range.last / per_extent) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dyad_units::{Extent, FIRST_HIDDEN, Region, STATE_EXTENT};

    use super::{Range, Suspects};

    fn blocks(first: u32, last: u32) -> Range {
        Range { first: u64::from(first) * 64, last: u64::from(last) * 64 + 63 }
    }

    fn drain(suspects: &mut Suspects) -> Vec<u32> {
        let mut all = Vec::new();
        while let Some(extent) = suspects.take() {
            suspects.remove(extent);
            all.push(extent.0);
        }
        all
    }

    #[test]
    fn a_region_is_cut_at_the_end_of_the_segment_and_what_is_hidden_is_kept() {
        let mut suspects = Suspects::default();
        suspects.add_region(Region(0), 3);
        suspects.add_region(Region(1), 3);
        suspects.add_region(STATE_EXTENT.region(), 3);
        assert_eq!(drain(&mut suspects)[..3], [0, 1, 2]);
        suspects.add_region(STATE_EXTENT.region(), 3);
        assert_eq!(drain(&mut suspects), (FIRST_HIDDEN.0..=u32::MAX).collect::<Vec<_>>());
    }

    #[test]
    fn what_somebody_waits_for_comes_first() {
        let mut suspects = Suspects::default();
        suspects.add(0, 9);
        suspects.add(20, 29);
        suspects.hurry(blocks(8, 21));
        let order = drain(&mut suspects);
        assert_eq!(order[..4], [8, 9, 20, 21]);
        assert_eq!(order.len(), 20);
    }

    #[test]
    fn what_could_not_be_compared_comes_again() {
        let mut suspects = Suspects::default();
        suspects.add(5, 6);
        let (a, b) = (suspects.take().unwrap(), suspects.take().unwrap());
        assert_eq!((a, b, suspects.take()), (Extent(5), Extent(6), None));
        suspects.put_back(a);
        assert_eq!(suspects.take(), Some(a));
        suspects.remove(a);
        suspects.remove(b);
        assert!(suspects.is_empty());
    }

    #[test]
    fn it_is_the_set_that_a_set_would_be() {
        let mut suspects = Suspects::default();
        let mut model = BTreeSet::new();
        let mut random = 1_u32;
        for _ in 0..2000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (first, len) = (random >> 26, random >> 13 & 7);
            if random & 1 == 0 {
                suspects.add(first, first + len);
                model.extend(first..=first + len);
            } else {
                suspects.remove(Extent(first));
                model.remove(&first);
            }
            assert_eq!(suspects.count(), model.len() as u64);
            assert_eq!(suspects.contains(Extent(len)), model.contains(&len));
            let touched = model.range(first..=first + len).next().is_some();
            assert_eq!(suspects.touches(blocks(first, first + len)), touched);
        }
        assert_eq!(drain(&mut suspects).into_iter().collect::<BTreeSet<_>>(), model);
    }
}
