//! What sorts of hosts there are: how much each asks for at once, how often, and what.

use crate::cluster::queue::{MILLIS, Time};
use crate::rng::Rng;

/// What a host does how often.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Habits {
    /// At once.
    pub(super) depth: usize,
    /// Average time between two wishes while busy.
    pub(super) think: Time,
    /// The node that it prefers; none: all in turn.
    pub(super) prefers: Option<usize>,
    /// Of 100: writes that must be durable when answered; all on a volume without cache.
    pub(super) durable: u64,
    /// Of 1000: commands given up early.
    pub(super) abort: u64,
    /// Weights: writes, writes of sectors, clears, reads, flushes, comparing writes, comparisons.
    pub(super) weights: [u64; 7],
    /// Of 100 writes of whole blocks: atomic ones (M21).
    pub(super) atomic: u64,
    /// Number of different blocks per extent that it likes.
    pub(super) spread: u64,
    /// Of 100: how often an operation is long.
    pub(super) long: u64,
    /// Whether it writes to many extents.
    pub(super) roams: bool,
    /// Whether whatever it asks for has several blocks.
    pub(super) runs: bool,
    /// Of 100: how often they lie on both sides of the end of an extent, so that each image writes two pieces.
    pub(super) straddles: u64,
    /// Whether it is never still for a while.
    pub(super) is_restless: bool,
    /// Until the turn it writes to its last extents, then it clears those and writes to its first.
    pub(super) moves: bool,
    /// Its comparisons are guesses, from memory.
    pub(super) recalls: bool,
    /// Of 1000: commands about the SCSI state (M20).
    pub(super) state: u64,
    /// It gives up within so long whatever is not answered, and does not try again.
    pub(super) hurry: Option<Time>,
}

impl Habits {
    pub(super) fn draw(rng: &mut Rng, nodes: usize) -> Self {
        let weights = match rng.below(4) {
            0 => [60, 5, 5, 20, 4, 4, 2],
            1 => [30, 10, 5, 40, 8, 5, 2],
            2 => [40, 10, 15, 20, 2, 8, 5],
            _ => [45, 12, 8, 25, 5, 4, 1],
        };
        Self {
            depth: 1 + rng.index(8),
            think: [200_000, MILLIS, 4 * MILLIS, 20 * MILLIS][rng.index(4)],
            prefers: rng.chance(1, 2).then(|| rng.index(nodes)),
            durable: [0, 5, 100][rng.index(3).min(rng.index(3))],
            abort: [0, 5, 40][rng.index(3)],
            weights,
            spread: [2, 6, 16][rng.index(3)],
            long: [0, 1, 4][rng.index(3)],
            roams: rng.chance(1, 3),
            runs: false,
            straddles: 0,
            is_restless: false,
            moves: false,
            recalls: false,
            state: [0, 10, 60, 250][rng.index(4)],
            atomic: [0, 0, 5, 30][rng.index(4)],
            hurry: None,
        }
    }

    /// Reads through all nodes in turn, most of it where nobody writes.
    pub(super) fn of_watcher() -> Self {
        Self {
            depth: 12,
            think: 6 * MILLIS,
            prefers: None,
            durable: 0,
            abort: 0,
            weights: [6, 0, 0, 70, 3, 0, 20],
            spread: 64,
            long: 0,
            roams: false,
            runs: false,
            straddles: 0,
            is_restless: false,
            moves: false,
            recalls: true,
            state: 10,
            atomic: 0,
            hurry: Some(800 * MILLIS),
        }
    }

    /// Writes and unmaps now and then.
    pub(super) fn of_sparse(rng: &mut Rng) -> Self {
        let think = [8 * MILLIS, 30 * MILLIS, 120 * MILLIS][rng.index(3)];
        // Now and then it clears more than it writes, and that durably (A2).
        let clears = rng.chance(1, 3);
        let weights = if clears { [35, 5, 45, 15, 2, 0, 0] } else { [70, 5, 10, 15, 2, 0, 0] };
        let durable = if clears { 50 } else { 0 };
        Self { depth: 4, think, weights, durable, spread: 16, roams: rng.chance(1, 2), abort: 0, ..Self::of_sender() }
    }

    /// Fills the pool, and makes room in it.
    pub(super) fn of_mover() -> Self {
        let weights = [50, 0, 40, 10, 0, 0, 0];
        Self { depth: 4, think: 4 * MILLIS, weights, moves: true, abort: 0, ..Self::of_sender() }
    }

    /// Looks at what others write, now and before.
    pub(super) fn of_looker() -> Self {
        let weights = [8, 0, 0, 72, 8, 0, 12];
        Self { depth: 8, think: 5 * MILLIS, weights, spread: 4, ..Self::of_watcher() }
    }

    /// Commands with several ranges that others overlap (M2).
    pub(super) fn of_tangler() -> Self {
        let weights = [50, 0, 40, 10, 0, 0, 0];
        Self { think: 4 * MILLIS, weights, spread: 3, runs: true, is_restless: true, abort: 0, ..Self::of_sender() }
    }

    /// Writes the state, and reads it (M20).
    pub(super) fn of_keeper() -> Self {
        Self { depth: 3, think: 6 * MILLIS, state: 900, is_restless: true, abort: 0, ..Self::of_sender() }
    }

    /// Clears more than it writes.
    pub(super) fn of_clearer() -> Self {
        let weights = [20, 0, 45, 25, 0, 10, 0];
        Self { depth: 4, think: 4 * MILLIS, durable: 100, weights, abort: 0, ..Self::of_sender() }
    }

    /// Writes where nobody wrote for a while.
    pub(super) fn of_scatterer() -> Self {
        let hurry = Some(200 * MILLIS);
        let weights = [100, 0, 0, 0, 0, 0, 0];
        let base = Self { depth: 8, think: 20 * MILLIS, weights, spread: 2, hurry, ..Self::of_sender() };
        Self { roams: true, is_restless: true, abort: 0, ..base }
    }

    /// Writes runs of blocks as wholes (M21). What was not answered at once it does not write again, but looks at it.
    pub(super) fn of_joiner() -> Self {
        let (weights, hurry) = ([45, 0, 0, 55, 0, 0, 0], Some(150 * MILLIS));
        let base = Self { depth: 6, think: 4 * MILLIS, weights, spread: 24, hurry, ..Self::of_sender() };
        Self { atomic: 80, runs: true, straddles: 70, abort: 5, is_restless: true, ..base }
    }

    /// Overwrites what it has just written.
    pub(super) fn of_hammerer() -> Self {
        let weights = [100, 0, 0, 0, 0, 0, 0];
        Self { depth: 1, think: MILLIS, weights, spread: 1, is_restless: true, abort: 0, ..Self::of_sender() }
    }

    /// Always has something under way through every node.
    pub(super) fn of_sender() -> Self {
        Self {
            depth: 16,
            think: 8 * MILLIS,
            prefers: None,
            durable: 0,
            abort: 20,
            weights: [70, 0, 0, 30, 0, 0, 0],
            spread: 4,
            long: 0,
            hurry: None,
            roams: false,
            runs: false,
            straddles: 0,
            is_restless: false,
            moves: false,
            recalls: false,
            state: 0,
            atomic: 0,
        }
    }
}
