//! Before a promotion: what the image is known to have, and what others have newer.

use dyad_cluster::{ImageRecord, ImageState, SegmentRecord};
use dyad_contract::image::{Changed, Reply, Request, Survey};
use dyad_units::{Bytes, Extent, ImageId, NodeId, REGION_BYTES, Stamp};

use crate::part::local::has_everything;
use crate::part::loss::inquiry::{Next, span_of, span_within};
use crate::part::loss::{LossForecast, LossRanges, LossReport, OtherImage};

#[derive(Clone, Debug)]
pub(super) struct Forecast {
    image: ImageId,
    /// What is known so far; none: the image has not answered.
    report: Option<Box<LossForecast>>,
    /// Images that are still to be asked, the one that is being asked first.
    others: Vec<ImageRecord>,
    /// What that one has said so far.
    newer: LossRanges,
    from: Extent,
}

impl Forecast {
    pub(super) fn new(image: ImageId) -> Self {
        Self { image, report: None, others: Vec::new(), newer: LossRanges::default(), from: Extent(0) }
    }

    /// Whether an answer of this node is waited for.
    pub(super) fn asks(&self, node: NodeId) -> bool {
        self.report.is_some() && self.others.first().is_some_and(|other| other.node == node)
    }

    pub(super) fn on_reply(
        &mut self,
        record: &SegmentRecord,
        reply: Option<Reply>,
        me: NodeId,
        is_up: impl Fn(NodeId) -> bool,
    ) -> Next {
        match (self.report.is_some(), reply) {
            (false, Some(Reply::Survey(survey))) => self.on_survey(record, &survey),
            (false, _) => return Next::Gone,
            (true, Some(Reply::Changed(changed))) => self.on_page(record, &changed),
            (true, _) => self.note_other(false),
        }
        while let Some(other) = self.others.first().copied() {
            if is_up(other.node) {
                let after = self.report.as_ref().map_or(Stamp::NEVER, |report| report.complete);
                let from = self.from;
                return match other.node == me {
                    true => Next::Here(other.id, Request::Changed { after, from }),
                    false => Next::There { node: other.node, image: other.id, after, from },
                };
            }
            self.note_other(false);
        }
        match self.report.take() {
            Some(report) => Next::Done(LossReport::Forecast(judged(report, record.size))),
            None => Next::Gone,
        }
    }

    fn on_survey(&mut self, record: &SegmentRecord, survey: &Survey) {
        let copied = survey.progress.map_or(survey.closed, |(_, complete)| complete);
        let mut report = LossForecast {
            image: self.image,
            complete: record.closed_after_forks(survey.closed.min(copied)),
            is_half_copied: survey.progress.is_some(),
            forgotten: LossRanges::default(),
            lost: LossRanges::default(),
            others: Vec::new(),
            bytes_max: Bytes::ZERO,
        };
        let lost = survey.lost.iter().filter_map(|&extent| span_of(extent, record.size));
        lost.for_each(|span| report.lost.push(span));
        if is_in_sync(record, self.image) {
            // Every acknowledged write was on it, its region marked before (A1, P5): what it cannot vouch for is there.
            if !has_everything(survey) {
                let region = u64::from(REGION_BYTES);
                let spans = survey.marked.iter().map(|marked| u64::from(marked.0) * region);
                let spans = spans.filter_map(|offset| span_within(offset, region, record.size));
                spans.for_each(|span| report.forgotten.push(span));
            }
        } else {
            let may_have_more = |other: &&ImageRecord| other.id != self.image && other.state != ImageState::Detached;
            self.others = record.images.iter().filter(may_have_more).copied().collect();
        }
        self.report = Some(Box::new(report));
    }

    fn on_page(&mut self, record: &SegmentRecord, changed: &Changed) {
        for span in changed.extents.iter().filter_map(|(extent, _)| span_of(*extent, record.size)) {
            self.newer.push(span);
        }
        // A page that does not lead on would be asked for without end.
        match changed.next.filter(|next| next.0 > self.from.0) {
            Some(next) => self.from = next,
            None => self.note_other(true),
        }
    }

    /// Goes on with the next image.
    fn note_other(&mut self, is_known: bool) {
        let newer = std::mem::take(&mut self.newer);
        self.from = Extent(0);
        if self.others.is_empty() {
            return;
        }
        let ImageRecord { id: image, node, state, .. } = self.others.remove(0);
        if let Some(report) = &mut self.report {
            report.others.push(OtherImage { image, node, state, newer: is_known.then_some(newer) });
        }
    }
}

fn is_in_sync(record: &SegmentRecord, image: ImageId) -> bool {
    record.image(image).is_some_and(|image| image.state == ImageState::InSync)
}

/// The upper bound: what the others have newer, once for each of them; where one is silent, everything.
fn judged(mut report: Box<LossForecast>, size: Bytes) -> Box<LossForecast> {
    let own = report.forgotten.bytes.value() + report.lost.bytes.value();
    let mut others = report.others.iter().map(|other| other.newer.as_ref().map(|newer| newer.bytes.value()));
    let newer = others.try_fold(0_u64, |sum, bytes| Some(sum + bytes?));
    report.bytes_max = newer.map_or(size, |newer| Bytes::new((own + newer).min(size.value())));
    report
}
