//! Copying (M14): extents in order, each under its lock at the owner; hosts come first.

use dyad_cluster::OutReason;
use dyad_units::{Extent, Moment, Period};

use crate::owner::core::Core;
use crate::owner::event::{Action, Note};
use crate::owner::op::{Equalise, Kind, Op, Task};
use crate::owner::resync::{HalfCopied, RETRY, Run, Stage};

/// Extents copied at once while no host wants anything.
const WINDOW: usize = 8;
/// So long after its last command a host still counts as wanting something: one that sends a command at a time would else
/// find eight extents at the disks before each.
const HOSTS_QUIET: Period = Period::from_millis(100);
/// While hosts do: one is always under way, so that the copying ends (the floor), and a host's command meets at most
/// that one at the disks.
const WINDOW_BUSY: usize = 1;
/// Times that a run begins anew with what it found no slot for: ten seconds of them. Then it gives way to other images.
const PASSES_MAX: u32 = 20;

impl Core {
    /// Whether hosts want something now, or did until a moment ago.
    pub(crate) fn is_wanted_by_hosts(&self) -> bool {
        self.host_ops > 0 || self.host_op_ended.is_some_and(|ended| self.now.since(ended) < HOSTS_QUIET)
    }

    /// Begins copying more extents.
    pub(crate) fn pump_copies(&mut self, out: &mut Vec<Action>) {
        let window = if self.is_wanted_by_hosts() { WINDOW_BUSY } else { WINDOW };
        let now = self.now;
        let is_held_up = !self.members.failing.is_empty();
        let Some(run) = self.run.as_mut().filter(|run| run.stage == Stage::Copying) else { return };
        run.retry_at.take_if(|at| *at <= now);
        if run.retry_at.is_some() || is_held_up {
            return;
        }
        while run.copying.len() < window {
            if run.need.next(run.upto).is_some() && run.half_copied != HalfCopied::Said {
                return self.say_half_copied();
            }
            let Some(index) = run.need.next(run.upto) else {
                run.upto = run.need.end();
                if run.copying.is_empty() {
                    self.end_pass(out);
                }
                return;
            };
            run.upto = index + 1;
            if run.copying.contains(&index) {
                continue;
            }
            run.copying.push(index);
            let (extent, kind) = (run.need.extent(index), Kind::Copy { image: run.image, life: run.life });
            self.wanted.push_back(Task::Equalise(Box::new(Equalise::new(extent, kind))));
        }
    }

    /// Before anything of X changes, X notes durably that it is half copied: a cursor that stands at the beginning (M10, M15).
    fn say_half_copied(&mut self) {
        let Some(run) = &mut self.run else { return };
        if let HalfCopied::Unsaid(closed) = run.half_copied {
            run.half_copied = HalfCopied::Noting;
            self.wanted.push_back(run.progress(Some(0), closed));
        }
    }

    /// All that was needed was tried. What X had no slot for is tried again as long as that frees slots: X may have extents yet
    /// that the set has given up, and a pool that is full everywhere would never take it in again (P15).
    fn end_pass(&mut self, out: &mut Vec<Action>) {
        let Some(run) = &mut self.run else { return };
        if run.need.count() == 0 {
            run.stage = Stage::AwaitingLease(self.now);
        } else if run.done > run.done_before && run.passes < PASSES_MAX {
            (run.passes, run.done_before) = (run.passes + 1, run.done);
            // What is before this place and not needed goes on to be complete; all else is taken anew (M14).
            run.upto = run.need.next(0).unwrap_or(run.need.end());
            run.retry_at = Some(self.now + RETRY);
        } else {
            // It parks: the next run finds out whether there is space.
            let image = run.image;
            self.fail_syncing(image, OutReason::NoSpace, out);
        }
    }

    /// When a copy, or a close, that could not be made is tried again.
    pub(crate) fn copy_deadline(&self) -> Option<Moment> {
        let may_copy = self.state == crate::owner::status::MirrorState::Serving && !self.members.is_adopting;
        self.run.as_ref().filter(|run| (run.stage == Stage::Copying || run.is_joining()) && may_copy)?.retry_at
    }

    /// The run that a copy belongs to, if it is still under way.
    pub(crate) fn run_of(&mut self, op: &Op) -> Option<&mut Run> {
        let Task::Equalise(equalise) = &op.task else { return None };
        let Kind::Copy { life: of, .. } = equalise.kind else { return None };
        self.run.as_mut().filter(|run| run.life == of)
    }

    /// The data that differed is on X.
    pub(crate) fn on_sent(&mut self, op: &Op) {
        let sent: usize = op.steps.iter().filter(|step| !step.is_unmap).map(|step| step.piece.len()).sum();
        if let Some(run) = self.run_of(op) {
            run.sent += sent as u64;
        }
    }

    /// Blocks that nobody in the set has are bad on X too, never old (M15).
    pub(crate) fn on_hopeless(&mut self, blocks: u32, out: &mut Vec<Action>) {
        if blocks > 0 {
            out.push(Action::Note(Note::Unreadable { blocks }));
        }
    }

    /// The extent is the same on X. Under its lock still: from here on writes to it go to X.
    pub(crate) fn on_copied(&mut self, op: &mut Op, extent: Extent) {
        if let Some(run) = self.run_of(op)
            && let Some(index) = run.need.index(extent)
        {
            run.copying.retain(|&other| other != index);
            run.need.remove(index);
            run.done += 1;
            self.counters.copied += 1;
            // What was copied becomes durable with a close, which an idle segment would not have.
            self.interval.assume_marks(self.now);
        }
        self.end_own(op);
    }

    /// X has no slot for the extent; those that come after it may free some.
    pub(crate) fn set_copy_aside(&mut self, op: &mut Op, extent: Extent) {
        if let Some(run) = self.run_of(op)
            && let Some(index) = run.need.index(extent)
        {
            run.copying.retain(|&other| other != index);
            run.need.insert(index);
        }
        self.end_own(op);
    }

    /// The extent could not be copied now.
    pub(crate) fn put_back_copy(&mut self, op: &Op, extent: Extent) {
        let retry_at = self.now + RETRY;
        if let Some(run) = self.run_of(op)
            && let Some(index) = run.need.index(extent)
        {
            run.copying.retain(|&other| other != index);
            run.want_again(extent);
            run.retry_at = Some(retry_at);
        }
    }
}
