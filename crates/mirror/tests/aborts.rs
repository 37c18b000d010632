//! Aborts (M19): answered once the command has taken effect or never will.

mod cast;

use cast::{BLOCK, EXTENT, Stage};
use dyad_contract::volume::VolumeError;

const B: u64 = BLOCK as u64;

#[test]
fn a_command_that_waits_is_aborted_at_once_and_never_takes_effect() {
    let mut pair = Stage::serving(2);
    let first = pair.write(0, B, 1);
    let second = pair.write(0, B, 2);
    let third = pair.write(0, B, 3);
    pair.abort(second);
    assert_eq!(pair.error(second), Some(VolumeError::Aborted));
    pair.drive();
    assert!(pair.is_done(first) && pair.is_done(third));
    assert_eq!(pair.bytes(0, B), [3; BLOCK]);
}

/// M2: once an image may have the write, an abort does not unlock; the answer says that it took effect.
#[test]
fn a_command_that_is_being_applied_is_answered_when_every_image_has_it() {
    let mut pair = Stage::serving(2);
    let write = pair.write(0, B, 1);
    let read = pair.read(0, B);
    pair.drive_without(1);
    pair.abort(write);
    assert!(pair.answer(write).is_none() && pair.answer(read).is_none());
    pair.drive();
    assert!(pair.is_done(write) && pair.is_done(read));
    pair.assert_equal_images();
}

/// The range of a read stays locked until its data is back: no image ever writes a block that it reads.
#[test]
fn an_aborted_read_keeps_its_lock_until_the_image_replied() {
    let mut pair = Stage::serving(2);
    let read = pair.read(0, B);
    pair.abort(read);
    assert!(pair.answer(read).is_none());
    let write = pair.write(0, B, 1); // the image would complain of a write beside a read
    pair.drive();
    assert_eq!(pair.error(read), Some(VolumeError::Aborted));
    assert!(pair.is_done(write));
}

#[test]
fn an_aborted_merge_writes_nothing() {
    let mut pair = Stage::serving(2);
    pair.put(0, B, 1);
    let write = pair.write(512, 512, 2);
    pair.abort(write);
    pair.drive();
    assert_eq!(pair.error(write), Some(VolumeError::Aborted));
    assert_eq!(pair.bytes(0, B), [1; BLOCK]);
}

/// P15: what was reserved for it is released.
#[test]
fn an_aborted_reservation_is_released() {
    let mut pair = Stage::with_slots(0, 2);
    pair.put(0, 2 * EXTENT, 9); // the pool is full: no credits are left
    let write = pair.write(0, 2 * EXTENT, 1);
    pair.abort(write);
    pair.drive();
    assert_eq!(pair.error(write), Some(VolumeError::Aborted));
    assert_eq!([pair.images[0].count("reserve"), pair.images[0].count("release")], [2, 2]);
    assert_eq!(pair.bytes(EXTENT, B), [9; BLOCK]);
    pair.put(0, 2 * EXTENT, 2);
    pair.assert_equal_images();
}

#[test]
fn a_fill_that_is_aborted_stops_after_its_batch() {
    let mut pair = Stage::serving(2);
    let pattern = pair.payload(&[5; 512]);
    let span = cast::span(0, 48 << 20);
    let fill = pair.ask(dyad_contract::volume::VolumeOp::Fill { span, pattern, durable: false });
    pair.abort(fill);
    pair.drive();
    assert_eq!(pair.error(fill), Some(VolumeError::Aborted));
    assert!(pair.images[0].count("write") <= 64);
    pair.assert_equal_images();
    let unknown = dyad_mirror::OpId(999_999);
    pair.abort(unknown);
}
