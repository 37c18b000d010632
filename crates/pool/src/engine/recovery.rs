//! What opening needs of the engine.

use dyad_units::{Extent, LayerId, Piece};

use dyad_payload::BlockSum;

use crate::disk::BlockingDisk;
use crate::engine::Pool;
use crate::engine::flush::{Depth, Waiter};
use crate::engine::marks::extents_of;
use crate::entry::{Entry, Slot};
use crate::error::OpenError;
use crate::format::page::PAGE_BYTES;
use crate::format::recent::Recent;
use crate::format::state::ImageNo;
use crate::format::superblock::Superblock;
use crate::format::table::{self, TablePage};

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

    pub(crate) fn flag_in_memory(&mut self, at: usize, extent: Extent, flag: u16) {
        self.image_mut(at).map.entry_mut(extent).set(flag);
    }

    pub(crate) fn marked_extents(&self, at: usize) -> Vec<Extent> {
        self.image(at).regions.iter_marked().flat_map(extents_of).collect()
    }

    /// The extent whose live entry has the slot.
    pub(crate) fn holder_of(&self, slot: Slot) -> Option<(usize, Extent)> {
        if self.space.is_free(slot) {
            return None;
        }
        self.images.iter().enumerate().find_map(|(at, image)| {
            let mut entries = image.as_ref()?.map.entries();
            entries.find(|(_, entry)| entry.slot() == Some(slot)).map(|(extent, _)| (at, extent))
        })
    }

    /// The extent lies in `slot` from now on, nothing written; what it had is given up.
    pub(crate) fn claim_slot(&mut self, at: usize, extent: Extent, slot: Slot, alloc: u64) {
        self.release_slot(at, extent);
        self.space.claim(slot, alloc);
        self.change_entry(at, extent, |entry| {
            entry.set_written(0);
            entry.place(slot, alloc);
        });
    }

    pub(crate) fn release_slot(&mut self, at: usize, extent: Extent) {
        if let Some(slot) = self.live_entry(at, extent).slot() {
            self.sums.forget(slot);
            self.space.give_back(slot);
            self.change_entry(at, extent, Entry::unplace);
        }
    }

    pub(crate) fn put_sum(&mut self, at: usize, extent: Extent, slot: Slot, block: u8, mixed: u64) {
        self.sums.dirty_slot(slot, at, extent).put(block, mixed);
    }

    pub(crate) fn set_unsettled(&mut self, at: usize, pieces: Vec<Piece>) {
        self.image_mut(at).unsettled = pieces;
    }

    /// Whether the block's sum on disk vouches for what was found.
    pub(crate) fn matches_table(
        &self,
        disk: &mut dyn BlockingDisk,
        slot: Slot,
        block: u8,
        found: BlockSum,
        (at, extent): (usize, Extent),
    ) -> Result<bool, OpenError> {
        let page = TablePage::of(slot);
        let mixed = table::mix(found, self.layer_id(at), extent, block, self.live_entry(at, extent).alloc());
        let mut newest: Option<(u64, u64)> = None;
        for home in 0..2 {
            let mut bytes = [0; PAGE_BYTES];
            disk.read_at(&mut bytes, self.superblock.layout.table_offset(home, page)).map_err(OpenError::Disk)?;
            if let Some(seq) = table::decode(&bytes, self.superblock.disk, page) {
                newest = newest.max(Some((seq, table::sum_at(&bytes, page.at(slot), block))));
            }
        }
        Ok(newest.is_some_and(|(_, sum)| sum == mixed))
    }

    /// Makes everything that recovery changed durable, and cuts the journal.
    pub(crate) fn flush_and_checkpoint(&mut self) {
        self.flush_for(Waiter::Housekeeping, Depth::Stamps);
        self.want_checkpoint();
    }

    /// Recovery is done: from now on the pool is that of a new mount, with an empty L.
    pub(crate) fn begin_serving(&mut self, superblock: Superblock, recent: Recent, blocks_torn: u64) {
        self.commits.ring.set_mount(superblock.mount);
        self.superblock = superblock;
        self.recent = recent;
        self.counters = crate::counters::Counters { blocks_torn, ..Default::default() };
        self.finish_deletions();
    }
}
