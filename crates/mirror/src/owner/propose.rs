//! Changes of the record: proposed one at a time, repeated until their outcome is known (M7), adopted by all images
//! before the next answer (M9).

use std::collections::VecDeque;

use dyad_cluster::{Change, Outcome, SegmentRecord};
use dyad_units::{Moment, Period};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ChangeRefused, ImageIndex, Note};
use crate::owner::op::{Op, Task};
use crate::owner::status::MirrorState;

/// Longest pause between two attempts of a proposal whose outcome is unknown.
const REPEAT_MAX: Period = Period::from_secs(1);
/// Most changes of an administrator that wait: one person's.
const CHANGES_MAX: usize = 16;

/// What a proposal is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// This node becomes owner.
    Claim,
    /// Images leave the set.
    TakeOut,
    /// The only image left is flushed (M8).
    FlushedAlone,
    /// An image begins to catch up.
    Resync,
    /// An image ends catching up early.
    EndRun,
    /// An image joins the set (M16).
    Join(ImageIndex),
    /// An administrator's.
    Asked(u64),
    /// Another node becomes owner (M12).
    HandOver,
}

/// A proposal under way.
#[derive(Clone, Debug)]
struct Proposal {
    record: Box<SegmentRecord>,
    purpose: Purpose,
    /// When it is repeated, after an unknown outcome.
    repeat_at: Option<Moment>,
    pause: Period,
}

/// What is proposed and what waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposals {
    under_way: Option<Proposal>,
    /// What an administrator asked for, in order.
    asked: VecDeque<(u64, Change)>,
    /// Ends of runs that the record does not say yet.
    pub(crate) run_ends: Vec<Change>,
}

impl Proposals {
    /// Whether one is under way.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What the one under way is for.
    pub(crate) fn purpose(&self) -> Option<Purpose> {
        self.under_way.as_ref().map(|proposal| proposal.purpose)
    }

    /// The record to be, if one is proposed.
    pub(crate) fn record(&self) -> Option<&SegmentRecord> {
        self.under_way.as_ref().map(|proposal| &*proposal.record)
    }

    /// When the proposal is repeated.
    pub(crate) fn repeat_at(&self) -> Option<Moment> {
        self.under_way.as_ref().and_then(|proposal| proposal.repeat_at)
    }

    /// Nothing is proposed from here any more. Who waited for a change.
    pub(crate) fn forget(&mut self) -> impl Iterator<Item = u64> + use<> {
        let asked = match self.under_way.take().map(|proposal| proposal.purpose) {
            Some(Purpose::Asked(id)) => Some(id),
            _ => None,
        };
        self.run_ends.clear();
        asked.into_iter().chain(std::mem::take(&mut self.asked).into_iter().map(|(id, _)| id))
    }
}

impl Core {
    /// An administrator wants a change of the record.
    pub(crate) fn on_change(&mut self, id: u64, change: Change, out: &mut Vec<Action>) {
        let is_owner = matches!(self.state, MirrorState::Serving);
        if !is_owner || self.proposals.asked.len() >= CHANGES_MAX {
            let refused = if is_owner { ChangeRefused::TooMany } else { ChangeRefused::NotServing };
            out.push(Action::Changed { id, result: Err(refused) });
        } else {
            self.proposals.asked.push_back((id, change));
        }
    }

    /// Whether the record may be changed now.
    fn may_propose(&self) -> bool {
        let is_owner = match self.state {
            MirrorState::Serving | MirrorState::HandingOver => true,
            MirrorState::Stopping => self.has_served,
            MirrorState::Claiming => self.is_fenced,
            _ => false,
        };
        is_owner && !self.proposals.is_under_way() && !self.members.is_adopting
    }

    /// Proposes what has to be recorded, the most urgent first.
    pub(crate) fn propose_if_needed(&mut self, out: &mut Vec<Action>) {
        while self.may_propose() {
            let Some((purpose, changes)) = self.next_proposal() else { return };
            match self.members.record().changed(&changes) {
                Ok(record) => self.propose(record, purpose, out),
                Err(error) => {
                    // Legal by construction but for what an administrator asks.
                    if let Purpose::Asked(id) = purpose {
                        let result = Err(ChangeRefused::Illegal(error));
                        out.push(Action::Changed { id, result });
                    }
                    if matches!(purpose, Purpose::TakeOut | Purpose::Claim) {
                        return; // whoever fails stays failing
                    }
                    self.give_up_proposal(purpose, out);
                }
            }
        }
    }

    fn next_proposal(&mut self) -> Option<(Purpose, Vec<Change>)> {
        let take_outs = self.take_outs();
        if !take_outs.is_empty() {
            return Some((Purpose::TakeOut, take_outs));
        }
        if self.state == MirrorState::Claiming {
            return None;
        }
        if self.members.wants_flushed_alone && self.members.in_sync.count() == 1 {
            return Some((Purpose::FlushedAlone, vec![Change::FlushedAlone]));
        }
        if !self.proposals.run_ends.is_empty() {
            return Some((Purpose::EndRun, std::mem::take(&mut self.proposals.run_ends)));
        }
        if self.state != MirrorState::Serving {
            return self.hand_over_change().map(|change| (Purpose::HandOver, vec![change]));
        }
        if let Some(wanted) = self.resync_change() {
            return Some(wanted);
        }
        let (id, change) = self.proposals.asked.pop_front()?;
        Some((Purpose::Asked(id), vec![change]))
    }

    fn give_up_proposal(&mut self, purpose: Purpose, out: &mut Vec<Action>) {
        match purpose {
            Purpose::FlushedAlone => self.members.wants_flushed_alone = false,
            Purpose::HandOver => self.resume(out),
            Purpose::Resync | Purpose::Join(_) => {
                self.forget_run();
                self.settle_doubted();
            }
            Purpose::TakeOut | Purpose::Claim | Purpose::EndRun | Purpose::Asked(_) => {}
        }
    }

    /// Sends a proposal.
    pub(crate) fn propose(&mut self, record: SegmentRecord, purpose: Purpose, out: &mut Vec<Action>) {
        let proposal = Proposal { record: Box::new(record), purpose, repeat_at: None, pause: self.tuning.retry };
        out.push(Action::Propose { record: proposal.record.clone(), expected: self.members.epoch() });
        self.proposals.under_way = Some(proposal);
    }

    /// Repeats the proposal whose outcome is unknown, unchanged (M7).
    pub(crate) fn repeat_proposal(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let expected = self.members.epoch();
        if let Some(proposal) = &mut self.proposals.under_way
            && proposal.repeat_at.is_some_and(|at| at <= now)
        {
            proposal.repeat_at = None;
            out.push(Action::Propose { record: proposal.record.clone(), expected });
        }
    }

    /// What became of the proposal.
    pub(crate) fn on_outcome(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        let Some(mut proposal) = self.proposals.under_way.take() else { return };
        match outcome {
            Outcome::Accepted => self.adopt(*proposal.record, proposal.purpose, out),
            Outcome::Rejected { current: Some(current) } if current == proposal.record => {
                self.adopt(*current, proposal.purpose, out);
            }
            Outcome::Rejected { current } => {
                let epoch = current.map_or(self.members.epoch(), |current| current.epoch);
                self.proposals.under_way = Some(proposal); // whoever asked for it is told
                self.work.push_back(Work::StepDown(epoch));
            }
            Outcome::Unknown => {
                proposal.repeat_at = Some(self.now + proposal.pause);
                let doubled = Period::from_nanos(proposal.pause.as_nanos().saturating_mul(2));
                proposal.pause = doubled.min(REPEAT_MAX);
                self.proposals.under_way = Some(proposal);
            }
        }
    }

    /// A record was seen in the store or at an image: it says what became of a proposal too (M7).
    pub(crate) fn on_seen(&mut self, seen: &SegmentRecord, out: &mut Vec<Action>) {
        let is_over = matches!(self.state, MirrorState::SteppedDown | MirrorState::Stopped);
        if seen.epoch <= self.members.epoch() || is_over {
            return;
        }
        if self.proposals.under_way.as_ref().is_some_and(|proposal| *proposal.record == *seen) {
            self.on_outcome(Outcome::Accepted, out);
        } else {
            self.work.push_back(Work::StepDown(seen.epoch));
        }
    }

    /// The record is stored: whoever is out of it is waited for no longer, the others are told.
    fn adopt(&mut self, record: SegmentRecord, purpose: Purpose, out: &mut Vec<Action>) {
        let left = self.members.adopt(record);
        let epoch = self.members.epoch();
        for image in left {
            self.counters.taken_out += 1;
            let reason = self.members.reason_at(image);
            self.members.reasons[usize::from(image.0)] = Some(reason);
            out.push(Action::Note(Note::TakenOut { image, reason }));
        }
        // Credits are void, leases too, and intervals begin anew in each epoch (P15, M5, M4).
        self.credits.renew();
        self.leases.renew();
        self.interval.renew(self.now);
        if !left.is_empty() {
            self.work.push_back(Work::Drop(left));
        }
        match purpose {
            Purpose::Claim => self.is_fenced = true,
            Purpose::Asked(id) => out.push(Action::Changed { id, result: Ok(epoch) }),
            Purpose::Join(image) => self.on_joined(image, out),
            _ => {}
        }
        self.check_run(out);
        if !matches!(purpose, Purpose::Join(_)) {
            self.settle_doubted();
        }
        if !self.members.is_own() {
            self.work.push_back(Work::Leave);
            return;
        }
        // More images may count now: a write that waits for them looks again (A4).
        self.work.push_back(Work::Regate);
        let is_alone = self.members.in_sync.count() == 1 && !self.members.record().flushed_alone;
        if is_alone && !self.members.wants_flushed_alone && self.state != MirrorState::Stopping {
            self.wanted.push_back(Task::FlushAlone);
        }
        if self.members.record().flushed_alone || self.members.in_sync.count() > 1 {
            self.members.wants_flushed_alone = false;
        }
        self.members.is_adopting = true;
        self.wanted.push_back(Task::Record);
    }

    /// All images keep the newest record: what was held back goes out.
    pub(crate) fn on_recorded(&mut self, op: &mut Op) {
        self.end_own(op);
        self.members.is_adopting = false;
        self.on_run_recorded();
        if self.state == MirrorState::Claiming {
            self.wanted.push_back(Task::Survey);
        }
        self.on_credits_recorded();
    }
}
