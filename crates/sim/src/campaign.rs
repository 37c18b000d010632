//! Whole runs from one seed: work, crash, recover, compare, again.

use dyad_units::Extent;

use crate::disk::{Fault, Kind, SimDisk, Survival};
use crate::habits::Habits;
use crate::model::{Crash, Violation};
use crate::player::{Player, Scene, Stop};
use crate::restart::Survivor;
use crate::rng::Rng;

/// Crashes while recovering from one crash, at most: then it is left alone to finish.
const TROUBLES_MAX: u32 = 6;

/// One run in so many has a disk that fails now and then (P11): a poisoned pool does little more, so most have a good one.
const FAULTY_EVERY: u64 = 4;
/// Operations of a kind that pass before the order to fail strikes, at most.
const FAULT_AFTER_MAX: u64 = 60;

/// What a run went through.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Crashes of the process.
    pub process_crashes: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Crashes in the middle of a recovery.
    pub troubles: u64,
    /// Disks that failed a write or a sync.
    pub failed_disks: u64,
    /// Torn blocks that were seen.
    pub torn: u64,
    /// Requests answered.
    pub requests: u64,
}

impl Summary {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            process_crashes: self.process_crashes + other.process_crashes,
            power_cuts: self.power_cuts + other.power_cuts,
            troubles: self.troubles + other.troubles,
            failed_disks: self.failed_disks + other.failed_disks,
            torn: self.torn + other.torn,
            requests: self.requests + other.requests,
        }
    }
}

/// A rule was broken in a run.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed that shows it.
    pub seed: u64,
    /// Which rule, and how.
    pub violation: Violation,
    /// The last happenings before.
    pub story: Vec<String>,
}

/// One whole run.
pub fn run_seed(seed: u64, keeps_story: bool) -> Result<Summary, Box<Finding>> {
    let mut rng = Rng::new(seed);
    let mut summary = Summary::default();
    let mut story = Vec::new();
    match play(seed, &mut rng, keeps_story, &mut summary, &mut story) {
        Ok(()) => Ok(summary),
        Err(Stop::Violation(violation)) => Err(Box::new(Finding { seed, violation, story })),
        Err(Stop::Fuse) => unreachable!("a fuse is lit only where it is looked for"),
    }
}

/// A scene drawn by the seed: roomy or tight, tearing or not, calm or churning.
fn draw_scene(rng: &mut Rng) -> Scene {
    let mut scene = Scene::small();
    scene.unit = if rng.chance(1, 2) { 512 } else { 4096 };
    scene.images = 1 + rng.below(2);
    scene.habits = match rng.below(4) {
        0 => Habits::unflushed(),
        1 => Habits::churning(),
        _ => Habits::mixed(),
    };
    scene.habits.depth = 1 + rng.index(12);
    scene.habits.eagerness = 10 + rng.below(80);
    if rng.chance(1, 4) {
        scene.disk_bytes = 8 << 20;
        scene.extents = (0..40).map(Extent).collect();
    } else if rng.chance(1, 3) {
        scene.extents = (0..24).map(|at| Extent(at * 3)).collect();
    }
    if rng.chance(1, 3) {
        scene.log_bytes = 64 << 10;
    }
    scene
}

fn play(
    seed: u64,
    rng: &mut Rng,
    keeps_story: bool,
    summary: &mut Summary,
    story: &mut Vec<String>,
) -> Result<(), Stop> {
    let scene = draw_scene(rng);
    let mut player = Player::new(scene, seed ^ 0x5eed)?;
    // A source of their own, so that faults change nothing in the runs without.
    let mut faults = Rng::new(seed ^ 0xbad_d15c);
    let is_faulty = faults.chance(1, FAULTY_EVERY);
    for _ in 0..1 + rng.below(4) {
        if is_faulty && faults.chance(1, 2) {
            order_fault(&mut player.rig.disk, &mut faults);
        }
        if keeps_story {
            player.keep_story();
        }
        let happenings = 100 + rng.below(4000) as u32;
        let mut worked = player.run(happenings, |_| Ok(()));
        if worked.is_ok() && rng.chance(1, 4) {
            worked = player.rest();
        }
        if let Err(stop) = worked {
            story.extend(player.story().lines().map(str::to_owned));
            return Err(stop);
        }
        summary.requests += player.answered();
        story.extend(player.story().lines().map(str::to_owned));
        let crash = if rng.chance(1, 2) { Crash::Power } else { Crash::Process };
        let mut survivor = player.crash(crash, draw_survival(rng), rng);
        story.push(format!("--- {crash:?}"));
        survivor.disk.repair();
        if player.rig.failed().is_some() {
            summary.failed_disks += 1;
            story.push("--- of a disk that had failed".into());
            // What a failed sync gave up on is clean in the page cache, and so is gone at any moment.
            survivor.disk.evict_clean();
        }
        player = recover_amid_trouble(survivor, rng, keeps_story, summary, story)?;
        summary.torn += player.actors.iter().map(|(_, actor)| actor.model.torn()).sum::<u64>();
    }
    Ok(())
}

/// The disk will fail changes of one kind, once or for good; what a failed sync could not write it drops.
fn order_fault(disk: &mut SimDisk, rng: &mut Rng) {
    let kind = [Kind::Write, Kind::Durable, Kind::Sync][rng.index(3)];
    let times = if rng.chance(1, 2) { 1 } else { u64::MAX };
    disk.order(Fault { kind, after: rng.below(FAULT_AFTER_MAX), times });
}

/// Any way of losing what was not synced.
pub fn draw_survival(rng: &mut Rng) -> Survival {
    Survival::ALL[rng.index(Survival::ALL.len())]
}

/// Recovers, crashing again on the way now and then, until a recovery gets through.
fn recover_amid_trouble(
    mut survivor: Survivor,
    rng: &mut Rng,
    keeps_story: bool,
    summary: &mut Summary,
    story: &mut Vec<String>,
) -> Result<Player, Stop> {
    for trouble in 0.. {
        match survivor.crash {
            Crash::Power => summary.power_cuts += 1,
            Crash::Process => summary.process_crashes += 1,
        }
        let is_left_alone = trouble == TROUBLES_MAX || rng.chance(1, 2);
        if !is_left_alone && rng.chance(1, 2) {
            survivor.disk.cut_after(1 + rng.below(24));
        }
        let mut player = match survivor.open_or_crash(rng)? {
            Ok(player) => player,
            Err(next) => {
                summary.troubles += 1;
                story.push("--- again, while opening".into());
                survivor = *next;
                continue;
            }
        };
        if keeps_story {
            player.keep_story();
        }
        player.fuse = (!is_left_alone).then(|| rng.below(400) as u32);
        match player.make_equal(rng) {
            Ok(()) => {
                player.fuse = None;
                return Ok(player);
            }
            Err(Stop::Fuse) => {
                summary.troubles += 1;
                story.extend(player.story().lines().map(str::to_owned));
                let crash = if rng.chance(1, 2) { Crash::Power } else { Crash::Process };
                story.push(format!("--- {crash:?} again, while making equal"));
                survivor = player.crash(crash, draw_survival(rng), rng);
            }
            Err(stop) => {
                story.extend(player.story().lines().map(str::to_owned));
                return Err(stop);
            }
        }
    }
    unreachable!("the last attempt is left alone")
}
