//! Waiting for slots that are on their way to be free (P3, P15).
//!
//! A slot that was given up is free only when that is committed and nothing reads it any more. So a pool that looks full may
//! have space in a moment: whoever needs a slot then forces the commit and waits for it. The commit frees what was given up
//! before it began, so it is forced once for all of that, and never where nothing was given up. Nobody waits for what
//! others may give up later: with nothing more on its way, the pool is full and whoever waits is told so.

use dyad_contract::image::{ImageError, Reply, Token};
use dyad_units::Piece;

use crate::engine::Pool;
use crate::engine::write::Held;

/// Reservations and writes that wait at a time: several times what the volumes of a node keep in flight that needs new
/// slots. More are told to ask again.
const WAITING_MAX: usize = 1024;

/// Who waits for a slot.
pub(super) enum NeedsSlot {
    /// A reservation that is not made yet.
    Reservation { at: usize, token: Token, piece: Piece },
    /// A write that was promised nothing.
    Change(Held),
}

/// Who waits, in order.
#[derive(Default)]
pub(super) struct Shortage {
    waiting: Vec<NeedsSlot>,
}

impl Shortage {
    /// Writes among them.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.waiting.iter().filter_map(|needs| match needs {
            NeedsSlot::Change(held) => Some(held),
            NeedsSlot::Reservation { .. } => None,
        })
    }
}

impl Pool {
    /// Whether slots will be free without anybody doing anything more: given up, but not committed or still being read; or
    /// of an image that is being deleted, whose map pages follow.
    fn is_freeing(&self) -> bool {
        self.space.is_freeing() || self.flusher.is_freeing() || self.is_deleting()
    }

    /// Forces the commit that frees slots, if one would.
    pub(super) fn force_frees(&mut self) {
        if self.space.has_uncommitted_frees() {
            self.start_flush_for_housekeeping();
        }
    }

    /// There is no slot now: waits if there will be one, otherwise the pool is full.
    pub(super) fn wait_for_slot(&mut self, needs: NeedsSlot) {
        let error = if self.poison.is_poisoned() {
            ImageError::Poisoned
        } else if !self.is_freeing() {
            ImageError::Full
        } else if self.shortage.waiting.len() >= WAITING_MAX {
            ImageError::Overloaded
        } else {
            self.shortage.waiting.push(needs);
            return self.force_frees();
        };
        let (at, token) = match needs {
            NeedsSlot::Reservation { at, token, .. } => (at, token),
            NeedsSlot::Change(Held { at, token, .. }) => (at, token),
        };
        self.finish_change(at, token, Reply::Failed(error));
    }

    /// Slots may have become free, or there are none on their way any more. Called after everything that happens to the
    /// pool, so that nobody comes before those that wait.
    pub(super) fn serve_shortage(&mut self) {
        while !self.shortage.waiting.is_empty() {
            self.force_frees();
            let has_slots = self.space.slots_free() > self.space.promised();
            if !has_slots && self.is_freeing() && !self.poison.is_poisoned() {
                return;
            }
            let waiting = std::mem::take(&mut self.shortage.waiting);
            let before = waiting.len();
            for needs in waiting {
                match needs {
                    NeedsSlot::Reservation { at, token, piece } => self.try_reserve(at, token, piece),
                    NeedsSlot::Change(held) => self.change(held),
                }
            }
            if self.records_waiting > 0 {
                // A record waits for changes of lower epochs, and those may have been among them (M3).
                self.finish_admin();
            }
            if self.shortage.waiting.len() == before {
                return;
            }
        }
    }

    /// The image has a new owner: what the one before wanted to reserve will not be used (P15).
    pub(super) fn void_waiting_reservations(&mut self, of: usize) {
        let waiting = std::mem::take(&mut self.shortage.waiting);
        let is_void = |needs: &NeedsSlot| matches!(needs, NeedsSlot::Reservation { at, .. } if *at == of);
        let (void, kept) = waiting.into_iter().partition(is_void);
        self.shortage.waiting = kept;
        let void: Vec<NeedsSlot> = void;
        for needs in void {
            if let NeedsSlot::Reservation { at, token, .. } = needs {
                self.finish_change(at, token, Reply::Failed(ImageError::Full));
            }
        }
    }
}
