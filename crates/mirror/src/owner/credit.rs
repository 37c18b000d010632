//! Space for writes (P15): credits granted ahead, or a reservation for each piece.
//!
//! A write takes one credit per piece at every target; one that needed no slot brings it back. Where credits
//! are short, every piece is reserved at every target before anything is written anywhere: if one has no
//! slot, the reservations are undone and the host is told, with nothing written.
//!
//! What a segment holds, no other one of the pool can have. So whoever asks opens an interval (M4), and when none is open any
//! more all of it is given back; the next write reserves, and asks again.

use dyad_cluster::{IMAGES_MAX, OutReason};
use dyad_contract::image::{ImageError, Reply};
use dyad_contract::volume::VolumeError;
use dyad_units::{Moment, Period};

use crate::owner::core::Core;
use crate::owner::equalise::is_copy;
use crate::owner::event::{Action, ImageIndex};
use crate::owner::images::Images;
use crate::owner::interval::NO_PIECE;
use crate::owner::mirror::Mirror;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::resync::Run;
use crate::owner::status::MirrorState;

/// Most credits of one image: 128 MiB that its pool cannot give to others meanwhile.
const CREDITS_MAX: u32 = 512;
/// Pause after an image granted less than was asked for: its pool is nearly full.
const TIGHT_PAUSE: Period = Period::from_secs(1);

/// What an image was asked and has not answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Asked {
    #[default]
    Nothing,
    /// For more credits.
    More,
    /// For none: whether it answers at all.
    Probe,
    /// To take all of them back. It is asked for none before it has: it could void them with the others.
    TakeBack,
}

#[derive(Clone, Copy, Debug, Default)]
struct Purse {
    credits: u32,
    asked: Asked,
    /// When.
    asked_at: Moment,
    /// Somebody found too few; more are asked for even if they are more than half of what is wanted.
    is_short: bool,
    /// Not asked again before.
    tight_until: Option<Moment>,
    /// It was asked since it last gave everything back: more may have been granted than was heard of.
    was_asked: bool,
}

/// The credits of every image.
#[derive(Clone, Debug)]
pub(crate) struct Credits {
    purses: [Purse; IMAGES_MAX],
    /// How many are asked for at first.
    usual: u32,
    /// How many are asked for; doubled when a host's write found too few, as usual again in the next epoch
    /// and after a rest.
    wanted: u32,
    /// Credits of an earlier life are void; a grant under way when it ended brings none.
    life: u32,
}

impl Credits {
    pub(crate) fn new(wanted: u32) -> Self {
        let usual = wanted.min(CREDITS_MAX);
        Self { purses: [Purse::default(); IMAGES_MAX], usual, wanted: usual, life: 0 }
    }

    /// A new epoch: all credits are void. One burst of writes does not keep slots from other volumes for ever.
    pub(crate) fn renew(&mut self) {
        self.purses = [Purse::default(); IMAGES_MAX];
        self.wanted = self.usual;
        self.life += 1;
    }

    /// Takes one of each target of each write, or none from any. Too few for a copy do not raise what is wanted: every
    /// image would promise more, the hosts' ones too, and nobody waits for a copy. Most blocks of a copy replace old ones
    /// and bring their credits back, so that a purse comes to hold what a run of copies has under way. Nor does a purse that
    /// was not filled yet.
    fn spend(&mut self, steps: &[Step], is_copy: bool) -> bool {
        let mut counts = [0; IMAGES_MAX];
        for step in steps.iter().filter(|step| !step.is_unmap) {
            step.targets.into_iter().for_each(|image| counts[usize::from(image.0)] += 1);
        }
        let is_enough = counts.iter().zip(&self.purses).all(|(count, purse)| purse.credits >= *count);
        if is_enough {
            for (count, purse) in counts.iter().zip(&mut self.purses) {
                purse.credits -= count;
            }
            return true;
        }
        let mut was_filled = false;
        for (count, purse) in counts.iter().zip(&mut self.purses) {
            let is_short = purse.credits < *count;
            purse.is_short |= is_short;
            was_filled |= is_short && (purse.credits > 0 || purse.asked == Asked::More);
        }
        if !is_copy && was_filled {
            self.wanted = self.wanted.saturating_mul(2).min(CREDITS_MAX);
        }
        false
    }

    /// The image grants afresh when it is back.
    pub(crate) fn forget(&mut self, image: ImageIndex) {
        self.purses[usize::from(image.0)] = Purse::default();
    }

    /// Takes one of one image, if there is one.
    fn spend_one(&mut self, image: ImageIndex) -> bool {
        let purse = &mut self.purses[usize::from(image.0)];
        let left = purse.credits.checked_sub(1);
        purse.credits = left.unwrap_or(0);
        left.is_some()
    }

    /// One was not used after all.
    fn bring_back(&mut self, image: ImageIndex) {
        let purse = &mut self.purses[usize::from(image.0)];
        purse.credits = purse.credits.saturating_add(1);
    }

    /// Since when the image owes an answer that it has at once.
    fn owed_since(&self, image: ImageIndex) -> Option<Moment> {
        let purse = &self.purses[usize::from(image.0)];
        (purse.asked != Asked::Nothing).then_some(purse.asked_at)
    }

    /// What is asked of images behind a record they answer behind it (M3): it is asked for now.
    fn restart_waits(&mut self, now: Moment) {
        self.purses.iter_mut().for_each(|purse| purse.asked_at = now);
    }

    /// Whose purse was too small or is less than half full, and may be asked; it counts as asked from now on.
    fn ask(&mut self, images: Images, now: Moment) -> Option<(ImageIndex, u32)> {
        let wanted = self.wanted;
        let is_low = |purse: &Purse| {
            let enough = if purse.is_short { wanted } else { wanted / 2 + 1 };
            purse.credits < enough
                && purse.asked == Asked::Nothing
                && purse.tight_until.is_none_or(|until| until <= now)
        };
        let image = images.into_iter().find(|image| is_low(&self.purses[usize::from(image.0)]))?;
        let purse = &mut self.purses[usize::from(image.0)];
        (purse.asked, purse.asked_at, purse.is_short, purse.was_asked) = (Asked::More, now, false, true);
        Some((image, wanted - purse.credits))
    }

    /// Whom of these images all credits are given back to; they count as given back from now on. Nobody's while an answer is
    /// awaited: what is granted yet would be void with the rest.
    fn give_back(&mut self, images: Images, now: Moment) -> Images {
        if self.purses.iter().any(|purse| purse.asked != Asked::Nothing) {
            return Images::NONE;
        }
        let holders: Images = images.into_iter().filter(|&image| self.may_hold(image)).collect();
        for image in holders {
            self.wanted = self.usual;
            self.purses[usize::from(image.0)] = Purse { asked: Asked::TakeBack, asked_at: now, ..Purse::default() };
        }
        holders
    }

    fn may_hold(&self, image: ImageIndex) -> bool {
        self.purses[usize::from(image.0)].was_asked
    }
}

/// Whether credits may be out for the operation, or on their way.
fn may_have_credits(op: &Op) -> bool {
    matches!(op.phase, Phase::Reserving | Phase::Releasing | Phase::Applying | Phase::Mending | Phase::Granting)
}

impl Mirror {
    /// A segment without an open interval gives its credits back as soon as nothing under way has one.
    pub(crate) fn rest(&mut self) {
        let core = &mut self.core;
        let is_idle = core.interval.is_quiet() && core.state == MirrorState::Serving && core.wanted.is_empty();
        let holders = if is_idle { core.credit_holders() } else { Images::NONE };
        if holders.is_empty() || self.ops.count_where(may_have_credits) > 0 {
            return;
        }
        let (holders, epoch) = (core.credits.give_back(holders, core.now), core.members.epoch());
        core.wanted.extend(holders.into_iter().map(|image| Task::GiveBack(image, epoch)));
    }
}

impl Core {
    /// Asks for more credits where they run low. Called where a write took some, so idle segments ask nothing. An image that
    /// catches up is not asked before it was surveyed, which voids what it granted.
    pub(crate) fn ask_credits(&mut self) {
        let is_surveyed = self.run.as_ref().is_some_and(Run::is_noting);
        let syncing = if is_surveyed { self.members.syncing } else { Images::NONE };
        let images = self.members.readable().or(syncing).minus(self.members.gone);
        while let Some((image, count)) = self.credits.ask(images, self.now) {
            self.interval.watch(self.now); // its end gives them back, even if nothing is written
            self.wanted.push_back(Task::Grant(image, count));
        }
    }

    /// Who may hold credits for us, and can be asked.
    fn credit_holders(&self) -> Images {
        let members = &self.members;
        let images =
            members.readable().or(members.syncing).minus(members.gone).minus(members.lost).minus(members.failing);
        images.into_iter().filter(|&image| self.credits.may_hold(image)).collect()
    }

    /// The record is kept: what waited behind it is answered from now on.
    pub(crate) fn on_credits_recorded(&mut self) {
        self.credits.restart_waits(self.now);
        // Those of the last epoch are void: the next write should find some. Where nobody writes, there is none to wait.
        if self.state == MirrorState::Serving && !self.interval.is_quiet() {
            self.ask_credits();
        }
    }

    /// Whether the image has said nothing for as long as one may be slow, though it owes an answer that it has at once (M8). If
    /// it owes none it is asked for no credits, to see.
    pub(crate) fn stands_still(&mut self, image: ImageIndex) -> bool {
        if self.members.failing.contains(image) {
            return false;
        }
        let Some(asked) = self.credits.owed_since(image) else {
            let purse = &mut self.credits.purses[usize::from(image.0)];
            (purse.asked, purse.asked_at) = (Asked::Probe, self.now);
            self.wanted.push_back(Task::Grant(image, 0));
            return false;
        };
        let is_syncing = self.members.syncing.contains(image);
        let patience = if is_syncing { self.tuning.resync_wait } else { self.tuning.slow };
        let since = asked.max(self.members.heard(image)).max(self.timers.stalled_at);
        !self.members.is_adopting && self.now.since(since) >= patience
    }

    pub(crate) fn start_grant(&mut self, op: &mut Op, image: ImageIndex, out: &mut Vec<Action>) {
        self.begin(op, Phase::Granting);
        op.credit_life = self.credits.life;
        op.steps.push(Step::new(NO_PIECE, Images::one(image)));
        self.send_all(op, out);
    }

    /// So many credits were granted; none: the image could not, or was to take them back.
    pub(crate) fn on_granted(&mut self, op: &mut Op, granted: u32) {
        let (image, wanted) = match op.task {
            Task::Grant(image, wanted) => (image, wanted),
            Task::GiveBack(image, _) => (image, 0),
            _ => return,
        };
        if op.credit_life == self.credits.life {
            let purse = &mut self.credits.purses[usize::from(image.0)];
            purse.asked = Asked::Nothing;
            purse.credits += granted.min(wanted);
            purse.was_asked |= granted > 0;
            if granted < wanted {
                purse.tight_until = Some(self.now + TIGHT_PAUSE);
            }
        }
    }

    /// Finds space for the batch in `op.steps`, then goes on to `phase`, which applies it.
    pub(crate) fn start_space(&mut self, op: &mut Op, phase: Phase, out: &mut Vec<Action>) {
        let writes = op.steps.iter().filter(|step| !step.is_unmap).count() as u32;
        let has_credits = writes == 0 || self.credits.spend(&op.steps, is_copy(op));
        if writes > 0 {
            self.ask_credits();
        }
        if !has_credits {
            self.start_reserving(op, out);
            return;
        }
        for step in &mut op.steps {
            step.credited = step.targets;
        }
        op.credit_life = self.credits.life;
        self.start_apply(op, phase, out);
    }

    /// Finds space for mends. Copies take credits while no host wants any: to reserve for each run of blocks doubles the
    /// messages of an extent whose differing blocks lie scattered.
    pub(crate) fn start_mend_space(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if is_copy(op) && !self.is_wanted_by_hosts() {
            self.start_space(op, Phase::Mending, out);
        } else {
            self.start_reserving(op, out);
        }
    }

    /// Reserves a slot for each write in `op.steps` at each of its targets; unmaps need none, and a copy, which is of one extent,
    /// needs one for all of its writes (P15): an image with one slot left takes an extent however scattered its blocks are.
    pub(crate) fn start_reserving(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.begin(op, Phase::Reserving);
        for step in &mut op.steps {
            (step.credited, step.reserved) = (Images::NONE, Images::NONE);
        }
        op.credit_life = self.credits.life;
        self.send_all(op, out);
    }

    pub(crate) fn on_reserve_reply(
        &mut self,
        op: &mut Op,
        at: usize,
        image: ImageIndex,
        reply: Reply,
        out: &mut Vec<Action>,
    ) {
        match reply {
            Reply::Done => op.steps[at].reserved.insert(image),
            // The last free slots may be those that were granted to us.
            Reply::Failed(ImageError::Full) if self.credits.spend_one(image) => op.steps[at].credited.insert(image),
            Reply::Failed(ImageError::Full) => {
                op.fail(VolumeError::NoSpace);
                op.full.insert(image);
            }
            _ => {
                if !self.fail_image(image, OutReason::WriteFailed, out) {
                    op.fail(self.fault_of_last());
                }
            }
        }
        // An image that fails is asked nothing more, so it is not waited for here.
        self.done(op, at, image, out);
    }

    /// All targets said whether they have a slot.
    pub(crate) fn on_reserved(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        // What an atomic write has noted is carried out (M21).
        let is_aborted = op.is_aborted && !op.atomic.as_ref().is_some_and(|atomic| atomic.is_noted());
        if op.failure.is_none() && !is_aborted {
            let mends = matches!(op.task, Task::Equalise(_)) || op.atomic.as_ref().is_some_and(|atomic| atomic.mends());
            let phase = if mends { Phase::Mending } else { Phase::Applying };
            self.start_apply(op, phase, out);
        } else {
            for step in &op.steps {
                let is_valid = op.credit_life == self.credits.life;
                step.credited.into_iter().filter(|_| is_valid).for_each(|image| self.credits.bring_back(image));
            }
            self.begin(op, Phase::Releasing);
            self.send_all(op, out);
        }
    }

    /// The reservations are undone and nothing of the batch was written.
    pub(crate) fn on_released(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.task {
            Task::Equalise(_) => self.on_no_space_for_mends(op, out),
            _ if op.atomic.is_some() => self.on_no_space_for_atomic(op, out),
            _ => {
                let error = if op.is_aborted { VolumeError::Aborted } else { VolumeError::NoSpace };
                let error = op.failure.unwrap_or(error);
                self.finish(op, Err(error), out);
            }
        }
    }

    /// A target has the write; a credit that bought no slot comes back.
    pub(crate) fn settle_credit(&mut self, op: &Op, at: usize, image: ImageIndex, used_slot: bool) {
        let step = &op.steps[at];
        let is_credit = step.credited.contains(image) && !step.is_unmap && !step.resent.contains(image);
        if is_credit && !used_slot && op.credit_life == self.credits.life {
            self.credits.bring_back(image);
        }
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::Moment;

    use super::{Asked, Credits};
    use crate::owner::event::ImageIndex;
    use crate::owner::images::Images;
    use crate::owner::interval::NO_PIECE;
    use crate::owner::op::Step;

    /// P15: a write takes its credits at every target or at none.
    #[test]
    fn credits_are_spent_everywhere_or_nowhere() {
        let (a, b) = (ImageIndex(0), ImageIndex(1));
        let both = Images::one(a).with(b);
        let mut credits = Credits::new(8);
        assert_eq!(credits.ask(both, Moment::START), Some((a, 8)));
        assert_eq!(credits.ask(both, Moment::START), Some((b, 8)));
        assert_eq!(credits.ask(both, Moment::START), None);
        credits.purses[0].credits = 8;
        let write = |targets| [Step::new(NO_PIECE, targets)];
        assert!(!credits.spend(&write(both), false));
        assert_eq!(credits.purses[0].credits, 8);
        credits.purses[1].credits = 1;
        assert!(credits.spend(&write(both), false));
        assert_eq!((credits.purses[0].credits, credits.purses[1].credits), (7, 0));
    }
    /// P15: slots that are promised to one volume are not there for others. A copy that found too few once raised what
    /// every image had to promise, for as long as the owner lived.
    #[test]
    fn copies_do_not_raise_what_is_promised_and_a_new_epoch_lowers_it() {
        let image = ImageIndex(0);
        let one = Images::one(image);
        let batch = |count: usize| (0..count).map(|_| Step::new(NO_PIECE, one)).collect::<Vec<_>>();
        let mut credits = Credits::new(8);
        credits.purses[0].credits = 6;
        assert!(!credits.spend(&batch(7), true));
        assert_eq!(credits.ask(one, Moment::START), Some((image, 2)), "what it lacks, though more than half is there");
        credits.purses[0] = Default::default();
        assert!(!credits.spend(&batch(9), true));
        assert_eq!(credits.ask(one, Moment::START), Some((image, 8)), "not more for a larger batch");

        credits.purses[0] = Default::default();
        assert!(!credits.spend(&batch(9), false));
        assert_eq!(credits.ask(one, Moment::START), Some((image, 8)), "nor because nobody had asked so far");
        assert!(!credits.spend(&batch(9), false));
        credits.purses[0] = Default::default();
        assert_eq!(credits.ask(one, Moment::START), Some((image, 16)), "a host's write raises it");
        credits.renew();
        assert_eq!(credits.ask(one, Moment::START), Some((image, 8)), "as usual in the next epoch");
    }

    /// P15: what an idle segment was promised, or may have been, goes back, and nothing is asked for before it has.
    #[test]
    fn an_idle_segment_gives_all_back_and_asks_for_as_much_as_at_first() {
        let (a, b) = (ImageIndex(0), ImageIndex(1));
        let both = Images::one(a).with(b);
        let write = |targets| [Step::new(NO_PIECE, targets)];
        let mut credits = Credits::new(8);
        assert_eq!(credits.ask(Images::one(a), Moment::START), Some((a, 8)));
        credits.wanted = 64;
        (credits.purses[0].credits, credits.purses[0].asked) = (40, Asked::Nothing);
        assert!(!credits.may_hold(b), "it was never asked");
        assert_eq!(credits.ask(Images::one(b), Moment::START), Some((b, 64)));
        let holders: Images = both.into_iter().filter(|&image| credits.may_hold(image)).collect();
        assert_eq!(holders, both);
        assert_eq!(credits.give_back(holders, Moment::START), Images::NONE, "what is granted yet would be void, too");
        credits.purses[1].asked = Asked::Nothing;
        assert_eq!(credits.give_back(holders, Moment::START), both, "though nobody heard what the other one granted");
        assert_eq!(credits.give_back(holders, Moment::START), Images::NONE);
        assert!(!credits.may_hold(a));

        assert!(!credits.spend(&write(Images::one(a)), false), "it is not there to be spent");
        assert_eq!(credits.ask(Images::one(a), Moment::START), None, "what it promised now could be void, too");
        credits.purses[0].asked = Asked::Nothing;
        assert_eq!(credits.ask(Images::one(a), Moment::START), Some((a, 8)));
    }
}
