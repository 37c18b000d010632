//! Interleavings that the simulator found, as plays of whole parts. Seeds are those of the day on which they were found.

mod part_cast;

use dyad_cluster::ImageState;
use dyad_mirror::Command;
use dyad_units::Period;
use part_cast::{World, image_id};

const MS: fn(u64) -> Period = Period::from_millis;

/// M7 (seeds 12, 37, 86, 273): a watch told the owner that its take-out was stored before the store's answer came. It wanted
/// the next change, which was dropped because an answer was still out; that answer was then taken for the outcome of the
/// change that had never been asked for, and the owner went on in an epoch that the store did not know.
#[test]
fn the_answer_to_one_proposal_is_not_the_outcome_of_the_next() {
    let mut world = World::serving(3, 0);
    let owner = world.owner();
    let others: Vec<usize> = (0..3).filter(|&at| at != owner).collect();
    world.put(owner, 1, 1);
    world.holds_outcomes = true;
    world.crash(others[0]);
    let first = world.write(owner, 1, 2);
    world.pass(MS(2000));
    assert_eq!(world.state_of(others[0]).0, ImageState::Stale, "it is stored, the answer is out");
    world.watch(owner);
    world.pass(MS(10));
    assert!(world.is_done(first), "a watch is as good as the answer");
    world.crash(others[1]);
    let second = world.write(owner, 2, 3);
    world.pass(MS(2000));
    world.holds_outcomes = false;
    world.let_go(); // the answer to the first proposal
    let status = world.status(owner).mirror.expect("it is owner");
    assert_eq!(status.epoch, world.store.epoch, "M7: an epoch that the store does not know");
    assert!(!world.is_done(second), "A3: the record names the other image in sync still");
    world.pass(MS(2000));
    assert!(world.is_done(second));
    assert_eq!(world.store.in_sync().count(), 1);
    let status = world.status(owner).mirror.expect("it is owner");
    assert_eq!(status.epoch, world.store.epoch);
}

/// M15 (seed 933): the image that caught up lost its power and was back before its connection counted as gone. The run went
/// on where it was, although what it had copied before was lost: the image joined with blocks of long ago.
#[test]
fn a_run_does_not_go_on_with_an_image_that_lost_its_power() {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    let other = 1 - owner;
    (0..20).for_each(|extent| world.put(owner, extent * 64, 1));
    world.pass(Period::from_secs(60));
    world.crash(other);
    (0..20).for_each(|extent| world.put(owner, extent * 64, 2));
    world.start(other);
    let copied = |world: &World| world.status(owner).mirror.map_or(0, |mirror| mirror.counters.copied);
    let before = copied(&world);
    for _ in 0..100_000 {
        if copied(&world) >= before + 3 {
            break;
        }
        world.pass(Period::from_nanos(50_000));
    }
    assert_eq!(world.state_of(other).0, ImageState::Syncing, "amid the run");
    world.lose_power(other);
    world.pass(MS(20));
    world.start(other);
    world.pass(Period::from_secs(20));
    assert_eq!(world.state_of(other).0, ImageState::InSync, "{}", world.status(owner).sentence);
    world.assert_equal_images();
}

/// M13 (seeds 166, 10069): reattaching makes an image stale whose stream was open already, and nothing ever looked at it
/// again: it never came back.
#[test]
fn an_image_that_is_reattached_catches_up() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    for command in [Command::TakeOut { image: image_id(other) }, Command::Detach { image: image_id(other) }] {
        let id = world.command(owner, command);
        world.pass(MS(100));
        assert_eq!(world.nodes[owner].done.get(&id), Some(&Ok(())));
    }
    world.put(owner, 1, 1);
    world.command(owner, Command::Reattach { image: image_id(other) });
    world.pass(Period::from_secs(5));
    assert_eq!(world.state_of(other).0, ImageState::InSync, "{}", world.status(owner).sentence);
    // The same for one that an administrator took out and did not detach.
    world.command(owner, Command::TakeOut { image: image_id(other) });
    world.put(owner, 1, 2);
    world.pass(Period::from_secs(5));
    assert_eq!(world.state_of(other).0, ImageState::Stale, "it stays out until somebody asks");
    world.command(owner, Command::Reattach { image: image_id(other) });
    world.pass(Period::from_secs(5));
    assert_eq!(world.state_of(other).0, ImageState::InSync, "{}", world.status(owner).sentence);
    world.assert_equal_images();
}
