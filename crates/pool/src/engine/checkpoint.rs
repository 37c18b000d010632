//! Bringing metadata pages up to date, so that the journal can be cut.
//!
//! Every page that the journal is ahead of is written to its first home; a sync makes that durable; then to its second
//! home, and another sync. Only then is the journal cut. So at every moment one home of each page is whole and the journal
//! has all that it lacks, and a home that rots later never lets an older state pass for the newest.
//!
//! A page is taken when a record that changes it is durable, not before: what it is written with is then at least that
//! record. It says that it has everything up to the newest durable record, so its entries are those of durable records,
//! not one of them missing; only stamps, marks and what is kept of an image may be newer, where newer does no harm.

use crate::disk::DiskOp;
use crate::engine::Pool;
use crate::engine::ops::Completion;
use crate::entry::Entry;
use crate::format::page::{self, PAGE_BYTES};
use crate::format::state::{PageNo, PageOwner};
use crate::map::{LEAF_ENTRIES, LeafIndex};

/// Pages being written at a time.
const PAGE_WRITES_MAX: usize = 64;

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// Writing to a home: what is left (from the end), how many are on their way.
    Writing { home: usize, left: usize, writing: usize },
    /// Waiting for a sync.
    Syncing { home: usize },
}

#[derive(Default)]
pub(super) struct Checkpoint {
    stage: Stage,
    pages: Vec<PageNo>,
    /// Records up to this one are in the pages.
    covers: u64,
    wanted: bool,
    writes: u64,
    done: u64,
}

impl Checkpoint {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Whether one is under way that writes the page.
    pub(super) fn writes(&self, page: PageNo) -> bool {
        !self.is_idle() && self.pages.contains(&page)
    }

    /// How many were finished.
    pub(super) fn done(&self) -> u64 {
        self.done
    }
}

impl Pool {
    /// Starts a checkpoint at the next occasion even if the journal has room.
    pub(super) fn want_checkpoint(&mut self) {
        self.checkpoint.wanted = true;
        self.checkpoint_if_due();
    }

    pub(super) fn checkpoint_if_due(&mut self) {
        let filling = self.commits.ring.used() > self.commits.ring.capacity() / 2;
        if !(filling || self.checkpoint.wanted) || !self.checkpoint.is_idle() || self.poison.is_poisoned() {
            return;
        }
        self.checkpoint.wanted = false;
        // What a record in flight changes is taken next time: that record stays in the journal.
        self.checkpoint.covers = self.commits.seq_durable;
        self.checkpoint.pages = self.pages.take_dirty();
        self.checkpoint.stage = Stage::Writing { home: 0, left: self.checkpoint.pages.len(), writing: 0 };
        self.pump_checkpoint();
    }

    /// Writes the next pages. Also called at leisure, because buffers may have run out before.
    pub(super) fn pump_checkpoint(&mut self) {
        loop {
            let Stage::Writing { home, left, writing } = &mut self.checkpoint.stage else { return };
            if *writing >= PAGE_WRITES_MAX {
                return;
            }
            if *left == 0 {
                if *writing == 0 {
                    self.checkpoint.stage = Stage::Syncing { home: *home };
                    self.sync_for_checkpoint();
                }
                return;
            }
            let (home, page) = (*home, self.checkpoint.pages[*left - 1]);
            let Ok(buf) = self.slab.take(PAGE_BYTES) else {
                // Goes on when a page write, or the next housekeeping, comes by.
                return;
            };
            *left -= 1;
            if let Some(owner) = self.pages.owner(page) {
                *writing += 1;
                self.write_page(home, page, owner, buf);
            }
        }
    }

    fn write_page(&mut self, home: usize, page: PageNo, owner: PageOwner, mut buf: dyad_payload::BufMut) {
        let (disk, seq) = (self.superblock.disk, self.commits.seq_durable);
        page::encode(&mut buf, disk, page, owner, seq, |body| self.page_body(owner, body));
        self.checkpoint.writes += 1;
        let token = Completion::PageWrite(self.checkpoint.writes).token();
        let offset = self.superblock.layout.page_offset(home, page);
        self.disk_ops.push(DiskOp::Write { token, offset, data: buf.freeze().into() });
    }

    /// The committed state of what the page holds.
    fn page_body(&self, owner: PageOwner, body: &mut [u8]) {
        match owner {
            PageOwner::Directory { index } => {
                let (alloc_next, image_next) = (self.space.allocations_promised(), self.pages.image_next());
                page::encode_directory(self.pages.directory(index), alloc_next, image_next, body);
            }
            PageOwner::Image { image } => {
                if let Some(image) = self.images.iter().flatten().find(|open| open.no == image) {
                    let (number, state_mark) = ((image.no, image.layer), image.regions.committed_state_mark());
                    page::encode_image(number, &image.meta, state_mark, image.suspect, body);
                }
            }
            PageOwner::Marks { image, index } => {
                if let Some(image) = self.images.iter().flatten().find(|open| open.no == image) {
                    page::encode_marks(image.regions.committed_part(index), body);
                }
            }
            PageOwner::Map { layer, index } => {
                let open = self.images.iter().position(|open| open.as_ref().is_some_and(|open| open.layer == layer));
                if let Some(at) = open {
                    page::encode_leaf(&self.committed_leaf(at, LeafIndex(index)), body);
                }
            }
        }
    }

    /// A leaf as committed. A stamp may be newer than committed: it only ever claims more to be new (M13).
    fn committed_leaf(&self, at: usize, index: LeafIndex) -> crate::map::Leaf {
        let mut leaf = match self.image(at).map.leaf(index) {
            Some(leaf) => *leaf,
            None => [Entry::ABSENT; LEAF_ENTRIES as usize],
        };
        let last = index.extent(LEAF_ENTRIES as usize - 1).unwrap_or(dyad_units::STATE_EXTENT);
        if let Some(first) = index.extent(0) {
            let aside = self.shadow.range((at as u32, first)..=(at as u32, last));
            for (&(_, extent), &entry) in aside {
                leaf[(extent.0 % LEAF_ENTRIES) as usize] = entry;
            }
        }
        leaf
    }

    pub(super) fn page_write_done(&mut self, ok: bool) {
        if !ok {
            return self.poison_now();
        }
        if self.poison.is_poisoned() {
            return;
        }
        if let Stage::Writing { writing, .. } = &mut self.checkpoint.stage {
            *writing -= 1;
            self.pump_checkpoint();
        }
    }

    /// A sync that began after the pages were written is done.
    pub(super) fn checkpoint_is_durable(&mut self) {
        let Stage::Syncing { home } = self.checkpoint.stage else { return };
        if home == 0 {
            self.checkpoint.stage = Stage::Writing { home: 1, left: self.checkpoint.pages.len(), writing: 0 };
            return self.pump_checkpoint();
        }
        self.checkpoint.stage = Stage::Idle;
        self.checkpoint.pages.clear();
        self.checkpoint.done += 1;
        self.counters.checkpoints += 1;
        self.commits.ring.trim_before(self.checkpoint.covers + 1);
        self.finish_admin();
        self.checkpoint_if_due();
    }

    /// After poisoning: no page is written any more, and the journal keeps what it has.
    pub(super) fn abandon_checkpoint(&mut self) {
        self.checkpoint.stage = Stage::Idle;
        self.checkpoint.wanted = false;
    }
}
