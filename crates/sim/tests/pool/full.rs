//! A full pool (P15): writes are refused in time, everything else goes on, deleting helps, nothing hangs.

use crate::common::must;
use dyad_contract::image::{ImageError, Reply, Request, Space, Token, Write, Written};
use dyad_payload::{Payload, Sums};
use dyad_pool::{AdminError, AdminToken};
use dyad_sim::disk::{Fault, Kind, Survival};
use dyad_sim::habits::Habits;
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Scene};
use dyad_sim::rng::Rng;
use dyad_units::{Bytes, Epoch, Extent, Interval, Piece, Stamp, WriteNumber};

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

/// What broke: slots are free only when the commit that gave them up is durable, and whoever came before was told that the
/// pool is full, so that a host that unmaps and then writes got a hard error for space that there was (P3, P15).
#[test]
fn space_that_was_given_up_a_moment_before_is_had_at_the_first_try() {
    let mut player = must(Player::new(tight(), 32), "set up");
    let filled = fill(&mut player, 0);
    for extent in 0..filled {
        must(player.unmap(0, Piece::whole(Extent(extent))), "unmap");
    }
    let before = player.rig.pool.counters();
    assert_eq!(player.rig.pool.usage().slots_free, 0, "nothing is committed so far");
    let piece = Piece::whole(Extent(9));
    assert!(matches!(must(player.request(1, Request::Reserve { piece }), "reserve"), Reply::Done));
    assert_eq!(player.rig.pool.counters().commits, before.commits + 1, "one commit frees them all");
    assert_eq!(player.rig.pool.usage().slots_free, u64::from(filled));
}

/// As many reservations as there are slots on their way wait for one commit together; one more finds the pool full.
#[test]
fn whoever_waits_for_slots_shares_the_commit_that_frees_them() {
    let mut player = must(Player::new(tight(), 36), "set up");
    let filled = fill(&mut player, 0);
    for extent in 0..3 {
        must(player.unmap(0, Piece::whole(Extent(extent))), "unmap");
    }
    let before = player.rig.pool.counters();
    let handle = player.actors[1].0;
    for extent in 0..4 {
        let piece = Piece::whole(Extent(filled + extent));
        player.rig.submit(handle, Token(u64::from(extent)), Request::Reserve { piece });
    }
    assert!(player.rig.replies().is_empty(), "all wait");
    player.rig.come_to_rest();
    let replies = player.rig.replies();
    let answers: Vec<_> = replies.iter().map(|(_, token, reply)| (token.0, matches!(reply, Reply::Done))).collect();
    assert_eq!(answers, [(0, true), (1, true), (2, true), (3, false)], "in the order in which they came");
    assert!(matches!(replies[3].2, Reply::Failed(ImageError::Full)));
    assert_eq!(player.rig.pool.counters().syncs, before.syncs + 1, "one flush for all");
}

/// P15: a write whose credit a new epoch made void waits for a slot as a reservation does.
#[test]
fn a_write_without_a_promise_waits_for_slots_on_their_way() {
    let mut player = must(Player::new(tight(), 37), "set up");
    let filled = fill(&mut player, 0);
    let write = |player: &Player| {
        let data = Payload::from(player.rig.slab.copy_of(&[7; 4096]).unwrap());
        let sums = Sums::of(&data, &player.rig.slab).unwrap();
        let (stamp, piece) = (Stamp::new(Epoch::new(1), Interval::new(1)), Piece::new(Extent(filled), 2, 1).unwrap());
        let (number, settled) = (WriteNumber::new(1), WriteNumber::new(0));
        Request::Write(Write { piece, stamp, number, settled, data, sums, space: Space::Credit })
    };
    let request = write(&player);
    let reply = must(player.request(1, request), "write");
    assert!(matches!(reply, Reply::Failed(ImageError::Full)), "{reply:?}");
    must(player.unmap(0, Piece::whole(Extent(1))), "unmap");
    let request = write(&player);
    let reply = must(player.request(1, request), "write");
    assert!(matches!(reply, Reply::Written(Written { used_slot: true })), "{reply:?}");
}

/// A pool that is really full says so at once: no commit is forced that frees nothing.
#[test]
fn a_full_pool_refuses_without_touching_its_disk() {
    let mut player = must(Player::new(tight(), 38), "set up");
    let filled = fill(&mut player, 0);
    player.rig.come_to_rest();
    let before = player.rig.disk.counts();
    for extent in filled..64 {
        assert!(!must(player.write(0, Piece::whole(Extent(extent))), "write"));
    }
    assert_eq!(player.rig.disk.counts().changes(), before.changes());
}

/// The slots of an image that is being deleted are waited for too.
#[test]
fn a_reservation_waits_for_an_image_that_is_being_deleted() {
    let mut player = must(Player::new(tight(), 39), "set up");
    let filled = fill(&mut player, 0);
    let (deleted, kept) = (player.actors[0].0, player.actors[1].0);
    let piece = Piece::whole(Extent(filled));
    let id = dyad_sim::rig::image_id(0);
    player.rig.pool.delete_image(AdminToken(1), deleted, id);
    player.rig.submit(kept, Token(1), Request::Reserve { piece });
    assert!(player.rig.replies().is_empty());
    player.rig.come_to_rest();
    assert!(matches!(player.rig.replies()[..], [(_, Token(1), Reply::Done)]));
}

/// P11, P15: nobody waits for ever for a commit that the disk can no longer take.
#[test]
fn whoever_waits_for_slots_is_told_when_the_disk_fails() {
    let mut player = must(Player::new(tight(), 40), "set up");
    let filled = fill(&mut player, 0);
    must(player.unmap(0, Piece::whole(Extent(1))), "unmap");
    player.rig.disk.order(Fault { kind: Kind::Sync, after: 0, times: 1 });
    let piece = Piece::whole(Extent(filled));
    let reply = must(player.request(1, Request::Reserve { piece }), "reserve");
    assert!(matches!(reply, Reply::Failed(ImageError::Poisoned)), "{reply:?}");
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

/// What broke: an extent whose last block was unmapped while a write was promised its slot kept that slot empty after the
/// promise was given back, until somebody wrote or unmapped there again (P3, P15).
#[test]
fn a_slot_that_was_kept_for_a_write_that_never_came_is_given_up() {
    for unmaps_again in [false, true] {
        let mut player = must(Player::new(tight(), 37), "set up");
        let (piece, other) = (Piece::new(Extent(3), 5, 1).unwrap(), Piece::new(Extent(3), 9, 1).unwrap());
        let free = player.rig.pool.usage().slots_free;
        assert!(must(player.write(0, piece), "write"));
        must(player.flush(0), "flush");
        for promised in [piece, other] {
            assert!(matches!(must(player.request(0, Request::Reserve { piece: promised }), "reserve"), Reply::Done));
        }
        must(player.unmap(0, piece), "unmap");
        assert!(matches!(must(player.request(0, Request::Release { piece }), "release"), Reply::Done));
        must(player.flush(0), "flush");
        assert_eq!(player.rig.pool.usage().slots_free, free - 1, "another write may still come");
        assert!(matches!(must(player.request(0, Request::Release { piece: other }), "release"), Reply::Done));
        if unmaps_again {
            must(player.unmap(0, piece), "unmap");
        }
        must(player.flush(0), "flush");
        assert_eq!(player.rig.pool.usage().slots_free, free);
        let survivor = player.crash(Crash::Process, Survival::Nothing, &mut Rng::new(1));
        let mut player = must(survivor.recover(&mut Rng::new(2)), "recover");
        assert_eq!(player.rig.pool.usage().slots_free, free);
        must(player.read(0, piece), "read");
    }
}

/// A release is not in L: a crash of the process before the slot's return is committed finds it by the unmap.
#[test]
fn a_slot_given_up_by_a_release_is_free_after_a_crash_of_the_process() {
    let mut player = must(Player::new(tight(), 38), "set up");
    let piece = Piece::new(Extent(3), 5, 1).unwrap();
    let free = player.rig.pool.usage().slots_free;
    assert!(must(player.write(0, piece), "write"));
    assert!(matches!(must(player.request(0, Request::Reserve { piece }), "reserve"), Reply::Done));
    must(player.unmap(0, piece), "unmap");
    assert!(matches!(must(player.request(0, Request::Release { piece }), "release"), Reply::Done));
    let survivor = player.crash(Crash::Process, Survival::Everything, &mut Rng::new(1));
    let player = must(survivor.recover(&mut Rng::new(2)), "recover");
    assert_eq!(player.rig.pool.usage().slots_free, free);
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
