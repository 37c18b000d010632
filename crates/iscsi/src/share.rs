//! Fair shares of a limited volume: which session's command may go on, and when.
//!
//! ```text
//!  session a ──▶ ▢▢▢▢ ─┐  each round a line gets a quantum     ┌───────────────────────┐
//!  session b ──▶ ▢ ────┼─ of credit, and may send what it pays ┤ paid until? (2 limits) ├──▶ go on
//!  session c ──▶ ▢▢ ───┘  for (deficit round robin)             └───────────────────────┘
//! ```
//!
//! A limit is kept by the time up to which what went on is paid. A command goes on when that time has come, whatever its
//! size, and moves it on by its price; so a large command passes, and others wait longer after it. Unused time is saved up
//! to the burst. In any span of time t what goes on is at most `rate * (t + burst)` and one command.
//!
//! Order: within a line as they came, HEAD OF QUEUE before (SAM-5 §8.6). What needs no share passes a line that waits,
//! but an ORDERED command passes nothing, and nothing passes it.

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};

use dyad_units::{Moment, Period};

use crate::event::TaskAttribute;

/// So much is saved up without any burst: whoever looks at the clock looks a little late, and nothing is lost by it.
const SAVED_MIN: Period = Period::from_millis(10);
/// Credit of a round, as the price of one command of so many bytes: large enough that commands of usual size go on in the
/// first round, small enough that one session's large ones do not come in bursts.
const QUANTUM_BYTES: u32 = 64 << 10;
/// More than a session waits for this long in line gets no place there while it has another command: below the time after
/// which hosts give a command up (30 s), so that they are told to send fewer at a time instead.
const WAIT_MAX: Period = Period::from_secs(10);
/// Times are kept in parts of a nanosecond: at the highest rate one byte takes less than a nanosecond.
const PARTS: u32 = 16;

/// How much may go on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rates {
    /// Commands per second; none: any number.
    pub commands: Option<NonZeroU32>,
    /// Bytes per second; none: any number.
    pub bytes: Option<NonZeroU64>,
    /// For so long an unused share is saved up.
    pub burst: Period,
}

/// What a command takes of the share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cost {
    /// Nothing: it does not touch the medium.
    Free,
    /// One command of so many bytes.
    Bytes(u32),
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It goes on.
    Go,
    /// It waits until [`Share::next`] names it.
    Wait,
    /// TASK SET FULL: its session has too much in line.
    Full,
}

/// Time up to which what went on is paid, in parts of a nanosecond, for one limit.
#[derive(Debug, Default)]
struct Meter(u128);

impl Meter {
    fn charge(&mut self, now: Moment, saved: Period, price: u128) {
        let from = parts(now.as_nanos().saturating_sub(saved.as_nanos()));
        self.0 = self.0.max(from).saturating_add(price);
    }
}

struct Waiting<T> {
    task: T,
    cost: Cost,
    is_ordered: bool,
}

struct Line<W, T> {
    who: W,
    tasks: VecDeque<Waiting<T>>,
    credit: u128,
    /// It got its credit of this round.
    has_turn: bool,
    /// Price of all that waits here.
    backlog: u128,
}

/// The share of one volume. `W` names a session, `T` a command of it.
pub struct Share<W, T> {
    rates: Rates,
    commands: Meter,
    bytes: Meter,
    /// One per session that ever waited, until it ends; found by looking: few sessions share a volume.
    lines: Vec<Line<W, T>>,
    /// Lines with somebody in it, the next to be served first.
    ring: VecDeque<W>,
}

impl<W: Copy + Eq, T: Copy + Eq> Share<W, T> {
    /// With nobody waiting.
    pub fn new(rates: Rates) -> Self {
        let (commands, bytes) = (Meter::default(), Meter::default());
        Self { rates, commands, bytes, lines: Vec::new(), ring: VecDeque::new() }
    }

    /// Other limits from now on, as if nothing had been used before.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
        for line in &mut self.lines {
            line.backlog = line.tasks.iter().map(|waiting| price(&rates, waiting.cost)).sum();
            line.credit = 0;
        }
        (self.commands, self.bytes) = (Meter::default(), Meter::default());
    }

    /// A command came.
    pub fn admit(&mut self, now: Moment, who: W, task: T, cost: Cost, attribute: TaskAttribute) -> Verdict {
        let is_ordered = attribute == TaskAttribute::Ordered;
        let line = self.lines.iter().position(|line| line.who == who);
        let tasks = line.map(|at| &self.lines[at].tasks).filter(|tasks| !tasks.is_empty());
        let passes = match (tasks, cost) {
            (None, Cost::Free) => true,
            (None, Cost::Bytes(_)) => self.ring.is_empty() && self.is_open(now),
            (Some(tasks), Cost::Free) => !is_ordered && !tasks.iter().any(|waiting| waiting.is_ordered),
            (Some(_), Cost::Bytes(_)) => false,
        };
        if passes {
            self.charge(now, cost);
            return Verdict::Go;
        }
        // Its own commands go on as fast as those of each other session that waits.
        let wait = line.map_or(0, |at| self.lines[at].backlog.saturating_mul(self.ring.len() as u128));
        if wait > parts(WAIT_MAX.as_nanos()) {
            return Verdict::Full;
        }
        let at = line.unwrap_or_else(|| {
            self.lines.push(Line { who, tasks: VecDeque::new(), credit: 0, has_turn: false, backlog: 0 });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        if line.tasks.is_empty() {
            self.ring.push_back(who);
        }
        line.backlog += price(&self.rates, cost);
        let waiting = Waiting { task, cost, is_ordered };
        match attribute {
            TaskAttribute::HeadOfQueue => line.tasks.push_front(waiting),
            _ => line.tasks.push_back(waiting),
        }
        Verdict::Wait
    }

    /// The next command that may go on now. To be asked until there is none.
    pub fn next(&mut self, now: Moment) -> Option<(W, T)> {
        let quantum = price(&self.rates, Cost::Bytes(QUANTUM_BYTES));
        while self.is_open(now) {
            let who = *self.ring.front()?;
            let line = self.lines.iter_mut().find(|line| line.who == who)?;
            let cost = line.tasks.front()?.cost;
            let price = price(&self.rates, cost);
            if !std::mem::replace(&mut line.has_turn, true) {
                line.credit += quantum;
            }
            if line.credit < price {
                line.has_turn = false;
                self.ring.rotate_left(1);
                continue;
            }
            (line.credit, line.backlog) = (line.credit - price, line.backlog.saturating_sub(price));
            let task = line.tasks.pop_front()?.task;
            if line.tasks.is_empty() {
                (line.credit, line.has_turn) = (0, false);
                self.ring.pop_front();
            }
            self.charge(now, cost);
            return Some((who, task));
        }
        None
    }

    /// When [`Self::next`] is to be asked again; `None`: nobody waits.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.ring.front()?;
        let paid = self.commands.0.max(self.bytes.0);
        Some(Moment::from_nanos(u64::try_from(paid.div_ceil(1 << PARTS)).unwrap_or(u64::MAX)))
    }

    /// A command is given up; whether it waited.
    pub fn forget(&mut self, who: W, task: T) -> bool {
        let Some(line) = self.lines.iter_mut().find(|line| line.who == who) else { return false };
        let Some(at) = line.tasks.iter().position(|waiting| waiting.task == task) else { return false };
        let gone = line.tasks.remove(at).map_or(0, |waiting| price(&self.rates, waiting.cost));
        line.backlog = line.backlog.saturating_sub(gone);
        if line.tasks.is_empty() {
            (line.credit, line.has_turn) = (0, false);
            self.ring.retain(|waiting| *waiting != who);
        }
        true
    }

    /// A session is over; its commands were given up before.
    pub fn forget_session(&mut self, who: W) {
        self.ring.retain(|waiting| *waiting != who);
        self.lines.retain(|line| line.who != who);
    }

    /// Commands that wait.
    pub fn len(&self) -> usize {
        self.lines.iter().map(|line| line.tasks.len()).sum()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    fn is_open(&self, now: Moment) -> bool {
        let now = parts(now.as_nanos());
        let is_paid = |meter: &Meter, is_limited: bool| !is_limited || meter.0 <= now;
        is_paid(&self.commands, self.rates.commands.is_some()) && is_paid(&self.bytes, self.rates.bytes.is_some())
    }

    fn charge(&mut self, now: Moment, cost: Cost) {
        let (Cost::Bytes(bytes), saved) = (cost, self.rates.burst.max(SAVED_MIN)) else { return };
        if let Some(rate) = self.rates.commands {
            self.commands.charge(now, saved, per(1, u64::from(rate.get())));
        }
        if let Some(rate) = self.rates.bytes {
            self.bytes.charge(now, saved, per(u64::from(bytes), rate.get()));
        }
    }
}

/// The time that a command takes of the limit that it strains most.
fn price(rates: &Rates, cost: Cost) -> u128 {
    let Cost::Bytes(bytes) = cost else { return 0 };
    let commands = rates.commands.map_or(0, |rate| per(1, u64::from(rate.get())));
    commands.max(rates.bytes.map_or(0, |rate| per(u64::from(bytes), rate.get())))
}

/// The time that so much takes at so much per second.
fn per(amount: u64, rate: u64) -> u128 {
    parts(1_000_000_000) * u128::from(amount) / u128::from(rate)
}

fn parts(nanos: u64) -> u128 {
    u128::from(nanos) << PARTS
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
