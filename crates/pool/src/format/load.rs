//! Reading the committed state back: pages, then the journal's changes on top.
//!
//! A page counts with the newer whole one of its homes; changes of later records are applied to it. A page that was assigned
//! by a record of the journal and never written is defined by the journal alone. A page that should be there and is not
//! readable in either home is never taken for an empty one (P1): the pool is refused, but for the region log, where it means
//! that everything is marked (P5).

use std::collections::{BTreeMap, BTreeSet};

use dyad_units::REGION_BYTES;

use crate::disk::BlockingDisk;
use crate::entry::LOST;
use crate::error::OpenError;
use crate::format::journal::{Ring, Scanned, scan};
use crate::format::page::{self, MARKS_PER_PAGE, PAGE_BYTES, PageView};
use crate::format::state::{Change, Committed, ImageNo, ImageState, LayerNo, LayerState, PageNo, PageOwner};
use crate::format::superblock::Superblock;
use crate::map::{ExtentMap, LeafIndex};

/// Bytes read at a time: one seek's worth, so that a large map is read at the disk's full speed.
const READ_BYTES: usize = 4 << 20;

/// The committed state, and where the journal goes on.
pub(crate) struct Loaded {
    pub(crate) committed: Committed,
    pub(crate) ring: Ring,
    /// Pages that the journal is ahead of.
    pub(crate) ahead: BTreeSet<PageNo>,
}

/// Reads everything.
///
/// # Errors
/// See [`OpenError`]: damage that cannot be told from lost commits refuses the pool.
pub(crate) fn load(disk: &mut dyn BlockingDisk, superblock: &Superblock) -> Result<Loaded, OpenError> {
    let area = superblock.layout.journal;
    let mut ring = vec![0; area.len as usize];
    read_all(disk, &mut ring, area.offset)?;
    let Scanned { records, start } = scan(&ring, area, superblock.pool)?;
    drop(ring);
    let mut loader = Loader { superblock, records, pages: BTreeMap::new(), committed: Committed::default() };
    loader.read_directory(disk)?;
    loader.read_pages(disk)?;
    let ahead = loader.apply_records()?;
    loader.check()?;
    let ring = Ring::new(area, superblock.pool, superblock.mount, start);
    Ok(Loaded { committed: loader.committed, ring, ahead })
}

fn read_all(disk: &mut dyn BlockingDisk, to: &mut [u8], offset: u64) -> Result<(), OpenError> {
    for (nth, part) in to.chunks_mut(READ_BYTES).enumerate() {
        disk.read_at(part, offset + (nth * READ_BYTES) as u64).map_err(OpenError::Disk)?;
    }
    Ok(())
}

/// What is known of a page in the directory.
#[derive(Clone, Copy, Debug)]
struct Known {
    owner: PageOwner,
    /// The record of the journal that assigned it, if it is still there.
    assigned: Option<u64>,
    /// Changes of records up to this one are in what was loaded.
    seq: u64,
}

struct Loader<'a> {
    superblock: &'a Superblock,
    records: Vec<(u64, Vec<Change>)>,
    pages: BTreeMap<PageNo, Known>,
    committed: Committed,
}

impl Loader<'_> {
    /// Who owns which page, as of the newest record.
    fn read_directory(&mut self, disk: &mut dyn BlockingDisk) -> Result<(), OpenError> {
        let count = self.superblock.layout.directory_pages();
        let mut seqs = Vec::new();
        for index in 0..count {
            let number = PageNo(index);
            let mut homes = [[0; PAGE_BYTES]; 2];
            for (home, bytes) in homes.iter_mut().enumerate() {
                let offset = self.superblock.layout.page_offset(home, number);
                disk.read_at(bytes, offset).map_err(OpenError::Disk)?;
            }
            let damaged = OpenError::PageDamaged { page: index };
            let view = newest(&homes[0], &homes[1], self.superblock, number, PageOwner::Directory { index });
            let view = view.ok_or(damaged.clone())?;
            let directory = page::decode_directory(view.body).ok_or(damaged)?;
            self.committed.alloc_next = self.committed.alloc_next.max(directory.alloc_next);
            self.committed.image_next = self.committed.image_next.max(directory.image_next);
            for (nth, owner) in directory.owners.into_iter().enumerate() {
                let page = PageNo((index as usize * page::DIRECTORY_ENTRIES + nth) as u32);
                if let Some(owner) = owner {
                    self.pages.insert(page, Known { owner, assigned: None, seq: 0 });
                }
            }
            seqs.push(view.seq);
        }
        self.replay_directory(&seqs);
        let beyond = self.pages.keys().next_back().is_some_and(|page| page.0 >= self.superblock.layout.page_count);
        if beyond {
            return Err(OpenError::Inconsistent { what: "a metadata page beyond the last is in use" });
        }
        Ok(())
    }

    /// An image's own layer has the image's number.
    fn replay_directory(&mut self, seqs: &[u64]) {
        let seq_of = |page: PageNo| seqs.get(page.0 as usize / page::DIRECTORY_ENTRIES).copied().unwrap_or(0);
        for (seq, changes) in &self.records {
            for change in changes {
                match change {
                    Change::Page { page, owner } => {
                        let newer = *seq > seq_of(*page);
                        let same = self.pages.get(page).is_some_and(|known| known.owner == *owner);
                        if newer || same {
                            self.pages.insert(*page, Known { owner: *owner, assigned: Some(*seq), seq: 0 });
                        }
                    }
                    Change::ImageGone { image } => {
                        self.pages.retain(|page, known| *seq <= seq_of(*page) || !belongs_to(known.owner, *image));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reads every page in use from the newer whole one of its homes.
    fn read_pages(&mut self, disk: &mut dyn BlockingDisk) -> Result<(), OpenError> {
        let fixed = self.superblock.layout.directory_pages();
        let numbers: Vec<PageNo> = self.pages.range(PageNo(fixed)..).map(|(&page, _)| page).collect();
        let per_read = (READ_BYTES / PAGE_BYTES) as u32;
        let mut homes = [Vec::new(), Vec::new()];
        let mut rest = numbers.as_slice();
        while let Some(&first) = rest.first() {
            let run = rest.iter().take_while(|page| page.0 < first.0 + per_read).count();
            let (part, after) = rest.split_at(run);
            let pages = (part[run - 1].0 - first.0 + 1) as usize;
            for (home, bytes) in homes.iter_mut().enumerate() {
                bytes.resize(pages * PAGE_BYTES, 0);
                read_all(disk, bytes, self.superblock.layout.page_offset(home, first))?;
            }
            for &number in part {
                let at = (number.0 - first.0) as usize * PAGE_BYTES;
                self.take_page(number, &homes[0][at..at + PAGE_BYTES], &homes[1][at..at + PAGE_BYTES])?;
            }
            rest = after;
        }
        Ok(())
    }

    fn take_page(&mut self, number: PageNo, home0: &[u8], home1: &[u8]) -> Result<(), OpenError> {
        let known = self.pages[&number];
        let view = newest(home0, home1, self.superblock, number, known.owner);
        // A home from before the page was assigned belongs to an earlier life of its number.
        let view = view.filter(|view| known.assigned.is_none_or(|assigned| view.seq >= assigned));
        let damaged = OpenError::PageDamaged { page: number.0 };
        let Some(view) = view else {
            let Some(assigned) = known.assigned else {
                return self.missing_page(number, known.owner);
            };
            self.pages.insert(number, Known { seq: assigned - 1, ..known });
            return Ok(());
        };
        self.pages.insert(number, Known { seq: view.seq, ..known });
        match known.owner {
            PageOwner::Directory { .. } => return Err(damaged),
            PageOwner::Image { image } => {
                let found = page::decode_image(view.body).filter(|found| found.image == image).ok_or(damaged)?;
                let state = self.image(image, found.layer);
                state.layer = found.layer;
                state.meta = found.meta;
                state.state_mark = found.state_mark;
                state.suspect = found.suspect;
            }
            PageOwner::Marks { image, index } => {
                // The image's size may not be known yet, so its words are as many as the page's.
                let words = &mut self.image(image, LayerNo(image.0)).marks;
                words.resize(words.len().max((index as usize + 1) * page::MARK_WORDS), 0);
                page::decode_marks(view.body, index, words).ok_or(damaged)?;
            }
            PageOwner::Map { layer, index } => {
                let leaf = page::decode_leaf(view.body).ok_or(damaged)?;
                *self.map(layer).leaf_mut(LeafIndex(index)) = leaf;
            }
        }
        Ok(())
    }

    /// Neither home is whole, and the journal does not go back to when the page was assigned.
    fn missing_page(&mut self, number: PageNo, owner: PageOwner) -> Result<(), OpenError> {
        let PageOwner::Marks { image, index } = owner else {
            return Err(OpenError::PageDamaged { page: number.0 });
        };
        let first = index as usize * page::MARK_WORDS;
        let words = &mut self.image(image, LayerNo(image.0)).marks;
        words.resize(words.len().max(first + page::MARK_WORDS), 0);
        words[first..first + page::MARK_WORDS].fill(u64::MAX);
        Ok(())
    }

    fn image(&mut self, no: ImageNo, layer: LayerNo) -> &mut ImageState {
        let images = &mut self.committed.images;
        let at = images.iter().position(|image| image.no == no).unwrap_or_else(|| {
            images.push(ImageState {
                no,
                meta: super::state::ImageMeta::unknown(),
                layer,
                marks: Vec::new(),
                state_mark: false,
                suspect: false,
            });
            images.len() - 1
        });
        &mut images[at]
    }

    fn map(&mut self, no: LayerNo) -> &mut ExtentMap {
        let layers = &mut self.committed.layers;
        let at = layers.iter().position(|layer| layer.no == no).unwrap_or_else(|| {
            let id = dyad_units::LayerId::from_bytes([0; 16]);
            layers.push(LayerState { no, id, map: ExtentMap::default() });
            layers.len() - 1
        });
        &mut layers[at].map
    }

    /// Applies what the pages lack; tells which pages lacked something.
    fn apply_records(&mut self) -> Result<BTreeSet<PageNo>, OpenError> {
        let owners: BTreeMap<PageOwner, (PageNo, u64)> =
            self.pages.iter().map(|(&page, known)| (known.owner, (page, known.seq))).collect();
        let mut ahead = BTreeSet::new();
        for (seq, changes) in std::mem::take(&mut self.records) {
            for change in changes {
                let owner = match &change {
                    // A page that was assigned and has no content yet must be written too, before the journal is cut.
                    Change::Page { page, .. } => {
                        ahead.insert(PageNo(page.0 / page::DIRECTORY_ENTRIES as u32));
                        if self.pages.contains_key(page) {
                            ahead.insert(*page);
                        }
                        continue;
                    }
                    // Directory pages were brought up to date before; all of them are written again.
                    Change::ImageGone { .. } => {
                        ahead.extend((0..self.superblock.layout.directory_pages()).map(PageNo));
                        continue;
                    }
                    Change::Allocations { next } => {
                        self.committed.alloc_next = self.committed.alloc_next.max(*next);
                        ahead.insert(PageNo(0));
                        continue;
                    }
                    Change::Map { layer, extent, .. } => {
                        PageOwner::Map { layer: *layer, index: LeafIndex::of(*extent).0 }
                    }
                    Change::Mark { image, region, .. } if *region == dyad_units::STATE_EXTENT.region() => {
                        PageOwner::Image { image: *image }
                    }
                    Change::Mark { image, region, .. } => {
                        PageOwner::Marks { image: *image, index: region.0 / MARKS_PER_PAGE as u32 }
                    }
                    Change::Image { image, .. } | Change::Closed { image, .. } | Change::Suspect { image, .. } => {
                        if let Change::Image { layer, .. } = &change {
                            let next = image.0.max(layer.0).saturating_add(1);
                            self.committed.image_next = self.committed.image_next.max(next);
                        }
                        PageOwner::Image { image: *image }
                    }
                };
                // Without a page the image is gone by a later record.
                if let Some(&(page, loaded)) = owners.get(&owner) {
                    ahead.insert(page);
                    if seq > loaded {
                        self.apply(change);
                    }
                }
            }
        }
        Ok(ahead)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Map { layer, extent, entry } => *self.map(layer).entry_mut(extent) = entry,
            Change::Image { image, layer, meta } => self.image(image, layer).meta = *meta,
            Change::Closed { image, stamp } => self.image(image, LayerNo(image.0)).meta.closed = stamp,
            Change::Suspect { image, suspect } => self.image(image, LayerNo(image.0)).suspect = suspect,
            Change::Mark { image, region, marked } => {
                let state = self.image(image, LayerNo(image.0));
                if region == dyad_units::STATE_EXTENT.region() {
                    state.state_mark = marked;
                    return;
                }
                let (word, bit) = (region.0 as usize / 64, 1 << (region.0 % 64));
                if word >= state.marks.len() {
                    state.marks.resize(word + 1, 0);
                }
                if marked {
                    state.marks[word] |= bit;
                } else {
                    state.marks[word] &= !bit;
                }
            }
            Change::Page { .. } | Change::ImageGone { .. } | Change::Allocations { .. } => {}
        }
    }

    /// An image whose pages were assigned and whose description did not become durable any more: its making was never
    /// answered. Its pages are free.
    fn drop_unborn(&mut self) {
        let unborn = |image: ImageNo, pages: &BTreeMap<PageNo, Known>| {
            let page = pages.values().find(|known| known.owner == PageOwner::Image { image });
            page.is_some_and(|known| known.assigned.is_some())
        };
        let pages = &self.pages;
        self.committed.images.retain(|image| !(image.meta.is_unknown() && unborn(image.no, pages)));
        let images: BTreeSet<ImageNo> = self.committed.images.iter().map(|image| image.no).collect();
        let layers: BTreeSet<LayerNo> = self.committed.images.iter().map(|image| image.layer).collect();
        self.pages.retain(|_, known| match known.owner {
            PageOwner::Directory { .. } => true,
            PageOwner::Image { image } | PageOwner::Marks { image, .. } => {
                images.contains(&image) || known.assigned.is_none()
            }
            PageOwner::Map { layer, .. } => layers.contains(&layer) || known.assigned.is_none(),
        });
    }

    /// What must hold of any pool that this program wrote.
    fn check(&mut self) -> Result<(), OpenError> {
        let wrong = |what| Err(OpenError::Inconsistent { what });
        self.drop_unborn();
        for image in &mut self.committed.images {
            if image.meta.is_unknown() {
                return wrong("an image has a region log but no image page");
            }
            let regions = image.meta.size.value().div_ceil(u64::from(REGION_BYTES)) as usize;
            image.marks.resize(regions.div_ceil(64), 0);
            self.committed.image_next = self.committed.image_next.max(image.no.0.max(image.layer.0).saturating_add(1));
        }
        let mut used = vec![false; self.superblock.layout.slot_count as usize];
        for layer in &mut self.committed.layers {
            let Some(image) = self.committed.images.iter().find(|image| image.layer == layer.no) else {
                return wrong("a map belongs to no image");
            };
            layer.id = image.meta.layer;
            for (_, entry) in layer.map.entries() {
                let Some(slot) = entry.slot() else { continue };
                match used.get_mut(slot.0 as usize) {
                    None => return wrong("an extent lies beyond the disk"),
                    Some(true) => return wrong("two extents lie in one slot"),
                    Some(used) => *used = true,
                }
                self.committed.alloc_next = self.committed.alloc_next.max(entry.alloc().saturating_add(1));
                debug_assert!(entry.flags() & !LOST == 0);
            }
        }
        self.committed.directory = self.pages.iter().map(|(&page, known)| (page, known.owner)).collect();
        Ok(())
    }
}

fn belongs_to(owner: PageOwner, gone: ImageNo) -> bool {
    match owner {
        PageOwner::Directory { .. } => false,
        PageOwner::Image { image } | PageOwner::Marks { image, .. } => image == gone,
        PageOwner::Map { layer, .. } => layer.0 == gone.0,
    }
}

/// The newer whole one of two homes, if it belongs to `owner`.
fn newest<'a>(
    home0: &'a [u8],
    home1: &'a [u8],
    superblock: &Superblock,
    number: PageNo,
    owner: PageOwner,
) -> Option<PageView<'a>> {
    let whole = |bytes: &'a [u8]| page::decode(bytes, superblock.disk, number).filter(|view| view.owner == owner);
    [home0, home1].into_iter().filter_map(whole).max_by_key(|view| view.seq)
}
