//! Pools with large maps, made at once for measurements: the pages of an image are written as a checkpoint would leave
//! them, without any data.

use std::collections::BTreeMap;

use dyad_units::{Epoch, Extent, Interval, REGION_BYTES, Stamp};

use crate::disk::{BlockingDisk, DiskError};
use crate::entry::{Entry, Slot};
use crate::error::OpenError;
use crate::format::page::{self, DIRECTORY_ENTRIES, MARKS_PER_PAGE, PAGE_BYTES};
use crate::format::state::{ImageMeta, ImageNo, LayerNo, PageNo, PageOwner};
use crate::format::superblock::{self, Superblock};
use crate::map::{ExtentMap, LEAF_ENTRIES, LeafIndex};

/// Only image and layer of the pool.
const NUMBER: u32 = 1;

/// Gives a freshly formatted pool an image in which `extents` are written, each in a slot of its own, in this order. Their
/// blocks have no checksums: a read finds them damaged.
///
/// # Errors
/// As when the pool is opened.
///
/// # Panics
/// If the pool has too few slots or pages.
pub fn fill(
    disk: &mut dyn BlockingDisk,
    meta: &ImageMeta,
    extents: impl IntoIterator<Item = Extent>,
) -> Result<(), OpenError> {
    let superblock = superblock::read(disk)?;
    let mut map = ExtentMap::default();
    let mut slots = 0;
    for extent in extents {
        let entry = map.entry_mut(extent);
        entry.place(Slot(slots), u64::from(slots) + 1);
        entry.set_written(u64::MAX);
        entry.set_stamp(Stamp::new(Epoch::new(1), Interval::new(1)));
        slots += 1;
    }
    assert!(slots <= superblock.layout.slot_count, "the pool is too small");
    let regions = meta.size.value().div_ceil(u64::from(REGION_BYTES));
    let marks = regions.div_ceil(MARKS_PER_PAGE as u64) as u32;
    let (image, layer) = (ImageNo(NUMBER), LayerNo(NUMBER));
    let owners = std::iter::once(PageOwner::Image { image })
        .chain((0..marks).map(|index| PageOwner::Marks { image, index }))
        .chain(map.leaf_indices().map(|index| PageOwner::Map { layer, index: index.0 }));
    let first = superblock.layout.directory_pages();
    let owned = (0..first).map(|index| (PageNo(index), PageOwner::Directory { index }));
    let owned: BTreeMap<PageNo, PageOwner> = owned.chain((first..).map(PageNo).zip(owners)).collect();
    assert!(owned.len() <= superblock.layout.page_count as usize, "the pool has too few pages");
    let pages = Pages { superblock: &superblock, meta, map: &map, owned: &owned, alloc_next: u64::from(slots) + 1 };
    pages.write(disk).and_then(|()| disk.sync()).map_err(OpenError::Disk)
}

struct Pages<'a> {
    superblock: &'a Superblock,
    meta: &'a ImageMeta,
    map: &'a ExtentMap,
    owned: &'a BTreeMap<PageNo, PageOwner>,
    alloc_next: u64,
}

impl Pages<'_> {
    fn write(&self, disk: &mut dyn BlockingDisk) -> Result<(), DiskError> {
        for (&number, &owner) in self.owned {
            let mut bytes = [0; PAGE_BYTES];
            page::encode(&mut bytes, self.superblock.disk, number, owner, 1, |body| self.fill_body(owner, body));
            for home in 0..2 {
                disk.write_at(&bytes, self.superblock.layout.page_offset(home, number))?;
            }
        }
        Ok(())
    }

    fn fill_body(&self, owner: PageOwner, body: &mut [u8]) {
        match owner {
            PageOwner::Directory { index } => {
                let first = index * DIRECTORY_ENTRIES as u32;
                let listed = self.owned.range(PageNo(first)..PageNo(first + DIRECTORY_ENTRIES as u32));
                let owners = listed.map(|(page, &owner)| ((page.0 - first) as usize, owner));
                page::encode_directory(owners, self.alloc_next, NUMBER + 1, body);
            }
            PageOwner::Image { image } => page::encode_image((image, LayerNo(NUMBER)), self.meta, false, false, body),
            PageOwner::Marks { .. } => page::encode_marks([], body),
            PageOwner::Map { index, .. } => {
                let leaf = self.map.leaf(LeafIndex(index));
                page::encode_leaf(leaf.unwrap_or(&[Entry::ABSENT; LEAF_ENTRIES as usize]), body);
            }
        }
    }
}
