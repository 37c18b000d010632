//! Checksums in memory: those not yet in the tables, and the table pages read last (P7).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use dyad_payload::{Buf, BufMut};
use dyad_units::{DiskId, Extent};
use smallvec::SmallVec;

use crate::entry::Slot;
use crate::format::table::{self, SLOTS_PER_TABLE_PAGE, TablePage};

/// Slots with checksums that are only in memory and L, beyond which a flush is started: 34 MiB.
const DIRTY_SLOTS_MAX: usize = 65_536;
/// Table pages kept in memory: 32 MiB, the checksums of 14 GiB of data.
const CACHED_PAGES: usize = 8192;

const BLOCKS: usize = dyad_units::BLOCKS_PER_EXTENT as usize;

/// Spreads slot numbers; fixed, so that a run can be repeated.
#[derive(Default)]
pub(super) struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// Which home of each table page is the newest; found out when the page is first read.
struct TableHomes(Vec<u8>);

const UNKNOWN: u8 = 2;

impl TableHomes {
    fn newest(&self, page: TablePage) -> Option<usize> {
        match self.0[page.0 as usize] {
            UNKNOWN => None,
            home => Some(usize::from(home)),
        }
    }

    /// Where the next version goes: never over the newest, which is the last that was synced.
    fn other(&self, page: TablePage) -> usize {
        self.newest(page).map_or(0, |home| 1 - home)
    }

    fn set(&mut self, page: TablePage, home: usize) {
        self.0[page.0 as usize] = home as u8;
    }
}

/// Checksums of one slot that its table page on disk does not have.
pub(super) struct DirtySlot {
    slot: Slot,
    /// Whose data it is, to know what is lost when the disk fails (P12).
    owner: (usize, Extent),
    /// Blocks whose sum no table page has.
    mask: u64,
    /// Blocks whose sum is on its way to a table page; not durable yet.
    writing: u64,
    /// Named by `changed`, by `arriving`: a place is used again only when neither does.
    is_changed: bool,
    is_arriving: bool,
    sums: [u64; BLOCKS],
}

/// The checksums of one slot, as far as they are in memory.
pub(super) struct SlotSums<'a> {
    dirty: Option<&'a DirtySlot>,
    page: Option<&'a [u8]>,
    at: usize,
}

impl SlotSums<'_> {
    /// Whether a block of these has its checksum only on disk.
    pub(super) fn lacks(&self, blocks: u64) -> bool {
        let known = self.dirty.map_or(0, |dirty| dirty.mask | dirty.writing);
        self.page.is_none() && blocks & !known != 0
    }

    /// The block's checksum, mixed with its place.
    pub(super) fn of(&self, block: u8) -> Option<u64> {
        match self.dirty {
            Some(dirty) if (dirty.mask | dirty.writing) >> block & 1 == 1 => Some(dirty.sums[usize::from(block)]),
            _ => self.page.map(|page| table::sum_at(page, self.at, block)),
        }
    }
}

pub(super) struct Sums {
    dirty: Vec<DirtySlot>,
    /// Places in `dirty` that may be used again.
    spare: Vec<u32>,
    index: HashMap<u32, u32, BuildHasherDefault<SlotHasher>>,
    /// Places whose mask is not empty, or was when they were given up.
    changed: Vec<u32>,
    /// Places whose checksums are on their way, or were when they were given up.
    arriving: Vec<u32>,
    cache: Vec<(u32, Option<Buf>)>,
    /// Pages being written: not read meanwhile, even if they are pushed out of the cache.
    writes: SmallVec<[(TablePage, Buf); 64]>,
    homes: TableHomes,
    /// Sequence of the newest page written: above all of earlier mounts.
    seq: u64,
}

impl Sums {
    pub(super) fn new(table_pages: u32, mount: u64) -> Self {
        Self {
            dirty: Vec::new(),
            spare: Vec::new(),
            index: HashMap::default(),
            changed: Vec::new(),
            arriving: Vec::new(),
            cache: vec![(0, None); CACHED_PAGES],
            writes: SmallVec::new(),
            homes: TableHomes(vec![UNKNOWN; table_pages as usize]),
            seq: mount << 32,
        }
    }

    fn dirty_slot(&mut self, slot: Slot, at: usize, extent: Extent) -> u32 {
        *self.index.entry(slot.0).or_insert_with(|| {
            let owner = (at, extent);
            let (mask, writing, is_changed, is_arriving, sums) = (0, 0, false, false, [0; BLOCKS]);
            let fresh = DirtySlot { slot, owner, mask, writing, is_changed, is_arriving, sums };
            match self.spare.pop() {
                Some(place) => {
                    self.dirty[place as usize] = fresh;
                    place
                }
                None => {
                    self.dirty.push(fresh);
                    self.dirty.len() as u32 - 1
                }
            }
        })
    }

    /// Takes checksums of blocks from `first` on, mixed with their place.
    pub(super) fn put(
        &mut self,
        slot: Slot,
        (at, extent): (usize, Extent),
        first: u8,
        sums: impl Iterator<Item = u64>,
    ) {
        let place = self.dirty_slot(slot, at, extent);
        let dirty = &mut self.dirty[place as usize];
        if !std::mem::replace(&mut dirty.is_changed, true) {
            self.changed.push(place);
        }
        for (block, sum) in (first..).zip(sums) {
            dirty.mask |= 1 << block;
            dirty.sums[usize::from(block)] = sum;
        }
    }

    /// The slot was given up: its checksums mean nothing any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        // One of the lists names the place: it is used again when that is worked off.
        if let Some(place) = self.index.remove(&slot.0) {
            let dirty = &mut self.dirty[place as usize];
            (dirty.mask, dirty.writing) = (0, 0);
        }
    }

    /// The image is gone.
    pub(super) fn forget_image(&mut self, at: usize) {
        for place in 0..self.dirty.len() {
            let dirty = &self.dirty[place];
            if dirty.owner.0 == at && dirty.mask | dirty.writing != 0 {
                self.forget(dirty.slot);
            }
        }
    }

    pub(super) fn is_over_bound(&self) -> bool {
        self.index.len() > DIRTY_SLOTS_MAX
    }

    /// Extents with checksums, and so data, that no finished flush covers.
    pub(super) fn unflushed(&self) -> impl Iterator<Item = (usize, Extent)> {
        self.dirty.iter().filter(|dirty| dirty.mask | dirty.writing != 0).map(|dirty| dirty.owner)
    }

    /// What is known of a slot.
    pub(super) fn slot(&self, slot: Slot) -> SlotSums<'_> {
        let dirty = self.index.get(&slot.0).map(|&place| &self.dirty[place as usize]);
        let page = TablePage::of(slot);
        SlotSums { dirty, page: self.page(page), at: page.at(slot) }
    }

    /// The page, if it is in memory.
    pub(super) fn page(&self, page: TablePage) -> Option<&[u8]> {
        let (tag, bytes) = &self.cache[page.0 as usize % CACHED_PAGES];
        match bytes {
            Some(bytes) if *tag == page.0 => Some(bytes),
            _ => self.writes.iter().find(|(written, _)| *written == page).map(|(_, bytes)| &**bytes),
        }
    }

    /// Keeps a page that was read from `home`; without, neither home had it.
    pub(super) fn keep(&mut self, page: TablePage, bytes: Buf, home: Option<usize>) {
        if let Some(home) = home {
            self.homes.set(page, home);
        }
        self.cache[page.0 as usize % CACHED_PAGES] = (page.0, Some(bytes));
    }

    /// The home that is the newest, if that is known.
    pub(super) fn newest_home(&self, page: TablePage) -> Option<usize> {
        self.homes.newest(page)
    }

    /// Dirty checksums begin their way to the tables: puts the pages that need writing into `pages`, descending.
    pub(super) fn begin_writing(&mut self, pages: &mut Vec<TablePage>) {
        pages.clear();
        for place in self.changed.drain(..) {
            let dirty = &mut self.dirty[place as usize];
            dirty.is_changed = false;
            if dirty.mask != 0 {
                dirty.writing |= std::mem::take(&mut dirty.mask);
                pages.push(TablePage::of(dirty.slot));
                if !std::mem::replace(&mut dirty.is_arriving, true) {
                    self.arriving.push(place);
                }
            } else if !dirty.is_arriving {
                self.spare.push(place);
            }
        }
        pages.sort_unstable_by(|one, other| other.cmp(one));
        pages.dedup();
    }

    /// The page as it will be written, and to which home: the one that is not the newest durable. The page is in memory.
    pub(super) fn patched(&mut self, page: TablePage, disk: DiskId, mut to: BufMut) -> (usize, Buf) {
        let bytes = self.page(page).expect("the caller looked");
        to.copy_from_slice(bytes);
        let before = table::decode(bytes, disk, page).unwrap_or(0);
        for slot in (0..SLOTS_PER_TABLE_PAGE).map(|nth| page.slot(nth)) {
            let Some(&place) = self.index.get(&slot.0) else { continue };
            let dirty = &self.dirty[place as usize];
            for block in (0..BLOCKS as u8).filter(|block| dirty.writing >> block & 1 == 1) {
                table::put_sums(&mut to, page.at(slot), block, &[dirty.sums[usize::from(block)]]);
            }
        }
        let home = self.homes.other(page);
        self.seq = self.seq.max(before) + 1;
        table::seal(&mut to, disk, page, self.seq);
        let bytes = to.freeze();
        self.writes.push((page, bytes.clone()));
        self.keep(page, bytes.clone(), Some(home));
        (home, bytes)
    }

    /// The page's write ended.
    pub(super) fn written(&mut self, page: TablePage) {
        self.writes.retain(|(written, _)| *written != page);
    }

    /// The tables are durable: what was on its way has arrived.
    pub(super) fn finish_writing(&mut self) {
        while let Some(place) = self.arriving.pop() {
            let dirty = &mut self.dirty[place as usize];
            (dirty.writing, dirty.is_arriving) = (0, false);
            if !dirty.is_changed {
                // A slot that was given up may have a new place by now.
                if self.index.get(&dirty.slot.0) == Some(&place) {
                    self.index.remove(&dirty.slot.0);
                }
                self.spare.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dyad_payload::Slab;

    use super::*;
    use crate::format::page::PAGE_BYTES;

    const DISK: DiskId = DiskId::from_bytes([7; 16]);

    fn with_empty_page(slab: &Slab) -> Sums {
        let mut sums = Sums::new(CACHED_PAGES as u32 + 4, 3);
        let mut bytes = slab.take(PAGE_BYTES).unwrap();
        table::encode(&mut bytes, DISK, TablePage(0), 9, &[0; table::SUMS_PER_TABLE_PAGE]);
        sums.keep(TablePage(0), bytes.freeze(), Some(1));
        sums
    }

    fn write_all(sums: &mut Sums, slab: &Slab) -> usize {
        let mut pages = Vec::new();
        sums.begin_writing(&mut pages);
        for &page in &pages {
            sums.patched(page, DISK, slab.take(PAGE_BYTES).unwrap());
            sums.written(page);
        }
        sums.finish_writing();
        pages.len()
    }

    #[test]
    fn a_place_is_used_again_only_when_no_list_names_it() {
        let slab = Slab::new(1 << 20);
        let mut sums = with_empty_page(&slab);
        let (slot, owner) = (Slot(2), (0, Extent(5)));
        sums.put(slot, owner, 3, [11].into_iter());
        sums.forget(slot);
        sums.put(slot, owner, 3, [12].into_iter());
        assert_eq!(sums.slot(slot).of(3), Some(12));
        assert_eq!(write_all(&mut sums, &slab), 1);
        assert_eq!((sums.dirty.len(), sums.spare.len(), sums.index.len()), (2, 2, 0));
        assert_eq!((sums.slot(slot).of(3), sums.slot(slot).of(4)), (Some(12), Some(0)));

        let mut pages = Vec::new();
        sums.put(slot, owner, 0, [20].into_iter());
        sums.begin_writing(&mut pages);
        sums.forget(slot);
        sums.put(slot, owner, 0, [21].into_iter());
        sums.finish_writing();
        assert_eq!(sums.slot(slot).of(0), Some(21), "the new life's");
        write_all(&mut sums, &slab);
        assert_eq!((sums.spare.len(), sums.index.len()), (2, 0));
    }

    #[test]
    fn a_page_is_never_written_over_its_newest_home_and_its_sequence_rises() {
        let slab = Slab::new(1 << 20);
        let mut sums = with_empty_page(&slab);
        sums.put(Slot(0), (0, Extent(0)), 0, [1, 2].into_iter());
        let mut pages = Vec::new();
        sums.begin_writing(&mut pages);
        let (home, bytes) = sums.patched(TablePage(0), DISK, slab.take(PAGE_BYTES).unwrap());
        assert_eq!((home, table::decode(&bytes, DISK, TablePage(0))), (0, Some((3 << 32) + 1)));
        sums.keep(TablePage(CACHED_PAGES as u32), bytes.clone(), None);
        assert!(sums.page(TablePage(0)).is_some(), "while it is being written it is not read from the disk");
        sums.written(TablePage(0));
        assert!(sums.page(TablePage(0)).is_none());
    }
}
