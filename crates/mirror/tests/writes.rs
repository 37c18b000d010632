//! Writes, reads and locks while everything is well.

mod cast;

use cast::{BLOCK, EXTENT, Stage, span};
use dyad_contract::volume::{STATE_BYTES_MAX, VolumeDone, VolumeError, VolumeOp};
use dyad_units::Period;
use smallvec::smallvec;

const B: u64 = BLOCK as u64;

/// A1: answered when every in-sync image has it, not before.
#[test]
fn a_write_is_answered_only_after_both_images_have_it() {
    let mut pair = Stage::serving(2);
    let write = pair.write(0, B, 7);
    pair.drive_without(1);
    assert!(pair.answer(write).is_none());
    assert_eq!(pair.images[0].value(0), 7);

    pair.drive();
    assert!(pair.is_done(write));
    assert_eq!(pair.images[1].value(0), 7);
}

#[test]
fn what_was_written_is_read_and_the_rest_is_zeros() {
    let mut pair = Stage::serving(2);
    pair.put(EXTENT - B, 3 * B, 9);
    let bytes = pair.bytes(EXTENT - 2 * B, 6 * B);
    assert_eq!(bytes[..BLOCK], [0; BLOCK]);
    assert_eq!(bytes[BLOCK..4 * BLOCK], [9; 3 * BLOCK]);
    assert_eq!(bytes[4 * BLOCK..], [0; 2 * BLOCK]);
    pair.assert_equal_images();
}

/// P7: partial blocks are read, verified and merged by the owner; images receive whole blocks.
#[test]
fn sectors_are_merged_into_their_blocks() {
    let mut pair = Stage::serving(2);
    pair.put(0, 3 * B, 1);
    pair.put(512, 512, 2);
    pair.put(B - 512, B + 1024, 3);
    let bytes = pair.bytes(0, 3 * B);
    let mut model = vec![1; 3 * BLOCK];
    model[512..1024].fill(2);
    model[BLOCK - 512..2 * BLOCK + 512].fill(3);
    assert_eq!(bytes, model);
    assert_eq!(pair.bytes(512, 512), [2; 512]);
    assert_eq!(pair.bytes(B - 1024, 1024), [vec![1; 512], vec![3; 512]].concat());
    pair.assert_equal_images();
}

#[test]
fn a_large_write_goes_in_pieces_of_extents() {
    let mut pair = Stage::serving(2);
    pair.put(B, 20 << 20, 5);
    assert_eq!(pair.images[0].count("write"), 81);
    assert_eq!(pair.bytes(0, 21 << 20).iter().filter(|&&byte| byte == 5).count(), 20 << 20);
    pair.assert_equal_images();
}

#[test]
fn a_fill_repeats_its_pattern_from_the_start_of_the_span() {
    let mut pair = Stage::serving(2);
    let mut pattern = vec![6; 512];
    pattern[0] = 1;
    let pattern = pair.payload(&pattern);
    let fill = pair.ask(VolumeOp::Fill { span: span(1024, EXTENT), pattern, durable: false });
    pair.drive();
    assert!(pair.is_done(fill));
    let bytes = pair.bytes(0, EXTENT + B);
    for (at, byte) in bytes.iter().enumerate() {
        let expected = match at {
            0..1024 => 0,
            _ if at >= 1024 + EXTENT as usize => 0,
            _ if at % 512 == 0 => 1,
            _ => 6,
        };
        assert_eq!(*byte, expected, "byte {at}");
    }
}

/// P9: whole blocks are unmapped, partial ones zeroed; a block that became zero needs no slot.
#[test]
fn an_unmap_lets_everything_read_as_zeros() {
    let mut pair = Stage::serving(2);
    pair.put(0, 2 * EXTENT, 4);
    let spans = smallvec![span(512, EXTENT), span(EXTENT + 2 * B, 512), span(EXTENT + 2 * B + 512, B - 512)];
    let unmap = pair.ask(VolumeOp::Unmap { spans, durable: false });
    pair.drive();
    assert!(pair.is_done(unmap));
    let bytes = pair.bytes(0, 2 * EXTENT);
    let mut model = vec![4; 2 * EXTENT as usize];
    model[512..512 + EXTENT as usize].fill(0);
    model[EXTENT as usize + 2 * BLOCK..EXTENT as usize + 3 * BLOCK].fill(0);
    assert!(bytes == model);
    for image in &pair.images {
        assert!(!image.cells.contains_key(&1) && !image.cells.contains_key(&66), "given back");
        assert!(image.cells.contains_key(&0) && image.cells.contains_key(&64));
    }
    pair.assert_equal_images();
}

#[test]
fn compare_and_write_writes_only_what_compares() {
    let mut pair = Stage::serving(2);
    pair.put(0, 2 * B, 1);
    let caw = |pair: &mut Stage, expected: &[u8], byte: u8| {
        let (expected, data) = (pair.payload(expected), pair.payload(&[byte; 1024]));
        let op = VolumeOp::CompareAndWrite { span: span(B - 512, 1024), expected, data, durable: false };
        let id = pair.ask(op);
        pair.drive();
        id
    };
    let id = caw(&mut pair, &[1; 1024], 2);
    assert!(pair.is_done(id));
    let mut expected = [2; 1024];
    expected[700] = 9;
    let id = caw(&mut pair, &expected, 3);
    assert_eq!(pair.error(id), Some(VolumeError::Miscompare { offset: 700 }));
    assert_eq!(pair.bytes(B - 1024, 2048), [[1; 512], [2; 512], [2; 512], [1; 512]].concat());
    pair.assert_equal_images();
}

/// COMPARE AND WRITE is one step against all others: of two with the same expectation one wins.
#[test]
fn of_two_compare_and_writes_one_wins() {
    let mut pair = Stage::serving(2);
    let ids = [1, 2].map(|byte| {
        let (expected, data) = (pair.payload(&[0; BLOCK]), pair.payload(&[byte; BLOCK]));
        pair.ask(VolumeOp::CompareAndWrite { span: span(0, B), expected, data, durable: false })
    });
    pair.drive();
    assert!(pair.is_done(ids[0]));
    assert_eq!(pair.error(ids[1]), Some(VolumeError::Miscompare { offset: 0 }));
}

#[test]
fn compare_says_where_it_differs_and_verify_reads_every_image() {
    let mut pair = Stage::serving(2);
    pair.put(0, 4 * B, 1);
    let expected = pair.payload(&[1; 2048]);
    let same = pair.ask(VolumeOp::Compare { span: span(512, 2048), expected });
    let expected = pair.payload(&[2; 512]);
    let other = pair.ask(VolumeOp::Compare { span: span(B, 512), expected });
    let reads = pair.images[1].count("read");
    let verify = pair.ask(VolumeOp::Verify { span: span(0, 4 * B) });
    pair.drive();
    assert!(pair.is_done(same) && pair.is_done(verify));
    assert_eq!(pair.error(other), Some(VolumeError::Miscompare { offset: 0 }));
    assert_eq!(pair.images[1].count("read"), reads + 1);
}

/// A2: a durable write and a flush are answered after every image flushed.
#[test]
fn a_durable_write_is_flushed_on_every_image_before_its_answer() {
    let mut pair = Stage::serving(2);
    let data = pair.payload(&[3; BLOCK]);
    let write = pair.ask(VolumeOp::Write { span: span(0, B), data, durable: true });
    while pair.images.iter().all(|image| image.count("flush") == 0) {
        let busy = (0..2).find(|&at| !pair.images[at].pending.is_empty()).unwrap();
        pair.reply(busy, 0);
    }
    pair.drive_without(1);
    assert!(pair.answer(write).is_none());
    pair.drive();
    assert!(pair.is_done(write));
    let flush = pair.flush();
    pair.drive();
    assert!(pair.is_done(flush));
    assert_eq!([pair.images[0].flushes, pair.images[1].flushes], [2, 2]);
}

/// M2: reads wait for overlapping writes; others do not.
#[test]
fn a_read_waits_for_the_write_before_it_and_not_for_others() {
    let mut pair = Stage::serving(2);
    let write = pair.write(0, B, 7);
    let read = pair.read(0, 512);
    let elsewhere = pair.read(B, B);
    pair.drive_without(1);
    assert!(pair.answer(write).is_none() && pair.answer(read).is_none());
    assert!(pair.is_done(elsewhere));
    pair.drive();
    let Some(Ok(VolumeDone::Data(data))) = pair.answer(read) else { panic!() };
    assert_eq!(data.to_vec(), [7; 512]);
}

/// M2, M19: whoever waits longer than T gets a retryable status, and has had no effect.
#[test]
fn a_wait_for_a_lock_ends_after_t() {
    let mut pair = Stage::serving(2);
    let held = pair.write(0, B, 1);
    let waits = pair.write(0, B, 2);
    pair.pass_without(Period::from_millis(2999), 1);
    assert!(pair.answer(waits).is_none());
    pair.pass_without(Period::from_millis(1), 1);
    assert_eq!(pair.error(waits), Some(VolumeError::Busy));
    assert!(pair.answer(held).is_none(), "M2: what may have taken effect keeps its lock");
    pair.drive();
    assert!(pair.is_done(held));
    assert_eq!(pair.bytes(0, 1024), [1; 1024]);
}

#[test]
fn beyond_the_end_is_refused_and_the_last_byte_is_served() {
    let mut pair = Stage::serving(2);
    let end = cast::SIZE.value();
    let beyond = pair.write(end - B, 2 * B, 1);
    assert_eq!(pair.error(beyond), Some(VolumeError::OutOfRange));
    pair.put(end - 512, 512, 8);
    assert_eq!(pair.bytes(end - 1024, 1024), [[0; 512], [8; 512]].concat());
}

/// Broke once (review): lengths that do not fit, which another node forwarded, ended the owner by an assertion.
#[test]
fn lengths_that_do_not_fit_are_refused_and_nothing_is_written() {
    let mut pair = Stage::serving(2);
    let span = span(0, 2 * B);
    let bytes = |len: usize| pair.payload(&vec![7; len]);
    let odd = [
        VolumeOp::Write { span, data: bytes(4096), durable: false },
        VolumeOp::Compare { span, expected: bytes(4096) },
        VolumeOp::CompareAndWrite { span, expected: bytes(8192), data: bytes(4096), durable: false },
        VolumeOp::Fill { span, pattern: bytes(8192), durable: false },
        VolumeOp::WriteState { data: bytes(STATE_BYTES_MAX + 512) },
    ];
    for op in odd {
        let shown = format!("{op:?}");
        let id = pair.ask(op);
        assert_eq!(pair.error(id), Some(VolumeError::OutOfRange), "{shown}");
    }
    assert_eq!(pair.bytes(0, 8192), [0; 8192]);
}

#[test]
fn more_operations_than_the_bound_are_answered_busy() {
    let mut pair = Stage::serving(2);
    let ids: Vec<_> = (0..1100).map(|at| pair.write(at * B, B, 1)).collect();
    let busy = ids.iter().filter(|id| pair.error(**id) == Some(VolumeError::Busy)).count();
    assert_eq!(busy, 1100 - 1024);
    pair.drive();
    assert_eq!(ids.iter().filter(|id| pair.is_done(**id)).count(), 1024);
    assert_eq!(pair.mirror.status().in_flight, 0);
}
