//! Joining (M16): X is needed for everything, then closes with the set, then the record says so.

use dyad_cluster::OutReason;
use dyad_units::{Moment, Stamp};

use crate::owner::core::Core;
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;
use crate::owner::interval::NO_PIECE;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::resync::{HalfCopied, RETRY, Run, Stage};
use crate::owner::status::MirrorState;

impl Core {
    /// The image whose lease and flushes are needed although the record does not name it in sync yet.
    pub(crate) fn joining(&self) -> Images {
        match &self.run {
            Some(run) if run.is_joining() => Images::one(run.image),
            _ => Images::NONE,
        }
    }

    /// Everything is copied: waits for X's lease, then wants a close with it.
    pub(crate) fn pump_join(&mut self, out: &mut Vec<Action>) {
        let Some(run) = self.run.as_mut() else { return };
        if run.is_joining() {
            let now = self.now;
            run.retry_at.take_if(|at| *at <= now);
        }
        if run.stage == Stage::Closing && !self.interval.is_closing() && run.retry_at.is_none() {
            self.interval.assume_marks(self.now);
            self.interval.hurry();
        }
        let Stage::AwaitingLease(since) = run.stage else { return };
        let image = run.image;
        if self.leases.is_held(image, self.now) {
            run.stage = Stage::Closing;
            run.closing = None; // a close under way began before X was needed for everything
            if !self.interval.is_closing() {
                self.interval.assume_marks(self.now);
                self.interval.hurry();
            }
        } else if self.now >= since + self.tuning.silence {
            self.fail_syncing(image, OutReason::Silent, out);
        }
    }

    /// When it has waited for X's lease too long.
    pub(crate) fn join_deadline(&self) -> Option<Moment> {
        match self.run.as_ref()?.stage {
            // While a record is adopted, the wait goes on after it.
            Stage::AwaitingLease(since) if !self.members.is_adopting && self.state == MirrorState::Serving => {
                Some(since + self.tuning.silence)
            }
            _ => None,
        }
    }

    /// The first phase of a close begins; who takes part.
    pub(crate) fn closers(&mut self, stamp: Stamp) -> Images {
        match self.run.as_mut().filter(|run| run.takes_part()) {
            Some(run) => {
                run.closing = Some((stamp, run.complete_below()));
                self.members.writable()
            }
            None => self.members.in_sync,
        }
    }

    /// The second phase begins: X takes the set's closed where it is about to join (M16).
    pub(crate) fn sealers(&self, stamp: Stamp) -> Images {
        match &self.run {
            Some(run) if run.stage == Stage::Closing && run.has_closed(stamp) => self.members.writable(),
            _ => self.members.in_sync,
        }
    }

    /// A close failed, as every one does while the last image of the set is poisoned: the next one is not wanted at once.
    pub(crate) fn on_run_not_closed(&mut self) {
        let retry_at = self.now + RETRY;
        if let Some(run) = self.run.as_mut().filter(|run| run.is_joining()) {
            run.retry_at = Some(retry_at);
        }
    }

    /// Both phases are done: X may note how far it is complete (M15).
    pub(crate) fn on_run_sealed(&mut self, stamp: Stamp) {
        let Some(run) = self.run.as_mut() else { return };
        let Some((_, cursor)) = run.closing.take_if(|(closing, _)| *closing == stamp) else { return };
        if run.stage == Stage::Closing && cursor == run.need.end() {
            run.stage = Stage::Completing;
            self.wanted.push_back(run.progress(None, stamp));
        } else if cursor >= run.below.0 {
            run.below = (cursor, stamp);
            self.wanted.push_back(run.progress(Some(cursor), stamp));
        }
    }

    pub(crate) fn start_progress(&mut self, op: &mut Op, life: u64, out: &mut Vec<Action>) {
        let Some(run) = self.run.as_ref().filter(|run| run.life == life) else { return self.end_own(op) };
        let image = run.image;
        op.life = life;
        self.begin(op, Phase::Noting);
        op.steps.push(Step::new(NO_PIECE, Images::one(image)));
        self.send_all(op, out);
    }

    /// X has noted it durably.
    pub(crate) fn on_noted(&mut self, op: &mut Op) {
        let life = op.life;
        if let Some(run) = self.run.as_mut().filter(|run| run.life == life && op.failure.is_none()) {
            match op.task {
                Task::Progress { cursor: None, .. } if run.stage == Stage::Completing => run.stage = Stage::Ready,
                Task::Progress { cursor: Some(_), .. } => run.half_copied = HalfCopied::Said,
                _ => {}
            }
        }
        self.end_own(op);
    }

    /// The record names X in sync.
    pub(crate) fn on_joined(&mut self, image: ImageIndex, out: &mut Vec<Action>) {
        let failed = self.run.as_ref().filter(|run| run.image == image).and_then(|run| run.failed);
        self.run = None;
        self.members.syncing = Images::NONE;
        self.members.reasons[usize::from(image.0)] = None;
        self.counters.joined += 1;
        out.push(Action::Note(Note::Joined { image }));
        if let Some(reason) = failed {
            self.fail_image(image, reason, out);
        }
    }
}

impl Run {
    /// Lets X note that it is complete below this place, or altogether, up to a stamp.
    pub(super) fn progress(&self, upto: Option<u32>, complete: Stamp) -> Task {
        Task::Progress { life: self.life, cursor: upto.map(|index| self.need.extent(index)), complete }
    }

    fn has_closed(&self, stamp: Stamp) -> bool {
        self.closing == Some((stamp, self.need.end()))
    }
}
