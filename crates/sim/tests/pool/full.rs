//! A full pool (P15): writes are refused in time, everything else goes on, deleting helps, nothing hangs.

use crate::common::must;
use dyad_contract::image::{Reply, Request};
use dyad_pool::AdminError;
use dyad_sim::disk::Survival;
use dyad_sim::habits::Habits;
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Scene};
use dyad_sim::rng::Rng;
use dyad_units::{Bytes, Extent, Piece};

const SMALLEST: u64 = 8 << 20;

fn tight() -> Scene {
    Scene { disk_bytes: SMALLEST, extents: (0..64).map(Extent).collect(), ..Scene::small() }
}

/// Writes one block to each extent until the pool is full; how many found a slot.
fn fill(player: &mut Player, at: usize) -> u32 {
    for extent in 0..64 {
        let piece = Piece::new(Extent(extent), 5, 1).unwrap();
        if !must(player.write(at, piece), "write") {
            return extent;
        }
    }
    64
}

#[test]
fn a_full_pool_refuses_new_extents_and_goes_on_with_the_others() {
    let mut player = must(Player::new(tight(), 31), "set up");
    let filled = fill(&mut player, 0);
    assert!((4..64).contains(&filled), "{filled} extents were written");
    assert_eq!(player.rig.pool.usage().slots_free, 0);

    for extent in 0..filled {
        let piece = Piece::new(Extent(extent), 3, 8).unwrap();
        must(player.read(0, piece), "read");
        assert!(must(player.write(0, piece), "overwrite"), "an overwrite needs no slot");
    }
    must(player.flush(0), "flush");
    must(player.close(0), "close");
    assert!(matches!(must(player.request(1, Request::Grant { credits: 4 }), "grant"), Reply::Granted(0)));

    // Unmapping gives slots back, once that is committed.
    must(player.unmap(0, Piece::whole(Extent(0))), "unmap");
    must(player.unmap(0, Piece::whole(Extent(1))), "unmap");
    must(player.flush(0), "flush");
    for extent in [40, 41] {
        assert!(must(player.write(1, Piece::whole(Extent(extent))), "write"), "a slot was given back");
    }
    assert!(!must(player.write(1, Piece::whole(Extent(42))), "write"));
    let survivor = player.crash(Crash::Power, Survival::Nothing, &mut Rng::new(1));
    must(survivor.recover(&mut Rng::new(2)), "recover");
}

#[test]
fn low_space_forces_the_commit_that_frees_slots() {
    let mut player = must(Player::new(tight(), 32), "set up");
    let filled = fill(&mut player, 0);
    for extent in 0..filled {
        must(player.unmap(0, Piece::whole(Extent(extent))), "unmap");
    }
    // Nobody flushes, but the pool helps itself within a few tries.
    let tries = (0..10).find(|_| must(player.write(1, Piece::whole(Extent(9))), "write"));
    assert!(tries.is_some(), "no slot became free");
}

#[test]
fn deleting_an_image_of_a_full_pool_frees_everything_it_had() {
    let mut player = must(Player::new(tight(), 33), "set up");
    let before = player.rig.pool.usage();
    let filled = u64::from(fill(&mut player, 0));
    let (handle, _) = player.actors.remove(0);
    player.rig.delete(handle, 0).unwrap();
    let usage = player.rig.pool.usage();
    assert_eq!((usage.slots_free, usage.slots_promised), (usage.slots_total, 0));
    assert!(usage.slots_total >= filled && usage.pages_free > before.pages_free);
    assert!(player.rig.find(0).is_none());

    let survivor = player.crash(Crash::Power, Survival::Nothing, &mut Rng::new(1));
    let player = must(survivor.recover(&mut Rng::new(2)), "recover");
    assert!(player.rig.find(0).is_none());
    assert_eq!(player.rig.pool.usage().slots_free, usage.slots_total);
}

#[test]
fn a_pool_takes_images_until_its_pages_are_full_and_gives_them_all_back() {
    let mut player = must(Player::new(tight(), 34), "set up");
    let free = player.rig.pool.usage().pages_free;
    let mut made = Vec::new();
    let error = loop {
        let number = 10 + made.len() as u64;
        match player.rig.create(number, Bytes::gib(1)) {
            Ok(handle) => made.push((number, handle)),
            Err(error) => break error,
        }
        assert!(made.len() < 10_000, "no end of images");
    };
    assert_eq!(error, AdminError::Full);
    assert!(!made.is_empty());
    for (number, handle) in made {
        player.rig.delete(handle, number).unwrap();
    }
    assert_eq!(player.rig.pool.usage().pages_free, free);
    assert!(must(player.write(0, Piece::whole(Extent(1))), "write"));
}

/// Credits are void with a new epoch; a reservation stays until it is used or released.
#[test]
fn promises_to_an_owner_end_with_its_epoch() {
    let mut player = must(Player::new(tight(), 35), "set up");
    assert!(matches!(must(player.request(0, Request::Grant { credits: 6 }), "grant"), Reply::Granted(6)));
    let piece = Piece::whole(Extent(3));
    assert!(matches!(must(player.request(0, Request::Reserve { piece }), "reserve"), Reply::Done));
    assert_eq!(player.rig.pool.usage().slots_promised, 7);
    must(player.record(0), "a new epoch");
    assert_eq!(player.rig.pool.usage().slots_promised, 1);
    assert!(matches!(must(player.request(0, Request::Release { piece }), "release"), Reply::Done));
    assert_eq!(player.rig.pool.usage().slots_promised, 0);
}

#[test]
fn random_work_on_a_tight_pool_never_hangs_and_never_breaks_a_promise() {
    for seed in 0..12 {
        let scene = Scene { habits: Habits::churning(), ..tight() };
        let mut player = must(Player::new(scene, 300 + seed), "set up");
        for _ in 0..4 {
            must(player.run(2500, |_| Ok(())), "work");
            must(player.rest(), "rest");
        }
        let mut rng = Rng::new(seed);
        let crash = if seed % 2 == 0 { Crash::Power } else { Crash::Process };
        let survivor = player.crash(crash, Survival::EachUnit, &mut rng);
        must(survivor.recover(&mut rng), "recover");
    }
}
