//! An image that is behind is promoted by force (M10).

use super::plan::{Aim, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, Time};
use crate::rng::Rng;

impl Plan {
    /// An image is taken out, the other one goes on alone and loses its power, the first is promoted. When it is over.
    pub(super) fn draw_promotion(&mut self, at: Time, rng: &mut Rng) -> Time {
        let alone = at + (200 + rng.below(1500)) * MILLIS;
        let promoted = alone + (900 + rng.below(1500)) * MILLIS;
        let off = promoted - alone + (200 + rng.below(3000)) * MILLIS;
        self.plan_fault(at, Trigger::Time, Aim::Follower, FaultKind::TakeOut, 0, rng);
        self.plan_fault(alone, Trigger::Time, Aim::Owner, FaultKind::PowerLoss, off, rng);
        self.plan_fault(promoted, Trigger::Time, Aim::Behind, FaultKind::Promote, 0, rng);
        alone + off
    }
}
