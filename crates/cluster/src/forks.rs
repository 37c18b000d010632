//! Forks: what a closed value of an older line of writes is still worth (M10).
//!
//! Image A was in sync up to stamp 7.4 and cannot be asked; B, which was behind and had closed 6.2, is promoted by an
//! administrator in epoch 8. From there on the segment's history is that of B: what A closed after 6.2 belongs to a line
//! that nobody goes on with. So the record keeps the fork (8, 6.2), and a closed value from before epoch 8 counts at most
//! up to 6.2: resync of A copies whatever either side wrote after that (M13).

use dyad_units::{Epoch, Stamp};
use serde::{Deserialize, Serialize};

use crate::segment::SegmentRecord;

/// Most forks kept one by one: each is an administrator's deliberate act, and the record must stay small.
pub const FORKS_MAX: usize = 32;

/// An image that was behind became owner by an administrator's decision (M10).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// Epoch of the promotion.
    pub epoch: Epoch,
    /// The promoted image's closed: older images' closed counts at most up to it.
    pub closed: Stamp,
}

impl SegmentRecord {
    /// What an image's closed is worth today: at most the point at which each later fork left the line of writes
    /// that it closed. The same holds for k of a resync (M15).
    pub fn closed_after_forks(&self, closed: Stamp) -> Stamp {
        let newest_first = self.forks.iter().rev();
        newest_first.fold(closed, |worth, fork| match fork.epoch > worth.epoch {
            true => worth.min(fork.closed),
            false => worth,
        })
    }

    /// Notes that the line of writes goes on from `closed` in the record's present epoch.
    pub(crate) fn fork(&mut self, closed: Stamp) {
        let closed = self.closed_after_forks(closed);
        self.forks.push(Fork { epoch: self.epoch, closed });
        if self.forks.len() > FORKS_MAX {
            // Two become one: whatever closed before the second counts at most up to the lower of both. That is
            // never too much, only more to copy for an image from between these two acts.
            let oldest = self.forks.remove(0);
            self.forks[0].closed = self.forks[0].closed.min(oldest.closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{Epoch, Interval, Stamp};

    use super::{FORKS_MAX, Fork};
    use crate::testing::segment;

    fn stamp(epoch: u32, interval: u32) -> Stamp {
        Stamp::new(Epoch::new(epoch), Interval::new(interval))
    }

    fn fork(epoch: u32, closed: Stamp) -> Fork {
        Fork { epoch: Epoch::new(epoch), closed }
    }

    /// M10: closed, then forks, then what it is worth.
    #[test]
    fn a_closed_value_counts_up_to_every_later_fork() {
        let mut record = segment(2);
        assert_eq!(record.closed_after_forks(stamp(7, 4)), stamp(7, 4));
        record.forks = vec![fork(5, stamp(3, 2)), fork(9, stamp(7, 1))];
        for (closed, worth) in [
            (stamp(2, 9), stamp(2, 9)), // before both
            (stamp(3, 2), stamp(3, 2)),
            (stamp(3, 3), stamp(3, 2)), // of the line that the first fork left
            (stamp(4, 9), stamp(3, 2)),
            (stamp(5, 1), stamp(5, 1)), // of the line that it began
            (stamp(7, 1), stamp(7, 1)),
            (stamp(7, 2), stamp(7, 1)), // of the line that the second left
            (stamp(8, 9), stamp(7, 1)),
            (stamp(9, 0), stamp(9, 0)),
            (stamp(12, 3), stamp(12, 3)),
            (Stamp::NEVER, Stamp::NEVER),
        ] {
            assert_eq!(record.closed_after_forks(closed), worth, "{closed}");
        }
    }

    /// M10: "after earlier forks": an old image promoted twice does not bring back what was left the first time.
    #[test]
    fn a_fork_from_an_image_of_an_old_line_is_cut_by_the_earlier_fork() {
        let mut record = segment(2);
        record.forks = vec![fork(5, stamp(3, 2))];
        record.epoch = Epoch::new(9);
        record.fork(stamp(4, 7));
        assert_eq!(record.forks[1], fork(9, stamp(3, 2)));
        assert_eq!(record.closed_after_forks(stamp(8, 1)), stamp(3, 2));
    }

    #[test]
    fn too_many_forks_become_fewer_that_are_never_worth_more() {
        let mut record = segment(2);
        let mut every = record.clone();
        for nth in 1..=FORKS_MAX as u32 + 9 {
            record.epoch = Epoch::new(nth * 3);
            let closed = stamp(nth * 3 - 1 - nth % 2, nth % 5);
            record.fork(closed);
            every.forks.push(fork(nth * 3, every.closed_after_forks(closed)));
        }
        assert_eq!(record.forks.len(), FORKS_MAX);
        for closed in (0..140).flat_map(|epoch| (0..6).map(move |interval| stamp(epoch, interval))) {
            assert!(record.closed_after_forks(closed) <= every.closed_after_forks(closed), "{closed}");
        }
        let newest = stamp((FORKS_MAX as u32 + 9) * 3, 0);
        assert_eq!(record.closed_after_forks(newest), newest);
    }
}
