//! Commands: reads, writes by each way that data can take, and residuals.

mod common;

use common::{NONE, Pair, pattern};
use dyad_iscsi::pdu::{DataIn, NO_TAG, Opcode, Residual};
use dyad_iscsi::{Settings, TaskAttribute};
use dyad_payload::Payload;

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
