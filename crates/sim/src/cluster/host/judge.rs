//! Whether an answer is one that the rules allow, and what the host does then.

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeResult};

use super::{ATTEMPTS_MAX, Host, Op, Stage, Wish};
use crate::cluster::block::{Nodes, Order};
use crate::cluster::book::Book;
use crate::cluster::happening::SessionNo;
use crate::cluster::queue::{MILLIS, Time};
use crate::pattern::Value;

/// What hosts may be told because of faults that struck.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// A disk failed: the last image may not take a write.
    pub disk: bool,
    /// Bits changed, or a disk lost something: blocks may be unreadable.
    pub medium: bool,
}

/// What the judge has to know.
pub(in crate::cluster) struct Court<'a> {
    pub(in crate::cluster) book: &'a mut Book,
    pub(in crate::cluster) excuses: Excuses,
    /// Nodes with an image in sync now.
    pub(in crate::cluster) holders: Nodes,
    /// When the oldest operation of any host was asked.
    pub(in crate::cluster) oldest: Order,
    pub(in crate::cluster) now: Time,
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
            Ok(_) => false,
            Err(VolumeError::Busy) => true,
            Err(VolumeError::Aborted) => {
                let by_host = matches!(op.stage, Stage::Sent { aborted: Some(_), .. });
                if !by_host {
                    return Err(format!("{:?} was answered as aborted, which nobody asked for", op.wish));
                }
                true
            }
            Err(VolumeError::NoSpace) if op.wish.is_change() => false,
            Err(VolumeError::WriteFault) if court.excuses.disk => false,
            Err(VolumeError::Medium { .. }) if court.excuses.medium || court.excuses.disk => false,
            Err(VolumeError::Miscompare { .. }) => self.check_miscompare(op, court)?,
            Err(error) => return Err(format!("{:?} was answered by: {error}", op.wish)),
        };
        // A host that is aborting does not always try again.
        let tries = op.attempt < ATTEMPTS_MAX && (op.is_inspection || self.rng.chance(15, 16));
        if again && tries {
            let pause = (1 + self.rng.below(30)) * MILLIS;
            let op = &mut self.ops[at];
            op.stage = Stage::Waits(court.now + pause);
            return Ok(Verdict::Again);
        }
        let op = self.ops.remove(at);
        let volume = self.volume;
        match (&op.wish, result) {
            (Wish::Read { first, count }, result) => {
                court.book.end_read(volume, *first, *count);
                if let Ok(VolumeDone::Data(data)) = result {
                    if data.len() as u64 != count * crate::pattern::BLOCK as u64 {
                        return Err(format!("a read of {count} blocks brought {} bytes", data.len()));
                    }
                    court.book.read(volume, *first, &data.to_vec(), op.asked, court.holders)?;
                }
            }
            (Wish::Flush, Ok(_)) => court.book.flushed(volume, op.asked),
            _ => close(volume, &op, court, result.is_ok())?,
        }
        Ok(if result.is_ok() { Verdict::Done } else { Verdict::Over })
    }

    /// The block held what the host expects, and nobody else writes it: it must match, unless an earlier try of this
    /// very command changed it, or all memory was lost.
    fn check_miscompare(&self, op: &Op, court: &mut Court<'_>) -> Result<bool, String> {
        let (block, expected) = match op.wish {
            Wish::CompareAndWrite { block, expected, .. } if op.attempt == 1 => (block, expected),
            Wish::Compare { block, expected } => (block, expected),
            Wish::CompareAndWrite { .. } => return Ok(false),
            _ => return Err(format!("{:?} was answered by a miscompare", op.wish)),
        };
        if court.book.holds(self.volume, block, expected) {
            let known = court.book.tell(self.volume, block);
            return Err(format!("block {block} of volume {} does not compare with {expected}{known}", self.volume));
        }
        Ok(false)
    }

    /// Gives an operation up: it happened by now or never will.
    pub(in crate::cluster) fn give_up(&mut self, id: u64, court: &mut Court<'_>) -> Result<(), String> {
        let Some(at) = self.ops.iter().position(|op| op.id == id) else { return Ok(()) };
        let op = self.ops.remove(at);
        if let Wish::Read { first, count } = op.wish {
            court.book.end_read(self.volume, first, count);
            return Ok(());
        }
        close(self.volume, &op, court, false)
    }
}

/// Writes what became of a change into the book.
fn close(volume: usize, op: &Op, court: &mut Court<'_>, is_ok: bool) -> Result<(), String> {
    let acked = is_ok.then_some(court.holders);
    let oldest = court.oldest;
    match &op.wish {
        Wish::Write { first, values, durable, .. } => court.book.end(volume, *first, values, acked, *durable, oldest),
        Wish::Clear { first, count, durable, .. } => {
            court.book.end(volume, *first, &vec![Value::ZERO; *count as usize], acked, *durable, oldest)
        }
        Wish::CompareAndWrite { block, value, .. } => court.book.end(volume, *block, &[*value], acked, false, oldest),
        Wish::Compare { block, .. } => {
            court.book.release(volume, *block, 1);
            Ok(())
        }
        Wish::Verify { .. } | Wish::Read { .. } | Wish::Flush => Ok(()),
    }
}
