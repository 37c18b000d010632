//! No slots, no pages, no memory (P15).

use dyad_contract::image::{ImageError, Reply, Request};
use dyad_payload::Slab;
use dyad_pool::{DiskOp, FormatConfig};
use dyad_units::{Bytes, Epoch, Extent, Piece};

use crate::cast::Bench;

/// Without memory a table page counted as never written, and was rewritten without the checksums that it had.
#[test]
fn a_flush_without_memory_waits_and_loses_no_checksum() {
    let mut bench = Bench::new();
    for extent in 0..20 {
        bench.write(extent, 0, &[1; 4096]);
    }
    bench.flush();
    bench.stop();
    bench.slab = Slab::new(4 << 20);
    bench.open().unwrap();
    let token = bench.send_write(3, 1, &[2; 4096]);
    assert!(matches!(bench.reply(token), Some(Reply::Written(_))));
    let slab = bench.slab.clone();
    let mut hoard = Vec::new();
    while let Ok(buf) = slab.take(4096) {
        hoard.push(buf);
    }
    let flush = bench.send(Request::Flush);
    for _ in 0..3 {
        bench.pool().housekeeping();
        bench.drive();
    }
    assert!(bench.reply(flush).is_none());
    assert!(matches!(
        bench.ask(Request::Read { piece: Piece::whole(Extent(3)) }),
        Reply::Failed(ImageError::Overloaded)
    ));
    drop(hoard);
    bench.pool().housekeeping();
    bench.drive();
    assert!(matches!(bench.reply(flush), Some(Reply::Done)));
    bench.cut_power();
    for extent in 0..20 {
        assert_eq!(bench.read(extent, 0, 1), [1; 4096]);
    }
    assert_eq!(bench.read(3, 1, 1), [2; 4096]);
}

/// A write found a slot, but its map no page: it was committed to nowhere.
#[test]
fn a_write_that_finds_no_map_page_is_refused_like_one_without_a_slot() {
    let mut bench = Bench::with(160 << 20, 1 << 20, Bytes::gib(64));
    let slots = bench.pool().usage().slots_free as u32;
    let mut written = Vec::new();
    for nth in 0..slots {
        match bench.write(nth * 126, 0, &[nth as u8 | 1; 4096]) {
            Reply::Written(_) => written.push(nth),
            Reply::Failed(ImageError::Full) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(written.len() < slots as usize, "pages run out first");
    assert_eq!(bench.pool().usage().pages_free, 0);
    bench.flush();
    assert!(matches!(bench.write(written[0] * 126 + 1, 0, &[9; 4096]), Reply::Written(_)), "its page is there");
    bench.cut_power();
    for nth in written {
        assert_eq!(bench.read(nth * 126, 0, 1), [nth as u8 | 1; 4096]);
    }
}

/// A reserved write to an extent that had a slot found it given up by an unmap of other blocks.
#[test]
fn a_reservation_keeps_the_slot_of_its_extent() {
    let mut bench = Bench::with(8 << 20, 1 << 20, Bytes::gib(1));
    let slots = bench.pool().usage().slots_free as u32;
    for extent in 0..slots {
        bench.write(extent, 0, &[1; 4096]);
    }
    assert!(matches!(bench.write(slots, 0, &[1; 4096]), Reply::Failed(ImageError::Full)));
    let piece = Piece::new(Extent(2), 5, 1).unwrap();
    assert!(matches!(bench.ask(Request::Reserve { piece }), Reply::Done));
    bench.unmap(Piece::new(Extent(2), 0, 1).unwrap());
    bench.flush();
    assert!(matches!(
        bench.ask(Request::Reserve { piece: Piece::whole(Extent(slots)) }),
        Reply::Failed(ImageError::Full)
    ));
    let mut write = bench.write_of(2, 5, &[7; 4096]);
    write.space = dyad_contract::image::Space::Reserved;
    assert!(matches!(bench.ask(Request::Write(write)), Reply::Written(_)));
    assert_eq!(bench.read(2, 5, 1), [7; 4096]);
}

/// A damaged pool was formatted over without a word.
#[test]
fn a_disk_that_may_hold_a_pool_is_formatted_only_on_demand() {
    let mut bench = Bench::new();
    bench.stop();
    bench.crash_only();
    bench.disk.rot(100, 8);
    bench.disk.rot((64 << 10) + 100, 8);
    let mut config = FormatConfig {
        pool: dyad_units::PoolId::from_bytes([9; 16]),
        disk: dyad_units::DiskId::from_bytes([9; 16]),
        node: dyad_units::NodeId::from_bytes([9; 16]),
        overwrite: false,
    };
    let refused = dyad_pool::Pool::format(&mut bench.disk, &config);
    assert!(matches!(refused, Err(dyad_pool::FormatError::Doubtful(_))), "{refused:?}");
    config.overwrite = true;
    dyad_pool::Pool::format(&mut bench.disk, &config).unwrap();
}

/// P15: an owner that holds credits and writes nothing gives them back; what it gives back in an epoch that is over is not
/// taken from the owner of now.
#[test]
fn credits_that_are_given_back_are_there_for_others() {
    let mut bench = Bench::with(8 << 20, 1 << 20, Bytes::gib(1));
    let slots = bench.pool().usage().slots_free as u32;
    let epoch = Epoch::new(2);
    let record = bench.slab.copy_of(b"record").unwrap().into();
    assert!(matches!(bench.ask(Request::Record { epoch, record }), Reply::Done));
    let piece = Piece::whole(Extent(0));
    let all = |bench: &mut Bench| bench.ask(Request::Grant { credits: slots });
    assert!(matches!(all(&mut bench), Reply::Granted(granted) if granted == slots));
    assert!(matches!(bench.ask(Request::Reserve { piece }), Reply::Failed(ImageError::Full)));
    assert!(matches!(bench.ask(Request::GiveBack { epoch: Epoch::new(1) }), Reply::Done));
    assert!(matches!(bench.ask(Request::Reserve { piece }), Reply::Failed(ImageError::Full)));
    for _ in 0..2 {
        assert!(matches!(bench.ask(Request::GiveBack { epoch }), Reply::Done));
    }
    assert!(matches!(bench.ask(Request::Reserve { piece }), Reply::Done));
    assert!(matches!(all(&mut bench), Reply::Granted(granted) if granted == slots - 1));
    let is_void = |bench: &mut Bench, epoch, left| {
        assert!(matches!(bench.ask(Request::GiveBack { epoch }), Reply::Done));
        assert!(matches!(all(bench), Reply::Granted(granted) if granted == left), "{epoch:?}");
    };
    is_void(&mut bench, epoch, slots - 1);
    is_void(&mut bench, Epoch::new(3), slots); // out of the set
}

/// Broke once: an owner whose connection broke asks again for what was not answered, and a reservation that was made, but
/// not heard of, was made a second time: one slot less for everybody until the next epoch.
#[test]
fn a_reservation_that_is_asked_for_again_holds_one_slot() {
    let mut bench = Bench::with(8 << 20, 1 << 20, Bytes::gib(1));
    let slots = bench.pool().usage().slots_free as u32;
    for extent in 0..slots - 2 {
        bench.write(extent, 0, &[1; 4096]);
    }
    let piece = Piece::new(Extent(slots), 5, 1).unwrap();
    let other = Piece::new(Extent(slots), 9, 1).unwrap();
    for piece in [piece, piece, piece, other, other] {
        assert!(matches!(bench.ask(Request::Reserve { piece }), Reply::Done), "{piece:?}");
    }
    let third = Piece::whole(Extent(slots + 1));
    assert!(matches!(bench.ask(Request::Reserve { piece: third }), Reply::Failed(ImageError::Full)));
    // The write comes in whichever order: the promise that is left is for the one that did not.
    let mut write = bench.write_of(slots, 5, &[7; 4096]);
    write.space = dyad_contract::image::Space::Reserved;
    assert!(matches!(bench.ask(Request::Write(write)), Reply::Written(_)));
    assert!(matches!(bench.ask(Request::Reserve { piece: other }), Reply::Done));
    assert!(matches!(bench.ask(Request::Release { piece: other }), Reply::Done));
    assert!(matches!(bench.ask(Request::Reserve { piece: third }), Reply::Done), "nothing holds the last slot");
}

/// The slot of a write that was under way when a flush committed its extent was kept for ever after a loss of power: the
/// extent reads as zeros at every image, so nobody unmapped it, and of two pools of one size one stayed full (P15; cluster
/// seed 2800006238).
#[test]
fn a_slot_whose_data_never_came_is_free_after_a_crash() {
    for is_power in [true, false] {
        let mut bench = Bench::new();
        bench.write(1, 0, &[1; 4096]);
        bench.flush();
        let free = bench.pool().usage().slots_free;
        bench.holds = Some(|op| matches!(op, DiskOp::Write { data, .. } if data.slices()[0][0] == 0x51));
        bench.send_write(2, 0, &[0x51; 4096]);
        bench.flush();
        assert_eq!(bench.pool().usage().slots_free, free - 1);
        bench.holds = None;
        if is_power {
            bench.cut_power();
        } else {
            // The recent log names the write: another image may have it.
            bench.crash();
            let stamp = bench.stamp;
            assert!(matches!(bench.ask(Request::Settled { extent: Extent(2), stamp }), Reply::Done));
            bench.flush();
        }
        assert_eq!(bench.pool().usage().slots_free, free, "after a loss of power: {is_power}");
        assert_eq!(bench.read(2, 0, 1), [0; 4096]);
    }
}
