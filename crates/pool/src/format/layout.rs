//! Where everything lies on a disk.
//!
//! ```text
//!  0        64 KiB   1 MiB                                                        aligned to 256 KiB
//!  | superblock A | superblock B | journal | pages 0 | tables 0 | pages 1 | tables 1 | slots ... |
//! ```
//!
//! The two homes of a page lie far apart, and each area in one run, so that opening reads them in bulk.

use dyad_units::{Bytes, EXTENT_BYTES};

use crate::entry::{NO_SLOT, Slot};
use crate::format::page::{DIRECTORY_ENTRIES, PAGE_BYTES};
use crate::format::state::PageNo;
use crate::format::table::{SLOTS_PER_TABLE_PAGE, TablePage};

const PAGE: u64 = PAGE_BYTES as u64;
const SLOT: u64 = EXTENT_BYTES as u64;
/// Everything before is the superblocks' and spare.
const JOURNAL_OFFSET: u64 = 1 << 20;
/// Holds some hundred thousand changes, and is read within a fraction of a second.
const JOURNAL_BYTES_MAX: u64 = 16 << 20;
/// A few of the largest records.
const JOURNAL_BYTES_MIN: u64 = 1 << 20;
/// The journal is this part of a small disk.
const JOURNAL_PART: u64 = 64;
/// A map page holds 126 extents; scattered ones fill it to a thirtieth. So many pages cost 0.8 % of the disk.
const SLOTS_PER_PAGE: u64 = 4;
/// Pages besides, for the images, their region logs and unmapped extents' stamps.
const PAGES_EXTRA: (u64, u64) = (32, 256);
/// Fewer are no pool.
const SLOTS_MIN: u64 = 8;

/// A run of bytes on the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Area {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Area {
    /// First byte after it; `None` if it ends nowhere.
    fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

/// Places and sizes of all areas; fixed when the disk is formatted, kept in the superblock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    /// What the disk must have at least.
    pub(crate) size: u64,
    /// Ring of commit records (P2).
    pub(crate) journal: Area,
    /// Both homes of the metadata pages.
    pub(crate) pages: [Area; 2],
    /// How many metadata pages there are.
    pub(crate) page_count: u32,
    /// Both homes of the checksum tables (P7).
    pub(crate) tables: [Area; 2],
    /// How many table pages there are.
    pub(crate) table_pages: u32,
    /// Where extents lie.
    pub(crate) slots: Area,
    /// How many there are.
    pub(crate) slot_count: u32,
}

impl Layout {
    /// The smallest disk that can be formatted.
    pub(crate) const SIZE_MIN: Bytes = Bytes::mib(8);

    /// Divides a disk of `size`; `None` if it is below [`Self::SIZE_MIN`].
    pub(crate) fn plan(size: Bytes) -> Option<Self> {
        if size < Self::SIZE_MIN {
            return None;
        }
        let size = size.value();
        let mut slots = (size / SLOT).min(u64::from(NO_SLOT) - 1);
        loop {
            let layout = Self::with_slots(size, slots);
            let end = layout.slots.end()?;
            if end <= size {
                return (slots >= SLOTS_MIN).then_some(layout);
            }
            // A slot taken away frees its own bytes and its metadata's: less than two slots', so that this never
            // takes away too many.
            slots = slots.checked_sub((end - size).div_ceil(2 * SLOT))?;
        }
    }

    fn with_slots(size: u64, slots: u64) -> Self {
        let journal_len = (size / JOURNAL_PART).clamp(JOURNAL_BYTES_MIN, JOURNAL_BYTES_MAX) / PAGE * PAGE;
        let content = slots / SLOTS_PER_PAGE + slots.clamp(PAGES_EXTRA.0, PAGES_EXTRA.1);
        // Directory pages are listed in the directory too.
        let page_count = content + content.div_ceil(DIRECTORY_ENTRIES as u64 - 1);
        let table_pages = slots.div_ceil(SLOTS_PER_TABLE_PAGE as u64);
        let (pages_len, tables_len) = (page_count * PAGE, table_pages * PAGE);
        let journal = Area { offset: JOURNAL_OFFSET, len: journal_len };
        let mut next = JOURNAL_OFFSET + journal_len;
        let mut area = |len| {
            let area = Area { offset: next, len };
            next += len;
            area
        };
        let (pages_0, tables_0) = (area(pages_len), area(tables_len));
        let (pages_1, tables_1) = (area(pages_len), area(tables_len));
        Self {
            size,
            journal,
            pages: [pages_0, pages_1],
            page_count: page_count as u32,
            tables: [tables_0, tables_1],
            table_pages: table_pages as u32,
            slots: Area { offset: next.next_multiple_of(SLOT), len: slots * SLOT },
            slot_count: slots as u32,
        }
    }

    /// How many of the first pages are the directory.
    pub(crate) fn directory_pages(&self) -> u32 {
        self.page_count.div_ceil(DIRECTORY_ENTRIES as u32)
    }

    /// Byte on the disk at which a slot begins.
    pub(crate) fn slot_offset(&self, slot: Slot) -> u64 {
        self.slots.offset + u64::from(slot.0) * SLOT
    }

    /// Byte on the disk at which a page's home 0 or 1 begins.
    pub(crate) fn page_offset(&self, home: usize, page: PageNo) -> u64 {
        self.pages[home].offset + u64::from(page.0) * PAGE
    }

    /// Byte on the disk at which a table page's home 0 or 1 begins.
    pub(crate) fn table_offset(&self, home: usize, page: TablePage) -> u64 {
        self.tables[home].offset + u64::from(page.0) * PAGE
    }

    /// Whether a layout read from a disk makes sense: areas apart from each other, within the size, as long as
    /// their counts say.
    pub(crate) fn is_consistent(&self) -> bool {
        let pages_len = u64::from(self.page_count) * PAGE;
        let tables_len = u64::from(self.table_pages) * PAGE;
        let mut areas = [self.journal, self.pages[0], self.pages[1], self.tables[0], self.tables[1], self.slots];
        let aligned = areas.iter().all(|area| area.offset.is_multiple_of(PAGE) && area.len.is_multiple_of(PAGE))
            && self.slots.offset.is_multiple_of(SLOT);
        let counts = self.pages.iter().all(|area| area.len == pages_len)
            && self.tables.iter().all(|area| area.len == tables_len)
            && self.slots.len == u64::from(self.slot_count) * SLOT
            && self.table_pages == self.slot_count.div_ceil(SLOTS_PER_TABLE_PAGE as u32);
        let enough = self.journal.len >= JOURNAL_BYTES_MIN
            && self.journal.len <= JOURNAL_BYTES_MAX
            && self.page_count > self.directory_pages()
            && self.slot_count > 0
            && self.slot_count != NO_SLOT;
        areas.sort_unstable_by_key(|area| area.offset);
        let mut free_from = JOURNAL_OFFSET;
        let apart = areas.iter().all(|area| {
            let fits = area.offset >= free_from;
            free_from = area.end().unwrap_or(u64::MAX);
            fits
        });
        aligned && counts && enough && apart && free_from <= self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_from_the_least_to_a_large_one_has_a_consistent_layout() {
        let sizes = (8..64).map(Bytes::mib).chain((0..14).map(|shift| Bytes::gib(1 << shift)));
        for size in sizes.chain([Bytes::new(8 * 1024 * 1024 + 511), Bytes::new(1_000_204_886_016)]) {
            let layout = Layout::plan(size).unwrap();
            assert!(layout.is_consistent(), "{size}: {layout:?}");
            let spare = layout.size - layout.slots.offset - layout.slots.len;
            assert!(spare < 4 * SLOT, "{size}: {spare} bytes are not used");
        }
    }

    #[test]
    fn metadata_costs_little_of_a_large_disk() {
        let layout = Layout::plan(Bytes::gib(1024)).unwrap();
        assert!(u64::from(layout.slot_count) * SLOT > layout.size / 1000 * 987);
        assert_eq!(layout.journal.len, JOURNAL_BYTES_MAX);
    }

    #[test]
    fn a_disk_that_is_too_small_has_none() {
        for bytes in [0, 1, 4096, (8 << 20) - 1] {
            assert_eq!(Layout::plan(Bytes::new(bytes)), None);
        }
        assert!(Layout::plan(Layout::SIZE_MIN).unwrap().slot_count >= 16);
    }

    #[test]
    fn a_layout_with_one_wrong_field_is_refused() {
        let good = Layout::plan(Bytes::gib(1)).unwrap();
        let wrong: [fn(&mut Layout); 9] = [
            |layout| layout.size = layout.slots.offset,
            |layout| layout.journal.offset = 0,
            |layout| layout.journal.len = u64::MAX - 4095,
            |layout| layout.pages[1] = layout.pages[0],
            |layout| layout.page_count += 1,
            |layout| layout.tables[0].offset = u64::MAX - 4095,
            |layout| layout.table_pages -= 1,
            |layout| layout.slots.offset += 4096,
            |layout| layout.slot_count = NO_SLOT,
        ];
        for (at, change) in wrong.iter().enumerate() {
            let mut layout = good;
            change(&mut layout);
            assert!(!layout.is_consistent(), "change {at}");
        }
    }
}
