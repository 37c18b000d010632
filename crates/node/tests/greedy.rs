//! Hosts that hold memory and give nothing for it; others are served meanwhile.

mod cast;

use std::time::{Duration, Instant};

use cast::Stage;
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Options, Session, Transfer, cdb};
use dyad_units::Bytes;

const MIB: u64 = 1 << 20;
const TASK_SET_FULL: u8 = 0x28;

/// A stage with little memory, whose volume is written from end to end.
fn stage() -> Stage {
    let stage = Stage::with(|settings| settings.buffers = Bytes::mib(64));
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    let mut host = stage.host("v");
    (0..64).for_each(|at| host.write(at * 2048, vec![at as u8; MIB as usize]).unwrap());
    stage
}

/// A session that asks for more than there is memory, and never takes an answer.
fn one_that_never_reads(options: &Options, number: u32, len: u32) -> Session {
    let mut session = Session::login(&Options { session: number, ..options.clone() }).unwrap();
    for at in 0..100 {
        let lba = at * 1000 % 60_000;
        session.submit(at, cdb::read(lba, len / 512), Transfer::In(vec![0; len as usize])).unwrap();
    }
    session.stream().flush().unwrap();
    session
}

/// While memory is short, writes are answered TASK SET FULL: sends it again until it is taken, as hosts do, but not for longer
/// than `patience`. How long the one that was taken took.
fn write_at_last(host: &mut Disk, patience: Duration) -> Duration {
    let deadline = Instant::now() + patience;
    loop {
        let begun = Instant::now();
        let Err(error) = host.write(6 * 2048, vec![6; 64 << 10]) else { return begun.elapsed() };
        assert!(matches!(error, DiskError::Status { status: TASK_SET_FULL, .. }), "{error}");
        assert!(Instant::now() < deadline, "nobody is dropped: {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The longest that a read or a write of another host takes for a while.
fn worst_of(host: &mut Disk, time: Duration) -> Duration {
    let (begun, mut worst) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < time {
        let each = Instant::now();
        assert_eq!(host.read(5 * 2048, 512).unwrap(), vec![5; 256 << 10]);
        let read = each.elapsed();
        worst = worst.max(read + write_at_last(host, Duration::from_secs(3)));
        std::thread::sleep(Duration::from_millis(10));
    }
    worst
}

/// 16 hosts that never read filled the memory of all, for as long as a host may be silent.
#[test]
fn hosts_that_never_read_hold_little_while_another_is_served() {
    let stage = stage();
    let options = stage.login("v");
    let mut host = stage.host("v");
    let greedy: Vec<_> = (0..16).map(|number| one_that_never_reads(&options, 100 + number, 256 << 10)).collect();
    let worst = worst_of(&mut host, Duration::from_secs(2));
    assert!(worst < Duration::from_secs(1), "another host waited {worst:?}");
    let held = stage.handle().node().unwrap().buffers_held;
    assert!(held <= Bytes::mib(48), "{held} held");
    assert_eq!(stage.handle().sessions().unwrap().len(), greedy.len() + 1, "nobody has to go for it");
}

/// A read of one sector pins a page: counted by their bytes, small reads held eight times what they might.
#[test]
fn small_answers_count_as_much_as_they_hold() {
    let stage = stage();
    let options = stage.login("v");
    let greedy: Vec<_> = (0..16)
        .map(|number| {
            let mut session = Session::login(&Options { session: 100 + number, ..options.clone() }).unwrap();
            session.stream().set_patience(Duration::from_millis(200)).unwrap();
            // The window stays open while answers are queued, so there may be any number of them.
            for at in 0..20_000 {
                let asked = session.submit(at, cdb::read(at % 60_000, 1), Transfer::In(vec![0; 512]));
                if asked.is_err() {
                    break;
                }
            }
            session
        })
        .collect();
    let held = stage.handle().node().unwrap().buffers_held;
    assert!(held <= Bytes::mib(48), "{held} held by {} sessions", greedy.len());
    stage.host("v").write(0, vec![1; 4096]).unwrap();
}

/// So many of them that even little each is too much: those that stand still go, and soon. Broke once: sessions were dropped
/// until memory was just below the bound, and every write, whose own data was above it, refused for many seconds more.
#[test]
fn a_crowd_of_hosts_that_never_read_is_dropped_for_the_others() {
    let stage = stage();
    let options = stage.login("v");
    let mut host = stage.host("v");
    let greedy: Vec<_> = (0..100).map(|number| one_that_never_reads(&options, 100 + number, 256 << 10)).collect();
    write_at_last(&mut host, Duration::from_secs(5));
    let worst = worst_of(&mut host, Duration::from_secs(1));
    assert!(worst < Duration::from_secs(1), "another host waited {worst:?}");
    let left = stage.handle().sessions().unwrap().len();
    assert!((10..=100).contains(&left), "{left} sessions left");
    drop(greedy);
}

/// A session that announces more data than there is memory, and never sends it.
fn one_that_never_sends(options: &Options, number: u32) -> Session {
    let asked_only = Options { session: number, immediate_data: false, initial_r2t: true, ..options.clone() };
    let mut session = Session::login(&asked_only).unwrap();
    for at in 0..60 {
        session.submit(at, cdb::write(at * 2048 % 60_000, 2048), Transfer::Out(vec![9; MIB as usize])).unwrap();
    }
    session.stream().flush().unwrap();
    session
}

/// The longest that a write whose data has to be asked for takes for a while.
fn worst_solicited(host: &mut Disk, time: Duration) -> Duration {
    let (begun, mut worst) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < time {
        let each = Instant::now();
        host.write(6 * 2048, vec![6; MIB as usize]).unwrap();
        worst = worst.max(each.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    worst
}

/// One host that announced writes and kept their data to itself had all that may be asked for; no other host's
/// large write began for as long as that one was silent.
#[test]
fn a_host_that_never_sends_what_it_was_asked_for_holds_a_small_part_of_what_may_be_asked() {
    let stage = stage();
    let options = stage.login("v");
    let mut host = stage.host("v");
    let _greedy: Vec<_> = (0..4).map(|number| one_that_never_sends(&options, 100 + number)).collect();
    let worst = worst_solicited(&mut host, Duration::from_secs(2));
    assert!(worst < Duration::from_secs(1), "another host waited {worst:?}");
    assert_eq!(stage.handle().sessions().unwrap().len(), 5, "nobody has to go for it");
}

/// So many of them that they have all that may be asked for: those that stand still go, and soon.
#[test]
fn a_crowd_of_hosts_that_never_send_is_dropped_for_the_others() {
    let stage = stage();
    let options = stage.login("v");
    let mut host = stage.host("v");
    let _greedy: Vec<_> = (0..20).map(|number| one_that_never_sends(&options, 100 + number)).collect();
    let worst = worst_solicited(&mut host, Duration::from_secs(2));
    assert!(worst < Duration::from_secs(3), "another host waited {worst:?}");
    let left = stage.handle().sessions().unwrap().len();
    assert!((2..21).contains(&left), "{left} sessions left");
}
