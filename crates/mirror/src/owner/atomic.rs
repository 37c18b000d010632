//! Atomic writes (M21): whatever fails meanwhile, all of the range is new afterwards or none.
//!
//! Before anything of the range changes, what is to be written lies durably on every in-sync image, in extents that are not
//! the host's, and the home of the SCSI state that is written with it (M20) says where it belongs: the intent. Whoever
//! serves next reads the homes first. Where they hold an intent, it is carried out before anybody sees the range.
//!
//! ```text
//!  partial blocks read ─▶ homes read ─▶ data and intent ─▶ flush ─▶ range ─▶ flush ─▶ home without it ─▶ answer
//!                                       │ none of the range changed │ some of it may have    │
//!   a crash here leaves the old range ──┘                           └── is done again by whoever serves next
//! ```
//!
//! What is in the range is written again before: every extent of it has its slot at every image then, and no full pool keeps
//! what was noted from being carried out (P15).
//!
//! Range and hidden extents are locked (M2) until the intent is gone: what others write to the range later is never
//! written over again. Where that cannot be done at once, as when the last image fails amid it, the range is kept back,
//! as one that a crash left suspect is, and it is tried again.

use dyad_contract::volume::{ATOMIC_BLOCKS_MAX, VolumeError, VolumeOp};
use dyad_payload::{BlockSum, Exhausted, Payload, Sums};
use dyad_units::{BLOCK_BYTES, BLOCKS_PER_EXTENT, Extent, FIRST_HIDDEN, Moment, Period, Piece, STATE_EXTENT, Span};

use crate::owner::core::{Core, Work};
use crate::owner::event::Action;
use crate::owner::lock::Range;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::read::first_piece;
use crate::owner::state::{HEAD_BYTES, Home, judge};
use crate::owner::status::MirrorState;
use crate::owner::write::piece_data;

/// Before what is left half done is tried again: long enough for an image to leave the set or for slots to become free.
const AGAIN: Period = Period::from_millis(500);

/// Blocks that a span touches.
pub(crate) const fn block_count(span: Span) -> u64 {
    let (first, last) = span.blocks();
    last.0 - first.0 + 1
}

/// What a home says of an atomic write that may be half done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Noted {
    pub(crate) first: u64,
    pub(crate) blocks: u64,
    /// Of the data in the hidden extents: those of another write, or a part of them, are no intent.
    pub(crate) sum: BlockSum,
}

impl Noted {
    fn range(self) -> Range {
        Range { first: self.first, last: self.first + self.blocks - 1 }
    }
}

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

    /// Whether an operation has to wait. The state can be read meanwhile: both homes have the same.
    pub(crate) fn keeps_back(&self, op: &Op) -> bool {
        let Left::Blocks(left) = self.left else { return self.left == Left::Unknown && op.ranges().next().is_some() };
        let is_look = matches!(op.volume_op(), Some(VolumeOp::ReadState));
        !is_look && op.ranges().any(|range| left.overlaps(range) || Range::HIDDEN.overlaps(range))
    }
}

/// How far an atomic write is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Both homes are read.
    Homes,
    /// What a home's intent is about is read.
    Data,
    /// What is in the range is read, and written again: whatever comes, every image has slots for it then (P15).
    Holding,
    /// Data and intent are written, then flushed.
    Noting,
    /// The range is written, then flushed.
    Applying,
    /// A home without intent is written.
    Clearing,
}

/// An atomic write under way.
#[derive(Clone, Debug)]
pub(crate) struct Atomic {
    stage: Stage,
    /// First block of the range.
    first: u64,
    /// All blocks of the range.
    data: Payload,
    /// The SCSI state, which goes from home to home.
    state: Payload,
    /// Which home is written next, and its turn.
    home: usize,
    turn: u64,
    /// Replaying: what a home says of it.
    noted: Option<Noted>,
    /// Nobody can say any more what was to be written: the blocks become bad, until somebody writes them.
    is_bad: bool,
    /// Nothing of the range was written.
    is_taken_back: bool,
    /// What is answered when the intent is gone, if not that it was carried out.
    outcome: Option<VolumeError>,
}

impl Atomic {
    fn new(first: u64, data: Payload) -> Self {
        Self {
            stage: Stage::Homes,
            first,
            data,
            state: Payload::new(),
            home: 0,
            turn: 0,
            noted: None,
            is_bad: false,
            is_taken_back: false,
            outcome: None,
        }
    }

    fn blocks(&self) -> u64 {
        (self.data.len() / BLOCK_BYTES as usize) as u64
    }

    /// Its range; none: nothing is known of any.
    fn range(&self) -> Option<Range> {
        let own = Noted { first: self.first, blocks: self.blocks(), sum: BlockSum::default() };
        let known = if own.blocks > 0 { Some(own) } else { self.noted };
        known.map(Noted::range)
    }

    /// Whether what it writes now matches no sum on purpose.
    pub(crate) fn mends(&self) -> bool {
        self.is_bad && self.stage == Stage::Applying
    }

    /// Whether a home says durably what it is about to do, or may say so.
    pub(crate) fn is_noted(&self) -> bool {
        matches!(self.stage, Stage::Applying | Stage::Clearing)
    }

    /// Whatever it may be writing: an image that catches up needs it (M13).
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> + use<> {
        let per_extent = u64::from(BLOCKS_PER_EXTENT);
        let own = self.range().map(|range| (range.first / per_extent) as u32..=(range.last / per_extent) as u32);
        own.into_iter().flatten().chain(FIRST_HIDDEN.0..=STATE_EXTENT.0).map(Extent)
    }

    /// Takes the next home in turn.
    fn turn_home(&mut self) -> (usize, u64) {
        let taken = (self.home, self.turn);
        (self.home, self.turn) = (1 - self.home, self.turn + 1);
        taken
    }
}

const _: () = assert!(ATOMIC_BLOCKS_MAX * 8 <= BLOCK_BYTES as u64, "the sums of all blocks fit one");

/// One sum for all of them.
fn sum_of(sums: &Sums) -> BlockSum {
    let mut block = [0; BLOCK_BYTES as usize];
    for (to, sum) in block.chunks_exact_mut(8).zip(sums.iter()) {
        to.copy_from_slice(&sum.0.to_le_bytes());
    }
    BlockSum::of(&block)
}

impl Core {
    /// The lock is granted and partial blocks are merged: everything that will be written is known.
    pub(crate) fn start_atomic(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let (first, last) = op.span().blocks();
        let (mut next, mut data) = (first.0, Payload::new());
        while next <= last.0 {
            let piece = first_piece(next, last.0);
            data.append(piece_data(op, piece));
            next += u64::from(piece.count());
        }
        (op.head, op.tail) = (None, None);
        op.atomic = Some(Box::new(Atomic::new(first.0, data)));
        self.start_state(op, out);
    }

    /// Homes or data were read, or cannot be.
    pub(crate) fn on_atomic_read(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if let Some(error) = op.failure.take_if(|error| !matches!(error, VolumeError::Medium { .. })) {
            return self.finish(op, Err(error), out);
        }
        let is_replay = matches!(op.task, Task::Replay(_));
        match op.atomic.as_ref().map(|atomic| atomic.stage) {
            Some(Stage::Homes) if is_replay => self.on_homes_of_replay(op, out),
            Some(Stage::Homes) => self.on_homes(op, out),
            Some(Stage::Holding) => self.on_old_data(op, out),
            _ => self.on_left_data(op, out),
        }
    }

    /// The homes of a host's write.
    fn on_homes(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if self.take_homes(op).is_err() {
            // No byte of the volume is bad: a home is, until the state is written anew.
            return self.finish(op, Err(VolumeError::WriteFault), out);
        }
        self.stage(op, Stage::Holding);
        let range = op.atomic.as_ref().and_then(|atomic| atomic.range());
        self.read_steps(op, range);
        self.start_reads(op, out);
    }

    /// Lets `op.steps` be reads of these blocks.
    fn read_steps(&self, op: &mut Op, range: Option<Range>) {
        op.steps.clear();
        let Some(Range { first, last }) = range else { return };
        let mut next = first;
        while next <= last {
            let piece = first_piece(next, last);
            next += u64::from(piece.count());
            op.steps.push(Step::new(piece, self.members.in_sync));
        }
    }

    /// What is in the range was read: it is written again. Where it is bad it has its slot.
    fn on_old_data(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.failure = None;
        op.steps.retain(|step| step.data.len() == step.piece.len());
        for at in 0..op.steps.len() {
            let (piece, data) = (op.steps[at].piece, std::mem::take(&mut op.steps[at].data));
            let mut step = Step::new(piece, self.targets_of(piece.extent));
            match Sums::of(&data, &self.slab) {
                Ok(sums) => (step.data, step.sums) = (data, Some(sums)),
                Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
            }
            op.steps[at] = step;
        }
        if op.steps.is_empty() {
            return self.start_noting(op, out);
        }
        self.start_space(op, Phase::Applying, out);
    }

    fn start_noting(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match self.note_steps(op) {
            Ok(()) => {
                self.stage(op, Stage::Noting);
                self.start_space(op, Phase::Applying, out);
            }
            Err(Exhausted { .. }) => self.finish(op, Err(VolumeError::Busy), out),
        }
    }

    /// Keeps the SCSI state that was read, and which home comes next. What the newest home notes.
    fn take_homes(&mut self, op: &mut Op) -> Result<Option<Noted>, VolumeError> {
        let homes = [0, 1].map(|at| judge(&op.steps[at].data));
        let newest = usize::from(homes[1].turn() > homes[0].turn());
        // One that cannot be read may be the newer one, and both may be torn by what only an administrator can mend.
        if let Some(error) = op.failure.take() {
            return Err(error);
        }
        let (state, noted) = match homes[newest] {
            Home::Kept { len, noted, .. } => (std::mem::take(&mut op.steps[newest].data).slice(HEAD_BYTES, len), noted),
            _ if homes.contains(&Home::Empty) => (Payload::new(), None),
            _ => return Err(VolumeError::Medium { offset: Piece::whole(STATE_EXTENT).offset() }),
        };
        let turn = (homes[newest].turn() + 1).max(self.numbers.last().value() + 1);
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.state, atomic.home, atomic.turn) = (state, 1 - newest, turn);
        }
        Ok(noted)
    }

    fn stage(&self, op: &mut Op, stage: Stage) {
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.stage = stage;
        }
    }

    /// Lets `op.steps` be the data in the hidden extents, and the home that says whose they are.
    fn note_steps(&mut self, op: &mut Op) -> Result<(), Exhausted> {
        op.steps.clear();
        let Some(mut atomic) = op.atomic.take() else { return Ok(()) };
        let sums = Sums::of(&atomic.data, &self.slab)?;
        let noted = Noted { first: atomic.first, blocks: atomic.blocks(), sum: sum_of(&sums) };
        let base = Piece::whole(FIRST_HIDDEN).block().0;
        self.data_steps(op, &atomic, base)?;
        let (home, turn) = atomic.turn_home();
        let step = self.home_step(home, turn, &atomic.state, Some(noted))?;
        op.steps.push(step);
        op.atomic = Some(atomic);
        Ok(())
    }

    /// Adds the data as steps, from a block on.
    fn data_steps(&mut self, op: &mut Op, atomic: &Atomic, base: u64) -> Result<(), Exhausted> {
        let last = base + atomic.blocks() - 1;
        let mut next = base;
        while next <= last {
            let piece = first_piece(next, last);
            let mut step = Step::new(piece, self.targets_of(piece.extent));
            step.data = atomic.data.slice(((next - base) * u64::from(BLOCK_BYTES)) as usize, piece.len());
            let sums = if atomic.is_bad { Sums::unmatched } else { Sums::of };
            step.sums = Some(sums(&step.data, &self.slab)?);
            next += u64::from(piece.count());
            op.steps.push(step);
        }
        Ok(())
    }

    /// Every target has the steps of the stage.
    pub(crate) fn on_atomic_applied(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        // An intent that is taken back must never come again (M19); one that was carried out may, until somebody writes
        // there durably, and so makes it durable that it is gone.
        if op.atomic.as_ref().is_some_and(|atomic| atomic.stage == Stage::Holding) {
            return self.start_noting(op, out);
        }
        let is_over = |atomic: &Atomic| atomic.stage == Stage::Clearing && !atomic.is_taken_back;
        if op.atomic.as_deref().is_some_and(is_over) {
            self.end_atomic(op, out);
        } else {
            self.start_flush(op, out);
        }
    }

    /// And every target has made them durable.
    pub(crate) fn on_atomic_flushed(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.atomic.as_ref().map(|atomic| atomic.stage) {
            Some(Stage::Noting) => self.start_applying(op, out),
            Some(Stage::Clearing) => self.end_atomic(op, out),
            _ => self.start_clearing(op, out),
        }
    }

    /// The intent is durable: from here on the range becomes new, whatever happens.
    fn start_applying(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.stage(op, Stage::Applying);
        op.is_aborted = false;
        op.steps.clear();
        let Some(atomic) = op.atomic.take() else { return };
        let steps = self.data_steps(op, &atomic, atomic.first);
        let phase = if atomic.mends() { Phase::Mending } else { Phase::Applying };
        op.atomic = Some(atomic);
        match steps {
            Ok(()) => self.start_space(op, phase, out),
            Err(Exhausted { .. }) => self.finish(op, Err(VolumeError::Busy), out),
        }
    }

    fn start_clearing(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.stage(op, Stage::Clearing);
        (op.is_aborted, op.failure) = (false, None);
        op.steps.clear();
        let Some(mut atomic) = op.atomic.take() else { return };
        let (home, turn) = atomic.turn_home();
        let step = self.home_step(home, turn, &atomic.state, None);
        op.atomic = Some(atomic);
        match step {
            Ok(step) => {
                op.steps.push(step);
                self.start_space(op, Phase::Applying, out);
            }
            Err(Exhausted { .. }) => self.finish(op, Err(VolumeError::Busy), out),
        }
    }

    /// P15: there is no slot for the steps of the stage, and none of them was written.
    pub(crate) fn on_no_space_for_atomic(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let error = op.failure.unwrap_or(if op.is_aborted { VolumeError::Aborted } else { VolumeError::NoSpace });
        let is_noted = op.atomic.as_ref().is_some_and(|atomic| atomic.stage == Stage::Applying);
        if op.id.is_some() && is_noted {
            // Nothing of the range has changed, so the intent can be taken back.
            if let Some(atomic) = op.atomic.as_mut() {
                (atomic.outcome, atomic.is_taken_back) = (Some(error), true);
            }
            return self.start_clearing(op, out);
        }
        self.finish(op, Err(error), out);
    }

    /// What a home notes is void: nothing of the range was written.
    fn take_back(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.is_taken_back = true;
        }
        self.start_clearing(op, out);
    }

    /// No home notes it any more.
    fn end_atomic(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.steps.clear();
        let outcome = op.atomic.take().and_then(|atomic| atomic.outcome);
        if matches!(op.task, Task::Replay(_)) {
            return self.end_replay(op, Left::Nothing);
        }
        match outcome {
            Some(error) => self.finish(op, Err(error), out),
            None => {
                op.is_applied = true;
                self.unlock(op);
                self.answer_change(op, out);
            }
        }
    }

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

    fn end_replay(&mut self, op: &mut Op, left: Left) {
        op.atomic = None;
        self.intent = Intent { left, ..Intent::default() };
        self.work.push_back(Work::Regate);
        self.end_own(op);
    }

    fn on_homes_of_replay(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        // Homes that nobody can read any more hide whether there was one: the state is refused (M20), the rest is served.
        let noted = self.take_homes(op).unwrap_or(None);
        let is_valid = |noted: &Noted| {
            let end = noted.first.checked_add(noted.blocks).and_then(|end| end.checked_mul(u64::from(BLOCK_BYTES)));
            let fits = noted.blocks > 0 && noted.blocks <= ATOMIC_BLOCKS_MAX;
            fits && end.is_some_and(|end| end <= self.size.next_multiple_of(u64::from(BLOCK_BYTES)))
        };
        let Some(noted) = noted else { return self.end_replay(op, Left::Nothing) };
        if !is_valid(&noted) {
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

    /// What was to be written is there, or is not: then power was lost before it was noted, and nothing of the range changed.
    /// Where no image can read it any more, the range may be half new, and nobody can make it whole.
    fn on_left_data(&mut self, op: &mut Op, out: &mut Vec<Action>) {
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
        let sums = match Sums::of(&data, &self.slab) {
            Ok(sums) => sums,
            Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
        };
        if is_readable && sum_of(&sums) != noted.sum {
            return self.take_back(op, out);
        }
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.data, atomic.is_bad) = (data, !is_readable);
        }
        op.has_effect = true;
        self.start_applying(op, out);
    }
}
