//! The first claim of a segment, and the claim of a segment that has no image elsewhere (M6, M9).

mod part_cast;

use dyad_cluster::{ImageState, OutReason};
use dyad_mirror::{Command, Note, PartNote, PartRole};
use dyad_units::{Moment, Period};
use part_cast::{World, image_id};

const MS: fn(u64) -> Period = Period::from_millis;

fn take_outs(world: &World) -> usize {
    let is_out = |note: &&PartNote| matches!(note, PartNote::Mirror(Note::TakenOut { .. }));
    world.nodes.iter().map(|node| node.notes.iter().filter(is_out).count()).sum()
}

/// When node `at` first owned the segment, looked at every millisecond.
fn owns_at(world: &mut World, at: usize, within: Period) -> Option<Moment> {
    let end = world.now + within;
    while world.now < end {
        if world.role(at) == Some(PartRole::Owner) {
            return Some(world.now);
        }
        world.pass(MS(1));
    }
    None
}

/// Broke once (two real nodes on a busy machine): the node that was told of a new volume first claimed it before the other
/// had opened its image, took that out, and the volume began its life with a resync.
#[test]
fn a_new_segment_waits_for_all_its_images_and_takes_nobody_out() {
    for late in [0, 1] {
        let mut world = World::new(2, 0);
        world.start(1 - late);
        world.pass(MS(1400));
        assert_eq!(world.store.owner, None, "nobody is in a hurry");
        world.start(late);
        world.pass(MS(1500));
        assert!(world.store.owner.is_some());
        assert_eq!((take_outs(&world), world.store.in_sync().count()), (0, 2));
        world.put(0, 1, 1);
        world.assert_equal_images();
    }
}

/// Bounded: a node that does not come does not keep the others from serving.
#[test]
fn a_new_segment_does_not_wait_for_ever() {
    let mut world = World::new(2, 0);
    let before = world.now;
    world.start(0);
    let served = owns_at(&mut world, 0, MS(4000)).expect("it serves");
    let waited = served.since(before);
    assert!((MS(1500)..MS(2500)).contains(&waited), "{waited}");
    assert_eq!(world.state_of(1), (ImageState::Stale, Some(OutReason::Absent)));
}

/// The wait is for new segments: one that was owned is claimed as soon as the promise is over.
#[test]
fn a_segment_that_was_owned_does_not_wait() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    (0..2).for_each(|at| world.crash(at));
    world.start(owner);
    let before = world.now;
    let served = owns_at(&mut world, owner, MS(3000)).expect("it serves");
    assert!(served.since(before) < MS(1200), "{}", served.since(before));
}

/// M6: a start has promised to everybody; where no image is anywhere else, there is nobody. An operation is answered at
/// once too.
#[test]
fn a_segment_of_one_node_is_served_at_once_after_a_start() {
    let mut world = World::new(1, 1);
    for _ in 0..2 {
        world.start(0);
        let before = world.now;
        let served = owns_at(&mut world, 0, MS(2000)).expect("it serves");
        assert!(served.since(before) < MS(50), "{}", served.since(before));
        let read = world.read(0, 7);
        world.pass(MS(10));
        assert!(world.is_done(read));
        world.crash(0);
    }
}

/// M6: an image elsewhere, in whatever state, may have made its node owner a moment ago: the start's promise is kept.
#[test]
fn a_detached_image_elsewhere_keeps_the_promise_of_a_start() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    world.crash(other);
    world.put(owner, 1, 1);
    world.command(owner, Command::Detach { image: image_id(other) });
    world.pass(MS(500));
    assert_eq!(world.state_of(other).0, ImageState::Detached);
    world.crash(owner);
    world.start(owner);
    let before = world.now;
    let served = owns_at(&mut world, owner, MS(2000)).expect("it serves");
    assert!(served.since(before) >= MS(600), "{}", served.since(before));
    // Once it is dropped, nobody is left to have promised to.
    world.command(owner, Command::Drop { image: image_id(other) });
    world.pass(MS(500));
    assert_eq!(world.store.images.len(), 1);
    world.crash(owner);
    world.start(owner);
    let before = world.now;
    let served = owns_at(&mut world, owner, MS(2000)).expect("it serves");
    assert!(served.since(before) < MS(50), "{}", served.since(before));
}
