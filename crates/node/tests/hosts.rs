//! Hosts that come in, come again, give up, or mean no good.

mod cast;

use std::time::{Duration, Instant};

use cast::Stage;
use dyad_bench::disk::Disk;
use dyad_bench::flood::{DEPTHS, Flood};
use dyad_bench::initiator::{
    ABORT_TASK, ABORT_TASK_SET, Credentials, LOGICAL_UNIT_RESET, Options, Session, TmfOutcome, Transfer, cdb,
};
use dyad_node::control::{AccessRules, CreateVolume};
use dyad_node::settings::Chap;

/// Stage with one pool.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.add_pool("a");
    stage
}

fn chap(user: &str, secret: &str) -> Chap {
    Chap { user: user.into(), secret: secret.into() }
}

fn credentials(user: &str, secret: &str) -> Credentials {
    Credentials { user: user.into(), secret: secret.into() }
}

#[test]
fn only_who_proves_itself_comes_in() {
    let stage = stage();
    let access = AccessRules {
        chap: Some(chap("host", "a secret of the host")),
        mutual_chap: Some(chap("target", "a secret of the target")),
        ..AccessRules::default()
    };
    stage.handle().create_volume(CreateVolume { access, ..stage.volume("v", &["a"]) }).unwrap();
    let options = stage.login("v");
    assert!(Disk::open(&options).is_err(), "without proof");
    let wrong = Some(credentials("host", "a wrong secret"));
    assert!(Disk::open(&Options { chap: wrong, ..options.clone() }).is_err());
    let right = Some(credentials("host", "a secret of the host"));
    let one_way = Options { chap: right, ..options };
    Disk::open(&one_way).unwrap();
    let mutual = Some(credentials("target", "a secret of the target"));
    // MD5, SHA-256, SHA3-256, and the first of a list that both know.
    for chap_algorithms in ["5", "7", "8", "6,8,5"] {
        let mutual = mutual.clone();
        let options = Options { mutual, session: 2, chap_algorithms: chap_algorithms.into(), ..one_way.clone() };
        Disk::open(&options).unwrap();
        let impostor = Options { mutual: Some(credentials("target", "another secret")), ..options };
        assert!(Disk::open(&impostor).is_err(), "{chap_algorithms}: it is not that target");
    }
    assert!(Disk::open(&Options { chap_algorithms: "6".into(), ..one_way }).is_err(), "SHA-1 is not taken");
}

#[test]
fn only_named_hosts_come_in_and_see_the_target() {
    let stage = stage();
    let access = AccessRules { initiators: vec!["iqn.2004-10.com.example:good".into()], ..AccessRules::default() };
    stage.handle().create_volume(CreateVolume { access, ..stage.volume("v", &["a"]) }).unwrap();
    stage.add_volume("open", &["a"]);
    let names = |initiator: &str| {
        let options = Options { initiator: initiator.into(), ..Options::discovery(stage.portal()) };
        let keys = Session::login(&options).unwrap().send_targets().unwrap();
        format!("{keys:?}")
    };
    assert!(names("iqn.2004-10.com.example:GOOD").contains(":v"), "names compare without regard to case");
    let others = names("iqn.2004-10.com.example:bad");
    assert!(others.contains(":open") && !others.contains(":v"), "{others}");
    let bad = Options { initiator: "iqn.2004-10.com.example:bad".into(), ..stage.login("v") };
    assert!(Disk::open(&bad).is_err());
    Disk::open(&Options { initiator: "iqn.2004-10.com.example:good".into(), ..stage.login("v") }).unwrap();
    let nowhere = Options { target: Some("iqn.2026-11.san.dyad:none".into()), ..stage.login("open") };
    assert!(Disk::open(&nowhere).is_err());
}

/// RFC 7143 §6.3.5: the same initiator with the same ISID takes the place of its older session.
#[test]
fn a_host_that_comes_again_takes_its_own_place() {
    let stage = Stage::mirrored();
    let mut first = stage.host("v");
    let mut second = stage.host("v");
    second.write(0, vec![1; 512]).unwrap();
    assert!(first.write(0, vec![2; 512]).is_err(), "its session is gone");
    assert_eq!(second.read(0, 1).unwrap(), vec![1; 512]);
    assert_eq!(stage.handle().sessions().unwrap().len(), 1);
    let other = Options { session: 9, ..stage.login("v") };
    let mut third = Disk::open(&other).unwrap();
    assert_eq!(third.read(0, 1).unwrap(), second.read(0, 1).unwrap());
}

/// M19: an answered abort or reset leaves nothing behind that could still take effect.
#[test]
fn what_was_given_up_never_takes_effect_afterwards() {
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    for round in 0..30_u64 {
        let before = vec![round as u8; 64 << 10];
        host.write(0, before.clone()).unwrap();
        let session = host.session();
        for user in 0..8 {
            let data = Transfer::Out(vec![0xee; 64 << 10]);
            session.submit(user, cdb::write(user * 128, 128), data).unwrap();
        }
        let (function, task) = match round % 3 {
            0 => (ABORT_TASK, Some(3)),
            1 => (ABORT_TASK_SET, None),
            _ => (LOGICAL_UNIT_RESET, None),
        };
        let outcome = session.manage(function, task).unwrap();
        assert!(outcome == TmfOutcome::COMPLETE || outcome == TmfOutcome::NO_TASK, "{outcome:?}");
        while host.session().in_flight() > 0 {
            host.session().wait().unwrap();
        }
        // After a reset the first command meets a unit attention.
        let _ = host.session().call(cdb::test_unit_ready(), Transfer::None).unwrap();
        let seen = host.read(0, 128).unwrap();
        assert!(seen == before || seen == vec![0xee; 64 << 10], "a command is whole or not at all");
        host.write(0, before.clone()).unwrap();
        assert_eq!(host.read(0, 128).unwrap(), before, "a ghost wrote");
    }
    assert_eq!(stage.handle().volume("v").unwrap().in_flight, 0);
}

#[test]
fn a_host_that_vanishes_leaves_nothing_behind() {
    let stage = Stage::mirrored();
    for round in 0..20 {
        let mut host = Disk::open(&Options { session: round, ..stage.login("v") }).unwrap();
        for user in 0..16 {
            host.session().submit(user, cdb::write(user * 8, 8), Transfer::Out(vec![1; 4096])).unwrap();
        }
        drop(host);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // A connection lives a moment longer than what it had of a volume.
        let (volume, connections) = (stage.handle().volume("v").unwrap(), stage.handle().node().unwrap().connections);
        let left = (volume.sessions, volume.in_flight, connections);
        if left == (0, 0, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "sessions, commands in flight and connections left: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn ten_thousand_half_open_logins_hold_up_nobody() {
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    let before = resident();
    let mut floods = Vec::new();
    for _ in 0..10 {
        floods.push(Flood::open(stage.portal(), 1000, &DEPTHS).unwrap());
        let begun = Instant::now();
        let genuine = Disk::open(&Options { session: 77, ..stage.login("v") }).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "a genuine login took {:?}", begun.elapsed());
        drop(genuine);
        // A flood of its own descriptors is not what this is about.
        if floods.len() > 2 {
            floods.remove(0);
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    host.write(0, vec![5; 4096]).unwrap();
    let node = stage.handle().node().unwrap();
    assert!(node.half_open <= 1024, "{}", node.half_open);
    assert!(node.refused > 5000);
}

/// The session of a host that asks for much and reads nothing is dropped; its neighbours feel nothing.
#[test]
fn a_host_that_never_reads_hurts_only_itself() {
    let stage = Stage::mirrored();
    let mut greedy = stage.host("v");
    for user in 0..100 {
        greedy.session().submit(user, cdb::read(0, 2048), Transfer::In(vec![0; 1 << 20])).unwrap();
    }
    let mut other = Disk::open(&Options { session: 2, ..stage.login("v") }).unwrap();
    for round in 0..50_u64 {
        other.write(round * 8, vec![round as u8; 4096]).unwrap();
        assert_eq!(other.read(round * 8, 8).unwrap(), vec![round as u8; 4096]);
    }
    let held = stage.handle().node().unwrap().buffers_held;
    assert!(held.value() < 256 << 20, "{held} held for a host that does not read");
}

#[test]
fn an_administrator_can_close_a_session() {
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    let session = &stage.handle().sessions().unwrap()[0];
    stage.handle().close_session(&session.node_name, session.id).unwrap();
    assert!(host.read(0, 1).is_err());
    assert!(stage.handle().close_session(&session.node_name, session.id).is_err(), "there is none any more");
}
