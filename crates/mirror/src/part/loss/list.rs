//! After a promotion: what only the image left behind has, block by block.

use std::collections::VecDeque;

use dyad_cluster::SegmentRecord;
use dyad_contract::image::{BlockState, Changed, Examined, Reply, Request, Survey};
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeResult};
use dyad_payload::{BlockSum, Payload};
use dyad_units::{BLOCK_BYTES, BLOCKS_PER_EXTENT, Bytes, Extent, ImageId, Span, Stamp};

use crate::part::loss::inquiry::{Next, block_of, span_of};
use crate::part::loss::{LossList, LossRanges, LossReport};

#[derive(Clone, Debug)]
pub(super) struct List {
    report: Box<LossList>,
    /// The image has said what it knows.
    is_surveyed: bool,
    /// Where to ask for the next page of extents; none: there is none.
    from: Option<Extent>,
    /// Extents to be compared, the one under way first: at most a page.
    extents: VecDeque<Extent>,
    /// What the image has of the first one, once it was examined, and what is read of the volume.
    here: Option<(Box<Examined>, Span)>,
}

impl List {
    pub(super) fn new(image: ImageId) -> Self {
        let (only_here, unreadable) = (LossRanges::default(), LossRanges::default());
        let report = Box::new(LossList { image, since: Stamp::NEVER, only_here, unreadable });
        Self { report, is_surveyed: false, from: Some(Extent(0)), extents: VecDeque::new(), here: None }
    }

    pub(super) fn on_reply(&mut self, record: &SegmentRecord, reply: Option<Reply>) -> Next {
        match reply {
            Some(Reply::Survey(survey)) if !self.is_surveyed => self.on_survey(record, &survey),
            Some(Reply::Changed(changed)) => self.on_page(record, &changed),
            Some(Reply::Examined(examined)) => return self.on_examined(record.size, examined),
            _ => return Next::Gone,
        }
        self.go_on()
    }

    fn on_survey(&mut self, record: &SegmentRecord, survey: &Survey) {
        let copied = survey.progress.map_or(survey.closed, |(_, complete)| complete);
        self.report.since = record.closed_after_forks(survey.closed.min(copied));
        self.is_surveyed = true;
    }

    fn on_page(&mut self, record: &SegmentRecord, changed: &Changed) {
        let end = |extent: Extent| span_of(extent, record.size).is_some();
        let left = changed.extents.iter().filter(|(extent, stamp)| end(*extent) && is_left_behind(record, *stamp));
        self.extents.extend(left.map(|(extent, _)| extent));
        let from = self.from.unwrap_or(Extent(0));
        // A page that does not lead on would be asked for without end.
        self.from = changed.next.filter(|next| next.0 > from.0);
    }

    fn go_on(&self) -> Next {
        let image = self.report.image;
        match (self.extents.front(), self.from) {
            (Some(&extent), _) => Next::Here(image, Request::Examine { extent }),
            (None, Some(from)) => Next::Here(image, Request::Changed { after: self.report.since, from }),
            (None, None) => Next::Done(LossReport::List(self.report.clone())),
        }
    }

    fn on_examined(&mut self, size: Bytes, examined: Box<Examined>) -> Next {
        let Some(span) = self.extents.front().and_then(|&extent| span_of(extent, size)) else { return Next::Gone };
        self.here = Some((examined, span));
        Next::Read(span)
    }

    /// Whether these are all the bytes that were asked for.
    fn is_answered_by(&self, data: &Payload) -> bool {
        self.here.as_ref().is_some_and(|(_, span)| data.len() as u64 == span.len())
    }

    /// The read that is wanted.
    pub(super) fn read(&self) -> Next {
        self.here.as_ref().map_or(Next::Gone, |(_, span)| Next::Read(*span))
    }

    pub(super) fn on_read(&mut self, record: &SegmentRecord, result: VolumeResult) -> Next {
        let there = match result {
            Ok(VolumeDone::Data(data)) if self.is_answered_by(&data) => Some(data),
            // Retryable: nobody could answer just now.
            Err(VolumeError::Busy | VolumeError::Aborted) => return Next::ReadAgain,
            // The volume has it no more.
            _ => None,
        };
        let (Some(extent), Some((examined, _))) = (self.extents.pop_front(), self.here.take()) else {
            return Next::Gone;
        };
        for block in 0..BLOCKS_PER_EXTENT as usize {
            let Some(span) = block_of(extent, block, record.size) else { break };
            let there = there.as_ref().map(|data| sum_of(data, block, span));
            match examined.blocks[block] {
                BlockState::Unwritten | BlockState::Missing if there == Some(sum_of_zeros()) => {}
                BlockState::Verified(sum) | BlockState::Unverified(sum) if there == Some(sum) => {}
                BlockState::Unwritten | BlockState::Missing | BlockState::Verified(_) => {
                    self.report.only_here.push(span)
                }
                BlockState::Unverified(_) | BlockState::Unreadable => self.report.unreadable.push(span),
            }
        }
        self.go_on()
    }
}

/// Whether a forced promotion left the writes of this stamp behind: the line goes on from an earlier one. Whatever carried
/// no stamp after a crash may be such a write.
fn is_left_behind(record: &SegmentRecord, stamp: Stamp) -> bool {
    !record.forks.is_empty() && (stamp == Stamp::NEWEST || record.closed_after_forks(stamp) < stamp)
}

/// The sum of a block of an extent's data; zeros follow where the segment ends within it.
fn sum_of(data: &Payload, block: usize, span: Span) -> BlockSum {
    let part = data.slice(block * BLOCK_BYTES as usize, span.len() as usize);
    let mut bytes = [0; BLOCK_BYTES as usize];
    part.copy_to(&mut bytes[..part.len()]);
    BlockSum::of(&bytes)
}

fn sum_of_zeros() -> BlockSum {
    BlockSum::of(&[0; BLOCK_BYTES as usize])
}
