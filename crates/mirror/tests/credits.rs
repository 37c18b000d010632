//! Credits of a segment that nobody writes to (P15).

mod cast;

use cast::{BLOCK, EXTENT, Stage};
use dyad_cluster::{AckPolicy, Change, ImageState, OnFew, OutReason};
use dyad_contract::image::ImageError;
use dyad_contract::volume::VolumeError;
use dyad_mirror::{Event, ImageIndex};
use dyad_units::Period;

const B: u64 = BLOCK as u64;
const PERIOD: Period = Period::from_secs(10);

/// A segment at rest that gave everything back.
fn quiet(stage: Stage) -> Stage {
    let stage = stage.at_rest();
    assert_eq!(granted(&stage), [0, 0], "nothing was written");
    stage
}

fn granted(pair: &Stage) -> [usize; 2] {
    [0, 1].map(|at: usize| pair.images[at].granted)
}

fn holds(pair: &Stage) -> [bool; 2] {
    granted(pair).map(|granted| granted > 0)
}

fn count(pair: &Stage, kind: &str) -> [usize; 2] {
    [0, 1].map(|at: usize| pair.images[at].count(kind))
}

/// P15: what a segment holds no other one of the pool can have. One that nobody wrote to for an interval gives it back: it
/// once kept all that was free in its pools for as long as its owner lived, and another one's image never came back. (Cluster
/// seed 3200047518.) Its next write is served as ever.
#[test]
fn an_idle_segment_gives_its_credits_back_and_takes_some_again() {
    let mut pair = quiet(Stage::serving(2));
    pair.put(0, B, 1);
    pair.put(EXTENT, B, 2);
    assert_eq!(holds(&pair), [true, true], "promised ahead");
    pair.pass(PERIOD);
    assert_eq!(count(&pair, "give-back"), [0, 0], "written in the interval just closed");
    pair.pass(PERIOD);
    assert_eq!((granted(&pair), count(&pair, "give-back")), ([0, 0], [1, 1]));
    pair.put(2 * EXTENT, B, 3);
    assert_eq!(holds(&pair), [true, true]);
    pair.assert_equal_images();
}

/// What was granted while a return is not answered would be void with the rest.
#[test]
fn nothing_is_asked_for_until_the_credits_are_taken_back() {
    let mut pair = quiet(Stage::serving(2));
    pair.put(0, B, 1);
    pair.pass(PERIOD);
    pair.images[1].failures.push(("give-back", ImageError::Overloaded));
    pair.pass(PERIOD);
    assert_eq!(holds(&pair), [false, true], "it is asked again later");
    assert_eq!(count(&pair, "grant"), [1, 1]);
    pair.put(EXTENT, B, 2);
    assert_eq!(count(&pair, "grant"), [2, 1], "it has not taken them back yet");
    pair.pass(Period::from_millis(10));
    assert_eq!(pair.images[1].granted, 0);
    pair.put(2 * EXTENT, B, 3);
    assert_eq!(count(&pair, "grant"), [2, 2]);
    pair.assert_equal_images();
}

/// A review found: the next epoch of an idle segment asked for credits, and no interval was open whose end gives them back.
#[test]
fn an_idle_segment_takes_none_in_a_new_epoch() {
    let mut pair = quiet(Stage::serving(2));
    let out = Change::TakeOut { image: cast::image_id(1), reason: OutReason::Absent };
    pair.event(Event::Change { id: 7, change: out });
    pair.drive();
    assert_eq!(pair.store.in_sync().count(), 1);
    pair.pass(PERIOD);
    pair.pass(PERIOD);
    pair.pass(PERIOD);
    assert_eq!(granted(&pair)[0], 0, "{:?}", pair.images[0].heard);
    assert_eq!(pair.mirror.next_deadline(), None);
}

/// A review found: a write that one pool refused left the others with what it had made the owner ask for.
#[test]
fn a_write_that_is_refused_leaves_no_credits_behind() {
    let mut pair = quiet(Stage::with_slots(1, 1));
    let write = pair.write(0, 2 * EXTENT, 1);
    pair.drive();
    assert_eq!(pair.error(write), Some(VolumeError::NoSpace));
    assert!(granted(&pair)[0] > 0, "asked for meanwhile");
    pair.pass(PERIOD);
    assert_eq!(granted(&pair), [0, 0]);
    pair.pass(PERIOD);
    assert_eq!(pair.mirror.next_deadline(), None);
}

/// A review found: writes that wait for images, for as long as that takes, kept the credits of their segment, which may be what
/// another one's images need to come back.
#[test]
fn writes_that_wait_for_images_keep_no_credits() {
    let mut pair = quiet(Stage::serving(2));
    pair.put(0, B, 1);
    pair.gone(1);
    pair.event(Event::Policy(AckPolicy { min_in_sync: 2, on_few: OnFew::Wait }));
    let waits = pair.write(EXTENT, B, 2);
    pair.pass(PERIOD);
    pair.pass(PERIOD);
    pair.pass(PERIOD);
    assert!(pair.answer(waits).is_none());
    assert_eq!(granted(&pair)[0], 0);
}

/// A review found: what was given back over a connection that broke was given back to nobody.
#[test]
fn a_return_that_a_broken_connection_swallowed_is_sent_again() {
    for swallows_request in [true, false] {
        let mut pair = quiet(Stage::serving(2));
        pair.put(0, B, 1);
        pair.pass(PERIOD);
        let lost = ImageIndex(1);
        if swallows_request {
            pair.images[1].failures.push(("give-back", ImageError::Overloaded));
        }
        pair.pass(PERIOD);
        pair.event(Event::Lost { image: lost });
        pair.pass(Period::from_millis(10));
        assert_eq!(holds(&pair), [false, swallows_request]);
        pair.event(Event::Back { image: lost });
        pair.drive();
        assert_eq!(granted(&pair), [0, 0]);
        pair.put(EXTENT, B, 2);
        assert_eq!(holds(&pair), [true, true]);
        pair.assert_equal_images();
    }
}

/// Images that are slow for a second are out.
fn impatient() -> Stage {
    let mut pair = Stage::prepared(2);
    pair.setup.tuning.slow = Period::from_secs(1);
    pair.restart();
    pair.drive();
    pair
}

/// M8: the first write after a rest reserves. Of an image that stands still it would be waited for twenty seconds long, as of one
/// that waits for slots on their way to be free; but that one answers what else it is asked.
#[test]
fn an_image_that_stands_still_when_the_segment_wakes_is_out_in_a_second() {
    let mut pair = quiet(impatient());
    let write = pair.write(0, B, 1);
    pair.pass_without(Period::from_millis(1300), 1);
    assert!(pair.is_done(write));
    assert_eq!(pair.state_of(1), (ImageState::Stale, Some(OutReason::Slow)));

    for stands_still in [false, true] {
        let mut pair = quiet(impatient());
        let write = pair.write(0, B, 1);
        for _ in 0..8 {
            pair.drive_but("reserve");
            pair.pass_without(Period::from_millis(250), 1);
        }
        assert!(pair.answer(write).is_none(), "it waits for slots, and answers what else it is asked");
        if stands_still {
            pair.pass_without(Period::from_millis(1600), 1);
        } else {
            pair.drive();
        }
        assert!(pair.is_done(write));
        assert_eq!(pair.store.in_sync().count(), if stands_still { 1 } else { 2 });
    }
}
