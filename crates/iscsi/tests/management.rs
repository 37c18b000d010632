//! Task management (RFC 7143 §11.5, §11.6; M19).

mod common;

use common::{NONE, Pair, closed, pattern, rejected, task_request};
use dyad_iscsi::pdu::{Opcode, RejectReason, TaskResponse};
use dyad_iscsi::{CloseReason, Event, Management, ManagementFunction, ManagementOutcome, Settings};
use dyad_units::Period;

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
    // The node is asked: it may have begun something of a command whose data failed later (M19).
    let request = expect_management(&mut pair);
    let ManagementFunction::AbortTask(task) = request.function else { panic!("{:?}", request.function) };
    pair.connection.abort_task(task);
    pair.connection.management_done(request.tag, ManagementOutcome::Complete);
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
