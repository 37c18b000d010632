//! Starting: what the last run left, who may serve (M11), and which extents must be compared first.
//!
//! [`decide`] is a pure function of the record and the images' surveys, so that its table can be tested whole.

use dyad_cluster::{Change, IMAGES_MAX, ImageState, Incarnation, OutReason, SegmentRecord};
use dyad_contract::image::{Reply, Survey};
use dyad_units::{EXTENT_BYTES, NodeId, STATE_EXTENT};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::interval::NO_PIECE;
use crate::owner::op::{Op, Phase, Step};
use crate::owner::status::{MirrorState, Refusal};
use crate::owner::suspect::Suspects;

/// What the surveys mean.
pub(crate) enum Decision {
    /// Serve, after these changes of the record, comparing these extents first.
    Claim {
        /// For the new epoch.
        changes: Vec<Change>,
        /// To be compared.
        suspects: Suspects,
    },
    /// Not to be served.
    Refuse(Refusal),
}

impl Core {
    pub(crate) fn start_survey(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.begin(op, Phase::Surveying);
        op.steps.push(Step::new(NO_PIECE, self.members.in_sync));
        self.send_all(op, out);
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
            }
        }
        self.done(op, at, image, out);
    }

    /// All in-sync images answered, or cannot: claim the segment with a new epoch.
    pub(crate) fn on_surveyed(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.end_own(op);
        let surveys = std::mem::take(&mut self.surveys);
        let decision =
            decide(self.members.record(), &surveys, &self.members.reasons, (self.node, self.incarnation), self.size);
        match decision {
            Decision::Refuse(refusal) => self.refuse(refusal),
            Decision::Claim { changes, suspects } => match self.members.record().changed(&changes) {
                Ok(record) => {
                    self.suspects = suspects;
                    self.state = MirrorState::Claiming;
                    self.propose(record, out);
                }
                Err(_) => self.refuse(Refusal::NoImage),
            },
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.state = MirrorState::Refused(refusal);
        self.work.push_back(Work::Regate);
    }

    /// The claim is recorded, in the store and at the images: begin to serve.
    pub(crate) fn serve(&mut self, out: &mut Vec<Action>) {
        self.state = MirrorState::Serving;
        self.numbers.begin(self.members.epoch());
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

/// Judges the surveys of the in-sync images; `reasons` says why one has none.
pub(crate) fn decide(
    record: &SegmentRecord,
    surveys: &Surveys,
    reasons: &[Option<OutReason>],
    me: (NodeId, Incarnation),
    size: u64,
) -> Decision {
    let in_sync = || record.images.iter().enumerate().filter(|(_, image)| image.state == ImageState::InSync);
    if let Some(refusal) = in_sync().find_map(|(at, image)| check_history(record, surveys[at].as_deref()?, image.id)) {
        return Decision::Refuse(refusal);
    }
    let mut changes = vec![Change::Own { node: me.0 }];
    let mut kept: Vec<usize> = Vec::new();
    for (at, image) in in_sync() {
        match surveys[at] {
            Some(_) => kept.push(at),
            None => changes.push(Change::TakeOut { image: image.id, reason: reasons[at].unwrap_or(OutReason::Absent) }),
        }
    }
    if kept.is_empty() {
        return Decision::Refuse(Refusal::NoImage);
    }
    let survey = |at: usize| surveys[at].as_deref().expect("kept for its survey");
    // M11: while one lived through, those that forgot may not serve. If none did, all machines restarted and
    // all are alike, whatever is marked on each.
    if kept.iter().any(|&at| survey(at).lived_through) {
        drop_unless(&mut kept, &mut changes, record, OutReason::Forgot, |at| has_everything(survey(at)));
    }
    // P12: an image with lost extents is out before the next acknowledgement, unless it is the last.
    drop_unless(&mut kept, &mut changes, record, OutReason::LostExtents, |at| survey(at).lost.is_empty());
    if let Some(refusal) = check_alone(record, &kept, survey, me.0) {
        return Decision::Refuse(refusal);
    }
    for &at in &kept {
        changes.push(Change::Prove { image: record.images[at].id, incarnation: me.1 });
    }
    let end = size.div_ceil(u64::from(EXTENT_BYTES)) as u32;
    let mut suspects = Suspects::default();
    for &at in &kept {
        let survey = survey(at);
        let unsettled = survey.unsettled.iter().filter(|piece| piece.extent.0 < end || piece.extent == STATE_EXTENT);
        unsettled.for_each(|&piece| suspects.add_piece(piece));
        survey.marked.iter().for_each(|&region| suspects.add_region(region, end, STATE_EXTENT));
    }
    Decision::Claim { changes, suspects }
}

/// Keeps only those that pass, if any does.
fn drop_unless(
    kept: &mut Vec<usize>,
    changes: &mut Vec<Change>,
    record: &SegmentRecord,
    reason: OutReason,
    passes: impl Fn(usize) -> bool,
) {
    if kept.iter().any(|&at| passes(at)) {
        kept.retain(|&at| {
            if !passes(at) {
                changes.push(Change::TakeOut { image: record.images[at].id, reason });
            }
            passes(at)
        });
    }
}

/// Nothing acknowledged can be missing: it lived through, or no region was written since it closed.
fn has_everything(survey: &Survey) -> bool {
    survey.lived_through || survey.marked.is_empty()
}

/// The store must know at least what every image has seen (§8).
fn check_history(record: &SegmentRecord, survey: &Survey, image: dyad_units::ImageId) -> Option<Refusal> {
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
fn check_alone<'a>(
    record: &SegmentRecord,
    kept: &[usize],
    survey: impl Fn(usize) -> &'a Survey,
    node: NodeId,
) -> Option<Refusal> {
    let [only] = kept else { return None };
    let may_know_more = |image: &dyad_cluster::ImageRecord| image.node != node && image.state != ImageState::Detached;
    let is_unsafe = record.in_sync().count() == 1
        && !record.flushed_alone
        && !has_everything(survey(*only))
        && record.images.iter().any(may_know_more);
    is_unsafe.then(|| Refusal::NotFlushedAlone { image: record.images[*only].id })
}
