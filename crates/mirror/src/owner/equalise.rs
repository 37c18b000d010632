//! Making extents equal that a crash left suspect (P8, M9, M11).
//!
//! ```text
//!  lock ─▶ examine on all ─▶ choose per block ─▶ adopt ─▶ fetch ─▶ reserve ─▶ mend ─▶ settle on all ─▶ unlock
//! ```
//!
//! Two others go the same way: heals (P14), and copies to an image that catches up (M14), which end with the source's
//! stamp instead.
//!
//! Whatever fails on the way leaves the extent suspect; it is compared again a little later. Everything is
//! idempotent, so a crash in the middle only starts it again.

use dyad_cluster::OutReason;
use dyad_contract::image::Examined;
use dyad_payload::{Exhausted, Sums};
use dyad_units::{Extent, Period, Piece};

use crate::owner::choose::{Choice, Verdict, choose, choose_copy, choose_heal};
use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;
use crate::owner::op::{Equalise, Kind, Op, Phase, Step, Task};
use crate::owner::status::{Counters, MirrorState};

/// Extents compared at once in the ordinary order, so that hosts come first.
const WINDOW: usize = 4;
/// Extents compared at once when operations wait for them.
const WINDOW_URGENT: usize = 16;
/// Pause after an extent could not be compared.
const RETRY: Period = Period::from_millis(500);

impl Core {
    /// Begins comparing more extents.
    pub(crate) fn pump_suspects(&mut self) {
        // Taken even if nothing can be begun now: whatever is in the way goes on here when it is over.
        self.timers.equalise_at.take_if(|at| *at <= self.now);
        // Settling without one that the record still names in sync would hide from the next owner that it differs.
        let is_held_up = self.members.is_adopting || !self.members.failing.is_empty();
        let is_paused = self.timers.equalise_at.is_some();
        if self.suspects.is_empty() || self.state != MirrorState::Serving || is_held_up || is_paused {
            return;
        }
        loop {
            let window = if self.suspects.is_urgent() { WINDOW_URGENT } else { WINDOW };
            if self.suspects.under_way() >= window {
                return;
            }
            let Some(extent) = self.suspects.take() else { return };
            self.wanted.push_back(Task::Equalise(Box::new(Equalise::new(extent, Kind::Crash))));
        }
    }

    pub(crate) fn start_examine(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Task::Equalise(equalise) = &op.task else { return };
        let (extent, kind, asks_all) = (equalise.extent, equalise.kind, equalise.asks_all);
        let targets = match kind {
            Kind::Crash => self.members.in_sync,
            Kind::Heal => {
                self.begin_heal(extent);
                self.members.in_sync
            }
            Kind::Copy { image, .. } if self.run_of(op).is_some() => {
                let sources = self.members.readable().minus(self.members.gone);
                let nearest = self.members.nearest(sources).map_or(Images::NONE, Images::one);
                (if asks_all { sources } else { nearest }).with(image)
            }
            Kind::Copy { .. } => return self.end_own(op),
        };
        self.begin(op, Phase::Examining);
        op.steps.clear();
        op.steps.push(Step::new(Piece::whole(extent), targets));
        self.send_all(op, out);
    }

    /// One image said what it has.
    pub(crate) fn on_found(&mut self, op: &mut Op, image: ImageIndex, found: Box<Examined>, out: &mut Vec<Action>) {
        if let Task::Equalise(equalise) = &mut op.task {
            equalise.found[usize::from(image.0)] = Some(found);
        }
        self.done(op, 0, image, out);
    }

    /// Every image said what it has.
    pub(crate) fn on_examined(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let (readable, asked) = (self.members.readable(), op.steps.first().map_or(Images::NONE, |step| step.targets));
        let Task::Equalise(equalise) = &mut op.task else { return };
        let is_copy = matches!(equalise.kind, Kind::Copy { .. });
        let wanted = if is_copy { asked } else { readable };
        let found = equalise.found.iter().enumerate();
        let found = found.filter_map(|(at, found)| Some((ImageIndex(at as u8), found.as_deref()?)));
        let found = found.filter(|(image, _)| wanted.contains(*image));
        // Without every image's word nothing may be settled.
        let is_whole = found.clone().count() as u32 == wanted.count() && (is_copy || self.members.failing.is_empty());
        if op.failure.is_some() || !is_whole {
            return self.give_up(op);
        }
        let mut choices: Vec<(Piece, Choice)> = Vec::new();
        for at in 0..64_u8 {
            let (found, at) = (found.clone(), usize::from(at));
            let choice = match equalise.kind {
                Kind::Crash => choose(found, at),
                Kind::Heal => choose_heal(found, at),
                Kind::Copy { image, .. } => {
                    let Some(copy) = equalise.found[usize::from(image.0)].as_deref() else { return self.give_up(op) };
                    choose_copy(found.filter(|(source, _)| *source != image), (image, copy), at)
                }
            };
            let at = at as u8;
            match choices.last_mut() {
                Some((piece, last)) if *last == choice => {
                    *piece = Piece::new(piece.extent, piece.first(), piece.count() + 1).expect("within the extent");
                }
                _ => choices.push((Piece::new(equalise.extent, at, 1).expect("within the extent"), choice)),
            }
        }
        let is_hopeless = choices.iter().any(|(_, choice)| choice.verdict == Verdict::Hopeless);
        if is_copy && is_hopeless && !std::mem::replace(&mut equalise.asks_all, true) {
            return self.start_examine(op, out); // another image may have what this source has not
        }
        equalise.choices = choices;
        self.start_adopt(op, out);
    }

    fn start_adopt(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.fill_steps(op, |choice| match choice.verdict {
            Verdict::Adopt(image) => Some(Images::one(image)),
            _ => None,
        });
        self.begin(op, Phase::Adopting);
        self.send_all(op, out);
    }

    /// What is believed is believed; now fetch what others need.
    pub(crate) fn on_adopted(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if op.failure.is_some() {
            return self.give_up(op);
        }
        self.counters.adopted += op.steps.iter().map(|step| u64::from(step.piece.count())).sum::<u64>();
        self.fill_steps(op, |choice| match choice.verdict {
            Verdict::Adopt(image) | Verdict::Data(image) if !choice.mend.is_empty() => Some(Images::one(image)),
            _ => None,
        });
        if op.steps.is_empty() {
            self.on_fetched(op, out);
        } else {
            self.start_reads(op, out);
        }
    }

    /// The right data is here: give it to the images that differ.
    pub(crate) fn on_fetched(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if op.failure.is_some() {
            return self.give_up(op);
        }
        let Task::Equalise(equalise) = &op.task else { return };
        for step in &mut op.steps {
            let choice = equalise.choices.iter().find(|(piece, _)| *piece == step.piece);
            step.targets = choice.map_or(Images::NONE, |(_, choice)| choice.mend);
            match Sums::of(&step.data, &self.slab) {
                Ok(sums) => step.sums = Some(sums),
                Err(_) => return self.give_up(op),
            }
        }
        if is_copy(op) {
            match self.bad_steps(op) {
                Ok(bad) => {
                    let blocks = bad.iter().map(|step| u32::from(step.piece.count())).sum();
                    op.steps.extend(bad);
                    self.on_hopeless(blocks, out);
                }
                Err(Exhausted { .. }) => return self.give_up(op),
            }
        }
        let Task::Equalise(equalise) = &op.task else { return };
        let unwritten = equalise.choices.iter().filter(|(_, choice)| choice.verdict == Verdict::Unwritten);
        for (piece, choice) in unwritten {
            let mut step = Step::new(*piece, choice.mend);
            step.is_unmap = true;
            op.steps.push(step);
        }
        if !op.steps.is_empty() {
            self.start_mend_space(op, out);
        } else if is_heal(op) {
            self.end_own(op);
        } else {
            self.start_settle(op, out);
        }
    }

    /// Blocks that no image has: the copy keeps zeros for them that match no sum, so that reading them fails (M15).
    fn bad_steps(&self, op: &Op) -> Result<Vec<Step>, Exhausted> {
        let Task::Equalise(equalise) = &op.task else { return Ok(Vec::new()) };
        let bad = equalise.choices.iter().filter(|(_, choice)| choice.verdict == Verdict::Hopeless);
        bad.map(|(piece, choice)| {
            let mut step = Step::new(*piece, choice.mend);
            let mut zeros = self.slab.take(piece.len())?;
            zeros.fill(0);
            step.data.push(zeros.freeze());
            step.sums = Some(Sums::unmatched(&step.data, &self.slab)?);
            Ok(step)
        })
        .collect()
    }

    /// An image that has to take blocks has no slot for them: it cannot become equal (P15).
    pub(crate) fn on_no_space_for_mends(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if let Some(extent) = extent_of(op).filter(|_| is_copy(op)) {
            return self.set_copy_aside(op, extent);
        }
        for image in op.full.into_iter().filter(|_| !is_heal(op)) {
            self.fail_image(image, OutReason::NoSpace, out);
        }
        self.give_up(op);
    }

    /// The images that differed have the right data.
    pub(crate) fn on_mended(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if is_heal(op) {
            return self.on_healed(op, out);
        }
        if op.failure.is_some() {
            return self.give_up(op);
        }
        if is_copy(op) {
            self.on_sent(op);
            return self.start_settle(op, out);
        }
        self.counters.mended += op.steps.iter().map(|step| u64::from(step.piece.count())).sum::<u64>();
        self.start_settle(op, out);
    }

    fn start_settle(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Task::Equalise(equalise) = &op.task else { return };
        let (extent, kind) = (equalise.extent, equalise.kind);
        let targets = match kind {
            Kind::Copy { image, .. } if self.run_of(op).is_some() => Images::one(image),
            Kind::Copy { .. } => return self.end_own(op),
            Kind::Crash | Kind::Heal if !self.members.failing.is_empty() => return self.give_up(op),
            Kind::Crash | Kind::Heal => self.members.in_sync,
        };
        op.steps.clear();
        op.steps.push(Step::new(Piece::whole(extent), targets));
        self.begin(op, Phase::Settling);
        self.send_all(op, out);
    }

    /// The extent is equal everywhere; whoever waits for it may go on.
    pub(crate) fn on_settled(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Some(extent) = extent_of(op) else { return };
        if op.failure.is_some() {
            return self.give_up(op);
        }
        if is_copy(op) {
            return self.on_copied(op, extent);
        }
        self.suspects.remove(extent);
        self.inherited.remove(extent);
        self.end_own(op);
        self.work.push_back(Work::Regate);
        if self.suspects.is_empty() {
            let Counters { mended, adopted, .. } = *self.counters;
            out.push(Action::Note(Note::Equalised { mended, adopted }));
        }
    }

    /// Leaves the extent suspect; it is compared again a little later. A heal is simply over.
    fn give_up(&mut self, op: &mut Op) {
        if let Some(extent) = extent_of(op).filter(|_| is_copy(op)) {
            self.put_back_copy(op, extent);
        } else if let Some(extent) = extent_of(op).filter(|_| !is_heal(op)) {
            self.suspects.put_back(extent);
            self.timers.equalise_at = Some(self.now + RETRY);
        }
        self.end_own(op);
    }

    fn fill_steps(&self, op: &mut Op, targets: impl Fn(&Choice) -> Option<Images>) {
        op.steps.clear();
        let Task::Equalise(equalise) = &op.task else { return };
        let wanted = equalise.choices.iter().filter_map(|(piece, choice)| Some((*piece, targets(choice)?)));
        op.steps.extend(wanted.map(|(piece, targets)| Step::new(piece, targets)));
    }
}

fn is_heal(op: &Op) -> bool {
    matches!(&op.task, Task::Equalise(equalise) if equalise.kind == Kind::Heal)
}

/// Whether it copies to an image that catches up.
pub(crate) fn is_copy(op: &Op) -> bool {
    matches!(&op.task, Task::Equalise(equalise) if matches!(equalise.kind, Kind::Copy { .. }))
}

fn extent_of(op: &Op) -> Option<Extent> {
    match &op.task {
        Task::Equalise(equalise) => Some(equalise.extent),
        _ => None,
    }
}
