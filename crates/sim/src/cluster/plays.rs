//! Short plays, each the interleaving that a rule excludes: what random faults meet once in thousands of runs.
//!
//! | play | rule | what happens |
//! |---|---|---|
//! | unheard | M9 | nobody hears the owner's beats, and it does not reach the store, but its writes arrive: it writes on between a successor's questions and its fence |
//! | blink | M9, M2 | the owner's process starts again amid writes that others got in part, and fails again while it makes them equal |
//! | blackout | M16 | all lose their power just when an image has joined |
//! | late news | M16 | an image has joined, but the owner is cut off before it hears so |
//! | relay | M13, M14, P9 | two images are out, one after the other; the first one back owns when the second comes |
//! | hasty | M9, P8 | all lose their power and come back; the images differ, the owner's is not the one that counts, and comparing them takes long, while hosts read |
//! | forgetful | M11 | a node starts without its memory while the one that has everything cannot be asked |

use super::cut_off::Twist;
use super::host::{LOOKER, SENDER, WATCHER};
use super::kinds::{SLOW_NET, draw_length};
use super::plan::{Aim, Beats, FaultKind, Mood, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

/// One run in so many is such a play.
const ONE_IN: u64 = 4;

impl Plan {
    pub(super) fn draw_play(&mut self) {
        let Some(mut rng) = self.becomes_play(0x91a7_91a7_91a7_91a7, ONE_IN) else { return };
        self.hosts.retain(|host| *host != WATCHER && *host != SENDER);
        self.images = 2 + rng.index(2);
        let play = [0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6, 6][rng.index(16)];
        if play == 4 || play == 0 && rng.chance(3, 4) {
            self.images = 3; // somebody stays in sync beside the next owner
        }
        self.nodes = self.nodes.max(self.images);
        let mut at = (800 + rng.below(1000)) * MILLIS;
        for _ in 0..3 + rng.below(3) {
            at = match play {
                0 => self.play_unheard(at, &mut rng),
                1 => self.play_blink(at, &mut rng),
                2 => self.play_blackout(at, &mut rng),
                3 => self.play_late_news(at, &mut rng),
                4 => self.play_relay(at, &mut rng),
                5 => self.play_forgetful(at, &mut rng),
                _ => self.play_hasty(at, &mut rng),
            };
            // Time for those who were taken out to come back.
            at += (700 + rng.below(1500)) * MILLIS;
        }
        self.until = at;
        if rng.chance(1, 3) {
            self.draw_beside(&mut rng);
        }
    }

    /// Trouble of another sort beside a play, so that no play is always the same.
    fn draw_beside(&mut self, rng: &mut Rng) {
        for _ in 0..1 + rng.below(2) {
            let kind = self.draw_kind([Mood::Crashes, Mood::Cuts][rng.index(2)], false, rng);
            let (at, aim) = (500 * MILLIS + rng.below(self.until), [Aim::Owner, Aim::Follower][rng.index(2)]);
            self.plan_fault(at, Trigger::Writing, aim, kind, draw_length(kind, rng), rng);
        }
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
        let aim = if rng.chance(1, 3) { Aim::Owner } else { Aim::Follower };
        self.plan_fault(at, Trigger::Time, aim, SLOW_NET, lasts, rng);
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
        self.plan_fault(at, Trigger::Time, Aim::Follower, SLOW_NET, 2 * lasts, rng);
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
        // The image that stands first in the record vouches for what it has.
        let aim = [Aim::Node(0), Aim::Node(0), Aim::Owner, Aim::Follower][rng.index(4)];
        self.interval = [100, 1000, 3000][rng.index(3)];
        if !self.hosts.contains(&LOOKER) {
            self.hosts.push(LOOKER);
        }
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

    fn play_hasty(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.images, self.segments, self.regions, self.interval) = (2, 1, 3, 3000);
        self.hosts = vec![0, 1, SENDER, LOOKER];
        // The first image counts where both are certain; the other one's node is the owner.
        self.plan_fault(at, Trigger::Time, Aim::Node(1), FaultKind::HandOver, 0, rng);
        let at = at + (300 + rng.below(700)) * MILLIS;
        let slow = FaultKind::DiskSlow { factor: 64 << rng.below(5) };
        let off = (10 + rng.below(100)) * MILLIS;
        self.plan_fault(at, Trigger::Writing, Aim::Owner, FaultKind::PowerLossOfAll, off, rng);
        // Not before, or the writes would not get there.
        self.plan_fault(at + 100 * MILLIS, Trigger::Time, Aim::Node(0), slow, 2 * SECONDS, rng);
        at + off + 3 * SECONDS
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
