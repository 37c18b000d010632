//! Target port groups: which node's ports are the short way to the volume (SPC-4 §5.11, §6.36).

mod common;

use common::{Bench, HOST, field, good, sense};
use dyad_contract::volume::{VolumeDone, VolumeError};
use dyad_scsi::{AccessState, Begun, NexusId, PORT_GROUPS_MAX, PortGroup, Step, Transfer};

const TEST_UNIT_READY: [u8; 6] = [0; 6];

fn report(bench: &mut Bench, format: u8) -> Vec<u8> {
    good(bench.run(&[0xa3, format << 5 | 0x0a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]))
}

fn group(group: u16, state: AccessState) -> PortGroup {
    PortGroup { group, port: group, state, is_preferred: false }
}

/// Byte for byte; the owner's group is preferred by the administrator here.
#[test]
fn every_node_is_a_group_with_one_port() {
    let mut bench = Bench::new();
    let owner = PortGroup { is_preferred: true, ..group(0x0203, AccessState::Optimized) };
    bench.unit.set_port_groups(&[owner, group(0xfffe, AccessState::NonOptimized)]);
    let mut expected = vec![0, 0, 0, 24]; // RETURN DATA LENGTH
    expected.extend([0x80, 0x8b, 0x02, 0x03]); // PREF, active/optimized; T_SUP, U_SUP, AN_SUP, AO_SUP; group
    expected.extend([0, 0, 0, 1]); // STATUS CODE: none; TARGET PORT COUNT
    expected.extend([0, 0, 0x02, 0x03]); // RELATIVE TARGET PORT IDENTIFIER
    expected.extend([0x01, 0x8b, 0xff, 0xfe, 0, 0, 0, 1, 0, 0, 0xff, 0xfe]);
    assert_eq!(report(&mut bench, 0), expected);

    // Extended header: its format, and IMPLICIT TRANSITION TIME.
    let extended = report(&mut bench, 1);
    assert_eq!(extended[..8], [0, 0, 0, 28, 0x10, 30, 0, 0]);
    assert_eq!(extended[8..], expected[4..]);
    let response = bench.run(&[0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(7)))));
}

#[test]
fn every_state_has_its_code() {
    let mut bench = Bench::new();
    for (state, code) in [
        (AccessState::Optimized, 0x0),
        (AccessState::NonOptimized, 0x1),
        (AccessState::Unavailable, 0x3),
        (AccessState::Transitioning, 0xf),
    ] {
        bench.unit.set_port_groups(&[group(2, state)]);
        sense_of_change(&mut bench);
        assert_eq!(report(&mut bench, 0)[4], code);
    }
}

/// Takes the unit attention of a change, if there is one.
fn sense_of_change(bench: &mut Bench) -> Option<(u8, u8, u8)> {
    let response = bench.run(&TEST_UNIT_READY);
    response.sense.is_some().then(|| sense(&response))
}

/// A host that asks before the node has told anything sees the port that it came through: the page's and INQUIRY's.
#[test]
fn a_unit_that_was_told_nothing_has_its_own_group() {
    let mut bench = Bench::new();
    assert_eq!(report(&mut bench, 0), [0, 0, 0, 12, 0, 0x8b, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(good(bench.run(&[0x12, 0, 0, 0, 96, 0]))[5] & 0x30, 0x30, "TPGS: implicit and explicit");
}

/// SPC-4 §5.11.2.2.
#[test]
fn a_change_is_told_to_every_nexus_once() {
    let mut bench = Bench::new();
    let other = NexusId(8);
    bench.unit.add_nexus(other, None).unwrap();
    let here = [group(1, AccessState::Optimized), group(2, AccessState::NonOptimized)];
    let there = [group(1, AccessState::NonOptimized), group(2, AccessState::Optimized)];
    bench.unit.set_port_groups(&here);
    good(bench.run(&TEST_UNIT_READY)); // the first word is no change
    bench.unit.set_port_groups(&here);
    good(bench.run(&TEST_UNIT_READY));
    bench.unit.set_port_groups(&there);
    bench.unit.set_port_groups(&here);
    for nexus in [HOST, other] {
        assert_eq!(sense(&bench.run_as(nexus, &TEST_UNIT_READY)), (6, 0x2a, 6));
        good(bench.run_as(nexus, &TEST_UNIT_READY));
    }
    assert_eq!(bench.unit.port_groups(), here);
}

/// PREF is no state: nobody has to be told (SPC-4 §5.11.2.2).
#[test]
fn another_wish_is_shown_but_not_told() {
    let mut bench = Bench::new();
    let [one, two] = [group(1, AccessState::Optimized), group(2, AccessState::NonOptimized)];
    bench.unit.set_port_groups(&[one, two]);
    bench.unit.set_port_groups(&[one, PortGroup { is_preferred: true, ..two }]);
    good(bench.run(&TEST_UNIT_READY));
    let shown = report(&mut bench, 0);
    assert_eq!([shown[4], shown[16]], [0x00, 0x81]);
}

#[test]
fn groups_are_bounded() {
    let mut bench = Bench::new();
    let many: Vec<PortGroup> = (0..2000).map(|number| group(number, AccessState::NonOptimized)).collect();
    bench.unit.set_port_groups(&many);
    assert_eq!(report(&mut bench, 0).len(), 4 + 12 * PORT_GROUPS_MAX);
}

/// SET TARGET PORT GROUPS with these descriptors: state and group.
fn set(bench: &mut Bench, wanted: &[(u8, u16)]) -> dyad_scsi::Response {
    let mut list = vec![0; 4];
    for (state, group) in wanted {
        list.extend([*state, 0]);
        list.extend(group.to_be_bytes());
    }
    bench.send(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0], &list)
}

fn two_groups() -> Bench {
    let mut bench = Bench::new();
    bench.unit.set_port_groups(&[group(1, AccessState::Optimized), group(2, AccessState::NonOptimized)]);
    bench
}

/// SPC-4 §6.45: the owner moves; everybody but who asked is told.
#[test]
fn a_host_makes_another_group_the_short_way() {
    let mut bench = two_groups();
    let other = NexusId(8);
    bench.unit.add_nexus(other, None).unwrap();
    for (to, from) in [(2, 1), (1, 2), (2, 1)] {
        good(set(&mut bench, &[(0, to), (1, from)]));
        let states: Vec<_> = bench.unit.port_groups().iter().map(|known| (known.group, known.state)).collect();
        assert!(states.contains(&(to, AccessState::Optimized)) && states.contains(&(from, AccessState::NonOptimized)));
        good(bench.run(&TEST_UNIT_READY));
        assert_eq!(sense(&bench.run_as(other, &TEST_UNIT_READY)), (6, 0x2a, 6));
        good(bench.run_as(other, &TEST_UNIT_READY));
    }
    // What changes by itself afterwards is told to who had asked, too.
    bench.unit.set_port_groups(&[group(1, AccessState::Optimized), group(2, AccessState::NonOptimized)]);
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2a, 6));
}

#[test]
fn what_is_so_already_is_no_change() {
    let mut bench = two_groups();
    good(set(&mut bench, &[(0, 1)]));
    good(set(&mut bench, &[(1, 2)]));
    good(set(&mut bench, &[(0, 1), (1, 2)]));
    good(set(&mut bench, &[]));
    good(bench.send(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]));
    assert_eq!(bench.unit.port_groups()[0].state, AccessState::Optimized);
}

/// No state is reachable in which there is no owner, or two, or one that a host took out of service.
#[test]
fn other_states_are_refused_by_their_place() {
    for (wanted, at) in [
        (&[(1, 1)][..], 4),     // the owner's, and no other in its place
        (&[(0, 2), (0, 1)], 8), // two
        (&[(0, 2), (1, 2)], 8), // both at once
        (&[(2, 2)], 4),         // standby
        (&[(3, 2)], 4),         // unavailable
        (&[(0xe, 2)], 4),       // offline
        (&[(0xf, 2)], 4),       // transitioning
        (&[(0, 3)], 6),         // no such group
    ] {
        let mut bench = two_groups();
        let response = set(&mut bench, wanted);
        assert_eq!((sense(&response), field(&response).unwrap().1), ((5, 0x26, 0), at), "{wanted:?}");
        assert_eq!(bench.unit.port_groups()[0].state, AccessState::Optimized);
    }
    let mut bench = two_groups();
    for len in [3, 5, 0xff, 0xfc] {
        let mut cdb = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 1, len, 0, 0];
        cdb[8] = u8::from(len > 8);
        assert_eq!(sense(&bench.send(&cdb, &[0; 600])), (5, 0x1a, 0), "{len}");
    }
}

/// The node could not: the host is told so, and hears of changes again.
#[test]
fn a_move_that_fails_leaves_all_as_it_was() {
    for (error, answer) in [(VolumeError::Busy, None), (VolumeError::WriteFault, Some((4, 0x67, 0x0a)))] {
        let mut bench = two_groups();
        bench.volume.failures = vec![error];
        let response = set(&mut bench, &[(0, 2)]);
        match answer {
            None => assert_eq!(response.status, dyad_scsi::Status::Busy),
            Some(answer) => assert_eq!(sense(&response), answer),
        }
        bench.unit.set_port_groups(&[group(1, AccessState::NonOptimized), group(2, AccessState::Optimized)]);
        assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2a, 6));
    }
}

/// What broke: who asked for a move and gave it up before it failed was not told of any later change, and the failure of
/// another host's move was taken for the end of one that went on.
#[test]
fn who_gave_a_move_up_is_told_of_what_comes_later() {
    let begin = |bench: &mut Bench, nexus: NexusId, to: u16| {
        let cdb = common::padded(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]);
        let Begun::DataOut { task, .. } = bench.unit.begin(nexus, 0, &cdb, Transfer::Out(8)) else { panic!("no list") };
        let [high, low] = to.to_be_bytes();
        let list = common::payload(&bench.slab, &[0, 0, 0, 0, 0, 0, high, low]);
        let Step::Node { task, .. } = bench.unit.data_out(task, list) else { panic!("no move") };
        task
    };
    let owned_by = |owner: u16| {
        let state = |number| if number == owner { AccessState::Optimized } else { AccessState::NonOptimized };
        [1, 2, 3].map(|number| group(number, state(number)))
    };
    let other = NexusId(8);
    let start = || {
        let mut bench = Bench::new();
        bench.unit.add_nexus(other, None).unwrap();
        bench.unit.set_port_groups(&owned_by(1));
        bench
    };

    let mut bench = start();
    drop(begin(&mut bench, HOST, 2));
    bench.unit.not_moved(2);
    bench.unit.set_port_groups(&owned_by(3));
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2a, 6));

    let mut bench = start();
    let failing = begin(&mut bench, other, 3);
    let going_on = begin(&mut bench, HOST, 2);
    bench.unit.finish(failing, Err(VolumeError::Busy));
    bench.unit.set_port_groups(&owned_by(2));
    bench.unit.finish(going_on, Ok(VolumeDone::Done));
    good(bench.run(&TEST_UNIT_READY));
    assert_eq!(sense(&bench.run_as(other, &TEST_UNIT_READY)), (6, 0x2a, 6));
}
