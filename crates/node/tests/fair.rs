//! Sessions without a limit share a node: one with a long queue of large writes does not keep out one that sends a command at
//! a time, at its volume or at another. Counted in answers, not in time.

mod cast;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cast::Stage;
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Options, Session, Transfer, cdb};

/// Writes that the one keeps in flight, of a mebibyte each.
const DEPTH: u64 = 64;
/// Commands of the other.
const ROUNDS: u64 = 100;
/// Answers of the one for each of the other, on the average: a turn of the reactor takes a mebibyte of each connection. An
/// eighth of what is in flight, since this thread may have to wait for a processor as well; by turns it is one or two.
const SHARE: u64 = DEPTH / 8;
/// The one ends after so many, for the other may not get on at all.
const ANSWERS_MAX: u64 = 4 * ROUNDS * SHARE;

/// Writes all the time, and counts what is answered.
fn write_on(session: &mut Session, answered: &AtomicU64, is_over: &AtomicBool) {
    let submit = |session: &mut Session, at: u64| {
        let lba = at % 60 * 2048;
        session.submit(at, cdb::write(lba, 2048), Transfer::Out(vec![at as u8; 1 << 20])).unwrap();
    };
    (0..DEPTH).for_each(|at| submit(session, at));
    let mut next = DEPTH;
    while session.in_flight() > 0 {
        assert_eq!(session.wait().unwrap().status, 0);
        let so_far = answered.fetch_add(1, Ordering::Relaxed);
        if so_far < ANSWERS_MAX && !is_over.load(Ordering::Relaxed) {
            submit(session, next);
            next += 1;
        }
    }
}

/// Answers that the one gets while the other waits for its own.
fn while_waiting(host: &mut Disk, answered: &AtomicU64) -> u64 {
    (0..ROUNDS)
        .map(|round| {
            let before = answered.load(Ordering::Relaxed);
            match round % 2 {
                0 => host.write(62 * 2048, vec![round as u8; 4096]).unwrap(),
                _ => assert_eq!(host.read(62 * 2048, 8).unwrap(), vec![round as u8 - 1; 4096]),
            }
            answered.load(Ordering::Relaxed) - before
        })
        .sum()
}

#[test]
fn a_deep_queue_of_large_writes_does_not_keep_others_out() {
    let stage = Stage::new();
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    stage.add_volume("w", &["a"]);
    let mut deep = Session::login(&Options { session: 2, ..stage.login("v") }).unwrap();
    deep.call(cdb::test_unit_ready(), Transfer::None).unwrap();
    let mut hosts = [stage.host("v"), stage.host("w")];
    let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| write_on(&mut deep, &answered, &is_over));
        cast::pair::wait_until("the queue is full", || answered.load(Ordering::Relaxed) > DEPTH);
        let seen = hosts.each_mut().map(|host| while_waiting(host, &answered));
        is_over.store(true, Ordering::Relaxed);
        seen
    });
    for all in seen {
        assert!(all <= ROUNDS * SHARE, "{seen:?} for {ROUNDS}");
    }
}
