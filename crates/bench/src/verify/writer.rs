//! Random work that can be judged afterwards.

use std::time::{Duration, Instant};

use super::book::{Book, Span};
use super::check::{CheckError, Report, check};
use super::pattern::{SECTOR, Value, fill, value_of};
use crate::disk::DiskError;
use crate::initiator::{Completion, Session, SessionError, Transfer, cdb};
use crate::random::Random;

/// Sectors of a block: spans in flight never share one, so that each block has one writer at a time.
const BLOCK: u64 = 8;
/// Tries to find a place that nothing in flight touches.
const PLACES_MAX: usize = 64;
/// Status BUSY and TASK SET FULL (SAM-5 §5.3.1): a host tries again later.
const LATER: [u8; 2] = [0x08, 0x28];
/// Sense keys after which a host tries again: UNIT ATTENTION, ABORTED COMMAND (SPC-4 §4.5.6).
const AGAIN: [u8; 2] = [0x06, 0x0b];
/// SPACE ALLOCATION FAILED WRITE PROTECT (SBC-3 §4.7.3.6).
const NO_SPACE: (u8, u8, u8) = (7, 0x27, 7);

/// What kind of work, in percent; the rest is whole-block writes.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Reads, compared at once.
    pub reads: u32,
    /// SYNCHRONIZE CACHE.
    pub flushes: u32,
    /// UNMAP of whole blocks (read as zeros afterwards).
    pub unmaps: u32,
    /// Writes of parts of blocks, where logical blocks are smaller.
    pub partial: u32,
    /// Writes with FUA.
    pub fua: u32,
    /// Largest write in blocks of 4 KiB.
    pub blocks_max: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self { reads: 15, flushes: 2, unmaps: 3, partial: 15, fua: 2, blocks_max: 32 }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Writes and unmaps acknowledged.
    pub writes: u64,
    /// Reads compared.
    pub reads: u64,
    /// Flushes acknowledged.
    pub flushes: u64,
    /// Commands that ended with a status other than GOOD.
    pub refused: u64,
    /// Of those, for want of space.
    pub no_space: u64,
    /// Of those, with an error after which a host does not just try again.
    pub errors: u64,
    /// Writes without an answer when the session ended.
    pub unanswered: u64,
}

/// Why the work ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The session ended; expected when the target was killed.
    #[error("the session ended")]
    Session(#[from] SessionError),
    /// A read was answered with what may not be there.
    #[error("sector {sector} holds {seen:?} instead of {acked}")]
    Wrong {
        /// Where.
        sector: u64,
        /// What is there, if it is something of ours.
        seen: Option<Value>,
        /// What was acknowledged.
        acked: Value,
    },
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(Span, Value),
    Read(Span),
    Flush,
}

/// The writer; it outlives sessions, as a host outlives a restart of the target.
#[derive(Debug)]
pub struct Writer {
    seed: u64,
    block_len: u32,
    mix: Mix,
    random: Random,
    book: Book,
    next: Value,
    ops: Vec<Option<Op>>,
    buffers: Vec<Vec<u8>>,
    tally: Tally,
    first_refusal: Option<String>,
    first_error: Option<String>,
    acks: Option<Vec<Instant>>,
    pause: Duration,
}

impl Writer {
    /// A writer for the first `sectors` sectors of a unit that holds zeros, `depth` commands deep.
    pub fn new(seed: u64, sectors: u64, block_len: u32, depth: usize, mix: Mix) -> Self {
        let book = Book::new(sectors / BLOCK * BLOCK);
        let random = Random::new(seed);
        let ops = vec![None; depth];
        let (buffers, tally) = (Vec::new(), Tally::default());
        let (first_refusal, first_error, acks, pause) = (None, None, None, Duration::ZERO);
        let next = 1;
        Self { seed, block_len, mix, random, book, next, ops, buffers, tally, first_refusal, first_error, acks, pause }
    }

    /// Leaves so much time between commands: work that is to be interrupted need not use up the machine.
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// From now on the times of acknowledged writes are kept, in order; those kept so far are given away.
    pub fn take_acks(&mut self) -> Vec<Instant> {
        self.acks.replace(Vec::new()).unwrap_or_default()
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The first answer that was not GOOD, in words.
    pub fn first_refusal(&self) -> Option<&str> {
        self.first_refusal.as_deref()
    }

    /// The first error after which a host does not just try again, in words.
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Works until `until`. After an error everything in flight counts as unanswered.
    pub fn run(&mut self, session: &mut Session, until: Instant) -> Result<(), RunError> {
        let result = self.work(session, until);
        for op in self.ops.iter_mut().filter_map(Option::take) {
            if let Op::Write(span, value) = op {
                self.book.leave_open(span, value);
                self.tally.unanswered += 1;
            }
        }
        result
    }

    /// Reads everything back.
    pub fn check(&mut self, session: &mut Session) -> Result<Report, CheckError> {
        check(session, self.seed, self.block_len, &mut self.book)
    }

    /// Writes every block once, in order, so that the unit is fully allocated.
    pub fn prefill(&mut self, session: &mut Session) -> Result<(), RunError> {
        let chunk = 512.min(self.book.len());
        for first in (0..self.book.len()).step_by(chunk as usize) {
            let span = Span { first, count: chunk.min(self.book.len() - first) as u32 };
            let value = self.value();
            let slot = self.free_slot(session)?;
            self.write(session, slot, span, value)?;
        }
        self.drain(session)
    }

    fn work(&mut self, session: &mut Session, until: Instant) -> Result<(), RunError> {
        while Instant::now() < until {
            let slot = self.free_slot(session)?;
            self.submit(session, slot)?;
            if !self.pause.is_zero() {
                // What was submitted is under way before this sleeps.
                session.stream().flush().map_err(SessionError::from)?;
                std::thread::sleep(self.pause);
            }
        }
        self.drain(session)
    }

    fn free_slot(&mut self, session: &mut Session) -> Result<usize, RunError> {
        loop {
            if let Some(slot) = self.ops.iter().position(Option::is_none) {
                return Ok(slot);
            }
            let completion = session.wait()?;
            self.on_completion(completion)?;
        }
    }

    fn drain(&mut self, session: &mut Session) -> Result<(), RunError> {
        while session.in_flight() > 0 {
            let completion = session.wait()?;
            self.on_completion(completion)?;
        }
        Ok(())
    }

    fn submit(&mut self, session: &mut Session, slot: usize) -> Result<(), RunError> {
        if self.random.percent(self.mix.flushes) {
            self.ops[slot] = Some(Op::Flush);
            return Ok(session.submit(slot as u64, cdb::synchronize_cache(), Transfer::None)?);
        }
        let Some(span) = self.place() else {
            // Everything near is in flight: one of those has to end first.
            let completion = session.wait()?;
            return self.on_completion(completion);
        };
        if self.random.percent(self.mix.reads) {
            self.ops[slot] = Some(Op::Read(span));
            let mut buffer = self.buffers.pop().unwrap_or_default();
            buffer.resize(span.count as usize * SECTOR, 0);
            let (lba, blocks) = self.address(span);
            return Ok(session.submit(slot as u64, cdb::read(lba, blocks), Transfer::In(buffer))?);
        }
        if self.random.percent(self.mix.unmaps) && span.first.is_multiple_of(BLOCK) && span.count.is_multiple_of(8) {
            self.ops[slot] = Some(Op::Write(span, 0));
            let (lba, blocks) = self.address(span);
            let list = Transfer::Out(cdb::unmap_list(lba, blocks));
            return Ok(session.submit(slot as u64, cdb::unmap(24), list)?);
        }
        let value = self.value();
        self.write(session, slot, span, value)
    }

    fn write(&mut self, session: &mut Session, slot: usize, span: Span, value: Value) -> Result<(), RunError> {
        self.ops[slot] = Some(Op::Write(span, value));
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.resize(span.count as usize * SECTOR, 0);
        fill(self.seed, span.first, value, &mut buffer);
        let (lba, blocks) = self.address(span);
        let fua = self.random.percent(self.mix.fua);
        let command = if fua { cdb::write_fua(lba, blocks) } else { cdb::write(lba, blocks) };
        Ok(session.submit(slot as u64, command, Transfer::Out(buffer))?)
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), RunError> {
        let slot = completion.user as usize;
        let Some(op) = self.ops[slot].take() else { return Ok(()) };
        let good = completion.status == 0;
        if !good {
            self.note_refusal(op, &completion);
        }
        let buffer = completion.transfer.into_bytes();
        match op {
            Op::Write(span, value) if good => {
                self.book.acknowledge(span, value);
                self.tally.writes += 1;
                self.acks.iter_mut().for_each(|acks| acks.push(Instant::now()));
            }
            Op::Write(span, value) => self.book.leave_open(span, value),
            Op::Flush => self.tally.flushes += u64::from(good),
            Op::Read(span) if good => {
                self.tally.reads += 1;
                self.compare(span, &buffer)?;
            }
            Op::Read(_) => {}
        }
        if self.buffers.len() < self.ops.len() {
            self.buffers.push(buffer);
        }
        Ok(())
    }

    fn note_refusal(&mut self, op: Op, completion: &Completion) {
        let (status, sense) = (completion.status, completion.sense_codes());
        let words = || format!("{op:?}: {}", DiskError::Status { what: "a command", status, sense });
        self.tally.refused += 1;
        self.first_refusal.get_or_insert_with(words);
        if sense == Some(NO_SPACE) {
            self.tally.no_space += 1;
        } else if !LATER.contains(&status) && !sense.is_some_and(|(key, ..)| AGAIN.contains(&key)) {
            self.tally.errors += 1;
            self.first_error.get_or_insert_with(words);
        }
    }

    fn compare(&mut self, span: Span, bytes: &[u8]) -> Result<(), RunError> {
        for (sector, bytes) in span.sectors().zip(bytes.chunks_exact(SECTOR)) {
            let seen = value_of(self.seed, sector, bytes);
            let acked = self.book.acked(sector);
            if !self.book.see(sector, seen) {
                return Err(RunError::Wrong { sector, seen, acked });
            }
        }
        Ok(())
    }

    /// A span that shares no block with anything in flight.
    fn place(&mut self) -> Option<Span> {
        let partial = (self.block_len as usize) < BLOCK as usize * SECTOR && self.random.percent(self.mix.partial);
        for _ in 0..PLACES_MAX {
            let span = if partial { self.partial_span() } else { self.whole_span() };
            let busy = self.ops.iter().flatten().any(|op| match op {
                Op::Write(other, _) | Op::Read(other) => other.overlaps(span, BLOCK),
                Op::Flush => false,
            });
            if !busy {
                return Some(span);
            }
        }
        None
    }

    fn whole_span(&mut self) -> Span {
        let blocks = self.book.len() / BLOCK;
        let count = 1 + self.random.below(u64::from(self.mix.blocks_max).min(blocks));
        let first = self.random.below(blocks - count + 1);
        Span { first: first * BLOCK, count: (count * BLOCK) as u32 }
    }

    fn partial_span(&mut self) -> Span {
        let count = 1 + self.random.below(3 * BLOCK).min(self.book.len() - 1);
        Span { first: self.random.below(self.book.len() - count + 1), count: count as u32 }
    }

    fn address(&self, span: Span) -> (u64, u32) {
        let per_block = self.block_len / SECTOR as u32;
        (span.first / u64::from(per_block), span.count / per_block)
    }

    fn value(&mut self) -> Value {
        self.next += 1;
        self.next - 1
    }
}
