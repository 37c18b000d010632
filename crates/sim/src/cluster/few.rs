//! Plays of volumes that are left with one image.
//!
//! | play | rule | what happens |
//! |---|---|---|
//! | on its way | A4 | a volume that wants two images for an acknowledgement loses one by an administrator's word, and the store's answer is late: it counts no more from the proposal on |
//! | twice alone | M8 | an image stays alone, is flushed, is joined by the other, stays alone again and loses its power before it was flushed once more |

use super::host::SENDER;
use super::plan::{Aim, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;
use dyad_cluster::{AckPolicy, OnFew};

/// One run in so many is such a play.
const ONE_IN: u64 = 16;

impl Plan {
    /// Some runs are plays instead of what was drawn. Drawn apart, so that the others stay what they are.
    pub(super) fn draw_few(&mut self) {
        let mut rng = Rng::new(self.seed ^ 0xfe30_0f1a_6e50_0a11);
        if !rng.chance(1, ONE_IN) {
            return;
        }
        self.faults.clear();
        (self.images, self.segments, self.is_beyond_bound) = (2, 1, false);
        self.policy = AckPolicy::default();
        self.hosts = vec![0, SENDER];
        let at = (800 + rng.below(1000)) * MILLIS;
        self.until =
            if rng.chance(1, 2) { self.play_on_its_way(at, &mut rng) } else { self.play_twice_alone(at, &mut rng) };
    }

    fn play_on_its_way(&mut self, at: Time, rng: &mut Rng) -> Time {
        let on_few = if rng.chance(1, 2) { OnFew::Error } else { OnFew::Wait };
        self.policy = AckPolicy { min_in_sync: 2, on_few };
        let lasts = (400 + rng.below(400)) * MILLIS;
        self.plan_fault(at, Trigger::Time, Aim::Owner, FaultKind::StoreFlaky, lasts, rng);
        let asked = at + (5 + rng.below(100)) * MILLIS;
        self.plan_fault(asked, Trigger::Writing, Aim::Follower, FaultKind::TakeOut, 0, rng);
        asked + 2 * SECONDS
    }

    fn play_twice_alone(&mut self, at: Time, rng: &mut Rng) -> Time {
        // A close, a host's flush or a full recent log would make durable what the image is to lose.
        (self.interval, self.log_bytes, self.hosts) = (3000, 256 << 10, vec![SENDER]);
        let mut at = at;
        let crash = FaultKind::ProcessCrash { amid: false };
        for _ in 0..2 + rng.below(2) {
            let away = (700 + rng.below(500)) * MILLIS;
            self.plan_fault(at, Trigger::Time, Aim::Follower, crash, away, rng);
            let again = at + away + (500 + rng.below(800)) * MILLIS;
            self.plan_fault(again, Trigger::Writing, Aim::Follower, crash, 2 * SECONDS, rng);
            // Whoever is alone now is recorded so when the connection has been broken for a while, and is flushed a moment later.
            let lost = again + (100 + rng.below(300)) * MILLIS;
            let off = (100 + rng.below(200)) * MILLIS;
            self.plan_fault(lost, Trigger::Writing, Aim::Owner, FaultKind::PowerLoss, off, rng);
            at = again + (2500 + rng.below(1500)) * MILLIS;
        }
        at
    }
}
