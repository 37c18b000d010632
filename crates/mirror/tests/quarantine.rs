//! An image that is too slow: out, caught up, in, with hysteresis (M8).

mod part_cast;

use dyad_cluster::{ImageState, OutReason};
use dyad_units::{Moment, Period};
use part_cast::World;

const MS: fn(u64) -> Period = Period::from_millis;
const SECS: fn(u64) -> Period = Period::from_secs;

/// How exactly the end is looked for, in milliseconds.
const STEP: u64 = 10;

/// The other image's pool stands still until a write takes it out. When that was. Broke once, in the second round: after each
/// change of the record the credits of all images were void, and the first write that came found none; it waited for the image
/// that stood still to reserve a slot, twenty seconds long.
fn too_slow(world: &mut World, owner: usize, byte: u8) -> Moment {
    let other = 1 - owner;
    world.nodes[other].is_stuck = true;
    let began = world.now;
    let write = world.write(owner, 5, byte);
    while !world.is_done(write) {
        world.pass(MS(STEP));
        assert!(world.now.since(began) < MS(1600), "M8: a pause of about a second: {:?}", world.result(write));
    }
    assert_eq!(world.state_of(other), (ImageState::Stale, Some(OutReason::Slow)));
    let out = world.now;
    world.unstick(other);
    out
}

/// Until the image is in sync again: how long it stayed stale, and how many extents were copied.
fn comes_back(world: &mut World, owner: usize, out: Moment) -> (Period, u64) {
    let copied = |world: &World| world.status(owner).mirror.map_or(0, |mirror| mirror.counters.copied);
    let before = copied(world);
    let mut stale = None;
    while world.state_of(1 - owner).0 != ImageState::InSync {
        if world.state_of(1 - owner).0 == ImageState::Syncing {
            stale.get_or_insert(world.now.since(out));
        }
        world.pass(MS(1));
        assert!(world.now.since(out) < SECS(400), "{}", world.status(owner).sentence);
    }
    (stale.expect("it caught up"), copied(world) - before)
}

/// M8: each time it stays out twice as long, at most five minutes; what it missed is copied, nothing else; after a quiet
/// hour in sync the pause is short again.
#[test]
fn a_slow_image_does_not_flap_and_is_never_rebuilt_in_full() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    (0..20).for_each(|extent| world.put(owner, extent * 64, 1));
    world.pass(SECS(60));
    for (round, pause) in [5, 10, 20, 40, 80, 160, 300, 300].into_iter().enumerate() {
        let out = too_slow(&mut world, owner, round as u8 + 2);
        let (stale, copied) = comes_back(&mut world, owner, out);
        assert!((MS(pause * 1000 - STEP)..MS(pause * 1000 + 600)).contains(&stale), "round {round}: {stale}");
        assert_eq!(copied, 1, "only what was written meanwhile");
        world.assert_equal_images();
        world.pass(SECS(20));
        assert_eq!(world.state_of(1 - owner).0, ImageState::InSync, "it stays");
    }
    for _ in 0..8 {
        world.pass(SECS(450));
    }
    let out = too_slow(&mut world, owner, 99);
    let (stale, _) = comes_back(&mut world, owner, out);
    assert!((MS(5000 - STEP)..MS(5600)).contains(&stale), "after a quiet hour: {stale}");
}

/// M8: an image that was only away waits for nothing.
#[test]
fn an_image_that_was_only_away_comes_back_at_once() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    for byte in 1..4 {
        world.crash(1 - owner);
        world.put(owner, 5, byte);
        let back = world.now;
        world.start(1 - owner);
        let (stale, copied) = comes_back(&mut world, owner, back);
        assert!(stale < MS(1100), "{stale}");
        assert_eq!(copied, 1);
    }
}
