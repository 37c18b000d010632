//! Task management (RFC 7143 §11.5, §11.6): the node carries a function out, and says when the commands have taken
//! effect or never will (M19); only then the host gets its answer.

use super::{Io, SKIPPED_MAX, Session};
use crate::event::{CloseReason, Event, Management, ManagementFunction, ManagementOutcome, ManagementTag};
use crate::pdu::{Bhs, RejectReason, TaskRequest, TaskResponse, sn_before};

/// Requests that may be under way at a time. Hosts send one, and a reset when that takes too long.
const MANAGEMENTS_MAX: usize = 16;

/// Codes of §11.5.1.
mod code {
    pub const ABORT_TASK: u8 = 1;
    pub const ABORT_TASK_SET: u8 = 2;
    pub const CLEAR_TASK_SET: u8 = 4;
    pub const LOGICAL_UNIT_RESET: u8 = 5;
    pub const TARGET_WARM_RESET: u8 = 6;
    pub const TARGET_COLD_RESET: u8 = 7;
    pub const TASK_REASSIGN: u8 = 8;
}

/// §11.6.1: a task cannot move to another connection.
const REASSIGN_NOT_SUPPORTED: u8 = 4;

#[derive(Clone, Copy, Debug)]
struct Pending {
    serial: u32,
    task_tag: u32,
    is_cold_reset: bool,
}

/// Requests that the node is carrying out.
#[derive(Debug, Default)]
pub(super) struct Managements {
    slots: [Option<Pending>; MANAGEMENTS_MAX],
    serial: u32,
}

impl Managements {
    fn add(&mut self, task_tag: u32, is_cold_reset: bool) -> Option<ManagementTag> {
        let slot = self.slots.iter().position(Option::is_none)?;
        self.serial = self.serial.wrapping_add(1);
        self.slots[slot] = Some(Pending { serial: self.serial, task_tag, is_cold_reset });
        Some(ManagementTag { slot: slot as u8, serial: self.serial })
    }

    fn take(&mut self, tag: ManagementTag) -> Option<Pending> {
        let slot = self.slots.get_mut(usize::from(tag.slot))?;
        slot.take_if(|pending| pending.serial == tag.serial)
    }
}

impl Session {
    pub(super) fn on_task_request(&mut self, bhs: &Bhs, io: &mut Io<'_>) {
        let Ok(request) = TaskRequest::parse(bhs) else { return };
        let function = match request.function {
            code::ABORT_TASK => return self.on_abort_task(bhs, &request, io),
            code::ABORT_TASK_SET => ManagementFunction::AbortTaskSet,
            code::CLEAR_TASK_SET => ManagementFunction::ClearTaskSet,
            code::LOGICAL_UNIT_RESET => ManagementFunction::LogicalUnitReset,
            code::TARGET_WARM_RESET => ManagementFunction::TargetWarmReset,
            code::TARGET_COLD_RESET => ManagementFunction::TargetColdReset,
            code::TASK_REASSIGN => return self.answer_management(request.task_tag, REASSIGN_NOT_SUPPORTED, io),
            _ => return self.answer_management(request.task_tag, ManagementOutcome::NotSupported.code(), io),
        };
        self.hand_over(bhs, &request, function, io);
    }

    /// §11.5.5 tells what an abort of a task that is not here means.
    fn on_abort_task(&mut self, bhs: &Bhs, request: &TaskRequest, io: &mut Io<'_>) {
        let found = self.tasks.by_task_tag(request.referenced_tag);
        let Some((tag, task)) = found.and_then(|tag| Some((tag, self.tasks.find(tag)?))) else {
            let is_to_come = !sn_before(request.referenced_cmd_sn, self.exp_cmd_sn)
                && !sn_before(self.max_cmd_sn(), request.referenced_cmd_sn)
                && sn_before(request.referenced_cmd_sn, request.cmd_sn);
            let outcome = match is_to_come && self.skipped.len() < SKIPPED_MAX {
                true => ManagementOutcome::Complete,
                false => ManagementOutcome::TaskDoesNotExist,
            };
            if outcome == ManagementOutcome::Complete && !self.skipped.contains(&request.referenced_cmd_sn) {
                self.skipped.push(request.referenced_cmd_sn);
                self.skip_aborted();
            }
            return self.answer_management(request.task_tag, outcome.code(), io);
        };
        if task.lun != request.lun {
            return self.answer_management(request.task_tag, ManagementOutcome::TaskDoesNotExist.code(), io);
        }
        // What the node began of a command whose data failed later may not be over yet.
        if task.held.is_none() {
            return self.hand_over(bhs, request, ManagementFunction::AbortTask(tag), io);
        }
        // Its answer only waited for the host to stop sending.
        self.abort_task(tag, io);
        self.answer_management(request.task_tag, ManagementOutcome::Complete.code(), io);
    }

    fn hand_over(&mut self, bhs: &Bhs, request: &TaskRequest, function: ManagementFunction, io: &mut Io<'_>) {
        let is_cold_reset = function == ManagementFunction::TargetColdReset;
        let Some(tag) = self.managements.add(request.task_tag, is_cold_reset) else {
            return match request.immediate {
                true => self.reject(bhs, RejectReason::TooManyImmediate, io),
                false => self.answer_management(request.task_tag, ManagementOutcome::Rejected.code(), io),
            };
        };
        let is_target_wide =
            matches!(function, ManagementFunction::TargetWarmReset | ManagementFunction::TargetColdReset);
        if !matches!(function, ManagementFunction::AbortTask(_)) {
            self.drop_settling(|lun| is_target_wide || lun == request.lun, io);
        }
        let lun = if is_target_wide { 0 } else { request.lun };
        io.events.push_back(Event::Management(Management { tag, function, lun }));
    }

    /// Ends the tasks that the node is done with, and that only wait for the host to stop sending.
    fn drop_settling(&mut self, is_meant: impl Fn(u64) -> bool, io: &mut Io<'_>) {
        loop {
            let found = self.tasks.iter().find(|(_, task)| !task.is_with_node() && is_meant(task.lun));
            let Some((tag, _)) = found else { return };
            self.abort_task(tag, io);
        }
    }

    /// The node carried a function out, or cannot.
    pub fn management_done(
        &mut self,
        tag: ManagementTag,
        outcome: ManagementOutcome,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let Some(pending) = self.managements.take(tag) else { return Ok(()) };
        self.answer_management(pending.task_tag, outcome.code(), io);
        // §11.5.1: a cold reset ends all connections.
        match pending.is_cold_reset && outcome == ManagementOutcome::Complete {
            true => Err(CloseReason::TargetReset),
            false => Ok(()),
        }
    }

    fn answer_management(&mut self, task_tag: u32, response: u8, io: &mut Io<'_>) {
        let response = TaskResponse { response, task_tag, numbers: self.numbers() };
        io.output.push(response.emit());
    }
}

impl ManagementOutcome {
    fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::TaskDoesNotExist => 1,
            Self::LunDoesNotExist => 2,
            Self::NotSupported => 5,
            Self::Rejected => 255,
        }
    }
}
