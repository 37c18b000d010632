//! Reservations on real nodes (M20): held through the death of the owner, at both nodes, by whom they were given to.

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::Options;
use dyad_e2e::cluster::Cluster;

const MIB: u64 = 16;
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT: u8 = 4;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
const CONFLICT: u8 = 0x18;

/// A host with a name of its own, once the node lets it in and answers it.
fn open(cluster: &Cluster, node: usize, name: u32) -> Disk {
    let mut found = None;
    cluster
        .until("a host is let in", || {
            let Ok(paths) = cluster.paths() else { return false };
            let options = Options { initiator: format!("iqn.2026-11.example:host{name}"), ..paths[node].clone() };
            found = Disk::open(&options).ok();
            found.as_mut().is_some_and(|disk| disk.keys().is_ok())
        })
        .unwrap();
    found.unwrap()
}

#[track_caller]
fn refused(disk: &mut Disk) {
    let result = write(disk, 0xee);
    assert!(matches!(result, Err(DiskError::Status { status: CONFLICT, .. })), "{result:?}");
}

fn write(disk: &mut Disk, byte: u8) -> Result<(), DiskError> {
    disk.write(0, vec![byte; 4096])
}

/// Kill -9 of the owner: who held the volume holds it at the other node, and nobody else gets in, not even for a moment.
#[test]
fn a_reservation_is_held_across_the_death_of_the_owner() {
    let mut cluster = Cluster::start(MIB).unwrap();
    for round in 0..4_u8 {
        let owner = cluster.owner().unwrap();
        let other = 1 - owner;
        let (holder, stranger) = (u32::from(round) * 2 + 1, u32::from(round) * 2 + 2);
        let mut held = open(&cluster, other, holder);
        let before = held.keys().unwrap();
        held.reserve(REGISTER, 0, 0, u64::from(holder)).unwrap();
        match before.last() {
            None => held.reserve(RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, u64::from(holder), 0).unwrap(),
            Some(&last) => held.reserve(PREEMPT, WRITE_EXCLUSIVE_REGISTRANTS, u64::from(holder), last).unwrap(),
        }
        write(&mut held, round).unwrap();
        refused(&mut open(&cluster, owner, stranger));
        let mut late = open(&cluster, other, stranger);
        cluster.nodes[owner].kill().unwrap();
        // Whatever comes first after the change of the owner is refused, or told to come again.
        cluster
            .until("the other node serves", || match write(&mut late, 0xee) {
                Ok(()) => panic!("round {round}: a stranger wrote"),
                Err(DiskError::Status { status: CONFLICT, .. }) => true,
                Err(_) => false,
            })
            .unwrap();
        write(&mut held, round).unwrap();
        cluster.nodes[owner].start().unwrap();
        cluster.until_redundant(other).unwrap();
        refused(&mut open(&cluster, owner, stranger));
        let mut held = open(&cluster, owner, holder);
        assert_eq!(held.keys().unwrap(), [u64::from(holder)], "round {round}");
        assert_eq!(held.read(0, 8).unwrap(), vec![round; 4096]);
    }
}
