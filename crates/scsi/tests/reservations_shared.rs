//! RESERVE and RELEASE (SPC-2 §5.5), and the state of reservations across nodes, owners and lives (M20).

mod common;

use common::cluster::{At, Cluster, reserve_in, reserve_out};
use common::play::{
    A, B, C, EXCLUSIVE_ACCESS, PREEMPT_AND_ABORT, Play, REGISTER, REGISTER_AND_IGNORE, REGISTRATIONS_PREEMPTED,
    RELEASE, RELEASE_6, RESERVE, RESERVE_6, TEST_UNIT_READY, WRITE, WRITE_EXCLUSIVE_REGISTRANTS, conflict,
};
use common::{good, sense};
use dyad_contract::volume::{Edition, VolumeDone, VolumeError, VolumeOp};
use dyad_payload::Slab;
use dyad_scsi::{Begun, Drain, LogicalUnit, Status, Step, Task, Transfer};

/// SPC-2 §5.5.1; SPC-4 §5.13.3 (CRH).
#[test]
fn reserve_and_persistent_reservations_keep_out_of_each_others_way() {
    let mut cluster = Cluster::new(2, 3);
    good(cluster.run(A, &RESERVE_6, &[]));
    good(cluster.run(A, &RESERVE_6, &[]));
    good(cluster.write(A));
    for at in [B, C] {
        conflict(&cluster.run(at, &RESERVE_6, &[]));
        conflict(&cluster.write(at));
        conflict(&cluster.read(at));
        conflict(&cluster.run(at, &TEST_UNIT_READY, &[]));
        good(cluster.run(at, &RELEASE_6, &[])); // is not its own: ignored
        good(cluster.run(at, &[0x12, 0, 0, 0, 36, 0], &[]));
    }
    conflict(&cluster.out(A, REGISTER, 0, 0, 1));
    conflict(&cluster.run(A, &reserve_in(0), &[]));
    good(cluster.run(A, &RELEASE_6, &[]));
    good(cluster.write(C));
    cluster.register(A, 1);
    conflict(&cluster.run(A, &RESERVE_6, &[]));
    good(cluster.out(A, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, 1, 0));
    cluster.register(B, 2);
    for at in [A, B] {
        good(cluster.run(at, &RESERVE_6, &[]));
        good(cluster.run(at, &RELEASE_6, &[]));
    }
    conflict(&cluster.run(C, &RESERVE_6, &[]));
    conflict(&cluster.run(C, &RELEASE_6, &[]));
}

/// SPC-2 §5.5.1: it is lost with the nexus, and by a LOGICAL UNIT RESET at any node.
#[test]
fn what_reserve_began_ends_with_its_session_and_with_a_reset() {
    let mut cluster = Cluster::new(2, 3);
    good(cluster.run(C, &RESERVE_6, &[]));
    conflict(&cluster.write(A));
    cluster.lose(C);
    good(cluster.write(A));
    cluster.login(C, None);
    good(cluster.write(C));
    good(cluster.run(C, &RESERVE_6, &[]));
    conflict(&cluster.write(A));
    cluster.reset(0);
    assert_eq!(sense(&cluster.write(A)), (6, 0x29, 3));
    good(cluster.write(A)); // once: it was this node's own reset
    assert_eq!(sense(&cluster.write(C)), (6, 0x29, 3), "a reset at another node is told here, too");
    good(cluster.write(C));
}

/// M20: registrations and reservations are the volume's; sessions and owners come and go.
#[test]
fn registrations_outlive_sessions_and_owners() {
    let mut cluster = Cluster::new(2, 3);
    cluster.register(A, 1);
    good(cluster.out(A, RESERVE, EXCLUSIVE_ACCESS, 1, 0));
    cluster.lose(A);
    cluster.next_epoch();
    conflict(&cluster.read(C));
    cluster.login(A, None);
    good(cluster.write(A));
    let mut later = Cluster::new(2, 3);
    later.state = cluster.state.clone(); // everything starts again
    good(later.write(A));
    conflict(&later.read(C));
    assert_eq!(later.keys(C), (1, vec![1]));
}

/// M9, M20: the owner was lost while the change was on its way. It is answered GOOD if it took effect, and made again if not.
#[test]
fn a_change_of_which_no_answer_came_is_made_once() {
    for took_effect in [false, true] {
        let mut cluster = Cluster::new(2, 3);
        cluster.register(A, 1);
        cluster.doubts = vec![took_effect];
        cluster.register(C, 3); // a second REGISTER with key zero would conflict
        assert_eq!(cluster.keys(A), (2, vec![1, 3]));
        cluster.doubts = vec![false; 20];
        assert_eq!(cluster.out(B, REGISTER, 0, 0, 2).status, Status::Busy, "tries are bounded");
        cluster.doubts.clear();
        assert_eq!(cluster.keys(A), (2, vec![1, 3]));
    }
}

/// A release at one node counts at the other from its answer on: no conflict is answered from an old copy.
#[test]
fn a_conflict_is_not_answered_from_an_old_copy() {
    let mut cluster = Cluster::new(2, 3);
    cluster.register(A, 1);
    good(cluster.out(A, RESERVE, EXCLUSIVE_ACCESS, 1, 0));
    conflict(&cluster.read(C));
    good(cluster.out(A, RELEASE, EXCLUSIVE_ACCESS, 1, 0));
    good(cluster.read(C));
    good(cluster.out(A, RESERVE, EXCLUSIVE_ACCESS, 1, 0));
    conflict(&cluster.read(C));
}

/// A command whose data are on the way when the reservation comes does not slip through.
#[test]
fn the_reservation_is_looked_at_again_when_the_data_come() {
    let mut cluster = Cluster::new(1, 3);
    cluster.register(A, 1);
    let Begun::DataOut { task, .. } =
        cluster.nodes[0].unit.begin(B.nexus(), 0, &common::padded(&WRITE), Transfer::Out(512))
    else {
        panic!("no data wanted")
    };
    good(cluster.out(A, RESERVE, EXCLUSIVE_ACCESS, 1, 0));
    let data = common::payload(&cluster.slab, &[1; 512]);
    let Step::Answer(response) = cluster.nodes[0].unit.data_out(task, data) else { panic!("it was written") };
    conflict(&response);
}

/// PREEMPT AND ABORT by A of what B, at the same node, registered; up to the write of the state.
fn preempt_and_abort(cluster: &mut Cluster) -> (Task, Vec<u8>) {
    cluster.register(A, 1);
    cluster.register(B, 2);
    begin_out(&mut cluster.nodes[0].unit, (cluster.edition, &cluster.state), PREEMPT_AND_ABORT, 1, 2)
}

/// A PERSISTENT RESERVE OUT of A that waits for its change to be durable, and the state that it makes of this one.
fn begin_out(
    unit: &mut LogicalUnit,
    (edition, state): (Edition, &[u8]),
    action: u8,
    key: u64,
    new_key: u64,
) -> (Task, Vec<u8>) {
    let (cdb, list) = reserve_out(action, EXCLUSIVE_ACCESS, key, new_key, 0);
    let data = common::payload(&Slab::new(1 << 20), &list);
    let Begun::State { task } = unit.begin(A.nexus(), 0, &common::padded(&cdb), Transfer::Out(24)) else {
        panic!("it does not look at the state")
    };
    unit.adopt(edition, state).unwrap();
    let Begun::DataOut { task, .. } = unit.again(task) else { panic!("it wants no list") };
    let Step::Volume { task, op: VolumeOp::WriteState { data } } = unit.data_out(task, data) else {
        panic!("it changes nothing")
    };
    assert_eq!(unit.take_drain(), None, "nothing is aborted before the change is durable");
    (task, data.to_vec())
}

/// A change of which no answer comes is known by its name. Names were the number of the node's target port and a count: two
/// nodes have the same number once in 65,535 times, and each life of a node begins to count anew. The other one's change was
/// taken for one's own, and the host was told that it is registered.
#[test]
fn a_change_that_was_never_made_is_not_taken_for_another_nodes() {
    let mut cluster = Cluster::of_ports(2, 3, |_| 1);
    for (node, name) in cluster.nodes.iter_mut().zip([0x8f3a_11c0_94d5_0a27, 0x05be_77d2_3f61_c9e4]) {
        node.unit.name_changes(name);
    }
    let (task, _) = begin_out(&mut cluster.nodes[0].unit, (cluster.edition, &cluster.state), REGISTER, 0, 1);
    assert_eq!(C.node, 1);
    cluster.register(C, 3);
    let unit = &mut cluster.nodes[0].unit;
    let Step::State { task } = unit.finish(task, Err(VolumeError::Busy)) else {
        panic!("it does not look what became of it")
    };
    unit.adopt(cluster.edition, &cluster.state).unwrap();
    let begun = unit.again(task);
    assert!(matches!(begun, Begun::Volume { op: VolumeOp::WriteState { .. }, .. }), "{begun:?}");
}

/// What broke: whose commands a PREEMPT AND ABORT ends was found where the change is adopted. When the set of images changed
/// while it was written, as it does at the moment of fencing, the copy was forgotten instead, and it was answered without any
/// command being ended.
#[test]
fn a_preempt_and_abort_ends_commands_although_the_state_is_of_a_newer_edition() {
    let mut cluster = Cluster::new(2, 3);
    let (task, state) = preempt_and_abort(&mut cluster);
    cluster.state = state;
    cluster.next_epoch();
    let unit = &mut cluster.nodes[0].unit;
    unit.forget_state();
    assert!(
        matches!(unit.finish(task, Ok(VolumeDone::Done)), Step::Answer(response) if response.status == Status::Good)
    );
    assert_eq!(unit.take_drain(), Some(Drain { nexuses: vec![B.nexus()], is_elsewhere: false }));
    // What B sends from the answer on is not ended by the same one again.
    cluster.bring_state(0);
    assert_eq!(cluster.nodes[0].unit.take_drain(), None);
    assert_eq!(sense(&cluster.write(B)), REGISTRATIONS_PREEMPTED);
}

/// What broke: its outcome was not known, the state told of it, commands were ended with that, and then it was answered without
/// waiting for them, as it found nobody to end.
#[test]
fn a_preempt_and_abort_of_unknown_outcome_waits_for_the_commands_that_it_ended() {
    let mut cluster = Cluster::new(2, 3);
    let (task, state) = preempt_and_abort(&mut cluster);
    cluster.state = state;
    cluster.next_epoch();
    let unit = &mut cluster.nodes[0].unit;
    let Step::State { task } = unit.finish(task, Err(VolumeError::Busy)) else {
        panic!("it does not look what became of it")
    };
    unit.adopt(cluster.edition, &cluster.state).unwrap();
    let ended = Drain { nexuses: vec![B.nexus()], is_elsewhere: false };
    assert_eq!(unit.take_drain().as_ref(), Some(&ended));
    assert!(matches!(unit.again(task), Begun::Answer(response) if response.status == Status::Good));
    assert_eq!(unit.take_drain(), Some(ended), "its answer waits for them");
}

/// The bound of registrations is reached with an answer, not with a fault.
#[test]
fn registrations_are_bounded() {
    let mut cluster = Cluster::new(1, 0);
    let mut registered = 0;
    let refused = loop {
        let at = At { node: 0, host: (registered % 256) as u8 };
        let unit = &mut cluster.nodes[0].unit;
        let name = format!("iqn.2026-11.example:{registered:0180}");
        unit.add_nexus(at.nexus(), None).unwrap();
        unit.set_initiator(at.nexus(), dyad_scsi::InitiatorPort::new(&name, [0; 6]).unwrap());
        let response = cluster.out(at, REGISTER_AND_IGNORE, 0, 0, 1 + registered);
        if response.status != Status::Good {
            break response;
        }
        registered += 1;
    };
    assert_eq!(sense(&refused), (5, 0x55, 4));
    assert!(registered >= 250, "only {registered}");
}
