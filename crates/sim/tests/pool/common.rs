//! What the crash tests share.

use dyad_sim::disk::Survival;
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Scene, Stop};
use dyad_sim::restart::Survivor;
use dyad_sim::rng::Rng;

/// A small scene on a disk that writes `unit` bytes untorn.
pub fn scene(unit: usize) -> Scene {
    Scene { unit, ..Scene::small() }
}

/// Fails the test with the seed of what happened.
pub fn must<T>(result: Result<T, Stop>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(Stop::Violation(violation)) => panic!("{what}: {violation}"),
        Err(Stop::Fuse) => panic!("{what}: the fuse was not lit"),
    }
}

/// Crashes at every happening of a workload that may matter and calls `check` with what is left.
pub fn at_every_point(
    mut player: Player,
    happenings: u32,
    crash: Crash,
    mut check: impl FnMut(u64, Survivor, &mut Rng) -> Result<(), Stop>,
) -> u64 {
    let mut rng = Rng::new(99);
    let (mut last, mut points) = (0, 0);
    let run = player.run(happenings, |player| {
        let pulse = player.pulse();
        if pulse == last {
            return Ok(());
        }
        last = pulse;
        let survival = Survival::ALL[(points % Survival::ALL.len() as u64) as usize];
        let survivor = player.crash(crash, survival, &mut rng);
        check(points, survivor, &mut rng).map_err(|stop| at_point(stop, points, crash, survival))?;
        points += 1;
        Ok(())
    });
    must(run, "a crash at every point");
    points
}

fn at_point(stop: Stop, point: u64, crash: Crash, survival: Survival) -> Stop {
    match stop {
        Stop::Violation(mut violation) => {
            violation.0 = format!("{crash:?} at point {point} ({survival:?}): {violation}");
            Stop::Violation(violation)
        }
        Stop::Fuse => Stop::Fuse,
    }
}
