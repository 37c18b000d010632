//! Where operations of hosts enter: checks, the gate before suspect extents, the wait for enough images.

use dyad_cluster::OnFew;
use dyad_contract::volume::{ATOMIC_BLOCKS_MAX, STATE_BYTES_MAX, VolumeDone, VolumeError, VolumeOp};

use crate::owner::atomic::block_count;
use crate::owner::core::Core;
use crate::owner::event::Action;
use crate::owner::op::{Op, Phase, Slot, spans};
use crate::owner::status::MirrorState;

/// Most failed writes that wait until it is known whether an image joined. Only the last image of a set fails any.
const DOUBTED_MAX: usize = 4096;

impl Core {
    /// What is wrong with the operation itself, if anything. Lengths that do not fit would be a fault of the command set,
    /// which counted them; but an operation may come from another node, whose faults are not to stop this one.
    pub(crate) fn check(&self, op: &VolumeOp) -> Result<(), VolumeError> {
        let is_within = spans(op).iter().all(|span| span.end() <= self.size);
        let fits = match op {
            VolumeOp::Write { span, data, .. } => data.len() as u64 == span.len(),
            VolumeOp::WriteAtomic { span, data } => {
                data.len() as u64 == span.len() && block_count(*span) <= ATOMIC_BLOCKS_MAX
            }
            VolumeOp::Compare { span, expected } => expected.len() as u64 == span.len(),
            VolumeOp::CompareAndWrite { span, expected, data, .. } => {
                [expected, data].iter().all(|data| data.len() as u64 == span.len())
            }
            VolumeOp::Fill { span, pattern, .. } => {
                let unit = pattern.len() as u64;
                matches!(unit, 512 | 4096) && span.offset().is_multiple_of(unit) && span.len().is_multiple_of(unit)
            }
            VolumeOp::WriteState { data } => data.len() <= STATE_BYTES_MAX,
            VolumeOp::Read { .. }
            | VolumeOp::Unmap { .. }
            | VolumeOp::Verify { .. }
            | VolumeOp::Flush
            | VolumeOp::ReadState => true,
        };
        if is_within && fits { Ok(()) } else { Err(VolumeError::OutOfRange) }
    }

    /// Whether operations are taken in at all.
    pub(crate) fn is_open(&self) -> bool {
        let has_image = !self.members.in_sync.minus(self.members.gone).is_empty();
        match self.state {
            MirrorState::Starting | MirrorState::Claiming | MirrorState::HandingOver => true,
            MirrorState::Serving => has_image,
            MirrorState::Waiting(_)
            | MirrorState::Stopping
            | MirrorState::Stopped
            | MirrorState::Refused(_)
            | MirrorState::SteppedDown => false,
        }
    }

    /// An operation comes in, or tries again at the gate.
    pub(crate) fn admit(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if op.is_change() && self.state == MirrorState::Serving && !self.has_enough_images() {
            return self.on_few_images(op, out);
        }
        let is_suspect = op.ranges().any(|range| self.suspects.touches(range));
        let is_clear = self.state == MirrorState::Serving && !is_suspect && !self.intent.keeps_back(op);
        if !is_clear {
            if !self.suspects.is_empty() {
                op.ranges().for_each(|range| self.suspects.hurry(range));
            }
            if op.phase != Phase::Gated {
                self.begin(op, Phase::Gated);
                self.gated.push(op.slot);
            }
        } else if !self.locks.has_room(op.spans().len() + 1) || op.is_change() && self.doubted.len() >= DOUBTED_MAX {
            self.finish(op, Err(VolumeError::Busy), out);
        } else {
            self.enter(op);
        }
        if matches!(op.phase, Phase::Gated | Phase::Queued) {
            self.timers.watch_wait(op.arrived + self.tuning.lock_wait);
        }
    }

    /// The lock is granted: do it.
    pub(crate) fn start_volume(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        // M19: no lock after T, though no tick came in between, as when the process was paused.
        if op.arrived + self.tuning.lock_wait < self.now {
            return self.finish(op, Err(VolumeError::Busy), out);
        }
        // M21: it waited for an atomic write that failed half done.
        if self.intent.keeps_back(op) {
            self.unlock(op);
            return self.admit(op, out);
        }
        match op.volume_op() {
            Some(VolumeOp::Flush) => self.start_flush(op, out),
            Some(VolumeOp::ReadState | VolumeOp::WriteState { .. }) => self.start_state(op, out),
            Some(VolumeOp::Read { span } | VolumeOp::Compare { span, .. } | VolumeOp::CompareAndWrite { span, .. }) => {
                op.next_block = span.blocks().0.0;
                self.start_read_batch(op, out);
            }
            Some(VolumeOp::Verify { span }) => {
                op.next_block = span.blocks().0.0;
                self.start_verify_batch(op, out);
            }
            Some(VolumeOp::Unmap { spans, .. }) if spans.is_empty() => self.finish(op, Ok(VolumeDone::Done), out),
            Some(
                VolumeOp::Write { .. } | VolumeOp::WriteAtomic { .. } | VolumeOp::Fill { .. } | VolumeOp::Unmap { .. },
            ) => self.start_span(op, out),
            None => unreachable!("a host's operation"),
        }
    }

    /// Whether writes may be acknowledged (A4). An image that fails, or that an administrator takes out, counts no more, though
    /// it is not known yet whether the record says so.
    pub(crate) fn has_enough_images(&self) -> bool {
        let sure = match self.proposals.record() {
            Some(record) => self.members.staying(record),
            None => self.members.readable(),
        };
        sure.count() >= u32::from(self.policy.min_in_sync)
    }

    /// A4: the write is answered with an error or waits, holding no lock.
    pub(crate) fn on_few_images(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match self.policy.on_few {
            OnFew::Error => self.finish(op, Err(VolumeError::WriteFault), out),
            OnFew::Wait if op.phase == Phase::Parked => {}
            OnFew::Wait => {
                self.unlock(op);
                op.steps.clear();
                self.begin(op, Phase::Parked);
            }
        }
    }

    /// Enough images may be in sync again.
    pub(crate) fn unpark(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if op.is_applied {
            self.answer_change(op, out);
        } else {
            self.admit(op, out);
        }
    }

    /// Takes an operation from the gate.
    pub(crate) fn leave_gate(&mut self, slot: Slot) {
        self.gated.retain(|&waiting| waiting != slot);
    }

    /// Whether the operation waits and has had no effect: it may be answered at once.
    pub(crate) fn is_waiting(op: &Op) -> bool {
        matches!(op.phase, Phase::Gated | Phase::Queued) || (op.phase == Phase::Parked && !op.is_applied)
    }

    /// Answers an operation that waits.
    pub(crate) fn turn_away(&mut self, op: &mut Op, error: VolumeError, out: &mut Vec<Action>) {
        if op.phase == Phase::Gated {
            self.leave_gate(op.slot);
        }
        self.finish(op, Err(error), out);
    }
}
