//! Unmaps (P9), and promises of space (P15).

use std::cmp::Ordering;

use dyad_contract::image::{Reply, Space, Token, Unmap, Written};
use dyad_units::{Epoch, Extent, Piece};

use crate::engine::Pool;
use crate::engine::shortage::NeedsSlot;
use crate::engine::write::{Held, Kind, Waiting};
use crate::entry::{Entry, LOST};
use crate::format::recent::{RecentHead, RecentKind};
use crate::format::state::PageOwner;
use crate::map::LeafIndex;

impl Pool {
    /// Clears bits; the slot is given up when none is left, and free once the journal says so (P3).
    pub(super) fn clear(&mut self, at: usize, token: Token, unmap: Unmap, kind: Kind) {
        let (extent, piece) = (unmap.piece.extent, unmap.piece);
        let entry = self.image(at).map.entry(extent);
        let head = RecentHead {
            kind: if kind == Kind::Mend { RecentKind::MendUnmap } else { RecentKind::Unmap },
            image: self.image(at).no,
            layer: self.image(at).layer,
            piece,
            slot: entry.slot(),
            alloc: entry.alloc(),
            stamp: unmap.stamp,
            number: unmap.number,
            settled: unmap.settled,
        };
        let Ok(recent_at) = self.recent.append(&head, std::iter::empty(), self.carried) else {
            return self.wait_for_room(Held { at, token, what: Waiting::Unmap(unmap), kind, paid_by: None });
        };
        let left = entry.written() & !piece.mask();
        let forgets_loss = entry.has(LOST) && piece.is_whole_extent();
        // A lost extent keeps its flag until it is unmapped or written as a whole (P12). A write to other blocks may be on
        // its way to the slot, or have been promised it.
        let is_used = entry.has_write_in_flight() || self.space.is_reserved(at, extent);
        let gives_up = left == 0 && (!entry.has(LOST) || forgets_loss) && !is_used;
        let gives_up = entry.slot().filter(|_| gives_up);
        if left != entry.written() || gives_up.is_some() || forgets_loss {
            self.change_entry(at, extent, |entry| {
                entry.set_written(left);
                if forgets_loss {
                    entry.clear(LOST);
                }
                if gives_up.is_some() {
                    entry.unplace();
                }
            });
        }
        if let Some(slot) = gives_up {
            self.sums.forget(slot);
            self.space.free_after_commit(slot);
        }
        self.damage.over(at, piece);
        self.doubts.over(at, piece);
        self.note_change(at, &head, recent_at);
        self.finish_change(at, token, Reply::Written(Written { used_slot: false }));
        if self.recent_is_filling() {
            self.start_flush_for_housekeeping();
        }
    }

    /// Credits and reservations are promises of free slots (P15).
    pub(super) fn grant(&mut self, at: usize, token: Token, credits: u32) {
        let pages_free = self.pages.free();
        let granted = self.space.grant(at, credits, pages_free);
        if granted < credits {
            // Low space forces a commit, which frees slots; the owner asks again (P3).
            self.force_frees();
        }
        self.reply(at, token, Reply::Granted(granted));
    }

    /// The owner of this epoch holds no credits any more; it may hold reservations by the time that this comes. Where a later
    /// record has the image out of the set, nothing is held. Whoever was promised some in a later epoch keeps them.
    pub(super) fn take_back(&mut self, at: usize, token: Token, epoch: Epoch) {
        match epoch.cmp(&self.image(at).meta.epoch) {
            Ordering::Less => {}
            Ordering::Equal => self.space.void_credits(at),
            Ordering::Greater => self.void_promises(at),
        }
        self.reply(at, token, Reply::Done);
    }

    /// Nothing that was promised will be used any more.
    pub(super) fn void_promises(&mut self, at: usize) {
        let voided = self.space.void_promises(at);
        voided.into_iter().for_each(|extent| self.give_up_if_empty(at, extent));
        self.void_waiting_reservations(at);
    }

    pub(super) fn reserve(&mut self, at: usize, token: Token, piece: Piece) {
        self.image_mut(at).requests += 1;
        self.try_reserve(at, token, piece);
    }

    /// Holds a slot for the piece, or waits for one if some are on their way.
    pub(super) fn try_reserve(&mut self, at: usize, token: Token, piece: Piece) {
        let extent = piece.extent;
        if self.space.holds(at, piece) {
            return self.finish_change(at, token, Reply::Done);
        }
        if self.image(at).map.entry(extent).slot().is_some() {
            self.space.reserve_mapped(at, piece);
            return self.finish_change(at, token, Reply::Done);
        }
        let page_known = self.has_map_page(at, extent);
        let pages_free = self.pages.free();
        if self.space.reserve(at, piece, page_known, pages_free) {
            return self.finish_change(at, token, Reply::Done);
        }
        self.wait_for_slot(NeedsSlot::Reservation { at, token, piece });
    }

    pub(super) fn has_map_page(&self, at: usize, extent: Extent) -> bool {
        self.pages.has(PageOwner::Map { layer: self.image(at).layer, index: LeafIndex::of(extent).0 })
    }

    pub(super) fn release(&mut self, at: usize, token: Token, piece: Piece) {
        self.space.settle((at, piece), Some(Space::Reserved), false, true);
        self.give_up_if_empty(at, piece.extent);
        self.reply(at, token, Reply::Done);
    }

    /// An unmap that left nothing spared the slot for the write that is not coming (P15). Nothing is said of it in L:
    /// whoever replays the unmap there finds the extent empty.
    pub(super) fn give_up_if_empty(&mut self, at: usize, extent: Extent) {
        let entry = self.image(at).map.entry(extent);
        let is_used = entry.has_write_in_flight() || self.space.is_reserved(at, extent);
        let is_kept = entry.written() != 0 || entry.has(LOST) || is_used || self.poison.is_poisoned();
        if let Some(slot) = entry.slot().filter(|_| !is_kept) {
            self.change_entry(at, extent, Entry::unplace);
            self.sums.forget(slot);
            self.space.free_after_commit(slot);
        }
    }
}
