//! The links to the images: broken, back, given up (M3, M8).

use dyad_cluster::OutReason;
use dyad_contract::image::{ImageError, Reply};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex};
use crate::owner::mirror::Mirror;
use crate::owner::op::{Op, Phase, Slot, Task};
use crate::owner::status::MirrorState;

impl Mirror {
    fn knows(&self, image: ImageIndex) -> bool {
        self.core.members.id_at(image).is_some()
    }

    /// The connection broke: what was asked is kept.
    pub(crate) fn on_lost(&mut self, image: ImageIndex) {
        if self.knows(image) && !self.core.members.gone.contains(image) {
            self.core.members.lost.insert(image);
        }
    }

    /// The image can be asked: whatever it did not reply to is asked again, in order.
    pub(crate) fn on_back(&mut self, image: ImageIndex, out: &mut Vec<Action>) {
        if !self.knows(image) {
            return;
        }
        let members = &mut self.core.members;
        members.lost.remove(image);
        let was_gone = members.gone.contains(image);
        members.gone.remove(image);
        if was_gone && !members.failing.contains(image) {
            members.reasons[usize::from(image.0)] = None;
        }
        if matches!(self.core.state, MirrorState::Waiting(_)) {
            self.core.state = MirrorState::Starting;
            self.core.wanted.push_back(Task::Show);
        }
        // What was asked of an image that was gone has been answered for it.
        if was_gone {
            self.core.work.push_back(Work::Regate);
            return;
        }
        let mut slots: Vec<(u64, Slot)> = Vec::new();
        for slot in self.ops.slots() {
            if let Some(op) = self.ops.at(slot).filter(|op| op.steps.iter().any(|step| step.waits_for(image))) {
                slots.push((op.tag, slot));
            }
        }
        slots.sort_unstable(); // tags rise in the order in which phases began
        for (_, slot) in slots {
            self.with(slot, out, |core, op, out| core.ask_anew(op, image, out));
        }
    }

    /// The image is given up: whatever it did not reply to will never be replied to.
    pub(crate) fn on_gone(&mut self, image: ImageIndex, reason: OutReason, out: &mut Vec<Action>) {
        if !self.knows(image) || self.core.members.gone.contains(image) {
            return;
        }
        let core = &mut self.core;
        core.members.gone.insert(image);
        core.members.lost.remove(image);
        core.members.reasons[usize::from(image.0)] = Some(reason);
        if core.members.syncing.contains(image) && !core.members.in_sync.contains(image) {
            core.fail_syncing(image, reason, out);
        }
        for slot in self.ops.slots() {
            let Some(op) = self.ops.at(slot) else { continue };
            for (step, waiting) in op.steps.iter().enumerate() {
                if waiting.pending.contains(image) {
                    self.core.work.push_back(Work::Fault { slot, tag: op.tag, step, image });
                }
            }
        }
        let is_serving = matches!(self.core.state, MirrorState::Serving | MirrorState::HandingOver);
        if is_serving || (self.core.state == MirrorState::Stopping && self.core.has_served) {
            self.core.fail_image(image, reason, out);
        }
    }
}

impl Core {
    fn ask_anew(&mut self, op: &mut Op, image: ImageIndex, out: &mut Vec<Action>) {
        for at in 0..op.steps.len() {
            let step = &mut op.steps[at];
            if op.phase == Phase::Reading && step.silent.contains(image) && !step.pending.contains(image) {
                // What it did not answer broke off with the connection: it may be asked like any other.
                step.silent.remove(image);
                step.tried.remove(image);
            }
            if !step.pending.contains(image) || step.again.contains(image) || step.refused.contains(image) {
                continue;
            }
            self.counters.resent += 1;
            if matches!(op.task, Task::Grant(..)) {
                // Asked twice it would be granted twice: it is asked for anew when credits run low.
                self.on_phase_reply(op, at, image, Reply::Failed(ImageError::Overloaded), out);
                return;
            }
            op.sent = self.now;
            op.steps[at].resent.insert(image);
            self.send(op, at, crate::owner::images::Images::one(image), out);
        }
    }
}
