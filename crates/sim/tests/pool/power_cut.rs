//! The power fails at every point of a workload, and again at every change of the recovery (A2, A5, P2, P5, P8).

use crate::common::{at_every_point, must, scene};
use dyad_sim::model::Crash;
use dyad_sim::player::Player;
use dyad_sim::restart::Survivor;
use dyad_sim::rng::Rng;

const SEED: u64 = 7;
/// Happenings of the workload: three per call of the pool.
const HAPPENINGS: u32 = 1500;

#[test]
fn flushed_writes_survive_a_power_cut_at_every_point_on_a_disk_of_whole_blocks() {
    let player = must(Player::new(scene(4096), SEED), "set up");
    let points = at_every_point(player, HAPPENINGS, Crash::Power, |_, survivor, rng| survivor.recover(rng).map(|_| ()));
    assert!(points > 200, "only {points} points");
}

/// A5: below the physical block a write may be torn, and nothing but the torn block itself may suffer.
#[test]
fn flushed_writes_survive_a_power_cut_at_every_point_on_a_disk_of_sectors() {
    let player = must(Player::new(scene(512), SEED + 1), "set up");
    let mut torn = 0;
    let points = at_every_point(player, HAPPENINGS, Crash::Power, |_, survivor, rng| {
        let player = survivor.recover(rng)?;
        torn += player.actors.iter().map(|(_, actor)| actor.model.torn()).sum::<u64>();
        Ok(())
    });
    assert!(points > 200, "only {points} points");
    assert!(torn > 0, "the disk never tore a block: the test shows nothing");
}

/// A5: what was seen after one power cut is still there after the next.
#[test]
fn what_was_read_after_a_power_cut_stays_so_after_another() {
    let player = must(Player::new(scene(512), SEED + 2), "set up");
    at_every_point(player, HAPPENINGS, Crash::Power, |point, survivor, rng| {
        if point % 3 != 0 {
            return Ok(());
        }
        let player = survivor.recover(rng)?;
        let survival = dyad_sim::campaign::draw_survival(rng);
        player.crash(Crash::Power, survival, rng).recover(rng).map(|_| ())
    });
}

/// P8: everything that a recovery does may be done again.
#[test]
fn a_recovery_cut_at_every_change_is_finished_by_the_next() {
    let player = must(Player::new(scene(512), SEED + 3), "set up");
    let mut cuts = 0;
    at_every_point(player, HAPPENINGS, Crash::Power, |point, survivor, rng| {
        if point % 23 == 0 { cut_at_every_change(&survivor, rng, &mut cuts) } else { Ok(()) }
    });
    assert!(cuts > 20, "only {cuts} cuts");
}

fn cut_at_every_change(survivor: &Survivor, rng: &mut Rng, cuts: &mut u64) -> Result<(), dyad_sim::player::Stop> {
    for change in 1.. {
        let mut cut = survivor.copy();
        cut.disk.cut_after(change);
        match cut.open_or_crash(rng)? {
            Ok(_) => break,
            Err(left) => left.recover(rng).map(|_| ())?,
        }
        *cuts += 1;
    }
    Ok(())
}
