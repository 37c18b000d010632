//! Plays of what campaigns met once in ten thousands of runs, so that it would be met again within hundreds.
//!
//! | play | rule | what happens |
//! |---|---|---|
//! | stranger | M8 | an image is added while the next owner is cut off from this one, and does not hear of it in time |
//! | overruled | M10 | an image is promoted by force although the owner lives, is reached by hosts, and hears of it a little later |
//! | crowded | P15 | all pools are full, and what they are full of changes while an image is out |
//! | rotten | P7, P8 | bits of a disk change, and its node takes over without any crash of its own, amid writes |

use super::host::{MOVER, SENDER, TURN, WATCHER};
use super::plan::{Aim, Beats, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

/// One run in so many is such a play.
const ONE_IN: u64 = 8;
/// Of the others, one in so many is about full pools.
const CROWDED_ONE_IN: u64 = 24;

impl Plan {
    /// Some runs are plays instead of what was drawn. Drawn apart, so that the others stay what they are.
    pub(super) fn draw_recalled(&mut self) {
        let mut rng = Rng::new(self.seed ^ 0x7e0a_11ed_7e0a_11ed);
        let is_crowded = Rng::new(self.seed ^ 0xc40d_ed00_f011_f011).chance(1, CROWDED_ONE_IN);
        let is_recalled = rng.chance(1, ONE_IN);
        if !is_recalled && !is_crowded {
            return;
        }
        self.faults.clear();
        (self.images, self.segments, self.is_beyond_bound) = (2, 1, false);
        self.policy = dyad_cluster::AckPolicy::default();
        if !is_recalled {
            return self.play_crowded(&mut rng);
        }
        self.hosts = vec![0, 1];
        let play = rng.index(3);
        if play == 0 {
            self.nodes = self.nodes.max(3); // somewhere for one more image
        }
        let mut at = (800 + rng.below(1000)) * MILLIS;
        for _ in 0..3 + rng.below(2) {
            at = match play {
                0 => self.play_stranger(at, &mut rng),
                1 => self.play_overruled(at, &mut rng),
                _ => self.play_rotten(at, &mut rng),
            };
            at += (300 + rng.below(1000)) * MILLIS;
        }
        self.until = at;
    }

    fn play_stranger(&mut self, at: Time, rng: &mut Rng) -> Time {
        // Shorter than a lease: nobody is taken out for it.
        let lasts = (250 + rng.below(150)) * MILLIS;
        let cut = FaultKind::CutOneWay { other: 1 + rng.index(self.nodes - 1), inward: true, beats: Beats::Lost };
        self.plan_fault(at, Trigger::Time, Aim::Follower, cut, lasts, rng);
        self.plan_fault(at, Trigger::Time, Aim::Follower, FaultKind::StoreCut, lasts, rng);
        let adds = FaultKind::AddImage { replaces: false };
        self.plan_fault(at + (5 + rng.below(100)) * MILLIS, Trigger::Time, Aim::Owner, adds, 0, rng);
        let next = at + lasts + (300 + rng.below(1500)) * MILLIS;
        self.plan_fault(next, Trigger::Time, Aim::Follower, FaultKind::HandOver, 0, rng);
        next + SECONDS
    }

    fn play_overruled(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.hosts = vec![0, WATCHER, SENDER];
        self.plan_fault(at, Trigger::Time, Aim::Follower, FaultKind::TakeOut, 0, rng);
        let cut = at + (100 + rng.below(600)) * MILLIS;
        let lasts = (2000 + rng.below(1000)) * MILLIS;
        let isolation = FaultKind::Isolation { store: false, hosts: false, beats: Beats::Lost };
        self.plan_fault(cut, Trigger::Time, Aim::Behind, isolation, lasts, rng);
        let promoted = cut + (650 + rng.below(700)) * MILLIS;
        self.plan_fault(promoted, Trigger::Writing, Aim::Behind, FaultKind::Promote, 0, rng);
        cut + lasts
    }

    fn play_crowded(&mut self, rng: &mut Rng) {
        // Fewer slots than the volume has extents, and quota enough to fill them twice.
        (self.disk_bytes, self.regions, self.quota) = (8 << 20, 3, 500);
        self.hosts = vec![MOVER];
        // The image has the last extents and needs the first, which come before them in a resync.
        let at = TURN - (100 + rng.below(600)) * MILLIS;
        let kind = [FaultKind::ProcessCrash { amid: false }, FaultKind::PowerLoss][rng.index(2)];
        let lasts = 7 * SECONDS;
        self.plan_fault(at, Trigger::Time, Aim::Follower, kind, lasts, rng);
        self.until = at + lasts;
    }

    fn play_rotten(&mut self, at: Time, rng: &mut Rng) -> Time {
        self.hosts = vec![0, 1, SENDER];
        let mut at = at;
        for _ in 0..2 {
            self.plan_fault(at, Trigger::Writing, Aim::Follower, FaultKind::Rot, 0, rng);
            // No power is lost: there rot may be what a crash left, and nobody can tell (P8).
            let fails = FaultKind::ProcessCrash { amid: rng.chance(1, 2) };
            // Long enough for the other one to follow.
            let away = (900 + rng.below(600)) * MILLIS;
            at += rng.below(100) * MILLIS;
            self.plan_fault(at, Trigger::Writing, Aim::Owner, fails, away, rng);
            at += away + (500 + rng.below(1000)) * MILLIS;
        }
        at
    }
}
