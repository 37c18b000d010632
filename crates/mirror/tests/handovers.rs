//! Ends of an ownership on purpose (M12), or because the own image failed (M8); images that are too slow (M8).

mod cast;

use cast::{BLOCK, EXTENT, NODE, Stage, StoreMood};
use dyad_cluster::{ImageState, OutReason};
use dyad_contract::volume::VolumeError;
use dyad_mirror::{Mirror, MirrorState, Note};
use dyad_units::{NodeId, Period};

const B: u64 = BLOCK as u64;
const THERE: NodeId = NodeId::from_bytes([99; 16]);

/// Image 1 is on another node.
fn apart() -> Stage {
    let mut pair = Stage::prepared(2);
    pair.store.images[1].node = THERE;
    pair.setup.tuning.slow = Period::from_secs(1);
    pair.mirror = Mirror::new(pair.store.clone(), pair.setup, pair.slab.clone()).unwrap();
    pair.start();
    pair.drive();
    assert_eq!(pair.mirror.state(), MirrorState::Serving);
    pair
}

fn hand_over(pair: &mut Stage) {
    let mut out = Vec::new();
    pair.mirror.hand_over(pair.now, THERE, &mut out);
    pair.act_on(out);
}

/// M12: what is under way ends, what comes later is executed by nobody here, the set is kept.
#[test]
fn a_hand_over_drains_and_keeps_the_set() {
    let mut pair = apart();
    let write = pair.write(0, B, 1);
    hand_over(&mut pair);
    let late = pair.write(B, B, 2);
    pair.drive();
    assert!(pair.is_done(write));
    assert_eq!(pair.error(late), Some(VolumeError::Busy));
    assert_eq!((pair.store.owner, pair.store.in_sync().count()), (Some(THERE), 2));
    assert_eq!(pair.handed_over, Some((THERE, pair.store.epoch)));
    assert_eq!(pair.mirror.state(), MirrorState::SteppedDown);
    pair.assert_equal_images();
}

/// M12: bounded. What does not drain in time goes on here, and that is said.
#[test]
fn a_hand_over_that_cannot_drain_is_given_up() {
    let mut pair = apart();
    pair.setup.tuning.slow = Period::from_secs(3600);
    let _stuck = pair.write(0, B, 1);
    hand_over(&mut pair);
    let waits = pair.read(8 * B, B);
    pair.now = pair.now + Period::from_millis(999);
    pair.tick_at(pair.now);
    assert_eq!(pair.mirror.state(), MirrorState::HandingOver);
    pair.now = pair.now + Period::from_millis(1);
    pair.tick_at(pair.now);
    assert_eq!(pair.mirror.state(), MirrorState::Serving);
    assert!(pair.notes.contains(&Note::HandOverFailed));
    pair.drive();
    assert!(pair.is_done(waits));
    assert_eq!(pair.store.owner, Some(NODE));
}

/// M7: whether the record names the other is not known: nothing is answered until it is.
#[test]
fn a_hand_over_of_unknown_outcome_is_repeated() {
    let mut pair = apart();
    pair.mood = StoreMood::AcceptsSilently;
    hand_over(&mut pair);
    pair.drive();
    let read = pair.read(0, B);
    assert!(pair.answer(read).is_none());
    pair.mood = StoreMood::Accepts;
    pair.pass(Period::from_secs(2));
    assert_eq!(pair.error(read), Some(VolumeError::Busy));
    assert_eq!(pair.handed_over, Some((THERE, pair.store.epoch)));
}

/// M8: where the own image fails, the same step makes another node owner; what all others have is acknowledged.
#[test]
fn an_owner_whose_own_image_fails_gives_the_segment_to_another_node() {
    let mut pair = apart();
    pair.images[0].poisoned = true;
    let write = pair.write(0, B, 1);
    pair.drive_without(0);
    pair.drive();
    assert!(pair.is_done(write));
    assert_eq!(pair.store.owner, Some(THERE));
    assert_eq!(pair.state_of(0), (ImageState::Stale, Some(OutReason::WriteFailed)));
    assert_eq!(pair.handed_over, Some((THERE, pair.store.epoch)));
    assert_eq!(pair.images[1].value(0), 1);
}

/// M8: the own disk is stuck, and the other node, which is to become owner, cannot be reached from here. That says nothing of
/// what it will serve: what waits is to come again there. (It was answered by WRITE FAULT: cluster seed 90007480.)
#[test]
fn an_owner_about_to_leave_answers_busy_for_an_image_that_it_cannot_reach() {
    let mut pair = apart();
    let done = pair.write(0, B, 1);
    pair.mood = StoreMood::Away;
    pair.pass_without(Period::from_secs(2), 0);
    let large = pair.write(EXTENT, 20 * EXTENT, 2); // more than there are credits: slots are reserved first (P15)
    let waiting = [large, pair.write(B, B, 3), pair.flush()];
    pair.gone(1);
    let later = pair.write(8 * B, B, 4);
    let waiting = waiting.into_iter().chain([later]);
    assert!(waiting.clone().chain([done]).all(|id| pair.answer(id).is_none()), "M7: until it is known who is owner");

    pair.mood = StoreMood::Accepts;
    pair.pass_without(Period::from_secs(2), 0);
    assert_eq!(pair.state_of(0), (ImageState::Stale, Some(OutReason::Slow)));
    assert_eq!(pair.handed_over, Some((THERE, pair.store.epoch)));
    assert!(pair.is_done(done), "whoever is in the set has it");
    for id in waiting {
        assert_eq!(pair.error(id), Some(VolumeError::Busy), "{id:?}");
    }
}

/// M8: one image that has not done a write long after the other leaves the set.
#[test]
fn a_slow_image_is_taken_out_and_the_write_is_answered() {
    let mut pair = apart();
    let write = pair.write(0, B, 1);
    pair.pass_without(Period::from_millis(900), 1);
    assert!(pair.answer(write).is_none());
    pair.pass_without(Period::from_millis(600), 1);
    assert!(pair.is_done(write));
    assert_eq!(pair.state_of(1), (ImageState::Stale, Some(OutReason::Slow)));
}
