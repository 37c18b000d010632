//! What opening needs of the engine.

use std::collections::BTreeMap;

use dyad_payload::BlockSum;
use dyad_units::{Extent, LayerId, Piece, Stamp, WriteNumber};

use crate::disk::BlockingDisk;
use crate::engine::Pool;
use crate::engine::regions::extents_of;
use crate::engine::unsettled::Unsettled;
use crate::entry::{Entry, SUSPECT, Slot};
use crate::format::page::PAGE_BYTES;
use crate::format::recent::Recent;
use crate::format::state::{Change, ImageNo, PageOwner};
use crate::format::superblock::Superblock;
use crate::format::table::{self, TablePage};
use crate::map::LeafIndex;

impl Pool {
    pub(crate) fn image_numbered(&self, no: ImageNo) -> Option<usize> {
        self.images.iter().position(|image| image.as_ref().is_some_and(|image| image.no == no))
    }

    pub(crate) fn open_images(&self) -> Vec<usize> {
        (0..self.images.len()).filter(|&at| self.images[at].is_some()).collect()
    }

    pub(crate) fn live_entry(&self, at: usize, extent: Extent) -> Entry {
        self.image(at).map.entry(extent)
    }

    pub(crate) fn layer_id(&self, at: usize) -> LayerId {
        self.image(at).meta.layer
    }

    pub(crate) fn slot_offset(&self, slot: Slot) -> u64 {
        self.superblock.layout.slot_offset(slot)
    }

    pub(crate) fn has_slot(&self, slot: Slot) -> bool {
        slot.0 < self.superblock.layout.slot_count
    }

    pub(crate) fn has_extent(&self, at: usize, extent: Extent) -> bool {
        self.image(at).has_extent(extent)
    }

    /// Which extents lie in these slots, which are ascending.
    pub(crate) fn holders_of(&self, slots: &[Slot]) -> BTreeMap<Slot, (usize, Extent)> {
        let mut holders = BTreeMap::new();
        for (at, image) in self.images.iter().enumerate().filter_map(|(at, image)| Some((at, image.as_ref()?))) {
            for (extent, entry) in image.map.entries() {
                if let Some(slot) = entry.slot().filter(|slot| slots.binary_search(slot).is_ok()) {
                    holders.insert(slot, (at, extent));
                }
            }
        }
        holders
    }

    /// The extent lies in `slot` from now on, nothing written; what it had is given up. Whether the slot was free, and there
    /// was a map page.
    pub(crate) fn claim_slot(&mut self, at: usize, extent: Extent, slot: Slot, alloc: u64) -> bool {
        self.release_slot(at, extent);
        let layer = self.image(at).layer;
        let has_page = self.ensure_page(PageOwner::Map { layer, index: LeafIndex::of(extent).0 });
        if !has_page || !self.space.is_free(slot) {
            return false;
        }
        self.space.claim(slot, alloc);
        self.change_entry(at, extent, |entry| {
            entry.set_written(0);
            entry.place(slot, alloc);
        });
        true
    }

    pub(crate) fn release_slot(&mut self, at: usize, extent: Extent) {
        if let Some(slot) = self.live_entry(at, extent).slot() {
            self.sums.forget(slot);
            self.space.give_back(slot);
            self.change_entry(at, extent, Entry::unplace);
        }
    }

    pub(crate) fn put_sum(&mut self, at: usize, extent: Extent, slot: Slot, block: u8, mixed: u64) {
        self.sums.put(slot, (at, extent), block, std::iter::once(mixed));
    }

    /// What other images might lack, from L (M3).
    pub(crate) fn note_unsettled(
        &mut self,
        at: usize,
        settled: WriteNumber,
        writes: impl Iterator<Item = (u64, WriteNumber, Stamp, Piece)>,
    ) {
        // L may have been cut last before the image was told what is closed.
        let closed = self.image(at).meta.closed;
        self.with_unsettled(at, |unsettled| {
            unsettled.settle(settled);
            for (recent_at, number, stamp, piece) in writes {
                unsettled.push(Unsettled { recent_at, number, stamp, piece });
            }
            unsettled.close(closed);
        });
    }

    /// L names a write of the piece that other images may have: of blocks that are not written here they are right (P6).
    pub(crate) fn doubt(&mut self, at: usize, piece: Piece) {
        let unwritten = piece.mask() & !self.live_entry(at, piece.extent).written();
        self.doubts.add(at, piece.extent, unwritten);
    }

    /// L names a later unmap of the piece: nobody misses a write of it.
    pub(crate) fn doubt_no_more(&mut self, at: usize, piece: Piece) {
        self.doubts.over(at, piece);
    }

    /// Where the oldest entry of L lies that is needed although everything is flushed.
    pub(crate) fn oldest_unsettled(&self) -> Option<u64> {
        self.images.iter().flatten().flat_map(|image| image.unsettled.iter()).map(|write| write.recent_at).min()
    }

    /// Whether the block's sum on disk vouches for what was found.
    pub(crate) fn matches_table(
        &self,
        disk: &mut dyn BlockingDisk,
        (slot, block): (Slot, u8),
        found: BlockSum,
        (at, extent): (usize, Extent),
    ) -> bool {
        let page = TablePage::of(slot);
        let mixed = table::mix(found, self.layer_id(at), extent, block, self.live_entry(at, extent).alloc());
        let mut newest: Option<(u64, u64)> = None;
        for home in 0..2 {
            let mut bytes = [0; PAGE_BYTES];
            if disk.read_at(&mut bytes, self.superblock.layout.table_offset(home, page)).is_ok()
                && let Some(seq) = table::decode(&bytes, self.superblock.disk, page)
            {
                newest = newest.max(Some((seq, table::sum_at(&bytes, page.at(slot), block))));
            }
        }
        newest.is_some_and(|(_, sum)| sum == mixed)
    }

    /// Recovery without L (P8): whatever lies in a marked region may be old, new or torn, and other images may have what
    /// is missing. The same after a crash of the process before all of that was compared. How many extents are suspect.
    pub(crate) fn suspect_marked(&mut self, at: usize) -> u64 {
        let image = self.image_mut(at);
        image.lived_through = false;
        image.suspect_marked();
        let regions: Vec<_> = image.uncompared.keys().copied().collect();
        let mut suspects = 0;
        for extent in regions.iter().copied().flat_map(extents_of) {
            if !self.live_entry(at, extent).is_absent() {
                self.image_mut(at).map.entry_mut(extent).set(SUSPECT);
                suspects += 1;
            }
        }
        let (is_suspect, was_suspect) = (!regions.is_empty(), self.image(at).suspect);
        if is_suspect != was_suspect {
            let image = self.image(at).no;
            self.enqueue(Change::Suspect { image, suspect: is_suspect });
        }
        suspects
    }

    /// Whether an opening without L is not made up for yet.
    pub(crate) fn is_suspect(&self, at: usize) -> bool {
        self.image(at).suspect
    }

    /// Slots that were committed for writes whose data never came are given up (P15): what reads as zeros everywhere is
    /// neither copied nor unmapped, so nobody else would ever free them. A missing write may come from another image yet.
    pub(crate) fn give_up_empty(&mut self) {
        for at in self.open_images() {
            let entries = self.image(at).map.entries();
            let empty = entries.filter(|(_, entry)| entry.slot().is_some() && entry.written() == 0);
            let empty = empty.filter(|(extent, _)| self.doubts.of(at, *extent) == 0);
            let empty: Vec<Extent> = empty.map(|(extent, _)| extent).collect();
            empty.into_iter().for_each(|extent| self.give_up_if_empty(at, extent));
        }
    }

    /// Makes everything that recovery changed durable.
    pub(crate) fn flush_recovered(&mut self) {
        for at in self.open_images() {
            self.ensure_mark_pages(at);
        }
        // Allocations are promised before the first is made, so that none is made that the journal does not know.
        self.note_allocations();
        self.start_flush_for_housekeeping();
    }

    /// Recovery is done: from now on the pool is that of a new mount.
    pub(crate) fn begin_serving(&mut self, superblock: Superblock, recent: Recent, blocks_torn: u64) {
        self.commits.ring.set_mount(superblock.mount);
        self.superblock = superblock;
        self.recent = recent;
        self.counters = crate::counters::Counters { blocks_torn, ..Default::default() };
        self.finish_deletions();
    }
}
