//! Waiting for room: in L (P6), and for entries that differ from the committed ones.

use dyad_units::WriteNumber;

use crate::engine::Pool;
use crate::engine::ops::{OPS_MAX, OpAt};
use crate::engine::unsettled::{Unsettled, UnsettledWrites};
use crate::engine::write::Held;
use crate::format::recent::{RecentHead, RecentKind};

/// Entries whose slot, bits or flags are not committed, beyond which changes wait for a flush: a discard of a whole volume
/// takes no time by itself, and each costs a hundred bytes until it is committed.
const SHADOW_MAX: usize = 65_536;
/// A flush that would free less of L than this is not worth a sync; the oldest write in flight holds the rest.
const WORTH_A_FLUSH: u64 = 4096;

/// At most this part of L is carried on when it is cut.
const CARRIED_PART: u64 = 4;

/// Who waits, in order.
#[derive(Default)]
pub(super) struct Room {
    held: Vec<Held>,
    /// Reads whose blocks are to be believed, but L has no room to say so.
    adopting: Vec<OpAt>,
    /// Changes held anywhere, for a mark or for room.
    pub(super) count: usize,
}

impl Room {
    pub(super) fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    pub(super) fn hold_adoption(&mut self, op: OpAt) {
        self.adopting.push(op);
    }

    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.adopting.is_empty()
    }
}

impl Pool {
    /// Whether one more request finds a place.
    pub(super) fn is_full_of_requests(&self) -> bool {
        self.ops.used() + self.room.count >= OPS_MAX
    }

    /// Whether changes have to wait until some are committed.
    pub(super) fn has_too_many_uncommitted(&self) -> bool {
        self.shadow.len() >= SHADOW_MAX
    }

    /// Starts a flush if that makes room. What does not need one goes on when a write completes or something is settled:
    /// both come by here.
    pub(super) fn make_room(&mut self) {
        if self.room.is_empty() || self.poison.is_poisoned() {
            return;
        }
        let worth_a_flush = WORTH_A_FLUSH.min(self.recent.capacity() / 8);
        if self.has_too_many_uncommitted() || self.worth_cutting() > worth_a_flush {
            self.start_flush_for_housekeeping();
        }
    }

    /// Bytes of L that a flush would free now.
    fn worth_cutting(&self) -> u64 {
        let cut = self.recent_cut();
        let images = self.images.iter().flatten();
        let carried: usize = images.map(|image| image.unsettled.count_before(cut)).sum();
        cut.saturating_sub(self.recent.tail()).saturating_sub(carried as u64 * 64)
    }

    /// Whether L should be cut before it is full.
    pub(super) fn recent_is_filling(&self) -> bool {
        let used = self.recent.position() - self.recent.tail();
        used > self.recent.capacity() / 2 && self.worth_cutting() > self.recent.capacity() / 4
    }

    /// Whoever waited for room goes on, in order.
    pub(super) fn resume_held(&mut self) {
        if self.room.is_empty() {
            return;
        }
        for held in std::mem::take(&mut self.room.held) {
            self.room.count -= 1;
            self.change(held);
        }
        for op in std::mem::take(&mut self.room.adopting) {
            self.verify(op);
        }
    }

    /// Whether too much of L would have to be carried on when it is cut: the owner asks again when more is settled.
    pub(super) fn carries_too_much(&self) -> bool {
        let capacity = self.recent.capacity();
        capacity > 0 && self.carried as u64 * 64 > capacity / CARRIED_PART
    }

    /// Changes what is known of writes that other images might lack (M3); how many entries of L that takes is counted.
    pub(super) fn with_unsettled(&mut self, at: usize, change: impl FnOnce(&mut UnsettledWrites)) {
        let unsettled = &mut self.image_mut(at).unsettled;
        let before = unsettled.len();
        change(unsettled);
        let after = unsettled.len();
        self.carried = self.carried - before + after;
        if after < before {
            self.make_room();
        }
    }

    /// All images have every write up to this (M3).
    pub(super) fn settle_up_to(&mut self, at: usize, settled: WriteNumber) {
        if settled > self.image(at).unsettled.settled() {
            self.with_unsettled(at, |writes| writes.settle(settled));
        }
    }

    /// Cuts L before `cut`. What other images might lack is stored again first, without its checksums; there always is
    /// room for that, and until the header says otherwise the old entries count as well.
    pub(super) fn cut_recent(&mut self, cut: u64) {
        let mut cut = cut;
        for at in 0..self.images.len() {
            let Some(image) = self.images[at].as_mut() else { continue };
            while let Some(write) = image.unsettled.pop_before(cut) {
                let Unsettled { number, stamp, piece, .. } = write;
                let settled = image.unsettled.settled();
                if number <= settled {
                    continue;
                }
                let (no, layer, kind) = (image.no, image.layer, RecentKind::Range);
                let head = RecentHead { kind, image: no, layer, piece, slot: None, alloc: 0, stamp, number, settled };
                match self.recent.carry(&head) {
                    Ok(recent_at) => image.unsettled.push(Unsettled { recent_at, ..write }),
                    Err(_) => {
                        cut = cut.min(write.recent_at);
                        image.unsettled.put_back(write);
                    }
                }
            }
        }
        self.carried = self.images.iter().flatten().map(|image| image.unsettled.len()).sum();
        self.recent.trim(cut);
    }
}
