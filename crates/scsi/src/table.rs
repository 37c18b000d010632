//! What is known about a command: one row each, from which CDBs are checked and REPORT SUPPORTED OPERATION
//! CODES is answered.

use crate::commands::COMMANDS;
use crate::nexus::NexusId;
use crate::response::{Begun, Transfer};
use crate::sense::{Asc, Condition, Field};
use crate::unit::LogicalUnit;

/// Length of the CDB field of the transport's command.
pub(crate) const CDB_BYTES: usize = 16;

/// One CDB, zeros behind a short one.
pub(crate) type Cdb = [u8; CDB_BYTES];

/// What a handler is told.
pub(crate) struct Call<'a> {
    pub(crate) nexus: NexusId,
    pub(crate) cdb: &'a Cdb,
    pub(crate) transfer: Transfer,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// CHECK CONDITION.
    Check(Condition),
    /// No memory for the answer now, or overtaken too often: BUSY.
    Busy,
    /// RESERVATION CONFLICT.
    Conflict,
}

impl From<Condition> for Refusal {
    fn from(condition: Condition) -> Self {
        Self::Check(condition)
    }
}

pub(crate) type Handler = fn(&mut LogicalUnit, &Call<'_>) -> Result<Begun, Refusal>;

/// Which way a command's data go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// No data.
    None,
    /// To the host.
    In,
    /// From the host.
    Out,
}

/// What bounds a command's data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LengthRule {
    /// No data.
    None,
    /// ALLOCATION LENGTH: more is cut off, which is no error (SPC-4 §4.2.5.6).
    Allocation,
    /// PARAMETER LIST LENGTH (SPC-4 §4.2.5.5).
    ParameterList,
    /// TRANSFER LENGTH in logical blocks.
    Blocks,
    /// One logical block, whatever the range.
    OneBlock,
    /// Twice the NUMBER OF LOGICAL BLOCKS.
    TwiceBlocks,
    /// Eight bytes, always.
    Fixed8,
}

/// How a command fares while another nexus holds a persistent reservation (SPC-4 table 66, SBC-3 table 14).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conflict {
    /// Allowed in any case.
    Never,
    /// Allowed under the write exclusive types.
    UnlessWriteExclusive,
    /// RESERVATION CONFLICT.
    Always,
}

/// How a command fares with reservations, and whether it has to know of them at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rule {
    pub(crate) conflict: Conflict,
    /// Carried out although another nexus holds the unit by RESERVE (SPC-2 §5.5.1).
    pub(crate) passes_reserve: bool,
    /// Changes how the unit serves everybody: not for a host that may only read.
    pub(crate) governs: bool,
}

impl Rule {
    /// Of what no reservation is about.
    pub(crate) const FREE: Self = Self { conflict: Conflict::Never, passes_reserve: true, governs: false };
}

/// One row: everything known about one operation code, or one service action of it.
pub struct Command {
    /// Name in the standard.
    pub name: &'static str,
    /// Service action, for operation codes that have them (CDB byte 1, bits 4 to 0).
    pub service_action: Option<u8>,
    /// CDB USAGE DATA (SPC-4 §6.35.3): the operation code, the service action, and a one for every bit that
    /// is evaluated. As long as the CDB.
    pub usage: &'static [u8],
    /// Which way its data go.
    pub direction: Direction,
    /// What bounds them.
    pub length: LengthRule,
    /// RECOMMENDED COMMAND TIMEOUT, in seconds.
    pub timeout_secs: u32,
    /// What a reservation of another nexus does to it.
    pub conflict: Conflict,
    /// Whether it works on the reservations themselves.
    pub(crate) shares: bool,
    /// Whether it is carried out although another nexus holds the unit by RESERVE; so is what is carried out under an
    /// attention.
    pub(crate) passes_reserve: bool,
    /// Whether it is carried out while a unit attention is pending, which then stays (SAM-5 §5.14.1).
    pub under_attention: bool,
    /// Whether it is refused while the unit is stopped.
    pub needs_ready: bool,
    /// Whether it changes the medium, so that it is refused on a read-only volume.
    pub writes: bool,
    /// Whether it changes how the unit serves everybody, so that it is refused to a host that may only read.
    pub(crate) governs: bool,
    /// Bits that may be one and are not evaluated, as in `usage`: GROUP NUMBER, some obsolete ones.
    ignored: u128,
    /// Whether bits 7 to 5 of byte 1 are RDPROTECT and the like: refused as one field.
    protect: bool,
    pub(crate) run: Handler,
}

/// Without its own word a command is answered at once; hosts' usual patience is 30 s.
const TIMEOUT_SECS: u32 = 30;
/// Commands that touch up to hundreds of MiB.
const LONG_TIMEOUT_SECS: u32 = 120;

impl Command {
    pub(crate) const fn new(name: &'static str, usage: &'static [u8], run: Handler) -> Self {
        Self {
            name,
            service_action: None,
            usage,
            direction: Direction::None,
            length: LengthRule::None,
            timeout_secs: TIMEOUT_SECS,
            conflict: Conflict::Never,
            shares: false,
            passes_reserve: false,
            under_attention: false,
            needs_ready: false,
            writes: false,
            governs: false,
            ignored: 0,
            protect: false,
            run,
        }
    }

    /// Byte 1 of the usage map names the service action.
    pub(crate) const fn service_action(self) -> Self {
        Self { service_action: Some(self.usage[1] & 0x1f), ..self }
    }

    pub(crate) const fn data_in(self, length: LengthRule) -> Self {
        Self { direction: Direction::In, length, ..self }
    }

    pub(crate) const fn data_out(self, length: LengthRule) -> Self {
        Self { direction: Direction::Out, length, ..self }
    }

    pub(crate) const fn under_attention(self) -> Self {
        Self { under_attention: true, ..self }
    }

    pub(crate) const fn needs_ready(self) -> Self {
        Self { needs_ready: true, ..self }
    }

    /// Reads the medium.
    pub(crate) const fn reads(self) -> Self {
        Self { conflict: Conflict::UnlessWriteExclusive, needs_ready: true, ..self }
    }

    /// Changes the medium.
    pub(crate) const fn writes(self) -> Self {
        Self { conflict: Conflict::Always, needs_ready: true, writes: true, ..self }
    }

    /// Changes how the unit serves everybody.
    pub(crate) const fn governs(self) -> Self {
        Self { governs: true, ..self }
    }

    pub(crate) const fn conflict(self, conflict: Conflict) -> Self {
        Self { conflict, ..self }
    }

    /// Works on the reservations themselves; its handler looks for conflicts.
    pub(crate) const fn shares(self) -> Self {
        Self { shares: true, ..self }
    }

    /// Another's RESERVE is no reason to refuse it here; its handler may.
    pub(crate) const fn passes_reserve(self) -> Self {
        Self { passes_reserve: true, ..self }
    }

    /// How it fares with reservations.
    #[inline]
    pub(crate) const fn rule(&self) -> Rule {
        let passes_reserve = self.passes_reserve || self.under_attention;
        Rule { conflict: self.conflict, passes_reserve, governs: self.governs }
    }

    /// Whether the shared state has to be known before it is carried out.
    pub(crate) const fn needs_state(&self) -> bool {
        self.shares || !matches!(self.conflict, Conflict::Never)
    }

    /// GROUP NUMBER, ignored, is in this byte.
    pub(crate) const fn group(self, byte: u8) -> Self {
        self.ignored(byte, 0x1f)
    }

    pub(crate) const fn ignored(self, byte: u8, bits: u8) -> Self {
        Self { ignored: self.ignored | (bits as u128) << (8 * (CDB_BYTES as u32 - 1 - byte as u32)), ..self }
    }

    /// BUFFER ID and BUFFER OFFSET, which the echo buffer's modes ignore (SPC-4 §6.17.7).
    pub(crate) const fn ignored_buffer(self) -> Self {
        self.ignored(2, 0xff).ignored(3, 0xff).ignored(4, 0xff).ignored(5, 0xff)
    }

    pub(crate) const fn protect(self) -> Self {
        Self { protect: true, ..self }
    }

    pub(crate) const fn long(self) -> Self {
        Self { timeout_secs: LONG_TIMEOUT_SECS, ..self }
    }

    /// The operation code.
    pub const fn opcode(&self) -> u8 {
        self.usage[0]
    }

    /// The bits of a CDB that may be one: those evaluated, those ignored, and all behind its end.
    const fn accepted(&self) -> u128 {
        let mut bytes = [0xff; CDB_BYTES];
        let mut at = 1;
        while at < self.usage.len() {
            bytes[at] = self.usage[at];
            at += 1;
        }
        u128::from_be_bytes(bytes) | self.ignored
    }

    /// Checks that no bit is set that must be zero (SPC-4 §4.2.5.1: reserved bits, and fields that are not
    /// supported).
    #[inline]
    pub(crate) fn check(&self, at: Row, cdb: &Cdb) -> Result<(), Condition> {
        let wrong = u128::from_be_bytes(*cdb) & !ACCEPTED[usize::from(at.0)];
        if wrong == 0 { Ok(()) } else { Err(self.point_at(wrong)) }
    }

    #[cold]
    fn point_at(&self, wrong: u128) -> Condition {
        // The field pointer names the left-most bit of the field in error (SPC-4 §4.5.2.4.2).
        let leading = wrong.leading_zeros();
        let (byte, bit) = ((leading / 8) as u16, 7 - (leading % 8) as u8);
        let bit = if self.protect && byte == 1 && bit >= 5 { 7 } else { bit };
        Condition::invalid_cdb(Field::cdb_bit(byte, bit))
    }
}

/// Index of a command in the table.
#[derive(Clone, Copy)]
pub(crate) struct Row(u8);

impl Row {
    #[inline]
    pub(crate) fn command(self) -> &'static Command {
        &COMMANDS[usize::from(self.0)]
    }
}

static ACCEPTED: [u128; COMMANDS.len()] = {
    let mut accepted = [0; COMMANDS.len()];
    let mut at = 0;
    while at < COMMANDS.len() {
        accepted[at] = COMMANDS[at].accepted();
        at += 1;
    }
    accepted
};

const NO_ROW: u8 = u8::MAX;
const _: () = assert!(COMMANDS.len() < NO_ROW as usize);

/// First row of each operation code.
static FIRST_ROW: [u8; 256] = {
    let mut first = [NO_ROW; 256];
    let mut at = COMMANDS.len();
    while at > 0 {
        at -= 1;
        first[COMMANDS[at].opcode() as usize] = at as u8;
    }
    first
};

/// The row of a CDB.
#[inline]
pub(crate) fn find(cdb: &Cdb) -> Result<Row, Condition> {
    let first = FIRST_ROW[usize::from(cdb[0])];
    if first == NO_ROW {
        return Err(Condition::illegal(Asc::INVALID_OPCODE));
    }
    if COMMANDS[usize::from(first)].service_action.is_none() {
        return Ok(Row(first));
    }
    let action = cdb[1] & 0x1f;
    // A service action that is not there is a field at fault (SPC-4 §4.2.5.2).
    find_action(cdb[0], action).ok_or(Condition::invalid_cdb(Field::cdb_bit(1, 4)))
}

fn find_action(opcode: u8, action: u8) -> Option<Row> {
    let is_it = |command: &Command| command.opcode() == opcode && command.service_action == Some(action);
    COMMANDS.iter().position(is_it).map(|at| Row(at as u8))
}

/// What REPORT SUPPORTED OPERATION CODES knows of an operation code.
pub(crate) enum Known {
    /// Not supported.
    Nothing,
    /// Supported, without service actions.
    Plain(&'static Command),
    /// It has service actions; the one asked for, if it is supported.
    Actions(Option<&'static Command>),
}

pub(crate) fn known(opcode: u8, action: u16) -> Known {
    let first = FIRST_ROW[usize::from(opcode)];
    if first == NO_ROW {
        return Known::Nothing;
    }
    let command = &COMMANDS[usize::from(first)];
    if command.service_action.is_none() {
        return Known::Plain(command);
    }
    let action = u8::try_from(action).ok().and_then(|action| find_action(opcode, action));
    Known::Actions(action.map(Row::command))
}
