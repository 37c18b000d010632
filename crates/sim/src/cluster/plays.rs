//! Short plays, each the interleaving that a rule excludes: what random faults meet once in thousands of runs.
//!
//! | play | rule | what happens |
//! |---|---|---|
//! | unheard | M9 | nobody hears the owner's beats, and it does not reach the store, but its writes arrive: it writes on between a successor's questions and its fence |
//! | blink | M9, M2 | the owner's process starts again amid writes that others got in part, and fails again while it makes them equal |
//! | blackout | M16 | all lose their power just when an image has joined |
//! | late news | M16 | an image has joined, but the owner is cut off before it hears so |
//! | relay | M13, M14, P9 | two images are out, one after the other; the first one back owns when the second comes |
//! | forgetful | M11 | a node starts without its memory while the one that has everything cannot be asked |

use super::cut_off::Twist;
use super::host::{SENDER, WATCHER};
use super::plan::{Aim, Beats, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

/// One run in so many is such a play.
const ONE_IN: u64 = 6;

impl Plan {
    /// Some runs are plays instead of what was drawn. Drawn apart, so that the others stay what they are.
    pub(super) fn draw_play(&mut self) {
        let mut rng = Rng::new(self.seed ^ 0x91a7_91a7_91a7_91a7);
        if !rng.chance(1, ONE_IN) {
            return;
        }
        self.faults.clear();
        self.is_beyond_bound = false;
        self.hosts.retain(|host| *host != WATCHER && *host != SENDER);
        self.images = 2 + rng.index(2);
        let play = [0, 1, 1, 1, 2, 2, 3, 4, 4, 5][rng.index(10)];
        if play == 4 {
            self.images = 3;
        }
        self.nodes = self.nodes.max(self.images);
        let mut at = (800 + rng.below(1000)) * MILLIS;
        for _ in 0..2 + rng.below(2) {
            at = match play {
                0 => self.play_unheard(at, &mut rng),
                1 => self.play_blink(at, &mut rng),
                2 => self.play_blackout(at, &mut rng),
                3 => self.play_late_news(at, &mut rng),
                4 => self.play_relay(at, &mut rng),
                _ => self.play_forgetful(at, &mut rng),
            };
            // Time for those who were taken out to come back.
            at += (700 + rng.below(1500)) * MILLIS;
        }
        self.until = at;
    }

    fn play_unheard(&mut self, at: Time, rng: &mut Rng) -> Time {
        let lasts = (1200 + rng.below(800)) * MILLIS;
        if !self.hosts.contains(&SENDER) {
            self.hosts.push(SENDER);
        }
        for other in 1..self.nodes {
            let kind = FaultKind::BeatsOnly { other, late: false };
            self.plan_fault(at, Trigger::Time, Aim::Owner, kind, lasts, rng);
        }
        self.plan_fault(at, Trigger::Time, Aim::Owner, FaultKind::StoreCut, lasts, rng);
        // What the owner writes gets to it at once, and to others after they were asked.
        let aim = if rng.chance(1, 2) { Aim::Owner } else { Aim::Follower };
        self.plan_fault(at, Trigger::Time, aim, FaultKind::SlowNet, lasts, rng);
        if rng.chance(1, 3) {
            self.plan_fault(at, Trigger::Time, aim, FaultKind::StoreFlaky, lasts, rng);
        }
        at + lasts
    }

    fn play_blink(&mut self, at: Time, rng: &mut Rng) -> Time {
        let mut at = at;
        // More extents than are compared at once: whatever is being compared is locked anyway.
        (self.regions, self.quota) = (3, self.quota.max(1000));
        self.hosts = vec![0, 1, 2, WATCHER, SENDER];
        // Whose block wins is a matter of the images' order: now and then the owner is not the first.
        if rng.chance(1, 2) {
            self.plan_fault(at, Trigger::Time, Aim::Follower, FaultKind::HandOver, 0, rng);
            at += 300 * MILLIS;
        }
        let lasts = (1500 + rng.below(1500)) * MILLIS;
        self.plan_fault(at, Trigger::Time, Aim::Follower, FaultKind::SlowNet, 2 * lasts, rng);
        let away = (1 + rng.below(30)) * MILLIS;
        let crash = FaultKind::ProcessCrash { amid: rng.chance(1, 2) };
        self.plan_fault(at + 100 * MILLIS, Trigger::Writing, Aim::Owner, crash, away, rng);
        let kind = [
            FaultKind::ProcessCrash { amid: false },
            FaultKind::PowerLoss,
            FaultKind::Pause,
            FaultKind::Isolation { store: true, hosts: false, beats: Beats::Lost },
        ][rng.index(4)];
        self.plan_fault(at + 101 * MILLIS, Trigger::Equalising, Aim::Owner, kind, lasts, rng);
        at + 101 * MILLIS + 2 * lasts
    }

    fn play_blackout(&mut self, at: Time, rng: &mut Rng) -> Time {
        let away = (100 + rng.below(900)) * MILLIS;
        let aim = if rng.chance(2, 3) { Aim::Owner } else { Aim::Follower };
        let kind = if rng.chance(1, 2) { FaultKind::PowerLoss } else { FaultKind::ProcessCrash { amid: false } };
        self.plan_fault(at, Trigger::Writing, aim, kind, away, rng);
        let off = (100 + rng.below(400)) * MILLIS;
        let next = at + away.max(600 * MILLIS);
        self.plan_fault(next, Trigger::Joined, Aim::Owner, FaultKind::PowerLossOfAll, off, rng);
        next + off + SECONDS
    }

    fn play_late_news(&mut self, at: Time, rng: &mut Rng) -> Time {
        if !self.hosts.contains(&WATCHER) {
            self.hosts.push(WATCHER);
        }
        let away = (300 + rng.below(700)) * MILLIS;
        self.plan_fault(at, Trigger::Writing, Aim::Follower, FaultKind::ProcessCrash { amid: false }, away, rng);
        let lasts = (1800 + rng.below(1000)) * MILLIS;
        let kind = FaultKind::OwnerCutOff { twist: Twist::Plain };
        let next = at + away.max(500 * MILLIS);
        self.plan_fault(next, Trigger::Joined, Aim::Owner, kind, lasts, rng);
        next + SECONDS + lasts
    }

    fn play_relay(&mut self, at: Time, rng: &mut Rng) -> Time {
        let crash = FaultKind::ProcessCrash { amid: false };
        let isolation = FaultKind::Isolation { store: true, hosts: false, beats: Beats::Lost };
        let draw = |rng: &mut Rng| [crash, FaultKind::PowerLoss, isolation][rng.index(3)];
        let (one, other) = (draw(rng), draw(rng));
        let first = (1600 + rng.below(1000)) * MILLIS;
        self.plan_fault(at, Trigger::Writing, Aim::Follower, one, first, rng);
        let second = (1800 + rng.below(1200)) * MILLIS;
        self.plan_fault(at + 900 * MILLIS, Trigger::Writing, Aim::Follower, other, second, rng);
        let moves = if rng.chance(2, 3) { FaultKind::HandOver } else { crash };
        let aim = if moves == FaultKind::HandOver { Aim::Follower } else { Aim::Owner };
        self.plan_fault(at + first, Trigger::Joined, aim, moves, 2 * SECONDS, rng);
        at + first.max(900 * MILLIS + second) + SECONDS
    }

    fn play_forgetful(&mut self, at: Time, rng: &mut Rng) -> Time {
        let lasts = (1800 + rng.below(1200)) * MILLIS;
        let gone = FaultKind::Isolation { store: true, hosts: rng.chance(1, 2), beats: Beats::Lost };
        let (knows, forgets) = if rng.chance(1, 2) { (Aim::Owner, Aim::Follower) } else { (Aim::Follower, Aim::Owner) };
        self.plan_fault(at, Trigger::Writing, knows, gone, lasts, rng);
        let soon = at + (1 + rng.below(300)) * MILLIS;
        let off = (50 + rng.below(500)) * MILLIS;
        self.plan_fault(soon, Trigger::Time, forgets, FaultKind::PowerLoss, off, rng);
        at + lasts + SECONDS
    }
}
