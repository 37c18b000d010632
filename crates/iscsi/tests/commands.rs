//! Commands: reads, writes by each way that data can take, residuals, and data that goes wrong.

mod common;

use common::{NONE, Pair, pattern};
use dyad_iscsi::pdu::{DataIn, NO_TAG, Opcode, Reject, RejectReason, Residual};
use dyad_iscsi::{CloseReason, Event, Settings, TaskAttribute};
use dyad_payload::Payload;
use dyad_units::Period;

/// Takes Data-In until the status; checks numbers, offsets and bounds on the way.
fn take_read(pair: &mut Pair, task_tag: u32, burst: usize) -> (Vec<u8>, Option<(u8, Residual)>) {
    let mut data = Vec::new();
    let mut in_burst = 0;
    let mut data_sn = 0;
    let segment_max = pair.connection.parameters().unwrap().send_segment_bytes_max as usize;
    loop {
        let Some(received) = pair.receive_one() else { return (data, None) };
        if received.bhs.opcode() != Some(Opcode::DataIn) {
            panic!("{received:?} instead of data");
        }
        let header = DataIn::parse(&received.bhs).unwrap();
        assert_eq!((header.task_tag, header.transfer_tag, header.data_sn), (task_tag, NO_TAG, data_sn));
        assert_eq!(header.offset as usize, data.len());
        assert!(received.data.len() <= segment_max);
        in_burst += received.data.len();
        assert!(in_burst <= burst);
        if header.is_final {
            in_burst = 0;
        }
        data.extend(received.data);
        data_sn += 1;
        if header.status.is_some() {
            assert!(header.is_final);
            return (data, header.status);
        }
    }
}

#[test]
fn a_command_reaches_the_node_as_it_was_sent() {
    let mut pair = Pair::logged_in();
    let mut sent = pair.command(false, true, 512);
    sent.lun = 1 << 48;
    sent.attribute = TaskAttribute::Ordered;
    sent.cdb = std::array::from_fn(|at| at as u8);
    pair.send(sent.emit(), &pattern(512));
    let command = pair.expect_command();
    assert_eq!((command.lun, command.cdb, command.attribute), (sent.lun, sent.cdb, sent.attribute));
    assert_eq!((command.expected_len, command.read, command.write, command.immediate), (512, false, true, false));
    assert_eq!(pair.connection.tasks().collect::<Vec<_>>(), [command.task]);
}

#[test]
fn a_command_without_data_gets_a_response() {
    let mut pair = Pair::logged_in();
    let command = pair.command(false, false, 0);
    pair.send(command.emit(), &[]);
    let task = pair.expect_command().task;
    pair.respond_good(task, &[]);
    let (response, sense) = pair.expect_response();
    assert_eq!((response.status, response.residual, response.task_tag), (0, Residual::None, command.task_tag));
    assert!(sense.is_empty());
    assert_eq!(response.numbers.exp_cmd_sn, pair.cmd_sn);
    assert_eq!(response.numbers.max_cmd_sn, pair.cmd_sn + 127);
    assert_eq!(pair.connection.tasks().count(), 0);
}

#[test]
fn a_read_ends_with_its_last_data_pdu() {
    let mut pair = Pair::logged_in_with(
        Settings::default(),
        &["MaxRecvDataSegmentLength=4096", "MaxBurstLength=10240", "HeaderDigest=CRC32C", "DataDigest=CRC32C"],
    );
    for len in [1, 3, 512, 4096, 4097, 10240, 10241, 50_000] {
        let task = pair.read(len as u32).task;
        pair.respond_good(task, &pattern(len));
        let tag = pair.next_tag - 1;
        let (data, status) = take_read(&mut pair, tag, 10240);
        assert_eq!(data, pattern(len));
        assert_eq!(status, Some((0, Residual::None)));
        pair.expect_silence();
    }
}

#[test]
fn read_data_is_sent_from_where_it_lies() {
    let mut pair = Pair::logged_in();
    let task = pair.read(4096).task;
    let buf = pair.slab.copy_of(&pattern(4096)).unwrap();
    let address = buf.as_ptr();
    pair.is_host_reading = false;
    pair.connection.respond(task, 0, &[], Payload::from(buf));
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    assert_eq!(pair.connection.gather(&mut slices), 2);
    assert_eq!((slices[1].as_ptr(), slices[1].len()), (address, 4096));
}

#[test]
fn write_data_arrives_where_it_was_received() {
    let mut pair = Pair::logged_in();
    let command = pair.command(false, true, 4096);
    let bytes = pair.encode(command.emit(), &pattern(4096));
    let buf = pair.slab.copy_of(&bytes).unwrap();
    let address = buf[48..].as_ptr();
    pair.connection.receive(pair.now, buf);
    pair.pump();
    let task = pair.expect_command().task;
    pair.solicit(task, 4096);
    let data = pair.expect_data_out(task);
    assert_eq!(data.slices().len(), 1);
    assert_eq!(data.slices()[0].as_ptr(), address);
}

#[test]
fn sense_data_comes_in_a_response_even_after_data() {
    let mut pair = Pair::logged_in();
    let task = pair.read(1024).task;
    let data = pair.payload(&pattern(512));
    pair.connection.respond(task, 2, &[0x70, 0, 3], data);
    let received = pair.expect_pdu(Opcode::DataIn);
    let header = DataIn::parse(&received.bhs).unwrap();
    assert_eq!((header.status, header.is_final, received.data.len()), (None, true, 512));
    let (response, sense) = pair.expect_response();
    assert_eq!((response.status, response.residual), (2, Residual::Underflow(512)));
    assert_eq!(response.exp_data_sn, 1);
    assert_eq!(sense, [0, 3, 0x70, 0, 3]);
}

#[test]
fn residuals_tell_what_was_not_transferred() {
    let mut pair = Pair::logged_in();
    // Reads: expected, returned.
    let cases = [
        (512, 512, Residual::None),
        (1024, 512, Residual::Underflow(512)),
        (512, 1024, Residual::Overflow(512)),
        (200, 512, Residual::Overflow(312)),
    ];
    for (expected, returned, residual) in cases {
        let task = pair.read(expected).task;
        pair.respond_good(task, &pattern(returned));
        let tag = pair.next_tag - 1;
        let (data, status) = take_read(&mut pair, tag, 1 << 20);
        assert_eq!(data, pattern(returned)[..returned.min(expected as usize)]);
        assert_eq!(status, Some((0, residual)));
    }
    for (expected, returned, residual) in [(0, 512, Residual::Overflow(512)), (512, 0, Residual::Underflow(512))] {
        let task = pair.read(expected).task;
        pair.respond_good(task, &pattern(returned));
        assert_eq!(pair.expect_response().0.residual, residual);
    }
    // Writes: expected, wanted, given to the node.
    let cases = [
        (512, 512, 512, Residual::None),
        (10_000, 512, 512, Residual::Underflow(9488)),
        (200, 512, 200, Residual::Overflow(312)),
        (512, 1024, 512, Residual::Overflow(512)),
        (0, 512, 0, Residual::Overflow(512)),
    ];
    for (expected, wanted, given, residual) in cases {
        let command = pair.command(false, true, expected);
        pair.send(command.emit(), &pattern(expected as usize));
        let task = pair.expect_command().task;
        pair.solicit(task, wanted);
        assert_eq!(pair.expect_data_out(task).to_vec(), pattern(expected as usize)[..given]);
        pair.respond_good(task, &[]);
        assert_eq!(pair.expect_response().0.residual, residual, "{expected} {wanted}");
    }
    // A command that transfers although the host expects nothing.
    let command = pair.command(false, false, 0);
    pair.send(command.emit(), &[]);
    let task = pair.expect_command().task;
    pair.solicit(task, 512);
    assert!(pair.expect_data_out(task).is_empty());
    pair.respond_good(task, &[]);
    assert_eq!(pair.expect_response().0.residual, Residual::Overflow(512));
}

/// Writes of every size class, by every way data can come, with PDUs cut everywhere.
#[test]
fn a_write_arrives_whole_by_every_way() {
    let ways: [&[&str]; 4] = [
        &["ImmediateData=Yes", "InitialR2T=Yes"],
        &["ImmediateData=No", "InitialR2T=Yes"],
        &["ImmediateData=Yes", "InitialR2T=No"],
        &["ImmediateData=No", "InitialR2T=No"],
    ];
    for way in ways {
        for digest in [&["HeaderDigest=None"][..], &["HeaderDigest=CRC32C", "DataDigest=CRC32C"]] {
            for cut in [1, 7, 48, 52, 1000, 1 << 16] {
                let small = ["MaxBurstLength=2048", "FirstBurstLength=1024", "MaxOutstandingR2T=3"];
                let offers = [way, digest, &small].concat();
                let mut pair = Pair::logged_in_with(Settings::default(), &offers);
                pair.cut = cut;
                for len in [1, 511, 512, 1024, 1025, 2048, 3072, 9001] {
                    write_by_all_means(&mut pair, len, way[0] == "ImmediateData=Yes", way[1] == "InitialR2T=No");
                }
            }
        }
    }
}

/// Sends as much as it may without being asked, then what it is asked for.
fn write_by_all_means(pair: &mut Pair, len: usize, may_be_immediate: bool, may_be_unsolicited: bool) {
    let data = pattern(len);
    let first = len.min(1024);
    let immediate = if may_be_immediate { first.min(600) } else { 0 };
    let unsolicited = if may_be_unsolicited { first } else { immediate };
    let mut command = pair.command(false, true, len as u32);
    command.is_final = unsolicited == immediate;
    pair.send(command.emit(), &data[..immediate]);
    let task = pair.expect_command().task;
    if immediate < unsolicited {
        let rest = &data[immediate..unsolicited];
        let half = rest.len() / 2;
        pair.data_out(command.task_tag, NONE, 0, immediate as u32, false, &rest[..half]);
        pair.solicit(task, len as u32);
        pair.data_out(command.task_tag, NONE, 1, (immediate + half) as u32, true, &rest[half..]);
    } else {
        pair.solicit(task, len as u32);
    }
    let mut r2ts: std::collections::VecDeque<_> = pair.receive_all().into();
    let mut count = 0;
    while let Some(received) = r2ts.pop_front() {
        let r2t = dyad_iscsi::pdu::R2t::parse(&received.bhs).unwrap();
        assert_eq!((r2t.r2t_sn, r2t.task_tag), (count, command.task_tag));
        assert!(r2t.len <= 2048 && r2ts.len() < 3);
        pair.satisfy(&r2t, &data, 700);
        r2ts.extend(pair.receive_all());
        count += 1;
    }
    assert_eq!(count as usize, (len - unsolicited).div_ceil(2048));
    assert_eq!(pair.expect_data_out(task).to_vec(), data);
    assert!(pair.connection.wants_input());
    pair.respond_good(task, &[]);
    let (response, _) = pair.expect_response();
    assert_eq!((response.status, response.residual), (0, Residual::None));
    pair.expect_silence();
    assert!(pair.events.is_empty());
}

#[test]
fn several_r2ts_are_open_at_a_time() {
    let mut pair = Pair::logged_in_with(Settings::default(), &["MaxBurstLength=65536", "MaxOutstandingR2T=100"]);
    let task = pair.write(1 << 20).task;
    pair.solicit(task, 1 << 20);
    let r2ts: Vec<_> = (0..8).map(|_| pair.expect_r2t()).collect();
    pair.expect_silence();
    assert!(r2ts.iter().enumerate().all(|(at, r2t)| r2t.offset == (at << 16) as u32 && r2t.len == 65536));
    let data = pattern(1 << 20);
    pair.satisfy(&r2ts[0], &data, 8192);
    assert_eq!(pair.expect_r2t().offset, 8 << 16);
}

#[test]
fn a_burst_may_be_16_mib() {
    let mut pair = Pair::logged_in();
    let len = (16 << 20) - 1024;
    let data = pattern(len);
    let task = pair.write(len as u32).task;
    pair.solicit(task, len as u32);
    let r2t = pair.expect_r2t();
    assert_eq!((r2t.offset, r2t.len), (0, 16_776_192));
    pair.satisfy(&r2t, &data, 262_144);
    assert_eq!(pair.expect_data_out(task).to_vec(), data);
}

#[test]
fn solicited_data_is_given_out_within_a_budget_in_order() {
    let settings = Settings { solicited_bytes_max: 100_000, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &["MaxOutstandingR2T=1"]);
    let tasks: Vec<_> = (0..4).map(|_| pair.write(65536).task).collect();
    for &task in &tasks {
        pair.solicit(task, 65536);
    }
    let r2t = pair.expect_r2t();
    pair.expect_silence();
    let data = pattern(65536);
    pair.satisfy(&r2t, &data, 65536);
    pair.expect_data_out(tasks[0]);
    pair.expect_silence(); // the data is still held
    pair.respond_good(tasks[0], &[]);
    pair.expect_response();
    assert_eq!(pair.expect_r2t().task_tag, r2t.task_tag + 1);
    // One that waits and one that is asked may both be aborted.
    pair.connection.abort_task(tasks[2]);
    pair.connection.abort_task(tasks[1]);
    assert_eq!(pair.expect_r2t().task_tag, r2t.task_tag + 3);
}

#[test]
fn a_command_larger_than_the_budget_passes_alone() {
    let settings = Settings { solicited_bytes_max: 1000, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    let (first, second) = (pair.write(65536).task, pair.write(512).task);
    pair.solicit(first, 65536);
    pair.solicit(second, 512);
    assert_eq!(pair.expect_r2t().len, 65536);
    pair.expect_silence();
    pair.connection.abort_task(first);
    assert_eq!(pair.expect_r2t().len, 512);
}

/// RFC 7143 §11.4.2: an answer waits until the host has sent what it is sending.
#[test]
fn an_early_answer_waits_for_the_data_that_is_coming() {
    let mut pair = Pair::logged_in();
    let mut command = pair.command(false, true, 2048);
    command.is_final = false;
    pair.send(command.emit(), &pattern(512));
    let task = pair.expect_command().task;
    pair.connection.respond(task, 2, &[0x70, 0, 5], Payload::new());
    pair.expect_silence();
    assert_eq!(pair.connection.tasks().count(), 0);
    pair.data_out(command.task_tag, NONE, 0, 512, false, &pattern(512));
    pair.expect_silence();
    pair.data_out(command.task_tag, NONE, 1, 1024, true, &pattern(1024));
    let (response, sense) = pair.expect_response();
    assert_eq!((response.status, response.residual), (2, Residual::Underflow(2048)));
    assert_eq!(sense, [0, 3, 0x70, 0, 5]);
    assert!(pair.events.is_empty());
    // The same for solicited data.
    let task = pair.write(2048).task;
    pair.solicit(task, 2048);
    let r2t = pair.expect_r2t();
    pair.connection.respond(task, 8, &[], Payload::new());
    pair.expect_silence();
    pair.satisfy(&r2t, &pattern(2048), 1024);
    assert_eq!(pair.expect_response().0.status, 8);
    assert!(pair.events.is_empty());
}

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
