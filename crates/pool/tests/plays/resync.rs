//! An image that catches up: what changed, what was copied, how far it came (M13 to M15, P9, P12).

use dyad_contract::image::{BlockState, CHANGED_MAX, Changed, ImageError, Reply, Request, Space, Unmap, Write};
use dyad_units::{Epoch, Extent, Interval, Piece, Region, STATE_EXTENT, Stamp, WriteNumber};

use crate::cast::{Bench, is_sync, stamp};

fn changed(bench: &mut Bench, after: Stamp, from: Extent) -> Changed {
    match bench.ask(Request::Changed { after, from }) {
        Reply::Changed(changed) => *changed,
        other => panic!("{other:?}"),
    }
}

fn needed(bench: &mut Bench, after: Stamp) -> Vec<(u32, Stamp)> {
    let found = changed(bench, after, Extent(0));
    assert_eq!(found.next, None);
    found.extents.into_iter().map(|(extent, stamp)| (extent.0, stamp)).collect()
}

fn mend(bench: &mut Bench, extent: u32, first: u8, bytes: &[u8], stamp: Stamp) {
    let piece = Piece::new(Extent(extent), first, (bytes.len() / 4096) as u8).unwrap();
    assert!(matches!(bench.ask(Request::Reserve { piece }), Reply::Done));
    let write = Write { stamp, space: Space::Reserved, ..bench.write_of(extent, first, bytes) };
    assert!(matches!(bench.ask(Request::Mend(write)), Reply::Written(_)));
}

fn copied(bench: &mut Bench, extent: u32, stamp: Stamp) -> Reply {
    bench.ask(Request::Copied { extent: Extent(extent), stamp })
}

fn done(reply: &Reply) {
    assert!(matches!(reply, Reply::Done), "{reply:?}");
}

fn progress(bench: &mut Bench, cursor: Option<u32>, complete: Stamp) {
    done(&bench.ask(Request::Progress { cursor: cursor.map(Extent), complete }));
}

fn marked(bench: &mut Bench) -> u64 {
    bench.pool().usage().regions_marked
}

fn write_as(bench: &mut Bench, at: Stamp, extent: u32, byte: u8) {
    bench.stamp = at;
    assert!(matches!(bench.write(extent, 0, &[byte; 4096]), Reply::Written(_)));
}

/// M13: in order, tombstones included (P9), the state last (M20), nothing that is older.
#[test]
fn what_changed_is_told_in_order_with_tombstones_and_the_state_last() {
    let mut bench = Bench::new();
    for (extent, interval) in [(7, 1), (STATE_EXTENT.0, 3), (300, 2), (2, 3), (4000, 3)] {
        write_as(&mut bench, stamp(interval), extent, 1);
    }
    bench.stamp = stamp(4);
    assert!(matches!(bench.unmap(Piece::whole(Extent(300))), Reply::Written(_)));
    let all = [(2, stamp(3)), (7, stamp(1)), (300, stamp(4)), (4000, stamp(3)), (STATE_EXTENT.0, stamp(3))];
    assert_eq!(needed(&mut bench, Stamp::NEVER), all);
    assert_eq!(needed(&mut bench, stamp(1)), [all[0], all[2], all[3], all[4]]);
    assert_eq!(needed(&mut bench, stamp(3)), [all[2]]);
    assert_eq!(changed(&mut bench, Stamp::NEVER, Extent(301)).extents.len(), 2);
    assert_eq!(changed(&mut bench, Stamp::NEVER, STATE_EXTENT).extents, [(STATE_EXTENT, stamp(3))]);
    bench.flush();
    bench.stop();
    bench.open().unwrap();
    assert_eq!(needed(&mut bench, Stamp::NEVER), all, "a tombstone outlives the process (P9)");
}

#[test]
fn what_changed_comes_in_parts_that_add_up() {
    let mut bench = Bench::with(64 << 20, 1 << 20, dyad_units::Bytes::gib(64));
    let extents: Vec<u32> = (0..CHANGED_MAX as u32 + 40).map(|nth| nth * 7).collect();
    for &extent in &extents {
        done(&copied(&mut bench, extent, stamp(3)));
    }
    let (mut found, mut from) = (Vec::new(), Some(Extent(0)));
    while let Some(start) = from {
        let part = changed(&mut bench, stamp(2), start);
        assert!(part.extents.len() <= CHANGED_MAX);
        found.extend(part.extents.iter().map(|(extent, _)| extent.0));
        from = part.next;
    }
    assert_eq!(found, extents);
}

/// M13: the state is told (M20), however many leaves there are before it: an answer may end between them and it.
#[test]
fn the_state_is_told_after_as_many_leaves_as_one_answer_looks_at() {
    let mut bench = Bench::with(1 << 30, 1 << 20, dyad_units::Bytes::gib(64));
    for leaf in 0..1024 {
        done(&copied(&mut bench, leaf * 126, stamp(1)));
    }
    write_as(&mut bench, stamp(3), STATE_EXTENT.0, 1);
    let part = changed(&mut bench, stamp(2), Extent(0));
    assert!(part.extents.is_empty());
    let next = part.next.expect("there is more");
    assert!(next.0 > 1024 * 126 && next <= STATE_EXTENT, "{next:?}");
    assert_eq!(changed(&mut bench, stamp(2), next).extents, [(STATE_EXTENT, stamp(3))]);
}

/// M1: only resync lowers a stamp. P2: not before what it stands for is durable.
#[test]
fn a_copied_extent_has_exactly_the_sources_stamp_once_its_data_is_durable() {
    let low = Stamp::new(Epoch::new(1), Interval::new(2));
    let mut bench = Bench::new();
    write_as(&mut bench, stamp(9), 5, 1);
    bench.close();
    mend(&mut bench, 5, 0, &[2; 4096], low);
    done(&copied(&mut bench, 5, low));
    assert_eq!(needed(&mut bench, Stamp::NEVER), [(5, low)]);

    bench.crash();
    assert_eq!(needed(&mut bench, Stamp::NEVER), [(5, stamp(9))], "the copy was not durable: it is needed again");
    assert_eq!(bench.read(5, 0, 1), [2; 4096]);
    done(&copied(&mut bench, 5, low));
    bench.cut_power();
    assert_eq!(needed(&mut bench, Stamp::NEVER), [(5, Stamp::NEWEST)], "marked, so nobody knows");
    mend(&mut bench, 5, 0, &[2; 4096], low);
    done(&copied(&mut bench, 5, low));
    done(&bench.ask(Request::Close { interval: Interval::new(10) }));
    progress(&mut bench, Some(6), stamp(10));
    bench.cut_power();
    assert_eq!(needed(&mut bench, Stamp::NEVER), [(5, low)]);
    assert_eq!(bench.read(5, 0, 1), [2; 4096]);
}

/// A checkpoint writes pages at any time: a stamp that was lowered must not get there before the data.
#[test]
fn a_checkpoint_does_not_take_a_lowered_stamp_ahead_of_its_data() {
    let mut bench = Bench::new();
    write_as(&mut bench, stamp(9), 5, 1);
    bench.close();
    mend(&mut bench, 5, 0, &[2; 4096], stamp(2));
    done(&copied(&mut bench, 5, stamp(2)));
    // Journal records make a checkpoint, nobody flushes.
    for _ in 0..600 {
        let record = dyad_payload::Payload::from(bench.slab.copy_of(&[7; 3000]).unwrap());
        done(&bench.ask(Request::Record { epoch: Epoch::new(1), record }));
    }
    assert!(bench.pool().counters().checkpoints > 0);
    bench.crash_only();
    bench.disk.cut_power();
    // Even if L were still there, it would only raise the stamp.
    bench.open().unwrap();
    assert_eq!(needed(&mut bench, stamp(8)), [(5, stamp(9))]);
}

/// P9: whoever resyncs from this image later has to learn of the unmap.
#[test]
fn a_tombstone_is_copied_to_an_image_that_never_had_the_extent() {
    let mut bench = Bench::new();
    done(&copied(&mut bench, 40, stamp(6)));
    done(&copied(&mut bench, 41, Stamp::NEVER));
    bench.flush();
    bench.cut_power();
    assert_eq!(needed(&mut bench, Stamp::NEVER), [(40, stamp(6))]);
    assert_eq!(bench.read(40, 0, 1), [0; 4096]);
}

/// M13: an extent that the source never had leaves nothing behind.
#[test]
fn an_extent_that_the_source_never_had_becomes_absent() {
    let mut bench = Bench::new();
    write_as(&mut bench, stamp(3), 8, 1);
    let piece = Piece::whole(Extent(8));
    let (number, settled) = (WriteNumber::new(9), WriteNumber::new(9));
    let unmap = Unmap { piece, stamp: Stamp::new(Epoch::new(1), Interval::new(0)), number, settled };
    assert!(matches!(bench.ask(Request::MendUnmap(unmap)), Reply::Written(_)));
    done(&copied(&mut bench, 8, Stamp::NEVER));
    assert_eq!(needed(&mut bench, Stamp::NEVER), []);
    bench.flush();
    bench.crash();
    assert_eq!(bench.pool().usage().slots_free, bench.pool().usage().slots_total);
}

/// P12: lost extents are needed whatever their stamp, and are whole again when they were copied.
#[test]
fn a_lost_extent_is_needed_until_it_was_copied() {
    let mut bench = Bench::new();
    write_as(&mut bench, stamp(3), 8, 1);
    bench.flush();
    bench.write(8, 1, &[1; 4096]);
    bench.fails = Some(is_sync);
    let flush = bench.send(Request::Flush);
    assert!(matches!(bench.reply(flush), Some(Reply::Failed(ImageError::Poisoned))));
    bench.crash_only();
    bench.disk.cut_power();
    bench.open().unwrap();
    assert_eq!(bench.survey().lost, [Extent(8)]);
    assert_eq!(needed(&mut bench, stamp(7)).len(), 1, "whatever its stamp");
    mend(&mut bench, 8, 0, &[4; 8192], stamp(3));
    done(&copied(&mut bench, 8, stamp(3)));
    assert_eq!(bench.read(8, 0, 2), [4; 8192]);
    assert!(bench.survey().lost.is_empty());
    bench.crash();
    assert_eq!(bench.survey().lost, [Extent(8)], "not durable so far: needed again");
    done(&copied(&mut bench, 8, stamp(3)));
    progress(&mut bench, Some(9), stamp(7));
    bench.crash();
    assert!(bench.survey().lost.is_empty());
}

/// M15: the cursor outlives power and process, and stands for data that does too.
#[test]
fn progress_is_kept_only_after_what_it_stands_for() {
    let mut bench = Bench::new();
    mend(&mut bench, 3, 0, &[3; 4096], stamp(2));
    done(&copied(&mut bench, 3, stamp(2)));
    bench.holds = Some(is_sync);
    let asked = bench.send(Request::Progress { cursor: Some(Extent(4)), complete: stamp(5) });
    assert!(bench.reply(asked).is_none());
    let record = dyad_payload::Payload::from(bench.slab.copy_of(&[7; 30]).unwrap());
    done(&bench.ask(Request::Record { epoch: Epoch::new(2), record }));
    let mut early = bench;
    early.cut_power();
    assert_eq!(early.survey().progress, None, "the record went by while the data was not durable");

    let second = Stamp::new(Epoch::new(2), Interval::new(1));
    mend(&mut early, 3, 0, &[3; 4096], second);
    done(&copied(&mut early, 3, stamp(2)));
    let complete = Stamp::new(Epoch::new(2), Interval::new(2));
    progress(&mut early, Some(4), complete);
    early.cut_power();
    assert_eq!(early.survey().progress, Some((Extent(4), complete)));
    assert_eq!(early.read(3, 0, 1), [3; 4096]);
    assert_eq!(needed(&mut early, complete), [], "nothing is marked below the cursor any more");
    progress(&mut early, None, complete);
    early.crash();
    assert_eq!(early.survey().progress, None);
}

/// P5, M14: a mend carries the source's old stamp, but its region is quiet only when it was flushed.
#[test]
fn a_region_that_was_just_mended_keeps_its_mark() {
    let mut bench = Bench::new();
    mend(&mut bench, 3, 0, &[3; 4096], stamp(1));
    done(&copied(&mut bench, 3, stamp(1)));
    done(&bench.ask(Request::Close { interval: Interval::new(20) }));
    bench.holds = Some(is_sync);
    let asked = bench.send(Request::Progress { cursor: Some(Extent(4)), complete: stamp(20) });
    mend(&mut bench, 40, 0, &[4; 4096], stamp(1));
    done(&copied(&mut bench, 40, stamp(1)));
    bench.let_go();
    assert!(bench.reply(asked).is_some());
    assert_eq!(marked(&mut bench), 1, "the first is quiet, the second missed the flush");
    done(&bench.ask(Request::Close { interval: Interval::new(21) }));
    progress(&mut bench, Some(41), stamp(21));
    assert_eq!(marked(&mut bench), 0);
}

/// M11, M16: an image that forgot is whole when everything was copied. Broke once (simulator, seed 185): it had joined, and
/// still showed at the next claim that it lacked something, so that an image that really forgot counted as much as it did,
/// and older blocks overwrote acknowledged ones.
#[test]
fn an_image_that_forgot_has_nothing_suspect_left_when_it_is_complete() {
    let mut bench = Bench::new();
    write_as(&mut bench, stamp(1), 1, 1);
    bench.write(2, 0, &[1; 4096]);
    bench.flush();
    bench.cut_power();
    assert_eq!(bench.survey().marked, [Region(0)]);
    assert_eq!(needed(&mut bench, stamp(9)), [(1, Stamp::NEWEST), (2, Stamp::NEWEST)]);
    let Reply::Examined(found) = bench.ask(Request::Examine { extent: Extent(1) }) else { panic!("not examined") };
    assert!(matches!(found.blocks[0], BlockState::Verified(_)));
    done(&copied(&mut bench, 1, stamp(1)));
    progress(&mut bench, Some(2), stamp(1));
    bench.crash();
    assert_eq!(needed(&mut bench, stamp(9)).len(), 2, "the region is suspect until all of it was copied");
    done(&copied(&mut bench, 1, stamp(1)));
    done(&copied(&mut bench, 2, stamp(1)));
    progress(&mut bench, None, stamp(12));
    assert!(bench.survey().lived_through, "M16: it has everything now");
    bench.crash();
    let survey = bench.survey();
    assert!(survey.lived_through && survey.marked.is_empty());
    assert_eq!(needed(&mut bench, stamp(9)), []);
}
