//! What the host asks, and whether the answers are right (A1, A2, A5).

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_mirror::{Event, OpId};
use dyad_payload::Payload;
use dyad_units::{Span, Stamp};
use smallvec::smallvec;

use super::Mirrored;
use crate::model::{Instant, Violation};
use crate::pattern::{BLOCK, SECTOR, Value, fill};
use crate::player::Stop;

const SECTORS: u64 = (BLOCK / SECTOR) as u64;

/// Weights of a host's commands.
#[derive(Clone, Debug)]
pub struct HostHabits {
    /// Commands in flight at most.
    pub depth: usize,
    /// Of `100`: how often something new is asked.
    pub eagerness: u64,
    /// Writes of whole blocks.
    pub write: u64,
    /// Writes of some sectors.
    pub partial: u64,
    /// Unmaps.
    pub unmap: u64,
    /// Reads.
    pub read: u64,
    /// Flushes.
    pub flush: u64,
    /// Compare-and-writes of one block.
    pub compare: u64,
    /// Of `100`: writes that must be durable when answered.
    pub durable: u64,
    /// Of `100`: commands that are given up again.
    pub abort: u64,
}

impl HostHabits {
    /// Everything.
    pub fn mixed() -> Self {
        Self {
            depth: 8,
            eagerness: 25,
            write: 40,
            partial: 12,
            unmap: 8,
            read: 25,
            flush: 8,
            compare: 7,
            durable: 8,
            abort: 3,
        }
    }

    fn total(&self) -> u64 {
        self.write + self.partial + self.unmap + self.read + self.flush + self.compare
    }
}

/// A command on its way.
#[derive(Clone, Debug)]
pub(super) enum HostOp {
    Change { first: u64, count: u64, durable: bool },
    Read { first: u64, count: u64 },
    Flush { begun: Instant },
}

impl HostOp {
    fn blocks(&self) -> std::ops::Range<u64> {
        match self {
            Self::Change { first, count, .. } | Self::Read { first, count } => *first..first + count,
            Self::Flush { .. } => 0..0,
        }
    }
}

impl Mirrored {
    /// Asks something, if the draw allows it.
    pub(super) fn issue(&mut self) -> bool {
        let habits = self.cast.habits.clone();
        if self.ops.len() >= habits.depth {
            return false;
        }
        let mut draw = self.rng.below(habits.total());
        let mut is = |weight: u64| {
            let hit = draw < weight;
            draw = draw.wrapping_sub(weight);
            hit
        };
        if is(habits.write) {
            self.write_blocks()
        } else if is(habits.partial) {
            self.write_sectors()
        } else if is(habits.unmap) {
            self.unmap_blocks()
        } else if is(habits.read) {
            let (first, count) = self.draw_blocks();
            self.is_free(first, count, false)
                && self.ask(HostOp::Read { first, count }, VolumeOp::Read { span: blocks(first, count) })
        } else if is(habits.flush) {
            let begun = self.model.flush();
            self.ask(HostOp::Flush { begun }, VolumeOp::Flush)
        } else {
            self.compare_and_write()
        }
    }

    pub(super) fn ask(&mut self, op: HostOp, command: VolumeOp) -> bool {
        self.next_op += 1;
        let id = OpId(self.next_op);
        self.story.tell(|| format!("host {id:?}: {op:?}"));
        self.ops.insert(id, op);
        self.tell(Event::Op { id, op: command, arrived: self.now });
        if self.rng.chance(self.cast.habits.abort, 100) {
            self.tell(Event::Abort { id });
        }
        true
    }

    fn version(&mut self) -> u32 {
        self.next_version += 1;
        self.next_version
    }

    /// A host keeps its own commands apart: else the model could not tell what a read should show.
    fn is_free(&self, first: u64, count: u64, changes: bool) -> bool {
        let overlaps = |op: &HostOp| op.blocks().start < first + count && first < op.blocks().end;
        let clashes = |op: &HostOp| overlaps(op) && (changes || matches!(op, HostOp::Change { .. }));
        !self.ops.values().any(clashes)
    }

    fn draw_blocks(&mut self) -> (u64, u64) {
        let count = match self.rng.below(10) {
            0 => 64 + self.rng.below(80),
            1..=3 => 1 + self.rng.below(8),
            _ => 1,
        };
        // Three hot places, in three regions.
        let base = [0, 1000, 2048][self.rng.index(3)];
        let first = (base + self.rng.below(100)).min(self.cast.blocks - count);
        (first, count)
    }

    fn is_durable(&mut self) -> bool {
        self.rng.chance(self.cast.habits.durable, 100)
    }

    fn payload(&self, first: u64, values: &[Value]) -> Payload {
        let mut payload = Payload::new();
        for (block, &value) in (first..).zip(values) {
            let mut buf = self.slab.take(BLOCK).expect("the run's slab is large");
            fill(&mut buf, self.model.image(), block, value);
            payload.push(buf.freeze());
        }
        payload
    }

    fn begin(&mut self, first: u64, values: &[Value]) {
        for (block, &value) in (first..).zip(values) {
            self.model.begin_block(block, value, Stamp::NEVER);
        }
    }

    fn write_blocks(&mut self) -> bool {
        let (first, count) = self.draw_blocks();
        if !self.is_free(first, count, true) {
            return false;
        }
        let values = vec![Value::of(self.version()); count as usize];
        let (data, durable) = (self.payload(first, &values), self.is_durable());
        self.begin(first, &values);
        self.ask(
            HostOp::Change { first, count, durable },
            VolumeOp::Write { span: blocks(first, count), data, durable },
        )
    }

    /// Some sectors of one or two blocks whose content is known (P7: the owner merges).
    fn write_sectors(&mut self) -> bool {
        let (first, _) = self.draw_blocks();
        let sector = self.rng.below(SECTORS);
        let sectors = 1 + self.rng.below(2 * SECTORS - sector - 1);
        let count = (sector + sectors).div_ceil(SECTORS);
        let known: Option<Vec<Value>> = (first..first + count).map(|at| self.model.certain_value(at)).collect();
        let Some(mut values) = known.filter(|_| first + count <= self.cast.blocks) else { return false };
        if !self.is_free(first, count, true) {
            return false;
        }
        let version = self.version();
        for at in sector..sector + sectors {
            let value = &mut values[(at / SECTORS) as usize];
            *value = value.with_sectors((at % SECTORS) as usize, 1, version);
        }
        let whole = self.payload(first, &values);
        let data = whole.slice(sector as usize * SECTOR, sectors as usize * SECTOR);
        let span = Span::new(first * BLOCK as u64 + sector * SECTOR as u64, sectors * SECTOR as u64);
        let durable = self.is_durable();
        self.begin(first, &values);
        let span = span.expect("whole sectors within the segment");
        self.ask(HostOp::Change { first, count, durable }, VolumeOp::Write { span, data, durable })
    }

    fn unmap_blocks(&mut self) -> bool {
        let (first, count) = self.draw_blocks();
        if !self.is_free(first, count, true) {
            return false;
        }
        self.begin(first, &vec![Value::ZERO; count as usize]);
        let (spans, durable) = (smallvec![blocks(first, count)], self.is_durable());
        self.ask(HostOp::Change { first, count, durable }, VolumeOp::Unmap { spans, durable })
    }

    fn compare_and_write(&mut self) -> bool {
        let (first, _) = self.draw_blocks();
        let Some(known) = self.model.certain_value(first) else { return false };
        if !self.is_free(first, 1, true) {
            return false;
        }
        let values = [Value::of(self.version())];
        let (expected, data) = (self.payload(first, &[known]), self.payload(first, &values));
        let durable = self.is_durable();
        self.begin(first, &values);
        let command = VolumeOp::CompareAndWrite { span: blocks(first, 1), expected, data, durable };
        self.ask(HostOp::Change { first, count: 1, durable }, command)
    }

    /// An answer must be one that the rules allow.
    pub(super) fn judge(&mut self, id: OpId, result: VolumeResult) -> Result<(), Stop> {
        let answer = match &result {
            Ok(VolumeDone::Data(data)) => format!("{} bytes", data.len()),
            other => format!("{other:?}"),
        };
        self.story.tell(|| format!("host {id:?} <- {answer}"));
        let op = self.ops.remove(&id).ok_or_else(|| Violation(format!("a second answer to {id:?}: {answer}")))?;
        self.answered += 1;
        match (&op, result) {
            (HostOp::Change { durable, .. }, Ok(VolumeDone::Done)) => {
                for block in op.blocks() {
                    self.model.answer_block(block);
                    if *durable {
                        self.model.harden_block(block);
                    }
                }
            }
            (HostOp::Read { first, .. }, Ok(VolumeDone::Data(data))) => {
                for (block, bytes) in (*first..).zip(data.to_vec().chunks_exact(BLOCK)) {
                    self.model.observe_block(block, bytes)?;
                }
            }
            (HostOp::Flush { begun }, Ok(VolumeDone::Done)) => self.model.flushed(*begun),
            // Without effect (M2, M19, P15).
            (HostOp::Change { .. }, Err(VolumeError::Busy | VolumeError::Aborted | VolumeError::NoSpace)) => {
                op.blocks().for_each(|block| self.model.refuse_block(block));
            }
            (_, Err(VolumeError::Busy | VolumeError::Aborted)) => {}
            (HostOp::Change { .. } | HostOp::Flush { .. }, Err(VolumeError::WriteFault)) if self.excuses.faults => {}
            (_, Err(VolumeError::Medium { .. })) if self.excuses.medium => {}
            (op, result) => {
                let text = match result {
                    Ok(_) => "something else".to_owned(),
                    Err(error) => error.to_string(),
                };
                return Err(Violation(format!("{op:?} was answered by: {text}")).into());
            }
        }
        Ok(())
    }
}

fn blocks(first: u64, count: u64) -> Span {
    Span::new(first * BLOCK as u64, count * BLOCK as u64).expect("whole blocks within the segment")
}
