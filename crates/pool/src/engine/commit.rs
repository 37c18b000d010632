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
    /// Changes in the record that is being written, and its number.
    in_flight: Option<(usize, u64)>,
    /// Number of the newest durable record.
    pub(super) seq_durable: u64,
    /// The newest record is one without changes, or there is none since opening.
    sealed: bool,
}

impl Commits {
    pub(super) fn new(ring: Ring) -> Self {
        let seq_durable = ring.next_seq().saturating_sub(1);
        Self { ring, waiting: VecDeque::new(), enqueued: 0, durable: 0, in_flight: None, seq_durable, sealed: true }
    }

    /// How many changes were handed over so far.
    pub(super) fn enqueued(&self) -> u64 {
        self.enqueued
    }

    /// How many changes are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn has_record_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_none()
    }
}

impl Pool {
    /// Hands a change to the journal. It is durable once [`Commits::durable`] reaches the number returned.
    pub(super) fn enqueue(&mut self, change: Change) -> u64 {
        self.pages.touch(&change);
        self.commits.waiting.push_back(change);
        self.commits.enqueued += 1;
        self.commits.enqueued
    }

    /// An entry, behind the page that it lies in where that is new.
    pub(super) fn enqueue_entry(&mut self, at: usize, extent: Extent, entry: Entry) -> u64 {
        let layer = self.image(at).layer;
        let owner = PageOwner::Map { layer, index: LeafIndex::of(extent).0 };
        self.ensure_page(owner);
        self.enqueue(Change::Map { layer, extent, entry })
    }

    /// Gives the owner a page if it has none. There always is one: whoever allocated looked (P15).
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
        if self.commits.in_flight.is_some() || self.commits.waiting.is_empty() || self.poison.is_poisoned() {
            return;
        }
        self.append(false);
    }

    fn append(&mut self, seal: bool) {
        let reserve = if seal { 0 } else { SEAL_BYTES };
        let changes: &[Change] = self.commits.waiting.make_contiguous();
        let Some(appended) = self.commits.ring.append(changes, reserve, &self.slab) else {
            // The journal is full: it goes on when the checkpoint has cut it.
            return self.checkpoint_if_due();
        };
        self.commits.waiting.drain(..appended.taken);
        self.commits.in_flight = Some((appended.taken, appended.seq));
        self.commits.sealed = appended.taken == 0 && self.commits.waiting.is_empty();
        self.counters.commits += 1;
        let token = Completion::Journal.token();
        self.disk_ops.push(DiskOp::WriteDurable { token, offset: appended.offset, data: appended.bytes });
    }

    pub(super) fn journal_done(&mut self, ok: bool) {
        let Some((changes, seq)) = self.commits.in_flight.take() else { return };
        if !ok {
            // The next record must take the failed one's place: behind it, it would be a valid one beyond a bad one.
            self.commits.ring.take_back();
            self.poison_now();
        }
        if self.poison.is_poisoned() {
            return self.append_losses();
        }
        self.commits.durable += changes as u64;
        self.commits.seq_durable = seq;
        self.resume_marked();
        self.finish_round_if_committed();
        self.finish_admin();
        self.checkpoint_if_due();
    }

    /// Puts a record without changes behind the last one, so that the last one cannot rot unseen: a valid record beyond a
    /// bad one is damage, a bad last one would be taken for one that was never finished (P2).
    pub(super) fn seal_journal(&mut self) {
        if self.commits.is_idle() && !self.commits.sealed && !self.poison.is_poisoned() {
            self.append(true);
        }
    }
}
