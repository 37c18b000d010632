//! The region log (P5): marked before the first write, cleared only when nothing could differ any more.

use crate::common::must;
use dyad_sim::disk::{Kind, Survival};
use dyad_sim::habits::Habits;
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Scene};
use dyad_sim::rng::Rng;
use dyad_units::{EXTENTS_PER_REGION, Extent, Piece};

/// One region per extent.
fn wide(regions: u32) -> Scene {
    let extents = (0..regions).map(|region| Extent(region * EXTENTS_PER_REGION)).collect();
    Scene { images: 1, extents, disk_bytes: 16 << 20, ..Scene::small() }
}

fn block(region: u32) -> Piece {
    Piece::new(Extent(region * EXTENTS_PER_REGION), 1, 1).unwrap()
}

fn marked(player: &Player) -> u64 {
    player.rig.pool.usage().regions_marked
}

#[test]
fn a_mark_is_in_the_journal_before_the_first_write_reaches_the_disk() {
    let mut player = must(Player::new(wide(4), 51), "set up");
    // The credit and the extent's map page come first.
    must(player.write(0, block(1)), "write elsewhere");
    let before = player.rig.disk.counts();
    must(player.write(0, block(0)), "write");
    let after = player.rig.disk.counts();
    assert_eq!(after.of(Kind::Durable), before.of(Kind::Durable) + 1, "one commit for the mark");
    assert_eq!(after.of(Kind::Sync), before.of(Kind::Sync), "and no sync");
    assert_eq!(marked(&player), 2);

    let before = player.rig.disk.counts();
    must(player.write(0, block(0)), "overwrite");
    let after = player.rig.disk.counts();
    assert_eq!(after.changes(), before.changes() + 1, "a marked region costs one data write");
}

#[test]
fn a_mark_is_cleared_when_a_whole_interval_passed_without_a_write() {
    let mut player = must(Player::new(wide(4), 52), "set up");
    must(player.write(0, block(0)), "write");
    must(player.close(0), "close");
    assert_eq!(marked(&player), 1, "written in the interval just closed");
    must(player.write(0, block(1)), "write elsewhere");
    must(player.close(0), "close");
    assert_eq!(marked(&player), 1, "region 0 was quiet");
    must(player.close(0), "close");
    assert_eq!(marked(&player), 0);

    must(player.write(0, block(0)), "write again");
    assert_eq!(marked(&player), 1);
    let survivor = player.crash(Crash::Power, Survival::Everything, &mut Rng::new(1));
    must(survivor.recover(&mut Rng::new(2)), "the new mark is durable");
}

#[test]
fn marks_come_and_go_without_a_gap_at_any_point() {
    let habits = Habits { close: 25, flush: 4, unmap: 6, ..Habits::mixed() };
    for (seed, crash) in [(53, Crash::Power), (54, Crash::Power), (55, Crash::Process)] {
        let scene = Scene { habits: habits.clone(), ..wide(8) };
        let player = must(Player::new(scene, seed), "set up");
        crate::common::at_every_point(player, 1200, crash, |_, survivor, rng| survivor.recover(rng).map(|_| ()));
    }
}

/// The budget: over it the pool asks for an early close; no write waits for a clear.
#[test]
fn over_its_budget_the_pool_asks_for_a_close_and_keeps_writing() {
    const BUDGET: u32 = 16_384;
    let scene = Scene { disk_bytes: 6 << 30, log_bytes: 8 << 20, ..wide(BUDGET + 8) };
    let mut player = must(Player::new(scene, 56), "set up");
    for region in 0..BUDGET {
        must(player.write(0, block(region)), "write");
    }
    assert!(!player.rig.pool.usage().over_budget);
    for region in BUDGET..BUDGET + 8 {
        assert!(must(player.write(0, block(region)), "write"));
    }
    assert!(player.rig.pool.usage().over_budget);
    must(player.close(0), "close");
    must(player.close(0), "close");
    let usage = player.rig.pool.usage();
    assert!(!usage.over_budget && usage.regions_marked == 0, "{usage:?}");
}
