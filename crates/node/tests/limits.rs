//! Limits of volumes: kept, shared fairly, felt by nobody else, and no reason to wait for whoever gives up.

mod cast;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cast::{Ends, Stage};
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{
    ABORT_TASK, ABORT_TASK_SET, LOGICAL_UNIT_RESET, Options, Session, TmfOutcome, Transfer, cdb,
};
use dyad_cluster::Limits;

const IOPS: u32 = 200;
const BURST_SECS: u16 = 1;
/// Commands that a line must not be served within, if a limit has any effect: 32 at 10 per second take 3 s.
const LINE_TIME: Duration = Duration::from_secs(2);

fn stage() -> Stage {
    let stage = Stage::new();
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    stage
}

fn limits(iops: u32, bandwidth: u64, burst: u16) -> Limits {
    Limits::new(iops, bandwidth, burst).unwrap()
}

/// A session that learned of the power on.
fn session(stage: &Stage, volume: &str, number: u32) -> Session {
    let options = Options { session: number, ..stage.login(volume) };
    let mut session = Session::login(&options).unwrap();
    session.call(cdb::test_unit_ready(), Transfer::None).unwrap();
    session
}

/// Reads with this many commands in flight until told to stop; how many were done.
fn read_until(session: &mut Session, depth: usize, blocks: u32, mut is_over: impl FnMut(u64) -> bool) -> u64 {
    let bytes = blocks as usize * 512;
    let mut done = 0;
    while !is_over(done) {
        while session.in_flight() < depth {
            session.submit(0, cdb::read(0, blocks), Transfer::In(vec![0; bytes])).unwrap();
        }
        let completion = session.wait().unwrap();
        assert_eq!(completion.status, 0, "{:?}", completion.sense_codes());
        done += 1;
    }
    while session.in_flight() > 0 {
        session.wait().unwrap();
    }
    done
}

/// By counting: what was saved up is used up first, then no more goes on than the time that passed allows. (That it is hardly
/// less is not said here: a busy machine may let nobody run for a while.)
#[test]
fn a_limit_is_kept_and_another_volume_feels_nothing() {
    let stage = stage();
    stage.add_volume("w", &["a"]);
    stage.handle().limit_volume("v", limits(IOPS, 0, BURST_SECS)).unwrap();
    let (mut limited, mut free) = (session(&stage, "v", 1), session(&stage, "w", 2));
    let saved = u64::from(IOPS) * u64::from(BURST_SECS);
    read_until(&mut limited, 16, 8, |done| done >= saved + 40);
    let is_over = AtomicBool::new(false);
    let (begun, mut elapsed) = (Instant::now(), Duration::ZERO);
    let (count, others) = std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        let others = scope.spawn(|| read_until(&mut free, 1, 8, |_| is_over.load(Ordering::Relaxed)));
        let count = read_until(&mut limited, 16, 8, |_| {
            elapsed = begun.elapsed();
            elapsed > Duration::from_secs(3)
        });
        drop(ends);
        (count as f64, others.join().unwrap() as f64)
    });
    let allowed = f64::from(IOPS) * elapsed.as_secs_f64();
    assert!((0.5 * allowed..1.1 * allowed).contains(&count), "{count} of {allowed}");
    assert!(others > 2.0 * count, "{others} beside {count}");
}

#[test]
fn bytes_are_limited_and_sessions_get_the_same() {
    let stage = stage();
    stage.handle().limit_volume("v", limits(0, 16 << 20, 1)).unwrap();
    let (mut greedy, mut modest) = (session(&stage, "v", 1), session(&stage, "v", 2));
    read_until(&mut greedy, 8, 512, |done| done >= 68); // what was saved up
    let is_over = AtomicBool::new(false);
    let (begun, mut elapsed) = (Instant::now(), Duration::ZERO);
    let (greedy, modest) = std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        // 256 KiB each, 16 in flight; 64 KiB each, 4 in flight.
        let greedy = scope.spawn(|| read_until(&mut greedy, 16, 512, |_| is_over.load(Ordering::Relaxed)));
        let modest = read_until(&mut modest, 4, 128, |_| {
            elapsed = begun.elapsed();
            elapsed > Duration::from_secs(3)
        });
        drop(ends);
        (greedy.join().unwrap() as f64 * 262_144.0, modest as f64 * 65_536.0)
    });
    let allowed = f64::from(16 << 20) * elapsed.as_secs_f64();
    assert!((0.5 * allowed..1.1 * allowed + 4.3e6).contains(&(greedy + modest)), "{greedy} + {modest} of {allowed}");
    assert!(modest > 0.4 * (greedy + modest), "{modest} beside {greedy}");
}

/// M19 at the door: what waits there never takes effect once it was given up, and nobody waits for it.
#[test]
fn what_waits_is_given_up_at_once() {
    let stage = stage();
    let mut writer = Disk::open(&stage.login("v")).unwrap();
    writer.write(0, vec![1; 4096]).unwrap();
    stage.handle().limit_volume("v", limits(10, 0, 0)).unwrap();
    for (round, function) in [ABORT_TASK, ABORT_TASK_SET, LOGICAL_UNIT_RESET].into_iter().enumerate() {
        let mut session = session(&stage, "v", 10 + round as u32);
        for user in 0..32 {
            session.submit(user, cdb::read(0, 8), Transfer::In(vec![0; 4096])).unwrap();
        }
        session.submit(32, cdb::write(0, 8), Transfer::Out(vec![9; 4096])).unwrap();
        let begun = Instant::now();
        let outcome = session.manage(function, (function == ABORT_TASK).then_some(32)).unwrap();
        assert_eq!(outcome, TmfOutcome::COMPLETE);
        assert!(begun.elapsed() < LINE_TIME, "it was waited for the line");
        let begun = Instant::now();
        session.logout().unwrap();
        assert!(begun.elapsed() < LINE_TIME, "it was waited for the line");
    }
    // The limit is lifted: whoever waits goes on at once.
    let mut waiting = session(&stage, "v", 20);
    for user in 0..64 {
        waiting.submit(user, cdb::read(0, 8), Transfer::In(vec![0; 4096])).unwrap();
    }
    stage.handle().limit_volume("v", Limits::default()).unwrap();
    let begun = Instant::now();
    while waiting.in_flight() > 0 {
        assert_eq!(waiting.wait().unwrap().status, 0);
    }
    assert!(begun.elapsed() < LINE_TIME);
    let mut reader = Disk::open(&Options { session: 21, ..stage.login("v") }).unwrap();
    assert_eq!(reader.read(0, 8).unwrap(), vec![1; 4096], "what was given up took effect");
}

/// A host that sends more than it would wait for is told to send less at a time, and gets its answers all the same.
#[test]
fn a_line_of_more_than_ten_seconds_is_answered_task_set_full() {
    const TASK_SET_FULL: u8 = 0x28;
    let stage = stage();
    stage.handle().limit_volume("v", limits(10, 0, 0)).unwrap();
    let mut session = session(&stage, "v", 1);
    for user in 0..120 {
        session.submit(user, cdb::read(0, 8), Transfer::In(vec![0; 4096])).unwrap();
    }
    let full = (0..10).filter(|_| session.wait().unwrap().status == TASK_SET_FULL).count();
    assert!(full >= 5, "{full}");
}

/// What broke: a command was charged with what its host said that it expected, up to 4 GiB, before anybody looked at what it
/// reads: one of them used up the limit of all hosts for minutes.
#[test]
fn a_senseless_length_costs_no_more_than_the_longest_command() {
    const SENSELESS: usize = 1 << 30;
    let stage = stage();
    stage.handle().limit_volume("v", limits(0, 16 << 20, BURST_SECS)).unwrap();
    let (mut one, mut other) = (session(&stage, "v", 1), session(&stage, "v", 2));
    let read = one.call(cdb::read(0, 1), Transfer::In(vec![0; SENSELESS])).unwrap();
    assert_eq!((read.status, read.residual), (0, (SENSELESS - 512) as i64));
    let begun = Instant::now();
    assert_eq!(other.call(cdb::read(0, 1), Transfer::In(vec![0; 512])).unwrap().status, 0);
    // As many bytes take a minute at this limit, and 8 MiB half a second.
    assert!(begun.elapsed() < Duration::from_secs(20), "after {:?}", begun.elapsed());
}
