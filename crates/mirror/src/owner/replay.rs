//! What an atomic write left half done (M21): looked for at the beginning of a reign, kept back from everybody until it is carried
//! out or taken back.

use dyad_contract::volume::{VolumeError, VolumeOp};
use dyad_payload::{Exhausted, Payload, Sums};
use dyad_units::{BLOCK_BYTES, FIRST_HIDDEN, Moment, Period, Piece};

use crate::owner::atomic::{Atomic, Stage};
use crate::owner::core::{Core, Work};
use crate::owner::event::Action;
use crate::owner::lock::Range;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::status::MirrorState;

/// Before what is left half done is tried again: long enough for an image to leave the set or for slots to become free.
const AGAIN: Period = Period::from_millis(500);

/// "DyadVoid".
const VOID: u64 = 0x4479_6164_566f_6964;

/// Whether an atomic write is left half done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Left {
    /// Not looked at yet in this reign: nobody sees anything.
    #[default]
    Unknown,
    Nothing,
    /// Nobody sees these blocks, nor the SCSI state.
    Blocks(Range),
}

/// The segment's atomic write that is left half done, and when it is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intent {
    left: Left,
    is_under_way: bool,
    at: Option<Moment>,
}

impl Intent {
    /// A new reign begins.
    pub(crate) fn begin(&mut self) {
        *self = Self::default();
    }

    /// Whether an atomic write may be half done.
    pub(crate) fn is_left(&self) -> bool {
        self.left != Left::Nothing
    }

    /// Whether an operation has to wait. The state can be read meanwhile: both homes have the same.
    pub(crate) fn keeps_back(&self, op: &Op) -> bool {
        let Left::Blocks(left) = self.left else { return self.left == Left::Unknown && op.ranges().next().is_some() };
        let is_look = matches!(op.volume_op(), Some(VolumeOp::ReadState));
        !is_look && op.ranges().any(|range| left.overlaps(range) || Range::HIDDEN.overlaps(range))
    }
}

impl Core {
    /// An operation ends. If it is an atomic write that may be noted, the range is kept back until that is carried out.
    pub(crate) fn keep_back_if_noted(&mut self, op: &mut Op) {
        let atomic = op.atomic.take();
        let is_replay = matches!(op.task, Task::Replay(_));
        let is_sent = !matches!(op.phase, Phase::Reserving | Phase::Releasing);
        let may_be_noted = |atomic: &Box<Atomic>| atomic.is_noted() || atomic.stage == Stage::Noting && is_sent;
        if let Some(range) = atomic.filter(may_be_noted).and_then(|atomic| atomic.range()) {
            self.intent.left = Left::Blocks(range);
            self.intent.at = Some(self.now + AGAIN);
        }
        if is_replay {
            (self.intent.is_under_way, self.intent.at) = (false, Some(self.now + AGAIN));
        }
    }

    /// Looks for what is left half done, or does it, as soon as what it needs was compared.
    pub(crate) fn pump_replay(&mut self) {
        let Intent { left, is_under_way, at } = self.intent;
        let is_due = at.is_none_or(|at| at <= self.now);
        if left == Left::Nothing || is_under_way || !is_due || self.state != MirrorState::Serving {
            return;
        }
        let range = if let Left::Blocks(range) = left { Some(range) } else { None };
        let needed = || [Some(Range::HIDDEN), range].into_iter().flatten();
        if needed().any(|range| self.suspects.touches(range)) {
            self.intent.at = None; // when they are compared
            return needed().for_each(|range| self.suspects.hurry(range));
        }
        (self.intent.is_under_way, self.intent.at) = (true, None);
        self.wanted.push_back(Task::Replay(range));
    }

    /// When it is tried again.
    pub(crate) fn replay_deadline(&self) -> Option<Moment> {
        self.intent.at.filter(|_| self.intent.left != Left::Nothing && self.state == MirrorState::Serving)
    }

    pub(crate) fn start_replay(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.atomic = Some(Box::new(Atomic::new(0, Payload::new())));
        self.start_state(op, out);
    }

    pub(super) fn end_replay(&mut self, op: &mut Op, left: Left) {
        op.atomic = None;
        self.intent = Intent { left, ..Intent::default() };
        self.work.push_back(Work::Regate);
        self.end_own(op);
    }

    pub(super) fn on_homes_of_replay(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Ok(noted) = self.take_homes(op) else { return self.start_voiding(op, out) };
        let Some(noted) = noted else { return self.end_replay(op, Left::Nothing) };
        if !noted.is_valid(self.size) {
            return self.take_back(op, out);
        }
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.noted = Some(noted);
        }
        let Task::Replay(Some(range)) = op.task else { return self.end_replay(op, Left::Blocks(noted.range())) };
        if range != noted.range() {
            return self.end_replay(op, Left::Blocks(noted.range()));
        }
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.stage, atomic.first) = (Stage::Data, noted.first);
        }
        let first = Range::HIDDEN.first;
        self.read_steps(op, Some(Range { first, last: first + noted.blocks - 1 }));
        self.start_reads(op, out);
    }

    /// A home that nobody can read hides whether there is an intent: the state is refused (M20), the rest is served. The home may
    /// be readable again one day, when others have written to the range: what it was about must not be there any more.
    fn start_voiding(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.stage(op, Stage::Voiding);
        let Ok(mut block) = self.slab.take(BLOCK_BYTES as usize) else {
            return self.finish(op, Err(VolumeError::Busy), out);
        };
        // No block of data: numbers are used once (M1).
        block.fill(0);
        block[..8].copy_from_slice(&VOID.to_le_bytes());
        block[8..16].copy_from_slice(&self.numbers.last().value().to_le_bytes());
        let piece = Piece::new(FIRST_HIDDEN, 0, 1).expect("within the extent");
        let mut step = Step::new(piece, self.targets_of(FIRST_HIDDEN));
        step.data.push(block.freeze());
        let Ok(sums) = Sums::of(&step.data, &self.slab) else {
            return self.finish(op, Err(VolumeError::Busy), out);
        };
        step.sums = Some(sums);
        op.steps.clear();
        op.steps.push(step);
        self.start_space(op, Phase::Applying, out);
    }

    /// An image in sync that has no slot there never had anything there: no atomic write was noted since the pool was made.
    pub(crate) fn on_no_space_to_void(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.failure {
            None | Some(VolumeError::NoSpace) => self.end_replay(op, Left::Nothing),
            Some(error) => self.finish(op, Err(error), out),
        }
    }

    /// What was to be written is there, or is not: then power was lost before it was noted, and nothing of the range changed.
    /// Where no image can read it any more, the range may be half new, and nobody can make it whole.
    pub(super) fn on_left_data(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let is_readable = op.failure.take().is_none();
        let mut data = Payload::new();
        for step in &mut op.steps {
            let read = std::mem::take(&mut step.data);
            if is_readable {
                data.append(read);
                continue;
            }
            match self.slab.take(step.piece.len()) {
                Ok(mut zeros) => {
                    zeros.fill(0);
                    data.push(zeros.freeze());
                }
                Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
            }
        }
        let Some(noted) = op.atomic.as_ref().and_then(|atomic| atomic.noted) else {
            return self.finish(op, Err(VolumeError::Busy), out);
        };
        if is_readable {
            match noted.is_of(&data, &self.slab) {
                Ok(true) => {}
                Ok(false) => return self.take_back(op, out),
                Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
            }
        }
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.data, atomic.is_bad) = (data, !is_readable);
        }
        op.has_effect = true;
        self.start_applying(op, out);
    }
}
