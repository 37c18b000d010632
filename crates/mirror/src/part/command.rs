//! Commands of an administrator or the balancer (M10, M12).

use dyad_cluster::{Change, ChangeError, ImageState, OutReason, Outcome, SegmentRecord};
use dyad_contract::image::Survey;
use dyad_units::{Epoch, ImageId, Moment, NodeId, Period, Stamp};

use crate::image::Asker;
use crate::lease::Leases;
use crate::owner::{ChangeRefused, Event, MirrorState};
use crate::part::event::{Command, CommandError, PartAction};
use crate::part::part::{Life, Part};
use crate::part::store::Proposer;

/// A command that is not answered for so long is answered that it was too late: nobody should wait for ever before a
/// screen. What it began is finished all the same.
const COMMAND_MAX: Period = Period::from_secs(30);
/// Most commands that wait for an answer.
const COMMANDS_MAX: usize = 64;
/// Pause before a promotion whose outcome is unknown is proposed again (M7).
const REPEAT: Period = Period::from_millis(100);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    HandOver,
    Change,
    Promote,
    Stop,
}

#[derive(Clone, Debug)]
struct Waiting {
    id: u64,
    kind: Kind,
    until: Moment,
}

/// A forced promotion under way (M10).
#[derive(Clone, Debug)]
struct Promotion {
    image: ImageId,
    /// The image's closed, once it showed it.
    closed: Option<Stamp>,
    record: Option<Box<SegmentRecord>>,
    repeat_at: Option<Moment>,
}

/// Commands that are not answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Commands {
    waiting: Vec<Waiting>,
    promotion: Option<Promotion>,
    /// How a promotion ended, to be told.
    finished: Option<Result<(), CommandError>>,
    /// The record that a promotion made or found in the store, to be taken in.
    found: Option<Box<SegmentRecord>>,
    /// An owner that was overruled by a promotion may answer until then (M10): whoever follows it waits.
    pub(super) overruled_until: Moment,
}

impl Commands {
    pub(super) const fn is_promoting(&self) -> bool {
        self.promotion.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let repeat = self.promotion.as_ref().and_then(|promotion| promotion.repeat_at);
        self.waiting.iter().map(|waiting| waiting.until).chain(repeat).min()
    }

    fn end(&mut self, is_it: impl Fn(&Waiting) -> bool, result: &Result<(), CommandError>, out: &mut Vec<PartAction>) {
        self.waiting.retain(|waiting| {
            let ends = is_it(waiting);
            if ends {
                out.push(PartAction::Done { id: waiting.id, result: result.clone() });
            }
            !ends
        });
    }

    pub(super) fn stopped(&mut self, out: &mut Vec<PartAction>) {
        self.end(|waiting| waiting.kind == Kind::Stop, &Ok(()), out);
        self.fail_all(&CommandError::NotServing, out);
    }

    /// The owner's side is no more: what was asked of it is not known to be done.
    pub(super) fn reign_ended(&mut self, owner: Option<NodeId>, out: &mut Vec<PartAction>) {
        let is_over = |waiting: &Waiting| matches!(waiting.kind, Kind::Change | Kind::HandOver);
        self.end(is_over, &Err(CommandError::Overtaken { owner }), out);
    }

    pub(super) fn fail_all(&mut self, error: &CommandError, out: &mut Vec<PartAction>) {
        self.promotion = None;
        self.end(|_| true, &Err(error.clone()), out);
    }
}

impl Part {
    pub(super) fn on_command(&mut self, id: u64, command: Command, leases: &mut Leases, out: &mut Vec<PartAction>) {
        if let Err(error) = self.begin_command(id, command, leases, out) {
            out.push(PartAction::Done { id, result: Err(error) });
        }
    }

    fn begin_command(
        &mut self,
        id: u64,
        command: Command,
        leases: &mut Leases,
        out: &mut Vec<PartAction>,
    ) -> Result<(), CommandError> {
        if self.commands.waiting.len() >= COMMANDS_MAX {
            return Err(CommandError::Underway);
        }
        match command {
            Command::Stop => {
                self.wait_for(id, Kind::Stop);
                self.stop(out);
                return Ok(());
            }
            Command::Promote { image } => return self.begin_promotion(id, image, leases),
            Command::ForecastLoss { image } => return self.begin_forecast(id, image),
            Command::ListLoss { image } => return self.begin_list(id, image),
            _ => self.check_serving()?,
        }
        let change = match command {
            Command::HandOver { to } => return self.begin_hand_over(id, to),
            Command::Resync { image } => return self.resync_now(id, image, out),
            Command::TakeOut { image } => Change::TakeOut { image, reason: OutReason::Asked },
            Command::Detach { image } => Change::Detach { image },
            Command::Reattach { image } => Change::Reattach { image },
            Command::Drop { image } => Change::Drop { image },
            Command::Remove { image } => Change::Remove { image },
            Command::Add { image, node, pool, replaces } => Change::Add { image, node, pool, replaces },
            _ => return Ok(()), // begun above
        };
        self.wait_for(id, Kind::Change);
        self.tell_mirror(Event::Change { id, change });
        Ok(())
    }

    fn check_serving(&self) -> Result<(), CommandError> {
        let state = self.reign.as_ref().map(|reign| reign.mirror.state());
        match state {
            Some(MirrorState::Serving) => Ok(()),
            Some(MirrorState::HandingOver) => Err(CommandError::Underway),
            Some(_) => Err(CommandError::NotServing),
            None => Err(CommandError::NotOwner { owner: self.record.owner }),
        }
    }

    fn wait_for(&mut self, id: u64, kind: Kind) {
        self.commands.waiting.push(Waiting { id, kind, until: self.now + COMMAND_MAX });
    }

    /// Answers commands whose time is over; repeats a promotion.
    pub(super) fn expire_commands(&mut self, out: &mut Vec<PartAction>) {
        let now = self.now;
        // The end of the part is not a matter of patience: it is told when it is there.
        for waiting in self.commands.waiting.iter_mut().filter(|waiting| waiting.kind == Kind::Stop) {
            waiting.until = waiting.until.max(now + COMMAND_MAX);
        }
        self.commands.end(|waiting| waiting.until <= now, &Err(CommandError::TooLate), out);
        let is_wanted = self.commands.waiting.iter().any(|waiting| waiting.kind == Kind::Promote);
        if let Some(promotion) = &mut self.commands.promotion {
            let is_due = promotion.repeat_at.take_if(|at| *at <= now).is_some();
            let is_free = self.store.proposer == Proposer::Nobody;
            match &promotion.record {
                // Its command was answered: by now the administrator may have mended the network instead. What became of the
                // last attempt, the store tells.
                _ if is_free && !is_wanted => self.commands.promotion = None,
                Some(record) if is_due && is_free => {
                    self.store.proposer = Proposer::Command;
                    let expected = Epoch::new(record.epoch.value() - 1);
                    out.push(PartAction::Propose { record: record.clone(), expected });
                }
                Some(_) if is_due => promotion.repeat_at = Some(now + REPEAT),
                _ => {}
            }
        }
    }

    /// Begins to end in good order (M12).
    fn stop(&mut self, out: &mut Vec<PartAction>) {
        self.life = Life::Stopping;
        self.claim = None;
        self.commands.promotion = None;
        let mut keys = Vec::new();
        self.front.take_waiting(&mut keys);
        for key in keys {
            self.answer(key, Err(dyad_contract::volume::VolumeError::Busy), out);
        }
        self.losses.fail(&CommandError::NotServing, out);
        if let Some(reign) = &mut self.reign {
            reign.mirror.stop(self.now, &mut self.mirror_out);
            self.acts.extend(self.mirror_out.drain(..));
        }
    }

    fn begin_hand_over(&mut self, id: u64, to: NodeId) -> Result<(), CommandError> {
        if !self.record.in_sync().any(|image| image.node == to) || to == self.me() {
            return Err(CommandError::Illegal(ChangeError::NotInSync(to)));
        }
        self.wait_for(id, Kind::HandOver);
        if let Some(reign) = &mut self.reign {
            reign.mirror.hand_over(self.now, to, &mut self.mirror_out);
            self.acts.extend(self.mirror_out.drain(..));
        }
        Ok(())
    }

    pub(super) fn on_hand_over_done(&mut self, out: &mut Vec<PartAction>) {
        self.commands.end(|waiting| waiting.kind == Kind::HandOver, &Ok(()), out);
    }

    pub(super) fn on_hand_over_failed(&mut self, out: &mut Vec<PartAction>) {
        self.commands.end(|waiting| waiting.kind == Kind::HandOver, &Err(CommandError::TooLate), out);
    }

    /// What became of a change of the record that an administrator wanted.
    pub(super) fn on_changed(&mut self, id: u64, result: Result<Epoch, ChangeRefused>, out: &mut Vec<PartAction>) {
        let result = result.map(drop).map_err(|refused| match refused {
            ChangeRefused::Illegal(error) => CommandError::Illegal(error),
            ChangeRefused::TooMany => CommandError::Underway,
            ChangeRefused::NotServing => CommandError::NotServing,
        });
        // What came back may catch up (M13): nothing else may ever ask again.
        self.returns.look_at = Some(self.now);
        self.commands.end(|waiting| waiting.id == id && waiting.kind == Kind::Change, &result, out);
    }

    // --- M10: forced promotion ---------------------------------------------------------------------------------

    fn begin_promotion(&mut self, id: u64, image: ImageId, leases: &Leases) -> Result<(), CommandError> {
        if self.commands.is_promoting() || self.store.proposer != Proposer::Nobody {
            return Err(CommandError::Underway);
        }
        if !self.image(image).is_some_and(crate::image::Image::is_up) {
            return Err(CommandError::NotHere(image));
        }
        self.check_promotable(image)?;
        let alive = leases.promised_until(self.record.id).max(self.promised_until);
        let is_heard = |owner: &NodeId| *owner != self.me() && alive > self.now;
        if let Some(owner) = self.record.owner.filter(is_heard) {
            return Err(CommandError::OwnerAlive { owner });
        }
        self.wait_for(id, Kind::Promote);
        self.claim = None;
        self.commands.promotion = Some(Promotion { image, closed: None, record: None, repeat_at: None });
        self.with_image(image, |image, to| image.show(Asker::Part, to));
        Ok(())
    }

    /// Whether promoting the image by force could make sense.
    pub(super) fn check_promotable(&self, image: ImageId) -> Result<(), CommandError> {
        let state = self.record.image(image).map(|image| image.state);
        let is_serving = self.reign.as_ref().is_some_and(super::reign::Reign::is_serving);
        let because = match state {
            _ if is_serving => "is on the node that serves the volume: nothing has to be forced",
            Some(ImageState::Detached) => "is detached, and no part of the live volume: export it, or reattach it",
            _ => return Ok(()),
        };
        Err(CommandError::WrongState { image, because })
    }

    /// An image of ours showed what it knows: what a promotion needs is its closed.
    pub(super) fn on_shown_to_command(&mut self, image: ImageId, survey: Option<&Survey>) {
        let record = &self.record;
        let Some(promotion) = self.commands.promotion.as_mut().filter(|promotion| promotion.image == image) else {
            return;
        };
        let Some(survey) = survey.filter(|_| promotion.closed.is_none()) else { return };
        promotion.closed = Some(survey.closed);
        match record.changed(&[Change::Promote { image, closed: survey.closed }]) {
            Ok(next) => {
                promotion.record = Some(Box::new(next));
                promotion.repeat_at = Some(self.now);
            }
            Err(error) => {
                self.commands.promotion = None;
                self.commands.finished = Some(Err(CommandError::Illegal(error)));
            }
        }
        self.again = true;
    }

    /// Takes in what a promotion came to.
    pub(super) fn report_promotion(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        if let Some(record) = self.commands.found.take() {
            self.learn(record, leases, out);
        }
        if let Some(result) = self.commands.finished.take() {
            self.commands.end(|waiting| waiting.kind == Kind::Promote, &result, out);
        }
    }

    pub(super) fn on_promoted(&mut self, outcome: Outcome) {
        let Some(promotion) = &mut self.commands.promotion else { return };
        let Some(record) = promotion.record.clone() else { return };
        match outcome {
            Outcome::Unknown => promotion.repeat_at = Some(self.now + REPEAT),
            Outcome::Accepted => self.end_promotion(Some(record), Ok(())),
            Outcome::Rejected { current: Some(current) } if current == record => {
                self.end_promotion(Some(record), Ok(()));
            }
            Outcome::Rejected { current } => {
                let owner = current.as_ref().and_then(|current| current.owner);
                self.end_promotion(current, Err(CommandError::Overtaken { owner }));
            }
        }
    }

    fn end_promotion(&mut self, found: Option<Box<SegmentRecord>>, result: Result<(), CommandError>) {
        self.commands.promotion = None;
        (self.commands.found, self.commands.finished) = (found, Some(result));
    }
}
