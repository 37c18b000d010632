//! Changes on their way to the commit journal (P2, P5): one record in flight, everything that came meanwhile in the next.

use std::collections::VecDeque;

use crate::disk::DiskOp;
use crate::engine::Pool;
use crate::engine::ops::Completion;
use crate::entry::Entry;
use crate::format::journal::Ring;
use crate::format::state::{Change, PageOwner};
use crate::map::LeafIndex;
use dyad_units::Extent;

/// Journal bytes kept for the seal, which must always fit: one record of no changes.
const SEAL_BYTES: u64 = 4096;

pub(super) struct Commits {
    pub(super) ring: Ring,
    waiting: VecDeque<Change>,
    /// Changes handed over so far.
    enqueued: u64,
    /// Of those, durable.
    durable: u64,
    /// The changes of the record that is being written.
    writing: Vec<Change>,
    /// Its number.
    in_flight: Option<u64>,
    /// Number of the newest durable record.
    pub(super) seq_durable: u64,
    /// The newest record is one without changes, or there is none since opening.
    sealed: bool,
    /// The disk failed, and what is waiting are the flags of what was lost with it.
    losing: bool,
}

impl Commits {
    pub(super) fn new(ring: Ring) -> Self {
        let seq_durable = ring.next_seq().saturating_sub(1);
        Self {
            ring,
            waiting: VecDeque::new(),
            enqueued: 0,
            durable: 0,
            writing: Vec::new(),
            in_flight: None,
            seq_durable,
            sealed: true,
            losing: false,
        }
    }

    /// How many changes were handed over so far.
    pub(super) fn enqueued(&self) -> u64 {
        self.enqueued
    }

    /// How many changes are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_none()
    }
}

impl Pool {
    /// Hands a change to the journal. It is durable once [`Commits::durable`] reaches the number returned.
    pub(super) fn enqueue(&mut self, change: Change) -> u64 {
        self.commits.waiting.push_back(change);
        self.commits.enqueued += 1;
        self.commits.enqueued
    }

    /// An entry. Its page is there: whoever placed the extent saw to that.
    pub(super) fn enqueue_entry(&mut self, at: usize, extent: Extent, entry: Entry) -> u64 {
        let layer = self.image(at).layer;
        let has_page = self.ensure_page(PageOwner::Map { layer, index: LeafIndex::of(extent).0 });
        assert!(has_page, "an extent has its map page before it has an entry");
        self.enqueue(Change::Map { layer, extent, entry })
    }

    /// Gives the owner a page if it has none; whether there was one.
    pub(super) fn ensure_page(&mut self, owner: PageOwner) -> bool {
        if self.pages.has(owner) {
            return true;
        }
        let Some(page) = self.pages.assign(owner) else { return false };
        self.enqueue(Change::Page { page, owner });
        true
    }

    pub(super) fn note_allocations(&mut self) {
        if let Some(next) = self.space.allocations_to_promise() {
            self.enqueue(Change::Allocations { next });
        }
    }

    /// Starts the next record if none is in flight.
    pub(super) fn pump_commits(&mut self) {
        if self.commits.in_flight.is_some() {
            return;
        }
        if self.poison.is_poisoned() {
            self.enqueue_losses();
        }
        if !self.commits.waiting.is_empty() {
            self.append_record();
        }
    }

    /// After poisoning nothing else is written: the flags of what was lost, once, behind the record that was in flight or
    /// in its place. Where the disk does not even take that, the segment's record must say that the image is stale (P12):
    /// the owner learns from the failed requests.
    fn enqueue_losses(&mut self) {
        let Some(lost) = self.poison.take_lost() else { return };
        self.commits.losing = true;
        self.commits.waiting = self.losses(&lost).into();
    }

    fn append_record(&mut self) {
        let reserve = if self.commits.waiting.is_empty() { 0 } else { SEAL_BYTES };
        let commits = &mut self.commits;
        let Some(appended) = commits.ring.append(commits.waiting.make_contiguous(), reserve, &self.slab) else {
            if self.poison.is_poisoned() {
                return self.drop_waiting();
            }
            // The journal is full, or there is no memory: it goes on when the checkpoint has cut it.
            return self.want_checkpoint();
        };
        commits.writing.extend(commits.waiting.drain(..appended.taken));
        commits.in_flight = Some(appended.seq);
        commits.sealed = appended.taken == 0 && commits.waiting.is_empty();
        self.counters.commits += 1;
        let token = Completion::Journal.token();
        self.disk_ops.push(DiskOp::WriteDurable { token, offset: appended.offset, data: appended.bytes });
    }

    pub(super) fn journal_done(&mut self, ok: bool) {
        let Some(seq) = self.commits.in_flight.take() else { return };
        let mut changes = std::mem::take(&mut self.commits.writing);
        if ok {
            self.record_is_durable(seq, &changes);
        } else {
            // The next record must take the failed one's place: behind it, it would be a valid one beyond a bad one.
            self.commits.ring.take_back();
            self.poison_now();
            if self.commits.losing {
                self.drop_waiting();
            }
        }
        changes.clear();
        self.commits.writing = changes;
        if self.poison.is_poisoned() {
            return self.pump_commits();
        }
        self.resume_marked();
        self.pump_flusher();
        self.finish_admin();
        self.checkpoint_if_due();
    }

    fn record_is_durable(&mut self, seq: u64, changes: &[Change]) {
        self.commits.durable += changes.len() as u64;
        self.commits.seq_durable = seq;
        for change in changes {
            self.pages.committed(change);
            match change {
                Change::Mark { image, region, marked: false } => {
                    if let Some(at) = self.image_numbered(*image) {
                        self.image_mut(at).regions.cleared(*region);
                    }
                }
                Change::Suspect { image, suspect } => {
                    if let Some(at) = self.image_numbered(*image) {
                        self.image_mut(at).suspect = *suspect;
                    }
                }
                _ => {}
            }
        }
        self.advance_committed();
    }

    /// After poisoning: what waits is not written any more.
    pub(super) fn drop_waiting(&mut self) {
        self.commits.waiting.clear();
    }

    /// Puts a record without changes behind the last one, so that the last one cannot rot unseen: a valid record beyond a
    /// bad one is damage, a bad last one would be taken for one that was never finished (P2). Whether it is there.
    pub(super) fn seal_journal(&mut self) -> bool {
        if self.commits.is_idle() && !self.commits.sealed && !self.poison.is_poisoned() {
            self.append_record();
        }
        self.commits.is_idle() && self.commits.sealed
    }
}
