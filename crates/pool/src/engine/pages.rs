//! Who owns which metadata page, and which pages the journal is ahead of.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::page::{DIRECTORY_ENTRIES, MARKS_PER_PAGE};
use crate::format::state::{Change, ImageNo, LayerNo, PageNo, PageOwner};
use crate::map::LeafIndex;

pub(super) struct Pages {
    by_owner: BTreeMap<PageOwner, PageNo>,
    by_page: BTreeMap<PageNo, PageOwner>,
    free: Vec<PageNo>,
    /// Pages whose homes lack something that is in the journal or on its way there.
    dirty: BTreeSet<PageNo>,
}

impl Pages {
    /// `ahead`: pages whose homes lack something that the journal has.
    pub(super) fn new(count: u32, directory: &BTreeMap<PageNo, PageOwner>, ahead: BTreeSet<PageNo>) -> Self {
        let fixed = count.div_ceil(DIRECTORY_ENTRIES as u32);
        let mut by_page = directory.clone();
        by_page.extend((0..fixed).map(|index| (PageNo(index), PageOwner::Directory { index })));
        let by_owner = by_page.iter().map(|(&page, &owner)| (owner, page)).collect();
        // Highest first, so that the lowest is taken first and pages lie close together.
        let free = (fixed..count).rev().map(PageNo).filter(|page| !directory.contains_key(page)).collect();
        Self { by_owner, by_page, free, dirty: ahead }
    }

    pub(super) fn free(&self) -> u64 {
        self.free.len() as u64
    }

    pub(super) fn has(&self, owner: PageOwner) -> bool {
        self.by_owner.contains_key(&owner)
    }

    pub(super) fn owner(&self, page: PageNo) -> Option<PageOwner> {
        self.by_page.get(&page).copied()
    }

    pub(super) fn assign(&mut self, owner: PageOwner) -> Option<PageNo> {
        let page = self.free.pop()?;
        self.by_owner.insert(owner, page);
        self.by_page.insert(page, owner);
        Some(page)
    }

    /// Takes the pages of an image that is gone out of the directory. They may be used again once that is durable.
    pub(super) fn disown(&mut self, image: ImageNo, layer: LayerNo) -> Vec<PageNo> {
        let mut disowned = Vec::new();
        self.by_page.retain(|&page, &mut owner| {
            let gone = match owner {
                PageOwner::Directory { .. } => false,
                PageOwner::Image { image: of } | PageOwner::Marks { image: of, .. } => of == image,
                PageOwner::Map { layer: of, .. } => of == layer,
            };
            if gone {
                self.by_owner.remove(&owner);
                self.dirty.remove(&page);
                disowned.push(page);
            }
            !gone
        });
        for &page in &disowned {
            self.dirty.insert(directory_page(page));
        }
        disowned
    }

    pub(super) fn release(&mut self, mut pages: Vec<PageNo>) {
        self.free.append(&mut pages);
    }

    /// Owners of the pages that the directory page `index` names, by place in it.
    pub(super) fn directory(&self, index: u32) -> impl Iterator<Item = (usize, PageOwner)> + '_ {
        let first = index * DIRECTORY_ENTRIES as u32;
        let pages = PageNo(first)..PageNo(first + DIRECTORY_ENTRIES as u32);
        self.by_page.range(pages).map(move |(page, &owner)| ((page.0 - first) as usize, owner))
    }

    /// Notes which page a change belongs to.
    pub(super) fn touch(&mut self, change: &Change) {
        let owner = match change {
            Change::Map { layer, extent, .. } => PageOwner::Map { layer: *layer, index: LeafIndex::of(*extent).0 },
            Change::Mark { image, region, .. } if *region == dyad_units::STATE_EXTENT.region() => {
                PageOwner::Image { image: *image }
            }
            Change::Mark { image, region, .. } => {
                PageOwner::Marks { image: *image, index: region.0 / MARKS_PER_PAGE as u32 }
            }
            Change::Image { image, .. } | Change::Closed { image, .. } => PageOwner::Image { image: *image },
            Change::Page { page, .. } => {
                self.dirty.insert(directory_page(*page));
                self.dirty.insert(*page);
                return;
            }
            Change::ImageGone { .. } => return,
            // The bound of allocation numbers stands in the first directory page.
            Change::Allocations { .. } => PageOwner::Directory { index: 0 },
        };
        if let Some(&page) = self.by_owner.get(&owner) {
            self.dirty.insert(page);
        }
    }

    pub(super) fn take_dirty(&mut self) -> Vec<PageNo> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }
}

fn directory_page(page: PageNo) -> PageNo {
    PageNo(page.0 / DIRECTORY_ENTRIES as u32)
}
