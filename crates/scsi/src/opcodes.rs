//! REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-4 §6.35, §6.36), from the table.

use crate::cdb::{be16, be32, length};
use crate::commands::COMMANDS;
use crate::response::Begun;
use crate::sense::{Condition, Field};
use crate::table::{Call, Command, Known, Refusal, known};
use crate::unit::LogicalUnit;

/// SUPPORT (SPC-4 table 262).
const NOT_SUPPORTED: u8 = 0x01;
const AS_STANDARD: u8 = 0x03;

/// All commands, or one.
pub(crate) fn report(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let with_timeouts = call.cdb[2] & 0x80 != 0;
    let (opcode, action) = (call.cdb[3], be16(call.cdb, 4) as u16);
    let data = match (call.cdb[2] & 0x07, known(opcode, action)) {
        (0b000, _) => all(with_timeouts),
        // An operation code with service actions cannot be asked for without one, nor the reverse.
        (0b001, Known::Actions(_)) | (0b010, Known::Plain(_)) => {
            return Err(Condition::invalid_cdb(Field::cdb_bit(2, 2)).into());
        }
        (0b001 | 0b010, Known::Plain(command) | Known::Actions(Some(command))) => one(command, with_timeouts),
        (0b011, Known::Actions(Some(command))) => one(command, with_timeouts),
        (0b011, Known::Plain(command)) if action == 0 => one(command, with_timeouts),
        (0b001..=0b011, _) => vec![0, NOT_SUPPORTED, 0, 0],
        _ => return Err(Condition::invalid_cdb(Field::cdb_bit(2, 2)).into()),
    };
    unit.reply(&data, length(be32(call.cdb, 6)))
}

/// SPC-4 §6.35.2.
fn all(with_timeouts: bool) -> Vec<u8> {
    const CTDP: u8 = 0x02;
    const SERVACTV: u8 = 0x01;
    let mut data = vec![0; 4];
    for command in COMMANDS {
        let (action, servactv) = match command.service_action {
            Some(action) => (action, SERVACTV),
            None => (0, 0),
        };
        let ctdp = if with_timeouts { CTDP } else { 0 };
        data.extend([command.opcode(), 0, 0, action, 0, ctdp | servactv, 0, command.usage.len() as u8]);
        if with_timeouts {
            data.extend(timeouts(command));
        }
    }
    let len = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&len.to_be_bytes());
    data
}

/// SPC-4 §6.35.3.
fn one(command: &Command, with_timeouts: bool) -> Vec<u8> {
    const CTDP: u8 = 0x80;
    let ctdp = if with_timeouts { CTDP } else { 0 };
    let mut data = vec![0, ctdp | AS_STANDARD, 0, command.usage.len() as u8];
    data.extend(command.usage);
    if with_timeouts {
        data.extend(timeouts(command));
    }
    data
}

/// Command timeouts descriptor (SPC-4 §6.35.4); the nominal time is not given.
fn timeouts(command: &Command) -> [u8; 12] {
    let mut descriptor = [0; 12];
    descriptor[1] = 0x0a;
    descriptor[8..].copy_from_slice(&command.timeout_secs.to_be_bytes());
    descriptor
}

/// The functions that the transport passes on (RFC 7143 §11.5.1); none has a timeout.
pub(crate) fn report_task_management(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const ABORT_TASK: u8 = 0x80;
    const ABORT_TASK_SET: u8 = 0x40;
    const CLEAR_TASK_SET: u8 = 0x10;
    const LOGICAL_UNIT_RESET: u8 = 0x08;
    const EXTENDED_BYTES: u8 = 12;
    let allocation = length(be32(call.cdb, 6));
    if allocation < 4 {
        return Err(Condition::invalid_cdb(Field::cdb(6)).into());
    }
    let mut data = [0; 16];
    data[0] = ABORT_TASK | ABORT_TASK_SET | CLEAR_TASK_SET | LOGICAL_UNIT_RESET;
    let is_extended = call.cdb[2] & 0x80 != 0; // REPD
    if !is_extended {
        return unit.reply(&data[..4], allocation);
    }
    data[3] = EXTENDED_BYTES;
    unit.reply(&data, allocation)
}
