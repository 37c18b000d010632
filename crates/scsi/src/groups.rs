//! Target port groups (ALUA, SPC-4 §5.11): one per node. The owner's is active/optimized; the others reach the volume
//! through it and are active/non-optimized (M18). Which node is owner is Dyad's to decide, so only implicit changes are
//! announced (TPGS 01b), and SET TARGET PORT GROUPS is not supported.

use crate::cdb::{be32, length};
use crate::nexus::{Attention, Who};
use crate::response::Begun;
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
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
        if is_news {
            self.nexuses.attend(Who::All, Attention::AccessStateChanged);
        }
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
    /// STATUS CODE: altered by implicit asymmetric logical unit access behaviour.
    const IMPLICIT: u8 = 0x02;
    let pref = if group.is_preferred { PREF } else { 0 };
    let [high, low] = group.group.to_be_bytes();
    data.extend([pref | group.state as u8, SUPPORTED, high, low, 0, IMPLICIT, 0, 1]);
    let [high, low] = group.port.to_be_bytes();
    data.extend([0, 0, high, low]);
}
