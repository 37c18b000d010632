//! Range locks (M2): first come, first served by overlap; readers share.
//!
//! Entries lie unordered in one vector; a linear scan over the few operations in flight is faster than any
//! tree. An entry counts the earlier entries that it conflicts with; each release counts down those of the
//! later entries. At zero everywhere the operation holds all its ranges, so there is no deadlock: whoever
//! waits, waits only for those that came before.

use dyad_units::{BLOCKS_PER_EXTENT, Extent, FIRST_HIDDEN, Piece, STATE_EXTENT, Span};

use crate::owner::op::Slot;

/// Most ranges locked or waited for at once: every operation with a few ranges each.
pub(crate) const LOCKS_MAX: usize = 8192;

/// Blocks `first ..= last` of the segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Range {
    /// All blocks of an extent.
    pub(crate) fn whole(extent: Extent) -> Self {
        let first = Piece::whole(extent).block().0;
        Self { first, last: first + u64::from(BLOCKS_PER_EXTENT) - 1 }
    }

    /// All blocks that are not the host's (M20, M21).
    pub(crate) const HIDDEN: Self = Self {
        first: FIRST_HIDDEN.0 as u64 * BLOCKS_PER_EXTENT as u64,
        last: (STATE_EXTENT.0 as u64 + 1) * BLOCKS_PER_EXTENT as u64 - 1,
    };

    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl From<Span> for Range {
    fn from(span: Span) -> Self {
        let (first, last) = span.blocks();
        Self { first: first.0, last: last.0 }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    range: Range,
    order: u64,
    slot: Slot,
    /// The operation's phase while it waits.
    tag: u64,
    is_shared: bool,
    /// Earlier entries in the way.
    blockers: u32,
}

impl Entry {
    fn conflicts(&self, other: &Self) -> bool {
        self.slot != other.slot && !(self.is_shared && other.is_shared) && self.range.overlaps(other.range)
    }
}

/// All range locks of a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    entries: Vec<Entry>,
    order: u64,
    /// Entries with blockers.
    waiting: usize,
    /// Who may have been granted by a release; kept for its memory.
    freed: Vec<(u64, Slot, u64)>,
}

impl Locks {
    /// Whether `ranges` more fit.
    pub(crate) fn has_room(&self, ranges: usize) -> bool {
        self.entries.len() + ranges <= LOCKS_MAX
    }

    /// Asks for all ranges at once; whether they are granted now. Otherwise [`Self::release`] tells when.
    pub(crate) fn acquire(
        &mut self,
        (slot, tag): (Slot, u64),
        ranges: impl Iterator<Item = Range>,
        is_shared: bool,
    ) -> bool {
        self.order += 1;
        let mut is_granted = true;
        for range in ranges {
            let mut entry = Entry { range, order: self.order, slot, tag, is_shared, blockers: 0 };
            entry.blockers = self.entries.iter().filter(|earlier| earlier.conflicts(&entry)).count() as u32;
            if entry.blockers > 0 {
                self.waiting += 1;
                is_granted = false;
            }
            self.entries.push(entry);
        }
        is_granted
    }

    /// Gives up everything that `slot` holds or waits for, and calls `granted` with slot and tag of each
    /// operation that holds all its ranges from now on, in the order of arrival.
    pub(crate) fn release(&mut self, slot: Slot, mut granted: impl FnMut(Slot, u64)) {
        let mut at = 0;
        while at < self.entries.len() {
            if self.entries[at].slot != slot {
                at += 1;
                continue;
            }
            let gone = self.entries.swap_remove(at);
            if gone.blockers > 0 {
                self.waiting -= 1;
            }
            if self.waiting > 0 {
                self.unblock(&gone);
            }
        }
        if self.freed.is_empty() {
            return;
        }
        self.freed.sort_unstable();
        self.freed.dedup();
        for (_, slot, tag) in self.freed.drain(..) {
            if self.entries.iter().all(|entry| entry.slot != slot || entry.blockers == 0) {
                granted(slot, tag);
            }
        }
    }

    /// Counts down whoever waited for `gone`.
    fn unblock(&mut self, gone: &Entry) {
        for later in &mut self.entries {
            if later.order > gone.order && later.conflicts(gone) {
                later.blockers -= 1;
                if later.blockers == 0 {
                    self.waiting -= 1;
                    self.freed.push((later.order, later.slot, later.tag));
                }
            }
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Locks, Range};

    fn lock(locks: &mut Locks, slot: u16, first: u64, last: u64, is_shared: bool) -> bool {
        locks.acquire((slot, 0), [Range { first, last }].into_iter(), is_shared)
    }

    fn release(locks: &mut Locks, slot: u16) -> Vec<u16> {
        let mut granted = Vec::new();
        locks.release(slot, |slot, _| granted.push(slot));
        granted
    }

    #[test]
    fn readers_share_and_a_writer_waits_for_all_of_them() {
        let mut locks = Locks::default();
        assert!(lock(&mut locks, 1, 0, 9, true));
        assert!(lock(&mut locks, 2, 5, 5, true));
        assert!(!lock(&mut locks, 3, 5, 7, false));
        assert_eq!(release(&mut locks, 1), []);
        assert_eq!(release(&mut locks, 2), [3]);
    }

    /// A reader that came after a waiting writer must not starve it.
    #[test]
    fn a_reader_does_not_overtake_a_waiting_writer() {
        let mut locks = Locks::default();
        assert!(lock(&mut locks, 1, 0, 0, true));
        assert!(!lock(&mut locks, 2, 0, 0, false));
        assert!(!lock(&mut locks, 3, 0, 0, true));
        assert!(!lock(&mut locks, 4, 0, 0, true));
        assert_eq!(release(&mut locks, 1), [2]);
        assert_eq!(release(&mut locks, 2), [3, 4]);
    }

    #[test]
    fn apart_ranges_do_not_wait() {
        let mut locks = Locks::default();
        assert!(lock(&mut locks, 1, 0, 9, false));
        assert!(lock(&mut locks, 2, 10, 10, false));
        assert_eq!(release(&mut locks, 1), []);
    }

    #[test]
    fn several_ranges_are_granted_together_and_may_overlap_each_other() {
        let mut locks = Locks::default();
        assert!(lock(&mut locks, 1, 0, 0, false));
        assert!(lock(&mut locks, 2, 100, 100, false));
        let ranges = [(0, 5), (3, 7), (90, 110)].map(|(first, last)| Range { first, last });
        assert!(!locks.acquire((3, 0), ranges.into_iter(), false));
        assert_eq!(release(&mut locks, 1), []);
        assert_eq!(release(&mut locks, 2), [3]);
        assert_eq!(release(&mut locks, 3), []);
        assert!(locks.is_empty());
    }

    #[test]
    fn whoever_gives_up_waiting_lets_the_next_go() {
        let mut locks = Locks::default();
        assert!(lock(&mut locks, 1, 0, 4, true));
        assert!(!lock(&mut locks, 2, 0, 9, false));
        assert!(!lock(&mut locks, 3, 6, 9, false));
        assert_eq!(release(&mut locks, 2), [3]);
        assert_eq!(release(&mut locks, 1), []);
    }
}
