//! Reservations at two nodes (M20): what is reserved through one holds at the other from the answer on, whichever is owner.

mod cast;

use cast::Stage;
use cast::pair::{Pair, Sense, host, in_sync, wait_until};
use dyad_bench::disk::{Disk, DiskError};

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;

const BUSY: u8 = 0x08;
const CONFLICT: u8 = 0x18;
const REGISTRATIONS_PREEMPTED: Sense = (6, 0x2a, 5);

/// A command that may have to be sent again (M18).
#[track_caller]
fn done<T>(mut command: impl FnMut() -> Result<T, DiskError>) -> T {
    for _ in 0..100 {
        match command() {
            Err(DiskError::Status { status: BUSY, .. }) => std::thread::yield_now(),
            result => return result.unwrap(),
        }
    }
    panic!("busy all the time");
}

#[track_caller]
fn conflict<T>(command: impl FnOnce() -> Result<T, DiskError>) {
    assert_eq!(try_told(command).unwrap().0, CONFLICT);
}

/// Status, and what the sense data say.
type Told = (u8, Option<Sense>);

/// How a command ended.
fn try_told<T>(command: impl FnOnce() -> Result<T, DiskError>) -> Result<Told, DiskError> {
    match command() {
        Ok(_) => Ok((0, None)),
        Err(DiskError::Status { status, sense, .. }) => Ok((status, sense)),
        Err(error) => Err(error),
    }
}

fn write(disk: &mut Disk, byte: u8) -> Result<(), DiskError> {
    disk.write(0, vec![byte; 4096])
}

/// The point of it all: each takes the volume from the other, and the very next command of the other is refused.
#[test]
fn after_a_preempt_at_one_node_the_other_lets_nothing_through() {
    // A node that the machine let wait for longer than a lease closes its sessions (M19): then all begins anew.
    let is_passing = |ended: &Result<(), DiskError>| {
        matches!(ended, Err(DiskError::Session(_) | DiskError::Status { status: BUSY, .. }))
    };
    let ended = (0..5).map(|_| take_turns(&Pair::new())).find(|ended| !is_passing(ended));
    ended.expect("a machine that lets nodes run").unwrap();
}

fn take_turns(pair: &Pair) -> Result<(), DiskError> {
    let mut hosts = [host(&pair.one, 1), host(&pair.other, 2)];
    let keys = [0x11, 0x22];
    for (disk, key) in hosts.iter_mut().zip(keys) {
        disk.reserve(REGISTER, 0, 0, key)?;
    }
    hosts[0].reserve(RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, keys[0], 0)?;
    let mut holder = 0;
    for round in 0..200_u8 {
        let next = 1 - holder;
        let [one, other] = &mut hosts;
        let (old, new) = if holder == 0 { (one, other) } else { (other, one) };
        write(old, round)?;
        let action = if round % 50 == 49 { PREEMPT_AND_ABORT } else { PREEMPT };
        new.reserve(action, WRITE_EXCLUSIVE_REGISTRANTS, keys[next], keys[holder])?;
        assert_eq!(try_told(|| write(old, 0xee))?, (2, Some(REGISTRATIONS_PREEMPTED)), "round {round}");
        assert_eq!(try_told(|| write(old, 0xee))?.0, CONFLICT);
        assert_eq!(new.read(0, 8)?, vec![round; 4096]);
        let again = try_told(|| old.reserve(RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, keys[holder], 0))?;
        assert_eq!(again.0, CONFLICT);
        old.reserve(REGISTER, 0, 0, keys[holder])?;
        holder = next;
    }
    Ok(())
}

/// What is released at one node is free at the other: no conflict is answered from an old copy.
#[test]
fn after_a_release_at_one_node_the_other_lets_everything_through() {
    let pair = Pair::new();
    let (mut one, mut other) = (host(&pair.one, 1), host(&pair.other, 2));
    done(|| one.reserve(REGISTER, 0, 0, 1));
    done(|| write(&mut other, 1));
    for _ in 0..100 {
        one.reserve(RESERVE, EXCLUSIVE_ACCESS, 1, 0).unwrap();
        conflict(|| other.read(0, 8));
        conflict(|| write(&mut other, 9));
        one.reserve(RELEASE, EXCLUSIVE_ACCESS, 1, 0).unwrap();
        other.read(0, 8).unwrap();
        write(&mut other, 2).unwrap();
    }
}

/// Changes at both nodes at once: none is lost.
#[test]
fn of_changes_at_two_nodes_at_once_none_is_lost() {
    let pair = Pair::new();
    let work = |stage: &Stage, name: u32| {
        let mut disk = host(stage, name);
        for key in 1..=50 {
            done(|| disk.reserve(REGISTER_AND_IGNORE, 0, 0, u64::from(name) << 8 | key));
        }
        disk
    };
    let mut disks: Vec<Disk> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=4)
            .map(|name| {
                let stage = if name % 2 == 0 { &pair.one } else { &pair.other };
                scope.spawn(move || work(stage, name))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for disk in &mut disks {
        let mut keys = done(|| disk.keys());
        keys.sort_unstable();
        assert_eq!(keys, [0x100 | 50, 0x200 | 50, 0x300 | 50, 0x400 | 50]);
    }
}

/// M9, M12, M20: whichever node goes, registrations and the reservation stay, and keep out whom they kept out.
#[test]
fn a_reservation_outlives_its_owner() {
    let mut pair = Pair::new();
    done(|| host(&pair.one, 1).reserve(REGISTER, 0, 0, 0x11));
    done(|| host(&pair.other, 2).reserve(REGISTER, 0, 0, 0x22));
    done(|| host(&pair.other, 2).reserve(RESERVE, WRITE_EXCLUSIVE, 0x22, 0));
    for round in 0..2 {
        let (goes, stays) =
            if round == 0 { (&mut pair.one, &mut pair.other) } else { (&mut pair.other, &mut pair.one) };
        goes.stop();
        let mut stranger = host(stays, 3);
        assert_eq!(done(|| stranger.keys()), [0x11, 0x22]);
        conflict(|| write(&mut stranger, 3));
        goes.start();
        wait_until("both in sync", || in_sync(stays) == 2);
        let mut stranger = host(goes, 3);
        assert_eq!(done(|| stranger.keys()), [0x11, 0x22]);
        conflict(|| write(&mut stranger, 3));
    }
    done(|| write(&mut host(&pair.other, 2), 1));
}

/// APTPL (SPC-4 §5.13.5): a restart of the only node.
#[test]
fn a_reservation_outlives_a_restart() {
    let mut stage = Stage::mirrored();
    done(|| host(&stage, 1).reserve(REGISTER, 0, 0, 0x11));
    done(|| host(&stage, 1).reserve(RESERVE, EXCLUSIVE_ACCESS, 0x11, 0));
    stage.restart();
    let mut stranger = host(&stage, 2);
    conflict(|| stranger.read(0, 8));
    assert_eq!(done(|| stranger.keys()), [0x11]);
    done(|| write(&mut host(&stage, 1), 1));
}
