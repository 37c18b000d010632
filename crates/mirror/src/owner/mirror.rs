//! The mirror's doors. Every event runs to completion: when a door closes, nothing is left to do but wait.

use dyad_cluster::{Change, IMAGES_MAX, Incarnation, OutReason, SegmentRecord};
use dyad_contract::image::{ImageError, Reply};
use dyad_contract::volume::{VolumeError, VolumeOp};
use dyad_payload::Slab;
use dyad_units::{ImageId, Moment, NodeId, Span};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, Event, ImageIndex, OpId};
use crate::owner::lease_gate::Lease;
use crate::owner::members::Members;
use crate::owner::op::{HOST_OPS_MAX, Op, Ops, Phase, Slot, Task, token_parts};
use crate::owner::setup::{Setup, SetupError};
use crate::owner::status::{ImageStatus, MirrorState, MirrorStatus};

/// The owner of one segment.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub(crate) ops: Ops,
    pub(crate) core: Core,
}

impl Mirror {
    /// A mirror for the segment of `record`, the newest one that the store has. `slab` gives the buffers for
    /// merged blocks, fills and the sums of large writes.
    ///
    /// # Errors
    /// [`SetupError`] if the record cannot be served.
    pub fn new(record: SegmentRecord, setup: Setup, slab: Slab) -> Result<Self, SetupError> {
        if !(1..=IMAGES_MAX).contains(&record.images.len()) {
            return Err(SetupError::Images(record.images.len()));
        }
        if !record.in_sync().any(|image| image.node == setup.node) {
            return Err(SetupError::NothingInSync);
        }
        let size = record.size;
        if Span::new(0, size.value()).is_err() {
            return Err(SetupError::Size(size));
        }
        let members = Members::new(record, setup.node);
        Ok(Self { ops: Ops::default(), core: Core::new(&setup, size.value(), slab, members) })
    }

    /// Begins: surveys the images, claims the segment with a new epoch, makes equal what a crash left
    /// unequal. Operations may be handed in from the first moment; they wait, at most T.
    pub fn start(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.core.now = now;
        self.core.wanted.push_back(Task::Show);
        self.run(out);
    }

    /// The only way in. `now` is the only clock; what has to be done is added to `out`.
    pub fn handle(&mut self, now: Moment, event: Event, out: &mut Vec<Action>) {
        self.core.now = now;
        match event {
            Event::Op { id, op, arrived } => self.on_op(id, op, arrived, out),
            Event::Abort { id } => match self.ops.find(id) {
                Some(slot) => self.with(slot, out, Core::on_abort),
                None => self.core.abort_held(id),
            },
            Event::Image { image, token, reply } => {
                let (slot, tag, step) = token_parts(token);
                self.on_reply(slot, tag, step, image, reply, out);
            }
            Event::Outcome(outcome) => self.core.on_outcome(outcome, out),
            Event::Gone { image, reason } => self.on_gone(image, reason, out),
            Event::Lost { image } => self.on_lost(image),
            Event::Back { image } => self.on_back(image, out),
            Event::Seen(record) => self.core.on_seen(&record, out),
            Event::Change { id, change } => self.core.on_change(id, change, out),
            Event::MarksOverBudget => self.core.interval.hurry(),
            Event::Policy(policy) => {
                self.core.policy = policy;
                self.core.work.push_back(Work::Regate);
            }
        }
        self.run(out);
    }

    /// Time has passed. To be called no later than [`Self::next_deadline`] asks.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.core.now = now;
        self.core.repeat_proposal(out);
        if let Some(due) = self.core.take_due() {
            for slot in self.ops.slots() {
                self.with(slot, out, |core, op, out| core.look_at(op, due, out));
            }
        }
        self.run(out);
    }

    /// When [`Self::tick`] is wanted; none: an idle segment needs no time (M4).
    pub fn next_deadline(&self) -> Option<Moment> {
        let core = &self.core;
        if matches!(core.state, MirrorState::Stopped | MirrorState::SteppedDown | MirrorState::Refused(_)) {
            return None;
        }
        let run = [core.copy_deadline(), core.join_deadline(), core.hand_over_deadline()];
        let all = [core.timers.next(), core.interval_deadline(), core.proposals.repeat_at(), core.lease_deadline()];
        let run = run.into_iter().chain([core.replay_deadline()]);
        all.into_iter().chain(run).flatten().min()
    }

    /// Begins to end in good order: new operations are answered busy, those under way end, everything is
    /// flushed and the interval closed. [`Action::Stopped`] tells the end.
    pub fn stop(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.core.now = now;
        match self.core.state {
            MirrorState::Stopping | MirrorState::Stopped => return,
            MirrorState::Refused(_) | MirrorState::SteppedDown => {
                self.core.state = MirrorState::Stopped;
                out.push(Action::Stopped);
            }
            _ => {
                // A claim that may be recorded or not is nothing to wait for: nothing was served under it.
                if !self.core.has_served {
                    self.core.proposals.forget().for_each(drop);
                }
                self.core.state = MirrorState::Stopping;
                self.core.hand_over = None;
                self.core.forget_run();
            }
        }
        self.core.work.push_back(Work::Regate);
        self.run(out);
    }

    /// Which further changes the claim of [`Self::start`] carries: whom the caller takes out, because it knows that
    /// they forgot or cannot be asked (M9, M11).
    #[must_use]
    pub fn claiming(mut self, changes: Vec<Change>) -> Self {
        self.core.claim = changes;
        self
    }

    /// The life of the image's node, as its newest hello proved it: recorded when the image is found in sync (M11); none:
    /// it is not known. Images of the own node need none.
    pub fn set_incarnation(&mut self, image: ImageIndex, incarnation: Option<Incarnation>) {
        if let Some(known) = self.core.incarnations.get_mut(usize::from(image.0)) {
            *known = incarnation;
        }
    }

    /// The leases of all images as they are now (M5). Cheap: call it before every other door.
    pub fn set_leases(&mut self, now: Moment, leases: &[Lease; IMAGES_MAX], out: &mut Vec<Action>) {
        self.core.now = now;
        self.core.on_leases(leases);
        self.core.release_held(out);
    }

    /// Hands the segment over (M12): nothing more is begun, what is under way ends, the interval is closed, then the
    /// record names `to`. [`Action::HandedOver`] tells that it does; [`Note::HandOverFailed`] that this owner goes
    /// on, because it took too long or `to` holds no image in sync.
    ///
    /// [`Note::HandOverFailed`]: crate::Note::HandOverFailed
    pub fn hand_over(&mut self, now: Moment, to: NodeId, out: &mut Vec<Action>) {
        self.core.now = now;
        self.core.begin_hand_over(to, out);
        self.run(out);
    }

    /// Lets a stale image, or one whose resync an earlier owner began, catch up (M13 to M16). It must be reachable:
    /// [`Event::Back`] after it was last [`Event::Gone`]. One at a time; false: not now.
    pub fn begin_resync(&mut self, now: Moment, image: ImageIndex, out: &mut Vec<Action>) -> bool {
        self.core.now = now;
        let begins = self.core.begin_run(image);
        self.run(out);
        begins
    }

    /// Ends the resync that is under way, if one is: the image is taken out with this reason.
    pub fn stop_resync(&mut self, now: Moment, reason: OutReason, out: &mut Vec<Action>) {
        self.core.now = now;
        if let Some(image) = self.core.run.as_ref().map(|run| run.image) {
            self.core.fail_syncing(image, reason, out);
        }
        self.run(out);
    }

    /// Whether an image catches up now.
    pub const fn is_resyncing(&self) -> bool {
        self.core.run.is_some()
    }

    /// The image at this place, if one is.
    pub fn image_at(&self, image: ImageIndex) -> Option<ImageId> {
        self.core.members.id_at(image)
    }

    /// The place of an image.
    pub fn index_of(&self, image: ImageId) -> Option<ImageIndex> {
        self.core.members.place_of(image)
    }

    /// Images that hold what a host may be answered from: whom the owner needs acknowledgements and leases from now,
    /// those of a set whose recording is under way included (M7), and one that is joining (M16).
    pub fn needs_lease_of(&self, image: ImageIndex) -> bool {
        self.core.lease_set().contains(image)
    }

    /// The newest record that is known to be stored.
    pub fn record(&self) -> &SegmentRecord {
        self.core.members.record()
    }

    /// How far it is.
    pub const fn state(&self) -> MirrorState {
        self.core.state
    }

    /// What it says about itself. Allocates; for people, not per command.
    pub fn status(&self) -> MirrorStatus {
        let members = &self.core.members;
        let image = |image: &dyad_cluster::ImageRecord| {
            let place = members.place_of(image.id);
            ImageStatus {
                id: image.id,
                pool: image.pool,
                state: image.state,
                reason: image.reason.or(place.and_then(|place| members.reasons[usize::from(place.0)])),
                is_failing: place.is_some_and(|place| members.failing.contains(place)),
            }
        };
        let run = self.core.run.as_ref();
        MirrorStatus {
            state: self.core.state,
            epoch: members.epoch(),
            images: members.record().images.iter().map(image).collect(),
            in_flight: self.core.host_ops,
            suspect: self.core.suspects.count(),
            is_replaying: self.core.intent.is_left(),
            resync: run.and_then(|run| Some(run.status(members.id_at(run.image)?, self.core.now))),
            held: self.core.held.len(),
            counters: *self.core.counters,
        }
    }

    fn on_op(&mut self, id: OpId, op: VolumeOp, arrived: Moment, out: &mut Vec<Action>) {
        let refused = match self.core.check(&op) {
            Err(error) => Some(error),
            Ok(()) if !self.core.is_open() || self.core.host_ops >= HOST_OPS_MAX => Some(VolumeError::Busy),
            Ok(()) => None,
        };
        let slot = if refused.is_none() { self.ops.take() } else { None };
        let Some(taken) = slot else {
            self.core.counters.busy += u64::from(refused != Some(VolumeError::OutOfRange));
            out.push(Action::Answer { id, result: Err(refused.unwrap_or(VolumeError::Busy)) });
            return;
        };
        (taken.id, taken.task, taken.arrived) = (Some(id), Task::Volume(op), arrived);
        let slot = taken.slot;
        self.core.host_ops += 1;
        self.with(slot, out, Core::admit);
    }

    fn on_reply(&mut self, slot: Slot, tag: u64, step: usize, image: ImageIndex, reply: Reply, out: &mut Vec<Action>) {
        // A reply to an earlier phase comes from an image that was given up meanwhile.
        if self.ops.at(slot).is_some_and(|op| op.phase != Phase::Free && op.tag == tag) {
            self.with(slot, out, |core, op, out| core.on_reply(op, step, image, reply, out));
        }
    }

    /// Works until nothing is left to do but wait.
    fn run(&mut self, out: &mut Vec<Action>) {
        loop {
            while let Some(work) = self.core.work.pop_front() {
                self.do_work(work, out);
            }
            self.core.watch_leases(out);
            self.core.pump_run(out);
            self.core.propose_if_needed(out);
            self.core.turn_interval();
            self.core.pump_suspects();
            self.core.pump_replay();
            self.rest();
            self.begin_wanted(out);
            self.core.release_held(out);
            if !self.core.work.is_empty() || !self.core.wanted.is_empty() && self.ops.has_room() {
                continue;
            }
            let goes_on = match self.core.state {
                MirrorState::Stopping => self.core.stop_step(self.ops.count(), out),
                MirrorState::HandingOver => {
                    let waiting = self.ops.count_where(|op| matches!(op.phase, Phase::Gated | Phase::Parked));
                    self.core.hand_over_step(self.ops.count() - waiting, out)
                }
                _ => false,
            };
            if !goes_on && self.core.work.is_empty() {
                return;
            }
        }
    }

    fn do_work(&mut self, work: Work, out: &mut Vec<Action>) {
        match work {
            Work::Advance { slot, tag } => {
                if self.ops.at(slot).is_some_and(|op| op.phase != Phase::Free && op.tag == tag) {
                    self.with(slot, out, Core::advance);
                }
            }
            Work::Fault { slot, tag, step, image } => {
                self.on_reply(slot, tag, step, image, Reply::Failed(ImageError::Poisoned), out);
            }
            Work::Redirect => self.with_all(out, Core::redirect),
            Work::Drop(images) => self.with_all(out, |core, op, out| core.drop_images(op, images, out)),
            Work::Regate => self.regate(out),
            Work::NoteUnderWay => self.with_all(out, |core, op, _| core.note_under_way(op)),
            Work::StepDown(epoch) => self.step_down(epoch, out),
            Work::Leave => self.leave(out),
        }
    }

    /// Begins what the handlers asked for. When every slot is taken, it waits for one.
    fn begin_wanted(&mut self, out: &mut Vec<Action>) {
        while let Some(task) = self.core.wanted.pop_front() {
            let Some(op) = self.ops.take() else {
                self.core.wanted.push_front(task);
                return;
            };
            op.task = task;
            let slot = op.slot;
            self.with(slot, out, Core::begin_own);
        }
    }

    /// Lets those at the gate try again, in the order of arrival, and those that wait for images.
    fn regate(&mut self, out: &mut Vec<Action>) {
        for slot in std::mem::take(&mut self.core.gated) {
            self.with(slot, out, |core, op, out| {
                if core.is_open() {
                    op.phase = Phase::Queued; // so that it is noted at the gate again, if it must wait again
                    core.admit(op, out);
                } else {
                    core.finish(op, Err(VolumeError::Busy), out);
                }
            });
        }
        let is_open = self.core.is_open();
        self.with_all(out, |core, op, out| match op.phase {
            Phase::Parked if is_open => core.unpark(op, out),
            Phase::Parked | Phase::Queued if op.id.is_some() && !is_open => core.close_door(op, out),
            _ => {}
        });
    }

    pub(crate) fn with_all(
        &mut self,
        out: &mut Vec<Action>,
        mut act: impl FnMut(&mut Core, &mut Op, &mut Vec<Action>),
    ) {
        for slot in self.ops.slots() {
            self.with(slot, out, &mut act);
        }
    }

    /// Lets a handler act on one operation; a slot that it ended is free afterwards.
    pub(crate) fn with(
        &mut self,
        slot: Slot,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Core, &mut Op, &mut Vec<Action>),
    ) {
        let Some(op) = self.ops.at(slot).filter(|op| !matches!(op.task, Task::None)) else { return };
        act(&mut self.core, op, out);
        if op.phase == Phase::Free {
            self.ops.give_back(slot);
        }
    }
}
