//! Plays for deliberate breakages that nothing else met: each puts together what has to come together for one of them.
//!
//! | play | rule | what happens | there for the mutants |
//! |---|---|---|---|
//! | tangled | M2 | commands with several ranges, in two extents, while one image catches up slowly | 132 |
//! | half healed | P11, P12 | the only image's disk fails a sync, its process starts again on a disk that works, and parts of what was lost are written | two second lines (docs/proof.md) |
//! | two homes | M20 | hosts ask for hardly anything but the SCSI state, and power is lost everywhere amid a write of it, or bits change on the only image in sync | 86, 117, 144 |
//! | rotten alone | M17, P7 | bits change on the only image in sync while the other one catches up | 121 |
//! | overtaken copy | M10, M15 | an image has noted how far it caught up, and one that is older is promoted by force | 131 |
//! | late release | M6, M12 | an owner's word that it lets go is slow, and the next owner is cut off just before it arrives | 128 |
//! | last refusal | M7, M14, M16 | the only image in sync refuses writes while the other one joins | 141 (140 seldom) |
//! | tattered | M3 | a connection breaks again and again while a few blocks are written without a pause, and what was on its way comes late | 105 |
//! | copied and gone | M15 | an image loses its power while it catches up, when it has noted that it is complete up to some place | 112 |
//! | back unseen | M11 | an image loses its power and is back before anybody missed it; then the owner is gone | 113 |

use super::cut_off::Twist;
use super::host::{HAMMERER, KEEPER, LOOKER, SCATTERER, SENDER, SPARSE, TANGLER, WATCHER};
use super::kinds::CRASH;
use super::plan::{Aim, DiskFault, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

/// One run in so many is such a play.
const ONE_IN: u64 = 3;
/// How often each comes, of those: what meets its moment seldom comes more often.
const TIMES: [usize; 17] = [0, 0, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 9];

impl Plan {
    pub(super) fn draw_survived(&mut self) {
        let Some(mut rng) = self.becomes_play_of_two(0x5a7b_17ed_5a7b_17ed, ONE_IN) else { return };
        // Hosts are logged in by then, and have written.
        let at = (1900 + rng.below(800)) * MILLIS;
        let play = TIMES[rng.index(TIMES.len())];
        self.until = match play {
            0 => self.play_tangled(at, &mut rng),
            1 => self.play_half_healed(at, &mut rng),
            2 => self.play_two_homes(at, &mut rng),
            3 => self.play_rotten_alone(at, &mut rng),
            4 => self.play_overtaken_copy(at, &mut rng),
            5 => self.play_late_release(at, &mut rng),
            6 => self.play_last_refusal(at, &mut rng),
            7 => self.play_tattered(at, &mut rng),
            8 => self.play_copied_and_gone(at, &mut rng),
            _ => self.play_back_unseen(at, &mut rng),
        };
    }

    fn play_tangled(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.regions, self.quota, self.hosts) = (1 + rng.below(2), 2000, vec![TANGLER]);
        let mut at = at;
        for _ in 0..3 {
            // What is cleared meanwhile has a range in another extent than the one that is copied.
            let away = (200 + rng.below(400)) * MILLIS;
            self.plan_fault(at, Trigger::Writing, Aim::Follower, CRASH, away, rng);
            let slow = FaultKind::DiskSlow { factor: 16 << rng.below(5) };
            self.plan_fault(at + away - 50 * MILLIS, Trigger::Time, Aim::Behind, slow, 1500 * MILLIS, rng);
            at += away + (1500 + rng.below(500)) * MILLIS;
        }
        at
    }

    fn play_half_healed(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.images, self.regions, self.hosts) = (1, 1, vec![SENDER, LOOKER]);
        // Closes make some of it durable, so that something older is there to be taken for what was lost.
        (self.interval, self.log_bytes) = (300, 256 << 10);
        // What the pool notes of its losses may come too late.
        let slow = FaultKind::DiskSlow { factor: 1 << rng.below(7) };
        self.plan_fault(at, Trigger::Time, Aim::Owner, slow, 10 * SECONDS, rng);
        let mut at = at;
        for _ in 0..6 {
            let fails = FaultKind::DiskFailsNow { kind: DiskFault::Sync };
            self.plan_fault(at, Trigger::Writing, Aim::Owner, fails, 0, rng);
            let away = (5 + rng.below(50)) * MILLIS;
            self.plan_fault(at, Trigger::DiskFailed, Aim::Owner, CRASH, away, rng);
            at += (1000 + rng.below(500)) * MILLIS;
        }
        at
    }

    fn play_two_homes(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.nodes, self.hosts) = (2, vec![KEEPER]);
        let count = 3 + rng.below(3);
        self.plan_slow_disks(at, (16, 4), count * 3 * SECONDS, rng);
        let mut at = at + 300 * MILLIS;
        for _ in 0..count {
            let off = (50 + rng.below(200)) * MILLIS;
            if rng.chance(1, 3) {
                self.plan_fault(at, Trigger::Time, Aim::Follower, CRASH, 1500 * MILLIS, rng);
                for after in 0..4 {
                    let at = at + SECONDS + after * 40 * MILLIS;
                    self.plan_fault(at, Trigger::Time, Aim::Owner, FaultKind::RotOfState, 0, rng);
                }
            } else {
                self.plan_fault(at, Trigger::Writing, Aim::Owner, FaultKind::PowerLossOfAll, off, rng);
            }
            // Hosts find out, and ask again.
            at += (2000 + rng.below(1000)) * MILLIS;
        }
        at
    }

    fn play_rotten_alone(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.hosts = vec![SENDER, LOOKER];
        let mut at = at;
        for _ in 0..2 {
            let away = (600 + rng.below(600)) * MILLIS;
            self.plan_fault(at, Trigger::Time, Aim::Follower, CRASH, away, rng);
            let back = at + away;
            let slow = FaultKind::DiskSlow { factor: 50 << rng.below(4) };
            self.plan_fault(back - 100 * MILLIS, Trigger::Time, Aim::Behind, slow, 2 * SECONDS, rng);
            self.plan_fault(back, Trigger::Copying, Aim::Owner, FaultKind::RotOfLast, 0, rng);
            at = back + (2000 + rng.below(1500)) * MILLIS;
        }
        at
    }

    fn play_back_unseen(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.hosts = vec![SCATTERER, LOOKER];
        let mut at = at;
        for _ in 0..5 {
            let off = (5 + rng.below(40)) * MILLIS;
            self.plan_fault(at, Trigger::Writing, Aim::Follower, FaultKind::PowerLoss, off, rng);
            let gone = at + off + (50 + rng.below(250)) * MILLIS;
            self.plan_fault(gone, Trigger::Writing, Aim::Owner, CRASH, (1200 + rng.below(600)) * MILLIS, rng);
            at = gone + (3000 + rng.below(1000)) * MILLIS;
        }
        at
    }

    fn play_overtaken_copy(&mut self, at: Time, rng: &mut Rng) -> Time {
        let [first, older, copy] = [Aim::Node(0), Aim::Node(1), Aim::Node(2)];
        (self.images, self.nodes, self.regions, self.interval) = (3, 3, 3, 100);
        self.hosts = vec![SPARSE, 0];
        self.plan_fault(at, Trigger::Time, first, FaultKind::HandOver, 0, rng);
        let at = at + 300 * MILLIS;
        self.plan_fault(at, Trigger::Time, older, FaultKind::TakeOut, 0, rng);
        let at = at + (300 + rng.below(700)) * MILLIS;
        let away = (600 + rng.below(900)) * MILLIS;
        self.plan_fault(at, Trigger::Time, copy, CRASH, away, rng);
        // It notes how far it is with every close, and some are to come before it is done.
        let slow = FaultKind::DiskSlow { factor: 400 << rng.below(3) };
        self.plan_fault(at, Trigger::Time, copy, slow, 6 * SECONDS, rng);
        let alone = at + away + (100 + rng.below(700)) * MILLIS;
        self.plan_fault(alone, Trigger::Copying, first, FaultKind::PowerLoss, 6 * SECONDS, rng);
        let promoted = alone + (900 + rng.below(600)) * MILLIS;
        self.plan_fault(promoted, Trigger::Time, older, FaultKind::Promote, 0, rng);
        // What is written anew after the fork is copied anyway.
        promoted + (20 + rng.below(100)) * MILLIS
    }

    fn play_late_release(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.images, self.nodes, self.hosts) = (3, 3, vec![0, WATCHER, SENDER]);
        let mut at = at;
        for _ in 0..3 {
            self.plan_fault(at, Trigger::Time, Aim::Node(0), FaultKind::HandOver, 0, rng);
            at += 400 * MILLIS;
            // The last word is slow, and the next owner does not hear of it from the store either: another one follows.
            let delay = (1200 + rng.below(400)) * MILLIS;
            let slow = FaultKind::SlowToOwner { delay };
            self.plan_fault(at - MILLIS, Trigger::HandingOver, Aim::Node(1), slow, 20 * MILLIS, rng);
            self.plan_fault(at - MILLIS, Trigger::Time, Aim::Node(1), FaultKind::StoreCut, delay - 100 * MILLIS, rng);
            self.plan_fault(at, Trigger::Time, Aim::Node(1), FaultKind::HandOver, 0, rng);
            let gone = at + delay - rng.below(100) * MILLIS;
            let cut_off = FaultKind::OwnerCutOff { twist: Twist::Plain };
            self.plan_fault(gone, Trigger::Time, Aim::Node(2), cut_off, 1500 * MILLIS, rng);
            at = gone + 3 * SECONDS;
        }
        at
    }

    fn play_last_refusal(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.regions, self.hosts) = (3, vec![SENDER, LOOKER]);
        let is_unheard = rng.chance(3, 4);
        let mut at = at;
        for _ in 0..2 {
            let away = (650 + rng.below(400)) * MILLIS;
            self.plan_fault(at, Trigger::Time, Aim::Follower, CRASH, away, rng);
            let back = at + away;
            if is_unheard {
                // That it joins is not recorded for a while. As soon as it is, it owns.
                let lasts = (600 + rng.below(400)) * MILLIS;
                self.plan_fault(back, Trigger::Resyncing, Aim::Owner, FaultKind::StoreAway, lasts, rng);
                self.plan_fault(back, Trigger::Joined, Aim::Owner, CRASH, 1500 * MILLIS, rng);
            } else {
                // To note that it is complete takes long.
                let slow = FaultKind::DiskSlow { factor: 200 << rng.below(3) };
                self.plan_fault(back - 100 * MILLIS, Trigger::Time, Aim::Behind, slow, 4 * SECONDS, rng);
            }
            let fails = FaultKind::DiskFailsNow { kind: DiskFault::Write };
            self.plan_fault(back, Trigger::Completing, Aim::Owner, fails, 0, rng);
            // Whoever believes its disk no more starts again.
            for node in 0..2 {
                self.plan_fault(back + 4 * SECONDS, Trigger::Time, Aim::Node(node), CRASH, 20 * MILLIS, rng);
            }
            at = back + 6 * SECONDS;
        }
        at
    }

    fn play_tattered(&mut self, at: Time, rng: &mut Rng) -> Time {
        (self.nodes, self.regions, self.quota, self.hosts) = (2, 1, 1000, vec![HAMMERER]);
        // What it sends to the owner alone goes on as soon as the connection is there again.
        self.plan_fault(0, Trigger::Time, Aim::Node(1), FaultKind::HostCut, at + 6 * SECONDS, rng);
        // Slow enough that writes are on their way when it breaks.
        let slow = FaultKind::SlowNet { most: 2 * MILLIS };
        self.plan_fault(at, Trigger::Time, Aim::Owner, slow, 6 * SECONDS, rng);
        let mut at = at;
        for _ in 0..25 {
            at += (100 + rng.below(100)) * MILLIS;
            self.plan_fault(at, Trigger::Writing, Aim::Owner, FaultKind::LinkBreak { other: 1 }, 0, rng);
        }
        at
    }

    fn play_copied_and_gone(&mut self, at: Time, rng: &mut Rng) -> Time {
        // What is copied must be more than the next run would look at anyway.
        (self.regions, self.interval, self.log_bytes, self.hosts) = (3, 300, 256 << 10, vec![SPARSE, 0, 1]);
        let mut at = at;
        for _ in 0..2 {
            let away = (700 + rng.below(1200)) * MILLIS;
            self.plan_fault(at, Trigger::Time, Aim::Follower, CRASH, away, rng);
            let back = at + away;
            let slow = FaultKind::DiskSlow { factor: 50 << rng.below(4) };
            self.plan_fault(back - 50 * MILLIS, Trigger::Time, Aim::Behind, slow, 3 * SECONDS, rng);
            let off = (5 + rng.below(100)) * MILLIS;
            self.plan_fault(
                back + rng.below(600) * MILLIS,
                Trigger::Copying,
                Aim::Behind,
                FaultKind::PowerLoss,
                off,
                rng,
            );
            at = back + 3500 * MILLIS;
        }
        at
    }
}
