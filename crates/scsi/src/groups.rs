//! Target port groups (ALUA, SPC-4 §5.11): one per node. The owner's is active/optimized; the others reach the volume
//! through it and are active/non-optimized (M18). Dyad moves the owner by itself, and a host may ask for it: making a
//! group active/optimized is a hand-over to its node (M12). TPGS says both (11b).

use dyad_contract::volume::VolumeError;

use crate::cdb::{be16, be32, length};
use crate::nexus::{Attention, NexusId, Who};
use crate::response::{Begun, NodeOp, Response, Step};
use crate::sense::{Asc, Condition, Field, SenseKey};
use crate::steps;
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

/// Groups that one volume can have: a cluster's nodes, generously.
pub const PORT_GROUPS_MAX: usize = 64;

/// ASYMMETRIC ACCESS STATE (SPC-4 table 300).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum AccessState {
    /// The owner's.
    Optimized = 0x0,
    /// Of a node that forwards to the owner.
    NonOptimized = 0x1,
    /// Of a node that cannot serve the volume, or cannot be reached.
    Unavailable = 0x3,
    /// There is no owner yet, or a new one is about to serve.
    Transitioning = 0xf,
}

/// The ports of one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortGroup {
    /// TARGET PORT GROUP; the node's for ever.
    pub group: u16,
    /// RELATIVE TARGET PORT IDENTIFIER of its only port.
    pub port: u16,
    /// How it is.
    pub state: AccessState,
    /// Whether the administrator would have the owner there.
    pub is_preferred: bool,
}

impl LogicalUnit {
    /// How the nodes' ports are, in ascending order of groups; more than [`PORT_GROUPS_MAX`] are left out. When a state
    /// changes every nexus learns it (SPC-4 §5.11.2.2); the first word after a start is no change, nor is another wish of
    /// the administrator's.
    pub fn set_port_groups(&mut self, groups: &[PortGroup]) {
        let groups = &groups[..groups.len().min(PORT_GROUPS_MAX)];
        if self.groups == groups {
            return;
        }
        let state = |group: &PortGroup| PortGroup { is_preferred: false, ..*group };
        let is_news = !self.groups.is_empty() && !self.groups.iter().map(state).eq(groups.iter().map(state));
        self.groups.clear();
        self.groups.extend_from_slice(groups);
        let asker = self.moving;
        self.moving = asker.filter(|(_, group)| !self.is_optimized(*group));
        if is_news {
            // Whoever asked for it needs no telling (SPC-4 §6.45).
            let who = asker.map_or(Who::All, |(nexus, _)| Who::AllBut(nexus));
            self.nexuses.attend(who, Attention::AccessStateChanged);
        }
    }

    /// The owner was not moved to this group, and who had asked for it waits for no answer any more: a change that comes
    /// later was not asked for.
    pub fn not_moved(&mut self, group: u16) {
        self.moving.take_if(|(_, asked)| *asked == group);
    }

    fn is_optimized(&self, group: u16) -> bool {
        self.groups.iter().any(|known| known.group == group && known.state == AccessState::Optimized)
    }

    /// As they were said last.
    pub fn port_groups(&self) -> &[PortGroup] {
        &self.groups
    }

    /// Relative target ports of the device, those of other nodes included; its own, as long as no others are known.
    pub(crate) fn target_ports(&self) -> Vec<u16> {
        if self.groups.is_empty() {
            return vec![self.settings.identity.target_port];
        }
        self.groups.iter().map(|group| group.port).collect()
    }
}

/// Who asked for which group to become active/optimized, until it is.
pub(crate) type Moving = (NexusId, u16);

/// A header, and a descriptor of each group; a longer list names one twice.
const LIST_BYTES_MAX: usize = 4 * (1 + PORT_GROUPS_MAX);

/// SET TARGET PORT GROUPS (SPC-4 §6.45): asks for the parameter list.
pub(crate) fn set(_: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let len = length(be32(call.cdb, 6));
    if len == 0 {
        return Ok(Begun::Answer(Response::good())); // no change, and no error
    }
    if len > LIST_BYTES_MAX || !len.is_multiple_of(4) {
        return Err(Condition::illegal(Asc::PARAMETER_LIST_LENGTH).into());
    }
    let task = Task::new(call.nexus, Phase::GroupsList { len: len as u16 }, Range::NONE);
    Ok(Begun::DataOut { task, len: len as u32 })
}

/// The list is here: one group becomes active/optimized, none or all others of those named active/non-optimized.
pub(crate) fn with_list(unit: &mut LogicalUnit, mut task: Task, list: &[u8]) -> Result<Step, Refusal> {
    let mut wanted = None;
    for (number, descriptor) in list.chunks_exact(4).enumerate().skip(1) {
        let at = 4 * number as u16;
        let (state, group) = (descriptor[0] & 0x0f, be16(descriptor, 2) as u16);
        if !unit.groups.iter().any(|known| known.group == group) {
            return Err(Condition::invalid_list(at + 2).into());
        }
        match state {
            state if state == AccessState::Optimized as u8 && wanted.is_none() => wanted = Some(group),
            state if state == AccessState::NonOptimized as u8 && wanted != Some(group) => {}
            // There is one owner; and no node is made standby, unavailable or offline by a host.
            _ => return Err(Condition::invalid_list(at).into()),
        }
    }
    let Some(group) = wanted else {
        // The owner's group cannot be made a longer way without another one that is the short one.
        let is_change = list.chunks_exact(4).skip(1).any(|descriptor| unit.is_optimized(be16(descriptor, 2) as u16));
        return if is_change { Err(Condition::invalid_list(4).into()) } else { Ok(Step::Answer(Response::good())) };
    };
    if unit.is_optimized(group) {
        return Ok(Step::Answer(Response::good()));
    }
    unit.moving = Some((task.nexus, group));
    task.phase = Phase::Moving { group };
    Ok(Step::Node { task, op: NodeOp::Move { group } })
}

/// The owner was not moved.
pub(crate) fn failed(unit: &mut LogicalUnit, task: &Task, error: VolumeError) -> Response {
    if let Phase::Moving { group } = task.phase
        && unit.moving == Some((task.nexus, group))
    {
        unit.moving = None;
    }
    match error {
        VolumeError::WriteFault => {
            unit.check_condition(Condition::new(SenseKey::HardwareError, Asc::SET_GROUPS_FAILED))
        }
        error => steps::failed(unit, task, error),
    }
}

/// REPORT TARGET PORT GROUPS (SPC-4 §6.36).
pub(crate) fn report(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const EXTENDED: u8 = 0b001;
    let mut data = match call.cdb[1] >> 5 {
        0 => vec![0; 4],
        // IMPLICIT TRANSITION TIME: seconds that a host should wait for a transition to end.
        EXTENDED => vec![0, 0, 0, 0, EXTENDED << 4, TRANSITION_SECS, 0, 0],
        _ => return Err(Condition::invalid_cdb(Field::cdb_bit(1, 7)).into()),
    };
    if unit.groups.is_empty() {
        // Nothing else is known yet: the port that this command came through leads here.
        let identity = &unit.settings.identity;
        let (group, port) = (identity.target_port_group, identity.target_port);
        descriptor(&mut data, PortGroup { group, port, state: AccessState::Optimized, is_preferred: false });
    }
    for &group in &unit.groups {
        descriptor(&mut data, group);
    }
    let len = data.len() as u32 - 4;
    data[..4].copy_from_slice(&len.to_be_bytes());
    unit.reply(&data, length(be32(call.cdb, 6)))
}

/// A takeover takes under a second (M8, M9); a process that starts again some more. After that a host may give the path up.
const TRANSITION_SECS: u8 = 30;

fn descriptor(data: &mut Vec<u8>, group: PortGroup) {
    const PREF: u8 = 0x80;
    /// T_SUP, U_SUP, AN_SUP, AO_SUP.
    const SUPPORTED: u8 = 0x80 | 0x08 | 0x02 | 0x01;
    /// STATUS CODE: none is given; one node does not know what brought another one's state about.
    const NO_STATUS: u8 = 0x00;
    let pref = if group.is_preferred { PREF } else { 0 };
    let [high, low] = group.group.to_be_bytes();
    data.extend([pref | group.state as u8, SUPPORTED, high, low, 0, NO_STATUS, 0, 1]);
    let [high, low] = group.port.to_be_bytes();
    data.extend([0, 0, high, low]);
}
