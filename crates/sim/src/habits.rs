//! What owners ask for next: drawn by weight, within what the mirror's rules let them ask.

use dyad_contract::image::{Request, Space};
use dyad_units::{Epoch, Extent, INTENT_EXTENTS, Piece, STATE_EXTENT};

use crate::actor::{Actor, Closing, Sent};
use crate::player::Player;
use crate::rng::Rng;

/// Credits that an owner asks for at once (P15).
const CREDITS_WANTED: u32 = 8;

/// Weights of an owner's requests.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Requests that one image has in flight at most.
    pub depth: usize,
    /// Of `100`: how often something new is asked rather than the disk let go on.
    pub eagerness: u64,
    /// Writes with a credit.
    pub write: u64,
    /// Writes with a reservation.
    pub reserve: u64,
    /// Unmaps.
    pub unmap: u64,
    /// Reads.
    pub read: u64,
    /// Flushes.
    pub flush: u64,
    /// Closes of the open interval.
    pub close: u64,
    /// Records of a new epoch.
    pub record: u64,
}

impl Habits {
    /// Everything, in proportions that reach all corners soon.
    pub fn mixed() -> Self {
        Self { depth: 6, eagerness: 45, write: 50, reserve: 5, unmap: 10, read: 18, flush: 10, close: 5, record: 2 }
    }

    /// Writes that are never flushed, for crashes of the process.
    pub fn unflushed() -> Self {
        Self { flush: 0, close: 1, ..Self::mixed() }
    }

    /// First writes to fresh extents and unmaps of whole ones: slots change hands all the time (P3).
    pub fn churning() -> Self {
        Self { unmap: 35, flush: 12, ..Self::mixed() }
    }

    fn total(&self) -> u64 {
        self.write + self.reserve + self.unmap + self.read + self.flush + self.close + self.record
    }
}

/// Blocks of one extent: mostly few, sometimes all.
pub(crate) fn draw_piece(rng: &mut Rng, extents: &[Extent]) -> Piece {
    let hidden = Extent(STATE_EXTENT.0 - rng.below(u64::from(INTENT_EXTENTS) + 1) as u32);
    let extent = if rng.chance(1, 40) { hidden } else { extents[rng.index(extents.len())] };
    let (first, count) = match rng.below(10) {
        0 => (0, 64),
        1..=5 => (rng.below(64), 1),
        6..=8 => (rng.below(60), 1 + rng.below(4)),
        _ => {
            let first = rng.below(64);
            (first, 1 + rng.below(64 - first))
        }
    };
    Piece::new(extent, first as u8, count as u8).expect("within an extent")
}

impl Player {
    /// Asks for something, if the image drawn may ask for more.
    pub(crate) fn issue(&mut self) -> bool {
        let at = self.rng.index(self.actors.len());
        let actor = &self.actors[at].1;
        if actor.sent.len() >= self.scene.habits.depth {
            return false;
        }
        if let Closing::FirstDone(stamp) = actor.closing
            && self.rng.chance(1, 3)
        {
            return self.send(at, |actor, token, _| Some(actor.closed(token, stamp)));
        }
        if matches!(actor.closing, Closing::Draining(_)) && self.rng.chance(1, 2) {
            return self.send(at, |actor, token, _| actor.close(token));
        }
        if actor.credits == 0 && self.rng.chance(1, 2) && !has(actor, |sent| matches!(sent, Sent::Grant { .. })) {
            return self.send(at, |actor, token, _| {
                actor.sent.insert(token, Sent::Grant { wanted: CREDITS_WANTED });
                Some(Request::Grant { credits: CREDITS_WANTED })
            });
        }
        self.issue_drawn(at)
    }

    fn issue_drawn(&mut self, at: usize) -> bool {
        let habits = self.scene.habits.clone();
        let mut draw = self.rng.below(habits.total());
        let mut is = |weight: u64| {
            let hit = draw < weight;
            draw = draw.wrapping_sub(weight);
            hit
        };
        if is(habits.write) {
            self.issue_write(at)
        } else if is(habits.reserve) {
            self.issue_reserved(at)
        } else if is(habits.unmap) {
            self.issue_unmap(at)
        } else if is(habits.read) {
            self.issue_read(at)
        } else if is(habits.flush) {
            self.send(at, |actor, token, _| Some(actor.flush(token)))
        } else if is(habits.close) {
            self.actors[at].1.closing == Closing::No && self.send(at, |actor, token, _| actor.close(token))
        } else {
            self.issue_record(at)
        }
    }

    fn issue_write(&mut self, at: usize) -> bool {
        let piece = draw_piece(&mut self.rng, &self.scene.extents);
        let actor = &self.actors[at].1;
        if actor.credits == 0 || !actor.is_free(piece, true) {
            return false;
        }
        let version = self.version();
        self.send(at, |actor, token, slab| {
            actor.credits -= 1;
            Some(actor.write(token, piece, version, Space::Credit, slab))
        })
    }

    /// Reserves for a piece; or writes it, or gives it back, when that was done before.
    fn issue_reserved(&mut self, at: usize) -> bool {
        let Some(piece) = self.actors[at].1.reserved.last().copied() else {
            let piece = draw_piece(&mut self.rng, &self.scene.extents);
            return self.actors[at].1.is_free(piece, true)
                && self.send(at, |actor, token, _| {
                    actor.sent.insert(token, Sent::Reserve { piece });
                    Some(Request::Reserve { piece })
                });
        };
        let gives_back = self.rng.chance(1, 4);
        let version = self.version();
        self.send(at, |actor, token, slab| {
            actor.reserved.pop();
            if gives_back {
                actor.sent.insert(token, Sent::Release);
                return Some(Request::Release { piece });
            }
            Some(actor.write(token, piece, version, Space::Reserved, slab))
        })
    }

    fn issue_unmap(&mut self, at: usize) -> bool {
        let mut piece = draw_piece(&mut self.rng, &self.scene.extents);
        if self.rng.chance(1, 2) {
            piece = Piece::whole(piece.extent);
        }
        self.actors[at].1.is_free(piece, true) && self.send(at, |actor, token, _| Some(actor.unmap(token, piece)))
    }

    fn issue_read(&mut self, at: usize) -> bool {
        let piece = draw_piece(&mut self.rng, &self.scene.extents);
        self.actors[at].1.is_free(piece, false)
            && self.send(at, |actor, token, _| {
                actor.sent.insert(token, Sent::Read { piece });
                Some(Request::Read { piece })
            })
    }

    /// A new epoch: only while nothing is closing and no reservation is held, as a mirror does it.
    fn issue_record(&mut self, at: usize) -> bool {
        let actor = &self.actors[at].1;
        let is_busy = has(actor, |sent| !matches!(sent, Sent::Read { .. } | Sent::Write { .. } | Sent::Unmap { .. }));
        if is_busy || actor.closing != Closing::No {
            return false;
        }
        let epoch = Epoch::new(actor.epoch_maybe.value().max(actor.stamp.epoch.value()) + 1);
        self.send(at, |actor, token, slab| Some(actor.record(token, epoch, slab)))
    }
}

fn has(actor: &Actor, which: impl Fn(&Sent) -> bool) -> bool {
    actor.sent.values().any(which)
}
