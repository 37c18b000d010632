//! The first failed write or sync ends belief in the disk (P11); what it held unflushed is lost (P12).

use std::collections::BTreeSet;

use dyad_units::Extent;

use crate::engine::Pool;
use crate::entry::LOST;
use crate::format::state::{Change, PageOwner};
use crate::map::LeafIndex;

#[derive(Default)]
pub(super) struct Poison {
    poisoned: bool,
    /// Extents whose flags are still to be made durable.
    lost: Option<BTreeSet<(usize, Extent)>>,
}

impl Poison {
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub(super) fn take_lost(&mut self) -> Option<BTreeSet<(usize, Extent)>> {
        self.lost.take()
    }
}

impl Pool {
    /// Ends belief in the disk, before any flush is answered.
    pub(super) fn poison_now(&mut self) {
        if self.poison.poisoned {
            return;
        }
        self.poison.poisoned = true;
        self.recent.note_poison();
        let mut lost: BTreeSet<(usize, Extent)> = self.sums.unflushed().chain(self.ops.written_extents()).collect();
        for &(at, extent) in &lost {
            let entry = self.image_mut(at).map.entry_mut(extent);
            let was_lost = entry.has(LOST);
            entry.set(LOST);
            self.extents_lost += u64::from(!was_lost);
        }
        // Data that is durable, but not committed: whoever opens the pool next would not see it.
        lost.extend(self.shadow.keys().map(|&(at, extent)| (at as usize, extent)).filter(|&(at, extent)| {
            let (live, committed) = (self.image(at).map.entry(extent), self.shadow[&(at as u32, extent)]);
            let is_moved = live.slot() != committed.slot() && live.written() != 0;
            is_moved || live.written() & !committed.written() != 0
        }));
        self.poison.lost = Some(lost);
        self.drop_waiting();
        self.abandon_checkpoint();
        self.fail_flushes();
        self.fail_marking();
        self.fail_admin();
    }

    /// The flags of what was lost, for the journal: with the committed entry, so that nothing of what was not flushed
    /// comes with it (P2), but with the newest stamp, so that a resync copies the extent (M13). Of an extent that was
    /// never committed only the flag and the stamp: it must not read as "never written" (P12).
    pub(super) fn losses(&self, lost: &BTreeSet<(usize, Extent)>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut pages = BTreeSet::new();
        for &(at, extent) in lost {
            let (layer, live) = (self.image(at).layer, self.image(at).map.entry(extent));
            let mut entry = self.shadow.get(&(at as u32, extent)).copied().unwrap_or_else(|| live.durable());
            entry.set_stamp(entry.stamp().max(live.stamp()));
            entry.set(LOST);
            // The page's assignment may be among the changes that are not written any more.
            let owner = PageOwner::Map { layer, index: LeafIndex::of(extent).0 };
            if let Some(page) = self.pages.uncommitted(owner).filter(|page| pages.insert(*page)) {
                changes.push(Change::Page { page, owner });
            }
            changes.push(Change::Map { layer, extent, entry });
        }
        changes
    }
}
