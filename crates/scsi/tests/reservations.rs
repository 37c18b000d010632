//! Persistent reservations (SPC-4 §5.13), RESERVE and RELEASE (SPC-2 §5.5), at one node and across nodes (M20).

mod common;

use common::cluster::{At, Cluster, id_of, register_and_move, register_others, reserve_in, reserve_out};
use common::play::{
    A, B, C, CLEAR, EXCLUSIVE_ACCESS, EXCLUSIVE_ACCESS_ALL, EXCLUSIVE_ACCESS_REGISTRANTS, PREEMPT, PREEMPT_AND_ABORT,
    Play, REGISTER, REGISTER_AND_IGNORE, REGISTRATIONS_PREEMPTED, RELEASE, RESERVATIONS_PREEMPTED,
    RESERVATIONS_RELEASED, RESERVE, TEST_UNIT_READY, WRITE_EXCLUSIVE, WRITE_EXCLUSIVE_ALL, WRITE_EXCLUSIVE_REGISTRANTS,
    conflict,
};
use common::{good, sense};
use dyad_scsi::{COMMANDS, Conflict, Response, Status};

/// SPC-4 §5.13.7, tables 63 and 64.
#[test]
fn registering_asks_for_the_key_that_is_there() {
    let mut cluster = Cluster::new(2, 3);
    conflict(&cluster.out(A, REGISTER, 0, 5, 6)); // nothing is there yet
    good(cluster.out(A, REGISTER, 0, 0, 0)); // nothing to give up
    assert_eq!(cluster.keys(A), (0, vec![]));
    cluster.register(A, 0xa);
    conflict(&cluster.out(A, REGISTER, 0, 0, 0xb));
    conflict(&cluster.out(A, REGISTER, 0, 0xb, 0xc));
    good(cluster.out(A, REGISTER, 0, 0xa, 0xc));
    good(cluster.out(B, REGISTER_AND_IGNORE, 0, 77, 0xb));
    good(cluster.out(A, REGISTER_AND_IGNORE, 0, 77, 0xd));
    assert_eq!(cluster.keys(C), (4, vec![0xd, 0xb]));
    good(cluster.out(B, REGISTER_AND_IGNORE, 0, 0, 0));
    good(cluster.out(B, REGISTER_AND_IGNORE, 0, 0, 0)); // is gone already
    good(cluster.out(A, REGISTER, 0, 0xd, 0));
    assert_eq!(cluster.keys(C), (6, vec![]));
}

/// SPC-4 table 66, SBC-3 table 14: who may do what under each type.
#[test]
fn a_reservation_keeps_others_from_what_its_type_says() {
    let cases = [
        (WRITE_EXCLUSIVE, [true, false, true, false]),
        (EXCLUSIVE_ACCESS, [false, false, false, false]),
        (WRITE_EXCLUSIVE_REGISTRANTS, [true, true, true, false]),
        (EXCLUSIVE_ACCESS_REGISTRANTS, [true, true, false, false]),
        (WRITE_EXCLUSIVE_ALL, [true, true, true, false]),
        (EXCLUSIVE_ACCESS_ALL, [true, true, false, false]),
    ];
    for (kind, [registered_reads, registered_writes, others_read, others_write]) in cases {
        let mut cluster = Cluster::new(2, 3);
        let other = At { node: 1, host: 1 };
        cluster.register(A, 1);
        cluster.register(C, 3);
        good(cluster.out(A, RESERVE, kind, 1, 0));
        good(cluster.read(A));
        good(cluster.write(A));
        let check = |response: Response, may: bool| {
            let expected = if may { Status::Good } else { Status::ReservationConflict };
            assert_eq!(response.status, expected, "type {kind}");
        };
        check(cluster.read(C), registered_reads);
        check(cluster.write(C), registered_writes);
        check(cluster.read(other), others_read);
        check(cluster.write(other), others_write);
        check(cluster.run(other, &TEST_UNIT_READY, &[]), true);
    }
}

/// Every row of the table, for who has nothing to do with the reservation.
#[test]
fn every_command_obeys_its_rows_rule() {
    for (kind, lets_read) in [(WRITE_EXCLUSIVE, true), (EXCLUSIVE_ACCESS, false)] {
        let mut cluster = Cluster::new(1, 3);
        cluster.register(A, 1);
        good(cluster.out(A, RESERVE, kind, 1, 0));
        for command in COMMANDS.iter().filter(|command| command.opcode() != 0x5f) {
            let mut cdb = [0; 16];
            cdb[0] = command.opcode();
            cdb[1] = command.service_action.unwrap_or(0);
            let response = cluster.run(B, &cdb[..command.usage.len()], &[]);
            let refuses = match command.conflict {
                Conflict::Never => false,
                Conflict::UnlessWriteExclusive => !lets_read,
                Conflict::Always => true,
            };
            // RESERVE and RELEASE: there are registrations, and this host's is not among them (SPC-2 §5.5.1).
            let refuses = refuses || matches!(command.opcode(), 0x16 | 0x17 | 0x56 | 0x57);
            assert_eq!(response.status == Status::ReservationConflict, refuses, "{} under type {kind}", command.name);
        }
    }
}

/// SPC-4 §5.13.9: one reservation, and whoever holds it may ask again.
#[test]
fn a_reservation_is_given_to_one_registered_host() {
    let mut cluster = Cluster::new(2, 3);
    conflict(&cluster.out(A, RESERVE, WRITE_EXCLUSIVE, 0, 0));
    cluster.register(A, 1);
    cluster.register(C, 3);
    conflict(&cluster.out(A, RESERVE, WRITE_EXCLUSIVE, 2, 0));
    assert_eq!(sense(&cluster.out(A, RESERVE, 2, 1, 0)), (5, 0x24, 0));
    assert_eq!(sense(&cluster.out(A, RESERVE, 0x10 | WRITE_EXCLUSIVE, 1, 0)), (5, 0x24, 0));
    good(cluster.out(A, RESERVE, WRITE_EXCLUSIVE, 1, 0));
    good(cluster.out(A, RESERVE, WRITE_EXCLUSIVE, 1, 0));
    conflict(&cluster.out(A, RESERVE, EXCLUSIVE_ACCESS, 1, 0));
    conflict(&cluster.out(C, RESERVE, WRITE_EXCLUSIVE, 3, 0));
    assert_eq!(cluster.held(C), Some((1, WRITE_EXCLUSIVE)));
    assert_eq!(cluster.keys(C).0, 2, "RESERVE is no new generation");
}

/// SPC-4 §5.13.11.2.
#[test]
fn a_release_is_told_to_who_had_access_by_it() {
    for (kind, told) in [(WRITE_EXCLUSIVE, false), (EXCLUSIVE_ACCESS_REGISTRANTS, true), (WRITE_EXCLUSIVE_ALL, true)] {
        let mut cluster = Cluster::new(2, 3);
        [(A, 1), (B, 2), (C, 3)].into_iter().for_each(|(at, key)| cluster.register(at, key));
        good(cluster.out(A, RESERVE, kind, 1, 0));
        let other = if kind == WRITE_EXCLUSIVE { EXCLUSIVE_ACCESS } else { WRITE_EXCLUSIVE };
        assert_eq!(sense(&cluster.out(A, RELEASE, other, 1, 0)), (5, 0x26, 4));
        if kind != WRITE_EXCLUSIVE_ALL {
            good(cluster.out(B, RELEASE, kind, 2, 0)); // is not its own: ignored
            assert!(cluster.held(B).is_some());
        }
        conflict(&cluster.out(A, RELEASE, kind, 9, 0));
        good(cluster.out(A, RELEASE, kind, 1, 0));
        for at in [B, C] {
            if told {
                assert_eq!(sense(&cluster.write(at)), RESERVATIONS_RELEASED);
            }
            good(cluster.write(at));
        }
        good(cluster.write(A));
        assert_eq!(cluster.held(A), None);
    }
}

/// SPC-4 §5.13.11.3: with the holder's registration, or the last of all holders', the reservation goes.
#[test]
fn a_reservation_ends_with_its_holders_registration() {
    let mut cluster = Cluster::new(2, 3);
    cluster.register(A, 1);
    cluster.register(C, 3);
    good(cluster.out(A, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, 1, 0));
    good(cluster.out(A, REGISTER, 0, 1, 0));
    assert_eq!(cluster.held(A), None);
    assert_eq!(sense(&cluster.read(C)), RESERVATIONS_RELEASED);
    good(cluster.out(C, RESERVE, EXCLUSIVE_ACCESS_ALL, 3, 0));
    cluster.register(A, 1);
    good(cluster.out(C, REGISTER, 0, 3, 0));
    assert_eq!(cluster.held(B), Some((0, EXCLUSIVE_ACCESS_ALL)), "one who is registered is left");
    conflict(&cluster.read(C));
    good(cluster.out(A, REGISTER, 0, 1, 0));
    assert_eq!(cluster.held(B), None);
    good(cluster.read(C));
}

/// SPC-4 §5.13.11.6.
#[test]
fn clear_leaves_nothing_and_says_so() {
    let mut cluster = Cluster::new(2, 3);
    [(A, 1), (B, 2), (C, 3)].into_iter().for_each(|(at, key)| cluster.register(at, key));
    good(cluster.out(A, RESERVE, EXCLUSIVE_ACCESS, 1, 0));
    conflict(&cluster.out(C, CLEAR, 0, 1, 0));
    good(cluster.out(C, CLEAR, 0, 3, 0));
    for at in [A, B] {
        assert_eq!(sense(&cluster.write(at)), RESERVATIONS_PREEMPTED);
        good(cluster.write(at));
    }
    good(cluster.write(C));
    assert_eq!((cluster.keys(A), cluster.held(A)), ((4, vec![]), None));
}

/// SPC-4 §5.13.11.4: a command that comes to any node after the PREEMPT was answered is refused.
#[test]
fn after_a_preempt_no_node_lets_the_preempted_host_write() {
    let mut cluster = Cluster::new(2, 3);
    [(A, 1), (B, 2), (C, 3)].into_iter().for_each(|(at, key)| cluster.register(at, key));
    good(cluster.out(C, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, 3, 0));
    good(cluster.write(C));
    let done = cluster.nodes[1].done;
    good(cluster.out(A, PREEMPT, EXCLUSIVE_ACCESS_REGISTRANTS, 1, 3));
    // Node 1 does not know of it; the owner does.
    assert_eq!(sense(&cluster.write(C)), REGISTRATIONS_PREEMPTED);
    conflict(&cluster.write(C));
    conflict(&cluster.read(C));
    assert_eq!(cluster.nodes[1].done, done);
    // The type is another: who stayed hears of that.
    assert_eq!(sense(&cluster.read(B)), RESERVATIONS_RELEASED);
    good(cluster.write(B));
    assert_eq!(cluster.held(B), Some((1, EXCLUSIVE_ACCESS_REGISTRANTS)));
    assert_eq!(cluster.keys(C), (4, vec![1, 2]));
}

#[test]
fn a_preempt_of_who_holds_nothing_leaves_the_reservation() {
    let mut cluster = Cluster::new(2, 3);
    [(A, 1), (B, 2), (C, 3)].into_iter().for_each(|(at, key)| cluster.register(at, key));
    conflict(&cluster.out(A, PREEMPT, WRITE_EXCLUSIVE, 1, 9)); // nobody has that key
    assert_eq!(sense(&cluster.out(A, PREEMPT, WRITE_EXCLUSIVE, 1, 0)), (5, 0x26, 0));
    good(cluster.out(B, RESERVE, WRITE_EXCLUSIVE, 2, 0));
    good(cluster.out(A, PREEMPT, EXCLUSIVE_ACCESS, 1, 3));
    assert_eq!(cluster.held(A), Some((2, WRITE_EXCLUSIVE)));
    assert_eq!(sense(&cluster.read(C)), REGISTRATIONS_PREEMPTED);
    good(cluster.read(C));
    conflict(&cluster.out(C, PREEMPT, EXCLUSIVE_ACCESS, 3, 1)); // is registered no more
}

/// SPC-4 §5.13.11.4: of all who are registered only the one who asks stays.
#[test]
fn key_zero_preempts_everybody_where_all_hold_it() {
    let mut cluster = Cluster::new(2, 3);
    [(A, 1), (B, 1), (C, 3)].into_iter().for_each(|(at, key)| cluster.register(at, key));
    good(cluster.out(A, RESERVE, WRITE_EXCLUSIVE_ALL, 1, 0));
    good(cluster.out(C, PREEMPT, WRITE_EXCLUSIVE, 3, 0));
    assert_eq!((cluster.keys(C).1, cluster.held(C)), (vec![3], Some((3, WRITE_EXCLUSIVE))));
    for at in [A, B] {
        assert_eq!(sense(&cluster.read(at)), REGISTRATIONS_PREEMPTED);
        conflict(&cluster.write(at));
    }
}

/// M19, M20: whose commands have to be given up, here and at other nodes.
#[test]
fn preempt_and_abort_names_the_nexuses_to_drain_at_every_node() {
    let mut cluster = Cluster::new(2, 3);
    [(A, 1), (B, 2), (C, 2)].into_iter().for_each(|(at, key)| cluster.register(at, key));
    good(cluster.read(C));
    assert_eq!(cluster.nodes[0].unit.take_drain(), None);
    good(cluster.out(A, PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, 1, 2));
    let drain = cluster.nodes[0].unit.take_drain().unwrap();
    assert_eq!((drain.nexuses, drain.is_elsewhere), (vec![B.nexus()], true));
    assert_eq!(cluster.nodes[0].unit.take_drain(), None);
    cluster.bring_state(1);
    let drain = cluster.nodes[1].unit.take_drain().unwrap();
    assert_eq!((drain.nexuses, drain.is_elsewhere), (vec![C.nexus()], false));
    assert_eq!(sense(&cluster.read(C)), REGISTRATIONS_PREEMPTED);
}

/// SPC-4 §5.13.8.
#[test]
fn a_reservation_moves_to_another_path() {
    let mut cluster = Cluster::new(2, 3);
    let (cdb, list) = register_and_move(1, 7, 0, C);
    conflict(&cluster.run(A, &cdb, &list));
    cluster.register(A, 1);
    conflict(&cluster.run(A, &cdb, &list)); // holds nothing
    good(cluster.out(A, RESERVE, WRITE_EXCLUSIVE, 1, 0));
    let refused = [
        (register_and_move(1, 0, 0, C), (5, 0x26, 0)),
        (register_and_move(1, 7, 4, C), (5, 0x26, 0)),
        (register_and_move(1, 7, 0, A), (5, 0x26, 0)),
        (register_and_move(1, 7, 0, At { node: 8, host: 2 }), (5, 0x26, 0)),
    ];
    for ((cdb, list), expected) in refused {
        assert_eq!(sense(&cluster.run(A, &cdb, &list)), expected);
    }
    good(cluster.run(A, &cdb, &list));
    assert_eq!((cluster.keys(A), cluster.held(A)), ((2, vec![1, 7]), Some((7, WRITE_EXCLUSIVE))));
    conflict(&cluster.write(A));
    good(cluster.write(C));
    let (cdb, list) = register_and_move(7, 8, 2, A);
    good(cluster.run(C, &cdb, &list));
    assert_eq!((cluster.keys(A).1, cluster.held(A)), (vec![8], Some((8, WRITE_EXCLUSIVE))));
}

/// SPC-4 §6.16.3: SPEC_I_PT and ALL_TG_PT; all of it or nothing.
#[test]
fn one_command_registers_many_paths() {
    let mut cluster = Cluster::new(2, 3);
    let (cdb, list) = register_others(5, 0, &[id_of(1), id_of(2)]);
    good(cluster.run(A, &cdb, &list));
    assert_eq!(cluster.keys(A), (1, vec![5; 3]));
    let mut cluster = Cluster::new(2, 3);
    let (cdb, list) = register_others(5, 0x04, &[id_of(2)]);
    good(cluster.run(A, &cdb, &list));
    assert_eq!(cluster.keys(A).1, [5; 4], "two ports of two hosts");
    good(cluster.out(C, RESERVE, EXCLUSIVE_ACCESS_REGISTRANTS, 5, 0));
    good(cluster.write(At { node: 1, host: 0 }));
    cluster.register(B, 9);
    let b1 = At { node: 1, host: 1 };
    let (cdb, list) = register_others(6, 0, &[id_of(2)]);
    conflict(&cluster.run(b1, &cdb, &list)); // host 2 is registered there with another key
    assert_eq!(cluster.keys(A).1, [5, 5, 5, 5, 9]);
    let (cdb, mut list) = register_others(6, 0, &[id_of(1)]);
    list[28] = 0x46;
    assert_eq!(sense(&cluster.run(b1, &cdb, &list)), (5, 0x26, 0));
    list.truncate(40);
    assert_eq!(sense(&cluster.run(b1, &cdb, &list)), (5, 0x1a, 0));
}

#[test]
fn a_list_of_another_length_is_refused() {
    let mut cluster = Cluster::new(1, 1);
    for (action, len) in [(REGISTER_AND_IGNORE, 25), (RESERVE, 20), (REGISTER, 23), (REGISTER, 0), (REGISTER, 26)] {
        let cdb = [0x5f, action, 1, 0, 0, 0, 0, 0, len, 0];
        assert_eq!(sense(&cluster.run(A, &cdb, &[0; 40])), (5, 0x1a, 0), "{action} {len}");
    }
    let cdb = [0x5f, REGISTER, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(sense(&cluster.run(A, &cdb, &[0; 40])), (5, 0x1a, 0));
}

/// SPC-4 §6.15.4, §6.15.5.
#[test]
fn capabilities_and_full_status_say_what_there_is() {
    let mut cluster = Cluster::new(2, 3);
    assert_eq!(good(cluster.run(A, &reserve_in(2), &[])), [0, 8, 0x1d, 0x90, 0xea, 0x01, 0, 0]);
    let (cdb, list) = reserve_out(REGISTER, 0, 0, 0x11, 1);
    good(cluster.run(A, &cdb, &list));
    cluster.register(C, 0x33);
    good(cluster.out(C, RESERVE, EXCLUSIVE_ACCESS, 0x33, 0));
    assert_eq!(good(cluster.run(B, &reserve_in(2), &[]))[3], 0x90, "APTPL is what the last REGISTER said");
    let data = good(cluster.run(B, &reserve_in(3), &[]));
    let id = id_of(0);
    assert_eq!(data[..8], [[0, 0, 0, 2], (2 * (24 + id.len() as u32)).to_be_bytes()].concat());
    let (first, second) = data[8..].split_at(24 + id.len());
    assert_eq!((first[7], first[12], first[13], first[19], &first[24..]), (0x11, 0, 0, 1, &id[..]));
    let id = id_of(2);
    assert_eq!((second[7], second[12], second[13], second[19], &second[24..]), (0x33, 1, 3, 2, &id[..]));
}
