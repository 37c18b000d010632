//! Which images are in the set, and how one that fails leaves it (A3, M7, M8).
//!
//! ```text
//!  an image fails ──▶ failing: no longer asked, still waited for ──Propose──▶ store
//!                                                                    │ Unknown: the same proposal again (M7)
//!                     out: nobody waits for it  ◀──── Accepted ──────┤
//!                     Record to the others, then answers go out      └ Rejected: step down
//! ```
//!
//! Until the store has said that the image is out, whatever it should have acknowledged stays unanswered and
//! locked. The last image is never taken out: its errors go to the host (P15).

use dyad_cluster::{Change, IMAGES_MAX, ImageState, OutReason, Outcome, SegmentRecord};
use dyad_payload::{Payload, Slab};
use dyad_units::{Epoch, Moment, Period};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;
use crate::owner::op::{Op, Task};
use crate::owner::status::MirrorState;

/// Longest pause between two attempts of a proposal whose outcome is unknown.
const REPEAT_MAX: Period = Period::from_secs(1);
/// Encoded records are a few hundred bytes, and at most two are in use at once.
const RECORD_BUFFERS_BYTES: usize = 64 * 1024;

/// A proposal under way.
struct Proposal {
    record: Box<SegmentRecord>,
    /// When it is repeated, after an unknown outcome.
    repeat_at: Option<Moment>,
    pause: Period,
}

/// The images and what is known about them.
pub(crate) struct Members {
    record: SegmentRecord,
    encoded: Payload,
    buffers: Slab,
    /// As recorded.
    pub(crate) in_sync: Images,
    /// Of those, who failed and is to be taken out; never all of them.
    pub(crate) failing: Images,
    /// Who cannot be reached.
    pub(crate) gone: Images,
    /// When each image last replied to anything.
    heard: [Moment; IMAGES_MAX],
    /// Why an image fails, or is bad but the last one.
    pub(crate) reasons: [Option<OutReason>; IMAGES_MAX],
    proposal: Option<Proposal>,
    /// The images are being told the newest record; answers wait (M9).
    pub(crate) is_adopting: bool,
    /// The only image is flushed and the record shall say so (M8).
    pub(crate) wants_flushed_alone: bool,
}

impl Members {
    pub(crate) fn new(record: SegmentRecord) -> Self {
        let buffers = Slab::new(RECORD_BUFFERS_BYTES);
        let mut members = Self {
            in_sync: in_sync(&record),
            record,
            encoded: Payload::new(),
            buffers,
            failing: Images::NONE,
            gone: Images::NONE,
            heard: [Moment::START; IMAGES_MAX],
            reasons: [None; IMAGES_MAX],
            proposal: None,
            is_adopting: false,
            wants_flushed_alone: false,
        };
        members.encode();
        members
    }

    pub(crate) const fn record(&self) -> &SegmentRecord {
        &self.record
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.record.epoch
    }

    /// The newest record as bytes, for the images to keep.
    pub(crate) fn encoded(&self) -> Payload {
        self.encoded.clone()
    }

    /// Those that may be read from.
    pub(crate) fn readable(&self) -> Images {
        self.in_sync.minus(self.failing)
    }

    /// The image replied to something.
    pub(crate) fn hear(&mut self, image: ImageIndex, now: Moment) {
        self.heard[usize::from(image.0)] = now;
    }

    /// Whether an image that may be read, other than this one, replied to something since.
    pub(crate) fn heard_another(&self, image: ImageIndex, since: Moment) -> bool {
        let others = self.readable().minus(Images::one(image));
        others.into_iter().any(|other| self.heard[usize::from(other.0)] > since)
    }

    /// Whether a proposal is under way.
    pub(crate) const fn is_proposing(&self) -> bool {
        self.proposal.is_some()
    }

    /// When the proposal is repeated.
    pub(crate) fn repeat_at(&self) -> Option<Moment> {
        self.proposal.as_ref().and_then(|proposal| proposal.repeat_at)
    }

    /// Nothing is proposed from here any more.
    pub(crate) fn step_down(&mut self) {
        self.proposal = None;
        self.is_adopting = false;
        self.wants_flushed_alone = false;
    }

    fn encode(&mut self) {
        // A record's bytes are bounded by its bounded lists, far below the buffers'.
        let bytes = self.record.encode();
        self.encoded = Payload::from(self.buffers.copy_of(&bytes).expect("the buffers hold several records"));
    }
}

fn in_sync(record: &SegmentRecord) -> Images {
    let states = record.images.iter().enumerate();
    states.filter(|(_, image)| image.state == ImageState::InSync).map(|(at, _)| ImageIndex(at as u8)).collect()
}

impl Core {
    /// An image failed. True: it will be taken out, wait for that; false: it is the last one, and the failure
    /// is the host's.
    pub(crate) fn fail_image(&mut self, image: ImageIndex, reason: OutReason, out: &mut Vec<Action>) -> bool {
        if !self.members.in_sync.contains(image) || self.members.failing.contains(image) {
            return true;
        }
        // Why an image cannot be reached is known better than what a request to it came to.
        let known = self.members.reasons[usize::from(image.0)].filter(|_| self.members.gone.contains(image));
        let reason = known.unwrap_or(reason);
        let is_new = self.members.reasons[usize::from(image.0)].replace(reason) != Some(reason);
        if self.members.readable() == Images::one(image) {
            if is_new {
                out.push(Action::Note(Note::LastImageFailed { image, reason }));
            }
            return false;
        }
        self.members.failing.insert(image);
        self.work.push_back(Work::Redirect);
        true
    }

    /// Proposes what has to be recorded, one proposal at a time.
    pub(crate) fn propose_if_needed(&mut self, out: &mut Vec<Action>) {
        let is_serving = matches!(self.state, MirrorState::Serving | MirrorState::Stopping);
        if !is_serving || self.members.is_proposing() || self.members.is_adopting {
            return;
        }
        let members = &self.members;
        let take_out = |image: ImageIndex| Change::TakeOut {
            image: members.record.images[usize::from(image.0)].id,
            reason: members.reasons[usize::from(image.0)].unwrap_or(OutReason::WriteFailed),
        };
        let mut changes: Vec<_> = members.failing.into_iter().map(take_out).collect();
        if changes.is_empty() && members.wants_flushed_alone && members.in_sync.count() == 1 {
            changes.push(Change::FlushedAlone);
        }
        if !changes.is_empty() {
            // Legal by construction: failing is never the whole set, and every node here holds an image.
            match members.record.changed(&changes) {
                Ok(record) => self.propose(record, out),
                Err(_) => self.members.wants_flushed_alone = false,
            }
        }
    }

    /// Sends a proposal.
    pub(crate) fn propose(&mut self, record: SegmentRecord, out: &mut Vec<Action>) {
        let proposal = Proposal { record: Box::new(record), repeat_at: None, pause: self.tuning.retry };
        out.push(Action::Propose { record: proposal.record.clone(), expected: self.members.record.epoch });
        self.members.proposal = Some(proposal);
    }

    /// Repeats the proposal whose outcome is unknown, unchanged (M7).
    pub(crate) fn repeat_proposal(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let expected = self.members.record.epoch;
        if let Some(proposal) = &mut self.members.proposal
            && proposal.repeat_at.is_some_and(|at| at <= now)
        {
            proposal.repeat_at = None;
            out.push(Action::Propose { record: proposal.record.clone(), expected });
        }
    }

    /// What became of the proposal.
    pub(crate) fn on_outcome(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        let Some(mut proposal) = self.members.proposal.take() else { return };
        match outcome {
            Outcome::Accepted => self.adopt(*proposal.record, out),
            Outcome::Rejected { current: Some(current) } if current == proposal.record => self.adopt(*current, out),
            Outcome::Rejected { current } => {
                let epoch = current.map_or(self.members.record.epoch, |current| current.epoch);
                self.work.push_back(Work::StepDown(epoch));
            }
            Outcome::Unknown => {
                proposal.repeat_at = Some(self.now + proposal.pause);
                let doubled = Period::from_nanos(proposal.pause.as_nanos().saturating_mul(2));
                proposal.pause = doubled.min(REPEAT_MAX);
                self.members.proposal = Some(proposal);
            }
        }
    }

    /// The record is stored: whoever is out of it is waited for no longer, the others are told.
    fn adopt(&mut self, record: SegmentRecord, out: &mut Vec<Action>) {
        let left = self.members.in_sync.minus(in_sync(&record));
        self.members.in_sync = in_sync(&record);
        self.members.failing = self.members.failing.minus(left);
        self.members.record = record;
        self.members.encode();
        for image in left {
            self.counters.taken_out += 1;
            let reason = self.members.record.images[usize::from(image.0)].reason.unwrap_or(OutReason::WriteFailed);
            self.members.reasons[usize::from(image.0)] = Some(reason);
            out.push(Action::Note(Note::TakenOut { image, reason }));
        }
        // Credits are void and intervals begin anew in each epoch (P15, M4).
        self.credits.renew();
        self.interval.renew(self.now);
        if !left.is_empty() {
            self.work.push_back(Work::Drop(left));
        }
        let is_alone = self.members.in_sync.count() == 1 && !self.members.record.flushed_alone;
        if is_alone && !self.members.wants_flushed_alone && self.state != MirrorState::Stopping {
            self.wanted.push_back(Task::FlushAlone);
        }
        if self.members.record.flushed_alone {
            self.members.wants_flushed_alone = false;
        }
        self.members.is_adopting = true;
        self.wanted.push_back(Task::Record);
    }

    /// All images keep the newest record: what was held back goes out.
    pub(crate) fn on_recorded(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.end_own(op);
        self.members.is_adopting = false;
        out.extend(self.held.drain(..).map(|(id, result)| Action::Answer { id, result }));
        if self.state == MirrorState::Claiming {
            self.serve(out);
        }
    }
}
