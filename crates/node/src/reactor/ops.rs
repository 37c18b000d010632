//! Operations of a volume that are not answered.

use dyad_contract::volume::VolumeOp;
use dyad_iscsi::TaskTag;
use dyad_mirror::OpId;
use dyad_scsi::{NexusId, Task};
use dyad_units::{Moment, Period, VolumeId};

use super::conns::ConnRef;
use super::errand::Sender;

/// What an operation is counted as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weight {
    Read(u64),
    Write(u64),
    Other,
}

impl Weight {
    pub(super) fn of(op: &VolumeOp) -> Self {
        match op {
            VolumeOp::Read { span } => Self::Read(span.len()),
            VolumeOp::Write { span, .. }
            | VolumeOp::WriteAtomic { span, .. }
            | VolumeOp::Fill { span, .. }
            | VolumeOp::CompareAndWrite { span, .. } => Self::Write(span.len()),
            VolumeOp::Unmap { .. }
            | VolumeOp::Compare { .. }
            | VolumeOp::Verify { .. }
            | VolumeOp::Flush
            | VolumeOp::ReadState
            | VolumeOp::WriteState { .. } => Self::Other,
        }
    }
}

/// Whose an operation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// A host's command.
    Host,
    /// The unit's: a change of the shared state that no host asked for.
    Unit,
    /// This node's: it reads the shared state.
    Node,
    /// An errand of a copy at another volume.
    Copy,
}

/// Whether an operation ended, or will end, without effect, to be looked at again (M20).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Returned {
    No,
    /// The owner knows of another state.
    Stale,
    /// It was taken back because this node is about to become owner, and had not gone anywhere.
    Withdrawn,
    /// The same, but it had gone to the owner before, who may be lost: it may have taken effect, and none follows.
    Recalled,
}

/// An operation that was not answered.
pub(super) struct Op {
    pub(super) whose: Whose,
    /// The connection that it came by, and its task there; `None`: given up, or no host's.
    pub(super) host: Option<(ConnRef, TaskTag)>,
    /// What the unit wants back; `None` while the unit has it, and when given up.
    pub(super) task: Option<Task>,
    pub(super) begun: Moment,
    /// Of what it asked first.
    pub(super) weight: Option<Weight>,
    /// Bytes of the budget for write data, given back at the end.
    pub(super) asked_bytes: u32,
    /// What the part has, or is to have: kept where another node may refuse it, and while it waits for the state.
    pub(super) again: Option<VolumeOp>,
    pub(super) returned: Returned,
    /// It waits for the shared state; the part does not have it.
    pub(super) is_parked: bool,
    /// How often it did, and since when, since the part answered it last.
    pub(super) tries: u8,
    pub(super) parked_since: Option<Moment>,
    /// Whose errand it is.
    pub(super) errand: Option<Box<Sender>>,
    /// The errand that it waits for: at which volume, and its number there.
    pub(super) sent: Option<(VolumeId, OpId)>,
}

impl Op {
    pub(super) fn of_host(at: ConnRef, tag: TaskTag, now: Moment, asked_bytes: u32) -> Self {
        Self { host: Some((at, tag)), asked_bytes, ..Self::own(Whose::Host, now) }
    }

    pub(super) fn own(whose: Whose, now: Moment) -> Self {
        Self {
            whose,
            host: None,
            task: None,
            begun: now,
            weight: None,
            asked_bytes: 0,
            again: None,
            returned: Returned::No,
            is_parked: false,
            tries: 0,
            parked_since: None,
            errand: None,
            sent: None,
        }
    }
}

impl Op {
    /// It has to wait for the shared state; its task comes back if it did so too often.
    pub(super) fn park(&mut self, now: Moment, task: Task, again: Option<VolumeOp>, tries_max: u8) -> Option<Task> {
        self.tries = self.tries.saturating_add(1);
        if self.tries > tries_max {
            return Some(task);
        }
        self.parked_since.get_or_insert(now);
        (self.task, self.again, self.is_parked) = (Some(task), again, true);
        None
    }

    /// Whether it waited for longer than this. A command of many steps waits at each anew: what is measured is no part of
    /// how long it runs.
    pub(super) fn has_waited(&self, now: Moment, patience: Period) -> bool {
        self.parked_since.is_some_and(|since| now.since(since) >= patience)
    }

    /// The part carried something out for it: it got on.
    pub(super) fn got_on(&mut self) {
        (self.tries, self.parked_since) = (0, None);
    }
}

/// Operations by number; places are used again, numbers are not.
#[derive(Default)]
pub(super) struct Ops {
    slots: Vec<(u32, Option<Op>)>,
    free: Vec<u32>,
}

impl Ops {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn add(&mut self, op: Op) -> OpId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (generation, slot) = &mut self.slots[index as usize];
        *slot = Some(op);
        OpId(u64::from(*generation) << 32 | u64::from(index))
    }

    pub(super) fn get_mut(&mut self, id: OpId) -> Option<&mut Op> {
        let (generation, op) = self.slots.get_mut(id.0 as u32 as usize)?;
        op.as_mut().filter(|_| u64::from(*generation) == id.0 >> 32)
    }

    pub(super) fn get(&self, id: OpId) -> Option<&Op> {
        let (generation, op) = self.slots.get(id.0 as u32 as usize)?;
        op.as_ref().filter(|_| u64::from(*generation) == id.0 >> 32)
    }

    /// Forgets an operation; the bytes of the budget that it used.
    pub(super) fn remove(&mut self, id: OpId) -> u32 {
        let Some(asked_bytes) = self.get_mut(id).map(|op| op.asked_bytes) else { return 0 };
        let (generation, op) = &mut self.slots[id.0 as u32 as usize];
        *op = None;
        *generation = generation.wrapping_add(1);
        self.free.push(id.0 as u32);
        asked_bytes
    }

    /// Bytes of the budget that all of them use.
    pub(super) fn asked_bytes(&self) -> u64 {
        self.slots.iter().filter_map(|(_, op)| op.as_ref()).map(|op| u64::from(op.asked_bytes)).sum()
    }

    /// The operation at this place loses its host; its number, and whether the part has it.
    pub(super) fn give_up(&mut self, index: u32) -> Option<(OpId, bool)> {
        let (generation, op) = self.slots.get_mut(index as usize)?;
        let op = op.as_mut()?;
        (op.host, op.task, op.again) = (None, None, None);
        Some((OpId(u64::from(*generation) << 32 | u64::from(index)), !op.is_parked))
    }

    /// Those that the part has and that can still be taken back.
    pub(super) fn at_part(&mut self) -> impl Iterator<Item = (OpId, &mut Op)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, (generation, op))| {
            let id = OpId(u64::from(*generation) << 32 | index as u64);
            let op = op.as_mut().filter(|op| op.whose != Whose::Node && op.task.is_some() && !op.is_parked)?;
            Some((id, op))
        })
    }

    /// Those that lost their host and are not over.
    pub(super) fn given_up(&self) -> impl Iterator<Item = OpId> + '_ {
        let of = |(index, (generation, op)): (usize, &(u32, Option<Op>))| {
            let id = OpId(u64::from(*generation) << 32 | index as u64);
            let is_given_up = |op: &&Op| match op.whose {
                Whose::Host => op.host.is_none(),
                Whose::Copy => op.task.is_none(),
                Whose::Unit | Whose::Node => false,
            };
            op.as_ref().filter(is_given_up).map(|_| id)
        };
        self.slots.iter().enumerate().filter_map(of)
    }

    /// Errands, and the nexus of each.
    pub(super) fn errands(&self) -> impl Iterator<Item = (OpId, NexusId)> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, (generation, op))| {
            let id = OpId(u64::from(*generation) << 32 | index as u64);
            Some((id, op.as_ref()?.errand.as_ref()?.nexus))
        })
    }

    /// Whose errands run here, and which errands elsewhere are waited for here.
    pub(super) fn take_errands(&mut self) -> (Vec<Sender>, Vec<(VolumeId, OpId)>) {
        let (mut senders, mut sent) = (Vec::new(), Vec::new());
        for op in self.slots.iter_mut().filter_map(|(_, op)| op.as_mut()) {
            senders.extend(op.errand.take().map(|sender| *sender));
            sent.extend(op.sent.take());
        }
        (senders, sent)
    }
}

#[cfg(test)]
mod tests {
    use dyad_scsi::{Begun, BlockSize, Identity, LogicalUnit, Settings, Shape, Step, Transfer};

    use super::*;

    #[test]
    fn an_operations_number_is_never_used_again() {
        let mut ops = Ops::default();
        assert!(ops.get_mut(OpId(0)).is_none());
        assert!(ops.give_up(0).is_none());
        ops.remove(OpId(7));
        assert_eq!(ops.len(), 0);
    }

    /// A copy runs for a minute. It was told BUSY, half done, when the state changed later than three seconds after its
    /// beginning, or for the seventeenth time.
    #[test]
    fn how_long_a_command_runs_is_not_how_long_it_waits() {
        const PATIENCE: Period = Period::from_secs(3);
        let at = |secs| Moment::START + Period::from_secs(secs);
        let mut op = Op::own(Whose::Host, at(0));
        for step in 1..50 {
            assert!(op.park(at(10 * step), task(), None, 2).is_none());
            assert!(!op.has_waited(at(10 * step + 2), PATIENCE));
            assert!(op.park(at(10 * step + 2), task(), None, 2).is_none());
            assert!(op.has_waited(at(10 * step + 3), PATIENCE), "for one answer of the part, however often");
            op.got_on();
            assert!(!op.has_waited(at(10 * step + 3), PATIENCE));
        }
        for is_in_time in [true, true, false] {
            assert_eq!(op.park(at(500), task(), None, 2).is_none(), is_in_time);
        }
    }

    /// It was asked again when this node became owner, and differed from what it had written itself.
    #[test]
    fn a_compare_and_write_that_an_owner_had_is_not_asked_again() {
        let zeros = dyad_payload::Slab::new(1 << 20).copy_of(&[0; 8192]).unwrap();
        let swap = match begun([0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], Transfer::Out(8192)) {
            (mut unit, Begun::DataOut { task, len: 8192 }) => match unit.data_out(task, zeros.into()) {
                Step::Volume { task, .. } => task,
                step => panic!("{step:?}"),
            },
            (_, begun) => panic!("{begun:?}"),
        };
        assert!(Returned::Recalled.is_unknown(&swap));
        assert!(!Returned::Withdrawn.is_unknown(&swap), "it had not gone anywhere");
        assert!(!Returned::Stale.is_unknown(&swap), "the owner refused it");
        assert!(!Returned::Recalled.is_unknown(&task()));
    }

    /// One that a unit handed out.
    fn task() -> Task {
        let read = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        match begun(read, Transfer::In(4096)).1 {
            Begun::State { task } | Begun::Volume { task, .. } => task,
            begun => panic!("{begun:?}"),
        }
    }

    /// How a command begins at a unit that nobody reserved.
    fn begun(cdb: [u8; 16], transfer: Transfer) -> (LogicalUnit, Begun) {
        let target_name = "iqn.2026-11.example:v".to_owned();
        let volume = VolumeId::from_bytes([1; 16]);
        let identity = Identity { volume, target_name, target_port: 1, target_port_group: 1 };
        let shape = Shape::new(BlockSize::Native4096, dyad_units::Bytes::mib(1)).unwrap();
        let settings = Settings { identity, shape, write_cache: true, read_only: false };
        let mut unit = LogicalUnit::new(settings, dyad_payload::Slab::new(1 << 20));
        unit.add_nexus(NexusId(1), None).unwrap();
        let edition = dyad_contract::volume::Edition { epoch: dyad_units::Epoch::new(1), changes: 0 };
        unit.adopt(edition, &[]).unwrap();
        let begun = unit.begin(NexusId(1), 0, &cdb, transfer);
        (unit, begun)
    }
}
