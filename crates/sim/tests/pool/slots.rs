//! A slot's earlier lives never show (A5, P3, P7).

use crate::common::must;
use dyad_contract::image::Reply;
use dyad_sim::disk::Survival;
use dyad_sim::habits::Habits;
use dyad_sim::model::Crash;
use dyad_sim::player::{Player, Scene};
use dyad_sim::rng::Rng;
use dyad_units::{Extent, Piece};

fn tight() -> Scene {
    Scene { disk_bytes: 8 << 20, extents: (0..64).map(Extent).collect(), ..Scene::small() }
}

/// Every slot holds recognizable bytes of image 0; then the slots go to image 1, one block each.
#[test]
fn a_reused_slot_shows_zeros_where_nothing_was_written() {
    let mut player = must(Player::new(tight(), 41), "set up");
    let mut extents = Vec::new();
    while must(player.write(0, Piece::whole(Extent(extents.len() as u32))), "fill") {
        extents.push(Extent(extents.len() as u32));
    }
    must(player.flush(0), "flush");
    for &extent in &extents {
        must(player.unmap(0, Piece::whole(extent)), "unmap");
    }
    must(player.flush(0), "flush");
    for (nth, &extent) in extents.iter().enumerate() {
        let piece = Piece::new(extent, (nth % 60) as u8, 2).unwrap();
        assert!(must(player.write(1, piece), "write"), "a slot was given back");
    }
    let mut rng = Rng::new(1);
    for crash in [None, Some(Crash::Process), Some(Crash::Power)] {
        if let Some(crash) = crash {
            let survivor = player.crash(crash, Survival::EachUnit, &mut rng);
            player = must(survivor.recover(&mut rng), "recover");
        }
        for &extent in &extents {
            // The model compares each block: what image 1 wrote, zeros elsewhere.
            must(player.read(1, Piece::whole(extent)), "read");
        }
    }
}

/// P3: before the commit that gives a slot up is durable, nobody else writes there.
#[test]
fn an_unmap_that_was_not_flushed_may_be_undone_by_a_power_cut() {
    let mut player = must(Player::new(tight(), 42), "set up");
    let mut count = 0;
    while must(player.write(0, Piece::whole(Extent(count))), "fill") {
        count += 1;
    }
    must(player.flush(0), "flush");
    for extent in 0..count {
        must(player.unmap(0, Piece::whole(Extent(extent))), "unmap");
        // Asks for slots at once: what it gets must not be what a power cut may still need.
        let _found = must(player.write(1, Piece::whole(Extent(extent))), "write");
        for survival in Survival::ALL {
            let mut rng = Rng::new(u64::from(extent));
            let survivor = player.crash(Crash::Power, survival, &mut rng);
            if extent % 4 == 0 {
                must(survivor.recover(&mut rng), "recover");
            }
        }
    }
}

#[test]
fn churning_slots_survive_power_cuts_at_every_point() {
    let scene = Scene { habits: Habits::churning(), extents: (0..24).map(Extent).collect(), ..tight() };
    let player = must(Player::new(scene, 43), "set up");
    crate::common::at_every_point(player, 1200, Crash::Power, |_, survivor, rng| survivor.recover(rng).map(|_| ()));
}

#[test]
fn churning_slots_survive_crashes_of_the_process_at_every_point() {
    let scene = Scene { habits: Habits::churning(), extents: (0..24).map(Extent).collect(), ..tight() };
    let player = must(Player::new(scene, 44), "set up");
    crate::common::at_every_point(player, 1200, Crash::Process, |_, survivor, rng| survivor.recover(rng).map(|_| ()));
}

/// P4's place: an image that is made after another was deleted has nothing of it, in any crash.
#[test]
fn a_new_image_has_nothing_of_a_deleted_one() {
    for (seed, crash) in [(45, Crash::Process), (46, Crash::Power), (47, Crash::Process), (48, Crash::Power)] {
        let mut player = must(Player::new(tight(), seed), "set up");
        for extent in 0..6 {
            must(player.write(1, Piece::whole(Extent(extent))), "write");
        }
        if seed > 46 {
            must(player.flush(1), "flush");
            must(player.close(1), "close");
        }
        let (handle, _) = player.actors.remove(1);
        player.rig.delete(handle, 1).unwrap();
        player.adopt_image(7).unwrap();
        let zeros = |player: &mut Player| {
            for extent in 0..6 {
                let reply = must(player.look(1, Piece::whole(Extent(extent))), "read");
                assert!(matches!(reply, Reply::Data(data) if data.is_zero()));
            }
        };
        zeros(&mut player);
        must(player.write(1, Piece::new(Extent(2), 9, 1).unwrap()), "write");
        let mut rng = Rng::new(seed);
        let survivor = player.crash(crash, Survival::Everything, &mut rng);
        must(survivor.recover(&mut rng), "recover");
    }
}
