//! Data-out that does not come as it must: the command fails, or the connection, and nothing is executed.

mod common;

use common::{NONE, Pair, pattern};
use dyad_iscsi::pdu::{Opcode, Reject, RejectReason};
use dyad_iscsi::{CloseReason, Event, Settings};
use dyad_units::Period;

/// The iSCSI conditions of RFC 7143 §11.4.7.2.
fn expect_condition(pair: &mut Pair, asc: u8, ascq: u8) {
    let (response, sense) = pair.expect_response();
    assert_eq!(response.status, 2);
    assert_eq!((sense[2], sense[4], sense[14], sense[15]), (0x70, 0x0b, asc, ascq));
}

fn expect_failed(pair: &mut Pair, task: dyad_iscsi::TaskTag) {
    let event = pair.events.pop_front();
    assert!(matches!(event, Some(Event::DataOutFailed { task: failed }) if failed == task), "{event:?}");
}

#[test]
fn data_with_a_wrong_number_fails_the_command_only() {
    // (DataSN of the two PDUs); libiscsi's suite sends the same.
    for numbers in [[0, 0], [27, 1], [u32::MAX, 1], [1, 0]] {
        let mut pair = Pair::logged_in();
        let task = pair.write(1024).task;
        pair.solicit(task, 1024);
        let r2t = pair.expect_r2t();
        let data = pattern(1024);
        pair.data_out(r2t.task_tag, r2t.transfer_tag, numbers[0], 0, false, &data[..512]);
        pair.data_out(r2t.task_tag, r2t.transfer_tag, numbers[1], 512, true, &data[512..]);
        expect_failed(&mut pair, task);
        expect_condition(&mut pair, 0x47, 0x05);
        pair.respond_good(task, &[]);
        pair.expect_silence();
        write_by_all_means_usual(&mut pair);
    }
}

fn write_by_all_means_usual(pair: &mut Pair) {
    let command = pair.command(false, true, 512);
    pair.send(command.emit(), &pattern(512));
    let task = pair.expect_command().task;
    pair.solicit(task, 512);
    assert_eq!(pair.expect_data_out(task).to_vec(), pattern(512));
    pair.respond_good(task, &[]);
    assert_eq!(pair.expect_response().0.status, 0);
}

#[test]
fn data_of_a_wrong_amount_or_place_fails_the_command_only() {
    let data = pattern(4096);
    type Fault<'a> = &'a dyn Fn(&mut Pair, &dyad_iscsi::pdu::R2t);
    let faults: [Fault<'_>; 4] = [
        // Beyond what was asked for.
        &|pair, r2t| pair.data_out(r2t.task_tag, r2t.transfer_tag, 0, 0, true, &data[..2048]),
        // Too little.
        &|pair, r2t| pair.data_out(r2t.task_tag, r2t.transfer_tag, 0, 0, true, &data[..512]),
        // Not in order.
        &|pair, r2t| pair.data_out(r2t.task_tag, r2t.transfer_tag, 0, 512, true, &data[..512]),
        // An offset out of this world.
        &|pair, r2t| pair.data_out(r2t.task_tag, r2t.transfer_tag, 0, u32::MAX, true, &data[..512]),
    ];
    for fault in faults {
        let mut pair = Pair::logged_in();
        let task = pair.write(1024).task;
        pair.solicit(task, 1024);
        let r2t = pair.expect_r2t();
        fault(&mut pair, &r2t);
        expect_failed(&mut pair, task);
        expect_condition(&mut pair, 0x0c, 0x0d);
        write_by_all_means_usual(&mut pair);
    }
}

#[test]
fn unsolicited_data_that_was_not_agreed_fails_the_command() {
    // Immediate data although ImmediateData=No: the node never hears of the command.
    let mut pair = Pair::logged_in_with(Settings::default(), &["ImmediateData=No"]);
    let command = pair.command(false, true, 512);
    pair.send(command.emit(), &pattern(512));
    expect_condition(&mut pair, 0x0c, 0x0c);
    // Data-Out to come although InitialR2T=Yes: the answer waits for it.
    let mut pair = Pair::logged_in_with(Settings::default(), &["InitialR2T=Yes"]);
    let mut command = pair.command(false, true, 1024);
    command.is_final = false;
    pair.send(command.emit(), &pattern(512));
    pair.expect_silence();
    pair.data_out(command.task_tag, NONE, 0, 512, true, &pattern(512));
    expect_condition(&mut pair, 0x0c, 0x0c);
    // Data with a read.
    let command = pair.command(true, false, 512);
    pair.send(command.emit(), &pattern(512));
    expect_condition(&mut pair, 0x0c, 0x0c);
    // More than the first burst, more than the command has.
    let mut pair = Pair::logged_in_with(Settings::default(), &["FirstBurstLength=512"]);
    let command = pair.command(false, true, 1024);
    pair.send(command.emit(), &pattern(1024));
    expect_condition(&mut pair, 0x0c, 0x0d);
    let command = pair.command(false, true, 256);
    pair.send(command.emit(), &pattern(512));
    expect_condition(&mut pair, 0x0c, 0x0d);
    let mut command = pair.command(false, true, 1024);
    command.is_final = false;
    pair.send(command.emit(), &pattern(512));
    let task = pair.expect_command().task;
    pair.data_out(command.task_tag, NONE, 0, 512, true, &pattern(512));
    expect_failed(&mut pair, task);
    expect_condition(&mut pair, 0x0c, 0x0d);
    assert!(pair.events.is_empty());
}

#[test]
fn fewer_unsolicited_bytes_than_allowed_are_completed_by_an_r2t() {
    let mut pair = Pair::logged_in();
    let mut command = pair.command(false, true, 4096);
    command.is_final = false;
    pair.send(command.emit(), &pattern(512));
    let task = pair.expect_command().task;
    pair.solicit(task, 4096);
    pair.data_out(command.task_tag, NONE, 0, 512, true, &[]);
    let r2t = pair.expect_r2t();
    assert_eq!((r2t.offset, r2t.len), (512, 3584));
    pair.satisfy(&r2t, &pattern(4096), 4096);
    assert_eq!(pair.expect_data_out(task).to_vec(), pattern(4096));
}

#[test]
fn data_for_nothing_is_dropped_in_silence() {
    let mut pair = Pair::logged_in();
    pair.data_out(77, NONE, 0, 0, true, &pattern(512));
    pair.data_out(77, 5, 0, 0, true, &pattern(512));
    let task = pair.write(1024).task;
    let tag = pair.next_tag - 1;
    pair.data_out(tag, NONE, 0, 0, true, &pattern(512)); // nothing unsolicited was announced
    pair.solicit(task, 1024);
    let r2t = pair.expect_r2t();
    pair.data_out(tag + 1, r2t.transfer_tag, 0, 0, true, &pattern(1024)); // another task's tag
    pair.connection.abort_task(task);
    pair.satisfy(&r2t, &pattern(1024), 1024); // sent before the host knew
    pair.expect_silence();
    assert!(pair.events.is_empty());
    write_by_all_means_usual(&mut pair);
}

#[test]
fn a_wrong_data_digest_is_rejected_and_fails_the_command() {
    let mut pair = Pair::logged_in_with(Settings::default(), &["DataDigest=CRC32C"]);
    let task = pair.write(1024).task;
    pair.solicit(task, 1024);
    let r2t = pair.expect_r2t();
    let header = dyad_iscsi::pdu::DataOut {
        is_final: true,
        lun: 0,
        task_tag: r2t.task_tag,
        transfer_tag: r2t.transfer_tag,
        exp_stat_sn: 0,
        data_sn: 0,
        offset: 0,
    };
    let mut bytes = pair.encode(header.emit(), &pattern(1024));
    *bytes.last_mut().unwrap() ^= 1;
    pair.send_bytes(&bytes);
    let reject = pair.expect_pdu(Opcode::Reject);
    assert_eq!(Reject::parse(&reject.bhs).unwrap().reason, RejectReason::DataDigest as u8);
    assert_eq!(reject.data, bytes[..48]);
    expect_failed(&mut pair, task);
    expect_condition(&mut pair, 0x47, 0x05);
}

#[test]
fn a_wrong_digest_of_a_command_ends_the_connection() {
    for (flipped, has_reject) in [(8, false), (60, true)] {
        let mut pair = Pair::logged_in_with(Settings::default(), &["HeaderDigest=CRC32C", "DataDigest=CRC32C"]);
        let command = pair.command(false, true, 512);
        let mut bytes = pair.encode(command.emit(), &pattern(512));
        bytes[flipped] ^= 0x40;
        pair.send_bytes(&bytes);
        assert!(matches!(pair.events.pop_front(), Some(Event::Closed(CloseReason::Digest(_)))));
        assert_eq!(pair.receive_one().is_some(), has_reject);
        assert!(pair.connection.is_finished());
    }
}

#[test]
fn long_cdbs_and_bidirectional_commands_are_refused() {
    let mut pair = Pair::logged_in();
    let mut command = pair.command(true, true, 512);
    command.is_final = false;
    pair.send(command.emit(), &[]);
    pair.data_out(command.task_tag, NONE, 0, 0, true, &pattern(512));
    let (response, sense) = pair.expect_response();
    assert_eq!((response.status, sense[4], sense[14], sense[15]), (2, 5, 0x0e, 0x03));
    let mut bhs = pair.command(true, false, 512).emit();
    bhs.set_ahs_len(20);
    pair.send_bytes(&[&bhs.as_bytes()[..], &[0; 20]].concat());
    let (response, sense) = pair.expect_response();
    assert_eq!((response.status, sense[4], sense[14], sense[15]), (2, 5, 0x0e, 0x03));
    assert!(pair.events.is_empty());
}

#[test]
fn a_host_that_never_sends_its_data_is_dropped() {
    let mut pair = Pair::logged_in();
    let task = pair.write(1024).task;
    pair.solicit(task, 1024);
    // It answers pings, but that is not what it owes.
    for _ in 0..100 {
        pair.pass(Period::from_secs(1));
        if pair.events.is_empty() {
            let nop = dyad_iscsi::pdu::NopOut {
                immediate: true,
                lun: 0,
                task_tag: NONE,
                transfer_tag: 1,
                cmd_sn: pair.cmd_sn,
                exp_stat_sn: 0,
            };
            pair.send(nop.emit(), &[]);
        }
    }
    assert!(matches!(pair.events.pop_front(), Some(Event::Closed(CloseReason::Stalled))));
}
