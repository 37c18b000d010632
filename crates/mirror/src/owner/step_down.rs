//! The ends of an ownership: another owner took over (M7), was asked to (M12), or had to (M8).

use dyad_contract::volume::VolumeError;
use dyad_units::{Epoch, NodeId};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ChangeRefused, Note};
use crate::owner::images::Images;
use crate::owner::mirror::Mirror;
use crate::owner::op::Op;
use crate::owner::status::MirrorState;

impl Mirror {
    /// M7: somebody else owns the segment. What has had no effect is answered busy, the rest not at all.
    pub(crate) fn step_down(&mut self, epoch: Epoch, out: &mut Vec<Action>) {
        self.end(None, epoch, out);
    }

    fn end(&mut self, to: Option<NodeId>, epoch: Epoch, out: &mut Vec<Action>) {
        if matches!(self.core.state, MirrorState::SteppedDown | MirrorState::Stopped) {
            return;
        }
        let was_stopping = self.core.state == MirrorState::Stopping;
        self.core.end_ownership(epoch, out);
        self.with_all(out, Core::end_by_step_down);
        self.core.host_ops = 0;
        out.extend(to.map(|to| Action::HandedOver { to, epoch }));
        if was_stopping {
            self.core.state = MirrorState::Stopped;
            out.push(Action::Stopped);
        }
    }

    /// The record names another node owner, by this one's own proposal. What every image of the new set has is still
    /// answered: it was acknowledged by all of them in this owner's epoch (M7).
    pub(crate) fn leave(&mut self, out: &mut Vec<Action>) {
        if self.core.work.iter().any(|work| matches!(work, Work::Advance { .. } | Work::Drop(_) | Work::Fault { .. })) {
            self.core.work.push_back(Work::Leave);
            return;
        }
        let record = self.core.members.record();
        let (to, epoch) = (record.owner, record.epoch);
        self.core.members.is_adopting = false;
        self.core.release_held(out);
        self.end(to, epoch, out);
    }
}

impl Core {
    /// Forgets everything that would still be done.
    fn end_ownership(&mut self, epoch: Epoch, out: &mut Vec<Action>) {
        self.state = MirrorState::SteppedDown;
        self.work.clear();
        self.wanted.clear();
        self.gated.clear();
        self.heals.clear();
        (self.run, self.hand_over) = (None, None);
        self.members.syncing = Images::NONE;
        for held in std::mem::take(&mut self.held) {
            match held.has_effect {
                true => out.push(Action::Abandoned { id: held.id }),
                false => out.push(Action::Answer { id: held.id, result: Err(VolumeError::Busy) }),
            }
        }
        self.members.is_adopting = false;
        self.members.wants_flushed_alone = false;
        for id in self.proposals.forget() {
            out.push(Action::Changed { id, result: Err(ChangeRefused::NotServing) });
        }
        out.push(Action::Note(Note::SteppedDown { epoch }));
    }

    fn end_by_step_down(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.locks.release(op.slot, |_, _| {});
        op.is_locked = false;
        match op.id {
            Some(id) if op.has_effect => {
                out.push(Action::Abandoned { id });
                self.end_own(op);
            }
            Some(_) => self.finish(op, Err(VolumeError::Busy), out),
            None => self.end_own(op),
        }
    }
}
