//! What a request does, step by step. One [`Pool`] is driven by one thread; it waits for nothing.
//!
//! The normal course of a write: region marked? (`marks`) → slot (`space`) → entry in L → data write → bits set in
//! the live map, checksum among the dirty ones (`sums`) → answered. A flush makes it durable (`flush`): checksum
//! tables written, one data sync, one commit of the map entries that changed (`commit`). Pages are brought up
//! to date and the journal is cut by `checkpoint`.
//!
//! Live and committed state differ on purpose (P2): the map in memory holds what has been written, `shadow`
//! holds the committed entry of every extent where that differs, and only commits move one to the other.

mod admin;
mod checkpoint;
mod close;
mod commit;
mod damage;
mod doubts;
mod examine;
mod flush;
mod image;
mod marks;
mod ops;
mod pages;
mod peek;
mod poison;
mod read;
mod recovery;
mod regions;
mod resync;
mod room;
mod shortage;
mod space;
mod sums;
mod survey;
mod sync;
mod tables;
mod unmap;
mod unsettled;
mod write;

use std::collections::BTreeMap;

use dyad_contract::image::{ImageError, Reply, Request, Token};
use dyad_payload::Slab;
use dyad_units::{Extent, PoolId};

pub use admin::{AdminReply, AdminToken, IMAGE_SIZE_MAX};
pub use image::ImageHandle;
pub use peek::Peek;

use crate::config::{FormatConfig, OpenConfig};
use crate::counters::{Counters, PoolUse};
use crate::disk::{BlockingDisk, DiskDone, DiskError, DiskOp, DiskToken};
use crate::entry::Entry;
use crate::error::{FormatError, OpenError};
use crate::format::recent::Recent;
use crate::format::superblock::Superblock;
use crate::format::table::TablePage;
use crate::log::{NoLog, RecentLog};
use crate::open::{OpenReport, Start};

/// One pool on one disk; see the module's head and the crate's.
pub struct Pool {
    superblock: Superblock,
    slab: Slab,
    images: Vec<Option<image::Image>>,
    /// Committed entries of extents whose live entry has another slot, other bits or other flags.
    shadow: BTreeMap<(u32, Extent), Entry>,
    space: space::Space,
    recent: Recent,
    commits: commit::Commits,
    pages: pages::Pages,
    marking: Vec<marks::Marking>,
    sums: sums::Sums,
    fetches: Vec<tables::Fetch>,
    ops: ops::Ops,
    flusher: flush::Flusher,
    syncs: sync::Syncs,
    room: room::Room,
    shortage: shortage::Shortage,
    /// Entries of L that have to be carried on when it is cut (M3), of all images.
    carried: usize,
    /// Extents of all images that are flagged lost (P12).
    extents_lost: u64,
    damage: damage::Damage,
    doubts: doubts::Doubts,
    checkpoint: checkpoint::Checkpoint,
    admin: Vec<admin::Pending>,
    /// Records among them, which wait for changes of lower epochs.
    records_waiting: usize,
    poison: poison::Poison,
    disk_ops: Vec<DiskOp>,
    replies: Vec<(ImageHandle, Token, Reply)>,
    admin_replies: Vec<(AdminToken, AdminReply)>,
    /// One extent of zeros, shared by all reads of unwritten blocks.
    zeros_kept: Option<dyad_payload::Buf>,
    counters: Counters,
}

impl Pool {
    /// Makes a pool on a disk; what the disk held is lost.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn format(disk: &mut dyn BlockingDisk, config: &FormatConfig) -> Result<(), FormatError> {
        crate::open::format(disk, config)
    }

    /// Opens a pool after whatever happened to it, and makes it ready for requests. The caller holds an
    /// exclusive lock on the disk with the very descriptors that will carry out the pool's ops (P11).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        disk: &mut dyn BlockingDisk,
        log: Box<dyn RecentLog>,
        config: &OpenConfig,
    ) -> Result<(Self, OpenReport), OpenError> {
        crate::open::open(disk, log, config)
    }

    /// A pool as its pages and its journal say, without L.
    pub(crate) fn assemble(start: Start, slab: &Slab) -> Self {
        let Start { superblock, committed, ring, ahead, has_recent } = start;
        let layout = superblock.layout;
        let (alloc_next, image_next) = (committed.alloc_next, committed.image_next);
        let pages = pages::Pages::new(layout.page_count, &committed.directory, ahead, image_next);
        let images = image::from_committed(committed, has_recent);
        let disk = superblock.disk;
        Self {
            slab: slab.clone(),
            shadow: BTreeMap::new(),
            space: space::Space::new(layout.slot_count, alloc_next, &images),
            recent: Recent::begin(Box::new(NoLog), disk, superblock.mount),
            commits: commit::Commits::new(ring),
            pages,
            marking: Vec::new(),
            // Above everything that earlier mounts wrote; a page's own sequence is looked at too.
            sums: sums::Sums::new(layout.table_pages, superblock.mount + 1),
            fetches: Vec::new(),
            ops: ops::Ops::default(),
            flusher: flush::Flusher::default(),
            syncs: sync::Syncs::default(),
            room: room::Room::default(),
            shortage: shortage::Shortage::default(),
            carried: 0,
            extents_lost: images.iter().flatten().map(|image| image.lost().count() as u64).sum(),
            damage: damage::Damage::default(),
            doubts: doubts::Doubts::default(),
            checkpoint: checkpoint::Checkpoint::default(),
            admin: Vec::new(),
            records_waiting: 0,
            poison: poison::Poison::default(),
            disk_ops: Vec::new(),
            replies: Vec::new(),
            admin_replies: Vec::new(),
            zeros_kept: None,
            counters: Counters::default(),
            superblock,
            images,
        }
    }

    /// The pool's id.
    pub fn id(&self) -> PoolId {
        self.superblock.pool
    }

    /// The disk's description of itself (P13).
    pub fn disk_id(&self) -> dyad_units::DiskId {
        self.superblock.disk
    }

    /// Asks an image for something. Exactly one reply will come, named by `token`.
    pub fn submit(&mut self, image: ImageHandle, token: Token, request: Request) {
        let asked =
            self.usable_at(image).filter(|&at| names_extent(&request).is_none_or(|e| self.image(at).has_extent(e)));
        let Some(at) = asked else {
            // The image was deleted, or never had such an extent; only a fault of the caller can bring it here.
            self.replies.push((image, token, Reply::Failed(ImageError::Unreadable)));
            return;
        };
        match request {
            Request::Read { piece } => self.read(at, token, piece),
            Request::Write(write) => self.write(at, token, write, write::Kind::Host),
            Request::Mend(write) => self.write(at, token, write, write::Kind::Mend),
            Request::Unmap(unmap) => self.unmap(at, token, unmap, write::Kind::Host),
            Request::MendUnmap(unmap) => self.unmap(at, token, unmap, write::Kind::Mend),
            Request::Flush => self.flush_request(at, token, flush::Depth::Data),
            Request::Close { interval } => self.close_request(at, token, interval),
            Request::Closed { stamp } => self.closed_request(at, token, stamp),
            Request::Grant { credits } => self.grant(at, token, credits),
            Request::GiveBack { epoch } => self.take_back(at, token, epoch),
            Request::Reserve { piece } => self.reserve(at, token, piece),
            Request::Release { piece } => self.release(at, token, piece),
            Request::Record { epoch, record } => self.record(at, token, epoch, &record),
            Request::Survey => self.survey(at, token),
            Request::Show => self.show(at, token),
            Request::Changed { after, from } => self.changed(at, token, after, from),
            Request::Copied { extent, stamp } => self.copied(at, token, extent, stamp),
            Request::Progress { cursor, complete } => {
                self.progress(at, token, resync::Progress { cursor, complete });
            }
            Request::Examine { extent } => self.examine(at, token, extent),
            Request::Adopt { piece } => self.adopt(at, token, piece),
            Request::Settled { extent, stamp } => self.settled(at, token, extent, stamp),
        }
        self.serve_shortage();
    }

    /// The disk has carried out an op.
    pub fn complete(&mut self, token: DiskToken, result: Result<DiskDone, DiskError>) {
        match ops::Completion::of(token) {
            ops::Completion::Data(op) => self.data_done(op, result),
            ops::Completion::TableRead { page, home } => self.table_read_done(TablePage(page), home, result),
            ops::Completion::TableWrite { page } => self.table_write_done(TablePage(page), result.is_ok()),
            ops::Completion::PageWrite(_) => self.page_write_done(result.is_ok()),
            ops::Completion::Sync => self.sync_done(result.is_ok()),
            ops::Completion::Journal => self.journal_done(result.is_ok()),
        }
        if self.records_waiting > 0 {
            self.finish_admin();
        }
        self.serve_shortage();
    }

    /// Moves the ops that the disk has to carry out to `out`.
    pub fn take_disk_ops(&mut self, out: &mut Vec<DiskOp>) {
        self.pump_commits();
        out.append(&mut self.disk_ops);
    }

    /// Moves the replies that are due to `out`.
    pub fn take_replies(&mut self, out: &mut Vec<(ImageHandle, Token, Reply)>) {
        out.append(&mut self.replies);
    }

    /// Moves the answers to an administrator's changes to `out`.
    pub fn take_admin_replies(&mut self, out: &mut Vec<(AdminToken, AdminReply)>) {
        out.append(&mut self.admin_replies);
    }

    /// Does what can be done at leisure. Call it about every 100 ms: it bounds how long the last record of the
    /// journal stays without a seal, and starts the flush that keeps L from filling up.
    pub fn housekeeping(&mut self) {
        self.pump_tables();
        self.pump_checkpoint();
        self.seal_journal();
        self.make_room();
        self.checkpoint_if_due();
    }

    /// What the pool holds now.
    pub fn usage(&self) -> PoolUse {
        let regions_marked = self.images.iter().flatten().map(|image| image.regions.marked()).sum();
        PoolUse {
            slots_total: u64::from(self.superblock.layout.slot_count),
            slots_free: self.space.slots_free(),
            slots_promised: self.space.promised(),
            pages_total: u64::from(self.superblock.layout.page_count),
            pages_free: self.pages.free(),
            regions_marked,
            over_budget: self.images.iter().flatten().any(|image| image.regions.is_over_budget()),
            extents_lost: self.extents_lost,
            blocks_damaged: self.damage.blocks_now(),
            poisoned: self.poison.is_poisoned(),
            requests: self.images.iter().flatten().map(|image| u64::from(image.requests)).sum(),
        }
    }

    /// What the pool has seen since it was opened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn reply(&mut self, at: usize, token: Token, reply: Reply) {
        self.replies.push((ImageHandle::new(at), token, reply));
    }

    fn fail(&mut self, at: usize, token: Token, error: ImageError) {
        self.reply(at, token, Reply::Failed(error));
    }
}

/// The extent that a request is about.
fn names_extent(request: &Request) -> Option<Extent> {
    match request {
        Request::Read { piece }
        | Request::Reserve { piece }
        | Request::Release { piece }
        | Request::Adopt { piece } => Some(piece.extent),
        Request::Write(write) | Request::Mend(write) => Some(write.piece.extent),
        Request::Unmap(unmap) | Request::MendUnmap(unmap) => Some(unmap.piece.extent),
        Request::Examine { extent } | Request::Settled { extent, .. } | Request::Copied { extent, .. } => Some(*extent),
        Request::Flush
        | Request::Close { .. }
        | Request::Closed { .. }
        | Request::Grant { .. }
        | Request::GiveBack { .. }
        | Request::Record { .. }
        | Request::Survey
        | Request::Show
        | Request::Changed { .. }
        | Request::Progress { .. } => None,
    }
}
