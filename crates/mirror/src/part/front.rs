//! Operations of hosts, from this node's sessions and from other nodes, until they are answered (M18, M19).

use dyad_contract::volume::VolumeOp;
use dyad_units::{Moment, NodeId, Period};

use crate::owner::OpId;

/// Most operations that are not answered yet: as many as an owner takes in, and as many again that wait.
pub(crate) const OPS_MAX: usize = 2048;

/// Whose operation it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// A session of this node.
    Host(OpId),
    /// Another node's session.
    Peer { node: NodeId, id: u64 },
    /// This part, for what a forced promotion lost (M10).
    Loss(u64),
    /// Nobody's any more: whoever forwarded it is gone.
    Nobody,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Free,
    /// Here, without any effect so far.
    Waiting,
    /// With the owner's side on this node.
    Mirror,
    /// With the owner, another node. Not connected any more: it may or may not take effect there.
    Forwarded {
        to: NodeId,
        is_connected: bool,
    },
}

/// An operation.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) origin: Origin,
    pub(crate) place: Place,
    pub(crate) arrived: Moment,
    /// While it waits.
    pub(crate) op: Option<VolumeOp>,
    pub(crate) is_aborted: bool,
    /// Distinguishes operations that have the slot one after the other.
    turn: u64,
}

impl Op {
    /// Whether it arrived longer ago than it may wait (M19).
    pub(crate) fn is_late(&self, now: Moment, wait: Period) -> bool {
        self.arrived + wait <= now
    }
}

/// A bounded slab of operations; slots are used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front {
    ops: Vec<Op>,
    free: Vec<u32>,
    /// Those that wait, in the order of arrival.
    waiting: Vec<u64>,
    pub(crate) forwarded: usize,
    /// No operation runs out of time before this.
    pub(crate) look_at: Option<Moment>,
    turn: u64,
}

const SLOT_BITS: u32 = 16;

impl Front {
    pub(crate) fn len(&self) -> usize {
        self.ops.len() - self.free.len()
    }

    /// Takes an operation in, waiting; none: there are too many.
    pub(crate) fn take(&mut self, origin: Origin, op: VolumeOp, arrived: Moment) -> Option<u64> {
        self.turn += 1;
        let turn = self.turn;
        let new = Op { origin, place: Place::Waiting, arrived, op: Some(op), is_aborted: false, turn };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.ops[slot as usize] = new;
                slot
            }
            None if self.ops.len() < OPS_MAX => {
                self.ops.push(new);
                self.ops.len() as u32 - 1
            }
            None => return None,
        };
        Some(turn << SLOT_BITS | u64::from(slot))
    }

    pub(crate) fn get(&mut self, key: u64) -> Option<&mut Op> {
        let op = self.ops.get_mut((key & ((1 << SLOT_BITS) - 1)) as usize)?;
        (op.place != Place::Free && op.turn == key >> SLOT_BITS).then_some(op)
    }

    /// Ends an operation; its slot is free afterwards.
    pub(crate) fn end(&mut self, key: u64) -> Option<Origin> {
        let op = self.get(key)?;
        let (origin, place) = (op.origin, op.place);
        (op.place, op.op) = (Place::Free, None);
        match place {
            Place::Waiting => self.waiting.retain(|&waiting| waiting != key),
            Place::Forwarded { .. } => self.forwarded -= 1,
            Place::Free | Place::Mirror => {}
        }
        self.free.push((key & ((1 << SLOT_BITS) - 1)) as u32);
        Some(origin)
    }

    /// The operation waits here.
    pub(crate) fn wait(&mut self, key: u64) {
        self.waiting.push(key);
    }

    /// Those that wait, in the order of arrival; whoever takes them puts them back.
    pub(crate) fn take_waiting(&mut self, into: &mut Vec<u64>) {
        into.clear();
        into.append(&mut self.waiting);
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// All that are not answered.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (u64, &Op)> {
        let taken = self.ops.iter().enumerate().filter(|(_, op)| op.place != Place::Free);
        taken.map(|(slot, op)| (op.turn << SLOT_BITS | slot as u64, op))
    }

    pub(crate) fn find(&self, origin: Origin) -> Option<u64> {
        self.keys().find(|(_, op)| op.origin == origin).map(|(key, _)| key)
    }

    pub(crate) fn watch(&mut self, at: Moment) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }
}

const _: () = assert!(OPS_MAX <= 1 << SLOT_BITS, "a slot fits a key");
