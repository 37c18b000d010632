//! What a forced promotion loses, said before it and after it (M10).

mod part_cast;

use dyad_cluster::ImageState;
use dyad_contract::volume::VolumeOp;
use dyad_mirror::{Command, CommandError, LossForecast, LossList, LossReport};
use dyad_units::{Bytes, Period, Span};
use part_cast::{B, EXTENT, World, image_id, node_id, span};

const MS: fn(u64) -> Period = Period::from_millis;

fn ranges(of: &[(u64, u64)]) -> Vec<Span> {
    of.iter().map(|&(offset, len)| Span::new(offset, len).unwrap()).collect()
}

fn forecast(world: &mut World, at: usize) -> LossForecast {
    let id = world.command(at, Command::ForecastLoss { image: image_id(at) });
    world.pass(MS(500));
    match world.nodes[at].losses.remove(&id) {
        Some(LossReport::Forecast(forecast)) => *forecast,
        other => panic!("{other:?} {:?}", world.nodes[at].done.get(&id)),
    }
}

fn list(world: &mut World, at: usize) -> LossList {
    let id = world.command(at, Command::ListLoss { image: image_id(at) });
    world.pass(MS(2000));
    match world.nodes[at].losses.remove(&id) {
        Some(LossReport::List(list)) => *list,
        other => panic!("{other:?} {:?}", world.nodes[at].done.get(&id)),
    }
}

/// Both images have blocks 0 to 9; then one is out and the owner writes on. It ends, the other is promoted by force.
fn forked(writes: impl FnOnce(&mut World, usize)) -> (World, usize, usize) {
    let mut world = World::serving(2, 1);
    let owner = world.owner();
    let other = 1 - owner;
    (0..10).for_each(|block| world.put(owner, block, 1));
    world.pass(Period::from_secs(60)); // closed
    world.crash(other);
    writes(&mut world, owner);
    world.crash(owner);
    world.start(other);
    world.pass(MS(3000));
    let id = world.command(other, Command::Promote { image: image_id(other) });
    world.pass(MS(2000));
    assert_eq!(world.nodes[other].done.get(&id), Some(&Ok(())));
    assert_eq!(world.owner(), other);
    (world, owner, other)
}

/// M10, before: while the image that may have more cannot be asked, everything may be missing but what the stamp covers.
#[test]
fn nobody_knows_what_a_silent_image_has() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    world.put(owner, 1, 1);
    world.pass(Period::from_secs(60));
    let closed = world.nodes[other].image.as_ref().unwrap().closed;
    world.crash(other);
    world.put(owner, 1, 2);
    world.crash(owner);
    world.start(other);
    world.pass(MS(3000));
    let told = forecast(&mut world, other);
    assert_eq!((told.complete, told.is_half_copied), (closed, false));
    assert_eq!(told.others.len(), 1);
    assert_eq!((told.others[0].node, told.others[0].state), (node_id(owner), ImageState::InSync));
    assert_eq!(told.others[0].newer, None, "it cannot be asked");
    assert_eq!(told.bytes_max, Bytes::mib(16), "all of the segment");
}

/// M10, before: an image that can be asked says which extents it wrote since: no more than those are missing.
#[test]
fn an_image_that_can_be_asked_bounds_the_loss() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let other = 1 - owner;
    world.put(owner, 1, 1);
    world.put(owner, 64 * 3, 1);
    world.pass(Period::from_secs(60));
    world.command(owner, Command::TakeOut { image: image_id(other) });
    world.pass(MS(100));
    for extent in [0, 5, 6, 9, 20] {
        world.put(owner, extent * 64 + 2, 2); // more than one page of the list
    }
    let told = forecast(&mut world, other);
    let newer = told.others[0].newer.clone().expect("it was asked");
    let expected = [(0, EXTENT), (5 * EXTENT, 2 * EXTENT), (9 * EXTENT, EXTENT), (20 * EXTENT, EXTENT)];
    assert_eq!(newer.ranges, ranges(&expected));
    assert_eq!((told.bytes_max, newer.is_cut), (Bytes::new(5 * EXTENT), false));
    assert_eq!(world.state_of(other).0, ImageState::Stale, "nothing changed");
}

/// M10, M11: an image that the record names in sync lacks at most what its marked regions forgot.
#[test]
fn an_image_in_sync_that_forgot_lacks_at_most_its_marked_regions() {
    let mut world = World::serving(2, 0);
    world.put(0, 1, 1);
    world.lose_power(0);
    world.crash(1);
    world.start(0);
    world.pass(MS(2000));
    let told = forecast(&mut world, 0);
    assert_eq!(told.forgotten.ranges, ranges(&[(0, 4 << 20)]));
    assert_eq!((told.bytes_max, told.others.len()), (Bytes::mib(4), 0));
}

/// The owner has nothing to be promoted; a node is asked for its own image only.
#[test]
fn a_forecast_is_for_images_that_could_be_promoted() {
    let mut world = World::serving(2, 0);
    let owner = world.owner();
    let because = "is on the node that serves the volume: nothing has to be forced";
    for (image, error) in [
        (image_id(owner), CommandError::WrongState { image: image_id(owner), because }),
        (image_id(1 - owner), CommandError::NotHere(image_id(1 - owner))),
    ] {
        world.nodes[owner].done.clear();
        let command = if image == image_id(owner) {
            Command::ForecastLoss { image }
        } else {
            world.command(owner, Command::TakeOut { image });
            world.pass(MS(100));
            Command::ListLoss { image }
        };
        let id = world.command(owner, command);
        world.pass(MS(100));
        assert_eq!(world.nodes[owner].done.get(&id), Some(&Err(error)));
    }
}

/// M10, after: exactly the blocks that only the image left behind has, and none that are equal.
#[test]
fn the_image_left_behind_lists_exactly_what_only_it_has() {
    let (mut world, owner, other) = forked(|world, owner| {
        for block in [3, 4, 5, 64 * 7, 64 * 7 + 63, 64 * 8, 64 * 30 + 1] {
            world.put(owner, block, 2);
        }
        world.put(owner, 6, 1); // written again with what it had: no loss
        world.put(owner, 8, 2); // the new owner will write the same
        let unmap = world.ask(owner, VolumeOp::Unmap { spans: [span(9)].into_iter().collect(), durable: false });
        world.pass(MS(500));
        assert!(world.is_done(unmap));
    });
    world.put(other, 8, 2);
    world.put(other, 64 * 30 + 1, 3); // overwritten since: the image left behind has the older content alone
    world.put(other, 64 * 40, 3); // never there
    world.start(owner);
    world.pass(MS(2000));
    assert_eq!(world.state_of(owner).0, ImageState::Detached);
    let found = list(&mut world, owner);
    let expected = [(3 * B, 3 * B), (9 * B, B), (7 * EXTENT, B), (7 * EXTENT + 63 * B, 2 * B), (30 * EXTENT + B, B)];
    assert_eq!(found.only_here.ranges, ranges(&expected));
    assert_eq!((found.only_here.bytes, found.only_here.is_cut), (Bytes::new(8 * B), false));
    assert_eq!(found.unreadable.bytes, Bytes::ZERO);
    assert_eq!(found.image, image_id(owner));
    assert_eq!(world.get(other, 3), 1, "nothing changed");
}

/// M10, P7: what the image left behind has damaged is not said to be there.
#[test]
fn what_is_damaged_on_the_image_left_behind_is_said() {
    let (mut world, owner, _) = forked(|world, owner| (3..6).for_each(|block| world.put(owner, block, 2)));
    world.nodes[owner].image.as_mut().unwrap().rot(4);
    world.start(owner);
    world.pass(MS(2000));
    let found = list(&mut world, owner);
    assert_eq!(found.only_here.ranges, ranges(&[(3 * B, B), (5 * B, B)]));
    assert_eq!(found.unreadable.ranges, ranges(&[(4 * B, B)]));
}

/// M10: while the volume is not served nothing is guessed: the list comes once it is.
#[test]
fn a_list_waits_for_the_volume() {
    let (mut world, owner, other) = forked(|world, owner| world.put(owner, 3, 2));
    world.crash(other);
    world.start(owner);
    world.pass(MS(1000));
    let id = world.command(owner, Command::ListLoss { image: image_id(owner) });
    world.pass(MS(6000));
    assert!(world.nodes[owner].losses.is_empty());
    world.start(other);
    world.pass(MS(5000));
    let Some(LossReport::List(found)) = world.nodes[owner].losses.get(&id) else { panic!("no list") };
    assert_eq!(found.only_here.ranges, ranges(&[(3 * B, B)]));
}

/// M10: bounded. Nobody serves the volume: that is said, and the next command is taken.
#[test]
fn a_list_without_a_volume_is_given_up() {
    let (mut world, owner, other) = forked(|world, owner| world.put(owner, 3, 2));
    world.crash(other);
    world.start(owner);
    world.pass(MS(1000));
    let id = world.command(owner, Command::ListLoss { image: image_id(owner) });
    let twice = world.command(owner, Command::ListLoss { image: image_id(owner) });
    assert_eq!(world.nodes[owner].done.get(&twice), Some(&Err(CommandError::Underway)));
    world.pass(MS(20_000));
    assert_eq!(world.nodes[owner].done.get(&id), Some(&Err(CommandError::TooLate)));
    world.start(other);
    world.pass(MS(3000));
    assert_eq!(list(&mut world, owner).only_here.ranges, ranges(&[(3 * B, B)]));
}

/// M10, M13: once the image is given up and catches up, it has nothing of its own any more.
#[test]
fn after_it_was_reattached_nothing_is_left_to_list() {
    let (mut world, owner, other) = forked(|world, owner| world.put(owner, 3, 2));
    world.start(owner);
    world.pass(MS(2000));
    assert_eq!(list(&mut world, owner).only_here.ranges, ranges(&[(3 * B, B)]));
    world.command(other, Command::Reattach { image: image_id(owner) });
    world.pass(MS(5000));
    assert_eq!(world.state_of(owner).0, ImageState::InSync, "{}", world.status(other).sentence);
    world.assert_equal_images();
    world.command(other, Command::TakeOut { image: image_id(owner) });
    world.pass(MS(100));
    assert_eq!(list(&mut world, owner).only_here.bytes, Bytes::ZERO);
}
