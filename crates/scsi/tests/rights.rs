//! What the administrator lets a nexus do: write protection for one host (SPC-4 §4.14), no unit for another.

mod common;

use common::cluster::{At, Cluster, register_and_move, reserve_out};
use common::play::{
    CLEAR, EXCLUSIVE_ACCESS, EXCLUSIVE_ACCESS_REGISTRANTS, PREEMPT, PREEMPT_AND_ABORT, Play, REGISTER,
    REGISTER_AND_IGNORE, RELEASE_6, RESERVE, RESERVE_6,
};
use common::{Bench, HOST, good, padded, payload, sense};
use dyad_scsi::{Attention, Begun, NexusId, Right, Status, Step, Transfer, Who};

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 96, 0];
const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
const MODE_SENSE: [u8; 6] = [0x1a, 0x08, 0x3f, 0, 255, 0];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 9, 0, 0, 2, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0];
const WRITE_SAME_OF_ZEROS: [u8; 16] = [0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0];
const UNMAP: [u8; 10] = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
const OTHER: NexusId = NexusId(8);
const WP: u8 = 0x80;
const PROTECTED: (u8, u8, u8) = (7, 0x27, 0);

/// Two hosts that learned of everything.
fn two_hosts() -> Bench {
    let mut bench = Bench::new();
    bench.unit.add_nexus(OTHER, None).unwrap();
    bench
}

#[test]
fn a_read_only_host_reads_sees_wp_and_writes_nothing() {
    let mut bench = two_hosts();
    bench.unit.set_right(HOST, Right::ReadOnly);
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2a, 1), "MODE PARAMETERS CHANGED, once");
    good(bench.run(&READ));
    bench.asked();
    assert_eq!(sense(&bench.send(&WRITE, &[1; 512])), (7, 0x27, 0));
    assert_eq!(sense(&bench.run(&WRITE_SAME_OF_ZEROS)), (7, 0x27, 0));
    assert_eq!(sense(&bench.send(&UNMAP, &[0; 24])), (7, 0x27, 0));
    assert!(bench.asked().is_empty());
    assert_eq!(good(bench.run(&MODE_SENSE))[2] & WP, WP);
    assert_eq!(good(bench.run_as(OTHER, &MODE_SENSE))[2] & WP, 0, "the other host may write");
    bench.unit.set_right(HOST, Right::Full);
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2a, 1));
    assert_eq!(bench.send(&WRITE, &[1; 512]).status, Status::Good);
    assert_eq!(good(bench.run(&MODE_SENSE))[2] & WP, 0);
}

/// What the administrator was told is true from then on, for data too that were on their way.
#[test]
fn data_that_come_after_the_right_is_gone_are_not_written() {
    for right in [Right::ReadOnly, Right::None] {
        let mut bench = two_hosts();
        let begun = bench.unit.begin(HOST, 0, &padded(&WRITE), Transfer::Out(512));
        let Begun::DataOut { task, .. } = begun else { panic!("a write asks for its data") };
        bench.unit.set_right(HOST, right);
        let Step::Answer(response) = bench.unit.data_out(task, payload(&bench.slab, &[1; 512])) else {
            panic!("the write went on")
        };
        assert_eq!(sense(&response), (7, 0x27, 0));
    }
}

#[test]
fn for_a_host_without_a_right_there_is_no_unit() {
    let mut bench = two_hosts();
    bench.unit.set_right(HOST, Right::None);
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x3f, 0x0e), "REPORTED LUNS DATA HAS CHANGED");
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (5, 0x25, 0));
    assert_eq!(sense(&bench.run(&READ)), (5, 0x25, 0));
    assert_eq!(sense(&bench.send(&WRITE, &[1; 512])), (5, 0x25, 0));
    assert_eq!(good(bench.run(&INQUIRY))[0], 0x7f, "PERIPHERAL QUALIFIER 011b");
    assert_eq!(good(bench.run(&REPORT_LUNS)), [0; 8], "an empty list");
    let data = good(bench.run(&REQUEST_SENSE));
    assert_eq!((data[2], data[12], data[13]), (5, 0x25, 0));
    assert!(bench.asked().is_empty());
    good(bench.run_as(OTHER, &READ));
    assert_eq!(good(bench.run_as(OTHER, &REPORT_LUNS))[3], 8);
}

/// SPC-4 §6.33: who asks for the list needs not be told that it changed.
#[test]
fn report_luns_takes_the_attention_that_tells_of_it() {
    let mut bench = two_hosts();
    bench.unit.set_right(HOST, Right::None);
    bench.unit.set_right(HOST, Right::Full);
    assert_eq!(good(bench.run(&REPORT_LUNS))[3], 8);
    good(bench.run(&TEST_UNIT_READY));
}

/// A host that logs in later with less than every right hears of the power on and of nothing else.
#[test]
fn a_new_host_finds_its_right_as_it_is() {
    let mut bench = two_hosts();
    let new = NexusId(9);
    bench.unit.add_nexus(new, None).unwrap();
    bench.unit.set_right(new, Right::ReadOnly);
    bench.unit.attend(Who::Only(new), Attention::PowerOn);
    assert_eq!(sense(&bench.run_as(new, &TEST_UNIT_READY)), (6, 0x29, 0));
    good(bench.run_as(new, &TEST_UNIT_READY));
    assert_eq!(good(bench.run_as(new, &MODE_SENSE))[2] & WP, WP);
    bench.unit.remove_nexus(new);
    assert_eq!(bench.send(&WRITE, &[1; 512]).status, Status::Good);
}

/// A host that may only read does not keep others from writing, nor moves the volume away from them.
#[test]
fn a_host_that_may_only_read_changes_nothing_for_the_others() {
    let mut bench = Bench::new();
    bench.unit.set_right(HOST, Right::ReadOnly);
    assert_eq!(sense(&bench.run(&[0; 6])), (6, 0x2a, 1));
    let mut protect = vec![0; 16];
    protect[4..].copy_from_slice(&[0x0a, 10, 0x02, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0]);
    let set_groups = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
    for (cdb, list) in [
        (&[0x15, 0x10, 0, 0, 16, 0][..], &protect[..]),
        (&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 16, 0], &protect),
        (&set_groups, &[0, 0, 0, 0, 0, 0, 0, 2]),
    ] {
        assert_eq!(sense(&bench.send(cdb, list)), (7, 0x27, 0), "{cdb:02x?}");
    }
    assert_eq!(bench.asked(), [""; 0]);
    good(bench.run(&[0x1a, 0x08, 0x3f, 0, 255, 0]));
}

/// What broke: a host that may only read fenced off who may write, ended their commands, reserved the unit, or stopped it.
#[test]
fn a_host_that_may_only_read_keeps_nobody_out() {
    const START_STOP: [u8; 6] = [0x1b, 0, 0, 0, 0, 0];
    let mut cluster = Cluster::new(1, 2);
    let (writer, reader) = (At { node: 0, host: 0 }, At { node: 0, host: 1 });
    let set_right = |cluster: &mut Cluster, right| {
        cluster.nodes[0].unit.set_right(reader.nexus(), right);
        assert_eq!(sense(&cluster.run(reader, &TEST_UNIT_READY, &[])), (6, 0x2a, 1));
    };
    cluster.register(writer, 1);
    set_right(&mut cluster, Right::ReadOnly);
    cluster.register(reader, 2);
    good(cluster.out(reader, REGISTER_AND_IGNORE, 0, 0, 2));
    let (move_cdb, move_list) = register_and_move(2, 1, 0, writer);
    for (action, key, other) in [(RESERVE, 2, 0), (CLEAR, 2, 0), (PREEMPT, 2, 1), (PREEMPT_AND_ABORT, 2, 1)] {
        assert_eq!(sense(&cluster.out(reader, action, EXCLUSIVE_ACCESS, key, other)), PROTECTED, "{action}");
    }
    assert_eq!(sense(&cluster.run(reader, &move_cdb, &move_list)), PROTECTED);
    for cdb in [&RESERVE_6[..], &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], &START_STOP] {
        assert_eq!(sense(&cluster.run(reader, cdb, &[])), PROTECTED, "{cdb:02x?}");
    }
    // Its own: it reads where only registrants may, and gives up what it holds.
    good(cluster.out(writer, RESERVE, EXCLUSIVE_ACCESS_REGISTRANTS, 1, 0));
    good(cluster.read(reader));
    assert_eq!(cluster.keys(reader), (3, vec![1, 2]));
    good(cluster.run(reader, &RELEASE_6, &[]));
    good(cluster.out(reader, REGISTER, 0, 2, 0));
    good(cluster.write(writer));
    assert_eq!(cluster.keys(writer), (4, vec![1]));
}

/// A reservation whose list was on its way when the right was taken away is not made.
#[test]
fn a_right_that_is_gone_is_gone_for_lists_that_are_on_their_way() {
    let mut cluster = Cluster::new(1, 2);
    let host = At { node: 0, host: 0 };
    cluster.register(host, 1);
    let (cdb, list) = reserve_out(RESERVE, EXCLUSIVE_ACCESS, 1, 0, 0);
    let unit = &mut cluster.nodes[0].unit;
    let Begun::State { task } = unit.begin(host.nexus(), 0, &padded(&cdb), Transfer::Out(24)) else {
        panic!("it does not look")
    };
    unit.adopt(cluster.edition, &cluster.state).unwrap();
    let Begun::DataOut { task, .. } = unit.again(task) else { panic!("it wants no list") };
    unit.set_right(host.nexus(), Right::ReadOnly);
    let Step::Answer(response) = unit.data_out(task, payload(&cluster.slab, &list)) else { panic!("it goes on") };
    assert_eq!(sense(&response), PROTECTED);
}
