//! The map of one layer in memory: leaves of as many entries as a map page holds (P1).

use dyad_units::{Extent, FIRST_HIDDEN, STATE_EXTENT};

use crate::entry::Entry;

/// Entries of one map page, and of one leaf.
pub(crate) const LEAF_ENTRIES: u32 = 126;

/// Index of a map page within its layer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct LeafIndex(pub(crate) u32);

impl LeafIndex {
    pub(crate) const fn of(extent: Extent) -> Self {
        Self(extent.0 / LEAF_ENTRIES)
    }

    pub(crate) const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }

    /// The extent of entry `at` of this leaf; `None` beyond the last extent there can be.
    pub(crate) fn extent(self, at: usize) -> Option<Extent> {
        self.0.checked_mul(LEAF_ENTRIES)?.checked_add(at as u32).map(Extent)
    }
}

pub(crate) type Leaf = [Entry; LEAF_ENTRIES as usize];

/// All entries of one layer. A leaf exists once one of its entries was ever set.
#[derive(Debug, Default)]
pub(crate) struct ExtentMap {
    leaves: Vec<Option<Box<Leaf>>>,
    /// The leaves of the extents that are not the host's; kept apart because their indices are beyond all others.
    hidden: [Option<Box<Leaf>>; HIDDEN_LEAVES],
}

const FIRST_HIDDEN_LEAF: LeafIndex = LeafIndex::of(FIRST_HIDDEN);
const HIDDEN_LEAVES: usize = (LeafIndex::of(STATE_EXTENT).0 - FIRST_HIDDEN_LEAF.0 + 1) as usize;

impl ExtentMap {
    pub(crate) fn entry(&self, extent: Extent) -> Entry {
        match self.leaf(LeafIndex::of(extent)) {
            Some(leaf) => leaf[(extent.0 % LEAF_ENTRIES) as usize],
            None => Entry::ABSENT,
        }
    }

    /// The entry, to be changed; makes its leaf if there is none.
    pub(crate) fn entry_mut(&mut self, extent: Extent) -> &mut Entry {
        &mut self.leaf_mut(LeafIndex::of(extent))[(extent.0 % LEAF_ENTRIES) as usize]
    }

    pub(crate) fn leaf(&self, index: LeafIndex) -> Option<&Leaf> {
        match index.0.checked_sub(FIRST_HIDDEN_LEAF.0) {
            Some(at) => self.hidden.get(at as usize)?.as_deref(),
            None => self.leaves.get(index.0 as usize)?.as_deref(),
        }
    }

    pub(crate) fn leaf_mut(&mut self, index: LeafIndex) -> &mut Leaf {
        let place = match index.0.checked_sub(FIRST_HIDDEN_LEAF.0) {
            Some(at) => &mut self.hidden[at as usize],
            None => {
                let at = index.0 as usize;
                if at >= self.leaves.len() {
                    self.leaves.resize_with(at + 1, || None);
                }
                &mut self.leaves[at]
            }
        };
        place.get_or_insert_with(|| Box::new([Entry::ABSENT; LEAF_ENTRIES as usize]))
    }

    /// The first leaf that exists from `index` on.
    pub(crate) fn leaf_from(&self, index: LeafIndex) -> Option<LeafIndex> {
        let ordinary = self.leaves.iter().enumerate().skip(index.0 as usize).find(|(_, leaf)| leaf.is_some());
        ordinary.map(|(at, _)| LeafIndex(at as u32)).or_else(|| self.hidden_indices().find(|at| *at >= index))
    }

    /// Indices of the leaves that exist, ascending.
    pub(crate) fn leaf_indices(&self) -> impl Iterator<Item = LeafIndex> + '_ {
        let ordinary = self.leaves.iter().enumerate().filter(|(_, leaf)| leaf.is_some());
        ordinary.map(|(at, _)| LeafIndex(at as u32)).chain(self.hidden_indices())
    }

    fn hidden_indices(&self) -> impl Iterator<Item = LeafIndex> + '_ {
        let existing = self.hidden.iter().enumerate().filter(|(_, leaf)| leaf.is_some());
        existing.map(|(at, _)| LeafIndex(FIRST_HIDDEN_LEAF.0 + at as u32))
    }

    /// Every entry that is not absent, ascending.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Extent, &Entry)> + '_ {
        self.leaf_indices().flat_map(move |index| {
            let entries = self.leaf(index).into_iter().flatten().enumerate();
            entries
                .filter_map(move |(at, entry)| Some((index.extent(at)?, entry)))
                .filter(|(_, entry)| !entry.is_absent())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Slot;

    #[test]
    fn the_state_extent_costs_one_leaf() {
        let mut map = ExtentMap::default();
        map.entry_mut(STATE_EXTENT).place(Slot(1), 1);
        map.entry_mut(Extent(1000)).place(Slot(2), 2);
        assert_eq!(map.leaf_indices().count(), 2);
        let found: Vec<_> = map.entries().map(|(extent, entry)| (extent, entry.slot())).collect();
        assert_eq!(found, [(Extent(1000), Some(Slot(2))), (STATE_EXTENT, Some(Slot(1)))]);
        assert!(map.entry(Extent(999)).is_absent());
        let from = |extent| map.leaf_from(LeafIndex::of(extent));
        assert_eq!(from(Extent(0)), Some(LeafIndex::of(Extent(1000))));
        assert_eq!(from(Extent(2000)), Some(LeafIndex::of(STATE_EXTENT)));
        assert_eq!(LeafIndex::of(STATE_EXTENT).next().and_then(|next| map.leaf_from(next)), None);
    }

    #[test]
    fn all_hidden_extents_have_their_places() {
        let mut map = ExtentMap::default();
        for at in (FIRST_HIDDEN.0..=STATE_EXTENT.0).rev() {
            map.entry_mut(Extent(at)).place(Slot(at % 100), 1);
        }
        assert_eq!(map.leaf_indices().count(), HIDDEN_LEAVES);
        assert!(map.leaf_indices().is_sorted());
        let found: Vec<_> = map.entries().map(|(extent, _)| extent.0).collect();
        assert_eq!(found, (FIRST_HIDDEN.0..=STATE_EXTENT.0).collect::<Vec<_>>());
        assert_eq!(map.leaf_from(LeafIndex(0)), Some(FIRST_HIDDEN_LEAF));
    }
}
