//! Hosts: each has paths to its volume through several nodes, asks several things at once, and tries again through
//! another node after an error, an abort or a silence.
//!
//! What a host may rely on (M19): an answered abort, an error or a new session on the same node ends what was asked
//! before. Of a node that is silent it knows nothing; it goes on elsewhere only when the time is over in which that
//! node may still carry out what was asked.

mod ask;
mod habits;
mod judge;
mod paths;

use dyad_contract::volume::VolumeOp;
use dyad_payload::{Buf, Payload, Slab};

use habits::Habits;
pub use judge::Excuses;
pub(super) use judge::{Court, Verdict};
pub(super) use paths::Deed;

/// Number of the host that hardly does anything but read, and gives up what takes long: it never runs out of things to
/// ask, as one does whose every write hangs.
pub const WATCHER: usize = 3;
/// Number of the host that never stops writing to a few blocks, through all nodes alike.
pub const SENDER: usize = 4;
/// Number of the host that writes seldom, so that regions become clean in between.
pub const SPARSE: usize = 5;
/// Number of the host that fills a pool with its last extents, then clears those and writes to its first.
pub const MOVER: usize = 6;
/// Number of the host that reads what the others write, flushes, and compares with what it has seen before.
pub const LOOKER: usize = 7;
/// Number of the host that writes and clears runs of a few blocks, across each other, many at once.
pub const TANGLER: usize = 8;
/// Number of the host that hardly asks for anything but the SCSI state.
pub const KEEPER: usize = 9;
/// Number of the host that does nothing but write to as few blocks as it can, one write close upon the other.
pub const HAMMERER: usize = 10;
/// Number of the host that writes seldom, and does not send again what was not answered at once.
pub const DROPPER: usize = 11;
/// Number of the host that wants all that it writes and clears to be durable.
pub const CLEARER: usize = 12;
/// Number of the host that writes here and there, and does not send again what was not answered at once.
pub const SCATTERER: usize = 13;
/// Number of the host that writes runs of blocks atomically, and reads them as a whole.
pub const JOINER: usize = 14;
/// When [`MOVER`] turns from the one to the other: the pool is full by then.
pub const TURN: Time = 4 * SECONDS;

use super::block::Order;
use super::happening::SessionNo;
use super::queue::{MILLIS, SECONDS, Time};
use crate::pattern::Value;
use crate::rng::Rng;

/// After this a host gives a command up: the shortest timeout of a path that hosts use.
pub const COMMAND_TIMEOUT: Time = 5 * SECONDS;
/// After this it gives the path up, if its abort is not answered.
const ABORT_TIMEOUT: Time = 2 * SECONDS;
/// After this it tries another login.
const LOGIN_TIMEOUT: Time = 1500 * MILLIS;
/// So many contents a host remembers.
const MEMORY_MAX: usize = 16;
/// Tries of one operation before it is given up: enough for any stall that is allowed.
const ATTEMPTS_MAX: u32 = 400;

/// What a host wants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// New contents of whole blocks, or of some sectors of them.
    Write {
        /// First block.
        first: u64,
        /// What they hold afterwards.
        values: Vec<Value>,
        /// Only these sectors, counted from the first block's first.
        sectors: Option<(u64, u64)>,
        /// Durable when answered.
        durable: bool,
        /// All of it is there, or none (M21); durable, too.
        is_atomic: bool,
    },
    /// Zeros.
    Clear {
        /// First block.
        first: u64,
        /// How many.
        count: u64,
        /// By WRITE SAME rather than UNMAP.
        is_fill: bool,
        /// Durable when answered.
        durable: bool,
    },
    /// One block, if it holds what is expected.
    CompareAndWrite {
        /// Which.
        block: u64,
        /// What it holds.
        expected: Value,
        /// What it shall hold.
        value: Value,
    },
    /// One block holds what is expected.
    Compare {
        /// Which.
        block: u64,
        /// What it holds.
        expected: Value,
    },
    /// One block, whoever else writes it, may hold what it did a while ago. If it compares, that was read.
    Guess {
        /// Which.
        block: u64,
        /// What it held.
        expected: Value,
    },
    /// All images can be read there.
    Verify {
        /// First block.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Contents.
    Read {
        /// First block.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Everything durable.
    Flush,
    /// The SCSI state (M20).
    ReadState,
    /// Another one.
    WriteState {
        /// What every block of it is.
        value: Value,
        /// How many blocks it has.
        count: usize,
    },
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// To be sent (again) at this time.
    Waits(Time),
    /// Sent on this path.
    Sent { node: usize, session: SessionNo, at: Time, aborted: Option<Time> },
    /// Its session is gone; the node may still carry it out until this time.
    Orphan { node: usize, until: Time },
}

/// One operation of a host.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) id: u64,
    pub(super) wish: Wish,
    pub(super) stage: Stage,
    pub(super) attempt: u32,
    /// When it was first asked.
    pub(super) begun: Order,
    /// When it was asked last.
    pub(super) asked: Order,
    /// When this host gives it up although it waits for an answer.
    pub(super) patience: Option<Time>,
    /// An inspection at the end: it may not be given up.
    pub(super) is_inspection: bool,
    /// The last try ended without an answer, and the book does not know yet.
    pub(super) is_orphaned: bool,
}

/// A way to the volume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Path {
    /// No session; a login is tried at this time.
    Closed(Time),
    /// A login is under way since then.
    LoggingIn(SessionNo, Time),
    /// Commands may be sent.
    Open(SessionNo),
}

/// A host.
#[derive(Debug)]
pub struct Host {
    pub(super) no: usize,
    pub(super) volume: usize,
    pub(super) rng: Rng,
    pub(super) paths: Vec<Path>,
    pub(super) ops: Vec<Op>,
    pub(super) next_op: u64,
    pub(super) quota: u64,
    pub(super) habits: Habits,
    /// When something new is asked.
    pub(super) next_wish: Time,
    /// The wake-up under way.
    pub(super) wakes_at: Option<Time>,
    /// Nothing new is asked any more.
    pub(super) is_done: bool,
    /// What some blocks held when it read them.
    pub(super) memory: Vec<(u64, Value)>,
}

impl Host {
    /// A host of this volume with paths through all nodes.
    pub fn new(no: usize, volume: usize, nodes: usize, quota: u64, mut rng: Rng) -> Self {
        let habits = match no {
            WATCHER => Habits::of_watcher(),
            SENDER => Habits::of_sender(),
            SPARSE => Habits::of_sparse(&mut rng),
            MOVER => Habits::of_mover(),
            LOOKER => Habits::of_looker(),
            TANGLER => Habits::of_tangler(),
            KEEPER => Habits::of_keeper(),
            HAMMERER => Habits::of_hammerer(),
            DROPPER => Habits { hurry: Some(40 * MILLIS), ..Habits::of_sparse(&mut rng) },
            CLEARER => Habits::of_clearer(),
            SCATTERER => Habits::of_scatterer(),
            JOINER => Habits::of_joiner(),
            _ => Habits::draw(&mut rng, nodes),
        };
        Self {
            no,
            volume,
            rng,
            paths: vec![Path::Closed(0); nodes],
            ops: Vec::new(),
            next_op: 0,
            quota,
            habits,
            next_wish: 0,
            wakes_at: None,
            is_done: false,
            memory: Vec::new(),
        }
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.no
    }

    /// Its volume.
    pub fn volume(&self) -> usize {
        self.volume
    }

    /// Whether a write of it is under way.
    pub fn is_writing(&self) -> bool {
        self.ops.iter().any(|op| op.wish.is_change() && matches!(op.stage, Stage::Sent { .. }))
    }

    /// Whether this wake-up is the one that was planned last.
    pub(super) fn woke(&mut self, now: Time) -> bool {
        self.wakes_at.take_if(|at| *at <= now).is_some()
    }

    /// When to wake up next, unless an earlier wake-up is planned already.
    pub(super) fn plan(&mut self, now: Time) -> Option<Time> {
        let at = self.next_at()?.max(now + 1000);
        if self.wakes_at.is_some_and(|planned| planned <= at && planned > now) {
            return None;
        }
        self.wakes_at = Some(at);
        Some(at)
    }

    /// Whether it is time for something new.
    pub(super) fn wants_more(&mut self, now: Time) -> bool {
        if self.is_done || self.quota == 0 || self.next_wish > now || self.ops.len() >= self.habits.depth {
            return false;
        }
        // Busy for a while, then still for a while.
        let pause = if !self.habits.is_restless && self.rng.chance(1, 60) {
            self.rng.below(2 * SECONDS)
        } else {
            self.rng.below(2 * self.habits.think)
        };
        self.next_wish = now + pause;
        self.quota -= 1;
        true
    }

    /// Whether the operation is still wanted.
    pub(super) fn has(&self, id: u64) -> bool {
        self.ops.iter().any(|op| op.id == id)
    }

    /// The operation is sent now: which try, and the command.
    pub(super) fn sent(&mut self, id: u64, asked: Order, slab: &Slab) -> Option<(u32, VolumeOp)> {
        let at = self.ops.iter().position(|op| op.id == id)?;
        debug_assert!(!self.ops[at].is_orphaned, "the book has to know first");
        let command = self.command(&self.ops[at].wish, slab)?;
        self.ops[at].asked = asked;
        Some((self.ops[at].attempt, command))
    }

    /// An operation in few words.
    pub(super) fn brief(&self, id: u64) -> String {
        let Some(op) = self.ops.iter().find(|op| op.id == id) else { return String::new() };
        match &op.wish {
            Wish::Write { first, values, sectors, durable, is_atomic } => {
                let last = first + values.len() as u64 - 1;
                format!(
                    "write {first}..={last} {}{}{}{}",
                    values[0],
                    if sectors.is_some() { " in part" } else { "" },
                    if *durable { " durably" } else { "" },
                    if *is_atomic { " atomically" } else { "" }
                )
            }
            wish => format!("{wish:?}"),
        }
    }

    /// Asks for nothing new any more.
    pub(super) fn finish(&mut self) {
        self.is_done = true;
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.ops.is_empty()
    }

    /// When the oldest operation under way was first asked.
    pub fn oldest(&self) -> Option<Order> {
        self.ops.iter().map(|op| op.begun).min()
    }

    /// What is under way, in words.
    pub fn tell(&self) -> String {
        let ops: Vec<String> = self.ops.iter().take(5).map(|op| format!("{:?} {:?}", op.wish, op.stage)).collect();
        format!("host {}: {} under way ({}), paths {:?}", self.no, self.ops.len(), ops.join("; "), self.paths)
    }
}

impl Wish {
    /// Whether it changes something.
    pub(super) fn is_change(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Clear { .. } | Self::CompareAndWrite { .. } | Self::WriteState { .. })
    }

    /// Whether all of it is to be there, or none (M21).
    pub(super) fn is_atomic(&self) -> bool {
        matches!(self, Self::Write { is_atomic: true, .. })
    }
}

/// One block of data.
pub(super) fn block_of(slab: &Slab, volume: usize, block: u64, value: Value) -> Option<Buf> {
    let mut buf = slab.take(crate::pattern::BLOCK).ok()?;
    crate::pattern::fill(&mut buf, volume as u64, block, value);
    Some(buf.freeze())
}

/// Data of consecutive blocks.
pub(super) fn data_of(slab: &Slab, volume: usize, first: u64, values: &[Value]) -> Option<Payload> {
    let mut payload = Payload::new();
    for (block, &value) in (first..).zip(values) {
        payload.push(block_of(slab, volume, block, value)?);
    }
    Some(payload)
}
