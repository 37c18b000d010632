//! An image that is behind is promoted by force (M10).

use super::plan::{Aim, Fault, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, Time};
use crate::rng::Rng;

impl Plan {
    /// An image is taken out, the other one goes on alone and loses its power, the first is promoted. When it is over.
    pub(super) fn draw_promotion(&mut self, at: Time, rng: &mut Rng) -> Time {
        let alone = at + (200 + rng.below(1500)) * MILLIS;
        let promoted = alone + (900 + rng.below(1500)) * MILLIS;
        let off = promoted - alone + (200 + rng.below(3000)) * MILLIS;
        let mut plan = |at, trigger, aim, kind, lasts| {
            self.faults.push(Fault { at, trigger, aim, kind, lasts, seed: rng.bits() });
        };
        plan(at, Trigger::Time, Aim::Follower, FaultKind::TakeOut, 0);
        plan(alone, Trigger::Time, Aim::Owner, FaultKind::PowerLoss, off);
        plan(promoted, Trigger::Time, Aim::Behind, FaultKind::Promote, 0);
        alone + off
    }
}
