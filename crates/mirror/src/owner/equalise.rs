//! Making extents equal that a crash left suspect (P8, M9, M11).
//!
//! ```text
//!  lock ─▶ examine on all ─▶ choose per block ─▶ adopt ─▶ fetch ─▶ reserve ─▶ mend ─▶ settle on all ─▶ unlock
//! ```
//!
//! Whatever fails on the way leaves the extent suspect; it is compared again a little later. Everything is
//! idempotent, so a crash in the middle only starts it again.

use dyad_cluster::{IMAGES_MAX, OutReason};
use dyad_contract::image::Examined;
use dyad_payload::Sums;
use dyad_units::{Extent, Period, Piece};

use crate::owner::choose::{Choice, Verdict, choose, choose_heal};
use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;
use crate::owner::op::{Equalise, Op, Phase, Step, Task};
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
        let is_paused = self.timers.equalise_at.is_some_and(|at| at > self.now);
        if self.suspects.is_empty() || self.state != MirrorState::Serving || self.members.is_adopting || is_paused {
            return;
        }
        self.timers.equalise_at = None;
        loop {
            let window = if self.suspects.is_urgent() { WINDOW_URGENT } else { WINDOW };
            if self.suspects.under_way() >= window {
                return;
            }
            let Some(extent) = self.suspects.take() else { return };
            let found = [const { None }; IMAGES_MAX];
            let equalise = Equalise { extent, found, choices: Vec::new(), is_heal: false };
            self.wanted.push_back(Task::Equalise(Box::new(equalise)));
        }
    }

    pub(crate) fn start_examine(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Some(extent) = extent_of(op) else { return };
        if is_heal(op) {
            self.begin_heal(extent);
        }
        self.begin(op, Phase::Examining);
        op.steps.push(Step::new(Piece::whole(extent), self.members.in_sync));
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
        let readable = self.members.readable();
        let Task::Equalise(equalise) = &mut op.task else { return };
        let found = equalise.found.iter().enumerate();
        let found = found.filter_map(|(at, found)| Some((ImageIndex(at as u8), found.as_deref()?)));
        let found = found.filter(|(image, _)| readable.contains(*image));
        // Without every image's word nothing may be settled.
        if op.failure.is_some() || found.clone().count() as u32 != readable.count() {
            return self.give_up(op);
        }
        let mut choices: Vec<(Piece, Choice)> = Vec::new();
        for at in 0..64_u8 {
            let choose = |at| if equalise.is_heal { choose_heal(found.clone(), at) } else { choose(found.clone(), at) };
            let choice = choose(usize::from(at));
            match choices.last_mut() {
                Some((piece, last)) if *last == choice => {
                    *piece = Piece::new(piece.extent, piece.first(), piece.count() + 1).expect("within the extent");
                }
                _ => choices.push((Piece::new(equalise.extent, at, 1).expect("within the extent"), choice)),
            }
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
        let unwritten = equalise.choices.iter().filter(|(_, choice)| choice.verdict == Verdict::Unwritten);
        for (piece, choice) in unwritten {
            let mut step = Step::new(*piece, choice.mend);
            step.is_unmap = true;
            op.steps.push(step);
        }
        if !op.steps.is_empty() {
            self.start_reserving(op, out);
        } else if is_heal(op) {
            self.end_own(op);
        } else {
            self.start_settle(op, out);
        }
    }

    /// An image that has to take blocks has no slot for them: it cannot become equal (P15).
    pub(crate) fn on_no_space_for_mends(&mut self, op: &mut Op, out: &mut Vec<Action>) {
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
        self.counters.mended += op.steps.iter().map(|step| u64::from(step.piece.count())).sum::<u64>();
        self.start_settle(op, out);
    }

    fn start_settle(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Some(extent) = extent_of(op) else { return };
        op.steps.clear();
        op.steps.push(Step::new(Piece::whole(extent), self.members.in_sync));
        self.begin(op, Phase::Settling);
        self.send_all(op, out);
    }

    /// The extent is equal everywhere; whoever waits for it may go on.
    pub(crate) fn on_settled(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Some(extent) = extent_of(op) else { return };
        if op.failure.is_some() {
            return self.give_up(op);
        }
        self.suspects.remove(extent);
        self.end_own(op);
        self.work.push_back(Work::Regate);
        if self.suspects.is_empty() {
            let Counters { mended, adopted, .. } = self.counters;
            out.push(Action::Note(Note::Equalised { mended, adopted }));
        }
    }

    /// Leaves the extent suspect; it is compared again a little later. A heal is simply over.
    fn give_up(&mut self, op: &mut Op) {
        if let Some(extent) = extent_of(op).filter(|_| !is_heal(op)) {
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
    matches!(&op.task, Task::Equalise(equalise) if equalise.is_heal)
}

fn extent_of(op: &Op) -> Option<Extent> {
    match &op.task {
        Task::Equalise(equalise) => Some(equalise.extent),
        _ => None,
    }
}
