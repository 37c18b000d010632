//! Reservations that an administrator has forgotten, as nobody can read them, or by force.

mod common;

use common::cluster::{At, Cluster};
use common::play::{
    A, B, C, EXCLUSIVE_ACCESS, Play, REGISTER, RESERVATIONS_PREEMPTED, RESERVE, TEST_UNIT_READY, conflict,
};
use common::{good, sense};
use dyad_scsi::{Begun, Status, Transfer};

const MODE_CHANGED: (u8, u8, u8) = (6, 0x2a, 1);

/// Every host hears of it, once, and may do everything again.
fn assert_told(cluster: &mut Cluster, hosts: &[At]) {
    for &at in hosts {
        cluster.bring_state(at.node);
        assert_eq!(sense(&cluster.run(at, &TEST_UNIT_READY, &[])), RESERVATIONS_PREEMPTED, "{at:?}");
        assert_eq!(sense(&cluster.run(at, &TEST_UNIT_READY, &[])), MODE_CHANGED, "{at:?}");
        good(cluster.run(at, &TEST_UNIT_READY, &[]));
    }
    for &at in hosts {
        good(cluster.write(at));
    }
}

fn reserved() -> Cluster {
    let mut cluster = Cluster::new(2, 3);
    cluster.register(A, 1);
    good(cluster.out(A, RESERVE, EXCLUSIVE_ACCESS, 1, 0));
    conflict(&cluster.write(B));
    conflict(&cluster.write(C));
    cluster
}

#[test]
fn hosts_are_told_of_a_state_that_was_written_anew() {
    let mut cluster = reserved();
    cluster.state = b"rot".to_vec();
    cluster.next_epoch();
    good(cluster.forget_unread(1));
    assert_told(&mut cluster, &[A, B, C]);
    assert_eq!(cluster.keys(A), (0, vec![]), "PRGENERATION begins again");
    cluster.register(C, 3);
    good(cluster.out(C, RESERVE, EXCLUSIVE_ACCESS, 3, 0));
    conflict(&cluster.write(A));
    // Again in the same epoch, and in the next one: each time it is news.
    good(cluster.forget_unread(0));
    assert_told(&mut cluster, &[A, C]);
    cluster.next_epoch();
    good(cluster.forget_unread(0));
    assert_told(&mut cluster, &[A, C]);
}

/// Sessions of nodes that started since, and so never read the state of before.
#[test]
fn hosts_are_told_at_a_node_that_could_never_read_the_state() {
    let mut cluster = Cluster::new(2, 3);
    for node in 0..2 {
        let unit = &mut cluster.nodes[node].unit;
        assert!(unit.adopt(cluster.edition, b"rot").is_err());
        // A command that needs it.
        let mut read = [0; 16];
        (read[0], read[8]) = (0x28, 1);
        let Begun::State { task } = unit.begin(A.nexus(), 0, &read, Transfer::In(512)) else {
            panic!("it knows the state")
        };
        unit.lack_state(cluster.edition);
        let Begun::Answer(answer) = unit.begin_anew(task, cluster.edition) else { panic!("only an order writes it") };
        assert_eq!(sense(&answer), (4, 0x44, 0));
    }
    good(cluster.forget_unread(0));
    assert_told(&mut cluster, &[A, B, C]);
}

/// A node that starts when all is over has nothing to tell.
#[test]
fn whoever_comes_later_is_told_nothing() {
    let mut cluster = Cluster::new(2, 3);
    good(cluster.forget_unread(0));
    good(cluster.write(C));
}

#[test]
fn what_can_be_read_is_forgotten_only_by_force() {
    let mut cluster = reserved();
    assert_eq!(cluster.forget(1, false).status, Status::ReservationConflict);
    let told = cluster.nodes[1].unit.reservations_told();
    let host = "iqn.2026-11.example:host0";
    assert_eq!(told, format!("registered are {host}, {host} holds a persistent reservation"));
    conflict(&cluster.write(C));
    assert_eq!(cluster.keys(A), (1, vec![1]));
    good(cluster.forget(1, true));
    assert_told(&mut cluster, &[A, B, C]);
    assert_eq!(cluster.keys(A), (2, vec![]));
    assert_eq!(cluster.nodes[0].unit.reservations_told(), "no host is registered or holds a reservation");
    good(cluster.out(A, REGISTER, 0, 0, 9));
}

/// The owner was lost meanwhile, and nobody knows whether it was written: the state says so by its author.
#[test]
fn an_answer_that_is_lost_is_found_in_the_state() {
    let mut cluster = Cluster::new(2, 3);
    (0..2).for_each(|node| cluster.bring_state(node));
    for is_written in [true, false] {
        cluster.register(A, 1);
        cluster.doubts = vec![is_written];
        good(cluster.forget(1, true));
        assert_told(&mut cluster, &[A, B, C]);
    }
}
