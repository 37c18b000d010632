//! Power is lost everywhere while regions become marked and clean again (P5, P8): only the marks say then where images
//! may differ.

use super::host::SPARSE;
use super::plan::{Aim, Fault, FaultKind, Plan, Trigger};
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
        for _ in 0..3 + rng.below(4) {
            if has_rot {
                let (aim, kind) = (Aim::Owner, FaultKind::Rot);
                self.faults.push(Fault { at, trigger: Trigger::Writing, aim, kind, lasts: 0, seed: rng.bits() });
            }
            if is_slow {
                // A close takes long then, so that much is written between its two halves (M4): that is not durable yet.
                for node in 0..self.images {
                    let (aim, kind) = (Aim::Node(node), FaultKind::DiskSlow { factor: 32 << rng.below(4) });
                    self.faults.push(Fault {
                        at,
                        trigger: Trigger::Time,
                        aim,
                        kind,
                        lasts: 2 * SECONDS,
                        seed: rng.bits(),
                    });
                }
                at += (200 + rng.below(600)) * MILLIS;
            }
            let trigger = if rng.chance(2, 3) { Trigger::Writing } else { Trigger::Time };
            let (kind, lasts) = (FaultKind::PowerLossOfAll, (100 + rng.below(300)) * MILLIS);
            self.faults.push(Fault { at, trigger, aim: Aim::Owner, kind, lasts, seed: rng.bits() });
            at += (1500 + rng.below(1500)) * MILLIS;
        }
        self.until = self.until.max(at);
    }
}
