//! Who owns which metadata page, and which pages the journal is ahead of.
//!
//! Directory pages show what the journal has, never what is only on its way there: a page that the directory names before
//! its assignment is durable would be missed after a crash, and one that it no longer names would take its image apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::page::{DIRECTORY_ENTRIES, MARKS_PER_PAGE};
use crate::format::state::{Change, ImageNo, LayerNo, PageNo, PageOwner};
use crate::map::LeafIndex;

pub(super) struct Pages {
    by_owner: BTreeMap<PageOwner, PageNo>,
    by_page: BTreeMap<PageNo, PageOwner>,
    free: Vec<PageNo>,
    /// Pages whose homes lack something that the journal has.
    dirty: BTreeSet<PageNo>,
    /// Assigned, but the journal does not have it yet.
    fresh: BTreeSet<PageNo>,
    /// Of images that are gone, but the journal does not say so yet.
    leaving: BTreeMap<PageNo, (ImageNo, PageOwner)>,
    image_next: u32,
}

impl Pages {
    /// `ahead`: pages whose homes lack something that the journal has.
    pub(super) fn new(
        count: u32,
        directory: &BTreeMap<PageNo, PageOwner>,
        ahead: BTreeSet<PageNo>,
        image_next: u32,
    ) -> Self {
        let fixed = count.div_ceil(DIRECTORY_ENTRIES as u32);
        let mut by_page = directory.clone();
        by_page.extend((0..fixed).map(|index| (PageNo(index), PageOwner::Directory { index })));
        let by_owner = by_page.iter().map(|(&page, &owner)| (owner, page)).collect();
        // Highest first, so that the lowest is taken first and pages lie close together.
        let free = (fixed..count).rev().map(PageNo).filter(|page| !directory.contains_key(page)).collect();
        let (fresh, leaving) = (BTreeSet::new(), BTreeMap::new());
        Self { by_owner, by_page, free, dirty: ahead, fresh, leaving, image_next: image_next.max(1) }
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

    /// A number that no image and no layer of this pool ever had.
    pub(super) fn number_image(&mut self) -> u32 {
        let number = self.image_next;
        self.image_next = number.checked_add(1).expect("four billion images are more than a pool sees");
        number
    }

    /// Every number of an image or layer so far is below this.
    pub(super) fn image_next(&self) -> u32 {
        self.image_next
    }

    pub(super) fn assign(&mut self, owner: PageOwner) -> Option<PageNo> {
        let page = self.free.pop()?;
        self.by_owner.insert(owner, page);
        self.by_page.insert(page, owner);
        self.fresh.insert(page);
        Some(page)
    }

    /// Pages of the image.
    pub(super) fn of(&self, image: ImageNo, layer: LayerNo) -> impl Iterator<Item = PageNo> + '_ {
        self.by_page.iter().filter(move |(_, owner)| is_of(**owner, image, layer)).map(|(&page, _)| page)
    }

    /// Whether the page's homes lack something that the journal has.
    pub(super) fn is_behind(&self, page: PageNo) -> bool {
        self.dirty.contains(&page)
    }

    /// The image's pages are nobody's, and may be used again once the journal says that it is gone. Their homes lack nothing
    /// that the journal has: nobody writes them any more, and until then whoever opens the pool reads them.
    pub(super) fn disown(&mut self, image: ImageNo, layer: LayerNo) {
        let Self { by_owner, by_page, leaving, .. } = self;
        by_page.retain(|&page, &mut owner| {
            let gone = is_of(owner, image, layer);
            if gone {
                by_owner.remove(&owner);
                leaving.insert(page, (image, owner));
            }
            !gone
        });
    }

    /// Owners of the pages that the directory page `index` names, by place in it, as far as the journal knows.
    pub(super) fn directory(&self, index: u32) -> impl Iterator<Item = (usize, PageOwner)> + '_ {
        let first = index * DIRECTORY_ENTRIES as u32;
        let pages = PageNo(first)..PageNo(first + DIRECTORY_ENTRIES as u32);
        let owned = self.by_page.range(pages.clone()).map(|(&page, &owner)| (page, owner));
        let leaving = self.leaving.range(pages).map(|(&page, &(_, owner))| (page, owner));
        let known = owned.chain(leaving).filter(|(page, _)| !self.fresh.contains(page));
        known.map(move |(page, owner)| ((page.0 - first) as usize, owner))
    }

    /// The journal has the change: from now on its page lacks something.
    pub(super) fn committed(&mut self, change: &Change) {
        let owner = match change {
            Change::Map { layer, extent, .. } => PageOwner::Map { layer: *layer, index: LeafIndex::of(*extent).0 },
            Change::Mark { image, region, .. } if *region == dyad_units::STATE_EXTENT.region() => {
                PageOwner::Image { image: *image }
            }
            Change::Mark { image, region, .. } => {
                PageOwner::Marks { image: *image, index: region.0 / MARKS_PER_PAGE as u32 }
            }
            Change::Image { image, .. } | Change::Closed { image, .. } | Change::Suspect { image, .. } => {
                // Numbers of images stand in the directory too.
                self.dirty.insert(PageNo(0));
                PageOwner::Image { image: *image }
            }
            Change::Page { page, .. } => {
                self.fresh.remove(page);
                self.dirty.insert(directory_page(*page));
                if self.by_page.contains_key(page) {
                    self.dirty.insert(*page);
                }
                return;
            }
            Change::ImageGone { image } => return self.release(*image),
            // The bound of allocation numbers stands in the first directory page.
            Change::Allocations { .. } => PageOwner::Directory { index: 0 },
        };
        if let Some(&page) = self.by_owner.get(&owner) {
            self.dirty.insert(page);
        }
    }

    fn release(&mut self, image: ImageNo) {
        let Self { leaving, dirty, free, fresh, .. } = self;
        leaving.retain(|&page, &mut (of, _)| {
            if of == image {
                dirty.insert(directory_page(page));
                fresh.remove(&page);
                free.push(page);
            }
            of != image
        });
    }

    pub(super) fn take_dirty(&mut self) -> Vec<PageNo> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    /// The owner's page, if the journal does not know yet that it has it.
    pub(super) fn uncommitted(&self, owner: PageOwner) -> Option<PageNo> {
        self.by_owner.get(&owner).copied().filter(|page| self.fresh.contains(page))
    }
}

fn is_of(owner: PageOwner, image: ImageNo, layer: LayerNo) -> bool {
    match owner {
        PageOwner::Directory { .. } => false,
        PageOwner::Image { image: of } | PageOwner::Marks { image: of, .. } => of == image,
        PageOwner::Map { layer: of, .. } => of == layer,
    }
}

fn directory_page(page: PageNo) -> PageNo {
    PageNo(page.0 / DIRECTORY_ENTRIES as u32)
}
