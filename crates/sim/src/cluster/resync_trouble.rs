//! Images that catch up slowly, and fail while they do (M13 to M16).

use super::plan::{Aim, Beats, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

impl Plan {
    /// One node is away for a while; its disk is slow when it comes back, so that catching up lasts for several closes, and
    /// that fails, once or twice. When it is over.
    pub(super) fn draw_resync_trouble(&mut self, at: Time, rng: &mut Rng) -> Time {
        let mut at = at;
        self.interval = [100, 300][rng.index(2)];
        for _ in 0..1 + rng.below(2) {
            let away = (200 + rng.below(1000)) * MILLIS;
            let kind = [
                FaultKind::PowerLoss,
                FaultKind::ProcessCrash { amid: false },
                FaultKind::Isolation { store: rng.chance(1, 2), hosts: false, beats: Beats::Lost },
            ][rng.index(3)];
            let node = Aim::Node(rng.index(self.images));
            self.plan_fault(at, Trigger::Time, node, kind, away, rng);
            let slow = FaultKind::DiskSlow { factor: 50 << rng.below(4) };
            self.plan_fault(at + 50 * MILLIS, Trigger::Time, node, slow, away + 3 * SECONDS, rng);
            let mut next = at + away;
            for _ in 0..1 + rng.below(3) {
                next += rng.below(400) * MILLIS;
                let kind = [
                    FaultKind::PowerLoss,
                    FaultKind::ProcessCrash { amid: rng.chance(1, 2) },
                    FaultKind::LinkBreak { other: 1 },
                    FaultKind::Isolation { store: false, hosts: false, beats: Beats::Lost },
                    FaultKind::StoreFlaky,
                ][rng.index(5)];
                let aim = [Aim::Behind, Aim::Behind, Aim::Owner][rng.index(3)];
                let lasts = (20 + rng.below(400)) * MILLIS;
                // In the middle of it, not when it has just begun.
                self.plan_fault(next, Trigger::Copying, aim, kind, lasts, rng);
                next += lasts + rng.below(300) * MILLIS;
            }
            at = next + (500 + rng.below(2500)) * MILLIS;
        }
        self.until = self.until.max(at);
        at
    }
}
