//! The flusher (A2, P2, P11): one round at a time makes durable what was written before it began.
//!
//! ```text
//!  Idle ─▶ Tables ─▶ Sync ─▶ Commit ─▶ Idle
//!          dirty     one     map entries   answers, freed slots, L cut
//!          checksums  data    that changed
//!          written    sync
//! ```
//!
//! A round takes its map entries and its checksums when it begins. So a commit carries only bits whose data was complete
//! before the sync started (P2), and every flushed block's checksum is as durable as its data. Requests that come
//! meanwhile share the next round. The first error poisons the disk before anything is answered (P11).

use dyad_contract::image::{ImageError, Reply, Token};
use dyad_units::Extent;

use crate::disk::DiskOp;
use crate::engine::Pool;
use crate::engine::admin::AdminToken;
use crate::engine::ops::Completion;
use crate::engine::resync::Progress;
use crate::entry::{Entry, MAP_DIRTY, STAMP_DIRTY, Slot};
use crate::format::page::PAGE_BYTES;
use crate::format::table::TablePage;

/// Table pages of one round being written at a time: enough to keep a disk busy, few enough not to hold much memory.
const TABLE_WRITES_MAX: usize = 64;

/// How much a flush makes durable.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Depth {
    #[default]
    /// Data, checksums, and map entries whose slot or bits changed (A2).
    Data,
    /// The stamps of overwrites too (M4).
    Stamps,
}

/// Who wants to know when a round is done.
pub(super) enum Waiter {
    Request {
        at: usize,
        token: Token,
    },
    /// Everything of the image was compared (M11); its stamps are durable then.
    Compared {
        at: usize,
        token: Token,
    },
    /// Everything below the cursor of a resync is durable then (M15).
    Progress {
        at: usize,
        token: Token,
        progress: Progress,
    },
    /// The pool is to be stopped.
    Stop(AdminToken),
    /// Room in L, free slots, dirty checksums: nobody is answered.
    Housekeeping,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// Pages are written; then the sync.
    Tables,
    Sync,
    /// Done when the journal has this many changes.
    Commit {
        durable_at: u64,
    },
}

/// Not handed to the journal so far.
const NOT_YET: u64 = u64::MAX;

/// An entry as a round commits it.
struct Committing {
    at: usize,
    extent: Extent,
    entry: Entry,
    /// It is committed once the journal has this many changes.
    durable_at: u64,
}

#[derive(Default)]
pub(super) struct Flusher {
    stage: Stage,
    /// A round is being begun or ended further up the stack.
    is_pumping: bool,
    now: Vec<Waiter>,
    next: Vec<Waiter>,
    next_depth: Option<Depth>,
    /// Writes since the last round began.
    unsynced: bool,
    snapshot: Vec<Committing>,
    /// How many of the snapshot are committed.
    committed: usize,
    giving_up: Vec<Slot>,
    depth: Depth,
    recent_cut: u64,
    /// Table pages to write, from the end.
    tables: Vec<TablePage>,
    tables_writing: usize,
}

impl Flusher {
    pub(super) fn note_unsynced(&mut self) {
        self.unsynced = true;
    }

    /// The round under way frees slots.
    pub(super) fn is_freeing(&self) -> bool {
        !self.giving_up.is_empty()
    }

    /// No round is under way, so that nothing refers to an image.
    pub(super) fn is_between_rounds(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }
}

impl Pool {
    pub(super) fn flush_request(&mut self, at: usize, token: Token, depth: Depth) {
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        self.image_mut(at).requests += 1;
        self.flush_for(Waiter::Request { at, token }, depth);
    }

    pub(super) fn flush_for(&mut self, waiter: Waiter, depth: Depth) {
        self.flusher.next.push(waiter);
        self.flusher.next_depth = self.flusher.next_depth.max(Some(depth));
        self.pump_flusher();
    }

    pub(super) fn start_flush_for_housekeeping(&mut self) {
        if self.poison.is_poisoned() || self.flusher.next.iter().any(|waiter| matches!(waiter, Waiter::Housekeeping)) {
            return;
        }
        self.flush_for(Waiter::Housekeeping, Depth::Stamps);
    }

    /// Ends the round whose commit is durable and begins the next that somebody waits for. What that sets going may want
    /// further rounds: they are begun here, not deeper down the stack.
    pub(super) fn pump_flusher(&mut self) {
        if std::mem::replace(&mut self.flusher.is_pumping, true) {
            return;
        }
        while !self.poison.is_poisoned() {
            match self.flusher.stage {
                Stage::Idle if !self.flusher.next.is_empty() => self.begin_round(),
                Stage::Commit { durable_at } if durable_at <= self.commits.durable() => self.finish_round(),
                _ => break,
            }
        }
        self.flusher.is_pumping = false;
    }

    fn begin_round(&mut self) {
        std::mem::swap(&mut self.flusher.now, &mut self.flusher.next);
        self.flusher.depth = self.flusher.next_depth.take().unwrap_or_default();
        self.flusher.recent_cut = self.recent_cut();
        self.take_snapshot();
        self.space.take_giving_up(&mut self.flusher.giving_up);
        self.sums.begin_writing(&mut self.flusher.tables);
        if !std::mem::take(&mut self.flusher.unsynced) && self.flusher.tables.is_empty() {
            return self.commit_round();
        }
        self.flusher.stage = Stage::Tables;
        self.pump_tables();
    }

    /// Where L may be cut when all that is complete now is durable.
    pub(super) fn recent_cut(&self) -> u64 {
        self.ops.oldest_recent().unwrap_or_else(|| self.recent.position())
    }

    /// The entries that the round commits, as they are now: bits of completed writes only.
    fn take_snapshot(&mut self) {
        let with_stamps = self.flusher.depth == Depth::Stamps;
        let taken = if with_stamps { MAP_DIRTY | STAMP_DIRTY } else { MAP_DIRTY };
        let snapshot = &mut self.flusher.snapshot;
        for (at, image) in self.images.iter_mut().enumerate() {
            let Some(image) = image else { continue };
            let lists = [Some(&mut image.map_dirty), with_stamps.then_some(&mut image.stamp_dirty)];
            for extent in lists.into_iter().flatten().flat_map(|list| list.drain(..)) {
                let entry = image.map.entry_mut(extent);
                // An extent may be listed twice, for its bits and for its stamp.
                if entry.has(taken) {
                    entry.clear(taken);
                    let (entry, durable_at) = (entry.durable(), NOT_YET);
                    snapshot.push(Committing { at, extent, entry, durable_at });
                }
            }
        }
    }

    /// Writes the next table pages; goes on to the sync when all are written. Also called at leisure, because buffers may
    /// have run out before.
    pub(super) fn pump_tables(&mut self) {
        if !matches!(self.flusher.stage, Stage::Tables) {
            return;
        }
        while self.flusher.tables_writing < TABLE_WRITES_MAX {
            let Some(&page) = self.flusher.tables.last() else {
                if self.flusher.tables_writing == 0 {
                    self.flusher.stage = Stage::Sync;
                    self.sync_for_round();
                }
                return;
            };
            if self.sums.page(page).is_none() {
                return self.fetch_table(page, None);
            }
            let Ok(buf) = self.slab.take(PAGE_BYTES) else { return };
            self.flusher.tables.pop();
            self.flusher.tables_writing += 1;
            let (home, bytes) = self.sums.patched(page, self.superblock.disk, buf);
            let token = Completion::TableWrite { page: page.0 }.token();
            let offset = self.superblock.layout.table_offset(home, page);
            self.disk_ops.push(DiskOp::Write { token, offset, data: bytes.into() });
        }
    }

    pub(super) fn table_write_done(&mut self, page: TablePage, ok: bool) {
        self.sums.written(page);
        if !ok {
            return self.poison_now();
        }
        if matches!(self.flusher.stage, Stage::Tables) {
            self.flusher.tables_writing -= 1;
            self.pump_tables();
        }
    }

    /// The data is durable: now its map entries may be (P2).
    pub(super) fn round_is_synced(&mut self) {
        self.sums.finish_writing();
        self.commit_round();
        self.pump_flusher();
    }

    fn commit_round(&mut self) {
        let mut snapshot = std::mem::take(&mut self.flusher.snapshot);
        for change in &mut snapshot {
            change.durable_at = self.enqueue_entry(change.at, change.extent, change.entry);
        }
        // A slot that was given up is free when nothing committed refers to it (P3). Of an image that is being deleted no
        // entry is committed any more, but that it is gone: that is on its way by now.
        let has_changes = !snapshot.is_empty() || !self.flusher.giving_up.is_empty();
        let durable_at = if has_changes { self.commits.enqueued() } else { 0 };
        self.flusher.snapshot = snapshot;
        self.flusher.stage = Stage::Commit { durable_at };
    }

    /// The journal grew: what of the round it has now is committed. A page that is written from here on has it too.
    pub(super) fn advance_committed(&mut self) {
        let durable = self.commits.durable();
        let rest = &self.flusher.snapshot[self.flusher.committed..];
        for Committing { at, extent, entry, .. } in rest.iter().take_while(|change| change.durable_at <= durable) {
            self.flusher.committed += 1;
            let live = self.images[*at].as_ref().map(|image| image.map.entry(*extent));
            if live.is_some_and(|live| live.has(MAP_DIRTY)) {
                self.shadow.insert((*at as u32, *extent), *entry);
            } else {
                self.shadow.remove(&(*at as u32, *extent));
            }
        }
    }

    fn finish_round(&mut self) {
        self.advance_committed();
        self.flusher.stage = Stage::Idle;
        self.flusher.snapshot.clear();
        self.flusher.committed = 0;
        self.space.freed(&mut self.flusher.giving_up, &self.ops);
        // L is all that knows the stamps of overwrites until they are committed, so only a round that commits them
        // cuts it; after another one its entries are still needed, but not their blocks any more.
        match self.flusher.depth {
            Depth::Data => self.recent.note_flushed(self.flusher.recent_cut),
            Depth::Stamps => self.cut_recent(self.flusher.recent_cut),
        }
        let mut now = std::mem::take(&mut self.flusher.now);
        for waiter in now.drain(..) {
            match waiter {
                Waiter::Request { at, token } => self.finish_change(at, token, Reply::Done),
                Waiter::Compared { at, token } => self.proved(at, token),
                Waiter::Progress { at, token, progress } => self.progress_flushed(at, token, progress),
                Waiter::Stop(token) => self.stop_flushed(token),
                Waiter::Housekeeping => {}
            }
        }
        self.flusher.now = now;
        self.resume_held();
        self.finish_admin();
        self.checkpoint_if_due();
    }

    /// After poisoning: whoever waits for a flush is told, and nothing more is flushed.
    pub(super) fn fail_flushes(&mut self) {
        self.flusher.stage = Stage::Idle;
        let now = std::mem::take(&mut self.flusher.now);
        let next = std::mem::take(&mut self.flusher.next);
        for waiter in now.into_iter().chain(next) {
            match waiter {
                Waiter::Request { at, token } | Waiter::Compared { at, token } | Waiter::Progress { at, token, .. } => {
                    self.finish_change(at, token, Reply::Failed(ImageError::Poisoned));
                }
                Waiter::Stop(token) => self.fail_stop(token),
                Waiter::Housekeeping => {}
            }
        }
        self.resume_held();
    }
}
