//! Power is lost everywhere while regions become marked and clean again (P5, P8): only the marks say then where images
//! may differ.

use super::host::SPARSE;
use super::plan::{Aim, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

impl Plan {
    /// Two images, short intervals, one host that writes now and then, and losses of power that all machines share.
    pub(super) fn draw_marks(&mut self, at: Time, rng: &mut Rng) {
        (self.images, self.segments, self.interval, self.is_beyond_bound) = (2, 1, 100, false);
        self.nodes = self.nodes.max(2);
        self.hosts = if rng.chance(1, 2) { vec![SPARSE] } else { vec![SPARSE, 0] };
        let (has_rot, is_slow) = (rng.chance(1, 3), rng.chance(1, 2));
        let mut at = at;
        for _ in 0..4 + rng.below(5) {
            if has_rot {
                self.plan_fault(at, Trigger::Writing, Aim::Owner, FaultKind::Rot, 0, rng);
            }
            if is_slow {
                // A close takes long then, so that much is written between its two halves (M4): that is not durable yet.
                self.plan_slow_disks(at, (32, 4), 2 * SECONDS, rng);
                at += (200 + rng.below(600)) * MILLIS;
            }
            let trigger =
                [Trigger::Writing, Trigger::Time, Trigger::Marking, Trigger::Marking, Trigger::Closing][rng.index(5)];
            let (kind, lasts) = (FaultKind::PowerLossOfAll, (100 + rng.below(300)) * MILLIS);
            self.plan_fault(at, trigger, Aim::Owner, kind, lasts, rng);
            at += (1500 + rng.below(1500)) * MILLIS;
        }
        self.until = self.until.max(at);
    }
}
