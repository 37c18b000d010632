//! A load generator: fixed queue depth, true random or sequential places, latencies of every command.

use std::time::{Duration, Instant};

use crate::disk::{Disk, DiskError, good, is_news};
use crate::histogram::Histogram;
use crate::initiator::{Cdb, Options, Session, SessionError, Transfer, cdb};
use crate::random::Random;

/// What the commands do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// READ.
    Read,
    /// WRITE.
    Write,
    /// WRITE, then SYNCHRONIZE CACHE, counted as one.
    WriteFlush,
}

/// Where they go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Anywhere in the area.
    Random,
    /// One after the other, around and around.
    Sequential,
    /// `offset` plus each multiple of `stride` bytes once, scattered over the area; then it ends.
    OncePer {
        /// Distance in bytes.
        stride: u64,
        /// Of the first place from the start.
        offset: u64,
    },
}

/// One run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What to do.
    pub kind: Kind,
    /// Where.
    pub order: Order,
    /// Bytes per command, a multiple of the logical block.
    pub size: u32,
    /// Commands in flight per session.
    pub depth: usize,
    /// Sessions, each with a thread of its own.
    pub sessions: u32,
    /// Bytes from the start of the unit that are used; 0 means all.
    pub area: u64,
    /// Ends the run.
    pub duration: Duration,
    /// Ends the run earlier, over all sessions; 0 means never.
    pub count: u64,
    /// Repeats the places of a random run.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Commands answered.
    pub count: u64,
    /// From the first submission to the last answer.
    pub elapsed: Duration,
    /// Latency of each.
    pub latency: Histogram,
}

impl Outcome {
    /// Commands per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Runs the load; the first error of any session ends it.
pub fn run(options: &Options, spec: &Spec) -> Result<Outcome, DiskError> {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..spec.sessions.max(1))
            .map(|index| {
                let options = Options { session: options.session.wrapping_add(index), ..options.clone() };
                scope.spawn(move || one_session(&options, spec, index))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a load thread panicked")).collect()
    });
    let mut total = Outcome::default();
    for outcome in outcomes {
        let outcome = outcome?;
        total.count += outcome.count;
        total.latency.merge(&outcome.latency);
        total.elapsed = total.elapsed.max(outcome.elapsed);
    }
    Ok(total)
}

fn one_session(options: &Options, spec: &Spec, index: u32) -> Result<Outcome, DiskError> {
    let disk = Disk::open(options)?;
    let capacity = disk.capacity();
    let area = if spec.area == 0 { capacity.bytes() } else { spec.area.min(capacity.bytes()) };
    let sessions = u64::from(spec.sessions.max(1));
    let mut runner = Runner {
        session: disk.into_session(),
        spec,
        places: Places {
            order: spec.order,
            slots: (area / u64::from(spec.size)).max(1),
            per_slot: u64::from(spec.size / capacity.block_len),
            block_len: u64::from(capacity.block_len),
            random: Random::new(spec.seed.wrapping_add(u64::from(index))),
            next: u64::from(index),
            step: sessions,
            area,
        },
        blocks: spec.size / capacity.block_len,
        limit: if spec.count == 0 { u64::MAX } else { (spec.count / sessions).max(1) },
        started: vec![Instant::now(); spec.depth.max(1)],
        asked: vec![cdb::test_unit_ready(); spec.depth.max(1) * 2],
        spare: Vec::new(),
        outcome: Outcome::default(),
    };
    runner.run()?;
    let outcome = runner.outcome;
    runner.session.logout()?;
    Ok(outcome)
}

struct Places {
    order: Order,
    slots: u64,
    per_slot: u64,
    block_len: u64,
    random: Random,
    next: u64,
    step: u64,
    area: u64,
}

impl Places {
    fn next(&mut self) -> Option<u64> {
        let ordinal = self.next;
        self.next += self.step;
        match self.order {
            Order::Random => Some(self.random.below(self.slots) * self.per_slot),
            Order::Sequential => Some(ordinal % self.slots * self.per_slot),
            Order::OncePer { stride, offset } => {
                let count = self.area / stride;
                let scattered = (u128::from(ordinal) * u128::from(scatter(count)) % u128::from(count.max(1))) as u64;
                (ordinal < count).then_some((scattered * stride + offset) / self.block_len)
            }
        }
    }
}

struct Runner<'a> {
    session: Session,
    spec: &'a Spec,
    places: Places,
    blocks: u32,
    limit: u64,
    started: Vec<Instant>,
    /// What each slot asked last, and its flush.
    asked: Vec<Cdb>,
    /// Buffers of writes whose flush is under way.
    spare: Vec<Vec<u8>>,
    outcome: Outcome,
}

impl Runner<'_> {
    fn run(&mut self) -> Result<(), DiskError> {
        let begin = Instant::now();
        let until = begin + self.spec.duration;
        let mut submitted = 0;
        let payload = payload(self.spec.size, self.spec.seed);
        for slot in 0..self.spec.depth.max(1) {
            if submitted < self.limit && self.submit(slot, payload.clone())? {
                submitted += 1;
            }
        }
        while self.session.in_flight() > 0 {
            let completion = self.session.wait()?;
            let slot = completion.user as usize;
            if is_news(&completion) {
                self.ask(slot, self.asked[slot], completion.transfer)?;
                continue;
            }
            let flushed = slot >= self.spec.depth;
            let slot = slot % self.spec.depth.max(1);
            if self.spec.kind == Kind::WriteFlush && !flushed {
                self.spare.push(good("a write", completion)?.into_bytes());
                self.ask(slot + self.spec.depth, cdb::synchronize_cache(), Transfer::None)?;
                continue;
            }
            let buffer = good("a command of the load", completion)?.into_bytes();
            let buffer = if flushed { self.spare.pop().unwrap_or_default() } else { buffer };
            let now = Instant::now();
            self.outcome.latency.add(now - self.started[slot]);
            self.outcome.count += 1;
            if now < until && submitted < self.limit {
                submitted += u64::from(self.submit(slot, buffer)?);
            }
        }
        self.outcome.elapsed = begin.elapsed();
        Ok(())
    }

    fn submit(&mut self, slot: usize, buffer: Vec<u8>) -> Result<bool, SessionError> {
        let Some(lba) = self.places.next() else { return Ok(false) };
        self.started[slot] = Instant::now();
        let (command, transfer) = match self.spec.kind {
            Kind::Read => (cdb::read(lba, self.blocks), Transfer::In(buffer)),
            Kind::Write | Kind::WriteFlush => (cdb::write(lba, self.blocks), Transfer::Out(buffer)),
        };
        self.ask(slot, command, transfer)?;
        Ok(true)
    }

    fn ask(&mut self, user: usize, command: Cdb, transfer: Transfer) -> Result<(), SessionError> {
        self.asked[user] = command;
        self.session.submit(user as u64, command, transfer)
    }
}

/// A step that visits all of `count` places, far from each other: near the golden section, coprime to `count`.
fn scatter(count: u64) -> u64 {
    let coprime = |step: u64| {
        let (mut a, mut b) = (step, count);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let near = (count as f64 * 0.618) as u64;
    (near..=count).find(|step| coprime(*step)).unwrap_or(1)
}

fn payload(size: u32, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; size as usize];
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&random.bits().to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::scatter;

    #[test]
    fn scattered_places_are_all_visited_once() {
        for count in [1, 2, 7, 100, 4096] {
            let mut seen: Vec<_> = (0..count).map(|ordinal| ordinal * scatter(count) % count).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..count), "{count}");
        }
    }
}
