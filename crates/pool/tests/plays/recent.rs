//! L: when it is full, what it keeps, and over how many crashes (P6, M3).

use dyad_contract::image::{BlockState, ImageError, Reply, Request};
use dyad_pool::DiskOp;
use dyad_units::{Bytes, Epoch, Extent, ImageId, Piece, Stamp};

use crate::cast::{Bench, is_write};

fn is_slow(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Write { data, .. } if data.slices()[0][0] == 0x51)
}

/// Rounds that could not cut L called each other until the stack ended.
#[test]
fn a_slow_write_at_the_tail_of_a_full_l_holds_others_up_and_nothing_else() {
    let mut bench = Bench::with(64 << 20, 16 << 10, Bytes::gib(1));
    bench.write(1, 0, &[1; 4096]);
    bench.holds = Some(is_slow);
    let slow = bench.send_write(1, 0, &[0x51; 4096]);
    let mut waiting = Vec::new();
    for nth in 0..400_u32 {
        bench.settled = bench.number - 1;
        waiting.push((nth, bench.send_write(1 + nth % 3, 1 + (nth % 60) as u8, &[nth as u8; 4096])));
        if nth % 50 == 0 {
            bench.pool().housekeeping();
            bench.drive();
        }
    }
    let answered = bench.replies.iter().filter(|(_, reply)| matches!(reply, Reply::Written(_))).count();
    assert!((10..400).contains(&answered), "{answered} found room");
    bench.let_go();
    assert!(matches!(bench.reply(slow), Some(Reply::Written(_))));
    for (_, token) in waiting {
        assert!(matches!(bench.reply(token), Some(Reply::Written(_))));
    }
    bench.crash();
    assert_eq!(bench.read(1, 0, 1), [0x51; 4096]);
}

/// m1, c1: cut by a flush, taken over by the next process, and by the one after it.
#[test]
fn what_other_images_may_lack_is_named_until_it_is_settled() {
    let mut bench = Bench::with(64 << 20, 16 << 10, Bytes::gib(1));
    bench.write(5, 7, &[1; 4096]);
    let lacked = Piece::new(Extent(5), 7, 1).unwrap();
    bench.settled = 0;
    for _ in 0..3 {
        assert!(matches!(bench.ask(Request::Close { interval: bench.stamp.interval }), Reply::Done));
        bench.crash();
        let survey = bench.survey();
        assert!(survey.lived_through && survey.unsettled.contains(&lacked), "{survey:?}");
    }
    assert!(matches!(bench.ask(Request::Settled { extent: Extent(5), stamp: bench.stamp }), Reply::Done));
    assert!(bench.survey().unsettled.is_empty());
    // Another image's writes take L through many laps, and all of theirs is settled at once.
    bench.write(9, 1, &[3; 4096]);
    let (image, other) = (bench.image, bench.create(ImageId::from_bytes([8; 16]), Bytes::gib(1)));
    bench.image = Some(other);
    for nth in 0..600_u32 {
        bench.settled = bench.number;
        assert!(matches!(bench.write(6, (nth % 64) as u8, &[4; 4096]), Reply::Written(_)));
    }
    bench.crash();
    assert_eq!(bench.image, image);
    assert!(bench.survey().unsettled.contains(&Piece::new(Extent(9), 1, 1).unwrap()));
}

/// More that is unsettled than L can carry is refused, not held: it may not be settled before other requests go on.
#[test]
fn too_much_that_is_unsettled_is_refused_until_some_is_settled() {
    let mut bench = Bench::with(64 << 20, 16 << 10, Bytes::gib(1));
    let mut written = 0;
    while matches!(bench.write(6, written % 64, &[4; 4096]), Reply::Written(_)) {
        written += 1;
    }
    assert!((20..200).contains(&written), "{written}");
    bench.settled = bench.number;
    assert!(matches!(bench.write(6, 0, &[5; 4096]), Reply::Written(_)));
}

/// M3, M4: what is closed is on every image.
#[test]
fn what_is_closed_is_settled() {
    let mut bench = Bench::new();
    bench.write(5, 7, &[1; 4096]);
    assert_eq!(bench.survey().unsettled.len(), 1, "a new owner is told, too (M9)");
    bench.close();
    assert!(bench.survey().unsettled.is_empty());
    bench.crash();
    assert!(bench.survey().unsettled.is_empty());
}

/// r3: the record of a new epoch was answered while writes of the old one were still to take effect.
#[test]
fn a_record_is_answered_after_older_writes() {
    let mut bench = Bench::new();
    bench.write(1, 0, &[1; 4096]);
    bench.holds = Some(is_write);
    let write = bench.send_write(1, 1, &[2; 4096]);
    let record = bench.slab.copy_of(b"record").unwrap().into();
    let record = bench.send(Request::Record { epoch: Epoch::new(2), record });
    assert!(bench.reply(record).is_none());
    let late = bench.send_write(1, 2, &[2; 4096]);
    assert!(matches!(bench.reply(late), Some(Reply::Failed(ImageError::Superseded { newest })) if newest.value() == 2));
    bench.let_go();
    assert!(matches!(bench.reply(write), Some(Reply::Written(_))));
    assert!(matches!(bench.reply(record), Some(Reply::Done)));
    bench.crash();
    assert_eq!(bench.survey().epoch, Epoch::new(2));
}

/// c8: two extents exchange slots; a claim voids only who still lies there.
#[test]
fn a_later_claim_voids_only_who_still_lies_there() {
    let mut bench = Bench::with(8 << 20, 1 << 20, Bytes::gib(1));
    let slots = bench.pool().usage().slots_free as u32;
    for extent in 0..slots {
        bench.write(extent, 0, &[extent as u8 + 1; 4096]);
    }
    for (one, other) in [(0, 1), (2, 3), (1, 2)] {
        bench.unmap(Piece::whole(Extent(one)));
        bench.flush();
        bench.unmap(Piece::whole(Extent(other)));
        bench.flush();
        bench.write(other, 1, &[0xa0 + one as u8; 4096]);
        bench.write(one, 1, &[0xb0 + one as u8; 4096]);
    }
    bench.crash();
    assert_eq!(bench.report.blocks_torn, 0);
    for (extent, byte) in [(2, 0xa1), (1, 0xb1), (3, 0xa2), (0, 0xb0)] {
        assert_eq!(bench.read(extent, 1, 1), [byte; 4096], "extent {extent}");
        assert_eq!(bench.read(extent, 0, 1), [0; 4096]);
    }
    assert_eq!(bench.read(slots - 1, 0, 1), [slots as u8; 4096]);
}

/// A stamp that only L has survives crashes of the process until it is committed (M1).
#[test]
fn stamps_of_flushed_overwrites_are_in_l() {
    let mut bench = Bench::new();
    bench.write(1, 0, &[1; 4096]);
    bench.close();
    let newer = bench.stamp;
    bench.write(1, 0, &[2; 4096]);
    bench.flush();
    bench.crash();
    let Reply::Examined(examined) = bench.ask(Request::Examine { extent: Extent(1) }) else { panic!("not examined") };
    assert_eq!(examined.stamp, newer);
    assert!(examined.stamp > Stamp::NEVER);
}

/// The bits of a block changed between its first write, acknowledged and not flushed, and the crash of its process. It matched
/// nothing that the recent log names, no commit said that it was ever written, and it read as zeros (P6, P7; cluster seed
/// 2700013295).
#[test]
fn a_first_write_that_was_answered_and_that_rotted_is_damaged_not_unwritten() {
    let mut bench = Bench::with(64 << 20, 16 << 10, Bytes::gib(1));
    bench.write(5, 7, &[7; 4096]);
    bench.write(5, 8, &[8; 4096]);
    let at = bench.disk.find(&[7; 64])[0];
    bench.disk.rot(at, 64);
    for _ in 0..2 {
        bench.crash();
        let Reply::Examined(examined) = bench.ask(Request::Examine { extent: Extent(5) }) else {
            panic!("not examined")
        };
        assert_eq!(examined.blocks[7], BlockState::Unreadable);
        assert!(matches!(examined.blocks[8], BlockState::Verified(_)));
        let read = bench.ask(Request::Read { piece: Piece::new(Extent(5), 7, 1).unwrap() });
        assert!(matches!(read, Reply::Failed(ImageError::Damaged { .. })), "{read:?}");
    }
}

/// Broke once (review): what counted was an end of the log before which all was done, and a write that is slow held that back for
/// every other one: those answered meanwhile counted as never come.
#[test]
fn a_write_that_is_slow_keeps_no_other_one_from_being_believed() {
    let mut bench = Bench::with(64 << 20, 16 << 10, Bytes::gib(1));
    bench.holds = Some(is_slow);
    bench.send_write(1, 0, &[0x51; 4096]);
    bench.write(5, 7, &[7; 4096]);
    bench.write(5, 8, &[8; 4096]);
    bench.holds = None;
    let at = bench.disk.find(&[7; 64])[0];
    bench.disk.rot(at, 64);
    bench.crash();
    let Reply::Examined(examined) = bench.ask(Request::Examine { extent: Extent(5) }) else { panic!("not examined") };
    assert_eq!(examined.blocks[7], BlockState::Unreadable);
    assert!(matches!(examined.blocks[8], BlockState::Verified(_)));
    let Reply::Examined(examined) = bench.ask(Request::Examine { extent: Extent(1) }) else { panic!("not examined") };
    assert_eq!(examined.blocks[0], BlockState::Missing);
}

/// An overwrite that was answered is not taken back to what a flush had made durable before.
#[test]
fn an_answered_write_in_whose_place_the_one_before_lies_is_damaged() {
    let mut bench = Bench::with(64 << 20, 16 << 10, Bytes::gib(1));
    bench.write(5, 7, &[7; 4096]);
    bench.flush();
    let at = bench.disk.find(&[7; 64])[0];
    bench.write(5, 7, &[8; 4096]);
    bench.disk.change(at, &[7; 4096]);
    bench.crash();
    let read = bench.ask(Request::Read { piece: Piece::new(Extent(5), 7, 1).unwrap() });
    assert!(matches!(read, Reply::Failed(ImageError::Damaged { .. })), "{read:?}");
}

/// A first write that was under way, and that others may have, reads as zeros here, but any image that has it is right (P6, P8),
/// until that was compared or something new was written.
#[test]
fn a_first_write_that_never_came_is_missing_until_it_is_compared() {
    for ends in 0..4 {
        let mut bench = Bench::with(64 << 20, 16 << 10, Bytes::gib(1));
        let piece = Piece::new(Extent(5), 7, 1).unwrap();
        bench.holds = Some(is_slow);
        bench.send_write(5, 7, &[0x51; 4096]);
        bench.holds = None;
        let state = |bench: &mut Bench| match bench.ask(Request::Examine { extent: Extent(5) }) {
            Reply::Examined(examined) => examined.blocks[7],
            reply => panic!("not examined: {reply:?}"),
        };
        for _ in 0..2 {
            bench.crash();
            assert_eq!(state(&mut bench), BlockState::Missing);
            assert_eq!(bench.read(5, 7, 1), [0; 4096]);
        }
        match ends {
            0 => {
                assert!(matches!(bench.ask(Request::Settled { extent: Extent(5), stamp: bench.stamp }), Reply::Done));
                assert_eq!(state(&mut bench), BlockState::Unwritten);
            }
            1 => {
                bench.write(5, 7, &[1; 4096]);
                assert!(matches!(state(&mut bench), BlockState::Verified(_)));
            }
            2 => {
                bench.unmap(piece);
                assert_eq!(state(&mut bench), BlockState::Unwritten);
            }
            _ => {
                // Another block's write leaves the doubt.
                bench.write(5, 8, &[1; 4096]);
                assert_eq!(state(&mut bench), BlockState::Missing);
            }
        }
    }
}
