//! What an atomic write left half done (M21): looked for at the beginning of a reign, kept back from everybody until it is carried
//! out or taken back.

use dyad_cluster::OutReason;
use dyad_contract::volume::{VolumeError, VolumeOp};
use dyad_payload::{Exhausted, Payload, Sums};
use dyad_units::{Extent, FIRST_HIDDEN, INTENT_EXTENTS, Moment, Period, Piece, STATE_EXTENT};
use smallvec::SmallVec;

use crate::home::{Mark, Noted, one_sum};
use crate::owner::atomic::{Atomic, Stage};
use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, Note};
use crate::owner::lock::Range;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::status::MirrorState;

/// Before what is left half done is tried again: long enough for an image to leave the set or for slots to become free.
const AGAIN: Period = Period::from_millis(500);

/// Before lost extents are tried again for which there was no slot: space does not become free every moment.
const SLOT_AGAIN: Period = Period::from_secs(5);

/// "DyadVoid".
const VOID: u64 = 0x4479_6164_566f_6964;

/// How long what cannot be read is asked for again: what is only away for a moment, as a disk's path at start-up, comes
/// back by then, and hosts have not given up.
const UNREADABLE_MAX: Period = Period::from_secs(3);

/// Whether an atomic write is left half done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Left {
    /// Not looked at yet in this reign: nobody sees anything.
    #[default]
    Unknown,
    Nothing,
    /// Nobody sees the blocks of this one, nor writes the SCSI state.
    Blocks(Noted),
}

/// The segment's atomic write that is left half done, and when it is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intent {
    left: Left,
    is_under_way: bool,
    at: Option<Moment>,
    /// Since when a home cannot be read, or what one is about.
    unreadable_since: Option<Moment>,
    /// Hidden extents are lost, and there is no slot to write them anew: no atomic write is noted there until there is.
    pub(super) is_lost: bool,
}

impl Intent {
    /// A new reign begins.
    pub(crate) fn begin(&mut self) {
        *self = Self::default();
    }

    /// One came to light amid the reign; none: one that is of no range.
    pub(super) fn found(&mut self, noted: Option<Noted>) {
        *self = Self { left: noted.map_or(Left::Unknown, Left::Blocks), ..Self::default() };
    }

    /// Whether there is something to be done, if only later.
    const fn is_wanted(&self) -> bool {
        self.is_left() || self.is_lost
    }

    /// Whether an atomic write may be half done.
    pub(crate) const fn is_left(&self) -> bool {
        !matches!(self.left, Left::Nothing)
    }

    /// What could not be read was read, or nobody could be asked: the wait for it begins anew.
    pub(super) const fn asks_anew(&mut self) {
        self.unreadable_since = None;
    }

    /// Whether an operation has to wait. The state can be read meanwhile: both homes have the same.
    pub(crate) fn keeps_back(&self, op: &Op) -> bool {
        let Left::Blocks(noted) = self.left else { return self.left == Left::Unknown && op.ranges().next().is_some() };
        let is_look = matches!(op.volume_op(), Some(VolumeOp::ReadState));
        !is_look && op.ranges().any(|range| noted.range().overlaps(range) || Range::HIDDEN.overlaps(range))
    }
}

impl Core {
    /// An operation ends. If it is an atomic write that may be noted, the range is kept back until that is carried out.
    pub(crate) fn keep_back_if_noted(&mut self, op: &mut Op) {
        let atomic = op.atomic.take();
        let is_replay = matches!(op.task, Task::Replay(_));
        let is_sent = !matches!(op.phase, Phase::Reserving | Phase::Releasing);
        if let Some(atomic) = atomic.filter(|atomic| atomic.is_noted() || atomic.stage == Stage::Noting && is_sent) {
            self.intent.left = atomic.noted.map_or(self.intent.left, Left::Blocks);
            self.intent.at = Some(self.now + AGAIN);
        }
        if is_replay {
            (self.intent.is_under_way, self.intent.at) = (false, Some(self.now + AGAIN));
        }
    }

    /// Looks for what is left half done, or does it, as soon as what it needs was compared.
    pub(crate) fn pump_replay(&mut self) {
        let Intent { left, is_under_way, at, .. } = self.intent;
        let is_due = at.is_none_or(|at| at <= self.now);
        if !self.intent.is_wanted() || is_under_way || !is_due || self.state != MirrorState::Serving {
            return;
        }
        let noted = if let Left::Blocks(noted) = left { Some(noted) } else { None };
        let needed = || [Some(Range::HIDDEN), noted.map(Noted::range)].into_iter().flatten();
        if needed().any(|range| self.suspects.touches(range)) {
            self.intent.at = None; // when they are compared
            return needed().for_each(|range| self.suspects.hurry(range));
        }
        (self.intent.is_under_way, self.intent.at) = (true, None);
        self.wanted.push_back(Task::Replay(noted));
    }

    /// When it is tried again.
    pub(crate) fn replay_deadline(&self) -> Option<Moment> {
        self.intent.at.filter(|_| self.intent.is_wanted() && self.state == MirrorState::Serving)
    }

    /// Reads both homes, and of each hidden extent a block: whether it can be read.
    pub(crate) fn start_replay(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.atomic = Some(Box::new(Atomic::new(0, Payload::new())));
        let one = |extent| Piece::new(Extent(extent), 0, 1).expect("within the extent");
        let hidden = (FIRST_HIDDEN.0..STATE_EXTENT.0).map(one);
        op.steps.clear();
        op.steps.extend(Noted::homes().into_iter().chain(hidden).map(|piece| Step::new(piece, self.members.in_sync)));
        self.start_reads(op, out);
    }

    pub(super) fn end_replay(&mut self, op: &mut Op, left: Left) {
        op.atomic = None;
        self.intent = Intent { left, ..Intent::default() };
        self.work.push_back(Work::Regate);
        self.end_own(op);
    }

    pub(super) fn on_homes_of_replay(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let is_bad = |step: &Step| step.data.len() != step.piece.len();
        let bad = op.steps[2..].iter().rev().fold(0, |bad, step| bad << 1 | u8::from(is_bad(step)));
        let found = self.take_homes(op);
        op.failure = None;
        let Task::Replay(known) = op.task else { return };
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.bad, atomic.is_homeless) = (bad, found.is_err());
        }
        let noted = match (found, known) {
            (Ok(Mark::Nothing), _) => return self.void_or_end(op, out),
            (Ok(Mark::TakenBack), _) => return self.confirm(op, out),
            (Ok(Mark::Intent(noted)), _) if !noted.is_valid(self.size) => return self.take_back(op, out),
            (Ok(Mark::Intent(noted)), _) if known != Some(noted) => return self.end_replay(op, Left::Blocks(noted)),
            (Ok(Mark::Intent(noted)), _) | (Err(_), Some(noted)) => noted,
            (Err(_), None) => return self.on_unreadable_home(op, out),
        };
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.stage, atomic.first, atomic.noted) = (Stage::Data, noted.first, Some(noted));
        }
        let first = Range::HIDDEN.first;
        self.read_steps(op, Some(Range { first, last: first + noted.blocks - 1 }));
        self.start_reads(op, out);
    }

    /// Who took it back may have ended before that was durable everywhere. Nobody sees the range before it is.
    fn confirm(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.stage(op, Stage::Voiding);
        op.steps.clear();
        self.start_flush(op, out);
    }

    /// Whether what cannot be read is asked for again.
    fn is_waited_for(&mut self) -> bool {
        let since = *self.intent.unreadable_since.get_or_insert(self.now);
        self.now < since + UNREADABLE_MAX
    }

    /// A home that nobody can read hides whether there is an intent. If it stays so, the state is refused (M20), and the rest is
    /// served. The home may be readable again one day, when others have written to the range: what it was about must not be
    /// there any more.
    fn on_unreadable_home(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if self.is_waited_for() {
            return self.finish(op, Err(VolumeError::Busy), out);
        }
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.is_given_up = true;
        }
        self.void_or_end(op, out);
    }

    /// Nothing is left to be carried out. Where a home cannot be read, the first hidden block becomes nobody's; hidden extents
    /// that cannot be read themselves are written as a whole, as only that heals what was lost (P12).
    pub(super) fn void_or_end(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Some(atomic) = op.atomic.as_mut() else { return };
        let bad = std::mem::take(&mut atomic.bad);
        let mut pieces = SmallVec::<[Piece; INTENT_EXTENTS as usize]>::new();
        if std::mem::take(&mut atomic.is_homeless) {
            let first = Piece::new(FIRST_HIDDEN, 0, 1).expect("within the extent");
            pieces.push(if bad & 1 == 1 { Piece::whole(FIRST_HIDDEN) } else { first });
            atomic.bad = bad & !1; // in the next round, as there may be no slots for them
        } else {
            let is_bad = |at: &u32| bad >> at & 1 == 1;
            pieces.extend((0..INTENT_EXTENTS).filter(is_bad).map(|at| Piece::whole(Extent(FIRST_HIDDEN.0 + at))));
        }
        if pieces.is_empty() {
            if atomic.is_given_up {
                self.tell_given_up(out);
            }
            return self.end_replay(op, Left::Nothing);
        }
        self.stage(op, Stage::Voiding);
        op.steps.clear();
        for piece in pieces {
            match self.void_step(piece) {
                Ok(step) => op.steps.push(step),
                Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
            }
        }
        self.start_space(op, Phase::Applying, out);
    }

    pub(super) fn tell_given_up(&mut self, out: &mut Vec<Action>) {
        self.counters.intents_voided += 1;
        out.push(Action::Note(Note::IntentVoided));
    }

    /// No block of data: numbers are used once (M1).
    fn void_step(&mut self, piece: Piece) -> Result<Step, Exhausted> {
        let mut bytes = self.slab.take(piece.len())?;
        bytes.fill(0);
        bytes[..8].copy_from_slice(&VOID.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.numbers.last().value().to_le_bytes());
        let mut step = Step::new(piece, self.targets_of(piece.extent));
        step.data.push(bytes.freeze());
        step.sums = Some(Sums::of(&step.data, &self.slab)?);
        Ok(step)
    }

    /// An image in sync that has no slot there either never had anything there, as no atomic write was noted since the pool was
    /// made, or has lost it: then it is tried again, as what would be noted there could not be read.
    pub(super) fn on_no_space_to_void(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.failure {
            None | Some(VolumeError::NoSpace) => {
                let is_lost = op.steps.iter().any(|step| step.piece == Piece::whole(step.piece.extent));
                self.end_replay(op, Left::Nothing);
                (self.intent.is_lost, self.intent.at) = (is_lost, Some(self.now + SLOT_AGAIN));
            }
            Some(error) => self.finish(op, Err(error), out),
        }
    }

    /// What was to be written is there, or is not: then power was lost before it was noted, and nothing of the range changed.
    pub(super) fn on_left_data(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Some(noted) = op.atomic.as_ref().and_then(|atomic| atomic.noted) else {
            return self.finish(op, Err(VolumeError::Busy), out);
        };
        if op.failure.take().is_some() {
            return match op.steps.first().is_some_and(|step| noted.is_foreign(&step.data)) {
                true => self.take_back(op, out),
                false => self.look_at_range(op, out),
            };
        }
        self.intent.asks_anew();
        let data = gathered(op);
        match noted.is_of(&data, &self.slab) {
            Ok(true) => {}
            Ok(false) => return self.take_back(op, out),
            Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
        }
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.data = data;
        }
        // Who noted it may have ended before that was durable everywhere: what was read of it may still be in memory only.
        self.stage(op, Stage::Noting);
        self.start_flush(op, out);
    }

    /// What was to be written cannot be read, or there is no slot for it. The range may be whole all the same.
    pub(super) fn look_at_range(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.failure = None;
        self.stage(op, Stage::Looking);
        let range = op.atomic.as_ref().and_then(|atomic| atomic.noted).map(Noted::range);
        self.read_steps(op, range);
        self.start_reads(op, out);
    }

    /// As it was, or as it was to be: nothing is left to be done. Else it may be half new: it waits for a slot. Where no image can
    /// read any more what was to be written, nobody can make it whole.
    pub(super) fn on_range_looked_at(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let is_readable = op.failure.take().is_none();
        let Some(noted) = op.atomic.as_ref().and_then(|atomic| atomic.noted) else {
            return self.finish(op, Err(VolumeError::Busy), out);
        };
        if is_readable {
            let Ok(sums) = Sums::of(&gathered(op), &self.slab) else {
                return self.finish(op, Err(VolumeError::Busy), out);
            };
            let sum = one_sum(sums.iter());
            if sum == noted.was {
                return self.take_back(op, out);
            }
            if sum == noted.sum {
                // It could not be carried out again where others have written to a part of it since.
                if let Some(atomic) = op.atomic.as_mut() {
                    (atomic.stage, atomic.must_not_return) = (Stage::Applying, true);
                }
                return self.start_flush(op, out);
            }
        }
        let is_known = op.atomic.as_ref().is_some_and(|atomic| !atomic.data.is_empty());
        if is_known {
            self.go_on_without_full(op, out);
        }
        if is_known || self.is_waited_for() {
            return self.finish(op, Err(VolumeError::Busy), out);
        }
        let mut data = Payload::new();
        for step in &op.steps {
            match self.slab.take(step.piece.len()) {
                Ok(mut zeros) => {
                    zeros.fill(0);
                    data.push(zeros.freeze());
                }
                Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
            }
        }
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.data, atomic.is_bad, atomic.is_given_up) = (data, true, true);
        }
        self.stage(op, Stage::Noting);
        self.start_flush(op, out);
    }

    /// The range waits for a slot at these images. Where others have one, it does not wait (P15).
    fn go_on_without_full(&mut self, op: &Op, out: &mut Vec<Action>) {
        if !self.members.in_sync.minus(op.full).is_empty() {
            for image in op.full {
                self.fail_image(image, OutReason::NoSpace, out);
            }
        }
    }
}

/// What the steps read, in order.
fn gathered(op: &mut Op) -> Payload {
    let mut data = Payload::new();
    op.steps.iter_mut().for_each(|step| data.append(std::mem::take(&mut step.data)));
    data
}
