//! What is needed (M13): what either side wrote since X was last complete, what X lost, what is being written now.

use dyad_cluster::OutReason;
use dyad_contract::image::{Changed, Reply, Request};
use dyad_units::Stamp;

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex};
use crate::owner::images::Images;
use crate::owner::interval::NO_PIECE;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::resync::{HalfCopied, Run, Stage};

/// How far an image's list was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Where to ask on, in the order of copying.
    from: u32,
    is_done: bool,
}

/// The source's list, X's list.
const SOURCE: usize = 0;
const OWN: usize = 1;

impl Run {
    /// From which stamp on an extent at `from` counts as changed.
    fn after(&self, from: u32) -> Stamp {
        if from < self.below.0 { self.below.1 } else { self.base }
    }

    /// A page of a list. Below the cursor another stamp counts than above, so a page ends there.
    fn take_page(&mut self, which: usize, changed: &Changed) {
        let from = self.lists[which].from;
        let is_below = from < self.below.0;
        let counts = |index: u32| !is_below || index < self.below.0;
        for &(extent, _) in &changed.extents {
            if let Some(index) = self.need.index(extent).filter(|&index| counts(index)) {
                self.need.insert(index);
            }
        }
        let place = &mut self.lists[which];
        match changed.next.map(|next| self.need.place_from(next)) {
            Some(next) if !is_below || next < self.below.0 => place.from = next.max(from + 1),
            _ if is_below => place.from = self.below.0,
            _ => place.is_done = true,
        }
        place.is_done |= place.from >= self.need.end();
    }
}

impl Core {
    /// X said what it has, or cannot.
    pub(crate) fn on_own_survey(&mut self, op: &mut Op, image: ImageIndex, out: &mut Vec<Action>) {
        self.end_own(op);
        let survey = self.surveys[usize::from(image.0)].take();
        let record = self.members.record();
        let Some(run) = self.run.as_mut().filter(|run| run.image == image && run.stage == Stage::Surveying) else {
            return;
        };
        let Some(survey) = survey else { return self.fail_syncing(image, OutReason::Absent, out) };
        run.base = record.closed_after_forks(survey.closed);
        run.half_copied = HalfCopied::Unsaid(survey.closed);
        if let Some((cursor, complete)) = survey.progress {
            let cursor = run.need.index(cursor).unwrap_or(0);
            run.below = (cursor, record.closed_after_forks(complete));
            run.half_copied = HalfCopied::Said;
        }
        // Whatever X cannot vouch for is compared, wherever the cursor was.
        survey.lost.iter().for_each(|&extent| run.need.add(extent));
        survey.unsettled.iter().for_each(|piece| run.need.add(piece.extent));
        survey.marked.iter().for_each(|&region| run.need.add_region(region));
        run.stage = Stage::Listing;
        // From now on writes note themselves; those under way are noted before anything else happens.
        self.work.push_front(Work::NoteUnderWay);
        self.wanted.push_back(Task::List(SOURCE));
        self.wanted.push_back(Task::List(OWN));
    }

    /// Asks for the next page of a list.
    pub(crate) fn start_list(&mut self, op: &mut Op, which: usize, out: &mut Vec<Action>) {
        let source = self.members.nearest(self.members.readable().minus(self.members.gone));
        let Some(run) = self.run.as_ref().filter(|run| run.stage == Stage::Listing) else { return self.end_own(op) };
        let of = if which == OWN { Some(run.image) } else { source };
        let Some(of) = of else {
            let image = run.image;
            self.end_own(op);
            return self.fail_syncing(image, OutReason::Absent, out);
        };
        op.life = run.life;
        self.begin(op, Phase::Listing);
        op.steps.clear();
        op.steps.push(Step::new(NO_PIECE, Images::one(of)));
        self.send_all(op, out);
    }

    pub(crate) fn list_request(&self, which: usize) -> Request {
        let Some(run) = &self.run else { return Request::Show };
        let from = run.lists[which].from;
        Request::Changed { after: run.after(from), from: run.need.extent(from) }
    }

    pub(crate) fn on_list_reply(
        &mut self,
        op: &mut Op,
        at: usize,
        image: ImageIndex,
        reply: Reply,
        out: &mut Vec<Action>,
    ) {
        let Task::List(which) = op.task else { return };
        match reply {
            Reply::Changed(changed) => {
                if let Some(run) = self.run.as_mut().filter(|run| run.life == op.life && run.stage == Stage::Listing) {
                    run.take_page(which, &changed);
                }
            }
            _ if which == OWN => drop(self.fail_image(image, OutReason::WriteFailed, out)),
            // The source cannot say it now; it serves all the same.
            _ => {
                if let Some(run) = self.run.as_ref().filter(|run| run.life == op.life) {
                    let image = run.image;
                    self.fail_syncing(image, OutReason::Absent, out);
                }
            }
        }
        self.done(op, at, image, out);
    }

    /// A page is there, or will not come.
    pub(crate) fn on_listed(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Task::List(which) = op.task else { return };
        let life = op.life;
        let Some(run) = self.run.as_mut().filter(|run| run.life == life && run.stage == Stage::Listing) else {
            return self.end_own(op);
        };
        if op.failure.take().is_some() && which == SOURCE {
            // It left the set. Another image of the set has the same extents, not always with the same stamps: it is asked from the start.
            run.lists[SOURCE] = Place::default();
        }
        if !run.lists[which].is_done {
            return self.start_list(op, which, out);
        }
        if run.lists.iter().all(|place| place.is_done) {
            run.stage = Stage::Copying;
        }
        self.end_own(op);
    }
}

#[cfg(test)]
mod tests {
    use dyad_contract::image::Changed;
    use dyad_units::{EXTENT_BYTES, Extent, Moment, STATE_EXTENT, Stamp};

    use super::{OWN, SOURCE};
    use crate::owner::event::ImageIndex;
    use crate::owner::resync::Run;

    /// M13, M20: broke once (found by a review): a pool that had looked at as many leaves as one answer takes told to go on at
    /// the first extent of the state's leaf, which is none of the segment. That was taken for the end of the list, and the image
    /// joined with an old SCSI state.
    #[test]
    fn a_list_that_goes_on_between_the_last_extent_and_the_state_is_not_at_its_end() {
        let mut run = Run::new(ImageIndex(1), 1, 100 * u64::from(EXTENT_BYTES), Moment::START);
        let first_of_leaf = Extent(STATE_EXTENT.0 - 3);
        run.take_page(SOURCE, &Changed { extents: vec![(Extent(7), Stamp::NEWEST)], next: Some(first_of_leaf) });
        assert!(!run.lists[SOURCE].is_done);
        assert!(run.need.extent(run.lists[SOURCE].from) <= STATE_EXTENT, "asked next");
        assert!(run.need.extent(run.lists[SOURCE].from).is_hidden());
        run.take_page(SOURCE, &Changed { extents: vec![(STATE_EXTENT, Stamp::NEWEST)], next: None });
        assert!(run.lists[SOURCE].is_done);
        run.take_page(OWN, &Changed { extents: Vec::new(), next: None });
        assert!(run.lists[OWN].is_done);
        assert_eq!(run.need.count(), 2);
        assert!(run.need.index(STATE_EXTENT).is_some_and(|index| run.need.contains(index)));
    }
}
