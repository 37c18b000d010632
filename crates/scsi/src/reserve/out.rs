//! PERSISTENT RESERVE OUT (SPC-4 §6.16): CDB and parameter list.

use dyad_payload::Payload;

use crate::cdb::{be16, be32, be64};
use crate::reserve::change::{Action, Move, Register, bad_ids, bad_kind};
use crate::reserve::port::{InitiatorPort, Path, TransportId};
use crate::reserve::request::{self, Request};
use crate::reserve::state::Kind;
use crate::response::{Begun, Step};
use crate::sense::{Asc, Condition, Field};
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

pub(crate) const REGISTER: u8 = 0x00;
pub(crate) const RESERVE: u8 = 0x01;
pub(crate) const RELEASE: u8 = 0x02;
pub(crate) const CLEAR: u8 = 0x03;
pub(crate) const PREEMPT: u8 = 0x04;
pub(crate) const PREEMPT_AND_ABORT: u8 = 0x05;
pub(crate) const REGISTER_AND_IGNORE: u8 = 0x06;
pub(crate) const REGISTER_AND_MOVE: u8 = 0x07;

/// The basic parameter list (SPC-4 table 208), also the fixed part of the others.
const BASIC_BYTES: usize = 24;
/// Longest parameter list: some thirty TransportIDs, more than any host has ports.
const LIST_BYTES_MAX: u64 = 8 << 10;

const TOO_SHORT: Condition = Condition::illegal(Asc::PARAMETER_LIST_LENGTH);

/// Asks for the parameter list.
pub(crate) fn begin(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let action = call.cdb[1] & 0x1f;
    let scope_and_kind = call.cdb[2];
    let len = be32(call.cdb, 5);
    if matches!(action, RESERVE | RELEASE | PREEMPT | PREEMPT_AND_ABORT) {
        kind_of(scope_and_kind)?;
    }
    // SPC-4 §6.16.1: 24 bytes, unless there are TransportIDs.
    let may_be_long = matches!(action, REGISTER | REGISTER_AND_MOVE);
    let is_basic = len == BASIC_BYTES as u64;
    let is_long = may_be_long && (BASIC_BYTES as u64..=LIST_BYTES_MAX).contains(&len);
    if !is_basic && !is_long {
        return Err(TOO_SHORT.into());
    }
    if unit.shared.state().reserved.is_some() {
        return Err(Refusal::Conflict);
    }
    let phase = Phase::ReserveList { action, scope_and_kind, len: len as u16 };
    Ok(Begun::DataOut { task: Task::new(call.nexus, phase, Range::NONE), len: len as u32 })
}

/// SCOPE (only the logical unit, SPC-4 table 181) and TYPE.
fn kind_of(scope_and_kind: u8) -> Result<Kind, Condition> {
    let kind = Kind::from_code(scope_and_kind & 0x0f).ok_or(bad_kind())?;
    if scope_and_kind >> 4 == 0 { Ok(kind) } else { Err(bad_kind()) }
}

/// The parameter list came.
pub(crate) fn with_list(unit: &mut LogicalUnit, task: &Task, data: &Payload) -> Result<Step, Refusal> {
    let Phase::ReserveList { action, scope_and_kind, len } = task.phase else { return Err(Refusal::Busy) };
    if data.len() < usize::from(len) {
        return Err(TOO_SHORT.into());
    }
    let mut list = data.to_vec();
    list.truncate(usize::from(len));
    let request = parse(unit, task, action, scope_and_kind, &list)?;
    request::attempt(unit, request::task(task.nexus, request))
}

fn parse(unit: &LogicalUnit, task: &Task, action: u8, scope_and_kind: u8, list: &[u8]) -> Result<Request, Condition> {
    let (key, new_key) = (be64(list, 0), be64(list, 8));
    let asked = match action {
        REGISTER | REGISTER_AND_IGNORE => {
            Action::Register(register(unit, list, new_key, action == REGISTER_AND_IGNORE)?)
        }
        REGISTER_AND_MOVE => Action::Move(register_and_move(unit, task, list, new_key)?),
        RESERVE => Action::Reserve(kind_of(scope_and_kind)?),
        RELEASE => Action::Release(kind_of(scope_and_kind)?),
        PREEMPT | PREEMPT_AND_ABORT => {
            Action::Preempt { kind: kind_of(scope_and_kind)?, key: new_key, abort: action == PREEMPT_AND_ABORT }
        }
        CLEAR => Action::Clear,
        _ => return Err(Condition::invalid_cdb(Field::cdb_bit(1, 4))),
    };
    Ok(Request::Persistent(key, asked))
}

/// SPC-4 table 208: SPEC_I_PT, ALL_TG_PT and APTPL in byte 20, TransportIDs from byte 24 on.
fn register(unit: &LogicalUnit, list: &[u8], key: u64, ignores_key: bool) -> Result<Register, Condition> {
    const SPEC_I_PT: u8 = 0x08;
    const ALL_TG_PT: u8 = 0x04;
    const APTPL: u8 = 0x01;
    const FLAGS_AT: usize = 20;
    let flags = list[FLAGS_AT];
    let has_ids = flags & SPEC_I_PT != 0;
    if has_ids && ignores_key || flags & !(SPEC_I_PT | ALL_TG_PT | APTPL) != 0 {
        return Err(Condition::invalid_list(FLAGS_AT as u16));
    }
    if !has_ids && list.len() != BASIC_BYTES {
        return Err(TOO_SHORT);
    }
    let ports = if flags & ALL_TG_PT != 0 { unit.target_ports() } else { vec![unit.settings.identity.target_port] };
    let others = if has_ids { Some(transport_ids(unit, list)?) } else { None };
    Ok(Register { key, ignores_key, aptpl: flags & APTPL != 0, ports, others })
}

/// TRANSPORTID PARAMETER DATA LENGTH and as many of them (SPC-4 table 210).
fn transport_ids(unit: &LogicalUnit, list: &[u8]) -> Result<Vec<InitiatorPort>, Condition> {
    let ids_at = BASIC_BYTES + 4;
    let len = if list.len() < ids_at { return Err(TOO_SHORT) } else { be32(list, BASIC_BYTES) as usize };
    let mut rest = list.get(ids_at..ids_at + len).ok_or(TOO_SHORT)?;
    let mut ports = Vec::new();
    while !rest.is_empty() {
        let (id, len) = TransportId::parse(rest).ok_or(bad_ids())?;
        rest = &rest[len..];
        match id {
            TransportId::Port(port) => ports.push(port),
            // SPC-4 §7.6.4.5: every port of that host that is known.
            TransportId::Device(name) => match unit.shared.ports_of(&name) {
                known if known.is_empty() => return Err(bad_ids()),
                known => ports.extend(known),
            },
        }
    }
    Ok(ports)
}

/// SPC-4 table 209: UNREG and APTPL in byte 17, the target port, one TransportID.
fn register_and_move(unit: &LogicalUnit, task: &Task, list: &[u8], key: u64) -> Result<Move, Condition> {
    const UNREG: u8 = 0x02;
    const APTPL: u8 = 0x01;
    const FLAGS_AT: usize = 17;
    let flags = list[FLAGS_AT];
    if flags & !(UNREG | APTPL) != 0 {
        return Err(Condition::invalid_list(FLAGS_AT as u16));
    }
    let target = be16(list, 18) as u16;
    let len = be32(list, 20) as usize;
    let id = list.get(BASIC_BYTES..BASIC_BYTES + len).ok_or(TOO_SHORT)?;
    let initiator = match TransportId::parse(id) {
        Some((TransportId::Port(port), whole)) if whole == len => port,
        // A name without a port is no path (SPC-4 §5.13.8).
        _ => return Err(bad_ids()),
    };
    let is_port = target == unit.settings.identity.target_port || unit.target_ports().contains(&target);
    let to = is_port.then_some(Path { initiator, target });
    debug_assert!(unit.shared.path(task.nexus).is_none_or(|path| path.target == unit.settings.identity.target_port));
    Ok(Move { key, aptpl: flags & APTPL != 0, unregisters: flags & UNREG != 0, to })
}
