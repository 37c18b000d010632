//! Everything beside commands: numbers and windows, task management, pings, text, logout, time, backpressure.

mod common;

use common::{INITIATOR, NONE, Pair, Received, TARGET, pattern};
use dyad_iscsi::pdu::{
    Async, LogoutRequest, LogoutResponse, NopIn, NopOut, Opcode, Reject, RejectReason, Snack, TaskRequest,
    TaskResponse, TextRequest, TextResponse,
};
use dyad_iscsi::{
    AsyncEvent, CloseReason, DiscoveredTarget, DiscoveryScope, Event, Management, ManagementFunction,
    ManagementOutcome, PortalAddress, Settings,
};
use dyad_payload::Payload;
use dyad_units::Period;

fn rejected(pair: &mut Pair, reason: RejectReason) {
    let received = pair.expect_pdu(Opcode::Reject);
    assert_eq!(Reject::parse(&received.bhs).unwrap().reason, reason as u8);
    assert_eq!(received.data.len(), 48);
}

fn closed(pair: &mut Pair) -> CloseReason {
    match pair.events.pop_back() {
        Some(Event::Closed(reason)) => reason,
        other => panic!("not closed but {other:?}"),
    }
}

fn ping(pair: &Pair, task_tag: u32, transfer_tag: u32) -> NopOut {
    NopOut { immediate: true, lun: 0, task_tag, transfer_tag, cmd_sn: pair.cmd_sn, exp_stat_sn: 0 }
}

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

// --- Task management (RFC 7143 §11.5, §11.6; M19) ---

fn task_request(pair: &Pair, function: u8, referenced_tag: u32) -> TaskRequest {
    TaskRequest {
        immediate: true,
        function,
        lun: 0,
        task_tag: 1000,
        referenced_tag,
        cmd_sn: pair.cmd_sn,
        exp_stat_sn: 0,
        referenced_cmd_sn: pair.cmd_sn.wrapping_sub(1),
    }
}

fn expect_management(pair: &mut Pair) -> Management {
    match pair.events.pop_front() {
        Some(Event::Management(request)) => request,
        other => panic!("no task management but {other:?}"),
    }
}

fn expect_task_response(pair: &mut Pair) -> u8 {
    let response = TaskResponse::parse(&pair.expect_pdu(Opcode::TaskResponse).bhs).unwrap();
    assert_eq!(response.task_tag, 1000);
    response.response
}

/// M19: the answer comes when the node says that the command never will take effect.
#[test]
fn an_abort_is_answered_only_when_the_node_is_done_with_it() {
    let mut pair = Pair::logged_in();
    let task = pair.write(512).task;
    let tag = pair.next_tag - 1;
    pair.send(task_request(&pair, 1, tag).emit(), &[]);
    let request = expect_management(&mut pair);
    assert_eq!(request.function, ManagementFunction::AbortTask(task));
    pair.expect_silence();
    pair.connection.abort_task(task);
    pair.expect_silence();
    pair.connection.management_done(request.tag, ManagementOutcome::Complete);
    assert_eq!(expect_task_response(&mut pair), 0);
    pair.respond_good(task, &[]); // too late
    pair.connection.management_done(request.tag, ManagementOutcome::Complete); // twice
    pair.expect_silence();
    // The place in the window is free again.
    let next = pair.read(0).task;
    pair.respond_good(next, &[]);
    let numbers = pair.expect_response().0.numbers;
    assert_eq!(numbers.max_cmd_sn, numbers.exp_cmd_sn + 127);
}

#[test]
fn aborting_what_is_not_there_is_told() {
    let mut pair = Pair::logged_in();
    pair.send(task_request(&pair, 1, 4711).emit(), &[]);
    assert_eq!(expect_task_response(&mut pair), 1);
    // Another unit's task is not there either.
    pair.read(0);
    let tag = pair.next_tag - 1;
    let mut request = task_request(&pair, 1, tag);
    request.lun = 1 << 48;
    pair.send(request.emit(), &[]);
    assert_eq!(expect_task_response(&mut pair), 1);
    assert!(pair.events.is_empty());
}

/// RFC 7143 §11.5.5, case b.
#[test]
fn a_command_aborted_before_it_came_is_never_executed() {
    let mut pair = Pair::logged_in();
    let late = pair.command(false, false, 0);
    let next = pair.command(false, false, 0);
    let mut request = task_request(&pair, 1, late.task_tag);
    request.referenced_cmd_sn = late.cmd_sn;
    pair.send(request.emit(), &[]);
    assert_eq!(expect_task_response(&mut pair), 0);
    pair.send(late.emit(), &[]);
    assert!(pair.events.is_empty());
    pair.send(next.emit(), &[]);
    pair.expect_command();
}

#[test]
fn wider_functions_reach_the_node_and_refused_ones_do_not() {
    let mut pair = Pair::logged_in();
    let wide = [
        (2, ManagementFunction::AbortTaskSet),
        (4, ManagementFunction::ClearTaskSet),
        (5, ManagementFunction::LogicalUnitReset),
        (6, ManagementFunction::TargetWarmReset),
    ];
    for (code, function) in wide {
        let mut request = task_request(&pair, code, NONE);
        request.lun = 1 << 48;
        pair.send(request.emit(), &[]);
        let request = expect_management(&mut pair);
        assert_eq!(request.function, function);
        assert_eq!(request.lun, if code == 6 { 0 } else { 1 << 48 });
        let outcome = if code == 5 { ManagementOutcome::LunDoesNotExist } else { ManagementOutcome::Complete };
        pair.connection.management_done(request.tag, outcome);
        assert_eq!(expect_task_response(&mut pair), if code == 5 { 2 } else { 0 });
    }
    // CLEAR ACA, TASK REASSIGN, and one that does not exist.
    for (code, response) in [(3, 5), (8, 4), (99, 5)] {
        pair.send(task_request(&pair, code, NONE).emit(), &[]);
        assert_eq!(expect_task_response(&mut pair), response);
    }
    assert!(pair.events.is_empty());
}

#[test]
fn a_cold_reset_ends_the_connection_after_its_answer() {
    let mut pair = Pair::logged_in();
    pair.send(task_request(&pair, 7, NONE).emit(), &[]);
    let request = expect_management(&mut pair);
    assert_eq!(request.function, ManagementFunction::TargetColdReset);
    pair.connection.management_done(request.tag, ManagementOutcome::Complete);
    assert_eq!(expect_task_response(&mut pair), 0);
    assert_eq!(closed(&mut pair), CloseReason::TargetReset);
    assert!(pair.connection.is_finished());
}

#[test]
fn requests_under_way_have_a_bound() {
    let mut pair = Pair::logged_in();
    for _ in 0..16 {
        pair.send(task_request(&pair, 5, NONE).emit(), &[]);
        expect_management(&mut pair);
    }
    pair.send(task_request(&pair, 5, NONE).emit(), &[]);
    rejected(&mut pair, RejectReason::TooManyImmediate);
}

/// A command that failed at the transport is over for the node, but not for the host: a reset ends it too.
#[test]
fn a_reset_ends_tasks_that_only_wait_for_the_host() {
    let mut pair = Pair::logged_in_with(Settings::default(), &["ImmediateData=No"]);
    let mut command = pair.command(false, true, 1024);
    command.is_final = false;
    pair.send(command.emit(), &pattern(512)); // not agreed; more is announced
    pair.send(task_request(&pair, 1, command.task_tag).emit(), &[]);
    assert_eq!(expect_task_response(&mut pair), 0);
    let mut command = pair.command(false, true, 1024);
    command.is_final = false;
    pair.send(command.emit(), &pattern(512));
    pair.send(task_request(&pair, 5, NONE).emit(), &[]);
    let request = expect_management(&mut pair);
    pair.connection.management_done(request.tag, ManagementOutcome::Complete);
    assert_eq!(expect_task_response(&mut pair), 0);
    pair.data_out(command.task_tag, NONE, 0, 512, true, &pattern(512));
    pair.expect_silence();
    pair.pass(Period::from_secs(5));
    assert!(pair.events.is_empty());
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

// --- Text (RFC 7143 §11.10, Appendix C) ---

fn text_request(pair: &mut Pair, transfer_tag: u32, is_final: bool, is_continued: bool, text: &str) {
    let request = TextRequest {
        immediate: true,
        is_final,
        is_continued,
        lun: 0,
        task_tag: 50,
        transfer_tag,
        cmd_sn: pair.cmd_sn,
        exp_stat_sn: 0,
    };
    pair.send(request.emit(), text.as_bytes());
}

fn expect_text(pair: &mut Pair) -> (TextResponse, String) {
    let Received { bhs, data } = pair.expect_pdu(Opcode::TextResponse);
    (TextResponse::parse(&bhs).unwrap(), String::from_utf8(data).unwrap())
}

fn targets(count: usize) -> Vec<DiscoveredTarget> {
    let portal = |text: &str| (PortalAddress { socket: text.parse().unwrap() }, 1);
    let target = |at| DiscoveredTarget {
        name: format!("iqn.2026-11.example.dyad:vm{at}"),
        portals: vec![portal("192.0.2.1:3260"), portal("[2001:db8::1]:3260")],
    };
    (0..count).map(target).collect()
}

#[test]
fn discovery_shows_all_targets() {
    let mut pair = Pair::discovering();
    text_request(&mut pair, NONE, true, false, "SendTargets=All\0");
    assert!(matches!(pair.events.pop_front(), Some(Event::Discover(DiscoveryScope::All))));
    pair.connection.discovered(&targets(1));
    let (response, text) = expect_text(&mut pair);
    assert_eq!((response.is_final, response.transfer_tag), (true, NONE));
    let expected = "TargetName=iqn.2026-11.example.dyad:vm0\0\
                    TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,1\0";
    assert_eq!(text, expected);
    // Again, with nothing to show.
    text_request(&mut pair, NONE, true, false, "SendTargets=iqn.nobody\0");
    let event = pair.events.pop_front();
    assert!(matches!(event, Some(Event::Discover(DiscoveryScope::Target(name))) if name == "iqn.nobody"));
    pair.connection.discovered(&[]);
    assert_eq!(expect_text(&mut pair).1, "");
}

#[test]
fn a_long_list_goes_out_in_parts() {
    let mut pair = Pair::discovering();
    text_request(&mut pair, NONE, true, false, "SendTargets=All\0");
    pair.events.clear();
    pair.connection.discovered(&targets(100));
    let mut all = String::new();
    loop {
        let (response, text) = expect_text(&mut pair);
        assert!(text.len() <= 512);
        all.push_str(&text);
        if response.is_final {
            break;
        }
        assert!(response.is_continued);
        text_request(&mut pair, response.transfer_tag, true, false, "");
    }
    assert_eq!(all.matches("TargetName=").count(), 100);
    assert!(all.ends_with("TargetAddress=[2001:db8::1]:3260,1\0"));
}

#[test]
fn a_long_request_comes_in_parts() {
    let mut pair = Pair::discovering();
    text_request(&mut pair, NONE, false, true, "SendTar");
    let (response, text) = expect_text(&mut pair);
    assert_eq!((response.is_final, text.as_str()), (false, ""));
    text_request(&mut pair, response.transfer_tag, true, false, "gets=All\0");
    assert!(matches!(pair.events.pop_front(), Some(Event::Discover(DiscoveryScope::All))));
    // One that never ends is cut off.
    let mut pair = Pair::discovering();
    let mut tag = NONE;
    let part = "X-key=1\0".repeat(1000);
    for _ in 0..20 {
        text_request(&mut pair, tag, false, true, &part);
        let received = pair.receive_one().unwrap();
        if received.bhs.opcode() == Some(Opcode::Reject) {
            return;
        }
        tag = TextResponse::parse(&received.bhs).unwrap().transfer_tag;
    }
    panic!("text without end was taken");
}

#[test]
fn a_normal_session_sees_only_its_own_target() {
    let mut pair = Pair::logged_in();
    for own in ["", TARGET] {
        text_request(&mut pair, NONE, true, false, &format!("SendTargets={own}\0"));
        let event = pair.events.pop_front();
        assert!(matches!(event, Some(Event::Discover(DiscoveryScope::Target(name))) if name == TARGET));
        pair.connection.discovered(&targets(1));
        assert!(expect_text(&mut pair).1.starts_with("TargetName="));
    }
    for other in ["All", "iqn.other"] {
        text_request(&mut pair, NONE, true, false, &format!("SendTargets={other}\0"));
        assert_eq!(expect_text(&mut pair).1, "SendTargets=Reject\0");
    }
    assert!(pair.events.is_empty());
}

#[test]
fn the_segment_length_may_change_in_full_feature_phase() {
    let mut pair = Pair::logged_in();
    text_request(&mut pair, NONE, true, false, "MaxRecvDataSegmentLength=512\0MaxBurstLength=512\0X-a=1\0");
    assert_eq!(expect_text(&mut pair).1, "MaxBurstLength=Reject\0X-a=NotUnderstood\0");
    let task = pair.read(1024).task;
    pair.respond_good(task, &pattern(1024));
    assert_eq!(pair.receive_all().len(), 2);
}

#[test]
fn text_that_makes_no_sense_is_rejected() {
    let mut pair = Pair::logged_in();
    text_request(&mut pair, NONE, true, false, "nonsense\0");
    rejected(&mut pair, RejectReason::Protocol);
    text_request(&mut pair, 1234, true, false, "");
    rejected(&mut pair, RejectReason::InvalidField);
    text_request(&mut pair, NONE, true, true, "A=b\0");
    rejected(&mut pair, RejectReason::Protocol);
}

#[test]
fn a_discovery_session_takes_no_commands() {
    let mut pair = Pair::discovering();
    let command = pair.command(true, false, 512);
    pair.send(command.emit(), &[]);
    rejected(&mut pair, RejectReason::NotSupported);
    pair.send(task_request(&pair, 5, NONE).emit(), &[]);
    rejected(&mut pair, RejectReason::NotSupported);
    assert!(pair.events.is_empty());
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
    rejected(&mut pair, RejectReason::NotSupported);
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
    assert_eq!(pair.connection.receive_hint(), 256 << 10);
    pair.send_bytes(&bytes[1000..]);
    assert!(pair.connection.receive_hint() >= 16 << 10);
    for _ in 0..8 {
        pair.send(ping(&pair, NONE, 1).emit(), &[]);
    }
    assert_eq!(pair.connection.receive_hint(), 4096);
}
