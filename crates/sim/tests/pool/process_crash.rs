//! The process dies at every point, inside calls of the pool too: every acknowledged write is there (A1, P6).

use crate::common::{at_every_point, must, scene};
use dyad_sim::disk::Survival;
use dyad_sim::habits::Habits;
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Scene};

const SEED: u64 = 107;
const HAPPENINGS: u32 = 1500;

#[test]
fn acknowledged_writes_survive_a_crash_of_the_process_at_every_point() {
    let player = must(Player::new(scene(4096), SEED), "set up");
    let points =
        at_every_point(player, HAPPENINGS, Crash::Process, |_, survivor, rng| survivor.recover(rng).map(|_| ()));
    assert!(points > 200, "only {points} points");
}

/// First writes to thin extents are in L alone until somebody flushes.
#[test]
fn first_writes_that_were_never_flushed_survive_a_crash_of_the_process() {
    let scene = Scene { habits: Habits::unflushed(), ..scene(512) };
    let player = must(Player::new(scene, SEED + 1), "set up");
    at_every_point(player, HAPPENINGS, Crash::Process, |_, survivor, rng| survivor.recover(rng).map(|_| ()));
}

/// A small L is cut all the time; nothing that is still needed may go with it.
#[test]
fn a_small_recent_log_forgets_nothing_that_is_needed() {
    let scene = Scene { log_bytes: 24 << 10, habits: Habits::unflushed(), ..scene(4096) };
    let player = must(Player::new(scene, SEED + 2), "set up");
    at_every_point(player, HAPPENINGS, Crash::Process, |_, survivor, rng| survivor.recover(rng).map(|_| ()));
}

/// What a crash of the process left in the page cache can still be lost: the recovered pool flushes it like new.
#[test]
fn a_flush_after_the_crash_makes_the_recovered_writes_durable() {
    let player = must(Player::new(scene(512), SEED + 3), "set up");
    at_every_point(player, HAPPENINGS, Crash::Process, |point, survivor, rng| {
        if point % 5 != 0 {
            return Ok(());
        }
        let mut player = survivor.recover(rng)?;
        for at in 0..player.actors.len() {
            player.flush(at)?;
        }
        player.crash(Crash::Power, Survival::Nothing, rng).recover(rng).map(|_| ())
    });
}

/// A process that dies again and again while it opens its pool loses nothing either (A1).
#[test]
fn a_crash_while_opening_keeps_what_the_recent_log_knows() {
    let scene = Scene { habits: Habits::unflushed(), ..scene(4096) };
    let player = must(Player::new(scene, SEED + 4), "set up");
    let mut cuts = 0;
    at_every_point(player, HAPPENINGS, Crash::Process, |point, survivor, rng| {
        if point % 23 != 0 {
            return Ok(());
        }
        for change in 1.. {
            let mut cut = survivor.copy();
            cut.disk.cut_after(change);
            match cut.open_or_crash(rng)? {
                Ok(_) => break,
                Err(left) => left.recover(rng).map(|_| ())?,
            }
            cuts += 1;
        }
        Ok(())
    });
    assert!(cuts > 20, "only {cuts} cuts");
}
