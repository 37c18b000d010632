//! What comes next: one row per phase.

use dyad_contract::volume::VolumeError;

use crate::owner::core::Core;
use crate::owner::equalise::is_copy;
use crate::owner::event::Action;
use crate::owner::images::Images;
use crate::owner::interval::NO_PIECE;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::status::MirrorState;

impl Core {
    /// The operation's phase is complete.
    pub(crate) fn advance(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.phase {
            Phase::Queued => match op.task {
                Task::Equalise(_) => self.start_examine(op, out),
                Task::Replay(_) => self.start_replay(op, out),
                _ => self.start_volume(op, out),
            },
            Phase::Reading => self.on_all_read(op, out),
            Phase::Verifying => self.on_verified(op, out),
            Phase::Reserving => self.on_reserved(op, out),
            Phase::Releasing => self.on_released(op, out),
            Phase::Applying => self.on_batch_applied(op, out),
            Phase::Flushing => self.on_flushed(op, out),
            Phase::Examining => self.on_examined(op, out),
            Phase::Adopting => self.on_adopted(op, out),
            Phase::Mending if op.atomic.is_some() => self.on_batch_applied(op, out),
            Phase::Mending => self.on_mended(op, out),
            Phase::Settling => self.on_settled(op, out),
            Phase::Surveying => match op.task {
                Task::SurveyOf(image) => self.on_own_survey(op, image, out),
                _ => self.on_surveyed(op, out),
            },
            Phase::Recording => self.on_recorded(op),
            Phase::Closing | Phase::Sealing => match op.task {
                Task::Close(stamp) => self.on_closed_first(op, stamp),
                Task::Seal(stamp) => self.on_sealed(op, stamp),
                _ => unreachable!("a phase of another task"),
            },
            Phase::Granting => self.end_own(op),
            Phase::Listing => self.on_listed(op, out),
            Phase::Noting => self.on_noted(op),
            Phase::Free | Phase::Gated | Phase::Parked => unreachable!("nothing under way that could complete"),
        }
    }

    /// Begins an operation of our own.
    pub(crate) fn begin_own(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.task {
            Task::Equalise(_) | Task::Replay(_) => self.enter(op),
            Task::Show => {
                let targets = self.members.readable().minus(self.claimed_out());
                self.start_survey(op, targets, out);
            }
            Task::Survey => {
                let targets = self.members.readable();
                self.start_survey(op, targets, out);
            }
            Task::SurveyOf(image) => self.start_survey(op, Images::one(image), out),
            Task::List(which) => self.start_list(op, which, out),
            Task::Progress { life, .. } => self.start_progress(op, life, out),
            // A record is told to whoever can still keep it; whoever fails will be out by the next one.
            Task::Record => {
                let targets = self.members.writable().minus(self.members.failing);
                self.start_all(op, Phase::Recording, targets, out);
            }
            Task::Close(stamp) => {
                let targets = self.closers(stamp);
                self.start_all(op, Phase::Closing, targets, out);
            }
            Task::Seal(stamp) => {
                let targets = self.sealers(stamp);
                self.start_all(op, Phase::Sealing, targets, out);
            }
            Task::Grant(image, _) | Task::GiveBack(image, _) => self.start_grant(op, image, out),
            Task::FlushAlone | Task::FlushLast => self.start_flush(op, out),
            Task::None | Task::Volume(_) => unreachable!("not one of our own"),
        }
    }

    /// Sends a request that concerns no piece.
    fn start_all(&mut self, op: &mut Op, phase: Phase, targets: Images, out: &mut Vec<Action>) {
        self.begin(op, phase);
        op.steps.push(Step::new(NO_PIECE, targets));
        self.send_all(op, out);
    }

    /// These images are out: whoever waits for one of them waits no longer.
    pub(crate) fn drop_images(&mut self, op: &mut Op, images: Images, out: &mut Vec<Action>) {
        // A copy, or a list, without one of its two ends is none.
        if (is_copy(op) || op.phase == Phase::Listing)
            && op.steps.iter().any(|step| !step.pending.and(images).is_empty())
        {
            op.fail(VolumeError::WriteFault);
        }
        for at in 0..op.steps.len() {
            // Whoever comes back is another matter: it catches up, and has no reservation of before.
            op.steps[at].targets = op.steps[at].targets.minus(images);
            for image in op.steps[at].pending.and(images) {
                if op.phase == Phase::Reading {
                    op.steps[at].silent.remove(image);
                    op.steps[at].tried.insert(image);
                    self.ask_next(op, at, out);
                } else {
                    self.done(op, at, image, out);
                }
            }
        }
    }

    /// The mirror takes nothing in any more: what waits is answered.
    pub(crate) fn close_door(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let result = if op.is_applied { VolumeError::WriteFault } else { VolumeError::Busy };
        self.finish(op, Err(result), out);
    }

    /// One more step towards the end, once nothing else is under way. Whether there is more to do.
    pub(crate) fn stop_step(&mut self, under_way: usize, out: &mut Vec<Action>) -> bool {
        if self.state != MirrorState::Stopping || under_way > 0 || !self.wanted.is_empty() || !self.held.is_empty() {
            return false;
        }
        if !self.has_served {
            // Nothing was served, so nothing is left to be made durable.
            self.state = MirrorState::Stopped;
            out.push(Action::Stopped);
            return false;
        }
        let is_changing = self.proposals.is_under_way() || self.members.is_adopting;
        if is_changing || !self.members.failing.is_empty() || !self.proposals.run_ends.is_empty() {
            return false;
        }
        // What is suspect stays so for the next start: closing would clear the marks that say it (P8).
        if self.may_close() && !self.interval.is_quiet() {
            self.interval.hurry();
            return true;
        }
        self.wanted.push_back(Task::FlushLast);
        true
    }
}
