//! An image catches up while hosts write, and its machine, its process or its disk fails at every point (M13 to M16).
//!
//! Whatever the crash left: the next run goes on from it, and in the end the image is equal to its source, block for
//! block, and stays so when the power fails once more.

mod owner;
mod side;

use dyad_sim::disk::{Fault, Kind, Survival};
use dyad_sim::model::Crash;

use owner::Owner;
use side::{Fuse, Stopped};

/// Every so many points are tried of one seed; the next seed begins one later.
const STRIDE: u64 = 3;
const SEEDS: u64 = 10;

fn survival(nth: u64) -> Survival {
    Survival::ALL[(nth % Survival::ALL.len() as u64) as usize]
}

/// The run after the crash, without another one; then the power fails at rest.
fn finish(mut owner: Owner, why: Stopped, crash: Crash, left: Survival, what: &str) {
    owner.behind = owner.behind.reopen(why, crash, left);
    owner.resync().expect("nothing fails any more");
    owner.check(what);
    owner.check_stamps(what);
    owner.behind = owner.behind.crash(Crash::Power, Survival::Nothing);
    owner.check(&format!("{what}, then a power cut"));
}

/// Stops the image that is behind at every point of its resync. How often.
fn stops_everywhere(crash: Crash) -> u64 {
    let mut stops = 0;
    for seed in 0..SEEDS {
        for nth in (seed..).step_by(STRIDE as usize) {
            let (mut owner, left) = (Owner::new(seed * 100), survival(nth));
            owner.behind.fuse = Some(Fuse { points: nth, crash, survival: left });
            let what = format!("seed {seed}, {crash:?} at point {nth} ({left:?})");
            match owner.resync() {
                Ok(()) => break,
                Err(why) => finish(owner, why, crash, left, &what),
            }
            stops += 1;
        }
    }
    stops
}

#[test]
fn a_resync_goes_on_after_a_power_cut_at_every_point() {
    let stops = stops_everywhere(Crash::Power);
    assert!(stops > 200, "only {stops} stops");
}

#[test]
fn a_resync_goes_on_after_a_process_crash_at_every_point() {
    let stops = stops_everywhere(Crash::Process);
    assert!(stops > 200, "only {stops} stops");
}

/// The image forgot before it began, and is stopped again and again at random points.
#[test]
fn a_resync_that_is_stopped_again_and_again_ends() {
    for seed in 0..40 {
        let mut owner = Owner::new(seed * 100 + 7);
        let first = if seed % 2 == 0 { Crash::Power } else { Crash::Process };
        owner.behind = owner.behind.crash(first, survival(seed));
        let what = format!("seed {seed}");
        for nth in 0..6 {
            let crash = if (seed + nth) % 3 == 0 { Crash::Process } else { Crash::Power };
            let (points, left) = ((seed * 31 + nth * 97) % 700, survival(seed + nth));
            owner.behind.fuse = Some(Fuse { points, crash, survival: left });
            match owner.resync() {
                Ok(()) => break,
                Err(why) => owner.behind = owner.behind.reopen(why, crash, left),
            }
        }
        owner.behind.fuse = None;
        owner.resync().expect("nothing fails any more");
        owner.check(&what);
        owner.check_stamps(&what);
        owner.behind = owner.behind.crash(Crash::Power, Survival::Nothing);
        owner.check(&format!("{what}, then a power cut"));
    }
}

/// P11, P12: what the disk lost is needed again, whatever its stamp.
#[test]
fn a_resync_goes_on_after_the_disk_failed() {
    let mut failed = 0;
    for kind in [Kind::Write, Kind::Sync, Kind::Durable] {
        for (seed, after) in (0..60).map(|nth| (nth % 7, nth)) {
            let mut owner = Owner::new(seed * 100 + 13);
            owner.behind.rig.disk.order(Fault { kind, after, times: 1 });
            let Err(why) = owner.resync() else { break };
            failed += 1;
            let crash = if after % 2 == 0 { Crash::Process } else { Crash::Power };
            let left = survival(after);
            finish(owner, why, crash, left, &format!("{kind} {after} of seed {seed} fails, {crash:?} ({left:?})"));
        }
    }
    assert!(failed > 20, "only {failed} failures");
}

/// M13: a run copies what differs, not everything.
#[test]
fn a_second_resync_has_little_to_do() {
    let mut owner = Owner::new(5);
    owner.resync().expect("nothing fails");
    let first = owner.copied;
    owner.resync().expect("nothing fails");
    assert!(owner.copied - first < first, "{} after {first}", owner.copied - first);
}
