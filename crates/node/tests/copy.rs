//! EXTENDED COPY between volumes at real nodes: whoever owns them, whoever may use them, whatever becomes of them amid.

mod cast;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cast::Stage;
use cast::pair::{OTHER_OWNER, Pair, is_served, patiently, wait_until};
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{Completion, Credentials, Options, Transfer, cdb};
use dyad_cluster::{InitiatorName, Right, Whom};
use dyad_node::control::{AccessRules, CreateVolume};
use dyad_node::settings::Chap;

const HOST: &str = "iqn.2026-11.example:host1";
const OTHER: &str = "iqn.2026-11.example:host2";
const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
const CONFLICT: u8 = 0x18;
const NOT_REACHABLE: (u8, u8, u8) = (0x0a, 0x0d, 2);
const THIRD_PARTY_FAILURE: (u8, u8, u8) = (0x0a, 0x0d, 1);
const WRITE_PROTECTED: (u8, u8, u8) = (7, 0x27, 0);
/// The longest segment: 32 chunks of a mebibyte, the last one shorter.
const BLOCKS: u16 = u16::MAX;

fn login(stage: &Stage, volume: &str, host: &str) -> Result<Disk, DiskError> {
    Disk::open(&Options { initiator: host.into(), session: 1, ..stage.login(volume) })
}

fn host(stage: &Stage, volume: &str) -> Disk {
    let mut found = None;
    wait_until("a login", || {
        found = login(stage, volume, HOST).ok();
        found.is_some()
    });
    found.unwrap()
}

/// Says where it is, so that a block in the wrong place is seen.
fn pattern(blocks: u16) -> Vec<u8> {
    (0..u64::from(blocks)).flat_map(|lba| (lba << 8 | 0xc7).to_le_bytes().repeat(64)).collect()
}

#[track_caller]
fn done<T>(command: impl FnMut() -> Result<T, DiskError>) -> T {
    patiently(command, |sense| sense == OTHER_OWNER).unwrap()
}

fn fill(disk: &mut Disk, data: &[u8]) {
    for (lba, chunk) in (0..).step_by(2048).zip(data.chunks(1 << 20)) {
        done(|| disk.write(lba, chunk.to_vec()));
    }
}

/// An EXTENDED COPY that is sent to `to`.
fn copy(to: &mut Disk, ends: [[u8; 16]; 2], source: u64, destination: u64, blocks: u16) -> Completion {
    let list = cdb::copy_list(ends, 512, source, destination, blocks);
    to.session().call(cdb::extended_copy(list.len() as u32), Transfer::Out(list)).unwrap()
}

/// Sent again while it is only told of another owner.
fn copy_all(to: &mut Disk, ends: [[u8; 16]; 2]) -> Completion {
    loop {
        let ended = copy(to, ends, 0, 0, BLOCKS);
        if ended.sense_codes() != Some(OTHER_OWNER) {
            return ended;
        }
    }
}

/// What the third party said: its status, and its sense key, code and qualifier (SPC-4 §5.16.7.4).
fn third_party(ended: &Completion) -> (u8, Option<(u8, u8, u8)>) {
    assert_eq!((ended.status, ended.sense_codes()), (CHECK_CONDITION, Some(THIRD_PARTY_FAILURE)), "{ended:?}");
    let at = usize::from(ended.sense[8].max(ended.sense[9]));
    let inner = &ended.sense[at + 1..];
    (ended.sense[at], (!inner.is_empty()).then(|| (inner[2], inner[12], inner[13])))
}

fn whom(name: &str) -> Whom {
    Whom::Host(InitiatorName::new(name).unwrap())
}

/// Two nodes, a volume `v` that one owns, and a volume `w` that the other owns.
fn crossed() -> Pair {
    let pair = Pair::new();
    pair.one.handle().create_volume(pair.one.volume("w", &[])).unwrap();
    let is_there = |stage: &Stage| stage.handle().volume("w").is_ok_and(|volume| is_served(&volume.phase));
    wait_until("served at both", || is_there(&pair.one) && is_there(&pair.other));
    let owner = |volume: &str| pair.one.handle().volume(volume).unwrap().owner;
    let (one, other) = (pair.one.handle().node().unwrap().id, pair.other.handle().node().unwrap().id);
    for (volume, node, name) in [("v", one, "one"), ("w", other, "other")] {
        if owner(volume) != Some(node) {
            pair.one.handle().move_owner(volume, Some(name)).unwrap();
        }
    }
    wait_until("owners", || (owner("v"), owner("w")) == (Some(one), Some(other)));
    pair
}

#[test]
fn a_copy_goes_both_ways_through_either_node_whoever_is_owner() {
    let pair = crossed();
    let data = pattern(BLOCKS);
    let mut v = host(&pair.one, "v");
    fill(&mut v, &data);
    let mut w = host(&pair.one, "w");
    let names = [v.name().unwrap(), w.name().unwrap()];
    assert_eq!(copy_all(&mut v, names).status, GOOD);
    assert_eq!(done(|| w.read_all())[..data.len()], data);
    // Through the other node, sent to the destination, and while the owner of the source moves there and back.
    let mut again = host(&pair.other, "v");
    done(|| again.unmap(0, u32::from(BLOCKS)));
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| ["one", "other"].map(|to| pair.one.handle().move_owner("w", Some(to)).unwrap()));
        copy_all(&mut again, [names[1], names[0]])
    });
    assert_eq!(ended.status, GOOD, "{ended:?}");
    assert_eq!(done(|| v.read_all())[..data.len()], data);
    for stage in [&pair.one, &pair.other] {
        assert_eq!(stage.handle().node().unwrap().faults, 0);
    }
}

/// As the host could read and write there by itself, and no more (LIO once let every host copy from every volume).
#[test]
fn a_copy_may_what_its_host_may_at_the_other_volume() {
    let stage = Stage::new();
    stage.add_pool("a");
    for volume in ["v", "w"] {
        stage.add_volume(volume, &["a"]);
    }
    let (mut v, mut w) = (host(&stage, "v"), host(&stage, "w"));
    v.write(0, vec![1; 4096]).unwrap();
    w.write(0, vec![2; 4096]).unwrap();
    let (push, pull) = ([v.name().unwrap(), w.name().unwrap()], [w.name().unwrap(), v.name().unwrap()]);
    let allow = |right| stage.handle().change_access("w", whom(HOST), right).unwrap();

    allow(Some(Right::ReadOnly));
    assert_eq!(third_party(&copy(&mut v, push, 0, 0, 8)), (CHECK_CONDITION, Some(WRITE_PROTECTED)));
    assert_eq!(copy(&mut v, pull, 0, 100, 8).status, GOOD);
    assert_eq!(v.read(100, 8).unwrap(), vec![2; 4096]);

    stage.handle().change_access("w", whom(OTHER), Some(Right::ReadWrite)).unwrap();
    allow(None);
    for ends in [push, pull] {
        assert_eq!(copy(&mut v, ends, 0, 200, 8).sense_codes(), Some(NOT_REACHABLE));
    }
    assert_eq!(v.read(200, 8).unwrap(), vec![0; 4096]);
    assert_eq!(login(&stage, "w", OTHER).unwrap().read(0, 8).unwrap(), vec![2; 4096]);

    allow(Some(Right::ReadWrite));
    assert_eq!(copy(&mut v, push, 0, 0, 8).status, GOOD);
    stage.handle().delete_volume("w", true).unwrap();
    assert_eq!(copy(&mut v, push, 0, 0, 8).sense_codes(), Some(NOT_REACHABLE));
    assert_eq!(stage.handle().node().unwrap().faults, 0);
}

/// Whoever knows one volume's secret could say any host's name there.
#[test]
fn a_volume_that_wants_a_proof_wants_it_of_a_copy_as_well() {
    let stage = Stage::new();
    stage.add_pool("a");
    let add = |name: &str, secret: Option<&str>| {
        let chap = secret.map(|secret| Chap { user: "host".into(), secret: secret.into() });
        let access = AccessRules { chap, ..AccessRules::default() };
        stage.handle().create_volume(CreateVolume { access, ..stage.volume(name, &["a"]) }).unwrap();
    };
    add("open", None);
    add("same", Some("a secret of the host"));
    add("v", Some("a secret of the host"));
    add("another", Some("a secret of somebody else"));
    let login = |volume: &str, secret: &str| {
        let chap = Some(Credentials { user: "host".into(), secret: secret.into() });
        Disk::open(&Options { chap, initiator: HOST.into(), ..stage.login(volume) }).unwrap()
    };
    let mut v = login("v", "a secret of the host");
    v.write(0, vec![1; 4096]).unwrap();
    let mut open = host(&stage, "open");
    let mut same = login("same", "a secret of the host");
    let mut another = login("another", "a secret of somebody else");
    let names = [&mut v, &mut open, &mut same, &mut another].map(|disk| disk.name().unwrap());
    for (to, may) in [(1, true), (2, true), (3, false)] {
        for ends in [[names[0], names[to]], [names[to], names[0]]] {
            let ended = copy(&mut v, ends, 0, 0, 8);
            let expected = (!may).then_some(NOT_REACHABLE);
            assert_eq!(ended.sense_codes(), expected, "{to}");
        }
    }
    // A session that proved nothing.
    assert_eq!(copy(&mut open, [names[2], names[1]], 0, 0, 8).sense_codes(), Some(NOT_REACHABLE));
    assert_eq!(same.read(0, 8).unwrap(), vec![1; 4096]);
    assert_eq!(another.read(0, 8).unwrap(), vec![0; 4096]);
}

/// M20: what is reserved through one node holds for a copy through the other.
#[test]
fn a_reservation_at_the_other_volume_keeps_a_copy_out() {
    const REGISTER: u8 = 0;
    const RESERVE: u8 = 1;
    const RELEASE: u8 = 2;
    const WRITE_EXCLUSIVE: u8 = 1;
    let pair = crossed();
    let (mut v, mut w) = (host(&pair.one, "v"), host(&pair.one, "w"));
    fill(&mut v, &pattern(8));
    let (push, pull) = ([v.name().unwrap(), w.name().unwrap()], [w.name().unwrap(), v.name().unwrap()]);
    let mut holder = login(&pair.other, "w", OTHER).unwrap();
    done(|| holder.reserve(REGISTER, 0, 0, 7));
    done(|| holder.reserve(RESERVE, WRITE_EXCLUSIVE, 7, 0));
    let mut ended = |ends| {
        // A change of the state elsewhere may be in the way of it once.
        let ended = (0..10).map(|_| copy(&mut v, ends, 0, 0, 8)).find(|ended| ended.sense_codes() != Some(OTHER_OWNER));
        ended.unwrap()
    };
    assert_eq!(third_party(&ended(push)), (CONFLICT, None));
    assert_eq!(ended(pull).status, GOOD);
    done(|| holder.reserve(RELEASE, WRITE_EXCLUSIVE, 7, 0));
    assert_eq!(ended(push).status, GOOD);
}

/// A volume goes amid copies to it: each ends, and nothing else does.
#[test]
fn a_volume_that_is_deleted_ends_the_copies_to_it() {
    let stage = Stage::new();
    stage.add_pool("a");
    for volume in ["v", "w"] {
        stage.add_volume(volume, &["a"]);
    }
    let mut v = host(&stage, "v");
    fill(&mut v, &pattern(BLOCKS));
    let names = [v.name().unwrap(), host(&stage, "w").name().unwrap()];
    let ended = std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let mut all = (0..1000).map(|_| copy(&mut v, names, 0, 0, BLOCKS));
            all.find(|ended| ended.status != GOOD).expect("the volume is gone")
        });
        stage.handle().delete_volume("w", true).unwrap();
        copying.join().unwrap()
    });
    assert!([Some(NOT_REACHABLE), Some(THIRD_PARTY_FAILURE)].contains(&ended.sense_codes()), "{ended:?}");
    assert_eq!(copy(&mut v, names, 0, 0, 8).sense_codes(), Some(NOT_REACHABLE));
    assert_eq!(v.read(0, 8).unwrap(), pattern(8));
    assert_eq!(stage.handle().node().unwrap().faults, 0);
}

/// A long copy waits for the state more often, and is older, than any one of its steps may: it was told BUSY for that, half
/// done, so that its host sent it again; with overlapping ranges that is another copy.
///
/// How many changes fit into one copy is for the machine to say: where syncs are slow, ever fewer than a step may wait for.
/// That each step counts anew is the test of `Op::park`; here it is tried as far as the machine goes.
#[test]
fn a_copy_goes_on_however_often_others_change_the_state() {
    const REGISTER_AND_IGNORE: u8 = 6;
    const SEGMENTS: u32 = 16;
    const COPIES_MAX: usize = 8;
    let pair = Pair::new();
    let mut v = host(&pair.one, "v");
    let data = pattern(BLOCKS);
    fill(&mut v, &data);
    let name = v.name().unwrap();
    let mut list = cdb::copy_list([name, name], 512, 0, 1 << 16, BLOCKS);
    let segment = list[80..].to_vec();
    (1..SEGMENTS).for_each(|_| list.extend(&segment));
    list[8..12].copy_from_slice(&(28 * SEGMENTS).to_be_bytes());
    // At the other node, so that neither knows the state by itself after a change.
    let mut other = login(&pair.other, "v", OTHER).unwrap();
    let (is_over, changes) = (AtomicBool::new(false), AtomicU32::new(0));
    let (ends, most) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let key = changes.load(Ordering::Relaxed) + 1;
                done(|| other.reserve(REGISTER_AND_IGNORE, 0, 0, u64::from(key % 2)));
                changes.store(key, Ordering::Relaxed);
            }
        });
        let (mut ends, mut most) = (Vec::new(), 0);
        while most <= SEGMENTS && ends.len() < COPIES_MAX {
            let before = changes.load(Ordering::Relaxed);
            ends.push(v.session().call(cdb::extended_copy(list.len() as u32), Transfer::Out(list.clone())));
            most = most.max(changes.load(Ordering::Relaxed) - before);
        }
        is_over.store(true, Ordering::Relaxed);
        (ends, most)
    });
    for ended in ends {
        assert_eq!(ended.unwrap().status, GOOD);
    }
    assert!(most > 0, "no change amid a copy");
    assert_eq!(done(|| v.read_all())[1 << 25..][..data.len()], data);
}
