//! A disk that fails: who is told what, and what is known afterwards (P11, P12).

use dyad_contract::image::{BlockState, ImageError, Reply, Request};
use dyad_pool::{AdminReply, AdminToken, DiskOp};
use dyad_units::{Epoch, Extent, Piece};

use crate::cast::{Bench, is_journal, is_sync, is_write};

fn is_lost(reply: Reply, extent: u32) -> bool {
    matches!(reply, Reply::Failed(ImageError::Lost { extent: Extent(lost) }) if lost == extent)
}

/// Everything that waits anywhere gets one answer, and nothing is answered as done after the first error.
#[test]
fn after_the_first_error_every_request_fails_once() {
    let fails: [fn(&DiskOp) -> bool; 3] = [is_write, is_sync, is_journal];
    for (at, fails) in fails.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.write(1, 0, &[1; 4096]);
        bench.holds = Some(|_| true);
        let payload = bench.slab.copy_of(b"record").unwrap().into();
        let mut tokens = vec![
            bench.send(Request::Flush),
            bench.send_write(1, 1, &[2; 4096]),
            bench.send_write(200, 0, &[2; 4096]),
            bench.send(Request::Close { interval: bench.stamp.interval }),
            bench.send(Request::Closed { stamp: bench.stamp }),
            bench.send(Request::Record { epoch: Epoch::new(1), record: payload }),
            bench.send(Request::Flush),
        ];
        bench.pool().stop(AdminToken(5));
        bench.fails = Some(fails);
        bench.let_go();
        tokens.push(bench.send_write(1, 2, &[3; 4096]));
        tokens.push(bench.send(Request::Flush));
        assert!(bench.pool().usage().poisoned, "case {at}");
        let mut failed = false;
        for token in tokens {
            let reply = bench.reply(token).expect("one answer each");
            failed |= matches!(reply, Reply::Failed(ImageError::Poisoned));
            assert!(failed || matches!(reply, Reply::Written(_) | Reply::Done), "case {at}: {reply:?}");
        }
        assert!(bench.replies.iter().all(|(_, reply)| matches!(reply, Reply::Granted(_))), "{:?}", bench.replies);
        assert!(matches!(bench.administered(), AdminReply::Failed(_)));
        assert_eq!(bench.pool().usage().requests, 0);
    }
}

/// P12: data that was never committed read as "never written" after a restart of the machine.
#[test]
fn what_was_lost_before_it_was_ever_committed_does_not_read_as_unwritten() {
    let mut bench = Bench::new();
    bench.write(1, 0, &[1; 4096]);
    bench.flush();
    bench.write(300, 5, &[2; 4096]);
    bench.write(1, 3, &[2; 4096]);
    bench.fails = Some(is_sync);
    assert!(matches!(bench.ask(Request::Flush), Reply::Failed(ImageError::Poisoned)));
    let read = |extent| Request::Read { piece: Piece::new(Extent(extent), 5, 1).unwrap() };
    assert!(is_lost(bench.ask(read(300)), 300));
    for restart in [Bench::cut_power, Bench::crash] {
        restart(&mut bench);
        assert!(is_lost(bench.ask(read(300)), 300) && is_lost(bench.ask(read(1)), 1));
        assert_eq!(bench.survey().lost, [Extent(1), Extent(300)]);
    }
}

/// A whole extent that is written anew is no longer lost, and that is durable.
#[test]
fn a_lost_extent_is_healed_by_a_whole_write() {
    let mut bench = Bench::new();
    bench.write(7, 0, &[1; 4096]);
    bench.fails = Some(is_sync);
    bench.ask(Request::Flush);
    bench.cut_power();
    assert_eq!(bench.survey().lost, [Extent(7)]);
    bench.write(7, 1, &[2; 4096]);
    assert_eq!(bench.survey().lost, [Extent(7)], "a part of it heals nothing");
    bench.write(7, 0, &[3; 64 * 4096]);
    bench.flush();
    bench.cut_power();
    assert!(bench.survey().lost.is_empty());
    assert_eq!(bench.read(7, 9, 1), [3; 4096]);
}

/// The flags of what was lost were appended behind the record that failed: a whole record beyond a torn one, and the pool
/// was refused for ever.
#[test]
fn a_failed_commit_does_not_cost_the_pool() {
    for restart in [Bench::cut_power, Bench::crash] {
        let mut bench = Bench::new();
        bench.write(1, 0, &[1; 4096]);
        bench.flush();
        bench.write(2, 0, &[1; 4096]);
        bench.fails = Some(is_journal);
        assert!(matches!(bench.ask(Request::Flush), Reply::Failed(ImageError::Poisoned)));
        restart(&mut bench);
        assert_eq!(bench.read(1, 0, 1), [1; 4096], "flushed and answered before the disk failed");
    }
}

/// c5: after a restart of the process, what L names and the disk itself holds is not lost.
#[test]
fn what_was_flushed_before_the_failure_is_not_lost() {
    let mut bench = Bench::new();
    bench.write(1, 0, &[1; 4096]);
    bench.holds = Some(is_write);
    bench.send_write(2, 0, &[2; 4096]);
    bench.holds = Some(|op| matches!(op, DiskOp::Write { data, .. } if data.len() == 4096 && data.slices()[0][0] == 2));
    let flush = bench.send(Request::Flush);
    assert!(matches!(bench.reply(flush), Some(Reply::Done)));
    bench.fails = Some(is_write);
    bench.let_go();
    bench.crash();
    assert!(bench.report.was_poisoned);
    assert_eq!(bench.read(1, 0, 1), [1; 4096]);
    let Reply::Examined(examined) = bench.ask(Request::Examine { extent: Extent(2) }) else { panic!("not examined") };
    assert_eq!(examined.blocks[0], BlockState::Unreadable);
}

/// c14: a lost extent that was written anew as a whole, and unmapped in part after that, was lost again after a crash.
#[test]
fn a_healed_extent_stays_healed_whatever_follows() {
    let mut bench = Bench::new();
    bench.write(7, 0, &[1; 4096]);
    bench.fails = Some(is_sync);
    bench.ask(Request::Flush);
    bench.cut_power();
    bench.write(7, 0, &[3; 64 * 4096]);
    bench.unmap(Piece::new(Extent(7), 4, 10).unwrap());
    bench.write(7, 6, &[4; 4096]);
    bench.holds = Some(is_write);
    bench.send_write(7, 20, &[5; 4096]);
    bench.crash();
    assert!(bench.survey().lost.is_empty());
    assert_eq!(bench.read(7, 3, 4), [[3; 4096], [0; 4096], [0; 4096], [4; 4096]].concat());
    assert_eq!(bench.read(7, 20, 1), [3; 4096]);
}

/// A whole write that was still on its way heals nothing.
#[test]
fn a_whole_write_that_never_came_heals_nothing() {
    let mut bench = Bench::new();
    bench.write(7, 0, &[1; 4096]);
    bench.fails = Some(is_sync);
    bench.ask(Request::Flush);
    bench.cut_power();
    bench.write(7, 0, &[2; 4096]);
    bench.holds = Some(is_write);
    bench.send_write(7, 0, &[3; 64 * 4096]);
    bench.crash();
    assert_eq!(bench.survey().lost, [Extent(7)]);
}
