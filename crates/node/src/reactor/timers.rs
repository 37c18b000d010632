//! When to look at the clock for whom.
//!
//! Everyone has a deadline that mostly moves away: a host's ping is due later after each of its commands. So
//! a deadline that moves away is left as it is and looked at when it comes; only one that moves nearer is
//! entered anew. An entry that is not its owner's present one is ignored.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dyad_units::Moment;

use super::conns::ConnRef;

/// Whom a deadline concerns.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Timer {
    /// A connection.
    Conn(ConnRef),
    /// A volume.
    Volume(u32),
    /// Commands that wait at a volume's limit.
    Door(u32),
    /// A pool's housekeeping.
    Pool(u32),
    /// Listeners that were told to rest, connections without a receive buffer, the end of the node.
    Reactor,
}

/// All deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Moment, Timer)>>);

impl Timers {
    /// Notes that `timer` is wanted at `deadline`, unless `present`, the owner's entry, comes first anyway.
    pub(crate) fn want(&mut self, timer: Timer, present: &mut Option<Moment>, deadline: Option<Moment>) {
        let Some(deadline) = deadline else { return };
        if present.is_none_or(|present| deadline < present) {
            *present = Some(deadline);
            self.0.push(Reverse((deadline, timer)));
        }
    }

    /// The next entry.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Takes an entry whose time has come.
    pub(crate) fn take_due(&mut self, now: Moment) -> Option<(Moment, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nearer_deadline_is_entered() {
        let (mut timers, mut present) = (Timers::default(), None);
        let at = Moment::from_nanos;
        timers.want(Timer::Reactor, &mut present, Some(at(50)));
        timers.want(Timer::Reactor, &mut present, Some(at(70)));
        timers.want(Timer::Reactor, &mut present, None);
        timers.want(Timer::Reactor, &mut present, Some(at(40)));
        assert_eq!(present, Some(at(40)));
        assert_eq!(timers.take_due(at(39)), None);
        assert_eq!(timers.take_due(at(40)), Some((at(40), Timer::Reactor)));
        assert_eq!(timers.take_due(at(90)), Some((at(50), Timer::Reactor)));
        assert_eq!(timers.take_due(at(90)), None);
    }
}
