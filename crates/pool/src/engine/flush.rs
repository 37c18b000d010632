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
use crate::engine::ops::Completion;
use crate::engine::write::Held;
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
    /// The checkpoint's pages are durable.
    Checkpoint,
    /// Room in L, free slots, dirty checksums: nobody is answered.
    Housekeeping,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// Pages to write, those being written or fetched.
    Tables {
        left: Vec<TablePage>,
        fetching: Option<TablePage>,
        writing: usize,
    },
    Sync,
    /// Done when the journal has this many changes.
    Commit {
        durable_at: u64,
    },
}

/// An entry as a round commits it.
type Snapshot = (usize, Extent, Entry);

#[derive(Default)]
pub(super) struct Flusher {
    stage: Stage,
    now: Vec<Waiter>,
    next: Vec<Waiter>,
    next_depth: Option<Depth>,
    /// Writes since the last round began.
    unsynced: bool,
    snapshot: Vec<Snapshot>,
    giving_up: Vec<Slot>,
    depth: Depth,
    recent_cut: u64,
    held: Vec<Held>,
    table_writes: u64,
}

impl Flusher {
    pub(super) fn note_unsynced(&mut self) {
        self.unsynced = true;
    }

    pub(super) fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    pub(super) fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.next.is_empty()
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
        self.begin_round();
    }

    pub(super) fn start_flush_for_housekeeping(&mut self) {
        if self.poison.is_poisoned() || self.flusher.next.iter().any(|waiter| matches!(waiter, Waiter::Housekeeping)) {
            return;
        }
        self.flush_for(Waiter::Housekeeping, Depth::Stamps);
    }

    fn begin_round(&mut self) {
        if !matches!(self.flusher.stage, Stage::Idle) || self.flusher.next.is_empty() {
            return;
        }
        self.flusher.now = std::mem::take(&mut self.flusher.next);
        let depth = self.flusher.next_depth.take().unwrap_or(Depth::Data);
        self.flusher.depth = depth;
        self.flusher.recent_cut = self.ops.oldest_recent().unwrap_or_else(|| self.recent.position());
        self.flusher.snapshot = self.take_snapshot(depth);
        self.flusher.giving_up = self.space.take_giving_up();
        let left = self.sums.begin_writing();
        let checkpoint = self.flusher.now.iter().any(|waiter| matches!(waiter, Waiter::Checkpoint));
        let unsynced = std::mem::take(&mut self.flusher.unsynced) || checkpoint;
        if left.is_empty() && !unsynced {
            return self.commit_round();
        }
        self.flusher.stage = Stage::Tables { left, fetching: None, writing: 0 };
        self.pump_tables();
    }

    /// The entries that the round commits, as they are now: bits of completed writes only.
    fn take_snapshot(&mut self, depth: Depth) -> Vec<Snapshot> {
        let taken = if depth == Depth::Stamps { MAP_DIRTY | STAMP_DIRTY } else { MAP_DIRTY };
        let mut snapshot = Vec::new();
        for (at, image) in self.images.iter_mut().enumerate() {
            let Some(image) = image else { continue };
            let mut extents = std::mem::take(&mut image.map_dirty);
            if depth == Depth::Stamps {
                extents.append(&mut image.stamp_dirty);
            }
            for extent in extents.drain(..) {
                let entry = image.map.entry_mut(extent);
                // An extent may be listed twice, for its bits and for its stamp.
                if entry.has(taken) {
                    entry.clear(taken);
                    snapshot.push((at, extent, entry.durable()));
                }
            }
            image.map_dirty = extents;
        }
        snapshot
    }

    /// Writes the next table pages; goes on to the sync when all are written.
    pub(super) fn pump_tables(&mut self) {
        loop {
            let Stage::Tables { left, fetching, writing } = &mut self.flusher.stage else { return };
            if *writing >= TABLE_WRITES_MAX {
                return;
            }
            let Some(page) = fetching.take().or_else(|| left.pop()) else {
                if *writing == 0 {
                    self.flusher.stage = Stage::Sync;
                    self.counters.syncs += 1;
                    self.disk_ops.push(DiskOp::Sync { token: Completion::Sync.token() });
                }
                return;
            };
            if self.sums.cached(page).is_none() {
                *fetching = Some(page);
                return self.fetch_table(page, None);
            }
            let Ok(buf) = self.slab.take(PAGE_BYTES) else {
                *fetching = Some(page);
                // Buffers come back when writes complete; whoever completes next tries again.
                return;
            };
            *writing += 1;
            self.flusher.table_writes += 1;
            let token = Completion::TableWrite(self.flusher.table_writes).token();
            let (home, bytes) = self.sums.patched(page, self.superblock.disk, buf);
            let offset = self.superblock.layout.table_offset(home, page);
            self.disk_ops.push(DiskOp::Write { token, offset, data: bytes.into() });
        }
    }

    pub(super) fn table_write_done(&mut self, ok: bool) {
        if !ok {
            return self.poison_now();
        }
        if let Stage::Tables { writing, .. } = &mut self.flusher.stage {
            *writing -= 1;
            self.pump_tables();
        }
    }

    pub(super) fn sync_done(&mut self, ok: bool) {
        if !ok {
            return self.poison_now();
        }
        if !matches!(self.flusher.stage, Stage::Sync) {
            return;
        }
        self.sums.finish_writing();
        self.commit_round();
    }

    /// The data is durable: now its map entries may be (P2).
    fn commit_round(&mut self) {
        let snapshot = std::mem::take(&mut self.flusher.snapshot);
        let mut durable_at = self.commits.enqueued();
        if snapshot.is_empty() {
            durable_at = 0;
        }
        for &(at, extent, entry) in &snapshot {
            durable_at = self.enqueue_entry(at, extent, entry);
        }
        self.flusher.snapshot = snapshot;
        self.flusher.stage = Stage::Commit { durable_at };
        self.finish_round_if_committed();
    }

    /// The journal grew.
    pub(super) fn finish_round_if_committed(&mut self) {
        let Stage::Commit { durable_at } = self.flusher.stage else { return };
        if durable_at > self.commits.durable() {
            return;
        }
        self.flusher.stage = Stage::Idle;
        for (at, extent, entry) in std::mem::take(&mut self.flusher.snapshot) {
            if self.image(at).map.entry(extent).has(MAP_DIRTY) {
                self.shadow.insert((at as u32, extent), entry);
            } else {
                self.shadow.remove(&(at as u32, extent));
            }
        }
        let freed = std::mem::take(&mut self.flusher.giving_up);
        let ops = &self.ops;
        self.space.freed(freed.into_iter(), |slot| ops.uses_slot(slot));
        // L is all that knows the stamps of overwrites until they are committed, so only a round that commits them
        // cuts it; after another one its entries are still needed, but not their blocks any more.
        match self.flusher.depth {
            Depth::Data => self.recent.note_flushed(self.flusher.recent_cut),
            Depth::Stamps => self.recent.trim(self.flusher.recent_cut),
        }
        for waiter in std::mem::take(&mut self.flusher.now) {
            match waiter {
                Waiter::Request { at, token } => self.finish_change(at, token, Reply::Done),
                Waiter::Checkpoint => self.checkpoint_is_durable(),
                Waiter::Housekeeping => {}
            }
        }
        self.resume_held();
        self.finish_admin();
        self.checkpoint_if_due();
        self.begin_round();
    }

    /// A slot whose last read or write has just ended may be free now (P3).
    pub(super) fn retry_frees(&mut self) {
        if self.space.is_draining() {
            let ops = &self.ops;
            self.space.freed(std::iter::empty(), |slot| ops.uses_slot(slot));
        }
    }

    /// After poisoning: whoever waits for a flush is told, and nothing more is flushed.
    pub(super) fn fail_flushes(&mut self) {
        self.flusher.stage = Stage::Idle;
        let now = std::mem::take(&mut self.flusher.now);
        let next = std::mem::take(&mut self.flusher.next);
        for waiter in now.into_iter().chain(next) {
            if let Waiter::Request { at, token } = waiter {
                self.finish_change(at, token, Reply::Failed(ImageError::Poisoned));
            }
        }
        self.resume_held();
    }

    pub(super) fn recent_is_filling(&self) -> bool {
        self.recent.used() > self.recent.capacity() / 2
    }
}
