//! Time: what is watched, and what happens when it is over.
//!
//! Each concern keeps one moment at which to look again, so that asking for the next deadline costs nothing;
//! looking is a scan of the operations under way.

use dyad_cluster::OutReason;
use dyad_contract::volume::VolumeError;
use dyad_units::{Moment, Period};

use crate::owner::core::{Core, Work};
use crate::owner::equalise::is_copy;
use crate::owner::event::{Action, ImageIndex};
use crate::owner::images::Images;
use crate::owner::op::{Op, Phase};

/// When to look again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    /// Operations that wait for a lock.
    pub(crate) wait_at: Option<Moment>,
    /// Images that do not answer.
    pub(crate) silence_at: Option<Moment>,
    /// Images that are slower than the others.
    pub(crate) slow_at: Option<Moment>,
    /// Images that had no room.
    pub(crate) retry_at: Option<Moment>,
    /// Extents that could not be compared.
    pub(crate) equalise_at: Option<Moment>,
    /// The last look for silence came much too late.
    was_paused: bool,
    /// When the last look for slowness came much too late: nothing before counts.
    pub(crate) stalled_at: Moment,
}

fn earlier(known: Option<Moment>, at: Moment) -> Option<Moment> {
    Some(known.map_or(at, |known| known.min(at)))
}

impl Timers {
    pub(crate) fn watch_wait(&mut self, until: Moment) {
        self.wait_at = earlier(self.wait_at, until);
    }

    /// A quarter of the time: silence is noticed at most a quarter late.
    pub(crate) fn watch_silence(&mut self, now: Moment, silence: Period) {
        self.silence_at.get_or_insert_with(|| now + Period::from_nanos(silence.as_nanos() / 4));
    }

    /// As [`Self::watch_silence`].
    pub(crate) fn watch_slow(&mut self, now: Moment, slow: Period) {
        self.slow_at.get_or_insert_with(|| now + Period::from_nanos(slow.as_nanos() / 4));
    }

    pub(crate) fn watch_retry(&mut self, at: Moment) {
        self.retry_at = earlier(self.retry_at, at);
    }

    /// The next moment of all.
    pub(crate) fn next(&self) -> Option<Moment> {
        [self.wait_at, self.silence_at, self.slow_at, self.retry_at, self.equalise_at].into_iter().flatten().min()
    }
}

/// Which of the timers are due; the scan of the operations acts on all at once.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    pub(crate) wait: bool,
    pub(crate) silence: bool,
    pub(crate) slow: bool,
    pub(crate) retry: bool,
}

impl Core {
    /// Takes the timers that are due. Those that still have something to watch are set again by the scan.
    pub(crate) fn take_due(&mut self) -> Option<Due> {
        let now = self.now;
        // Whoever was paused itself, as when a machine sleeps, cannot tell who was silent or slow.
        let late =
            |timer: Option<Moment>, of: Period| timer.is_some_and(|at| now.since(at).as_nanos() > of.as_nanos() / 4);
        let slow = self.tuning.slow.min(self.tuning.resync_wait);
        self.timers.was_paused = late(self.timers.silence_at, self.tuning.silence);
        if self.timers.was_paused || late(self.timers.slow_at, slow) {
            self.timers.stalled_at = now;
        }
        let take = |timer: &mut Option<Moment>| timer.take_if(|at| *at <= now).is_some();
        let due = Due {
            wait: take(&mut self.timers.wait_at),
            silence: take(&mut self.timers.silence_at),
            slow: take(&mut self.timers.slow_at),
            retry: take(&mut self.timers.retry_at),
        };
        (due.wait || due.silence || due.slow || due.retry).then_some(due)
    }

    /// Looks at one operation.
    pub(crate) fn look_at(&mut self, op: &mut Op, due: Due, out: &mut Vec<Action>) {
        match op.phase {
            Phase::Free | Phase::Parked => {}
            Phase::Gated | Phase::Queued => {
                let until = op.arrived + self.tuning.lock_wait;
                if op.id.is_none() {
                    // Our own wait as long as it takes.
                } else if until <= self.now {
                    self.turn_away(op, VolumeError::Busy, out);
                } else {
                    self.timers.watch_wait(until);
                }
            }
            _ => {
                if due.retry {
                    self.ask_again(op, out);
                }
                if due.slow {
                    self.look_for_slowness(op, out);
                }
                if due.silence {
                    self.look_for_silence(op, out);
                }
            }
        }
    }

    /// Repeats what an image had no room for. A host's operation that has had no effect gives up after T.
    fn ask_again(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let is_late = op.id.is_some() && !op.has_effect && op.arrived + self.tuning.lock_wait <= self.now;
        for at in 0..op.steps.len() {
            let again = std::mem::take(&mut op.steps[at].again);
            if again.is_empty() {
                continue;
            }
            if !is_late {
                op.sent = self.now;
                self.send(op, at, again, out);
                continue;
            }
            op.fail(VolumeError::Busy);
            if op.phase == Phase::Reading {
                self.complete_read(op, at);
            } else {
                again.into_iter().for_each(|image| self.done(op, at, image, out));
            }
        }
    }

    /// M8: an image that does not answer is taken out like one that fails. Where no other image has answered
    /// anything meanwhile, the cause is common to all, a stuck machine, and nobody is.
    fn look_for_silence(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.timers.watch_silence(self.now, self.tuning.silence);
        if self.timers.was_paused {
            op.sent = self.now;
        }
        if self.now.since(op.sent) < self.tuning.silence {
            return;
        }
        let readable = self.members.readable();
        let syncing = self.members.syncing;
        if op.steps.iter().any(|step| !step.pending.and(syncing).is_empty()) {
            syncing.into_iter().for_each(|image| self.fail_syncing(image, OutReason::Silent, out));
        }
        for at in 0..op.steps.len() {
            let step = &op.steps[at];
            let did_it = step.targets.minus(step.pending).and(readable);
            for image in step.pending.minus(step.again).and(readable) {
                if op.phase == Phase::Reading {
                    self.read_elsewhere(op, at, image, out);
                } else if did_it.is_empty() && !self.members.heard_another(image, op.sent) {
                    continue;
                } else if op.phase == Phase::Surveying {
                    self.work.push_back(Work::Fault { slot: op.slot, tag: op.tag, step: at, image });
                } else {
                    self.fail_image(image, OutReason::Silent, out);
                }
            }
        }
    }

    /// M8: one image that has not done a write long after all others have is too slow, or has not reserved a slot for it: that
    /// may wait for slots on their way to be free (P15), but then it answers what else it is asked. M14: hosts wait for an image
    /// that catches up for a bounded time only, be it for a write or for an extent that is being copied.
    fn look_for_slowness(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.timers.watch_slow(self.now, self.tuning.slow.min(self.tuning.resync_wait));
        let age = self.now.since(op.sent.max(self.timers.stalled_at));
        let is_copy = is_copy(op);
        if !matches!(op.phase, Phase::Applying | Phase::Reserving) && !is_copy {
            return;
        }
        for at in 0..op.steps.len() {
            let pending = op.steps[at].pending;
            let Some(image) = pending.first().filter(|_| pending.count() == 1) else { continue };
            if op.phase == Phase::Reserving && !is_copy && !self.stands_still(image) {
                continue;
            }
            if self.members.syncing.contains(image) {
                if age >= self.tuning.resync_wait {
                    self.fail_syncing(image, OutReason::Slow, out);
                }
            } else if age >= self.tuning.slow && !is_copy && self.members.readable() != Images::one(image) {
                self.fail_image(image, OutReason::Slow, out);
            }
        }
    }

    /// A read that is not answered tries the next image; if that one answers, the first is silent.
    fn read_elsewhere(&mut self, op: &mut Op, at: usize, image: ImageIndex, out: &mut Vec<Action>) {
        let step = &mut op.steps[at];
        let others = step.targets.and(self.members.readable()).minus(step.tried).minus(Images::one(image));
        if !others.is_empty() {
            step.tried.insert(image);
            step.silent.insert(image);
            op.sent = self.now;
            self.ask_next(op, at, out);
        } else if self.members.heard_another(image, op.sent) {
            self.fail_image(image, OutReason::Silent, out);
        }
    }

    /// Images that fail are not waited for where others can serve: reads ask the next, and what only
    /// informs is done without them.
    pub(crate) fn redirect(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let failing = self.members.failing;
        for at in 0..op.steps.len() {
            let from = op.steps[at].pending.and(failing);
            if from.is_empty() {
                continue;
            }
            match op.phase {
                Phase::Reading => {
                    op.steps[at].tried = from.into_iter().fold(op.steps[at].tried, Images::with);
                    self.ask_next(op, at, out);
                }
                Phase::Verifying => {
                    op.steps[at].tried = from.into_iter().fold(op.steps[at].tried, Images::with);
                    from.into_iter().for_each(|image| self.done(op, at, image, out));
                }
                Phase::Listing => {
                    op.fail(VolumeError::WriteFault); // the list begins anew at another image
                    from.into_iter().for_each(|image| self.done(op, at, image, out));
                }
                Phase::Reserving | Phase::Releasing | Phase::Recording | Phase::Granting => {
                    from.into_iter().for_each(|image| self.done(op, at, image, out));
                }
                _ => {}
            }
        }
    }
}
