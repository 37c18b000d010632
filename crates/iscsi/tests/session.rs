//! The session beside its commands: numbers and windows, pings, logout, what does not belong, hosts that do not read.

mod common;

use common::{INITIATOR, NONE, Pair, TARGET, closed, pattern, ping, rejected};
use dyad_iscsi::pdu::{Async, LogoutRequest, LogoutResponse, NopIn, Opcode, RejectReason, Snack};
use dyad_iscsi::{AsyncEvent, CloseReason, Event, Settings};
use dyad_payload::Payload;
use dyad_units::Period;

// --- Order and window (RFC 7143 §4.2.2.1) ---

#[test]
fn commands_outside_the_window_are_ignored() {
    let mut pair = Pair::logged_in();
    for wrong in [pair.cmd_sn - 1, pair.cmd_sn + 128, pair.cmd_sn.wrapping_add(1 << 31)] {
        let mut command = pair.command(false, false, 0);
        pair.cmd_sn -= 1;
        command.cmd_sn = wrong;
        pair.send(command.emit(), &[]);
        assert!(pair.events.is_empty());
        pair.expect_silence();
    }
    let command = pair.command(false, false, 0);
    pair.send(command.emit(), &[]);
    pair.expect_command();
}

#[test]
fn a_gap_in_the_order_ends_the_connection() {
    let mut pair = Pair::logged_in();
    pair.cmd_sn += 1;
    let command = pair.command(false, false, 0);
    pair.send(command.emit(), &[]);
    assert!(matches!(closed(&mut pair), CloseReason::Protocol("a CmdSN was left out")));
}

#[test]
fn the_window_closes_as_commands_come_and_opens_as_they_are_answered() {
    let settings = Settings { queue_depth: 4, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    let first_sn = pair.cmd_sn;
    let tasks: Vec<_> = (0..4).map(|_| pair.read(0).task).collect();
    let fifth = pair.command(false, false, 0);
    pair.send(fifth.emit(), &[]); // beyond the window
    assert!(pair.events.is_empty());
    let mut max = first_sn + 3;
    for task in tasks {
        pair.respond_good(task, &[]);
        let numbers = pair.expect_response().0.numbers;
        max += 1;
        assert_eq!((numbers.exp_cmd_sn, numbers.max_cmd_sn), (first_sn + 4, max));
    }
    pair.send(fifth.emit(), &[]);
    pair.expect_command();
}

#[test]
fn numbers_wrap() {
    let mut pair = Pair::new(Settings::default());
    pair.cmd_sn = u32::MAX - 1;
    let text = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
    let full = Some(dyad_iscsi::pdu::Stage::FullFeature);
    pair.login_step(dyad_iscsi::pdu::Stage::Operational, full, &[&text[0], &text[1]]).unwrap();
    for _ in 0..4 {
        let task = pair.read(0).task;
        pair.respond_good(task, &[]);
        let numbers = pair.expect_response().0.numbers;
        assert_eq!((numbers.exp_cmd_sn, numbers.max_cmd_sn), (pair.cmd_sn, pair.cmd_sn.wrapping_add(127)));
    }
}

#[test]
fn immediate_commands_take_no_number_but_have_a_bound() {
    let mut pair = Pair::logged_in();
    let send = |pair: &mut Pair| {
        let mut command = pair.command(false, false, 0);
        pair.cmd_sn -= 1;
        command.immediate = true;
        pair.send(command.emit(), &[]);
    };
    for _ in 0..16 {
        send(&mut pair);
        assert!(pair.expect_command().immediate);
    }
    send(&mut pair);
    rejected(&mut pair, RejectReason::TooManyImmediate);
    let command = pair.command(false, false, 0);
    pair.send(command.emit(), &[]);
    pair.expect_command();
}

#[test]
fn a_task_tag_in_use_and_a_reserved_one_are_rejected() {
    let mut pair = Pair::logged_in();
    pair.read(0);
    let mut command = pair.command(false, false, 0);
    command.task_tag -= 1;
    pair.send(command.emit(), &[]);
    rejected(&mut pair, RejectReason::TaskInProgress);
    let mut command = pair.command(false, false, 0);
    command.task_tag = NONE;
    pair.send(command.emit(), &[]);
    rejected(&mut pair, RejectReason::InvalidField);
    // Each was received, so each number is used up.
    let command = pair.command(false, false, 0);
    pair.send(command.emit(), &[]);
    pair.expect_command();
}

#[test]
fn stat_sn_rises_with_each_status_and_with_nothing_else() {
    let mut pair = Pair::logged_in();
    let task = pair.read(0).task;
    pair.respond_good(task, &[]);
    let first = pair.expect_response().0.numbers.stat_sn;
    let write = pair.write(512).task;
    pair.solicit(write, 512);
    let r2t = pair.expect_r2t();
    assert_eq!(r2t.numbers.stat_sn, first + 1);
    pair.satisfy(&r2t, &pattern(512), 512);
    pair.respond_good(write, &[]);
    assert_eq!(pair.expect_response().0.numbers.stat_sn, first + 1);
    pair.send(ping(&pair, 99, NONE).emit(), &[]);
    let answer = NopIn::parse(&pair.expect_pdu(Opcode::NopIn).bhs).unwrap();
    assert_eq!(answer.numbers.stat_sn, first + 2);
}

// --- Pings (RFC 7143 §11.18, §11.19) ---

#[test]
fn a_ping_is_echoed_as_far_as_the_host_takes_it() {
    let mut pair = Pair::logged_in_with(Settings::default(), &["MaxRecvDataSegmentLength=512"]);
    pair.send(ping(&pair, 5, NONE).emit(), &pattern(700));
    let received = pair.expect_pdu(Opcode::NopIn);
    let answer = NopIn::parse(&received.bhs).unwrap();
    assert_eq!((answer.task_tag, answer.transfer_tag), (5, NONE));
    assert_eq!(received.data, pattern(512));
    // In order, it takes a number.
    let mut ordered = ping(&pair, 6, NONE);
    ordered.immediate = false;
    pair.cmd_sn += 1;
    pair.send(ordered.emit(), &[]);
    let answer = NopIn::parse(&pair.expect_pdu(Opcode::NopIn).bhs).unwrap();
    assert_eq!(answer.numbers.exp_cmd_sn, pair.cmd_sn);
}

#[test]
fn a_silent_host_is_pinged_and_then_dropped() {
    let mut pair = Pair::logged_in();
    pair.pass(Period::from_secs(9));
    pair.expect_silence();
    pair.pass(Period::from_secs(2));
    let asked = NopIn::parse(&pair.expect_pdu(Opcode::NopIn).bhs).unwrap();
    assert_eq!(asked.task_tag, NONE);
    assert_ne!(asked.transfer_tag, NONE);
    pair.send(ping(&pair, NONE, asked.transfer_tag).emit(), &[]);
    pair.expect_silence();
    pair.pass(Period::from_secs(9));
    assert!(pair.events.is_empty());
    pair.pass(Period::from_secs(12));
    assert_eq!(closed(&mut pair), CloseReason::Silent);
    assert!(pair.connection.is_finished(), "nobody waits for a host that is gone");
}

#[test]
fn a_host_that_stops_within_a_pdu_is_dropped() {
    let mut pair = Pair::logged_in();
    let command = pair.command(false, true, 4096);
    let bytes = pair.encode(command.emit(), &pattern(4096));
    pair.send_bytes(&bytes[..1000]);
    assert!(pair.events.is_empty());
    pair.pass(Period::from_secs(21));
    assert_eq!(closed(&mut pair), CloseReason::Silent);
}

// --- Logout and messages (RFC 7143 §11.9, §11.14) ---

fn logout(pair: &mut Pair, reason: u8, cid: u16) {
    let request = LogoutRequest { immediate: false, reason, task_tag: 60, cid, cmd_sn: pair.cmd_sn, exp_stat_sn: 0 };
    pair.cmd_sn += 1;
    pair.send(request.emit(), &[]);
}

#[test]
fn a_logout_is_answered_when_the_tasks_are_ended() {
    for reason in [0, 1] {
        let mut pair = Pair::logged_in();
        let task = pair.read(512).task;
        logout(&mut pair, reason, 1);
        assert!(matches!(pair.events.pop_front(), Some(Event::Logout)));
        assert!(!pair.connection.wants_input());
        pair.expect_silence();
        pair.connection.abort_task(task);
        pair.connection.logout_done();
        let response = LogoutResponse::parse(&pair.expect_pdu(Opcode::LogoutResponse).bhs).unwrap();
        assert_eq!((response.response, response.task_tag, response.time2wait), (0, 60, 2));
        assert_eq!(closed(&mut pair), CloseReason::LoggedOut);
        assert!(pair.connection.is_finished());
    }
}

#[test]
fn other_logouts_are_refused_and_the_session_goes_on() {
    let mut pair = Pair::logged_in();
    for (reason, cid, expected) in [(1, 9, 1), (2, 1, 2)] {
        logout(&mut pair, reason, cid);
        let response = LogoutResponse::parse(&pair.expect_pdu(Opcode::LogoutResponse).bhs).unwrap();
        assert_eq!(response.response, expected);
    }
    logout(&mut pair, 77, 1);
    rejected(&mut pair, RejectReason::InvalidField);
    assert!(pair.events.is_empty());
    let command = pair.command(false, false, 0);
    pair.send(command.emit(), &[]);
    pair.expect_command();
}

#[test]
fn a_host_asked_to_log_out_has_its_time() {
    let mut pair = Pair::logged_in();
    let now = pair.now;
    pair.connection.announce(now, AsyncEvent::LogoutRequested(Period::from_secs(5)));
    let message = Async::parse(&pair.expect_pdu(Opcode::Async).bhs).unwrap();
    assert_eq!((message.event, message.parameters), (1, [0, 0, 5]));
    for _ in 0..29 {
        pair.pass(Period::from_secs(1));
        pair.send(ping(&pair, NONE, 1).emit(), &[]);
    }
    assert!(pair.events.is_empty());
    pair.pass(Period::from_secs(2));
    assert_eq!(closed(&mut pair), CloseReason::LogoutTimeout);
    let mut pair = Pair::logged_in();
    let dropped = AsyncEvent::SessionDropped { wait: Period::from_secs(3), retain: Period::ZERO };
    pair.connection.announce(now, dropped);
    let message = Async::parse(&pair.expect_pdu(Opcode::Async).bhs).unwrap();
    assert_eq!((message.event, message.parameters), (3, [0, 3, 0]));
}

// --- What does not belong here ---

#[test]
fn what_does_not_belong_in_full_feature_phase_is_rejected() {
    let mut pair = Pair::logged_in();
    let snack = Snack { kind: 1, task_tag: NONE, exp_stat_sn: 0, first: 0, count: 0 };
    pair.send(snack.emit(), &[]);
    rejected(&mut pair, RejectReason::Snack);
    let mut bhs = ping(&pair, 1, NONE).emit();
    bhs.set_ahs_len(4);
    pair.send_bytes(&[&bhs.as_bytes()[..], &[0; 4]].concat());
    rejected(&mut pair, RejectReason::InvalidField);
    assert!(pair.events.is_empty());
    let login = pair.login_header(dyad_iscsi::pdu::Stage::Operational, None);
    pair.send(login.emit(), &[]);
    rejected(&mut pair, RejectReason::Protocol);
    assert!(matches!(closed(&mut pair), CloseReason::Protocol(_)));
    let mut pair = Pair::logged_in();
    let answer = NopIn { lun: 0, task_tag: 1, transfer_tag: NONE, numbers: Default::default() };
    pair.send(answer.emit(), &[]);
    rejected(&mut pair, RejectReason::Protocol);
    assert!(matches!(closed(&mut pair), CloseReason::Protocol(_)));
}

#[test]
fn a_segment_longer_than_declared_ends_the_connection() {
    let mut pair = Pair::logged_in();
    let mut bhs = pair.command(false, true, 1 << 20).emit();
    bhs.set_data_len((256 << 10) + 1);
    pair.send_bytes(bhs.as_bytes());
    assert!(matches!(closed(&mut pair), CloseReason::Protocol(_)));
}

#[test]
fn a_closed_connection_does_nothing_more() {
    let mut pair = Pair::logged_in();
    let task = pair.read(512).task;
    pair.connection.close(CloseReason::Node("the session was replaced"));
    pair.pump();
    assert_eq!(closed(&mut pair), CloseReason::Node("the session was replaced"));
    pair.respond_good(task, &pattern(512));
    pair.connection.close(CloseReason::Silent);
    pair.send(ping(&pair, 1, NONE).emit(), &[]);
    pair.pass(Period::from_secs(60));
    pair.expect_silence();
    assert!(pair.events.is_empty());
    assert!(pair.connection.is_finished());
    assert_eq!(pair.connection.close_reason(), Some(&CloseReason::Node("the session was replaced")));
}

/// M19: a session that is replaced executes nothing more, not even what it received already.
#[test]
fn closing_takes_back_what_the_node_has_not_seen() {
    let mut pair = Pair::logged_in();
    let command = pair.command(false, false, 0);
    let bytes = pair.encode(command.emit(), &[]);
    let buf = pair.slab.copy_of(&bytes).unwrap();
    pair.connection.receive(pair.now, buf);
    pair.connection.close(CloseReason::Node("the session was replaced"));
    pair.pump();
    assert!(matches!(pair.events.pop_front(), Some(Event::Closed(_))));
    assert!(pair.events.is_empty());
}

// --- A host that does not read ---

#[test]
fn a_host_that_never_reads_is_no_longer_read_from_and_then_dropped() {
    let settings = Settings { output_bytes_max: 1 << 20, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    pair.is_host_reading = false;
    let mut answered = 0;
    for _ in 0..100 {
        let command = pair.command(true, false, 65536);
        pair.send(command.emit(), &[]);
        while let Some(event) = pair.events.pop_front() {
            let Event::Command(command) = event else { panic!("{event:?}") };
            pair.respond_good(command.task, &pattern(65536));
            answered += 1;
        }
    }
    assert!(!pair.connection.wants_input());
    assert!((16..20).contains(&answered), "{answered}");
    assert!(pair.unsent() > 0);
    pair.pass(Period::from_secs(25));
    assert!(pair.events.is_empty());
    pair.pass(Period::from_secs(20));
    assert_eq!(closed(&mut pair), CloseReason::NotReading);
    assert!(pair.connection.is_finished());
}

#[test]
fn a_host_that_reads_again_is_read_from_again() {
    let settings = Settings { output_bytes_max: 1 << 20, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    pair.is_host_reading = false;
    for _ in 0..40 {
        let command = pair.command(true, false, 65536);
        pair.send(command.emit(), &[]);
    }
    let mut answered = 0;
    while answered < 40 {
        while let Some(event) = pair.events.pop_front() {
            let Event::Command(command) = event else { panic!("{event:?}") };
            pair.connection.respond(command.task, 0, &[], Payload::new());
            answered += 1;
        }
        pair.is_host_reading = true;
        pair.pump();
        pair.is_host_reading = false;
    }
    pair.is_host_reading = true;
    assert_eq!(pair.receive_all().len(), 40);
}

/// Reads in flight count before they are answered, or a queue of large ones would pass the bound.
#[test]
fn what_commands_will_return_counts_as_output() {
    let settings = Settings { output_bytes_max: 1 << 20, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    for _ in 0..40 {
        let command = pair.command(true, false, 65536);
        pair.send(command.emit(), &[]);
    }
    assert!((15..20).contains(&pair.events.len()), "{}", pair.events.len());
    while let Some(Event::Command(command)) = pair.events.pop_front() {
        pair.respond_good(command.task, &[]);
    }
    assert_eq!(pair.connection.tasks().count(), 0);
    assert_eq!(pair.receive_all().len(), 40);
}

#[test]
fn receive_buffers_follow_what_the_host_sends() {
    let mut pair = Pair::new(Settings::default());
    assert_eq!(pair.connection.receive_hint(), 4096);
    pair = Pair::logged_in();
    assert_eq!(pair.connection.receive_hint(), 4096);
    let command = pair.command(false, true, 262_144);
    let bytes = pair.encode(command.emit(), &pattern(200_000));
    pair.send_bytes(&bytes[..1000]);
    assert_eq!(pair.connection.receive_hint(), 4096, "what is announced does not count");
    pair.send_bytes(&bytes[1000..]);
    assert!(pair.connection.receive_hint() >= 16 << 10);
    for _ in 0..32 {
        pair.send(ping(&pair, NONE, 1).emit(), &[]);
    }
    assert_eq!(pair.connection.receive_hint(), 4096);
}

/// Broke: the last 48 bytes of a 4 KiB write made the buffer small again, so that each write took two system calls.
#[test]
fn a_stream_of_small_writes_is_received_in_one_piece_each() {
    let mut pair = Pair::logged_in();
    let mut reads = Vec::new();
    for _ in 0..20 {
        let command = pair.command(false, true, 4096);
        let bytes = pair.encode(command.emit(), &pattern(4096));
        let (mut rest, mut count) = (&bytes[..], 0);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(pair.connection.receive_hint()));
            pair.send_bytes(piece);
            (rest, count) = (after, count + 1);
        }
        reads.push(count);
        while let Some(Event::Command(command)) = pair.events.pop_front() {
            pair.respond_good(command.task, &[]);
        }
    }
    assert_eq!(reads[1..], [1; 19]);
}
