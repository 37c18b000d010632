//! Replies of images: what each means for the operation that asked.

use dyad_cluster::OutReason;
use dyad_contract::image::{BlockState, Examined, ImageError, Reply};
use dyad_contract::volume::VolumeError;
use dyad_units::Stamp;

use crate::owner::core::{Core, Work};
use crate::owner::equalise::is_copy;
use crate::owner::event::{Action, ImageIndex};
use crate::owner::op::{Op, Phase};

impl Core {
    /// An image replied to a step of the operation's phase, or cannot any more.
    pub(crate) fn on_reply(&mut self, op: &mut Op, at: usize, image: ImageIndex, reply: Reply, out: &mut Vec<Action>) {
        if !op.steps.get(at).is_some_and(|step| step.waits_for(image)) {
            return; // an image that was given up meanwhile
        }
        self.members.hear(image, self.now);
        match reply {
            Reply::Failed(ImageError::Overloaded) => {
                op.steps[at].again.insert(image);
                self.timers.watch_retry(self.now + self.tuning.retry);
            }
            Reply::Failed(ImageError::Superseded { newest }) => self.work.push_back(Work::StepDown(newest)),
            reply => self.on_phase_reply(op, at, image, reply, out),
        }
    }

    pub(crate) fn on_phase_reply(
        &mut self,
        op: &mut Op,
        at: usize,
        image: ImageIndex,
        reply: Reply,
        out: &mut Vec<Action>,
    ) {
        match (op.phase, reply) {
            (Phase::Reading, reply) => self.on_read_reply(op, at, image, reply, out),
            (Phase::Verifying, reply) => self.on_verify_reply(op, at, image, reply, out),
            (Phase::Reserving, reply) => self.on_reserve_reply(op, at, image, reply, out),
            (Phase::Applying | Phase::Mending, Reply::Written(written)) => {
                self.settle_credit(op, at, image, written.used_slot);
                self.done(op, at, image, out);
            }
            (Phase::Applying | Phase::Mending, Reply::Failed(ImageError::Full)) => {
                op.steps[at].refused.insert(image);
                self.check_step(op, at, out);
            }
            (Phase::Examining, Reply::Examined(examined)) => self.on_found(op, image, examined, out),
            // What cannot be read at all takes another image's blocks.
            (Phase::Examining, Reply::Failed(ImageError::Unreadable | ImageError::Damaged { .. })) => {
                let blocks = [BlockState::Unreadable; 64];
                self.on_found(op, image, Box::new(Examined { stamp: Stamp::NEWEST, blocks }), out);
            }
            (Phase::Surveying, reply) => self.on_survey_reply(op, at, image, reply, out),
            (Phase::Granting, reply) => {
                self.on_granted(op, if let Reply::Granted(count) = reply { count } else { 0 });
                self.done(op, at, image, out);
            }
            (Phase::Examining, Reply::Failed(ImageError::Lost { .. })) if is_copy(op) => {
                let blocks = [BlockState::Unreadable; 64];
                self.on_found(op, image, Box::new(Examined { stamp: Stamp::NEVER, blocks }), out);
            }
            (Phase::Recording, Reply::Failed(_)) => {
                // Whatever needs this image's acknowledgement waits until it is out; nothing else does.
                self.fail_image(image, OutReason::WriteFailed, out);
                self.done(op, at, image, out);
            }
            (Phase::Listing, reply) => self.on_list_reply(op, at, image, reply, out),
            (Phase::Releasing, _)
            | (Phase::Flushing | Phase::Closing | Phase::Sealing | Phase::Recording | Phase::Noting, Reply::Done)
            | (Phase::Adopting | Phase::Settling, Reply::Done) => self.done(op, at, image, out),
            (_, Reply::Failed(ImageError::Lost { .. })) => {
                self.on_failed(op, at, image, OutReason::LostExtents, out);
            }
            (_, _) => self.on_failed(op, at, image, OutReason::WriteFailed, out),
        }
    }

    /// An image failed what every image must do. It is waited for until it is out (A3); the last one is
    /// waited for no longer, and the failure is the operation's.
    fn on_failed(&mut self, op: &mut Op, at: usize, image: ImageIndex, reason: OutReason, out: &mut Vec<Action>) {
        if !self.fail_image(image, reason, out) {
            op.fail(self.fault_of_last());
            self.done(op, at, image, out);
        }
    }

    /// Everybody who is still waited for had no slot although one was promised (P15). If that is every
    /// target, nothing was written anywhere; otherwise those images lack the write.
    pub(crate) fn on_all_refused(&mut self, op: &mut Op, at: usize, out: &mut Vec<Action>) {
        let step = &mut op.steps[at];
        let refused = std::mem::take(&mut step.refused);
        let is_everybody = step.targets.and(self.members.in_sync) == refused;
        for image in refused {
            if is_everybody || !self.fail_image(image, OutReason::NoSpace, out) {
                op.fail(VolumeError::NoSpace);
                op.steps[at].pending.remove(image);
            }
        }
    }
}
