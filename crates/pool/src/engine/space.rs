//! Slots: which are free, which are promised, which become free with the next commit (P3, P15).

use dyad_contract::image::Space as PaidBy;
use dyad_units::{Extent, Piece};

use crate::engine::image::Image;
use crate::engine::ops::Ops;
use crate::entry::{ALLOC_MAX, NO_SLOT, Slot};

/// Allocation numbers are promised to the journal this many at a time, so that an allocation seldom costs a change.
pub(super) const ALLOCATIONS_AHEAD: u64 = 1 << 20;
/// When this few promised numbers are left, the next lot is promised.
const ALLOCATIONS_LOW: u64 = 1 << 16;

/// A promise for one write.
struct Reservation {
    at: usize,
    piece: Piece,
    /// A slot is held for it; otherwise the extent has one, which it keeps until the write has come.
    holds_slot: bool,
}

pub(super) struct Space {
    /// One bit per slot, set while it may be allocated.
    free: Vec<u64>,
    slots_free: u64,
    /// Where the search goes on: neighbours in time become neighbours on disk.
    cursor: usize,
    /// Credits that the owner of each image holds.
    credits: Vec<u64>,
    /// All of them, and those that writes hold which were not placed so far.
    granted: u64,
    /// Writes that were promised a place each.
    reserved: Vec<Reservation>,
    /// Given up by the live map; free once the entry that gave them up is committed.
    giving_up: Vec<Slot>,
    /// Committed as free, but so many reads and writes of them are in flight (P3).
    draining: Vec<(Slot, usize)>,
    alloc_next: u64,
    /// Numbers below this are known to the journal or on their way there.
    alloc_limit: u64,
}

impl Reservation {
    fn is_for(&self, at: usize, extent: Extent) -> bool {
        (self.at, self.piece.extent) == (at, extent)
    }
}

impl Space {
    pub(super) fn new(slots: u32, alloc_next: u64, images: &[Option<Image>]) -> Self {
        let mut free = vec![u64::MAX; (slots as usize).div_ceil(64)];
        if let (Some(last), rest @ 1..) = (free.last_mut(), slots % 64) {
            *last = (1 << rest) - 1;
        }
        let mut space = Self {
            free,
            slots_free: u64::from(slots),
            cursor: 0,
            credits: vec![0; images.len()],
            granted: 0,
            reserved: Vec::new(),
            giving_up: Vec::new(),
            draining: Vec::new(),
            alloc_next,
            alloc_limit: alloc_next,
        };
        for image in images.iter().flatten() {
            for (_, entry) in image.map.entries() {
                if let Some(slot) = entry.slot() {
                    space.take(slot);
                }
            }
        }
        space
    }

    fn take(&mut self, slot: Slot) {
        let (word, bit) = (slot.0 as usize / 64, 1 << (slot.0 % 64));
        assert!(self.free[word] & bit != 0, "a slot has one user");
        self.free[word] &= !bit;
        self.slots_free -= 1;
    }

    pub(super) fn is_free(&self, slot: Slot) -> bool {
        self.free.get(slot.0 as usize / 64).is_some_and(|word| word >> (slot.0 % 64) & 1 == 1)
    }

    /// Recovery: the slot is used, by the allocation of this number.
    pub(super) fn claim(&mut self, slot: Slot, alloc: u64) {
        self.take(slot);
        self.alloc_next = self.alloc_next.max(alloc + 1);
        self.alloc_limit = self.alloc_limit.max(self.alloc_next);
    }

    pub(super) fn slots_free(&self) -> u64 {
        self.slots_free
    }

    pub(super) fn promised(&self) -> u64 {
        self.granted + self.reserved.iter().filter(|held| held.holds_slot).count() as u64
    }

    /// Whether a commit would free slots that none under way frees.
    pub(super) fn has_uncommitted_frees(&self) -> bool {
        !self.giving_up.is_empty()
    }

    /// Whether slots are given up that no round has taken over, or committed as free and still in use.
    pub(super) fn is_freeing(&self) -> bool {
        self.has_uncommitted_frees() || !self.draining.is_empty()
    }

    /// A free slot and the number of its allocation.
    pub(super) fn allocate(&mut self) -> Option<(Slot, u64)> {
        if self.slots_free == 0 || self.alloc_next > ALLOC_MAX {
            return None;
        }
        let words = self.free.len();
        let word = (0..words).map(|step| (self.cursor + step) % words).find(|&word| self.free[word] != 0)?;
        self.cursor = word;
        let slot = Slot(word as u32 * 64 + self.free[word].trailing_zeros());
        debug_assert!(slot.0 != NO_SLOT);
        self.take(slot);
        let alloc = self.alloc_next;
        self.alloc_next += 1;
        Some((slot, alloc))
    }

    /// Undoes an allocation whose slot nothing refers to and nothing was written to.
    pub(super) fn give_back(&mut self, slot: Slot) {
        self.free[slot.0 as usize / 64] |= 1 << (slot.0 % 64);
        self.slots_free += 1;
    }

    /// The new bound for the journal, when the numbers promised to it run low.
    pub(super) fn allocations_to_promise(&mut self) -> Option<u64> {
        if self.alloc_next + ALLOCATIONS_LOW < self.alloc_limit {
            return None;
        }
        self.alloc_limit = self.alloc_next + ALLOCATIONS_AHEAD;
        Some(self.alloc_limit)
    }

    /// Every allocation number so far is below this, and the journal knows it.
    pub(super) fn allocations_promised(&self) -> u64 {
        self.alloc_limit
    }

    /// Credits for as many writes as are sure to find a slot and, at worst, a map page each.
    pub(super) fn grant(&mut self, at: usize, wanted: u32, pages_free: u64) -> u32 {
        let sure = self.slots_free.min(pages_free).saturating_sub(self.promised());
        let granted = u64::from(wanted).min(sure);
        *self.credits_mut(at) += granted;
        self.granted += granted;
        granted as u32
    }

    /// The extent has a slot: a write to it needs none, as long as it keeps that one.
    pub(super) fn reserve_mapped(&mut self, at: usize, piece: Piece) {
        self.reserved.push(Reservation { at, piece, holds_slot: false });
    }

    /// Holds a slot for a write to an extent without one, if there is one to hold.
    pub(super) fn reserve(&mut self, at: usize, piece: Piece, page_known: bool, pages_free: u64) -> bool {
        let page = page_known || pages_free > self.promised();
        let sure = page && self.slots_free > self.promised();
        if sure {
            self.reserved.push(Reservation { at, piece, holds_slot: true });
        }
        sure
    }

    /// A write came with a credit: the owner holds it no more, the write does. Whether there was one.
    pub(super) fn use_credit(&mut self, at: usize) -> bool {
        let credits = self.credits_mut(at);
        let had_one = *credits > 0;
        *credits -= u64::from(had_one);
        had_one
    }

    /// A write that was promised a slot was placed, or will not be. An unused credit goes back to the owner, who is told by
    /// the answer, unless it was of an epoch before the image's present one (`is_current`).
    pub(super) fn settle(
        &mut self,
        (at, piece): (usize, Piece),
        paid_by: Option<PaidBy>,
        used_slot: bool,
        is_current: bool,
    ) {
        match paid_by {
            Some(PaidBy::Credit) if !used_slot && is_current => *self.credits_mut(at) += 1,
            Some(PaidBy::Credit) => self.granted -= 1,
            Some(PaidBy::Reserved) => {
                // One of the extent that holds a slot goes first: the write may have taken that slot.
                let of_extent = self.reserved.iter().enumerate().filter(|(_, held)| held.is_for(at, piece.extent));
                if let Some((place, _)) = of_extent.max_by_key(|(_, held)| held.holds_slot) {
                    let ended = self.reserved.swap_remove(place);
                    let own = self.reserved.iter_mut().find(|held| held.at == at && held.piece == piece);
                    if let Some(own) = own {
                        own.piece = ended.piece; // the promise that is left is for the other write
                    }
                }
            }
            None => {}
        }
    }

    /// Whether the write of this piece was promised its place already: no other write of these blocks can be under way
    /// (M2), so it is asked again, because a connection swallowed the answer.
    pub(super) fn holds(&self, at: usize, piece: Piece) -> bool {
        self.reserved.iter().any(|held| held.at == at && held.piece == piece)
    }

    /// Whether a write to the extent is still to come that was promised a slot.
    pub(super) fn is_reserved(&self, at: usize, extent: Extent) -> bool {
        self.reserved.iter().any(|held| held.is_for(at, extent))
    }

    /// The live map gave the slot up; the committed one may still refer to it.
    pub(super) fn free_after_commit(&mut self, slot: Slot) {
        self.giving_up.push(slot);
    }

    /// A flush round begins that commits what gave these up.
    pub(super) fn take_giving_up(&mut self, to: &mut Vec<Slot>) {
        to.append(&mut self.giving_up);
    }

    /// The committed map refers to these no more: those that nothing is in flight to are free (P3).
    pub(super) fn freed(&mut self, slots: &mut Vec<Slot>, ops: &Ops) {
        if slots.is_empty() {
            return;
        }
        let in_use = ops.slots();
        for slot in slots.drain(..) {
            let first = in_use.partition_point(|used| *used < slot);
            let users = in_use[first..].iter().take_while(|used| **used == slot).count();
            if users == 0 {
                self.give_back(slot);
            } else {
                self.draining.push((slot, users));
            }
        }
    }

    /// A read or a write of the slot ended.
    pub(super) fn drained(&mut self, slot: Slot) {
        let Some(at) = self.draining.iter().position(|(draining, _)| *draining == slot) else { return };
        self.draining[at].1 -= 1;
        if self.draining[at].1 == 0 {
            self.draining.swap_remove(at);
            self.give_back(slot);
        }
    }

    fn credits_mut(&mut self, at: usize) -> &mut u64 {
        if at >= self.credits.len() {
            self.credits.resize(at + 1, 0);
        }
        &mut self.credits[at]
    }

    /// The image has a new epoch, or its owner gave back what it held: what was granted is void (P15). A reservation belongs
    /// to a write that may still come.
    pub(super) fn void_credits(&mut self, at: usize) {
        self.granted -= std::mem::take(self.credits_mut(at));
    }

    /// The image is gone or has a new owner: nothing that was promised to the old one will be used (P15). Extents that a write
    /// was to come to.
    pub(super) fn void_promises(&mut self, at: usize) -> Vec<Extent> {
        self.void_credits(at);
        self.reserved.extract_if(.., |held| held.at == at).map(|held| held.piece.extent).collect()
    }
}
