//! Plays for deliberate breakages that the other runs met, but not within a thousand from every start.
//!
//! | play | rule | what happens | there for the mutants |
//! |---|---|---|---|
//! | unmarked | P5 | power is lost everywhere just when regions become marked, on disks that take long for that, and hosts do not write again what was not answered | 60 |
//! | unsynced | P5, M4 | power is lost everywhere amid closes, on disks that take long for them, while regions become clean | 85 |
//! | dark rot | P8 | bits change on the disk of the first image, and power is lost everywhere before anybody reads them | 65 |
//! | forgotten promise | M6 | owners are cut off while the claim that follows is slow, or while those who promised start anew | 24, 25 |
//! | unequal | M3, M9 | all processes end while an owner compares and writes | 98 |
//! | long queues | M3, M12 | disks take long for everything, and owners hand over or fail amid writes | 10, 38 |
//! | forgot | M11 | the owner of three images is cut off amid writes, and the other machines lose their power before they follow | 37 |
//! | written alone | M1 | the owner loses its power with writes on its disk that no other image has, and nobody writes there again | 06 |
//! | whole | M21 | a host that writes runs of blocks atomically, and losses of power, of processes and of owners amid that | those of M21 |
//! | durable | A2 | a host that clears durably, and losses of power everywhere | 120 |

use super::cut_off::Twist;
use super::host::{CLEARER, DROPPER, JOINER, LOOKER, SCATTERER, SENDER, SPARSE, TANGLER, WATCHER};
use super::kinds::CRASH;
use super::plan::{Aim, Beats, DiskFault, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

/// One run in so many is such a play.
const ONE_IN: u64 = 3;
/// How often each comes, of those.
const TIMES: [usize; 16] = [0, 1, 2, 2, 3, 4, 4, 5, 5, 6, 7, 8, 9, 9, 9, 9];

impl Plan {
    pub(super) fn draw_seldom(&mut self) {
        let Some(mut rng) = self.becomes_play_of_two(0x5e1d_0175_5e1d_0175, ONE_IN) else { return };
        self.nodes = 2;
        // Hosts are logged in by then, and have written.
        let at = (1900 + rng.below(800)) * MILLIS;
        self.until = match TIMES[rng.index(TIMES.len())] {
            0 => self.play_unmarked(at, &mut rng),
            1 => self.play_dark_rot(at, &mut rng),
            2 => self.play_forgotten_promise(at, &mut rng),
            3 => self.play_durable(at, &mut rng),
            4 => self.play_unequal(at, &mut rng),
            5 => self.play_unsynced(at, &mut rng),
            6 => self.play_long_queues(at, &mut rng),
            7 => self.play_forgot(at, &mut rng),
            8 => self.play_written_alone(at, &mut rng),
            _ => self.play_whole(at, &mut rng),
        };
    }

    fn play_unmarked(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.interval, self.hosts) = (100, vec![DROPPER]);
        self.plan_slow_disks(at, (64, 3), 20 * SECONDS, rng);
        let mut at = at + 300 * MILLIS;
        for _ in 0..6 {
            let off = (50 + rng.below(200)) * MILLIS;
            self.plan_fault(at, Trigger::Marking, Aim::Owner, FaultKind::PowerLossOfAll, off, rng);
            at += (1800 + rng.below(900)) * MILLIS;
        }
        at
    }

    fn play_unsynced(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.interval, self.hosts) = (100, vec![SPARSE, DROPPER]);
        self.plan_slow_disks(at, (32, 4), 20 * SECONDS, rng);
        let mut at = at + 300 * MILLIS;
        for _ in 0..7 {
            // When a close begins, nothing of it is durable yet; a little later it may be.
            let trigger = [Trigger::Closing, Trigger::Time, Trigger::Time][rng.index(3)];
            let off = (50 + rng.below(200)) * MILLIS;
            self.plan_fault(at, trigger, Aim::Owner, FaultKind::PowerLossOfAll, off, rng);
            at += (1500 + rng.below(900)) * MILLIS;
        }
        at
    }

    fn play_dark_rot(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.hosts = vec![SENDER, LOOKER];
        let mut at = at;
        for _ in 0..4 {
            for _ in 0..4 {
                self.plan_fault(at, Trigger::Time, Aim::Node(0), FaultKind::Rot, 0, rng);
            }
            let off = (50 + rng.below(200)) * MILLIS;
            self.plan_fault(at + MILLIS, Trigger::Time, Aim::Owner, FaultKind::PowerLossOfAll, off, rng);
            at += (2000 + rng.below(1000)) * MILLIS;
        }
        at
    }

    fn play_forgotten_promise(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.hosts = vec![0, WATCHER];
        let mut at = at;
        for _ in 0..4 {
            let twist = [Twist::SlowStore, Twist::SlowStore, Twist::Restart][rng.index(3)];
            let lasts = (2000 + rng.below(1500)) * MILLIS;
            self.plan_fault(at, Trigger::Writing, Aim::Owner, FaultKind::OwnerCutOff { twist }, lasts, rng);
            // Time for those who were taken out to come back.
            at += lasts + (500 + rng.below(1000)) * MILLIS;
        }
        at
    }

    fn play_unequal(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.regions, self.interval, self.hosts) = (3, 3000, vec![0, 1, SENDER]);
        let mut at = at;
        for _ in 0..4 {
            // What is on its way to one image is what the others have and it has not; to compare takes long.
            let slow = FaultKind::SlowNet { most: 10 * MILLIS };
            self.plan_fault(at, Trigger::Time, Aim::Follower, slow, 2 * SECONDS, rng);
            let amid = at + (50 + rng.below(200)) * MILLIS;
            let ends = FaultKind::ProcessCrashOfAll;
            self.plan_fault(amid, Trigger::Writing, Aim::Owner, ends, (1 + rng.below(30)) * MILLIS, rng);
            let slow = FaultKind::DiskSlow { factor: 64 << rng.below(3) };
            self.plan_fault(amid + MILLIS, Trigger::Time, Aim::Owner, slow, 1500 * MILLIS, rng);
            self.plan_fault(amid + MILLIS, Trigger::Comparing, Aim::Owner, ends, (1 + rng.below(30)) * MILLIS, rng);
            at = amid + (2200 + rng.below(800)) * MILLIS;
        }
        at
    }

    fn play_durable(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.interval, self.log_bytes, self.hosts) = (3000, 256 << 10, vec![CLEARER]);
        let mut at = at;
        for _ in 0..5 {
            let off = (50 + rng.below(200)) * MILLIS;
            self.plan_fault(at, Trigger::Writing, Aim::Owner, FaultKind::PowerLossOfAll, off, rng);
            at += (1500 + rng.below(900)) * MILLIS;
        }
        at
    }

    fn play_long_queues(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.hosts = vec![TANGLER, SENDER];
        let mut at = at;
        for _ in 0..5 {
            let slow = FaultKind::DiskSlow { factor: 64 << rng.below(4) };
            if rng.chance(1, 2) {
                for node in 0..2 {
                    self.plan_fault(at, Trigger::Time, Aim::Node(node), slow, 1500 * MILLIS, rng);
                }
                let amid = at + (50 + rng.below(150)) * MILLIS;
                self.plan_fault(amid, Trigger::Writing, Aim::Follower, FaultKind::HandOver, 0, rng);
                at = amid + (1500 + rng.below(500)) * MILLIS;
            } else {
                // Who follows a failed disk follows at once, with writes of the owner before in its own disk's queue.
                self.plan_fault(at, Trigger::Time, Aim::Follower, slow, 1500 * MILLIS, rng);
                let amid = at + (50 + rng.below(150)) * MILLIS;
                let fails = FaultKind::DiskFailsNow { kind: DiskFault::Write };
                self.plan_fault(amid, Trigger::Writing, Aim::Owner, fails, 0, rng);
                // Whoever believes its disk no more starts again.
                at = amid + 2500 * MILLIS;
                for node in 0..2 {
                    self.plan_fault(at, Trigger::Time, Aim::Node(node), CRASH, 20 * MILLIS, rng);
                }
                at += (1500 + rng.below(500)) * MILLIS;
            }
        }
        at
    }

    fn play_forgot(&mut self, at: Time, rng: &mut Rng) -> Time {
        // Of two images, the one that is left would not serve alone (M8).
        (self.images, self.nodes) = (3, 3);
        // Little becomes durable by itself, so that there is something to forget.
        (self.interval, self.log_bytes, self.hosts) = (3000, 256 << 10, vec![TANGLER, SENDER]);
        let mut at = at;
        for _ in 0..4 {
            let lasts = (2000 + rng.below(1000)) * MILLIS;
            let cut_off = FaultKind::OwnerCutOff { twist: Twist::PowerLoss };
            self.plan_fault(at, Trigger::Writing, Aim::Owner, cut_off, lasts, rng);
            // Time to come back.
            at += lasts + (1500 + rng.below(1000)) * MILLIS;
        }
        at
    }

    fn play_written_alone(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.regions, self.interval, self.hosts) = (3, 100, vec![SCATTERER]);
        let mut at = at;
        for _ in 0..3 {
            let cut = FaultKind::CutOneWay { other: 1, inward: false, beats: Beats::Lost };
            let amid = (60 + rng.below(60)) * MILLIS;
            self.plan_fault(at, Trigger::Time, Aim::Owner, cut, amid + 50 * MILLIS, rng);
            // Long enough for the other one to follow.
            let off = (800 + rng.below(400)) * MILLIS;
            self.plan_fault(at + amid, Trigger::Time, Aim::Owner, FaultKind::PowerLoss, off, rng);
            // And for hosts to give up what they had sent there.
            at += (6000 + rng.below(1000)) * MILLIS;
        }
        at
    }

    fn play_whole(&mut self, at: Time, rng: &mut Rng) -> Time {
        // Where another image has all of it, nothing is torn: the fewer, the more is seen.
        self.images = [1, 1, 2, 2, 3][rng.index(5)];
        (self.nodes, self.hosts) = (self.images.max(2), vec![JOINER]);
        if rng.chance(1, 4) {
            self.hosts.push(SENDER);
        }
        self.quota = self.quota.max(1500);
        let mut at = at;
        for _ in 0..8 {
            // Most of the time something that was noted or written is not durable yet, and to look for it takes a while.
            for node in 0..self.nodes {
                let slow = FaultKind::DiskSlow { factor: 16 << rng.below(4) };
                self.plan_fault(at, Trigger::Time, Aim::Node(node), slow, 1500 * MILLIS, rng);
            }
            let amid = at + (50 + rng.below(300)) * MILLIS;
            let kind = match rng.index(9) {
                0..4 => FaultKind::PowerLossOfAll,
                4..6 => FaultKind::ProcessCrashOfAll,
                6 => FaultKind::ProcessCrash { amid: true },
                7 => FaultKind::PowerLoss,
                _ => FaultKind::Isolation { store: true, hosts: false, beats: Beats::Lost },
            };
            let trigger = [Trigger::Writing, Trigger::Noting, Trigger::Carrying, Trigger::Carrying][rng.index(4)];
            let lasts = (20 + rng.below(300)) * MILLIS;
            self.plan_fault(amid, trigger, Aim::Owner, kind, lasts, rng);
            at = amid + lasts + (900 + rng.below(600)) * MILLIS;
        }
        at
    }
}
