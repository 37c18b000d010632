//! Atomic writes (M21): all of the range is new, or none of it, whatever fails.

mod cast;

use cast::atomic::{B, E, WHERE, amid, found, put, some_steps, write};
use cast::{BLOCK, Stage, span};
use dyad_cluster::ImageState;
use dyad_contract::image::ImageError;
use dyad_contract::volume::{ATOMIC_BLOCKS_MAX, VolumeDone, VolumeError, VolumeOp};
use dyad_mirror::ImageIndex;
use dyad_units::Period;

#[test]
fn what_was_written_is_there_and_nothing_else_changed() {
    let mut pair = Stage::serving(2);
    pair.put(0, 2 * E, 1);
    put(&mut pair, WHERE, 2);
    assert_eq!(found(&mut pair, WHERE, 1), 2);
    let most = (4 * B, ATOMIC_BLOCKS_MAX * B);
    put(&mut pair, most, 3);
    assert_eq!(pair.bytes(most.0, most.1), vec![3; most.1 as usize]);
    pair.assert_equal_images();
    let (offset, len) = (512, ATOMIC_BLOCKS_MAX * B);
    let data = pair.payload(&vec![4; len as usize]);
    let too_many = pair.ask(VolumeOp::WriteAtomic { span: span(offset, len), data });
    assert_eq!(pair.error(too_many), Some(VolumeError::OutOfRange), "one block more than is kept");
}

/// Wherever the power goes, and whatever of its blocks reached the disks.
#[test]
fn a_loss_of_power_leaves_the_old_or_the_new_range() {
    let mut news = [0; 2];
    for steps in 0..60 {
        for pattern in 0_u64..24 {
            let (mut pair, id) = amid(2, WHERE, steps);
            let is_done = pair.is_done(id);
            for (at, image) in pair.images.iter_mut().enumerate() {
                let mix = pattern.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(at as u32 * 21);
                image.lose_power(|block| mix >> (block % 64) & 1 == 1);
            }
            pair.restart();
            pair.pass(Period::from_secs(2));
            let is = found(&mut pair, WHERE, 1);
            assert!(is == 3 || is == 2 && !is_done, "{is} after {steps} steps, pattern {pattern}");
            news[usize::from(is_done)] += u32::from(is == 3);
            pair.assert_equal_images();
        }
    }
    assert!(news[0] > 0 && news[1] > 0, "{news:?}");
}

/// The process of an owner ends amid it.
#[test]
fn a_takeover_leaves_the_old_or_the_new_range_on_all_images() {
    let mut news = 0;
    for steps in 0..60 {
        let (mut pair, id) = amid(2, WHERE, steps);
        let is_done = pair.is_done(id);
        pair.images.iter_mut().for_each(|image| image.crash(|_| false));
        pair.restart();
        pair.pass(Period::from_secs(2));
        let is = found(&mut pair, WHERE, 1);
        assert!(is == 3 || is == 2 && !is_done);
        news += u32::from(is == 3 && !is_done);
        pair.assert_equal_images();
    }
    assert!(news > 0);
}

/// What others wrote there later, and flushed, is not written over again by whoever serves next.
#[test]
fn nothing_later_is_written_over() {
    for pattern in 0_u64..64 {
        let mut pair = Stage::serving(2);
        pair.put(0, 2 * E, 1);
        put(&mut pair, WHERE, 2);
        pair.put(WHERE.0 + 512, 2 * B, 5);
        let flush = pair.flush();
        pair.drive();
        assert!(pair.is_done(flush));
        for (at, image) in pair.images.iter_mut().enumerate() {
            let mix = pattern.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(at as u32 * 21);
            image.lose_power(|block| mix >> (block % 64) & 1 == 1);
        }
        pair.restart();
        pair.pass(Period::from_secs(2));
        assert_eq!(pair.bytes(WHERE.0 + 512, 2 * B), vec![5; 2 * BLOCK]);
        assert_eq!(pair.bytes(WHERE.0 + 512 + 2 * B, B), vec![2; BLOCK]);
    }
}

/// M2: who came before is not overtaken, and who comes later waits.
#[test]
fn reads_and_writes_there_wait() {
    let mut pair = Stage::serving(2);
    pair.put(0, 2 * E, 1);
    let atomic = write(&mut pair, WHERE, 2);
    let read = pair.read(E, B);
    let later = pair.write(E, B, 3);
    let elsewhere = pair.write(0, B, 4);
    pair.drive_without(1);
    assert!(!pair.is_done(atomic) && !pair.is_done(read) && !pair.is_done(later) && !pair.is_done(elsewhere));
    pair.drive();
    let Some(Ok(VolumeDone::Data(data))) = pair.answer(read) else { panic!("{:?}", pair.answer(read)) };
    assert_eq!(data.to_vec(), vec![2; BLOCK]);
    assert!(pair.is_done(atomic) && pair.is_done(later) && pair.is_done(elsewhere));
    assert_eq!(pair.bytes(E, B), vec![3; BLOCK]);
}

/// M20: the state goes from home to home with it.
#[test]
fn the_state_stays_what_it_was() {
    let mut pair = Stage::serving(2);
    for turn in 0..5_u8 {
        let data = pair.payload(&[turn; 700]);
        let id = pair.ask(VolumeOp::WriteState { data });
        pair.drive();
        assert!(pair.is_done(id));
        for _ in 0..turn {
            put(&mut pair, WHERE, turn);
        }
        let id = pair.ask(VolumeOp::ReadState);
        pair.drive();
        let Some(Ok(VolumeDone::Data(data))) = pair.answer(id) else { panic!("{:?}", pair.answer(id)) };
        assert_eq!(data.to_vec(), vec![turn; 700]);
    }
}

/// P15: where a pool has no slot for the range, it is as it was, and the next one is carried out.
#[test]
fn without_a_slot_nothing_changes() {
    for slots in 0..12 {
        let mut pair = Stage::with_slots(1, slots);
        let id = write(&mut pair, (4 * E, 3 * E), 1);
        pair.drive();
        if !pair.is_done(id) {
            assert_eq!(pair.error(id), Some(VolumeError::NoSpace), "{slots} slots");
            assert_eq!(pair.bytes(4 * E, 3 * E), vec![0; 3 * E as usize]);
        }
        pair.assert_equal_images();
    }
}

/// The last image fails amid it: nobody sees a part of it, and whoever serves next does it again.
#[test]
fn a_range_that_is_half_done_is_kept_back_until_it_is_done() {
    let mut kept_back = 0;
    for steps in 1..40 {
        let mut one = Stage::serving(1);
        one.put(0, 2 * E, 1);
        let id = write(&mut one, WHERE, 2);
        some_steps(&mut one, steps);
        if one.is_done(id) {
            break;
        }
        one.images[0].failures.push(("write", ImageError::Unreadable));
        one.drive();
        one.images[0].failures.clear();
        let read = one.read(WHERE.0, WHERE.1);
        one.drive();
        kept_back += u32::from(one.answer(read).is_none());
        one.pass(Period::from_secs(2));
        let is = found(&mut one, WHERE, 1);
        assert!(is == 1 || is == 2, "{is}");
    }
    assert!(kept_back > 0);
}

/// M13: an image that was out has all of it when it is back.
#[test]
fn resync_copies_what_is_hidden() {
    let mut pair = Stage::serving(2);
    pair.put(0, 2 * E, 1);
    pair.images[1].poisoned = true;
    put(&mut pair, WHERE, 2);
    assert_eq!(pair.state_of(1).0, ImageState::Stale);
    pair.images[1].poisoned = false;
    let mut out = Vec::new();
    assert!(pair.mirror.begin_resync(pair.now, ImageIndex(1), &mut out));
    pair.act_on(out);
    put(&mut pair, WHERE, 3);
    pair.pass(Period::from_secs(60));
    assert_eq!(pair.state_of(1).0, ImageState::InSync);
    pair.assert_equal_images();
}

/// Broke once (found by a review): what had passed the gate and waited for the lock was not kept back when the atomic write
/// before it failed half done; it was written over again by what the intent had.
#[test]
fn what_waits_for_the_lock_is_kept_back_too() {
    let mut written = 0;
    for steps in 1..40 {
        let mut one = Stage::serving(1);
        one.put(0, 2 * E, 1);
        let atomic = write(&mut one, WHERE, 2);
        let later = one.write(E, B, 3);
        let next = write(&mut one, (8 * E, B), 4);
        some_steps(&mut one, steps);
        if one.is_done(atomic) {
            break;
        }
        one.images[0].failures.push(("write", ImageError::Unreadable));
        one.drive();
        one.images[0].failures.clear();
        one.pass(Period::from_secs(2));
        if one.is_done(later) {
            assert_eq!(one.bytes(E, B), vec![3; BLOCK], "it was answered after the failed one");
            let before = one.bytes(E - B, 1024)[1023];
            assert!(before == 1 || before == 2);
            written += 1;
        }
        assert!(one.is_done(next) || one.error(next).is_some());
    }
    assert!(written > 0);
}

/// An abort that comes when it is noted already changes nothing: it is carried out.
#[test]
fn an_abort_leaves_the_old_or_the_new_range() {
    for steps in 0..60 {
        let (mut pair, id) = amid(2, WHERE, steps);
        let was_done = pair.is_done(id);
        pair.abort(id);
        pair.drive();
        let is_aborted = pair.error(id) == Some(VolumeError::Aborted);
        let is = found(&mut pair, WHERE, 1);
        assert_eq!(is, if is_aborted { 2 } else { 3 }, "after {steps} steps");
        assert!(!(was_done && is_aborted));
        for image in &mut pair.images {
            image.lose_power(|_| false);
        }
        pair.restart();
        pair.pass(Period::from_secs(2));
        assert_eq!(found(&mut pair, WHERE, 1), is, "nothing comes after the answer (M19)");
    }
}
