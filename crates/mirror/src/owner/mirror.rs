//! The mirror's doors. Every event runs to completion: when a door closes, nothing is left to do but wait.

use dyad_cluster::{Change, IMAGES_MAX, Incarnation, OutReason, SegmentRecord};
use dyad_contract::image::{ImageError, Reply};
use dyad_contract::volume::{VolumeError, VolumeOp};
use dyad_payload::Slab;
use dyad_units::{Epoch, ImageId, Moment, NodeId, Span};

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, Event, ImageIndex, OpId};
use crate::owner::lease_gate::Lease;
use crate::owner::op::{HOST_OPS_MAX, Op, Ops, Phase, Slot, Task, token_parts};
use crate::owner::setup::{Setup, SetupError};
use crate::owner::status::{ImageStatus, MirrorState, MirrorStatus};
use crate::owner::take_out::Members;

/// The owner of one segment.
pub struct Mirror {
    ops: Ops,
    core: Core,
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
        Ok(Self { ops: Ops::default(), core: Core::new(&setup, size.value(), slab, Members::new(record)) })
    }

    /// Begins: surveys the images, claims the segment with a new epoch, makes equal what a crash left
    /// unequal. Operations may be handed in from the first moment; they wait, at most T.
    pub fn start(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.core.now = now;
        self.core.wanted.push_back(Task::Survey);
        self.run(out);
    }

    /// The only way in. `now` is the only clock; what has to be done is added to `out`.
    pub fn handle(&mut self, now: Moment, event: Event, out: &mut Vec<Action>) {
        self.core.now = now;
        match event {
            Event::Op { id, op, arrived } => self.on_op(id, op, arrived, out),
            Event::Abort { id } => {
                if let Some(slot) = self.ops.find(id) {
                    self.with(slot, out, Core::on_abort);
                }
            }
            Event::Image { image, token, reply } => {
                let (slot, tag, step) = token_parts(token);
                self.on_reply(slot, tag, step, image, reply, out);
            }
            Event::Outcome(outcome) => self.core.on_outcome(outcome, out),
            Event::Gone { image, reason } => self.on_gone(image, reason, out),
            Event::Lost { .. } | Event::Back { .. } | Event::Seen(_) | Event::Change { .. } => {}
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
        [core.timers.next(), core.interval_deadline(), core.members.repeat_at()].into_iter().flatten().min()
    }

    /// Begins to end in good order: new operations are answered busy, those under way end, everything is
    /// flushed and the interval closed. [`Action::Stopped`] tells the end.
    pub fn stop(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.core.now = now;
        match self.core.state {
            MirrorState::Stopping | MirrorState::Stopped => return,
            MirrorState::Serving => self.core.state = MirrorState::Stopping,
            _ => {
                // Nothing was served, so nothing is left to be made durable.
                self.core.state = MirrorState::Stopped;
                out.push(Action::Stopped);
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

    /// The life of the image's node, as its newest hello proved it: recorded when the image is found in sync (M11).
    /// Images of the own node need none.
    pub fn set_incarnation(&mut self, image: ImageIndex, incarnation: Incarnation) {
        if let Some(known) = self.core.incarnations.get_mut(usize::from(image.0)) {
            *known = Some(incarnation);
        }
    }

    /// The leases of all images as they are now (M5). Cheap: call it before every other door.
    pub fn set_leases(&mut self, now: Moment, leases: &[Lease; IMAGES_MAX], out: &mut Vec<Action>) {
        let _ = (now, leases, out);
    }

    /// Hands the segment over (M12): nothing more is begun, what is under way ends, the interval is closed, then the
    /// record names `to`. [`Action::HandedOver`] tells that it does; [`Note::HandOverFailed`] that this owner goes
    /// on, because it took too long or `to` holds no image in sync.
    ///
    /// [`Note::HandOverFailed`]: crate::Note::HandOverFailed
    pub fn hand_over(&mut self, now: Moment, to: NodeId, out: &mut Vec<Action>) {
        let _ = (now, to, out);
    }

    /// Lets a stale image, or one whose resync an earlier owner began, catch up (M13 to M16). It must be reachable:
    /// [`Event::Back`] after it was last [`Event::Gone`]. One at a time; false: not now.
    pub fn begin_resync(&mut self, now: Moment, image: ImageIndex, out: &mut Vec<Action>) -> bool {
        let _ = (now, image, out);
        false
    }

    /// Ends the resync that is under way, if one is: the image is taken out with this reason.
    pub fn stop_resync(&mut self, now: Moment, reason: OutReason, out: &mut Vec<Action>) {
        let _ = (now, reason, out);
    }

    /// The image at this place, if one is.
    pub fn image_at(&self, image: ImageIndex) -> Option<ImageId> {
        self.core.members.record().images.get(usize::from(image.0)).map(|image| image.id)
    }

    /// The place of an image.
    pub fn index_of(&self, image: ImageId) -> Option<ImageIndex> {
        let at = self.core.members.record().images.iter().position(|other| other.id == image)?;
        Some(ImageIndex(at as u8))
    }

    /// Images that hold what a host may be answered from: whom the owner needs acknowledgements and leases from now,
    /// those of a set whose recording is under way included (M7), and one that is joining (M16).
    pub fn needs_lease_of(&self, image: ImageIndex) -> bool {
        self.core.members.in_sync.contains(image)
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
        let image = |(at, image): (usize, &dyad_cluster::ImageRecord)| ImageStatus {
            id: image.id,
            pool: image.pool,
            state: image.state,
            reason: image.reason.or(members.reasons[at]),
            is_failing: members.failing.contains(ImageIndex(at as u8)),
        };
        MirrorStatus {
            state: self.core.state,
            epoch: members.epoch(),
            images: members.record().images.iter().enumerate().map(image).collect(),
            in_flight: self.core.host_ops,
            suspect: self.core.suspects.count(),
            resync: None,
            held: self.core.held.len(),
            counters: self.core.counters,
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

    fn on_gone(&mut self, image: ImageIndex, reason: OutReason, out: &mut Vec<Action>) {
        let core = &mut self.core;
        if usize::from(image.0) >= core.members.record().images.len() || core.members.gone.contains(image) {
            return;
        }
        core.members.gone.insert(image);
        core.members.reasons[usize::from(image.0)] = Some(reason);
        // What it was asked will not be replied to.
        for slot in self.ops.slots() {
            let Some(op) = self.ops.at(slot) else { continue };
            for (step, waiting) in op.steps.iter().enumerate() {
                if waiting.pending.contains(image) {
                    self.core.work.push_back(Work::Fault { slot, tag: op.tag, step, image });
                }
            }
        }
        if matches!(self.core.state, MirrorState::Serving | MirrorState::Stopping) {
            self.core.fail_image(image, reason, out);
        }
    }

    /// Works until nothing is left to do but wait.
    fn run(&mut self, out: &mut Vec<Action>) {
        loop {
            while let Some(work) = self.core.work.pop_front() {
                self.do_work(work, out);
            }
            self.core.propose_if_needed(out);
            self.core.turn_interval();
            self.core.pump_suspects();
            self.begin_wanted(out);
            if self.core.work.is_empty() && !self.core.stop_step(self.ops.count()) {
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
            Work::StepDown(epoch) => self.step_down(epoch, out),
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

    /// M7: somebody else owns the segment. What has had no effect is answered busy, the rest not at all.
    fn step_down(&mut self, epoch: Epoch, out: &mut Vec<Action>) {
        if self.core.state == MirrorState::SteppedDown {
            return;
        }
        self.core.step_down(epoch, out);
        self.with_all(out, |core, op, out| {
            core.locks.release(op.slot, |_, _| {});
            op.is_locked = false;
            match op.id {
                Some(_) if !op.has_effect => core.finish(op, Err(VolumeError::Busy), out),
                _ => core.end_own(op),
            }
        });
        self.core.host_ops = 0;
    }

    fn with_all(&mut self, out: &mut Vec<Action>, mut act: impl FnMut(&mut Core, &mut Op, &mut Vec<Action>)) {
        for slot in self.ops.slots() {
            self.with(slot, out, &mut act);
        }
    }

    /// Lets a handler act on one operation; a slot that it ended is free afterwards.
    fn with(&mut self, slot: Slot, out: &mut Vec<Action>, act: impl FnOnce(&mut Core, &mut Op, &mut Vec<Action>)) {
        let Some(op) = self.ops.at(slot).filter(|op| !matches!(op.task, Task::None)) else { return };
        act(&mut self.core, op, out);
        if op.phase == Phase::Free {
            self.ops.give_back(slot);
        }
    }
}
