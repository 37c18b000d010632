//! What one block may read as: an online check that its history is linearizable, over crashes too.
//!
//! Every write has a value of its own, so reads name the write that they saw. Of each write we know between which two
//! moments it took effect, and at which moments it was certainly there (Gibbons and Korach 1997): `f`, the first moment by
//! which somebody knew it in effect, and `s`, the last one at which it was certainly not yet overwritten. If `f < s` the
//! write was in effect from `f` to `s`; two such stretches must not overlap. If not, it took effect between `s` and `f`;
//! that must not lie within the stretch of another.
//!
//! A write without an answer, or with one that does not say whether it happened (A3, M19), counts only once somebody
//! has read it; but it must have happened by the time it was given up.

use super::queue::Time;
use crate::pattern::Value;

mod rot;

pub use rot::Rotted;

/// Order of happenings: rises with every event of the run, so that no two are at once.
pub type Order = u64;

/// Nodes, one bit each.
pub type Nodes = u8;

/// One write of the block.
#[derive(Clone, Copy, Debug)]
struct Write {
    value: Value,
    /// The same, but for a merge: what its host took that to be.
    meant: Value,
    begun: Order,
    /// By then it has happened or never will; `Order::MAX` while it is under way.
    until: Order,
    is_acked: bool,
    /// First answer and last asking of reads that saw it.
    seen: Option<(Order, Order)>,
    /// Nodes that have it in memory or on disk, while it is not durable; known when it is acked or seen.
    holders: Nodes,
    /// Nodes that lost their memory since it was begun.
    forgot: Nodes,
    /// A node that may have had it lost its memory while it was not acknowledged: its disk may hold it in parts (A5).
    is_cut: bool,
    is_durable: bool,
    /// One of those of which exactly one was there after a loss of all memory (A5).
    is_candidate: bool,
    /// It writes some sectors only, and was under way at a loss of all memory or a fork: it is merged into what was left,
    /// and nobody has seen yet what that was.
    is_merge: bool,
}

impl Write {
    /// Whether it happened for certain.
    fn is_certain(&self) -> bool {
        self.is_acked || self.seen.is_some()
    }

    /// It happened by then, if it did.
    fn f(&self) -> Order {
        self.until.min(self.seen.map_or(Order::MAX, |(first, _)| first))
    }

    /// It was not overwritten before.
    fn s(&self) -> Order {
        self.begun.max(self.seen.map_or(0, |(_, last)| last))
    }

    /// Whether it would survive that all its holders lost their memory.
    fn is_safe(&self) -> bool {
        self.is_acked && (self.is_durable || self.holders != 0)
    }
}

/// The history of one block, as long as it matters.
#[derive(Clone, Debug, Default)]
pub struct Block {
    writes: Vec<Write>,
    /// Reads that were asked before are not judged: all memory was lost, or a fork made, while they were under way.
    era: Order,
    /// When a node last lost its memory: what was not durable then may be there in parts (A5).
    lost_at: Order,
    /// After a forced promotion (M10) the block may hold anything that was ever written.
    is_forked: bool,
}

/// The initial content.
const NOTHING: Write = Write {
    value: Value::ZERO,
    meant: Value::ZERO,
    begun: 0,
    until: 0,
    is_acked: true,
    seen: None,
    holders: 0,
    forgot: 0,
    is_cut: false,
    is_durable: true,
    is_candidate: false,
    is_merge: false,
};

impl Block {
    fn awake(&mut self) -> &mut Vec<Write> {
        if self.writes.is_empty() && !self.is_forked {
            self.writes.push(NOTHING);
        }
        &mut self.writes
    }

    /// When something may last have been lost.
    pub fn era(&self) -> Order {
        self.era
    }

    /// Somebody asks to write.
    pub fn begin(&mut self, value: Value, now: Order) {
        let fresh =
            Write { value, meant: value, begun: now, until: Order::MAX, is_acked: false, is_durable: false, ..NOTHING };
        self.awake().push(fresh);
    }

    fn find(&mut self, value: Value) -> Option<&mut Write> {
        self.writes.iter_mut().rev().find(|write| write.value == value)
    }

    fn find_meant(&mut self, value: Value) -> Option<&mut Write> {
        self.writes.iter_mut().rev().find(|write| write.meant == value)
    }

    /// The write was acknowledged; `holders` are the nodes in sync.
    pub fn acked(&mut self, value: Value, now: Order, holders: Nodes, is_durable: bool) -> Result<(), String> {
        let Some(write) = self.find_meant(value) else { return Ok(()) };
        write.until = write.until.min(now);
        write.holders |= holders & !write.forgot;
        write.is_durable |= is_durable;
        // All who had it may have lost it between the answer and its arrival.
        write.is_acked = write.is_durable || write.holders != 0;
        let write = *write;
        self.judge(&write)
    }

    /// The write was answered or given up without a word on whether it happened: it did by now, or never will (M19).
    pub fn closed(&mut self, value: Value, now: Order) {
        if let Some(write) = self.find_meant(value) {
            write.until = write.until.min(now);
        }
    }

    /// A read that was asked at `asked` showed `value`. `tears` says whether disks may leave a block in parts (A5).
    pub fn read(&mut self, value: Value, asked: Order, now: Order, holders: Nodes, tears: bool) -> Result<(), String> {
        if asked < self.era {
            return Ok(());
        }
        self.awake();
        if self.find(value).is_none() {
            self.find_out(value, asked, tears)?;
        }
        let lost_at = self.lost_at;
        let Some(write) = self.find(value) else { return Ok(()) };
        let is_gone = !write.is_durable && !write.is_acked && write.forgot != 0 && holders & !write.forgot == 0;
        if write.seen.is_none() && is_gone && asked < lost_at {
            return Ok(()); // Answered before all who had it lost their memory.
        }
        if now < write.begun {
            return Err(format!("it shows {value} before that was asked for"));
        }
        if write.seen.is_none() && !write.is_acked {
            write.holders = holders & !write.forgot;
        }
        let (first, last) = write.seen.unwrap_or((now, asked));
        write.seen = Some((first.min(now), last.max(asked)));
        write.is_merge = false;
        let was_candidate = std::mem::take(&mut write.is_candidate);
        write.is_durable |= was_candidate;
        let write = *write;
        if was_candidate {
            // What was seen after the restart stays so (A5).
            self.writes.retain(|other| !other.is_candidate);
            self.is_forked = false;
            for other in self.writes.iter_mut().filter(|other| other.is_merge && write.begun < other.until) {
                // Nothing else is written meanwhile: this is what it is merged into.
                (other.value, other.is_merge) = (other.value.over(value), false);
            }
        }
        self.judge(&write)
    }

    /// Where content comes from that nobody wrote as it is, seen by a read that was asked at `asked`.
    fn find_out(&mut self, value: Value, asked: Order, tears: bool) -> Result<(), String> {
        let parts: Vec<Value> = self.parts(asked).map(|write| write.value).collect();
        let parts = parts.iter().copied();
        let is_torn = tears && value.is_torn() && value.is_made_of(parts.clone());
        let is_left = |merge: Value| self.is_forked || is_torn || parts.clone().any(|part| merge.over(part) == value);
        let is_it = |write: &Write| write.is_merge && write.value.over(value) == value && is_left(write.value);
        if let Some(at) = self.writes.iter().position(is_it) {
            let merge = &mut self.writes[at];
            (merge.value, merge.is_merge) = (value, false);
            return Ok(());
        }
        let is_rotten = value.is_rotten() && value.is_made_of(parts);
        if !is_torn && !is_rotten && !self.is_forked {
            return Err(format!("it shows {value}, which was overwritten long ago or never written{}", self.tell()));
        }
        let torn_at = self.era.max(self.lost_at);
        let found = Write {
            value,
            meant: value,
            begun: torn_at,
            until: torn_at,
            is_acked: false,
            is_candidate: true,
            ..NOTHING
        };
        self.writes.push(found);
        Ok(())
    }

    /// What the block may be made of that a read asked at `asked` shows after a loss of memory (A5).
    fn parts(&self, asked: Order) -> impl Iterator<Item = &Write> + Clone {
        // Of writes that overlapped either may be the last one.
        let last = self.last(asked);
        let may_be_last =
            move |write: &Write| write.is_certain() && (Some(write.f()) >= last || Some(write.s()) == last);
        self.writes.iter().filter(move |write| self.is_open(write, last) || may_be_last(write))
    }

    /// By when the last write that was there for certain was not overwritten.
    fn last(&self, asked: Order) -> Option<Order> {
        let was_there = |write: &&Write| write.is_certain() && write.f() <= asked;
        self.writes.iter().filter(was_there).map(Write::s).max()
    }

    /// Whether a loss of memory may have left the write there, in whole or in part, or not.
    fn is_open(&self, write: &Write, last: Option<Order>) -> bool {
        let was_under_way = write.begun <= self.era && self.era < write.until;
        let was_cut = write.is_cut && Some(write.until) > last;
        let may_be_torn = !write.is_durable && write.holders == 0 && (write.forgot != 0 || was_cut);
        write.is_candidate || write.until == Order::MAX || was_under_way || may_be_torn
    }

    /// Whether the write agrees with every other one that happened.
    fn judge(&self, write: &Write) -> Result<(), String> {
        let (f, s) = (write.f(), write.s());
        if !write.is_certain() {
            return Ok(());
        }
        for other in self.writes.iter().filter(|other| other.is_certain() && other.value != write.value) {
            let (of, os) = (other.f(), other.s());
            let clash = match (f < s, of < os) {
                (true, true) => f.max(of) < s.min(os),
                (true, false) => f < os && of < s,
                (false, true) => of < s && f < os,
                (false, false) => false,
            };
            if clash {
                let (one, two) = (write.value, other.value);
                return Err(format!("{one} and {two} were each there after the other{}", self.tell()));
            }
        }
        Ok(())
    }

    /// A flush that was asked at `asked` was answered: what was acknowledged before is durable (A2).
    pub fn flushed(&mut self, asked: Order) {
        for write in self.writes.iter_mut().filter(|write| write.is_acked && write.until < asked) {
            write.is_durable = true;
        }
    }

    /// These nodes lost their memory.
    pub fn forgot(&mut self, nodes: Nodes, now: Order) {
        self.lost_at = now;
        for write in &mut self.writes {
            write.forgot |= nodes;
            write.is_cut |= !write.is_acked;
            write.holders &= !nodes;
        }
        // What was overwritten by a write that is still there may be lost without anybody's noticing.
        let is_covered = |write: &Write| self.writes.iter().any(|other| other.is_safe() && write.f() < other.begun);
        let is_exposed = |write: &Write| write.is_certain() && !write.is_durable && write.holders == 0;
        if self.writes.iter().any(|write| is_exposed(write) && !is_covered(write)) {
            self.begin_era(now);
        }
    }

    /// Everything that is not durable anywhere may be gone: old or new, but one of them (A5).
    fn begin_era(&mut self, now: Order) {
        let is_durable = |write: &&Write| write.is_acked && write.is_durable;
        let durable: Vec<Order> = self.writes.iter().filter(is_durable).map(|write| write.begun).collect();
        self.writes.retain(|write| !durable.iter().any(|&begun| write.f() < begun));
        self.era = now;
        self.merge_into_unknown();
        for write in &mut self.writes {
            (write.is_acked, write.is_durable, write.seen, write.holders) = (false, false, None, 0);
            if write.until != Order::MAX {
                (write.begun, write.until, write.is_candidate) = (now, now, true);
            }
        }
    }

    /// A write of some sectors that is under way is merged into what is there now, which its host does not know.
    fn merge_into_unknown(&mut self) {
        for write in &mut self.writes {
            write.is_merge |= write.until == Order::MAX && write.seen.is_none() && write.value.is_torn();
        }
    }

    /// The node's image is in sync from now on: it has what the others have, whatever it forgot before it caught up (M16).
    pub fn joined(&mut self, node: Nodes) {
        for write in &mut self.writes {
            write.forgot &= !node;
            write.holders |= if write.holders == 0 { 0 } else { node };
        }
    }

    /// The node's image is out: whatever it has, it will not be asked (M9), and does not keep from loss (A1).
    pub fn left(&mut self, node: Nodes) {
        self.writes.iter_mut().for_each(|write| write.holders &= !node);
    }

    /// An image that was behind became owner by an administrator's decision (M10).
    pub fn forked(&mut self, now: Order) {
        self.writes.retain(|write| write.until == Order::MAX);
        (self.era, self.is_forked) = (now, true);
        self.merge_into_unknown();
    }

    /// Forgets writes that nobody can see any more, not even a read asked at `oldest`.
    pub fn prune(&mut self, oldest: Order) {
        if self.writes.len() < 4 {
            return;
        }
        let settled = |write: &&Write| write.is_acked && write.is_durable && write.f() < oldest;
        let Some(last) = self.writes.iter().filter(settled).map(|write| write.begun).max() else { return };
        self.writes.retain(|write| write.f() >= last);
    }

    /// What the block holds, if that is certain: nothing under way, nothing unknown.
    pub fn certain(&self) -> Option<Value> {
        if self.writes.is_empty() {
            return (!self.is_forked).then_some(Value::ZERO);
        }
        let last = self.writes.iter().filter(|write| write.is_certain()).max_by_key(|write| write.s())?;
        let is_before = |write: &Write| write.value == last.value || write.f() < last.s();
        let is_known = last.until != Order::MAX && !last.is_merge && !last.value.is_rotten();
        (is_known && self.writes.iter().all(is_before)).then_some(last.value)
    }

    /// Whether it holds this value for certain, whatever is under way.
    pub fn holds(&self, value: Value) -> bool {
        if self.writes.is_empty() {
            return !self.is_forked && value == Value::ZERO;
        }
        let Some(last) = self.writes.iter().filter(|write| write.is_certain()).max_by_key(|write| write.s()) else {
            return false;
        };
        let is_before = |write: &Write| write.until == Order::MAX || write.value == value || write.f() < last.s();
        last.value == value && self.writes.iter().all(is_before) && !last.is_merge && !value.is_rotten()
    }

    /// Whether reads of zeros could only mean an unmap that begins now.
    pub fn zeros_are_gone(&self) -> bool {
        let zeros = self.writes.iter().filter(|write| write.value == Value::ZERO);
        let mut bounds = zeros.map(Write::f).chain(self.writes.is_empty().then_some(0));
        bounds.all(|f| self.writes.iter().any(|write| write.is_acked && write.value != Value::ZERO && f < write.begun))
            && !self.is_forked
    }

    /// The writes that matter, for the story.
    pub fn tell(&self) -> String {
        let tell = |write: &Write| {
            let until = if write.until == Order::MAX { "?".to_owned() } else { write.until.to_string() };
            let ack = if write.is_acked { " acked" } else { "" };
            let seen = write.seen.map_or(String::new(), |(first, last)| format!(" seen {last}..{first}"));
            let safe = if write.is_durable { " durable" } else { "" };
            format!("{} [{}, {until}]{ack}{seen}{safe} held by {:#b}", write.value, write.begun, write.holders)
        };
        format!("; known: {}", self.writes.iter().map(tell).collect::<Vec<_>>().join(", "))
    }
}

/// For messages.
pub fn at_seconds(time: Time) -> String {
    format!("{}.{:06}", time / 1_000_000_000, time / 1000 % 1_000_000)
}

#[cfg(test)]
mod tests;
