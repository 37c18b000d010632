//! A command on its way: from the session to the unit, to the volume, and back.

use dyad_contract::volume::{VolumeError, VolumeResult};
use dyad_iscsi::{Command, TaskTag};
use dyad_mirror::OpId;
use dyad_payload::Payload;
use dyad_scsi::{Begun, NexusId, Response, Status, Step, Task, Transfer};
use dyad_units::Period;

use super::conns::{Asking, Conn, ConnRef, Held};
use super::manage::Then;
use super::memory::Wish;
use super::ops::{Op, Returned, Weight, Whose};
use super::run::{Reactor, guarded};

use crate::clock;
use crate::control::IoCounters;

impl Reactor {
    /// A command came.
    pub(super) fn on_command(&mut self, at: ConnRef, command: &Command) {
        // Discovery sessions have no commands; the connection rejects them before.
        let Some((index, nexus)) = self.use_of(at) else { return self.on_export_command(at, command) };
        if !self.holds_back(at, index, command) {
            self.begin(at, (index, nexus), command);
        }
    }

    /// Hands a command to its unit.
    pub(super) fn begin(&mut self, at: ConnRef, (index, nexus): (u32, NexusId), command: &Command) {
        let Some(volume) = self.volume_mut(index) else { return };
        let unit = &mut volume.unit;
        let transfer = match (command.write, command.read) {
            (true, _) => Transfer::Out(command.expected_len),
            (false, true) => Transfer::In(command.expected_len),
            (false, false) => Transfer::None,
        };
        match guarded(|| unit.begin(nexus, command.lun, &command.cdb, transfer)) {
            Ok(Begun::Answer(response)) => self.respond(at, command.task, response),
            Ok(Begun::DataOut { task, len }) => self.want_data(at, command.task, task, len),
            Ok(begun) => self.begin_op(at, index, command.task, begun, 0),
            Err(fault) => self.fail_volume(index, &fault.0),
        }
    }

    /// Asks the host for a command's data, at once or when there is room for it.
    pub(super) fn want_data(&mut self, at: ConnRef, tag: TaskTag, task: Task, len: u32) {
        if self.budget.is_crowded(&self.slab) {
            self.budget.note_refusal(self.now);
            return self.respond(at, tag, Response::status(Status::TaskSetFull));
        }
        let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) else { return };
        session.hold(tag, Held::DataOut { tag, task, len, asking: Asking::InLine });
        session.line.push_back(tag);
        self.advance_line(at);
    }

    /// Wishes for the data of commands that wait in their session's line.
    pub(super) fn advance_line(&mut self, at: ConnRef) {
        let max = self.budget.session_max();
        loop {
            let Some(conn) = self.conns.get_mut(at) else { return };
            let Some(session) = conn.session.as_mut() else { return };
            let Some((tag, len)) = session.wish_next(max) else { return };
            if self.budget.ask(Wish { conn: at, tag, len }) && session.ask(tag) {
                conn.iscsi.solicit(tag, len);
            }
        }
    }

    /// Asks hosts for data that there is room for now.
    pub(super) fn grant_wishes(&mut self) {
        while let Some(Wish { conn: at, tag, len }) = self.budget.next() {
            let session = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut());
            if !session.is_some_and(|session| session.ask(tag)) {
                // It was given up while it waited.
                self.budget.give_back(len);
                continue;
            }
            if let Some(conn) = self.conns.get_mut(at) {
                conn.iscsi.solicit(tag, len);
            }
            self.list(at);
        }
    }

    /// The data of a command came.
    pub(super) fn on_data_out(&mut self, at: ConnRef, tag: TaskTag, data: Payload) {
        let Some((index, _)) = self.use_of(at) else { return self.on_export_data(at, tag, data) };
        let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) else { return };
        let held = session.take(tag);
        self.advance_line(at);
        let asked_bytes = held.asked_bytes();
        let (Held::DataOut { task, .. }, Some(volume)) = (held, self.volume_mut(index)) else {
            return self.budget.give_back(asked_bytes);
        };
        let unit = &mut volume.unit;
        match guarded(|| unit.data_out(task, data)) {
            Ok(Step::Answer(response)) => {
                self.budget.give_back(asked_bytes);
                self.respond(at, tag, response);
            }
            Ok(step) => self.begin_op(at, index, tag, step.into(), asked_bytes),
            Err(fault) => {
                self.budget.give_back(asked_bytes);
                self.fail_volume(index, &fault.0);
            }
        }
    }

    /// A command is over whose data was not taken: what it had of the budget, or its place in line, is for others.
    pub(super) fn release(&mut self, at: ConnRef, tag: TaskTag, held: &Held) {
        match held {
            Held::DataOut { len, asking: Asking::Asked, .. } => self.budget.give_back(*len),
            Held::DataOut { asking: Asking::Wished, .. } => self.budget.forget(at, tag),
            Held::AtDoor { pinned, .. } => return self.leave_door(at, tag, *pinned),
            _ => return,
        }
        self.advance_line(at);
    }

    /// Asks the volume. It counts as arrived now, when the last of its bytes is here: what it waited for until
    /// then was its own host (M19).
    fn begin_op(&mut self, at: ConnRef, index: u32, tag: TaskTag, begun: Begun, asked_bytes: u32) {
        let now = self.now;
        let Some(volume) = self.volume_mut(index) else { return };
        let id = volume.ops.add(Op::of_host(at, tag, now, asked_bytes));
        if let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) {
            session.hold(tag, Held::Volume { tag, op: id.0 as u32 });
        }
        self.go_on(index, id, begun, false);
    }

    /// What an operation's command needs next.
    pub(super) fn go_on(&mut self, index: u32, id: OpId, begun: Begun, is_error: bool) {
        match begun {
            Begun::Answer(response) => self.end_op(index, id, response, is_error),
            Begun::Volume { task, op } => self.hand_in(index, id, task, op),
            Begun::State { task } => self.park(index, id, task, None),
            Begun::Node { task, op } => self.ask_of_node(index, id, task, op),
            Begun::DataOut { task, len } => {
                let Some(task) = self.feed_errand(index, id, task) else { return };
                // It waited before its data was asked for.
                let host = self.volume_mut(index).and_then(|volume| volume.ops.get_mut(id)?.host);
                self.forget_op(index, id);
                let Some((at, tag)) = host else { return self.on_op_over(index, id) };
                if let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) {
                    session.take(tag);
                }
                self.want_data(at, tag, task, len);
                self.list(at);
            }
        }
    }

    /// The volume answered an operation.
    pub(super) fn answer(&mut self, index: u32, id: OpId, result: VolumeResult) {
        let Some(volume) = self.volume_mut(index) else { return };
        if volume.shared.is_read(id) {
            return self.on_state_read(index, id, result);
        }
        if volume.looks.is_gate(id) {
            return self.on_gate(index, id, &result);
        }
        if volume.shared.is_write(id) {
            // Who wrote it unread has no copy of its own to go on with.
            let is_anew = volume.shared.is_forgetting(id);
            self.on_state_written(index, is_anew.then_some(self.node));
        }
        let Some(volume) = self.volume_mut(index) else { return };
        let Some(op) = volume.ops.get_mut(id) else { return };
        let again = op.again.take();
        let returned = std::mem::replace(&mut op.returned, Returned::No);
        let Some(task) = op.task.take() else {
            // Its host gave it up; whoever waits for its end may go on now (M19).
            self.forget_op(index, id);
            return self.on_op_over(index, id);
        };
        let result =
            if returned.is_unknown(&task) && returned.is_so(&result) { Err(VolumeError::Busy) } else { result };
        if returned.is_so(&result) {
            return match again {
                Some(op) => self.park(index, id, task, Some(op)),
                None => self.end_busy(index, id, &task),
            };
        }
        if result.is_ok() {
            op.got_on();
        }
        let is_error = result.is_err();
        let unit = &mut volume.unit;
        match guarded(|| unit.finish(task, result)) {
            Ok(step) => {
                self.note_edition(index);
                self.go_on(index, id, step.into(), is_error);
            }
            Err(fault) => self.fail_volume(index, &fault.0),
        }
    }

    /// An operation's command has ended. What it makes others give up is over before it is answered (M20).
    pub(super) fn end_op(&mut self, index: u32, id: OpId, response: Response, is_error: bool) {
        let drain = self.volume_mut(index).and_then(|volume| volume.unit.take_drain());
        match drain {
            Some(drain) => self.drain_then(index, drain, Then::Respond { id, response, is_error }),
            None => self.respond_op(index, id, response, is_error),
        }
    }

    pub(super) fn respond_op(&mut self, index: u32, id: OpId, response: Response, is_error: bool) {
        let Some(volume) = self.volume_mut(index) else { return };
        let Some(op) = volume.ops.get_mut(id) else { return };
        let (host, weight, took) = (op.host, op.weight.unwrap_or(Weight::Other), clock::now().since(op.begun));
        let is_own = op.whose == Whose::Unit;
        if let Some(sender) = op.errand.take() {
            count(&mut volume.io, weight, took, is_error);
            self.forget_op(index, id);
            self.on_op_over(index, id);
            return self.end_errand(index, *sender, response);
        }
        let Some((at, tag)) = host else {
            self.forget_op(index, id);
            if is_own {
                self.on_forgetting_over(index, id, response.status);
                return self.on_own_task_over(index, id, response.status == Status::Good);
            }
            return self.on_op_over(index, id);
        };
        count(&mut volume.io, weight, took, is_error);
        if let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) {
            count(&mut session.io, weight, took, is_error);
            session.take(tag);
        }
        self.forget_op(index, id);
        self.respond(at, tag, response);
    }

    pub(super) fn forget_op(&mut self, index: u32, id: OpId) {
        let Some(volume) = self.volume_mut(index) else { return };
        let errand = volume.ops.get_mut(id).and_then(|op| op.errand.take());
        let asked_bytes = volume.ops.remove(id);
        self.budget.give_back(asked_bytes);
        if let Some(sender) = errand {
            // It was given up.
            self.end_errand(index, *sender, Response::status(Status::TaskAborted));
        }
    }

    pub(super) fn respond(&mut self, at: ConnRef, tag: TaskTag, response: Response) {
        let Some(Conn { iscsi, .. }) = self.conns.get_mut(at) else { return };
        let answered = guarded(|| {
            let status = response.status as u8;
            iscsi.respond(tag, status, response.sense.as_deref().unwrap_or_default(), response.data_in);
        });
        match answered {
            Ok(()) => self.list(at),
            Err(fault) => self.fail_conn(at, &fault.0),
        }
    }
}

pub(super) fn count(io: &mut IoCounters, weight: Weight, took: Period, is_error: bool) {
    let add = |sum: &mut Period| *sum = Period::from_nanos(sum.as_nanos().saturating_add(took.as_nanos()));
    io.errors += u64::from(is_error);
    io.time_max = io.time_max.max(took);
    match weight {
        Weight::Read(bytes) => {
            io.reads += 1;
            io.read_bytes += bytes;
            add(&mut io.read_time);
        }
        Weight::Write(bytes) => {
            io.writes += 1;
            io.write_bytes += bytes;
            add(&mut io.write_time);
        }
        Weight::Other => {
            io.others += 1;
            add(&mut io.other_time);
        }
    }
}
