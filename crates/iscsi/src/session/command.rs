//! SCSI commands (RFC 7143 §11.3).

use dyad_payload::Payload;

use super::{Io, Session};
use crate::event::{Command, Event};
use crate::pdu::{Bhs, RejectReason, ScsiCommand};
use crate::tasks::{DataFault, Task};

impl Session {
    /// A command that is next in order, or immediate.
    pub(super) fn on_command(&mut self, bhs: &Bhs, has_ahs: bool, data: Payload, io: &mut Io<'_>) {
        let Ok(command) = ScsiCommand::parse(bhs) else {
            return self.reject(bhs, RejectReason::InvalidField, io);
        };
        if command.immediate && !self.tasks.may_add_immediate() {
            return self.reject(bhs, RejectReason::TooManyImmediate, io);
        }
        let in_len = if command.read { command.expected_len } else { 0 };
        let out_len = if command.write { command.expected_len } else { 0 };
        let tag = self.tasks.add(command.task_tag, command.lun, command.immediate, in_len, out_len);
        let fault = self.fault_of(&command, has_ahs, data.len());
        // A refused command returns nothing; counted, it could keep its own data-out from being read.
        let promised = if fault.is_none() { self.cost_of_read(in_len) } else { 0 };
        self.promised += promised;
        let task = self.tasks.find_mut(tag).expect("just added");
        task.promised = promised;
        // Data follows this PDU even if the command is refused: it must be waited for (§11.4.2).
        task.out.is_unsolicited_open = command.write && !command.is_final;
        if task.out.is_unsolicited_open {
            self.data_open += 1;
            self.data_moved = true;
        }
        if let Some(fault) = fault {
            task.fault = Some(fault);
            return self.settle(tag, io);
        }
        task.out.data = data;
        io.events.push_back(Event::Command(Command {
            task: tag,
            lun: command.lun,
            cdb: command.cdb,
            attribute: command.attribute,
            expected_len: in_len.max(out_len),
            read: command.read,
            write: command.write,
            immediate: command.immediate,
        }));
    }

    fn fault_of(&self, command: &ScsiCommand, has_ahs: bool, immediate_len: usize) -> Option<DataFault> {
        let parameters = &self.parameters;
        // Additional segments carry the rest of a long CDB or the read length of a bidirectional command (§11.2.2).
        if has_ahs || command.read && command.write {
            return Some(DataFault::NotSupported);
        }
        if immediate_len > 0 && (!command.write || !parameters.immediate_data) {
            return Some(DataFault::Unexpected);
        }
        if command.write && !command.is_final && parameters.initial_r2t {
            return Some(DataFault::Unexpected);
        }
        let most = parameters.first_burst_bytes_max.min(command.expected_len);
        (immediate_len > most as usize).then_some(DataFault::WrongAmount)
    }
}

impl Task {
    /// Whether everything that the command takes has come.
    pub(super) fn is_data_complete(&self) -> bool {
        !self.is_data_open() && self.out.wanted.is_some_and(|wanted| self.out.data.len() >= wanted as usize)
    }
}
