//! Resync: an image that was out catches up while hosts go on (M13 to M16). One at a time.
//!
//! ```text
//!  begin ─▶ CAS Resync ─▶ Record (a fresh stream) ─▶ Survey of X ─▶ list: Changed on the source and on X
//!                                                                      │
//!    ┌─────────────────────────────────────────────────────────────────┘
//!    ▼ X notes that it is half copied, then per extent in order, under its lock
//!  examine both ─▶ read what differs ─▶ reserve, mend on X ─▶ Copied{stamp} ─▶ next … ─▶ all copied
//!    │                                                                                       │
//!    │ with every close: Close on X too, then Progress{cursor, k}                            ▼
//!    │                                          X's lease ─▶ Close, Closed, Progress on X ─▶ CAS Join
//!    └ X fails, is too slow, is full: the run ends (CAS: stale); the next goes on from (cursor, k)
//! ```
//!
//! Which writes go to X too (M14): `upto` is the place up to which extents were taken to be copied. An extent before it
//! whose bit in `need` is clear is complete on X, so writes to it have X as a target. All others are still needed, or
//! become so by the write itself; the bit is set under the write's lock, and cleared under the copy's.

mod copy;
mod join;
mod list;
mod need;
mod progress;

use dyad_cluster::{Change, ImageState, OutReason};
use dyad_units::{Extent, Moment, Period, STATE_EXTENT, Stamp};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;
use crate::owner::op::{Op, Task, is_of_state};
use crate::owner::propose::Purpose;
use crate::owner::resync::need::Need;
use crate::owner::status::MirrorState;

/// Pause after an extent could not be copied, or a close with X failed, without fault of X.
const RETRY: Period = Period::from_millis(500);

/// How far a run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// The record does not say so yet, or suspect extents come first: what is suspect is no source (P8).
    Wanted,
    /// The record is proposed.
    Proposed,
    /// All images are told the record, which opens a fresh stream to X (M3).
    Adopting,
    /// X says what it has.
    Surveying,
    /// Both say what changed.
    Listing,
    /// Extents are copied.
    Copying,
    /// Everything is copied; X grants no lease yet.
    AwaitingLease(Moment),
    /// X is needed for all answers; it closes with the set.
    Closing,
    /// X has the set's closed and notes that it is complete.
    Completing,
    /// It may join: the record is to say so.
    Ready,
}

/// Whether X itself says that it is half copied. Whoever finds it without this owner (detached, exported, promoted by force)
/// must not take for a moment's content what is partly of one moment and partly of another (M10).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HalfCopied {
    /// Not yet: it has what it had when it was complete up to this stamp.
    Unsaid(Stamp),
    /// It is noting it.
    Noting,
    /// Durably: its cursor is set.
    Said,
}

/// One run of resync.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) image: ImageIndex,
    pub(crate) stage: Stage,
    /// Names the run: what an earlier one began says nothing to this one.
    life: u64,
    need: Need,
    /// As in the head of this file.
    upto: u32,
    /// X's closed, after forks: at and above the cursor it counts (M13).
    base: Stamp,
    /// k, after forks, and the place below which it counts instead (M15).
    below: (u32, Stamp),
    half_copied: HalfCopied,
    /// How much of the source's and of X's list is there.
    lists: [list::Place; 2],
    /// Places being copied.
    copying: Vec<u32>,
    /// How often the copying began anew with what was set aside for want of space.
    passes: u32,
    /// `done` when this pass began.
    done_before: u64,
    /// After a copy, or a close while it joins, that could not be made.
    retry_at: Option<Moment>,
    /// A close under way with X, and how far the copies were when it began.
    closing: Option<(Stamp, u32)>,
    /// X failed while its joining was being recorded.
    failed: Option<OutReason>,
    began: Moment,
    done: u64,
    sent: u64,
}

impl Run {
    fn new(image: ImageIndex, life: u64, size: u64, now: Moment) -> Self {
        Self {
            image,
            stage: Stage::Wanted,
            life,
            need: Need::none(size),
            upto: 0,
            base: Stamp::NEVER,
            below: (0, Stamp::NEVER),
            half_copied: HalfCopied::Unsaid(Stamp::NEVER),
            lists: [list::Place::default(); 2],
            copying: Vec::new(),
            passes: 0,
            done_before: 0,
            retry_at: None,
            closing: None,
            failed: None,
            began: now,
            done: 0,
            sent: 0,
        }
    }

    /// Whether X was surveyed, so that writes have to be noted.
    pub(crate) fn is_noting(&self) -> bool {
        !matches!(self.stage, Stage::Wanted | Stage::Proposed | Stage::Adopting | Stage::Surveying)
    }

    /// Whether X takes part in closes.
    fn takes_part(&self) -> bool {
        self.is_noting() && self.stage != Stage::Listing
    }

    fn is_joining(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Completing | Stage::Ready)
    }

    /// A write to the extent begins: whether it goes to X, which has the rest of it already. Otherwise it is needed.
    fn takes(&mut self, extent: Extent) -> bool {
        let Some(index) = self.need.index(extent).filter(|_| self.is_noting()) else { return false };
        if index < self.upto && !self.need.contains(index) {
            return true;
        }
        self.need.insert(index);
        false
    }

    /// Everything before this place is complete on X.
    fn complete_below(&self) -> u32 {
        self.need.next(0).unwrap_or(self.need.end()).min(self.upto)
    }

    /// The extent has to be copied (again).
    fn want_again(&mut self, extent: Extent) {
        if let Some(index) = self.need.index(extent) {
            self.need.insert(index);
            self.upto = self.upto.min(index);
        }
    }
}

impl Core {
    /// Lets an image catch up. False: not now.
    pub(crate) fn begin_run(&mut self, image: ImageIndex) -> bool {
        let state = self.members.image_at(image).map(|image| image.state);
        let is_behind = matches!(state, Some(ImageState::Stale | ImageState::Syncing));
        let is_there = !self.members.gone.contains(image) && !self.members.lost.contains(image);
        let is_leaving = self.members.image_at(image).is_some_and(|image| self.ends_run_of(image.id));
        if self.run.is_some() || !is_behind || !is_there || is_leaving || self.state != MirrorState::Serving {
            return false;
        }
        let life = self.next_tag();
        self.run = Some(Run::new(image, life, self.size, self.now));
        true
    }

    fn ends_run_of(&self, id: dyad_units::ImageId) -> bool {
        let is_it = |change: &Change| matches!(change, Change::TakeOut { image, .. } if *image == id);
        self.proposals.run_ends.iter().any(is_it) || self.proposals.purpose() == Some(Purpose::EndRun)
    }

    /// What the run wants recorded now.
    pub(crate) fn resync_change(&mut self) -> Option<(Purpose, Vec<Change>)> {
        let run = self.run.as_mut()?;
        let image = self.members.image_at(run.image)?;
        match run.stage {
            Stage::Wanted if self.suspects.is_empty() && image.state == ImageState::Stale => {
                run.stage = Stage::Proposed;
                Some((Purpose::Resync, vec![Change::Resync { image: image.id }]))
            }
            Stage::Ready => {
                let known = self.incarnations[usize::from(run.image.0)];
                let own = (image.node == self.node).then_some(self.incarnation);
                let incarnation = own.or(known)?;
                Some((Purpose::Join(run.image), vec![Change::Join { image: image.id, incarnation }]))
            }
            _ => None,
        }
    }

    /// A record was adopted: what it means for the run.
    pub(crate) fn check_run(&mut self, out: &mut Vec<Action>) {
        let Some(run) = &mut self.run else { return };
        let image = run.image;
        match self.members.image_at(image).map(|image| image.state) {
            Some(ImageState::Syncing) => {
                if run.stage == Stage::Proposed {
                    run.stage = Stage::Adopting;
                    self.members.syncing = Images::one(image);
                    out.push(Action::Note(Note::ResyncBegan { image }));
                    if let Some(reason) = run.failed.take() {
                        self.fail_syncing(image, reason, out);
                    }
                }
            }
            Some(ImageState::Stale) if matches!(run.stage, Stage::Wanted | Stage::Proposed) => {}
            _ => self.drop_run(),
        }
    }

    /// Goes on with an image that an earlier owner began with: the record says so already.
    pub(crate) fn pump_run(&mut self, out: &mut Vec<Action>) {
        let Some(run) = &mut self.run else { return };
        if self.state != MirrorState::Serving || self.members.is_adopting {
            return;
        }
        if run.stage == Stage::Wanted && self.suspects.is_empty() && !self.proposals.is_under_way() {
            let image = run.image;
            if self.members.image_at(image).is_some_and(|image| image.state == ImageState::Syncing) {
                run.stage = Stage::Adopting;
                self.members.syncing = Images::one(image);
                self.members.is_adopting = true;
                self.wanted.push_back(Task::Record);
                out.push(Action::Note(Note::ResyncBegan { image }));
            }
        }
        self.pump_copies(out);
        self.pump_join(out);
    }

    /// All images keep the newest record: the stream to X is fresh.
    pub(crate) fn on_run_recorded(&mut self) {
        if let Some(run) = self.run.as_mut().filter(|run| run.stage == Stage::Adopting) {
            run.stage = Stage::Surveying;
            self.wanted.push_back(Task::SurveyOf(run.image));
        }
    }

    /// Who gets a write to the extent: the set, and X if it has the rest of the extent (M2, M14). To be asked under
    /// the write's lock.
    pub(crate) fn targets_of(&mut self, extent: Extent) -> Images {
        let takes = self.run.as_mut().is_some_and(|run| run.takes(extent));
        if takes { self.members.writable() } else { self.members.in_sync }
    }

    /// An operation that was under way when the list began may have chosen its targets before (M13).
    pub(crate) fn note_under_way(&mut self, op: &Op) {
        let Some(run) = self.run.as_mut() else { return };
        if op.is_change() {
            let pieces = op.spans().iter().flat_map(|span| span.pieces());
            pieces.for_each(|piece| run.need.add(piece.extent));
        }
        let atomic = op.atomic.iter().flat_map(|atomic| atomic.extents());
        let state = op.volume_op().is_some_and(is_of_state).then_some(STATE_EXTENT);
        atomic.chain(state).for_each(|extent| run.need.add(extent));
    }

    /// A write failed, and X may have it or not: whatever it has, it is not what the set has.
    pub(crate) fn doubt(&mut self, op: &Op, out: &mut Vec<Action>) {
        let Some(run) = &mut self.run else { return };
        let image = run.image;
        let mut doubted = op.steps.iter().filter(|step| step.targets.contains(image)).peekable();
        if doubted.peek().is_none() || !run.takes_part() {
            return;
        }
        if self.proposals.purpose() == Some(Purpose::Join(image)) {
            // X may be in the set already, so whatever is written goes to it too (M7); it leaves as soon as that is known.
            return self.fail_syncing(image, OutReason::WriteFailed, out);
        }
        doubted.for_each(|step| run.want_again(step.piece.extent));
        run.stage = Stage::Copying;
    }

    /// A failed write that X and the set may have differently, while X is perhaps in the set: whoever takes over compares
    /// the range (M9), so the number is not settled before X is out.
    pub(crate) fn is_doubtful(&self, op: &Op, at: usize) -> bool {
        let Some(run) = &self.run else { return false };
        let is_joining = self.proposals.purpose() == Some(Purpose::Join(run.image));
        is_joining && op.failure.is_some() && op.steps[at].targets.contains(run.image)
    }

    /// X is out, or back to catching up: what it may have differently is no matter of the set's.
    pub(crate) fn settle_doubted(&mut self) {
        for number in std::mem::take(&mut self.doubted) {
            self.numbers.settle(number);
        }
    }

    /// X cannot follow: the run ends, hosts wait for it no longer.
    pub(crate) fn fail_syncing(&mut self, image: ImageIndex, reason: OutReason, out: &mut Vec<Action>) {
        let is_joining = self.proposals.purpose() == Some(Purpose::Join(image));
        let Some(run) = self.run.as_mut().filter(|run| run.image == image) else { return };
        if is_joining || run.stage == Stage::Proposed {
            // Nobody knows whether the record names it: it is waited for until somebody does (M7).
            run.failed.get_or_insert(reason);
            return;
        }
        out.push(Action::Note(Note::ResyncEnded { image, reason }));
        let record = self.members.image_at(image).filter(|image| image.state == ImageState::Syncing);
        if let Some(id) = record.map(|image| image.id) {
            self.proposals.run_ends.push(Change::TakeOut { image: id, reason });
        }
        self.drop_run();
    }

    /// The run ends here without a word in the record: another owner, or a later start, goes on.
    pub(crate) fn forget_run(&mut self) {
        let is_proposed = matches!(self.proposals.purpose(), Some(Purpose::Join(_) | Purpose::Resync));
        if !is_proposed {
            self.drop_run();
        }
    }

    fn drop_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.members.syncing = Images::NONE;
            self.credits.forget(run.image);
            self.work.push_back(Work::Drop(Images::one(run.image)));
        }
    }
}
