//! What all handlers share: everything of a mirror but the slab of operations, which they borrow one by one.

use std::collections::VecDeque;

use dyad_cluster::{AckPolicy, Change, IMAGES_MAX, Incarnation};
use dyad_contract::image::{Request, Space, Survey, Unmap, Write};
use dyad_contract::volume::{VolumeError, VolumeResult};
use dyad_payload::Slab;
use dyad_units::{Epoch, Extent, Moment, NodeId, Stamp, WriteNumber};

use crate::owner::credit::Credits;
use crate::owner::event::{Action, ImageIndex};
use crate::owner::hand_over::HandOver;
use crate::owner::images::Images;
use crate::owner::interval::IntervalClock;
use crate::owner::lease_gate::{Held, LeaseTable, reveals};
use crate::owner::lock::{Locks, Range};
use crate::owner::members::Members;
use crate::owner::number::Numbers;
use crate::owner::op::{Kind, Op, Phase, Slot, Step, Task};
use crate::owner::propose::Proposals;
use crate::owner::replay::Intent;
use crate::owner::resync::Run;
use crate::owner::setup::{Setup, Tuning};
use crate::owner::status::{Counters, MirrorState};
use crate::owner::suspect::Suspects;
use crate::owner::tick::Timers;
use crate::tally::Tally;

/// Something to go on with before the door closes again.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The operation's phase is complete, or it was granted its lock.
    Advance { slot: Slot, tag: u64 },
    /// The image cannot be reached, so this is its reply.
    Fault { slot: Slot, tag: u64, step: usize, image: ImageIndex },
    /// Reads from images that failed go to others.
    Redirect,
    /// Operations that waited at the gate may enter.
    Regate,
    /// These images are out of the set: nobody waits for them any more.
    Drop(Images),
    /// What is under way when a list of needed extents begins is needed too (M13).
    NoteUnderWay,
    /// Another owner took over.
    StepDown(Epoch),
    /// The record names another owner by our own proposal.
    Leave,
}

/// Everything of a mirror but the operations.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) policy: AckPolicy,
    pub(crate) tuning: Tuning,
    /// Length of the segment in bytes.
    pub(crate) size: u64,
    pub(crate) slab: Slab,
    pub(crate) state: MirrorState,
    pub(crate) now: Moment,
    /// It served in this life: numbers go on, and the end has to drain.
    pub(crate) has_served: bool,
    /// The claim is recorded: whoever fails from now on leaves by the record.
    pub(crate) is_fenced: bool,
    pub(crate) members: Members,
    pub(crate) proposals: Proposals,
    pub(crate) leases: LeaseTable,
    pub(crate) run: Option<Run>,
    pub(crate) hand_over: Option<HandOver>,
    pub(crate) locks: Locks,
    pub(crate) numbers: Numbers,
    pub(crate) credits: Credits,
    pub(crate) interval: IntervalClock,
    pub(crate) suspects: Suspects,
    /// Those of them with writes of earlier owners that not every image has: images list them by "number above s" (M3).
    pub(crate) inherited: Suspects,
    /// An atomic write that is left half done (M21).
    pub(crate) intent: Intent,
    pub(crate) timers: Timers,
    pub(crate) counters: Tally<Counters>,
    /// To be done before the door closes.
    pub(crate) work: VecDeque<Work>,
    /// Operations of our own to be begun.
    pub(crate) wanted: VecDeque<Task>,
    /// Heals wanted and not begun.
    pub(crate) heals: Vec<Extent>,
    /// What the images said about the last run.
    pub(crate) surveys: [Option<Box<Survey>>; IMAGES_MAX],
    /// Operations at the gate, in the order of arrival.
    pub(crate) gated: Vec<Slot>,
    /// Numbers of writes that an image which joins may have differently: settled when it is out.
    pub(crate) doubted: Vec<WriteNumber>,
    /// Answers held back until the images keep the newest record, or leases are held.
    pub(crate) held: Vec<Held>,
    /// Operations of hosts under way.
    pub(crate) host_ops: usize,
    /// When the last of them ended.
    pub(crate) host_op_ended: Option<Moment>,
    /// Further changes of the record that the claim carries.
    pub(crate) claim: Vec<Change>,
    /// Which life of its node each image proved itself in.
    pub(crate) incarnations: [Option<Incarnation>; IMAGES_MAX],
    tag: u64,
}

impl Core {
    pub(crate) fn new(setup: &Setup, size: u64, slab: Slab, members: Members) -> Self {
        let Setup { node, incarnation, policy, tuning } = *setup;
        Self {
            node,
            incarnation,
            policy,
            tuning,
            size,
            slab,
            state: MirrorState::Starting,
            now: Moment::START,
            has_served: false,
            is_fenced: false,
            members,
            proposals: Proposals::default(),
            leases: LeaseTable::default(),
            run: None,
            hand_over: None,
            locks: Locks::default(),
            numbers: Numbers::default(),
            credits: Credits::new(tuning.credits),
            interval: IntervalClock::default(),
            suspects: Suspects::default(),
            inherited: Suspects::default(),
            intent: Intent::default(),
            timers: Timers::default(),
            counters: Tally::default(),
            work: VecDeque::new(),
            wanted: VecDeque::new(),
            heals: Vec::new(),
            surveys: [const { None }; IMAGES_MAX],
            gated: Vec::new(),
            doubted: Vec::new(),
            held: Vec::new(),
            host_ops: 0,
            host_op_ended: None,
            claim: Vec::new(),
            incarnations: [None; IMAGES_MAX],
            tag: 0,
        }
    }

    /// The stamp of what is written now.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::new(self.members.epoch(), self.interval.open())
    }

    /// A tag never used before.
    pub(crate) fn next_tag(&mut self) -> u64 {
        self.tag += 1;
        self.tag
    }

    /// Begins a phase; the caller then fills `op.steps` and sends them.
    pub(crate) fn begin(&mut self, op: &mut Op, phase: Phase) {
        op.phase = phase;
        op.tag = self.next_tag();
        op.sent = self.now;
    }

    /// Sends every step to its targets. Those that fail already are waited for, not asked (A3).
    pub(crate) fn send_all(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.left = 0;
        for at in 0..op.steps.len() {
            let to = op.audience(at).and(self.members.writable());
            let step = &mut op.steps[at];
            (step.pending, step.again, step.refused) = (to, Images::NONE, Images::NONE);
            if to.is_empty() {
                self.settle_number(op, at);
            } else {
                op.left += 1;
                self.send(op, at, to, out);
            }
        }
        if op.left == 0 {
            self.advance_later(op);
        } else {
            self.timers.watch_silence(self.now, self.tuning.silence);
            if self.members.writable().count() > 1 {
                self.timers.watch_slow(self.now, self.tuning.slow.min(self.tuning.resync_wait));
            }
        }
    }

    /// Sends one step to some images.
    pub(crate) fn send(&mut self, op: &Op, at: usize, to: Images, out: &mut Vec<Action>) {
        if matches!(op.phase, Phase::Applying | Phase::Mending) {
            // Each time: what is sent again is stamped anew, so the mark is of the interval that is open then (P5).
            self.interval.wrote(self.now);
        }
        // What a broken connection cannot carry is asked when it is back.
        for image in to.minus(self.members.failing).minus(self.members.lost) {
            if self.members.gone.contains(image) {
                self.work.push_back(Work::Fault { slot: op.slot, tag: op.tag, step: at, image });
            } else {
                let request = self.request(op, &op.steps[at], image);
                out.push(Action::Image { image, token: op.token(at), request });
            }
        }
    }

    fn request(&self, op: &Op, step: &Step, image: ImageIndex) -> Request {
        let piece = step.piece;
        match op.phase {
            Phase::Reading | Phase::Verifying => Request::Read { piece: step.asked() },
            Phase::Reserving => Request::Reserve { piece },
            Phase::Releasing => Request::Release { piece },
            Phase::Applying if step.is_unmap => Request::Unmap(self.unmap(step)),
            Phase::Applying => Request::Write(self.write(step, image)),
            Phase::Mending if step.is_unmap => Request::MendUnmap(self.unmap(step)),
            Phase::Mending => Request::Mend(self.write(step, image)),
            Phase::Flushing => Request::Flush,
            Phase::Examining => Request::Examine { extent: piece.extent },
            Phase::Adopting => Request::Adopt { piece },
            Phase::Settling => self.settle_request(op, piece.extent),
            Phase::Surveying if matches!(op.task, Task::Show) => Request::Show,
            Phase::Surveying => Request::Survey,
            Phase::Recording => Request::Record { epoch: self.members.epoch(), record: self.members.encoded() },
            Phase::Closing | Phase::Sealing | Phase::Granting | Phase::Listing | Phase::Noting => self.own_request(op),
            Phase::Free | Phase::Gated | Phase::Queued | Phase::Parked => {
                unreachable!("an operation that waits sends nothing")
            }
        }
    }

    fn own_request(&self, op: &Op) -> Request {
        match op.task {
            Task::Close(stamp) => Request::Close { interval: stamp.interval },
            Task::Seal(stamp) => Request::Closed { stamp },
            Task::Grant(_, credits) => Request::Grant { credits },
            Task::GiveBack(_, epoch) => Request::GiveBack { epoch },
            Task::List(which) => self.list_request(which),
            Task::Progress { cursor, complete, .. } => Request::Progress { cursor, complete },
            _ => unreachable!("a phase of another task"),
        }
    }

    fn settle_request(&self, op: &Op, extent: Extent) -> Request {
        match &op.task {
            Task::Equalise(equalise) if matches!(equalise.kind, Kind::Copy { .. }) => {
                Request::Copied { extent, stamp: equalise.source_stamp() }
            }
            _ => Request::Settled { extent, stamp: self.first_stamp() },
        }
    }

    fn write(&self, step: &Step, image: ImageIndex) -> Write {
        Write {
            piece: step.piece,
            stamp: self.stamp(),
            number: step.number,
            settled: self.told_settled(),
            data: step.data.clone(),
            sums: step.sums.clone().expect("summed before it is sent"),
            space: if step.credited.contains(image) { Space::Credit } else { Space::Reserved },
        }
    }

    fn unmap(&self, step: &Step) -> Unmap {
        Unmap { piece: step.piece, stamp: self.stamp(), number: step.number, settled: self.told_settled() }
    }

    /// What images are told that all of them have (M3). Every number of this owner is above those of the owners before: as
    /// long as not all that they left behind is equal everywhere (M9), to say it would make the images forget the rest.
    fn told_settled(&self) -> WriteNumber {
        if self.inherited.is_empty() { self.numbers.settled() } else { WriteNumber::default() }
    }

    /// First stamp of the epoch: what extents take that counted as newest (M1).
    fn first_stamp(&self) -> Stamp {
        Stamp::new(self.members.epoch(), IntervalClock::FIRST)
    }

    /// Goes on with the operation before the door closes.
    pub(crate) fn advance_later(&mut self, op: &Op) {
        self.work.push_back(Work::Advance { slot: op.slot, tag: op.tag });
    }

    /// An image did its part of a step.
    pub(crate) fn done(&mut self, op: &mut Op, at: usize, image: ImageIndex, out: &mut Vec<Action>) {
        op.steps[at].pending.remove(image);
        op.steps[at].again.remove(image);
        op.steps[at].refused.remove(image);
        self.check_step(op, at, out);
    }

    /// Nobody is waited for: if the step has a number, every target has the write. A target may have left the
    /// set before anything was sent; then nobody had to have it.
    fn settle_number(&mut self, op: &Op, at: usize) {
        if !matches!(op.phase, Phase::Applying | Phase::Mending) {
            return;
        }
        if self.is_doubtful(op, at) {
            self.doubted.push(op.steps[at].number);
        } else {
            self.numbers.settle(op.steps[at].number);
        }
    }

    /// Completes a step that nobody is waited for any more, and with the last step the phase.
    pub(crate) fn check_step(&mut self, op: &mut Op, at: usize, out: &mut Vec<Action>) {
        let step = &op.steps[at];
        if !step.refused.is_empty() && step.pending == step.refused {
            self.on_all_refused(op, at, out);
        }
        if op.steps[at].pending.is_empty() {
            self.settle_number(op, at);
            op.left -= 1;
            if op.left == 0 {
                self.advance_later(op);
            }
        }
    }

    /// Asks for the operation's ranges; it goes on when they are granted.
    pub(crate) fn enter(&mut self, op: &mut Op) {
        self.begin(op, Phase::Queued);
        op.is_locked = true;
        let is_shared = op.volume_op().is_some() && !op.is_change();
        let waiter = (op.slot, op.tag);
        let is_granted = match &op.task {
            Task::Equalise(equalise) => self.locks.acquire(waiter, [Range::whole(equalise.extent)].into_iter(), false),
            _ => self.locks.acquire(waiter, op.ranges(), is_shared),
        };
        if is_granted {
            self.advance_later(op);
        }
    }

    /// Gives the operation's ranges up; others may go on.
    pub(crate) fn unlock(&mut self, op: &mut Op) {
        if std::mem::take(&mut op.is_locked) {
            let work = &mut self.work;
            self.locks.release(op.slot, |slot, tag| work.push_back(Work::Advance { slot, tag }));
        }
    }

    /// Ends an operation of our own; the slot is free afterwards.
    pub(crate) fn end_own(&mut self, op: &mut Op) {
        self.unlock(op);
        op.phase = Phase::Free;
    }

    /// Ends a host's operation with its answer; the slot is free afterwards.
    pub(crate) fn finish(&mut self, op: &mut Op, result: VolumeResult, out: &mut Vec<Action>) {
        self.keep_back_if_noted(op);
        self.unlock(op);
        op.phase = Phase::Free;
        if matches!(result, Err(VolumeError::Busy)) {
            self.counters.busy += 1;
        }
        let Some(id) = op.id else { return };
        self.host_ops -= 1;
        self.host_op_ended = Some(self.now);
        let reveals = reveals(op.is_change(), &result);
        self.answer(Held { id, result, reveals, has_effect: op.has_effect }, out);
    }
}
