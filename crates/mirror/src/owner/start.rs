//! Starting: what the last run left, who may serve (M11), and which extents must be compared first.
//!
//! ```text
//!  Show on all in sync ─▶ judge ─▶ Propose ─▶ Record on all ─▶ Survey on all ─▶ judge ─▶ serve
//!   (changes nothing)      │        (claim)    (the fence:        │               └ forgot, lost: take out, again
//!                          └ wait: an image that may know           what counts
//!                            more cannot be asked
//! ```
//!
//! What counts is what the images say *after* the fence: until an image has adopted the new epoch, the old owner may
//! still write to it. [`judge`] is a pure function of the record and the images' words, so that its table can be
//! tested whole.

use dyad_cluster::{Change, IMAGES_MAX, ImageRecord, ImageState, Incarnation, OutReason, SegmentRecord};
use dyad_contract::image::{Reply, Survey};
use dyad_units::{EXTENT_BYTES, ImageId, NodeId};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;
use crate::owner::interval::NO_PIECE;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::propose::Purpose;
use crate::owner::status::{MirrorState, Refusal, Waiting};
use crate::owner::suspect::Suspects;

/// What the images' words mean.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Those may serve which are not named here.
    Serve {
        /// Who has to leave the set first, and why.
        leave: Vec<(ImageId, OutReason)>,
    },
    /// Not yet (M11).
    Wait(Waiting),
    /// Not to be served.
    Refuse(Refusal),
}

/// An in-sync image and what is known of it.
pub(crate) struct Witness<'a> {
    pub(crate) image: &'a ImageRecord,
    /// Its word; none: it cannot be asked.
    pub(crate) survey: Option<&'a Survey>,
    /// Why it cannot be asked.
    pub(crate) reason: OutReason,
}

impl Core {
    pub(crate) fn start_survey(&mut self, op: &mut Op, targets: Images, out: &mut Vec<Action>) {
        self.begin(op, Phase::Surveying);
        self.surveys = [const { None }; IMAGES_MAX];
        op.steps.push(Step::new(NO_PIECE, targets));
        self.send_all(op, out);
    }

    /// Whom the claim takes out by the caller's knowledge.
    pub(crate) fn claimed_out(&self) -> Images {
        let place = |change: &Change| match change {
            Change::TakeOut { image, .. } => self.members.place_of(*image),
            _ => None,
        };
        self.claim.iter().filter_map(place).collect()
    }

    pub(crate) fn on_survey_reply(
        &mut self,
        op: &mut Op,
        at: usize,
        image: ImageIndex,
        reply: Reply,
        out: &mut Vec<Action>,
    ) {
        match reply {
            Reply::Survey(survey) => self.surveys[usize::from(image.0)] = Some(survey),
            _ => {
                self.members.reasons[usize::from(image.0)].get_or_insert(OutReason::Absent);
                if matches!(op.task, Task::Survey) {
                    self.fail_image(image, OutReason::Absent, out);
                }
            }
        }
        self.done(op, at, image, out);
    }

    /// All in-sync images answered, or cannot.
    pub(crate) fn on_surveyed(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.end_own(op);
        let is_first = matches!(op.task, Task::Show);
        let surveys = std::mem::take(&mut self.surveys);
        let witness = |image: ImageIndex| {
            let survey = surveys[usize::from(image.0)].as_deref();
            let reason = self.members.reasons[usize::from(image.0)].unwrap_or(OutReason::Absent);
            Some(Witness { image: self.members.image_at(image)?, survey, reason })
        };
        let asked = if is_first { self.members.in_sync } else { self.members.readable() };
        let witnesses: Vec<_> = asked.into_iter().filter_map(witness).collect();
        let claimed: &[Change] = if is_first { &self.claim } else { &[] };
        let verdict = judge(self.members.record(), &witnesses, (self.node, self.incarnation), claimed);
        match (self.state, is_first) {
            (MirrorState::Starting, true) => self.on_first_verdict(verdict, out),
            (MirrorState::Claiming, false) => self.on_second_verdict(verdict, &surveys, out),
            _ => {} // it was stopped
        }
    }

    fn on_first_verdict(&mut self, verdict: Verdict, out: &mut Vec<Action>) {
        match verdict {
            Verdict::Refuse(refusal) => self.refuse(refusal),
            Verdict::Wait(waiting) => self.wait_for(waiting),
            Verdict::Serve { leave } => match self.members.record().changed(&self.claim_of(&leave)) {
                Ok(record) => {
                    self.state = MirrorState::Claiming;
                    self.propose(record, Purpose::Claim, out);
                }
                Err(_) => self.refuse_own(),
            },
        }
    }

    /// The changes that make this node owner.
    fn claim_of(&self, leave: &[(ImageId, OutReason)]) -> Vec<Change> {
        let is_out = |id: ImageId| leave.iter().any(|(other, _)| *other == id);
        let mut changes = vec![Change::Own { node: self.node }];
        changes.extend(leave.iter().map(|&(image, reason)| Change::TakeOut { image, reason }));
        // What the caller knows about the lives of other nodes, and what it names besides.
        changes.extend(self.claim.iter().filter(|change| !matches!(change, Change::TakeOut { .. })));
        for place in self.members.in_sync {
            let Some(image) = self.members.image_at(place).filter(|image| !is_out(image.id)) else { continue };
            let known = self.incarnations[usize::from(place.0)];
            let own = (image.node == self.node).then_some(self.incarnation);
            if let Some(incarnation) = own.or(known) {
                changes.push(Change::Prove { image: image.id, incarnation });
            }
        }
        changes
    }

    /// The fence stands. What the images say now counts.
    fn on_second_verdict(&mut self, verdict: Verdict, surveys: &Surveys, out: &mut Vec<Action>) {
        if self.proposals.is_under_way() || self.members.is_adopting || !self.members.failing.is_empty() {
            return; // somebody leaves the set; they are all asked again after that
        }
        let leave = match verdict {
            Verdict::Serve { leave } => leave,
            Verdict::Wait(waiting) => {
                self.is_fenced = false;
                return self.wait_for(waiting);
            }
            Verdict::Refuse(Refusal::StoreBehind { seen, .. }) => return self.work.push_back(Work::StepDown(seen)),
            Verdict::Refuse(refusal) => return self.refuse(refusal),
        };
        if !leave.is_empty() {
            for (id, reason) in leave {
                if let Some(image) = self.members.place_of(id) {
                    self.fail_image(image, reason, out);
                }
            }
            return;
        }
        let kept = self.members.in_sync.into_iter().filter_map(|at| surveys[usize::from(at.0)].as_deref());
        (self.suspects, self.inherited) = suspects(kept, self.size);
        self.serve(out);
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.state = MirrorState::Refused(refusal);
        self.work.push_back(Work::Regate);
    }

    fn wait_for(&mut self, waiting: Waiting) {
        self.state = MirrorState::Waiting(waiting);
        self.work.push_back(Work::Regate);
    }

    fn refuse_own(&mut self) {
        let own = self.members.in_sync.and(self.members.local).first();
        match own.and_then(|image| self.members.id_at(image)) {
            Some(image) => self.refuse(Refusal::Forgot { image }),
            None => self.wait_for(Waiting::ForAny),
        }
    }

    /// The claim is recorded, in the store and at the images: begin to serve.
    fn serve(&mut self, out: &mut Vec<Action>) {
        self.state = MirrorState::Serving;
        self.intent.begin();
        if !self.has_served {
            self.has_served = true;
            self.numbers.begin(self.members.epoch());
        }
        // Marks of the last life are cleared by two closes without writes; none may be there, which costs
        // nothing (P5).
        self.interval.assume_marks(self.now);
        let suspect = self.suspects.count();
        out.push(Action::Note(Note::Serving { epoch: self.members.epoch(), suspect }));
        self.ask_credits();
        self.work.push_back(Work::Regate);
    }
}

type Surveys = [Option<Box<Survey>>; IMAGES_MAX];

/// Judges the words of the in-sync images. `claimed` names whom the caller takes out of its own knowledge.
pub(crate) fn judge(
    record: &SegmentRecord,
    witnesses: &[Witness<'_>],
    me: (NodeId, Incarnation),
    claimed: &[Change],
) -> Verdict {
    let heard = || witnesses.iter().filter_map(|witness| Some((witness, witness.survey?)));
    if let Some(refusal) = heard().find_map(|(witness, survey)| check_history(record, survey, witness.image.id)) {
        return Verdict::Refuse(refusal);
    }
    let taken_out = |image: ImageId| {
        claimed.iter().find_map(|change| match change {
            Change::TakeOut { image: out, reason } if *out == image => Some(*reason),
            _ => None,
        })
    };
    let mut kept: Vec<_> = heard().filter(|(witness, _)| taken_out(witness.image.id).is_none()).collect();
    if kept.is_empty() {
        return Verdict::Wait(Waiting::ForAny);
    }
    let mut leave: Vec<_> = witnesses
        .iter()
        .filter_map(|witness| {
            let claimed = taken_out(witness.image.id);
            let reason = claimed.or(witness.survey.is_none().then_some(witness.reason))?;
            Some((witness.image.id, reason))
        })
        .collect();
    // M11: while one lived through, those that forgot may not serve. If none did, all machines restarted and
    // all are alike, whatever is marked on each; but whoever cannot be asked may have lived through.
    if kept.iter().any(|(_, survey)| survey.lived_through) {
        drop_unless(&mut kept, &mut leave, OutReason::Forgot, has_everything);
    } else if !kept.iter().any(|(_, survey)| has_everything(survey)) {
        let may_know = |witness: &&Witness<'_>| match witness.survey {
            Some(survey) => taken_out(witness.image.id).is_some() && has_everything(survey),
            None => taken_out(witness.image.id) != Some(OutReason::Forgot) && !has_restarted(witness.image, me),
        };
        if let Some(witness) = witnesses.iter().find(may_know) {
            return Verdict::Wait(Waiting::ForImage { image: witness.image.id });
        }
    }
    // P12: an image with lost extents is out before the next acknowledgement, unless it is the last.
    drop_unless(&mut kept, &mut leave, OutReason::LostExtents, |survey| survey.lost.is_empty());
    match check_alone(record, &kept, me.0) {
        Some(refusal) => Verdict::Refuse(refusal),
        None => Verdict::Serve { leave },
    }
}

/// What has to be compared before it is read: what one image may have and another not (M9), and what an image that
/// lost its memory cannot vouch for (P8); and the former alone.
fn suspects<'a>(surveys: impl Iterator<Item = &'a Survey>, size: u64) -> (Suspects, Suspects) {
    let end = size.div_ceil(u64::from(EXTENT_BYTES)) as u32;
    let (mut suspects, mut inherited) = (Suspects::default(), Suspects::default());
    for survey in surveys {
        let unsettled = survey.unsettled.iter().filter(|piece| piece.extent.0 < end || piece.extent.is_hidden());
        unsettled.for_each(|&piece| inherited.add_piece(piece));
        survey.marked.iter().for_each(|&region| suspects.add_region(region, end));
    }
    suspects.add_all(&inherited);
    (suspects, inherited)
}

/// Keeps only those that pass, if any does.
fn drop_unless(
    kept: &mut Vec<(&Witness<'_>, &Survey)>,
    leave: &mut Vec<(ImageId, OutReason)>,
    reason: OutReason,
    passes: impl Fn(&Survey) -> bool,
) {
    if kept.iter().any(|(_, survey)| passes(survey)) {
        kept.retain(|(witness, survey)| {
            if !passes(survey) {
                leave.push((witness.image.id, reason));
            }
            passes(survey)
        });
    }
}

/// Nothing acknowledged can be missing: it lived through, or no region was written since it closed.
fn has_everything(survey: &Survey) -> bool {
    survey.lived_through || survey.marked.is_empty()
}

/// An image of this node that cannot be asked forgot with the machine, if that restarted since it was proved.
fn has_restarted(image: &ImageRecord, (node, incarnation): (NodeId, Incarnation)) -> bool {
    image.node == node && image.incarnation.is_some_and(|proved| proved.boot != incarnation.boot)
}

/// The store must know at least what every image has seen (§8).
fn check_history(record: &SegmentRecord, survey: &Survey, image: ImageId) -> Option<Refusal> {
    let behind = |seen| Some(Refusal::StoreBehind { image, seen, known: record.epoch });
    if survey.epoch > record.epoch {
        return behind(survey.epoch);
    }
    if survey.record.is_empty() {
        return None;
    }
    match SegmentRecord::decode(&survey.record) {
        Err(_) => Some(Refusal::UnreadableRecord { image }),
        Ok(kept) if kept.epoch > record.epoch => behind(kept.epoch),
        Ok(kept) if kept.id != record.id || (kept.epoch == record.epoch && kept != *record) => {
            Some(Refusal::Contradiction { image, epoch: record.epoch })
        }
        Ok(_) => None,
    }
}

/// M8: a sole image that forgot, and was never flushed alone, is not served while an image on another node may
/// have what it forgot. Images of this node forgot with it.
fn check_alone(record: &SegmentRecord, kept: &[(&Witness<'_>, &Survey)], node: NodeId) -> Option<Refusal> {
    let [(witness, survey)] = kept else { return None };
    let may_know_more = |image: &ImageRecord| image.node != node && image.state != ImageState::Detached;
    let is_unsafe = record.in_sync().count() == 1
        && !record.flushed_alone
        && !has_everything(survey)
        && record.images.iter().any(may_know_more);
    is_unsafe.then_some(Refusal::NotFlushedAlone { image: witness.image.id })
}
