//! Which kind of fault comes next, by the sort of run, and how long it lasts.

use super::plan::{Aim, Beats, DiskFault, FaultKind, Mood, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use crate::rng::Rng;

/// Letters that are slow, up to as long as no peer is given up for.
pub(super) const SLOW_NET: FaultKind = FaultKind::SlowNet { most: 300 * MILLIS };

/// A process ends, between two calls.
pub(super) const CRASH: FaultKind = FaultKind::ProcessCrash { amid: false };

impl Plan {
    /// A kind that fits such a run.
    pub(super) fn draw_kind(&self, mood: Mood, has_rot: bool, rng: &mut Rng) -> FaultKind {
        let beats = if rng.chance(1, 2) { Beats::Lost } else { Beats::Late };
        let other = 1 + rng.index(self.nodes - 1);
        let crash = FaultKind::ProcessCrash { amid: rng.chance(1, 3) };
        let cut = FaultKind::CutOneWay { other, inward: rng.chance(1, 2), beats };
        let isolation = FaultKind::Isolation { store: rng.chance(1, 2), hosts: rng.chance(1, 3), beats };
        let fails = FaultKind::DiskFails {
            kind: [DiskFault::Read, DiskFault::Write, DiskFault::Durable, DiskFault::Sync][rng.index(4)],
            times: if rng.chance(1, 2) { 1 } else { u64::MAX },
        };
        let slow = FaultKind::DiskSlow { factor: 10 << rng.below(8) };
        let drift = FaultKind::Drift { ppm: self.draw_ppm(rng) };
        let beats_only = FaultKind::BeatsOnly { other, late: rng.chance(1, 2) };
        let planned = if rng.chance(2, 3) { FaultKind::HandOver } else { FaultKind::TakeOut };
        let change = draw_change(rng);
        let power = draw_power(rng);
        let store = [FaultKind::StoreAway, FaultKind::StoreFlaky, FaultKind::StoreCut][rng.index(3)];
        let link = FaultKind::LinkBreak { other };
        let all: &[FaultKind] = match mood {
            Mood::Mixed => &[
                crash,
                crash,
                power,
                power,
                FaultKind::Pause,
                FaultKind::Pause,
                cut,
                cut,
                isolation,
                link,
                beats_only,
                SLOW_NET,
                store,
                FaultKind::HostCut,
                slow,
                FaultKind::DiskStuck,
                fails,
                drift,
                planned,
                change,
                FaultKind::ProcessCrashOfAll,
            ],
            Mood::Crashes => {
                &[crash, crash, FaultKind::Pause, FaultKind::Pause, FaultKind::ProcessCrashOfAll, link, drift]
            }
            Mood::Cuts => {
                &[cut, cut, isolation, isolation, link, beats_only, SLOW_NET, store, store, FaultKind::HostCut]
            }
            Mood::Power => &[power, power, power, crash, cut, store, FaultKind::Promote],
            Mood::Disks if has_rot => &[FaultKind::Rot, FaultKind::Rot, link, FaultKind::Pause, planned],
            Mood::Disks => &[slow, FaultKind::DiskStuck, fails, fails, crash, cut],
            Mood::Planned => &[planned, planned, change, change, FaultKind::Detach, link, store, slow, crash],
            Mood::Ghosts | Mood::Marks | Mood::Leases | Mood::Resyncs | Mood::Forced => {
                &[planned, cut, store, crash, power, link]
            }
        };
        all[rng.index(all.len())]
    }
}

impl Plan {
    /// The disks of all images are slow: by `least`, doubled fewer than `steps` times.
    pub(super) fn plan_slow_disks(&mut self, at: Time, (least, steps): (u64, u64), lasts: Time, rng: &mut Rng) {
        for node in 0..self.images {
            let slow = FaultKind::DiskSlow { factor: least << rng.below(steps) };
            self.plan_fault(at, Trigger::Time, Aim::Node(node), slow, lasts, rng);
        }
    }

    /// What is not as it should be for most of a run, so that whatever else fails meets it.
    pub(super) fn draw_weather(&mut self, rng: &mut Rng) {
        if !rng.chance(1, 4) {
            return;
        }
        let node = Aim::Node(rng.index(self.nodes));
        let (kind, aim) = match rng.below(4) {
            0 | 1 => (FaultKind::StoreFlaky, Aim::Owner),
            2 => (SLOW_NET, node),
            _ => (FaultKind::DiskSlow { factor: 4 << rng.below(5) }, node),
        };
        let at = rng.below(2 * SECONDS);
        self.plan_fault(at, Trigger::Time, aim, kind, self.until.saturating_sub(at + SECONDS), rng);
    }
}

fn draw_change(rng: &mut Rng) -> FaultKind {
    match rng.below(4) {
        0 => FaultKind::RemoveImage,
        _ => FaultKind::AddImage { replaces: rng.chance(1, 3) },
    }
}

fn draw_power(rng: &mut Rng) -> FaultKind {
    match rng.below(8) {
        0 => FaultKind::OldDisk,
        1 => FaultKind::EmptyDisk,
        2..=3 => FaultKind::PowerLossOfAll,
        _ => FaultKind::PowerLoss,
    }
}

/// How long such a fault lasts.
pub(super) fn draw_length(kind: FaultKind, rng: &mut Rng) -> Time {
    let short = (1 + rng.below(400)) * MILLIS;
    let long = (400 + rng.below(4000)) * MILLIS;
    match kind {
        FaultKind::Pause => (50 + rng.below(2500)) * MILLIS,
        FaultKind::LinkBreak { .. } => 0,
        FaultKind::ProcessCrash { .. } | FaultKind::ProcessCrashOfAll if rng.chance(1, 2) => short,
        FaultKind::EmptyDisk | FaultKind::OldDisk => long + 2 * SECONDS,
        _ if rng.chance(1, 3) => short,
        _ => long,
    }
}
