//! What hosts asked and were told, and what they may be told: a register per block, judged by invocation and answer.

use crate::search::Violation;

/// What a host asks of its node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HostOp {
    /// Write a block; the value is the operation's place in the script, plus one.
    Write { block: u8 },
    /// Read a block.
    Read { block: u8 },
    /// Make everything durable.
    Flush,
}

impl HostOp {
    fn written(self) -> Option<u8> {
        match self {
            Self::Write { block } => Some(block),
            Self::Read { .. } | Self::Flush => None,
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// It was done; a read found this.
    Done { found: u8 },
    /// It was refused: it took effect before, or never will (M19).
    Refused,
}

/// An operation of a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostOpState {
    pub(crate) op: HostOp,
    /// The value, of a write.
    value: u8,
    /// When it was asked, counting what hosts do and hear.
    asked_turn: u64,
    /// When it was answered, and how.
    pub(crate) answered_turn: Option<(u64, Ended)>,
}

/// Everything that hosts asked so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) ops: Vec<HostOpState>,
    turn: u64,
}

impl History {
    /// A host asks; the value that it writes, if it does.
    pub(crate) fn ask(&mut self, op: HostOp) -> u8 {
        self.turn += 1;
        let value = self.ops.len() as u8 + 1;
        self.ops.push(HostOpState { op, value, asked_turn: self.turn, answered_turn: None });
        value
    }

    /// A host hears.
    pub(crate) fn answer(&mut self, at: usize, ended: Ended) -> Result<(), Violation> {
        self.turn += 1;
        let turn = self.turn;
        let op = self.ops.get_mut(at).ok_or_else(|| Violation::new("M2", "an answer to nothing"))?;
        if op.answered_turn.replace((turn, ended)).is_some() {
            return Err(Violation::new("M2", format!("operation {at} is answered twice")));
        }
        let op = *op;
        match (op.op, ended) {
            (HostOp::Read { block }, Ended::Done { found }) => self.judge(block, found, op.asked_turn),
            _ => Ok(()),
        }
    }

    /// Whether a read of the block that began then may find this value now.
    fn judge(&self, block: u8, found: u8, began: u64) -> Result<(), Violation> {
        let Some(later) = self.newer(block, found, began) else { return Ok(()) };
        Err(Violation::new("M5", format!("a read finds {found} in block {block}, although {later} was there before")))
    }

    /// A value that is known to have been there before `began`, and to have come after `value` was over.
    fn newer(&self, block: u8, value: u8, began: u64) -> Option<u8> {
        // The first content was over before anything began. A value that nobody wrote never was.
        let over = match value {
            0 => 0,
            _ => match self.write_of(block, value) {
                None => return Some(value),
                Some(write) => write.answered_turn.map_or(u64::MAX, |(when, _)| when),
            },
        };
        let is_known = |write: &&HostOpState| write.value != value && self.known_at(block, write) < began;
        let writes = self.ops.iter().filter(|write| write.op.written() == Some(block)).filter(is_known);
        writes
            .filter(|write| write.asked_turn > over)
            .map(|write| write.value)
            .next()
            .or_else(|| self.read_over(block, value, began, over))
    }

    /// A read that ended before `began` found something else after this value was over.
    fn read_over(&self, block: u8, value: u8, began: u64, over: u64) -> Option<u8> {
        self.ops.iter().find_map(|read| match (read.op, read.answered_turn) {
            (HostOp::Read { block: of }, Some((when, Ended::Done { found })))
                if of == block && found != value && when < began && read.asked_turn > over =>
            {
                Some(found)
            }
            _ => None,
        })
    }

    fn write_of(&self, block: u8, value: u8) -> Option<&HostOpState> {
        self.ops.iter().find(|write| write.op.written() == Some(block) && write.value == value)
    }

    /// From when on the write is known to have taken effect: it was acknowledged, or read.
    fn known_at(&self, block: u8, write: &HostOpState) -> u64 {
        let acked = match write.answered_turn {
            Some((when, Ended::Done { .. })) => when,
            _ => u64::MAX,
        };
        let reads = self.ops.iter().filter_map(|read| match (read.op, read.answered_turn) {
            (HostOp::Read { block: of }, Some((when, Ended::Done { found })))
                if of == block && found == write.value =>
            {
                Some(when)
            }
            _ => None,
        });
        reads.fold(acked, u64::min)
    }

    /// Whether an image that the record names in sync may hold this (A1, A3): nothing acknowledged is missing.
    pub(crate) fn may_hold(&self, block: u8, value: u8) -> Result<(), Violation> {
        if value != 0 && self.write_of(block, value).is_none() {
            return Err(Violation::new("A5", format!("block {block} holds {value}, which nobody wrote there")));
        }
        let over = match value {
            0 => 0,
            _ => self.write_of(block, value).and_then(|write| write.answered_turn).map_or(u64::MAX, |(when, _)| when),
        };
        let is_missing = |write: &&HostOpState| {
            let is_acked = matches!(write.answered_turn, Some((_, Ended::Done { .. })));
            write.op.written() == Some(block) && write.value != value && is_acked && write.asked_turn > over
        };
        match self.ops.iter().find(is_missing) {
            Some(write) => Err(Violation::new(
                "A3",
                format!("an image in sync holds {value} in block {block}: {} was acknowledged", write.value),
            )),
            None => Ok(()),
        }
    }

    /// Everything that was asked is answered.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.ops.iter().all(|op| op.answered_turn.is_some())
    }

    /// One line for people.
    pub(crate) fn show(&self) -> String {
        let of = |op: &HostOpState| {
            let ended = op.answered_turn.map_or("?".to_owned(), |(_, ended)| format!("{ended:?}"));
            format!("{:?}={}: {ended}", op.op, op.value)
        };
        self.ops.iter().map(of).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, History, HostOp};

    const READ: HostOp = HostOp::Read { block: 0 };
    const WRITE: HostOp = HostOp::Write { block: 0 };
    const DONE: Ended = Ended::Done { found: 0 };

    #[test]
    fn a_read_that_misses_an_acknowledged_write_is_found() {
        let mut history = History::default();
        history.ask(WRITE);
        history.ask(READ);
        history.answer(0, DONE).unwrap();
        history.ask(READ);
        assert!(history.clone().answer(1, Ended::Done { found: 0 }).is_ok(), "at the same time");
        assert!(history.clone().answer(2, Ended::Done { found: 0 }).is_err());
        assert!(history.clone().answer(2, Ended::Done { found: 9 }).is_err());
        assert!(history.may_hold(0, 0).is_err());
        assert!(history.may_hold(0, 1).is_ok());
    }

    #[test]
    fn what_was_read_new_is_never_read_old_again() {
        let mut history = History::default();
        history.ask(WRITE);
        history.ask(READ);
        history.answer(1, Ended::Done { found: 1 }).unwrap();
        history.ask(READ);
        assert!(history.clone().answer(2, Ended::Done { found: 0 }).is_err(), "new, then old");
        assert!(history.answer(2, Ended::Done { found: 1 }).is_ok());
    }

    /// M19: what was answered, with whatever result, takes no effect any more.
    #[test]
    fn a_ghost_write_is_found() {
        let mut history = History::default();
        history.ask(WRITE);
        history.answer(0, Ended::Refused).unwrap();
        assert!(history.may_hold(0, 1).is_ok());
        history.ask(WRITE);
        history.answer(1, DONE).unwrap();
        history.ask(READ);
        assert!(history.may_hold(0, 1).is_err());
        assert!(history.answer(2, Ended::Done { found: 1 }).is_err());
    }
}
