//! Planned hand-over (M12): drain, answer nothing more, close the interval, then the record names the next owner.
//!
//! ```text
//!  hand_over ─▶ new operations wait ─▶ those under way end ─▶ close ─▶ Propose(Own) ─▶ accepted: step down
//!                     │ too long, before it is proposed                     │ unknown: wait until it is known (M7)
//!                     └──────▶ serve again, say so                          └ not legal: serve again, say so
//! ```

use dyad_cluster::Change;
use dyad_units::{Moment, NodeId};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, Note};
use crate::owner::status::MirrorState;

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOver {
    to: NodeId,
    /// Until then it is proposed, or this owner goes on.
    until: Moment,
    /// Everything is drained and closed.
    is_ready: bool,
    /// The interval was closed once already, or could not be.
    has_closed: bool,
}

impl Core {
    /// Begins a hand-over.
    pub(crate) fn begin_hand_over(&mut self, to: NodeId, out: &mut Vec<Action>) {
        let may_own = |image: &dyad_cluster::ImageRecord| image.node == to;
        if self.state != MirrorState::Serving || to == self.node || !self.members.record().in_sync().any(may_own) {
            out.push(Action::Note(Note::HandOverFailed));
            return;
        }
        self.forget_run();
        self.state = MirrorState::HandingOver;
        let until = self.now + self.tuning.hand_over;
        self.hand_over = Some(HandOver { to, until, is_ready: false, has_closed: false });
    }

    /// One more step, once nothing of hosts is under way. Whether there is more to do at once.
    pub(crate) fn hand_over_step(&mut self, under_way: usize, out: &mut Vec<Action>) -> bool {
        if self.state != MirrorState::HandingOver {
            return false;
        }
        let Some(hand_over) = self.hand_over else { return false };
        let is_proposed = self.proposals.purpose() == Some(crate::owner::propose::Purpose::HandOver);
        if self.now >= hand_over.until && !is_proposed {
            self.resume(out);
            return true;
        }
        let is_quiet = under_way == 0 && self.wanted.is_empty() && self.held.is_empty();
        if !is_quiet || hand_over.is_ready {
            return false;
        }
        // Once; marks that stay cost the next owner nothing but a longer list (P5). A poisoned disk closes nothing.
        if !hand_over.has_closed && self.may_close() && !self.interval.is_quiet() {
            self.hand_over = Some(HandOver { has_closed: true, ..hand_over });
            self.interval.hurry();
            return true;
        }
        self.hand_over = Some(HandOver { is_ready: true, ..hand_over });
        true
    }

    /// What has to be proposed for it now.
    pub(crate) fn hand_over_change(&self) -> Option<Change> {
        self.hand_over.filter(|hand_over| hand_over.is_ready).map(|hand_over| Change::Own { node: hand_over.to })
    }

    /// When it has taken too long.
    pub(crate) fn hand_over_deadline(&self) -> Option<Moment> {
        let is_proposed = self.proposals.is_under_way();
        self.hand_over.filter(|_| self.state == MirrorState::HandingOver && !is_proposed).map(|one| one.until)
    }

    /// This owner goes on.
    pub(crate) fn resume(&mut self, out: &mut Vec<Action>) {
        self.hand_over = None;
        if self.state == MirrorState::HandingOver {
            self.state = MirrorState::Serving;
            self.work.push_back(Work::Regate);
        }
        out.push(Action::Note(Note::HandOverFailed));
    }
}
