//! Intervals (M4) and the orderly end.

mod cast;

use cast::{BLOCK, Stage, StoreMood, image};
use dyad_contract::image::ImageError;
use dyad_contract::volume::VolumeError;
use dyad_mirror::{Event, MirrorState};
use dyad_units::{Interval, Period, Stamp};

const B: u64 = BLOCK as u64;
const PERIOD: Period = Period::from_secs(10);

/// M4: closed is recorded only after every in-sync image did the first phase.
#[test]
fn closed_follows_close_on_all_images() {
    let mut pair = Stage::serving(2).at_rest();
    let closed = pair.images[0].closed;
    pair.put(0, B, 1);
    pair.pass_without(PERIOD, 1);
    assert_eq!(pair.images[0].count("close"), 1);
    assert_eq!(pair.images[0].count("closed"), 0);
    pair.drive();
    assert_eq!([pair.images[0].count("closed"), pair.images[1].count("closed")], [1, 1]);
    assert!(pair.images[0].closed > closed && pair.images[0].closed == pair.images[1].closed);
}

/// P5: an interval with writes is followed by one without, which clears the marks; then the segment rests.
#[test]
fn an_idle_segment_clears_its_marks_and_rests() {
    let mut pair = Stage::serving(2).at_rest();
    pair.put(0, B, 1);
    pair.pass(PERIOD);
    assert!(!pair.images[0].marks.is_empty(), "written in the interval just closed");
    pair.pass(PERIOD);
    assert!(pair.images.iter().all(|image| image.marks.is_empty()));
    pair.pass(PERIOD);
    pair.pass(PERIOD);
    assert_eq!(pair.mirror.next_deadline(), None);
    assert_eq!(pair.images[0].count("closed"), 2);
}

/// M4: all of n is acknowledged by every image before n closes; what comes meanwhile is of n + 1.
#[test]
fn an_interval_closes_only_after_its_writes_are_settled() {
    let mut pair = Stage::serving(2).at_rest();
    let open = pair.images[0].closed.interval.next();
    pair.put(0, B, 0); // brings credits, so that the next write is sent at once (P15)
    let _slow = pair.write(0, B, 1);
    pair.drive_without(1);
    pair.pass_without(PERIOD, 1);
    assert_eq!(pair.images[0].count("close"), 0);
    let _later = pair.write(8 << 20, B, 2);
    pair.drive_without(1);
    assert_eq!(pair.images[0].marks.values().map(|stamp| stamp.interval).collect::<Vec<_>>(), [open, open.next()]);
    pair.drive();
    assert_eq!(pair.images[0].count("closed"), 1);
    assert_eq!(pair.images[0].closed.interval, open);
}

/// P5: over the budget an interval closes early; no write waits for it.
#[test]
fn marks_over_their_budget_close_the_interval_early() {
    let mut pair = Stage::serving(2).at_rest();
    pair.put(0, B, 1);
    pair.event(Event::MarksOverBudget);
    pair.drive();
    assert_eq!(pair.images[0].count("closed"), 1);
    pair.event(Event::MarksOverBudget);
    pair.drive();
    assert!(pair.images[0].marks.is_empty());
}

/// closed rises only while the record of that epoch names the image: a close under way when the set changes
/// is void.
#[test]
fn a_close_under_way_when_the_set_changes_begins_anew() {
    let mut pair = Stage::serving(2).at_rest();
    pair.put(0, B, 1);
    let closed = pair.images[0].closed;
    pair.images[1].failures.push(("close", ImageError::Poisoned));
    pair.pass(PERIOD);
    assert_eq!(pair.store.in_sync().count(), 1);
    assert_eq!(pair.images[0].closed, closed);
    pair.pass(PERIOD);
    assert!(pair.images[0].closed >= Stamp::new(pair.store.epoch, Interval::new(1)));
    assert_eq!(pair.images[1].closed, closed);
}

/// The reply to a close of an earlier epoch says nothing about the one under way.
#[test]
fn a_late_reply_to_an_old_close_does_not_seal_a_newer_one() {
    let mut pair = Stage::serving(2).at_rest();
    pair.put(0, B, 1);
    pair.pass_without(PERIOD, 0);
    let closed = pair.images[0].closed;
    pair.gone(1); // the close waits for image 0 and for the record
    pair.reply_to(0, "record");
    pair.reply_to(0, "flush");
    pair.reply_to(0, "record"); // flushed alone
    pair.now = pair.now + PERIOD;
    pair.tick_at(pair.now);
    assert_eq!(pair.images[0].pending.iter().filter(|pending| image::name(&pending.request) == "close").count(), 2);
    pair.reply_to(0, "close");
    assert_eq!((pair.images[0].count("closed"), pair.images[0].closed), (0, closed));
    pair.drive_without(1);
    assert!(pair.images[0].closed > closed);
}

#[test]
fn a_stop_answers_everybody_flushes_and_leaves_no_marks() {
    let mut pair = Stage::serving(2).at_rest();
    let write = pair.write(0, B, 1);
    let queued = pair.write(0, B, 2);
    pair.stop();
    let late = pair.read(0, B);
    assert_eq!(pair.error(late), Some(VolumeError::Busy));
    assert_eq!(pair.error(queued), Some(VolumeError::Busy));
    assert!(!pair.is_stopped);
    pair.drive();
    assert!(pair.is_done(write) && pair.is_stopped);
    assert!(pair.images.iter().all(|image| image.marks.is_empty() && image.flushes > 0));
    assert_eq!(pair.mirror.status().state, MirrorState::Stopped);
    assert_eq!(pair.mirror.next_deadline(), None);
}

#[test]
fn a_stop_ends_though_an_image_fails_in_the_middle() {
    for kind in ["close", "closed", "flush"] {
        for images in [1, 2] {
            let mut stage = Stage::serving(images).at_rest();
            stage.put(0, B, 1);
            stage.images[0].failures.extend([(kind, ImageError::Poisoned), (kind, ImageError::Poisoned)]);
            stage.stop();
            stage.drive();
            assert!(stage.is_stopped, "{kind} fails with {images} images");
        }
    }
}

/// P8: what is suspect stays so for the next start.
#[test]
fn a_stop_before_all_is_equal_closes_nothing() {
    let mut pair = Stage::serving(2);
    pair.put(0, 100 * B, 1);
    pair.images.iter_mut().for_each(|image| image.lose_power(|_| true));
    pair.restart();
    while pair.mirror.status().state != MirrorState::Serving {
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).unwrap();
        pair.reply(busy, 0);
    }
    pair.stop();
    pair.drive();
    assert!(pair.is_stopped);
    assert_eq!(pair.images[0].count("closed"), 0);
    assert!(!pair.images[0].marks.is_empty());
    pair.images.iter_mut().for_each(|image| image.lose_power(|_| true));
    pair.restart();
    pair.drive();
    pair.assert_equal_images();
}

#[test]
fn a_stop_before_the_start_is_over_waits_for_what_was_asked() {
    let mut pair = Stage::prepared(2);
    pair.start();
    let read = pair.read(0, B);
    pair.stop();
    assert_eq!(pair.error(read), Some(VolumeError::Busy));
    assert!(!pair.is_stopped, "the images still work for it");
    pair.drive();
    assert!(pair.is_stopped);
    assert!(pair.proposals.is_empty());
}

/// A claim whose outcome nobody knows is nothing to wait for: nothing was served under it.
#[test]
fn a_stop_while_the_claim_is_unknown_ends() {
    let mut pair = Stage::prepared(2);
    pair.mood = StoreMood::Away;
    pair.start();
    pair.drive();
    assert_eq!(pair.mirror.state(), MirrorState::Claiming);
    pair.stop();
    assert!(pair.is_stopped);
    assert_eq!(pair.mirror.next_deadline(), None);
}
