//! Plays of volumes that are left with one image, or with fewer than they want.
//!
//! | play | rule | what happens | there for the mutants |
//! |---|---|---|---|
//! | on its way | A4 | a volume that wants two images for an acknowledgement loses one by an administrator's word, and the store's answer is late: it counts no more from the proposal on | 109 |
//! | twice alone | M8 | an image stays alone, is flushed, is joined by the other, stays alone again and loses its power before it was flushed once more | 30, 111, 122 |
//! | parked | A4, M19 | writes wait for a second image, which comes back before they have waited too long, while others read what they are to change | 05, 135 |

use super::host::{LOOKER, SENDER};
use super::kinds::CRASH;
use super::plan::{Aim, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;
use dyad_cluster::{AckPolicy, OnFew};

/// One run in so many is such a play.
const ONE_IN: u64 = 10;

impl Plan {
    pub(super) fn draw_few(&mut self) {
        let Some(mut rng) = self.becomes_play_of_two(0xfe30_0f1a_6e50_0a11, ONE_IN) else { return };
        self.hosts = vec![0, SENDER];
        // Hosts are logged in by then, and have written.
        let at = (1900 + rng.below(1000)) * MILLIS;
        let play = rng.index(3);
        self.until = match play {
            0 => self.play_on_its_way(at, &mut rng),
            1 => self.play_twice_alone(at, &mut rng),
            _ => self.play_parked(at, &mut rng),
        };
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
        for _ in 0..2 {
            // Long enough for whoever is left alone to be flushed and recorded so.
            let away = (1000 + rng.below(400)) * MILLIS;
            self.plan_fault(at, Trigger::Time, Aim::Follower, CRASH, away, rng);
            // Both have what is written until then, and neither has flushed it.
            let again = at + away + (400 + rng.below(500)) * MILLIS;
            self.plan_fault(again, Trigger::Writing, Aim::Follower, CRASH, 2500 * MILLIS, rng);
            // The flush that comes next is to come too late.
            let slow = FaultKind::DiskSlow { factor: 4 << rng.below(4) };
            self.plan_fault(again, Trigger::Time, Aim::Owner, slow, SECONDS, rng);
            let off = (50 + rng.below(150)) * MILLIS;
            self.plan_fault(again, Trigger::Alone, Aim::Owner, FaultKind::PowerLoss, off, rng);
            at = again + 4500 * MILLIS;
        }
        at
    }

    fn play_parked(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.policy = AckPolicy { min_in_sync: 2, on_few: OnFew::Wait };
        self.hosts = vec![SENDER, LOOKER];
        let mut at = at;
        for _ in 0..2 + rng.below(2) {
            let kind = [CRASH, FaultKind::PowerLoss][rng.index(2)];
            let away = (500 + rng.below(1500)) * MILLIS;
            self.plan_fault(at, Trigger::Writing, Aim::Follower, kind, away, rng);
            at += away + (1500 + rng.below(1000)) * MILLIS;
        }
        at
    }
}
