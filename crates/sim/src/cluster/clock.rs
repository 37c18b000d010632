//! The clock of one machine: it counts suspends, starts anew with the machine, and does not run quite right (M5).

use dyad_units::Moment;

use super::queue::Time;

/// What a machine's clock showed when its power came on: not zero, so that nothing depends on that.
const SHOWN_AT_START: u64 = 1_000_000_000;

/// A clock that runs `ppm` parts in a million too fast (or, negative, too slow).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    since: Time,
    shown: u64,
    ppm: i64,
}

impl Clock {
    /// The clock of a machine that was switched on at `now`.
    pub fn started(now: Time, ppm: i64) -> Self {
        Self { since: now, shown: SHOWN_AT_START, ppm }
    }

    /// From now on it runs at another rate.
    pub fn change(&mut self, now: Time, ppm: i64) {
        self.shown = self.read(now).as_nanos();
        (self.since, self.ppm) = (now, ppm);
    }

    /// What it shows.
    pub fn read(&self, now: Time) -> Moment {
        let passed = i128::from(now.saturating_sub(self.since));
        let run = passed + passed * i128::from(self.ppm) / 1_000_000;
        Moment::from_nanos(self.shown + run as u64)
    }

    /// The true time from which on it shows `moment` or later.
    pub fn reaches(&self, moment: Moment) -> Time {
        // A century is never: runs last minutes.
        let left = i128::from(moment.as_nanos().saturating_sub(self.shown).min(1 << 61));
        let passed = (left * 1_000_000).div_euclid(1_000_000 + i128::from(self.ppm));
        let at = self.since + passed as u64;
        // Rounding may leave it short by one.
        (at..at + 3).find(|&at| self.read(at) >= moment).unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{Moment, Period};

    use super::Clock;

    #[test]
    fn a_clock_shows_what_it_was_waited_for() {
        for ppm in [-50_000, -1000, 0, 1, 999, 20_000] {
            let mut clock = Clock::started(77, ppm);
            for wait in [1, 999, 1_000_000, 600_000_000] {
                let moment = clock.read(5000) + Period::from_nanos(wait);
                let at = clock.reaches(moment);
                assert!(clock.read(at) >= moment && clock.read(at - 1) <= moment, "{ppm} {wait}");
            }
            let before = clock.read(9000);
            clock.change(9000, -ppm);
            assert_eq!(clock.read(9000), before, "a change of rate moves no hand");
        }
        let fast = Clock::started(0, 1000);
        assert_eq!(fast.read(1_000_000) - Moment::from_nanos(1_000_000_000), Period::from_nanos(1_001_000));
    }
}
