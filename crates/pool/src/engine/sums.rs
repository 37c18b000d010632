//! Checksums in memory: those not yet in the tables, and the table pages read last (P7).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use dyad_payload::{Buf, BufMut};
use dyad_units::Extent;

use crate::disk::{DiskDone, DiskError, DiskOp};
use crate::engine::Pool;
use crate::engine::ops::{Completion, OpAt};
use crate::entry::Slot;
use crate::format::page::PAGE_BYTES;
use crate::format::table::{self, SLOTS_PER_TABLE_PAGE, SUMS_PER_TABLE_PAGE, TablePage};

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
    pub(super) slot: Slot,
    /// Whose data it is, to know what is lost when the disk fails (P12).
    pub(super) owner: (usize, Extent),
    /// Blocks whose sum no table page has.
    mask: u64,
    /// Blocks whose sum is on its way to a table page; not durable yet.
    writing: u64,
    sums: [u64; BLOCKS],
}

impl DirtySlot {
    pub(super) fn put(&mut self, block: u8, mixed: u64) {
        self.mask |= 1 << block;
        self.sums[usize::from(block)] = mixed;
    }

    fn sum(&self, block: u8) -> Option<u64> {
        ((self.mask | self.writing) >> block & 1 == 1).then(|| self.sums[usize::from(block)])
    }
}

/// A table page being read, and the reads that wait for it.
struct Fetch {
    page: TablePage,
    outstanding: u8,
    /// The newest home read so far.
    best: Option<(u64, u8, Buf)>,
    waiting: Vec<OpAt>,
    /// A flush waits for it too.
    for_flush: bool,
}

pub(super) struct Sums {
    dirty: Vec<DirtySlot>,
    /// Places in `dirty` that may be used again.
    spare: Vec<u32>,
    index: HashMap<u32, u32, BuildHasherDefault<SlotHasher>>,
    cache: Vec<(u32, Option<Buf>)>,
    homes: TableHomes,
    fetches: Vec<Fetch>,
}

/// What is known of a block's checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Known {
    /// Mixed with its place, as it stands in the table.
    Sum(u64),
    /// The table page is not in memory.
    NotHere,
}

impl Sums {
    pub(super) fn new(table_pages: u32) -> Self {
        Self {
            dirty: Vec::new(),
            spare: Vec::new(),
            index: HashMap::default(),
            cache: vec![(0, None); CACHED_PAGES],
            homes: TableHomes(vec![UNKNOWN; table_pages as usize]),
            fetches: Vec::new(),
        }
    }

    pub(super) fn dirty_slot(&mut self, slot: Slot, at: usize, extent: Extent) -> &mut DirtySlot {
        let place = *self.index.entry(slot.0).or_insert_with(|| {
            let fresh = DirtySlot { slot, owner: (at, extent), mask: 0, writing: 0, sums: [0; BLOCKS] };
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
        });
        &mut self.dirty[place as usize]
    }

    /// The slot was given up: its checksums mean nothing any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Some(place) = self.index.remove(&slot.0) {
            let dirty = &mut self.dirty[place as usize];
            (dirty.mask, dirty.writing) = (0, 0);
            self.spare.push(place);
        }
    }

    pub(super) fn is_over_bound(&self) -> bool {
        self.index.len() > DIRTY_SLOTS_MAX
    }

    /// Extents with checksums, and so data, that no finished flush covers.
    pub(super) fn unflushed(&self) -> impl Iterator<Item = (usize, Extent)> {
        self.dirty.iter().filter(|dirty| dirty.mask | dirty.writing != 0).map(|dirty| dirty.owner)
    }

    pub(super) fn known(&self, slot: Slot, block: u8) -> Known {
        if let Some(&place) = self.index.get(&slot.0)
            && let Some(sum) = self.dirty[place as usize].sum(block)
        {
            return Known::Sum(sum);
        }
        let page = TablePage::of(slot);
        match self.cached(page) {
            Some(bytes) => Known::Sum(table::sum_at(bytes, page.at(slot), block)),
            None => Known::NotHere,
        }
    }

    pub(super) fn cached(&self, page: TablePage) -> Option<&Buf> {
        let (tag, bytes) = &self.cache[page.0 as usize % CACHED_PAGES];
        bytes.as_ref().filter(|_| *tag == page.0)
    }

    fn cache(&mut self, page: TablePage, bytes: Buf) {
        self.cache[page.0 as usize % CACHED_PAGES] = (page.0, Some(bytes));
    }

    /// Dirty checksums begin their way to the tables: the pages that need writing, ascending.
    pub(super) fn begin_writing(&mut self) -> Vec<TablePage> {
        let mut pages: Vec<TablePage> = Vec::new();
        for dirty in self.dirty.iter_mut().filter(|dirty| dirty.mask != 0) {
            dirty.writing |= std::mem::take(&mut dirty.mask);
            pages.push(TablePage::of(dirty.slot));
        }
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// The page as it will be written, and to which home: the one that is not the newest durable.
    pub(super) fn patched(&mut self, page: TablePage, disk: dyad_units::DiskId, mut to: BufMut) -> (usize, Buf) {
        let seq = match self.cached(page) {
            Some(bytes) => {
                to.copy_from_slice(bytes);
                table::decode(bytes, disk, page).unwrap_or(0)
            }
            None => {
                to.fill(0);
                0
            }
        };
        for slot in (0..SLOTS_PER_TABLE_PAGE).map(|nth| page.slot(nth)) {
            let Some(&place) = self.index.get(&slot.0) else { continue };
            let dirty = &self.dirty[place as usize];
            for block in (0..BLOCKS as u8).filter(|block| dirty.writing >> block & 1 == 1) {
                table::put_sums(&mut to, page.at(slot), block, &[dirty.sums[usize::from(block)]]);
            }
        }
        let home = self.homes.other(page);
        table::seal(&mut to, disk, page, seq + 1);
        let bytes = to.freeze();
        self.cache(page, bytes.clone());
        self.homes.set(page, home);
        (home, bytes)
    }

    /// The tables are durable: what was on its way has arrived.
    pub(super) fn finish_writing(&mut self) {
        for place in 0..self.dirty.len() {
            let dirty = &mut self.dirty[place];
            if dirty.writing == 0 {
                continue;
            }
            dirty.writing = 0;
            if dirty.mask == 0 {
                self.index.remove(&dirty.slot.0);
                self.spare.push(place as u32);
            }
        }
    }
}

impl Pool {
    /// Starts reading a table page unless that is under way. `op` waits for it, or else a flush.
    pub(super) fn fetch_table(&mut self, page: TablePage, op: Option<OpAt>) {
        if let Some(fetch) = self.sums.fetches.iter_mut().find(|fetch| fetch.page == page) {
            fetch.waiting.extend(op);
            fetch.for_flush |= op.is_none();
            return;
        }
        // Until a page was read once, either home may be the newest.
        let homes = match self.sums.homes.newest(page) {
            Some(home) => home..home + 1,
            None => 0..2,
        };
        let fetch = Fetch {
            page,
            outstanding: homes.len() as u8,
            best: None,
            waiting: op.into_iter().collect(),
            for_flush: op.is_none(),
        };
        self.sums.fetches.push(fetch);
        self.counters.table_reads += 1;
        for home in homes {
            let token = Completion::TableRead { page: page.0, home }.token();
            let offset = self.superblock.layout.table_offset(home, page);
            match self.slab.take(PAGE_BYTES) {
                Ok(buf) => self.disk_ops.push(DiskOp::Read { token, offset, buf }),
                // No memory: as if the home could not be read; the blocks are unverified, never wrong.
                Err(_) => self.table_read_done(page.0, home, Err(DiskError::IO)),
            }
        }
    }

    pub(super) fn table_read_done(&mut self, page: u32, home: usize, result: Result<DiskDone, DiskError>) {
        let page = TablePage(page);
        let disk = self.superblock.disk;
        let Some(at) = self.sums.fetches.iter().position(|fetch| fetch.page == page) else { return };
        let fetch = &mut self.sums.fetches[at];
        fetch.outstanding -= 1;
        if let Ok(DiskDone::Read(buf)) = result
            && let Some(seq) = table::decode(&buf, disk, page)
            && fetch.best.as_ref().is_none_or(|(best, _, _)| seq > *best)
        {
            fetch.best = Some((seq, home as u8, buf.freeze()));
        }
        if fetch.outstanding > 0 {
            return;
        }
        let fetch = self.sums.fetches.swap_remove(at);
        match fetch.best {
            Some((_, home, bytes)) => {
                self.sums.homes.set(page, usize::from(home));
                self.sums.cache(page, bytes);
            }
            None => self.cache_empty_table(page),
        }
        for op in fetch.waiting {
            self.verify(op);
        }
        if fetch.for_flush {
            self.pump_tables();
        }
    }

    /// No home is valid: the page was never written, or is damaged. Either way no checksum is known, and whatever
    /// block refers to it does not match.
    fn cache_empty_table(&mut self, page: TablePage) {
        let Ok(mut buf) = self.slab.take(PAGE_BYTES) else { return };
        table::encode(&mut buf, self.superblock.disk, page, 0, &[0; SUMS_PER_TABLE_PAGE]);
        self.sums.cache(page, buf.freeze());
    }
}
