//! The table of operation codes: SPC-4 table 142 and SBC-3 table 14, as far as they are supported.

use crate::reserve::{old, out, read};
use crate::table::{Command, Conflict, LengthRule};
use crate::{
    block, capacity, compare_write, copy, defects, diagnostic, echo, groups, inquiry, lba_status, log, mode, naming,
    opcodes, or_write, same, status, unmap, verify, write_atomic,
};

/// Every supported command, in the order of operation codes.
pub const COMMANDS: &[Command] = &[
    Command::new("TEST UNIT READY", &[0x00, 0, 0, 0, 0, 0], status::test_unit_ready).needs_ready(),
    Command::new("REQUEST SENSE", &[0x03, 0x01, 0, 0, 0xff, 0], status::request_sense)
        .data_in(LengthRule::Allocation)
        .under_attention(),
    Command::new("READ(6)", &[0x08, 0x1f, 0xff, 0xff, 0xff, 0], block::read).data_in(LengthRule::Blocks).reads(),
    Command::new("WRITE(6)", &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0], block::write).data_out(LengthRule::Blocks).writes(),
    Command::new("INQUIRY", &[0x12, 0x01, 0xff, 0xff, 0xff, 0], inquiry::inquiry)
        .data_in(LengthRule::Allocation)
        .under_attention(),
    Command::new("MODE SELECT(6)", &[0x15, 0x11, 0, 0, 0xff, 0], mode::select)
        .data_out(LengthRule::ParameterList)
        .governs()
        .conflict(Conflict::Always),
    Command::new("RESERVE(6)", &[0x16, 0, 0, 0, 0, 0], old::begin).governs().shares().passes_reserve(),
    Command::new("RELEASE(6)", &[0x17, 0, 0, 0, 0, 0], old::begin).shares().passes_reserve(),
    Command::new("MODE SENSE(6)", &[0x1a, 0x08, 0xff, 0xff, 0xff, 0], mode::sense)
        .data_in(LengthRule::Allocation)
        .conflict(Conflict::UnlessWriteExclusive),
    Command::new("START STOP UNIT", &[0x1b, 0x01, 0, 0, 0xf7, 0], status::start_stop)
        .governs()
        .conflict(Conflict::Always)
        .long(),
    // PF, DEVOFFL and UNITOFFL mean nothing without diagnostic pages, and where a test disturbs nobody.
    Command::new("SEND DIAGNOSTIC", &[0x1d, 0xe4, 0, 0xff, 0xff, 0], diagnostic::send)
        .needs_ready()
        .conflict(Conflict::Always)
        .ignored(1, 0x13),
    Command::new("READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], capacity::read_capacity_10)
        .data_in(LengthRule::Fixed8)
        .needs_ready(),
    Command::new("READ(10)", &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], block::read)
        .data_in(LengthRule::Blocks)
        .reads()
        .group(6)
        .protect(),
    Command::new("WRITE(10)", &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], block::write)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(6)
        .protect(),
    Command::new("WRITE AND VERIFY(10)", &[0x2e, 0x16, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], verify::write_and)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(6)
        .protect(),
    Command::new("VERIFY(10)", &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], verify::verify)
        .data_out(LengthRule::Blocks)
        .reads()
        .group(6)
        .protect(),
    Command::new("PRE-FETCH(10)", &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], block::prefetch)
        .reads()
        .group(6),
    Command::new("SYNCHRONIZE CACHE(10)", &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], block::synchronize)
        .needs_ready()
        .conflict(Conflict::Always)
        .group(6)
        .ignored(1, SYNC_NV)
        .long(),
    Command::new("READ DEFECT DATA(10)", &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0], defects::read_10)
        .data_in(LengthRule::Allocation)
        .reads(),
    Command::new("WRITE BUFFER", &[0x3b, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0], echo::write)
        .data_out(LengthRule::ParameterList)
        .conflict(Conflict::Always)
        .ignored_buffer(),
    Command::new("READ BUFFER(10)", &[0x3c, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0], echo::read)
        .data_in(LengthRule::Allocation)
        .conflict(Conflict::UnlessWriteExclusive)
        .ignored_buffer(),
    Command::new("WRITE SAME(10)", &[0x41, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], same::write_same)
        .data_out(LengthRule::OneBlock)
        .writes()
        .group(6)
        .protect()
        .long(),
    Command::new("UNMAP", &[0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0], unmap::unmap)
        .data_out(LengthRule::ParameterList)
        .writes()
        .group(6)
        .long(),
    Command::new("LOG SENSE", &[0x4d, 0, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0], log::sense)
        .data_in(LengthRule::Allocation),
    Command::new("MODE SELECT(10)", &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0], mode::select)
        .data_out(LengthRule::ParameterList)
        .governs()
        .conflict(Conflict::Always),
    Command::new("RESERVE(10)", &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], old::begin).governs().shares().passes_reserve(),
    Command::new("RELEASE(10)", &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], old::begin).shares().passes_reserve(),
    Command::new("MODE SENSE(10)", &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0], mode::sense)
        .data_in(LengthRule::Allocation)
        .conflict(Conflict::UnlessWriteExclusive),
    reserve_in("PERSISTENT RESERVE IN, READ KEYS", &RESERVE_IN[0]),
    reserve_in("PERSISTENT RESERVE IN, READ RESERVATION", &RESERVE_IN[1]),
    reserve_in("PERSISTENT RESERVE IN, REPORT CAPABILITIES", &RESERVE_IN[2]),
    reserve_in("PERSISTENT RESERVE IN, READ FULL STATUS", &RESERVE_IN[3]),
    // A host that may only read registers and gives up what is its own: where only registrants may read (EXCLUSIVE ACCESS -
    // REGISTRANTS ONLY) it could not read without. It takes no reservation, nobody's registration and nobody's commands:
    // that would keep those out who may write.
    reserve_out("PERSISTENT RESERVE OUT, REGISTER", &RESERVE_OUT[0]),
    reserve_out("PERSISTENT RESERVE OUT, RESERVE", &RESERVE_OUT[1]).governs(),
    reserve_out("PERSISTENT RESERVE OUT, RELEASE", &RESERVE_OUT[2]),
    reserve_out("PERSISTENT RESERVE OUT, CLEAR", &RESERVE_OUT[3]).governs(),
    reserve_out("PERSISTENT RESERVE OUT, PREEMPT", &RESERVE_OUT[4]).governs(),
    reserve_out("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", &RESERVE_OUT[5]).governs(),
    reserve_out("PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", &RESERVE_OUT[6]),
    reserve_out("PERSISTENT RESERVE OUT, REGISTER AND MOVE", &RESERVE_OUT[7]).governs(),
    Command::new("EXTENDED COPY(LID1)", &EXTENDED_COPY, copy::extended_copy)
        .service_action()
        .data_out(LengthRule::ParameterList)
        .writes()
        .long(),
    Command::new("RECEIVE COPY STATUS(LID1)", &RECEIVE_COPY_STATUS, copy::status)
        .service_action()
        .data_in(LengthRule::Allocation)
        .conflict(Conflict::Always),
    Command::new("RECEIVE COPY OPERATING PARAMETERS", &RECEIVE_COPY_PARAMETERS, copy::operating_parameters)
        .service_action()
        .data_in(LengthRule::Allocation)
        .conflict(Conflict::Always),
    Command::new("READ(16)", &LONG_READ_WRITE[0], block::read).data_in(LengthRule::Blocks).reads().group(14).protect(),
    Command::new("COMPARE AND WRITE", &COMPARE_AND_WRITE, compare_write::compare_and_write)
        .data_out(LengthRule::TwiceBlocks)
        .writes()
        .group(14)
        .protect(),
    Command::new("WRITE(16)", &LONG_READ_WRITE[1], block::write)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(14)
        .protect(),
    Command::new("ORWRITE(16)", &LONG_READ_WRITE[2], or_write::or_write)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(14)
        .protect(),
    Command::new("WRITE AND VERIFY(16)", &LONG_VERIFY[0], verify::write_and)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(14)
        .protect(),
    Command::new("VERIFY(16)", &LONG_VERIFY[1], verify::verify)
        .data_out(LengthRule::Blocks)
        .reads()
        .group(14)
        .protect(),
    Command::new("PRE-FETCH(16)", &LONG_CACHE[0], block::prefetch).reads().group(14),
    Command::new("SYNCHRONIZE CACHE(16)", &LONG_CACHE[1], block::synchronize)
        .needs_ready()
        .conflict(Conflict::Always)
        .group(14)
        .ignored(1, SYNC_NV)
        .long(),
    Command::new("WRITE SAME(16)", &WRITE_SAME_16, same::write_same)
        .data_out(LengthRule::OneBlock)
        .writes()
        .group(14)
        .protect()
        .long(),
    Command::new("WRITE ATOMIC(16)", &WRITE_ATOMIC, write_atomic::write_atomic)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(14)
        .protect(),
    Command::new("READ CAPACITY(16)", &READ_CAPACITY_16, capacity::read_capacity_16)
        .service_action()
        .data_in(LengthRule::Allocation)
        .needs_ready(),
    Command::new("GET LBA STATUS", &GET_LBA_STATUS, lba_status::begin)
        .service_action()
        .data_in(LengthRule::Allocation)
        .reads(),
    Command::new("REPORT LUNS", &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], status::report_luns)
        .data_in(LengthRule::Allocation)
        .under_attention(),
    Command::new("REPORT IDENTIFYING INFORMATION", &REPORT_NAMES, naming::report)
        .service_action()
        .data_in(LengthRule::Allocation),
    Command::new("REPORT TARGET PORT GROUPS", &REPORT_GROUPS, groups::report)
        .service_action()
        .data_in(LengthRule::Allocation),
    Command::new("REPORT SUPPORTED OPERATION CODES", &REPORT_OPCODES, opcodes::report)
        .service_action()
        .data_in(LengthRule::Allocation)
        .conflict(Conflict::UnlessWriteExclusive),
    Command::new("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", &REPORT_TMFS, opcodes::report_task_management)
        .service_action()
        .data_in(LengthRule::Allocation)
        .conflict(Conflict::UnlessWriteExclusive),
    Command::new("SET TARGET PORT GROUPS", &SET_GROUPS, groups::set)
        .service_action()
        .data_out(LengthRule::ParameterList)
        .governs()
        .conflict(Conflict::Always)
        .long(),
    Command::new("READ(12)", &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], block::read)
        .data_in(LengthRule::Blocks)
        .reads()
        .group(10)
        .protect(),
    Command::new("WRITE(12)", &[0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], block::write)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(10)
        .protect(),
    Command::new("WRITE AND VERIFY(12)", &VERIFY_12[0], verify::write_and)
        .data_out(LengthRule::Blocks)
        .writes()
        .group(10)
        .protect(),
    Command::new("VERIFY(12)", &VERIFY_12[1], verify::verify).data_out(LengthRule::Blocks).reads().group(10).protect(),
    Command::new("READ DEFECT DATA(12)", &READ_DEFECT_DATA_12, defects::read_12)
        .data_in(LengthRule::Allocation)
        .reads(),
];

/// Obsolete since SBC-3: it asked for less than is always done, so an old host is not refused its flush.
const SYNC_NV: u8 = 0x04;

const fn reserve_in(name: &'static str, usage: &'static [u8]) -> Command {
    Command::new(name, usage, read::begin).service_action().data_in(LengthRule::Allocation).shares()
}

const fn reserve_out(name: &'static str, usage: &'static [u8]) -> Command {
    Command::new(name, usage, out::begin).service_action().data_out(LengthRule::ParameterList).shares()
}

/// ALLOCATION LENGTH.
const fn reserve_in_usage(action: u8) -> [u8; 10] {
    [0x5e, action, 0, 0, 0, 0, 0, 0xff, 0xff, 0]
}

/// SCOPE and TYPE, PARAMETER LIST LENGTH.
const fn reserve_out_usage(action: u8) -> [u8; 10] {
    [0x5f, action, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]
}

const RESERVE_IN: [[u8; 10]; 4] = [
    reserve_in_usage(read::READ_KEYS),
    reserve_in_usage(read::READ_RESERVATION),
    reserve_in_usage(read::REPORT_CAPABILITIES),
    reserve_in_usage(read::READ_FULL_STATUS),
];
const RESERVE_OUT: [[u8; 10]; 8] = [
    reserve_out_usage(out::REGISTER),
    reserve_out_usage(out::RESERVE),
    reserve_out_usage(out::RELEASE),
    reserve_out_usage(out::CLEAR),
    reserve_out_usage(out::PREEMPT),
    reserve_out_usage(out::PREEMPT_AND_ABORT),
    reserve_out_usage(out::REGISTER_AND_IGNORE),
    reserve_out_usage(out::REGISTER_AND_MOVE),
];

/// LBA in bytes 2 to 9, TRANSFER LENGTH in 10 to 13.
const fn long(opcode: u8, flags: u8) -> [u8; 16] {
    let mut usage = [0xff; 16];
    usage[0] = opcode;
    usage[1] = flags;
    usage[14] = 0;
    usage[15] = 0;
    usage
}

/// LBA in bytes 2 to 5, TRANSFER LENGTH in 6 to 9.
const fn twelve(opcode: u8, flags: u8) -> [u8; 12] {
    let mut usage = [0xff; 12];
    usage[0] = opcode;
    usage[1] = flags;
    usage[10] = 0;
    usage[11] = 0;
    usage
}

/// DPO and FUA.
const LONG_READ_WRITE: [[u8; 16]; 3] = [long(0x88, 0x18), long(0x8a, 0x18), long(0x8b, 0x18)];
/// DPO and BYTCHK.
const LONG_VERIFY: [[u8; 16]; 2] = [long(0x8e, 0x16), long(0x8f, 0x16)];
const VERIFY_12: [[u8; 12]; 2] = [twelve(0xae, 0x16), twelve(0xaf, 0x16)];
/// IMMED.
const LONG_CACHE: [[u8; 16]; 2] = [long(0x90, 0x02), long(0x91, 0x02)];
/// ANCHOR, UNMAP and NDOB.
const WRITE_SAME_16: [u8; 16] = long(0x93, 0x19);
/// DPO and FUA; ATOMIC BOUNDARY in bytes 10 and 11, looked at because it has to be zero; TRANSFER LENGTH in 12 and 13.
const WRITE_ATOMIC: [u8; 16] = long(0x9c, 0x18);
/// DPO and FUA; NUMBER OF LOGICAL BLOCKS in byte 13.
const COMPARE_AND_WRITE: [u8; 16] = [0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0, 0];
const EXTENDED_COPY: [u8; 16] = [0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
/// LIST IDENTIFIER in byte 2.
const RECEIVE_COPY_STATUS: [u8; 16] = [0x84, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const RECEIVE_COPY_PARAMETERS: [u8; 16] = [0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
/// INFORMATION TYPE in byte 10.
const REPORT_NAMES: [u8; 12] = [0xa3, 0x05, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0];
/// PARAMETER DATA FORMAT beside the service action.
const REPORT_GROUPS: [u8; 12] = [0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const SET_GROUPS: [u8; 12] = [0xa4, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const READ_CAPACITY_16: [u8; 16] = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
/// STARTING LOGICAL BLOCK ADDRESS, ALLOCATION LENGTH.
const GET_LBA_STATUS: [u8; 16] =
    [0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
const REPORT_OPCODES: [u8; 12] = [0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
const REPORT_TMFS: [u8; 12] = [0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const READ_DEFECT_DATA_12: [u8; 12] = [0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
