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

use dyad_contract::volume::VolumeError;
use dyad_payload::{BlockSum, Exhausted, Payload, Sums};
use dyad_units::{BLOCK_BYTES, BLOCKS_PER_EXTENT, Extent, FIRST_HIDDEN, Piece, STATE_EXTENT, Span};

use crate::home::{HEAD_BYTES, Home, Mark, Noted, judge, newest, one_sum};
use crate::owner::core::{Core, Work};
use crate::owner::event::Action;
use crate::owner::lock::Range;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::read::first_piece;
use crate::owner::write::piece_data;

/// Blocks that a span touches.
pub(crate) const fn block_count(span: Span) -> u64 {
    let (first, last) = span.blocks();
    last.0 - first.0 + 1
}

impl Noted {
    pub(crate) fn range(self) -> Range {
        Range { first: self.first, last: self.first + self.blocks - 1 }
    }
}

/// How far an atomic write is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// Both homes are read.
    Homes,
    /// What a home's intent is about is read.
    Data,
    /// Replaying: what is in the range is read, as that may say whether the intent was carried out, or not begun.
    Looking,
    /// What is in the range is read, and written again: whatever comes, every image has slots for it then (P15).
    Holding,
    /// Data and intent are written, then flushed.
    Noting,
    /// The range is written, then flushed.
    Applying,
    /// A home without intent is written.
    Clearing,
    /// What is hidden is made nobody's, as no home can be read that says whose it is.
    Voiding,
}

/// An atomic write under way.
#[derive(Clone, Debug)]
pub(crate) struct Atomic {
    pub(super) stage: Stage,
    /// First block of the range.
    pub(super) first: u64,
    /// All blocks of the range.
    pub(super) data: Payload,
    /// The SCSI state, which goes from home to home.
    state: Payload,
    /// Which home is written next, and its turn.
    home: usize,
    turn: u64,
    /// What a home says of it.
    pub(super) noted: Option<Noted>,
    /// Nobody can say any more what was to be written: the blocks become bad, until somebody writes them.
    pub(super) is_bad: bool,
    /// Replaying: a home cannot be read, so none is written.
    pub(super) is_homeless: bool,
    /// Replaying: which of the hidden extents cannot be read, the first one in bit 0.
    pub(super) bad: u8,
    /// Replaying: nobody can tell whether there was one.
    pub(super) is_given_up: bool,
    /// Of what is in the range before any of it is written.
    was: BlockSum,
    /// What a home notes must never count again, as nothing of the range was written, or nobody could carry it out.
    pub(super) must_not_return: bool,
    /// What is answered when the intent is gone, if not that it was carried out.
    outcome: Option<VolumeError>,
}

impl Atomic {
    pub(super) fn new(first: u64, data: Payload) -> Self {
        Self {
            stage: Stage::Homes,
            first,
            data,
            state: Payload::new(),
            home: 0,
            turn: 0,
            noted: None,
            is_bad: false,
            is_homeless: false,
            bad: 0,
            is_given_up: false,
            was: BlockSum::default(),
            must_not_return: false,
            outcome: None,
        }
    }

    fn blocks(&self) -> u64 {
        (self.data.len() / BLOCK_BYTES as usize) as u64
    }

    /// Its range; none: nothing is known of any.
    pub(super) fn range(&self) -> Option<Range> {
        let own = (self.blocks() > 0).then(|| Range { first: self.first, last: self.first + self.blocks() - 1 });
        own.or(self.noted.map(Noted::range))
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
        let is_replay = matches!(op.task, Task::Replay(_));
        if let Some(error) = op.failure.take_if(|error| !matches!(error, VolumeError::Medium { .. })) {
            if is_replay {
                self.intent.asks_anew();
            }
            return self.finish(op, Err(error), out);
        }
        match op.atomic.as_ref().map(|atomic| atomic.stage) {
            Some(Stage::Homes) if is_replay => self.on_homes_of_replay(op, out),
            Some(Stage::Homes) => self.on_homes(op, out),
            Some(Stage::Holding) => self.on_old_data(op, out),
            Some(Stage::Looking) => self.on_range_looked_at(op, out),
            _ => self.on_left_data(op, out),
        }
    }

    /// The homes of a host's write.
    fn on_homes(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match self.take_homes(op) {
            Ok(Mark::Nothing | Mark::TakenBack) => {}
            // One that could not be read when the reign began can be now. It is taken back before anything is noted again: what
            // makes the unflushed home at the end of a write safe is that the newest one never notes anything before it.
            Ok(Mark::Intent(noted)) => {
                self.intent.found(noted.is_valid(self.size).then_some(noted));
                self.work.push_back(Work::Regate);
                return self.finish(op, Err(VolumeError::Busy), out);
            }
            // No byte of the volume is bad: a home is, until the state is written anew.
            Err(_) => return self.finish(op, Err(VolumeError::WriteFault), out),
        }
        if self.intent.is_lost {
            return self.finish(op, Err(VolumeError::NoSpace), out);
        }
        self.stage(op, Stage::Holding);
        let range = op.atomic.as_ref().and_then(|atomic| atomic.range());
        self.read_steps(op, range);
        self.start_reads(op, out);
    }

    /// Lets `op.steps` be reads of these blocks.
    pub(super) fn read_steps(&self, op: &mut Op, range: Option<Range>) {
        op.steps.clear();
        let Some(Range { first, last }) = range else { return };
        let mut next = first;
        while next <= last {
            let piece = first_piece(next, last);
            next += u64::from(piece.count());
            op.steps.push(Step::new(piece, self.members.in_sync));
        }
    }

    /// What is in the range was read: it is written again. Where some of it is bad, nothing keeps a slot for it: a plain write has to
    /// mend it first.
    fn on_old_data(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if let Some(error) = op.failure.take() {
            return self.finish(op, Err(error), out);
        }
        for at in 0..op.steps.len() {
            let (piece, data) = (op.steps[at].piece, std::mem::take(&mut op.steps[at].data));
            let mut step = Step::new(piece, self.targets_of(piece.extent));
            match Sums::of(&data, &self.slab) {
                Ok(sums) => (step.data, step.sums) = (data, Some(sums)),
                Err(Exhausted { .. }) => return self.finish(op, Err(VolumeError::Busy), out),
            }
            op.steps[at] = step;
        }
        let was = one_sum(op.steps.iter().filter_map(|step| step.sums.as_ref()).flat_map(Sums::iter));
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.was = was;
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
    pub(super) fn take_homes(&mut self, op: &mut Op) -> Result<Mark, VolumeError> {
        let homes = [0, 1].map(|at| judge(&op.steps[at].data));
        let newest = newest(homes);
        // One that cannot be read may be the newer one, and both may be torn by what only an administrator can mend.
        let bad = VolumeError::Medium { offset: Piece::whole(STATE_EXTENT).offset() };
        if homes.contains(&Home::Unreadable) {
            return Err(op.failure.take().unwrap_or(bad));
        }
        op.failure = None;
        let (state, mark) = match homes[newest] {
            Home::Kept { len, mark, .. } => (std::mem::take(&mut op.steps[newest].data).slice(HEAD_BYTES, len), mark),
            _ if homes.contains(&Home::Empty) => (Payload::new(), Mark::Nothing),
            _ => return Err(bad),
        };
        let turn = (homes[newest].turn() + 1).max(self.numbers.last().value() + 1);
        if let Some(atomic) = op.atomic.as_mut() {
            (atomic.state, atomic.home, atomic.turn) = (state, 1 - newest, turn);
        }
        Ok(mark)
    }

    pub(super) fn stage(&self, op: &mut Op, stage: Stage) {
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.stage = stage;
        }
    }

    /// Lets `op.steps` be the data in the hidden extents, and the home that says whose they are.
    fn note_steps(&mut self, op: &mut Op) -> Result<(), Exhausted> {
        op.steps.clear();
        let Some(mut atomic) = op.atomic.take() else { return Ok(()) };
        let sums = Sums::of(&atomic.data, &self.slab)?;
        let noted = Noted::new(atomic.first, &atomic.data, &sums, atomic.was);
        let base = Piece::whole(FIRST_HIDDEN).block().0;
        self.data_steps(op, &atomic, base)?;
        let (home, turn) = atomic.turn_home();
        let step = self.home_step(home, turn, &atomic.state, Mark::Intent(noted))?;
        op.steps.push(step);
        atomic.noted = Some(noted);
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
        let is_over = |atomic: &Atomic| atomic.stage == Stage::Clearing && !atomic.must_not_return;
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
            Some(Stage::Voiding) => self.void_or_end(op, out),
            _ => self.start_clearing(op, out),
        }
    }

    /// The intent is durable: from here on the range becomes new, whatever happens.
    pub(super) fn start_applying(&mut self, op: &mut Op, out: &mut Vec<Action>) {
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
        (op.is_aborted, op.failure) = (false, None);
        if op.atomic.as_mut().is_some_and(|atomic| atomic.is_bad && std::mem::take(&mut atomic.is_given_up)) {
            self.tell_given_up(out);
        }
        if op.atomic.as_ref().is_some_and(|atomic| atomic.is_homeless) {
            return self.void_or_end(op, out);
        }
        self.stage(op, Stage::Clearing);
        op.steps.clear();
        let Some(mut atomic) = op.atomic.take() else { return };
        let (home, turn) = atomic.turn_home();
        let mark = if atomic.must_not_return { Mark::TakenBack } else { Mark::Nothing };
        let step = self.home_step(home, turn, &atomic.state, mark);
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
        if op.atomic.as_ref().is_some_and(|atomic| atomic.stage == Stage::Voiding) {
            return self.on_no_space_to_void(op, out);
        }
        let error = op.failure.unwrap_or(if op.is_aborted { VolumeError::Aborted } else { VolumeError::NoSpace });
        let is_noted = op.atomic.as_ref().is_some_and(|atomic| atomic.stage == Stage::Applying);
        if is_noted && op.id.is_some() {
            if let Some(atomic) = op.atomic.as_mut() {
                atomic.outcome = Some(error);
            }
            return self.take_back(op, out);
        }
        // What was noted durably has its slots everywhere, durably (Holding comes before it). Where an image has none, it may not
        // have been, and to wait for a slot might last for ever.
        if is_noted && matches!(op.failure, None | Some(VolumeError::NoSpace)) {
            return self.look_at_range(op, out);
        }
        self.finish(op, Err(error), out);
    }

    /// What a home notes is void: nothing of the range was written.
    pub(super) fn take_back(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if let Some(atomic) = op.atomic.as_mut() {
            atomic.must_not_return = true;
        }
        self.start_clearing(op, out);
    }

    /// No home notes it any more.
    fn end_atomic(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.steps.clear();
        if matches!(op.task, Task::Replay(_)) {
            return self.void_or_end(op, out);
        }
        match op.atomic.take().and_then(|atomic| atomic.outcome) {
            Some(error) => self.finish(op, Err(error), out),
            None => {
                op.is_applied = true;
                self.unlock(op);
                self.answer_change(op, out);
            }
        }
    }
}
