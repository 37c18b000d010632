//! SCSI state as data of the segment (M20).

mod cast;

use cast::{BLOCK, Stage};
use dyad_cluster::ImageState;
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_mirror::{ImageIndex, OpId};
use dyad_units::{Period, Piece, STATE_EXTENT};

const FULL: usize = dyad_contract::volume::STATE_BYTES_MAX;

fn keep(stage: &mut Stage, bytes: &[u8]) -> OpId {
    let data = stage.payload(bytes);
    stage.ask(VolumeOp::WriteState { data })
}

fn kept(stage: &mut Stage) -> Result<Vec<u8>, VolumeError> {
    let id = stage.ask(VolumeOp::ReadState);
    stage.drive();
    match stage.answer(id) {
        Some(Ok(VolumeDone::Data(data))) => Ok(data.to_vec()),
        Some(Err(error)) => Err(*error),
        other => panic!("{other:?}"),
    }
}

fn put(stage: &mut Stage, bytes: &[u8]) {
    let id = keep(stage, bytes);
    stage.drive();
    assert!(stage.is_done(id), "{:?}", stage.answer(id));
}

#[test]
fn the_state_is_what_was_last_written_as_a_whole() {
    let mut pair = Stage::serving(2);
    assert_eq!(kept(&mut pair), Ok(Vec::new()));
    for bytes in [&[7_u8; 100][..], &[8; FULL], &[], &[9; 5]] {
        put(&mut pair, bytes);
        assert_eq!(kept(&mut pair), Ok(bytes.to_vec()));
    }
    pair.assert_equal_images();
    assert_eq!(pair.bytes(0, 4096), vec![0; BLOCK], "hosts do not see it");
}

/// A2: it is answered when it is durable on every image.
#[test]
fn state_that_was_answered_survives_a_loss_of_power() {
    let mut pair = Stage::serving(2);
    put(&mut pair, &[1; 500]);
    put(&mut pair, &[2; 500]);
    pair.images.iter_mut().for_each(|image| image.lose_power(|_| false));
    pair.restart();
    pair.pass(Period::from_secs(1));
    assert_eq!(kept(&mut pair), Ok(vec![2; 500]));
}

/// Wherever the power goes during the third write, and whatever of its blocks reached the disks, there is the second or
/// the third state, never a mixture nor an older one.
#[test]
fn a_crash_leaves_the_old_or_the_new_state() {
    let (old, new) = (vec![2; FULL], vec![3; FULL]);
    let mut news = 0;
    for steps in 0..12 {
        for pattern in 0_u64..24 {
            let mut pair = Stage::serving(2);
            put(&mut pair, &[1; 100]);
            put(&mut pair, &old);
            let id = keep(&mut pair, &new);
            for _ in 0..steps {
                if let Some(at) = (0..2).find(|&at| !pair.images[at].pending.is_empty()) {
                    pair.reply(at, 0);
                }
            }
            let is_done = pair.is_done(id);
            for (at, image) in pair.images.iter_mut().enumerate() {
                let mix = pattern.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(at as u32 * 21);
                image.lose_power(|block| mix >> (block % 64) & 1 == 1);
            }
            pair.restart();
            pair.pass(Period::from_secs(1));
            let found = kept(&mut pair).unwrap();
            assert!(found == new || found == old && !is_done, "after {steps} steps, pattern {pattern}");
            news += u32::from(found == new);
            pair.assert_equal_images();
        }
    }
    assert!((1..12 * 24).contains(&news), "{news}");
}

/// The process of an owner ends in the middle of a write: M9 makes the images equal, and what was seen stays so.
#[test]
fn a_takeover_in_the_middle_of_a_write_leaves_one_state_on_all_images() {
    for steps in 0..12 {
        let mut pair = Stage::serving(2);
        put(&mut pair, b"old");
        let id = keep(&mut pair, b"new");
        for _ in 0..steps {
            if let Some(at) = (0..2).find(|&at| !pair.images[at].pending.is_empty()) {
                pair.reply(at, 0);
            }
        }
        let is_done = pair.is_done(id);
        pair.images.iter_mut().for_each(|image| image.crash(|_| false));
        pair.restart();
        pair.pass(Period::from_secs(1));
        let found = kept(&mut pair).unwrap();
        assert!(found == b"new" || found == b"old" && !is_done);
        pair.assert_equal_images();
        pair.images[0].poisoned = true;
        pair.put(0, 4096, 1);
        assert_eq!(pair.state_of(0).0, ImageState::Stale);
        assert_eq!(kept(&mut pair).unwrap(), found, "the other image says the same");
    }
}

/// M13: state written while an image was out is copied to it like data.
#[test]
fn resync_copies_the_state() {
    let mut pair = Stage::serving(2);
    put(&mut pair, b"before");
    pair.images[1].poisoned = true;
    put(&mut pair, b"meanwhile");
    assert_eq!(pair.state_of(1).0, ImageState::Stale);
    pair.images[1].poisoned = false;
    let mut out = Vec::new();
    assert!(pair.mirror.begin_resync(pair.now, ImageIndex(1), &mut out));
    pair.act_on(out);
    pair.pass(Period::from_secs(60));
    assert_eq!(pair.state_of(1).0, ImageState::InSync);
    pair.assert_equal_images();
    pair.gone(0);
    pair.pass(Period::from_secs(1));
    assert_eq!(kept(&mut pair), Ok(b"meanwhile".to_vec()));
}

/// M2: one state after the other, and no reader in between.
#[test]
fn writes_of_the_state_take_turns() {
    let mut pair = Stage::serving(2);
    let first = keep(&mut pair, b"first");
    let second = keep(&mut pair, b"second");
    let read = pair.ask(VolumeOp::ReadState);
    for _ in 0..2 {
        pair.drive_without(1);
    }
    assert!(!pair.is_done(first) && !pair.is_done(second) && !pair.is_done(read));
    pair.drive();
    assert!(pair.is_done(first) && pair.is_done(second));
    let Some(Ok(VolumeDone::Data(data))) = pair.answer(read) else { panic!("{:?}", pair.answer(read)) };
    assert_eq!(data.to_vec(), b"second");
}

/// Where the newest state cannot be read any more, an older one is not taken for it; the next write makes it good.
#[test]
fn state_that_rotted_everywhere_is_an_error_until_it_is_written_again() {
    let mut pair = Stage::serving(2);
    put(&mut pair, b"old");
    put(&mut pair, b"new");
    let block = u64::from(u32::MAX) * 64; // of the home that was written second
    for image in &mut pair.images {
        image.rot(block);
    }
    assert!(matches!(kept(&mut pair), Err(VolumeError::Medium { .. })));
    put(&mut pair, b"newer");
    assert_eq!(kept(&mut pair), Ok(b"newer".to_vec()));
    put(&mut pair, b"newest");
    assert_eq!(kept(&mut pair), Ok(b"newest".to_vec()));
}

/// M20: broke once (simulator, seeds 20439 and 20519): while the only image in sync could not be read, a state was written
/// with a turn counted from nothing. When it could be read again, the other home, older and of a higher turn, was taken for
/// the state: one that had been overwritten was back.
#[test]
fn a_state_written_while_no_home_could_be_read_is_the_newest() {
    let mut one = Stage::serving(1);
    for turn in 1..=50 {
        put(&mut one, &[turn; 100]);
    }
    let first = Piece::whole(STATE_EXTENT).block().0;
    one.images[0].unreadable.extend(first..first + 32);
    assert!(matches!(kept(&mut one), Err(VolumeError::Medium { .. })));
    put(&mut one, &[99; 100]);
    one.images[0].unreadable.clear();
    assert_eq!(kept(&mut one), Ok(vec![99; 100]));
    put(&mut one, &[100; 100]);
    assert_eq!(kept(&mut one), Ok(vec![100; 100]));
}

/// P12: a home that is written into an extent that the disk lost heals nothing of it, so no state could be written any more.
#[test]
fn state_that_was_lost_can_be_written_anew() {
    let mut one = Stage::serving(1);
    put(&mut one, b"older");
    put(&mut one, b"old");
    one.images[0].lost.insert(STATE_EXTENT.0);
    assert!(matches!(kept(&mut one), Err(VolumeError::Medium { .. })));
    for bytes in [&b"new"[..], &[8; FULL], b""] {
        put(&mut one, bytes);
        assert_eq!(kept(&mut one), Ok(bytes.to_vec()));
        one.images[0].lose_power(|_| false);
        one.restart();
        one.pass(Period::from_secs(1));
        assert_eq!(kept(&mut one), Ok(bytes.to_vec()));
    }
    assert!(one.images[0].lost.is_empty());
}

/// One image cannot read it for one reason, the other one for another; both have it afterwards.
#[test]
fn state_that_no_image_can_read_is_written_anew_on_all() {
    let mut pair = Stage::serving(2);
    put(&mut pair, b"older");
    put(&mut pair, b"old");
    let first = Piece::whole(STATE_EXTENT).block().0;
    pair.images[0].unreadable.extend(first..first + 32);
    [first, first + 16].into_iter().for_each(|block| pair.images[1].rot_durably(block));
    assert!(matches!(kept(&mut pair), Err(VolumeError::Medium { .. })));
    put(&mut pair, b"new");
    assert_eq!(kept(&mut pair), Ok(b"new".to_vec()));
    pair.assert_equal_images();
    assert!(pair.images.iter().all(|image| image.unreadable.is_empty() && image.is_good()));
}

/// Wherever the power goes while a state is written in the place of one that nobody can read: there is the new one, or none
/// can be read still, and never one of before, nor that there never was any. Then it can be written again.
#[test]
fn a_crash_while_a_state_is_written_anew_brings_no_older_one_back() {
    let new = vec![3; FULL];
    let (mut news, mut nones) = (0, 0);
    for (is_lost, steps, pattern) in (0..12_u64 * 48).map(|at| (at % 2 == 0, at / 2 % 12, at / 24)) {
        let mut one = Stage::serving(1);
        put(&mut one, &[1; 100]);
        put(&mut one, &[2; 200]);
        let first = Piece::whole(STATE_EXTENT).block().0;
        if is_lost {
            one.images[0].lost.insert(STATE_EXTENT.0);
        } else {
            [first, first + 16].into_iter().for_each(|block| one.images[0].rot_durably(block));
        }
        assert!(matches!(kept(&mut one), Err(VolumeError::Medium { .. })));
        let id = keep(&mut one, &new);
        for _ in 0..steps {
            if !one.images[0].pending.is_empty() {
                one.reply(0, 0);
            }
        }
        let is_done = one.is_done(id);
        let mix = pattern.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        one.images[0].lose_power(|block| mix.rotate_left(pattern as u32) >> (block % 64) & 1 == 1);
        one.restart();
        one.pass(Period::from_secs(5)); // what cannot be read is asked for again, for a while (M21)
        match kept(&mut one) {
            Ok(found) => {
                assert_eq!(found.len(), FULL, "after {steps} steps, pattern {pattern}, lost: {is_lost}");
                assert!(found == new);
                news += 1;
            }
            Err(VolumeError::Medium { .. }) if !is_done => nones += 1,
            other => panic!("{:?} after {steps} steps, pattern {pattern}", other.map(|found| found.len())),
        }
        put(&mut one, b"again");
        assert_eq!(kept(&mut one), Ok(b"again".to_vec()));
    }
    assert!(news > 20 && nones > 20, "{news} {nones}");
}
