//! Whether an answer is one that the rules allow, and what the host does then.

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeResult};

use super::ask::{SECTORS, put_version};
use super::{ATTEMPTS_MAX, Host, MEMORY_MAX, Op, Stage, Wish};
use crate::cluster::block::{Nodes, Order};
use crate::cluster::book::Book;
use crate::cluster::happening::SessionNo;
use crate::cluster::queue::{MILLIS, Time};
use crate::pattern::{BLOCK, Value};

/// What hosts may be told because of faults that struck.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// A disk failed: the last image may not take a write.
    pub disk: bool,
    /// Bits changed, or a disk lost something: blocks may be unreadable.
    pub medium: bool,
    /// The volume wants more images for an acknowledgement than may be there (A4).
    pub few: bool,
}

/// What the judge has to know.
pub(in crate::cluster) struct Court<'a> {
    pub(in crate::cluster) book: &'a mut Book,
    pub(in crate::cluster) excuses: Excuses,
    /// Nodes with an image in sync now.
    pub(in crate::cluster) holders: Nodes,
    /// Since when there have been fewer images in sync than the volume wants (A4).
    pub(in crate::cluster) few_since: Option<Order>,
    /// When all images in sync were asked for a flush that they have made, the last time; none: nobody can tell.
    pub(in crate::cluster) flushed: Option<Order>,
    /// When the oldest operation of any host was asked.
    pub(in crate::cluster) oldest: Order,
    pub(in crate::cluster) now: Time,
}

impl Court<'_> {
    /// A read brought these bytes.
    fn read(&mut self, volume: usize, blocks: (u64, u64), bytes: &[u8], asked: Order) -> Result<(), String> {
        let (first, count) = blocks;
        if bytes.len() as u64 != count * BLOCK as u64 {
            return Err(format!("a read of {count} blocks brought {} bytes", bytes.len()));
        }
        self.book.read(volume, first, bytes, asked, self.holders)
    }

    /// A flush was answered: every image in sync has made it.
    fn flush(&mut self, volume: usize, asked: Order) -> Result<(), String> {
        if self.flushed.is_some_and(|flushed| flushed < asked) {
            return Err("a flush was answered that an image in sync has not made (A2, A3)".to_owned());
        }
        self.book.flushed(volume, asked);
        Ok(())
    }

    /// A block compares with this: as good as a read of it.
    fn saw(&mut self, volume: usize, block: u64, value: Value, asked: Order) -> Result<(), String> {
        let mut bytes = [0; BLOCK];
        crate::pattern::fill(&mut bytes, volume as u64, block, value);
        self.book.read(volume, block, &bytes, asked, self.holders)
    }
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cluster) enum Verdict {
    /// Not what was asked for last.
    Stray,
    /// It is tried again.
    Again,
    /// It ended well.
    Done,
    /// It ended without a word on what happened.
    Over,
}

impl Host {
    /// A command was answered.
    pub(in crate::cluster) fn judge(
        &mut self,
        court: &mut Court<'_>,
        session: SessionNo,
        (id, attempt): (u64, u32),
        result: &VolumeResult,
    ) -> Result<Verdict, String> {
        let is_it = |op: &Op| {
            op.id == id && op.attempt == attempt && matches!(op.stage, Stage::Sent { session: on, .. } if on == session)
        };
        let Some(at) = self.ops.iter().position(is_it) else { return Ok(Verdict::Stray) };
        let op = &self.ops[at];
        let again = match result {
            Ok(_) => op.check_few(court).map(|()| false)?,
            Err(VolumeError::Busy) => true,
            Err(VolumeError::Aborted) => {
                let by_host = matches!(op.stage, Stage::Sent { aborted: Some(_), .. });
                if !by_host {
                    return Err(format!("{:?} was answered as aborted, which nobody asked for", op.wish));
                }
                true
            }
            Err(VolumeError::NoSpace) if op.wish.is_change() => false,
            Err(VolumeError::WriteFault) if op.may_fail(court) => false,
            Err(VolumeError::Medium { .. }) if court.excuses.medium || court.excuses.disk => false,
            Err(VolumeError::Miscompare { .. }) => self.check_miscompare(op, court)?,
            Err(error) => return Err(format!("{:?} was answered by: {error}", op.wish)),
        };
        // A host that is aborting does not always try again.
        let is_hurried = self.habits.hurry.is_some() && matches!(op.stage, Stage::Sent { aborted: Some(_), .. });
        let tries = op.may_be_renewed()
            && !is_hurried
            && op.attempt < ATTEMPTS_MAX
            && (op.is_inspection || self.rng.chance(15, 16));
        if again && op.is_inspection && op.attempt >= ATTEMPTS_MAX && !op.may_fail(court) {
            return Err(format!("{:?} is not carried out however often it is asked for", op.wish));
        }
        if again && tries {
            let pause = (1 + self.rng.below(30)) * MILLIS;
            let op = &mut self.ops[at];
            op.stage = Stage::Waits(court.now + pause);
            if op.renew(self.volume, court.book, court.oldest)? {
                return Ok(Verdict::Again);
            }
            self.ops.remove(at);
            return Ok(Verdict::Over);
        }
        let op = self.ops.remove(at);
        self.settle(&op, result, court)?;
        Ok(if result.is_ok() { Verdict::Done } else { Verdict::Over })
    }

    /// An operation ended: what was seen is judged, and what changed is written into the book.
    fn settle(&mut self, op: &Op, result: &VolumeResult, court: &mut Court<'_>) -> Result<(), String> {
        let volume = self.volume;
        match (&op.wish, result) {
            (Wish::Read { first, count }, result) => {
                court.book.end_read(volume, *first, *count);
                if let Ok(VolumeDone::Data(data)) = result {
                    let bytes = data.to_vec();
                    court.read(volume, (*first, *count), &bytes, op.asked)?;
                    self.remember(*first, &bytes);
                }
            }
            (Wish::Guess { block, expected }, result) => {
                court.book.end_read(volume, *block, 1);
                if result.is_ok() {
                    court.saw(volume, *block, *expected, op.asked)?;
                }
            }
            (Wish::ReadState, Ok(VolumeDone::Data(data))) => {
                court.book.read_state(volume, &data.to_vec(), op.asked, court.holders)?;
            }
            (Wish::Flush, Ok(_)) => court.flush(volume, op.asked)?,
            _ => op.close(volume, court.book, result.is_ok().then_some(court.holders), court.oldest)?,
        }
        Ok(())
    }

    /// The block held what the host expects, and nobody else writes it: it must match, unless an earlier try of this
    /// very command changed it, or all memory was lost.
    fn check_miscompare(&self, op: &Op, court: &mut Court<'_>) -> Result<bool, String> {
        let (block, expected) = match op.wish {
            Wish::CompareAndWrite { block, expected, .. } if op.attempt == 1 => (block, expected),
            Wish::Compare { block, expected } => (block, expected),
            Wish::CompareAndWrite { .. } | Wish::Guess { .. } => return Ok(false),
            _ => return Err(format!("{:?} was answered by a miscompare", op.wish)),
        };
        if court.book.holds(self.volume, block, expected) {
            let known = court.book.tell(self.volume, block);
            return Err(format!("block {block} of volume {} does not compare with {expected}{known}", self.volume));
        }
        Ok(false)
    }

    /// An operation without an answer happened by now or never will; it is asked anew.
    pub(in crate::cluster) fn renew(&mut self, id: u64, court: &mut Court<'_>) -> Result<(), String> {
        let volume = self.volume;
        let Some(op) = self.ops.iter_mut().find(|op| op.id == id) else { return Ok(()) };
        if !op.renew(volume, court.book, court.oldest)? {
            self.ops.retain(|op| op.id != id);
        }
        Ok(())
    }

    /// Gives an operation up: it happened by now or never will.
    pub(in crate::cluster) fn give_up(&mut self, id: u64, court: &mut Court<'_>) -> Result<(), String> {
        let Some(at) = self.ops.iter().position(|op| op.id == id) else { return Ok(()) };
        let op = self.ops.remove(at);
        match op.wish {
            Wish::Read { first, count } => court.book.end_read(self.volume, first, count),
            Wish::Guess { block, .. } => court.book.end_read(self.volume, block, 1),
            _ => return op.close(self.volume, court.book, None, court.oldest),
        }
        Ok(())
    }

    /// Keeps in mind what a block held.
    fn remember(&mut self, first: u64, bytes: &[u8]) {
        if !self.habits.recalls || bytes.len() != BLOCK {
            return;
        }
        let seen = crate::pattern::identify(bytes, self.volume as u64, first);
        // Zeros do not say who wrote them.
        if let Some(value) = seen.ok().filter(|value| *value != Value::ZERO) {
            if self.memory.len() == MEMORY_MAX {
                self.memory.remove(0);
            }
            self.memory.push((first, value));
        }
    }
}

impl Op {
    /// Whether a fault of a disk, or too few images, may keep it from being done.
    fn may_fail(&self, court: &Court<'_>) -> bool {
        let excuses = &court.excuses;
        // An atomic write needs the homes of the state (M21).
        excuses.disk || excuses.medium && self.wish.is_atomic() || excuses.few && self.wish.is_change()
    }

    /// A4: a write is not acknowledged if there were too few images in sync all the while.
    fn check_few(&self, court: &Court<'_>) -> Result<(), String> {
        match court.few_since.filter(|&since| since < self.asked && self.wish.is_change()) {
            Some(_) => Err(format!("{:?} was acknowledged with fewer images in sync than the volume wants", self.wish)),
            None => Ok(()),
        }
    }

    /// Whether it may be tried again. Zeros may not: which of two tries a read of them saw, nobody could say.
    /// Most of the atomic ones are not, so that what became of them is looked at (M21).
    pub(in crate::cluster) fn may_be_renewed(&self) -> bool {
        let is_looked_at = self.wish.is_atomic() && !self.is_inspection && !self.id.is_multiple_of(4);
        !matches!(self.wish, Wish::Clear { .. }) && !is_looked_at
    }

    /// The last try is over, whatever it came to. The next one is a write of its own and takes effect anew (M18): after a
    /// retryable answer a host sends its command again, and what another host wrote meanwhile may be overwritten.
    ///
    /// False: of the sectors around those that it writes nobody knows any more what they hold; it is not tried again.
    pub(in crate::cluster) fn renew(&mut self, volume: usize, book: &mut Book, oldest: Order) -> Result<bool, String> {
        self.is_orphaned = false;
        if !self.wish.is_change() {
            return Ok(true);
        }
        self.close(volume, book, None, oldest)?;
        if let Wish::Write { first, values, sectors: Some(_), .. } = &self.wish
            && book.has_new_era(volume, *first, values.len() as u64, self.begun)
        {
            return Ok(false);
        }
        let version = book.version();
        match &mut self.wish {
            Wish::Write { first, values, sectors, is_atomic, .. } => {
                let whole = (0, values.len() as u64 * SECTORS);
                let (from, count) = sectors.unwrap_or(whole);
                put_version(values, from, count, version);
                match is_atomic {
                    true => book.begin_atomic(volume, *first, values),
                    false => book.begin(volume, *first, values, sectors.is_some()),
                }
            }
            Wish::CompareAndWrite { block, value, .. } => {
                *value = Value::of(version);
                book.begin(volume, *block, &[*value], true);
            }
            Wish::WriteState { value, .. } => {
                *value = Value::of(version);
                book.begin_state(volume, *value);
            }
            _ => {}
        }
        Ok(true)
    }

    /// Writes what became of a change into the book.
    pub(in crate::cluster) fn close(
        &self,
        volume: usize,
        book: &mut Book,
        acked: Option<Nodes>,
        oldest: Order,
    ) -> Result<(), String> {
        match &self.wish {
            Wish::Write { first, values, durable, .. } => book.end(volume, *first, values, acked, *durable, oldest),
            Wish::Clear { first, count, durable, .. } => {
                book.end(volume, *first, &vec![Value::ZERO; *count as usize], acked, *durable, oldest)
            }
            Wish::CompareAndWrite { block, value, .. } => book.end(volume, *block, &[*value], acked, false, oldest),
            Wish::Compare { block, .. } => {
                book.release(volume, *block, 1);
                Ok(())
            }
            Wish::WriteState { value, .. } => book.end_state(volume, *value, acked, oldest),
            Wish::Verify { .. } | Wish::Read { .. } | Wish::Guess { .. } | Wish::Flush | Wish::ReadState => Ok(()),
        }
    }
}
