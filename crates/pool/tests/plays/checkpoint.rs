//! Checkpoints beside commits in flight, and a journal that is full.

use dyad_contract::image::{Reply, Request};
use dyad_units::Bytes;

use crate::cast::{Bench, is_journal, is_sync};

/// A page was taken for a checkpoint as soon as a change of it was on its way to the journal. Written without that change it
/// counted as done; the next checkpoint cut the journal, and the committed entry was gone.
#[test]
fn a_commit_in_flight_while_a_checkpoint_begins_is_not_lost() {
    let mut bench = Bench::with(32 << 20, 1 << 20, Bytes::gib(1));
    let mut written = Vec::new();
    for round in 0..600_u32 {
        let (extent, block) = (round / 64 * 130, (round % 64) as u8);
        bench.write(extent, block, &[round as u8 | 1; 4096]);
        written.push((extent, block, round as u8 | 1));
        bench.holds = Some(is_journal);
        let flush = bench.send(Request::Flush);
        bench.pool().housekeeping();
        bench.drive();
        assert!(bench.reply(flush).is_none(), "not before the commit (P2)");
        bench.let_go();
        assert!(matches!(bench.reply(flush), Some(Reply::Done)));
    }
    assert!(bench.pool().counters().checkpoints >= 3);
    bench.cut_power();
    for (extent, block, byte) in written {
        assert_eq!(bench.read(extent, block, 1), [byte; 4096], "extent {extent} block {block}");
    }
}

/// A round waited for room in the journal, and the checkpoint that would have made room waited for a round.
#[test]
fn a_full_journal_frees_itself_while_a_flush_waits_for_it() {
    let mut bench = Bench::with(64 << 20, 1 << 20, Bytes::gib(16));
    bench.write(0, 0, &[1; 4096]);
    bench.holds = Some(is_sync);
    let flush = bench.send(Request::Flush);
    let mut waiting = Vec::new();
    // A mark and a map page each.
    for leaf in 1..180_u32 {
        waiting.push(bench.send_write(leaf * 126, 0, &[2; 4096]));
    }
    let answered = waiting.iter().filter(|&&token| bench.replies.iter().any(|(of, _)| *of == token)).count();
    assert!(answered < waiting.len(), "the journal is full of marks");
    let second = bench.send(Request::Flush);
    bench.let_go();
    assert!(matches!(bench.reply(flush), Some(Reply::Done)));
    assert!(matches!(bench.reply(second), Some(Reply::Done)));
    for token in waiting {
        assert!(matches!(bench.reply(token), Some(Reply::Written(_))));
    }
    bench.flush();
    bench.cut_power();
    assert_eq!(bench.read(179 * 126, 0, 1), [2; 4096]);
}

/// What a checkpoint wrote is there twice: either home of every page may rot.
#[test]
fn one_home_of_every_page_may_rot_after_a_checkpoint() {
    for home in 0..2 {
        let mut bench = Bench::with(32 << 20, 1 << 20, Bytes::gib(1));
        for extent in 0..20 {
            bench.write(extent * 130, 3, &[7; 4096]);
        }
        bench.stop();
        bench.crash_only();
        let pages = bench.disk.find(b"DyPg");
        let (one, other) = pages.split_at(pages.len() / 2);
        assert_eq!(one.len(), other.len(), "each page has two homes");
        for &at in [one, other][home] {
            bench.disk.rot(at, 4096);
        }
        bench.open().unwrap();
        for extent in 0..20 {
            assert_eq!(bench.read(extent * 130, 3, 1), [7; 4096]);
        }
    }
}
