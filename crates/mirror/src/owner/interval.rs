//! Intervals (M4): numbered periods of writes, closed in two phases.
//!
//! ```text
//!  first write ──▶ open n ──10 s──▶ open n+1; all of n settled? ──▶ Close(n) to all ──▶ Closed(n) to all
//! ```
//!
//! Closing n clears marks of regions that were quiet in n; those written in n stay marked. So an interval
//! with writes is always followed by another close, of an interval that may be empty: then the segment is
//! idle, all its marks are clear and no time is needed.

use dyad_units::{Interval, Moment, Stamp, WriteNumber};

use crate::owner::core::Core;
use crate::owner::op::{Op, Task};
use crate::owner::status::MirrorState;

/// How far a close is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Closing {
    No,
    /// Writes of the interval are under way: all up to this number must be settled first.
    Draining(WriteNumber),
    /// Requests are under way.
    Asked,
}

/// The open interval and how far the one before it is.
#[derive(Clone, Debug)]
pub(crate) struct IntervalClock {
    open: Interval,
    /// When the open interval's time began; none: nothing to close.
    since: Option<Moment>,
    has_writes: bool,
    /// The interval that closes had writes, so another close follows.
    closes_writes: bool,
    is_early: bool,
    closing: Closing,
}

impl Default for IntervalClock {
    fn default() -> Self {
        Self {
            open: Self::FIRST,
            since: None,
            has_writes: false,
            closes_writes: false,
            is_early: false,
            closing: Closing::No,
        }
    }
}

impl IntervalClock {
    /// The first of every epoch.
    pub(crate) const FIRST: Interval = Interval::new(1);

    pub(crate) const fn open(&self) -> Interval {
        self.open
    }

    /// A write is stamped with the open interval.
    pub(crate) fn wrote(&mut self, now: Moment) {
        self.has_writes = true;
        self.watch(now);
    }

    /// Something else than a write has to be looked after when an interval ends.
    pub(crate) fn watch(&mut self, now: Moment) {
        self.since.get_or_insert(now);
    }

    /// The images may have marks of an earlier life, or of an earlier epoch.
    pub(crate) fn assume_marks(&mut self, now: Moment) {
        self.wrote(now);
    }

    /// A new epoch: what was open or closing goes on in its first interval.
    pub(crate) fn renew(&mut self, now: Moment) {
        if self.since.is_some() || self.closing != Closing::No {
            self.assume_marks(now);
        }
        self.open = Self::FIRST;
        self.closing = Closing::No;
    }

    /// Close as soon as possible: marks are over their budget (P5), or the mirror stops.
    pub(crate) fn hurry(&mut self) {
        self.is_early = self.since.is_some();
    }

    /// Whether a close is under way.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing != Closing::No
    }

    /// Whether nothing is open and nothing closes.
    pub(crate) fn is_quiet(&self) -> bool {
        self.since.is_none() && self.closing == Closing::No
    }
}

impl Core {
    /// When the open interval ends.
    pub(crate) fn interval_deadline(&self) -> Option<Moment> {
        let since = self.interval.since.filter(|_| self.interval.closing == Closing::No && self.may_close())?;
        Some(if self.interval.is_early { Moment::START } else { since + self.tuning.interval })
    }

    /// Not while extents are suspect: closing would clear the marks that say so (P5, P8).
    pub(crate) fn may_close(&self) -> bool {
        let is_serving = matches!(self.state, MirrorState::Serving | MirrorState::Stopping | MirrorState::HandingOver);
        let is_settled = !self.members.is_adopting && !self.proposals.is_under_way() && self.members.failing.is_empty();
        is_serving && is_settled && self.suspects.is_empty()
    }

    /// Opens the next interval when it is time, and closes the last one when all of it is settled.
    pub(crate) fn turn_interval(&mut self) {
        if self.interval_deadline().is_some_and(|at| at <= self.now) {
            let interval = &mut self.interval;
            interval.open = interval.open.next();
            interval.since = None;
            interval.is_early = false;
            interval.closes_writes = std::mem::take(&mut interval.has_writes);
            interval.closing = Closing::Draining(self.numbers.last());
        }
        if let Closing::Draining(last) = self.interval.closing
            && self.numbers.settled() >= last
            && self.may_close()
        {
            self.interval.closing = Closing::Asked;
            let closes = Interval::new(self.interval.open.value() - 1);
            self.wanted.push_back(Task::Close(Stamp::new(self.members.epoch(), closes)));
        }
    }

    /// All images did the first phase: the second follows, if nothing changed meanwhile.
    pub(crate) fn on_closed_first(&mut self, op: &mut Op, stamp: Stamp) {
        // closed rises only while the record of that epoch names all of them in sync: an image that left has
        // changed the epoch.
        let is_current = stamp.epoch == self.members.epoch() && self.interval.closing == Closing::Asked;
        if is_current && op.failure.is_none() {
            self.wanted.push_back(Task::Seal(stamp));
        } else if is_current {
            self.end_close(false);
            self.on_run_not_closed();
        }
        self.end_own(op);
    }

    /// All images recorded the new closed value.
    pub(crate) fn on_sealed(&mut self, op: &mut Op, stamp: Stamp) {
        let is_current = stamp.epoch == self.members.epoch() && self.interval.closing == Closing::Asked;
        if is_current {
            self.end_close(op.failure.is_none());
            if op.failure.is_none() {
                self.on_run_sealed(stamp);
            } else {
                self.on_run_not_closed();
            }
        }
        self.end_own(op);
    }

    fn end_close(&mut self, is_done: bool) {
        self.interval.closing = Closing::No;
        if is_done {
            self.counters.closed += 1;
        }
        // A mirror that stops does not try twice: the marks stay, and the next start compares.
        let tries_again = !is_done && self.state != MirrorState::Stopping;
        if (is_done && self.interval.closes_writes) || tries_again {
            self.interval.since.get_or_insert(self.now);
        }
    }
}

/// For requests that concern no piece.
pub(crate) const NO_PIECE: dyad_units::Piece = dyad_units::Piece::whole(dyad_units::Extent(0));

#[cfg(test)]
mod tests {
    use dyad_units::Moment;

    use super::IntervalClock;

    #[test]
    fn an_epoch_that_begins_with_nothing_open_needs_no_time() {
        let mut interval = IntervalClock::default();
        interval.renew(Moment::START);
        assert!(interval.is_quiet());
        interval.wrote(Moment::START);
        interval.renew(Moment::START);
        assert!(!interval.is_quiet());
    }
}
