//! The SCSI state that all nodes share (M20), as a node's glue sees it: which edition is the newest, and what was checked
//! against which. Why it is right: docs/decisions/2026-11-21-reservations-across-nodes.md.
//!
//! ```text
//!  front: checked against 5.3 ── Forward, 5.3 ──▶ owner: newest is 5.3 ──▶ the part executes it
//!                             ◀── Stale, 5.4 ─── owner: newest is 5.4
//!         reads the state of 5.4, checks again, sends again
//! ```
//!
//! - The owner's node counts the changes of its epoch, and hands to its part only what was checked against the newest.
//! - A change is made from an edition, is refused if that is not the newest, and one is under way at a time.
//! - A node that is about to become owner takes back what waits in its part: it was checked under another owner.

use std::collections::VecDeque;

use dyad_contract::volume::{Edition, VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_mirror::{OpId, PartAction, PartEvent, PartNote, PeerMessage};
use dyad_scsi::{Begun, Response, Status, Task};
use dyad_units::{Epoch, Moment, NodeId, Period, SegmentId};

use super::forget::{Forgetting, Unread};
use super::ops::{Op, Returned, Weight, Whose};
use super::run::{Reactor, guarded};
use super::volumes::Volume;

/// How often one command waits for the state before its host is told to send it again: others change the state, or the
/// owner, all the time.
const TRIES_MAX: u8 = 16;

/// As long as a command may wait for its lock (T, M19), so long it may wait for the state before that.
const PATIENCE: Period = Period::from_secs(3);

/// One path holds a unit by RESERVE at a time; others may be owed whose end another node brought about meanwhile.
const OWED_MAX: usize = 8;

/// Who makes the change that is under way, at the owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Writer {
    Here(OpId),
    Peer(NodeId, u64),
}

/// What a volume's glue knows of the shared state.
#[derive(Default)]
pub(super) struct Shared {
    /// Epoch and owner of the newest record that was looked at.
    record: Option<(Epoch, Option<NodeId>)>,
    /// The newest edition, while this node is the owner.
    pub(super) own: Option<Edition>,
    /// The newest edition as far as another owner said, or as may be guessed: it says whether that is right.
    told: Option<Edition>,
    /// The unit's, as of `adopted`.
    adopted_edition: Option<Edition>,
    /// What arrived by then was checked against an older one.
    adopted: Moment,
    /// The latest arrival that the part was told.
    arrived: Moment,
    pub(super) writer: Option<Writer>,
    /// The read under way, and the edition that it is to be of.
    read: Option<(OpId, Option<Edition>)>,
    /// Who waits for that read.
    waiting: Vec<OpId>,
    /// Who came after it began, and waits for the next.
    later: Vec<OpId>,
    /// Another read is wanted although nobody waits: hosts have to be told something, or administrators.
    pub(super) wants_read: bool,
    /// Why the state could not be read when it was read last.
    pub(super) unread: Option<Unread>,
    /// An administrator's order to forget it that is under way.
    pub(super) forgetting: Option<Forgetting>,
    /// Of the operations of hosts that the part wants sent to the owner and that are not sent yet, in their order.
    editions: VecDeque<Option<Edition>>,
    /// The next answer of the part is of an operation that the owner refused as stale.
    is_stale_answer: bool,
    /// Ends of what lost nexuses held by RESERVE, under way, and how to begin each anew.
    releases: Vec<(OpId, Task)>,
    /// Those that came to nothing: tried again when the state was read next.
    owed: VecDeque<Task>,
}

impl Shared {
    pub(super) fn is_read(&self, id: OpId) -> bool {
        self.read.is_some_and(|(read, _)| read == id)
    }

    pub(super) fn is_write(&self, id: OpId) -> bool {
        self.writer == Some(Writer::Here(id))
    }

    /// At the owner: whether this is the newest edition.
    pub(super) fn is_newest(&self, edition: Edition) -> bool {
        self.own == Some(edition)
    }

    /// Whether what was checked against this edition may go on from here.
    fn admits(&self, edition: Option<Edition>) -> bool {
        edition.is_some() && self.own.is_none_or(|own| edition == Some(own))
    }

    /// When an operation that is checked now arrives: after everything that was checked against another state.
    fn arrival(&mut self, now: Moment) -> Moment {
        let at = now.max(self.adopted + Period::from_nanos(1));
        self.arrived = self.arrived.max(at);
        at
    }

    /// The unit's copy as it is now.
    fn look_at_unit(&mut self, edition: Option<Edition>, now: Moment) {
        if edition != self.adopted_edition {
            self.adopted_edition = edition;
            self.adopted = now.max(self.arrived);
        }
    }
}

impl Returned {
    /// Whether the result says that the operation is to be looked at again, and asked again.
    pub(super) fn is_so(self, result: &VolumeResult) -> bool {
        match self {
            Self::No => false,
            Self::Stale => matches!(result, Err(VolumeError::Busy)),
            Self::Withdrawn | Self::Recalled => matches!(result, Err(VolumeError::Aborted)),
        }
    }

    /// Whether that would be wrong for this task: it may have taken effect.
    pub(super) fn is_unknown(self, task: &Task) -> bool {
        self == Self::Recalled && !task.is_repeatable()
    }
}

impl Volume {
    /// Looks at what the part wants since it had `before` actions waiting; says whether it is about to become owner.
    pub(super) fn look_at_part(&mut self, before: usize, now: Moment, me: NodeId) -> bool {
        let mut claims = false;
        for action in &self.actions[before..] {
            match action {
                PartAction::Send { message: PeerMessage::Forward { age, op, .. }, .. } => {
                    let arrived = Moment::from_nanos(now.as_nanos().saturating_sub(age.as_nanos()));
                    let edition = match (op, self.shared.read) {
                        (VolumeOp::ReadState, Some((_, edition))) => edition,
                        _ if arrived > self.shared.adopted => self.shared.adopted_edition,
                        _ => None,
                    };
                    // With no operation of anybody out it is the part's own, which compares images after a forced promotion (M10):
                    // no host sees it, so it is checked against nothing.
                    let edition = edition.or(self.shared.told.filter(|_| self.ops.len() == 0));
                    self.shared.editions.push_back(edition);
                }
                PartAction::Answer { id, result: Err(VolumeError::Busy) } if self.shared.is_stale_answer => {
                    self.shared.is_stale_answer = false;
                    if let Some(op) = self.ops.get_mut(*id) {
                        op.returned = Returned::Stale;
                    }
                }
                PartAction::Note(PartNote::Claiming { .. }) => claims = true,
                _ => {}
            }
        }
        self.shared.is_stale_answer = false;
        let record = (self.part.record().epoch, self.part.record().owner);
        if claims || self.shared.record != Some(record) {
            let (epoch, owner) = record;
            let first = Some(Edition { epoch, changes: 0 });
            if self.shared.record.is_none_or(|(_, before)| before != owner) {
                self.shared.unread = None; // the new owner says how it is
            }
            self.shared.record = Some(record);
            self.shared.own = first.filter(|_| owner == Some(me));
            self.shared.told = first;
            if self.shared.own.is_none() {
                self.shared.writer = None;
            }
            self.unit.forget_state();
            self.shared.look_at_unit(None, now);
        }
        claims
    }
}

impl Reactor {
    /// The unit may have another copy of the state.
    pub(super) fn note_edition(&mut self, index: u32) {
        let now = self.now;
        if let Some(volume) = self.volume_mut(index) {
            volume.shared.look_at_unit(volume.unit.edition(), now);
        }
    }

    /// Asks the part, if what the unit checked was checked against the newest state, as far as that is known here.
    pub(super) fn hand_in(&mut self, index: u32, id: OpId, task: Task, op: VolumeOp) {
        let now = self.now;
        let Some(volume) = self.volume_mut(index) else { return };
        let shared = &mut volume.shared;
        let is_write = matches!(op, VolumeOp::WriteState { .. }) && shared.own.is_some();
        if !shared.admits(volume.unit.edition()) || is_write && shared.writer.is_some() {
            return self.park(index, id, task, Some(op));
        }
        let Some(entry) = volume.ops.get_mut(id) else { return };
        if is_write {
            shared.writer = Some(Writer::Here(id));
        }
        entry.task = Some(task);
        entry.weight.get_or_insert(Weight::of(&op));
        // An owner is asked by itself and keeps nothing; another one may refuse it.
        entry.again = shared.own.is_none().then(|| op.clone());
        entry.returned = Returned::No;
        let arrived = shared.arrival(now);
        self.volume_event(index, PartEvent::Op { id, op, arrived });
    }

    /// The command waits until the state was read.
    pub(super) fn park(&mut self, index: u32, id: OpId, task: Task, op: Option<VolumeOp>) {
        let now = self.now;
        let Some(volume) = self.volume_mut(index) else { return };
        let Some(entry) = volume.ops.get_mut(id) else { return };
        if let Some(task) = entry.park(now, task, op, TRIES_MAX) {
            return self.end_busy(index, id, &task);
        }
        volume.shared.later.push(id);
        self.read_state(index);
    }

    /// Reads the state for who waits, unless that is under way.
    pub(super) fn read_state(&mut self, index: u32) {
        let now = self.now;
        let Some(volume) = self.volume_mut(index) else { return };
        let shared = &mut volume.shared;
        if shared.read.is_some() || shared.later.is_empty() && !shared.wants_read {
            return;
        }
        shared.wants_read = false;
        std::mem::swap(&mut shared.waiting, &mut shared.later);
        let id = volume.ops.add(Op::own(Whose::Node, now));
        shared.read = Some((id, shared.own.or(shared.told)));
        self.volume_event(index, PartEvent::Op { id, op: VolumeOp::ReadState, arrived: now });
    }

    /// The state was read, or not.
    pub(super) fn on_state_read(&mut self, index: u32, id: OpId, result: VolumeResult) {
        let Some(volume) = self.volume_mut(index) else { return };
        let Some((_, edition)) = volume.shared.read.take() else { return };
        let is_stale = volume.ops.get_mut(id).is_some_and(|op| op.returned.is_so(&result));
        self.forget_op(index, id);
        let Some(volume) = self.volume_mut(index) else { return };
        let waiting = std::mem::take(&mut volume.shared.waiting);
        // Who was owner when it was asked for may be another now: then nobody knows of which edition it is.
        let is_known = edition.filter(|_| volume.shared.admits(edition));
        match (result, is_known) {
            (Ok(VolumeDone::Data(data)), Some(edition)) => {
                let unit = &mut volume.unit;
                match guarded(|| unit.adopt(edition, &data.to_vec())) {
                    Ok(Ok(())) => self.on_state_known(index, &waiting),
                    Ok(Err(error)) => self.on_state_unread(index, &waiting, Some(edition), Unread::from(error)),
                    Err(fault) => return self.fail_volume(index, &fault.0),
                }
            }
            (Ok(_), _) => self.wait_again(index, waiting),
            (Err(_), _) if is_stale => self.wait_again(index, waiting),
            (Err(VolumeError::Busy | VolumeError::Aborted), _) => self.end_all_busy(index, &waiting),
            (Err(_), _) => self.on_state_unread(index, &waiting, is_known, Unread::Lost),
        }
        self.read_state(index);
    }

    fn on_state_known(&mut self, index: u32, waiting: &[OpId]) {
        self.note_edition(index);
        if let Some(volume) = self.volume_mut(index) {
            volume.shared.unread = None;
        }
        if let Some(drain) = self.volume_mut(index).and_then(|volume| volume.unit.take_drain()) {
            // Another node's host had them ended; whoever asked waits until T has passed (M19).
            let mut left = Vec::new();
            self.abort_nexuses(index, &drain.nexuses, &mut left);
        }
        for &id in waiting {
            self.resume(index, id);
        }
        self.release_owed(index);
    }

    /// They wait for the next read.
    fn wait_again(&mut self, index: u32, waiting: Vec<OpId>) {
        for id in waiting {
            let Some((task, op)) = self.unpark(index, id) else { continue };
            self.park(index, id, task, op);
        }
    }

    pub(super) fn unpark(&mut self, index: u32, id: OpId) -> Option<(Task, Option<VolumeOp>)> {
        let entry = self.volume_mut(index)?.ops.get_mut(id).filter(|op| op.is_parked)?;
        entry.is_parked = false;
        Some((entry.task.take()?, entry.again.take()))
    }

    /// Goes on with a command that waited.
    fn resume(&mut self, index: u32, id: OpId) {
        let Some((task, op)) = self.unpark(index, id) else { return };
        let now = self.now;
        let Some(volume) = self.volume_mut(index) else { return };
        let is_late = volume.ops.get(id).is_none_or(|op| op.has_waited(now, PATIENCE));
        if is_late {
            return self.end_busy(index, id, &task);
        }
        let unit = &mut volume.unit;
        let begun = guarded(|| match op {
            Some(op) => unit.overtaken(task, op),
            None => unit.again(task),
        });
        match begun {
            Ok(begun) => self.go_on(index, id, begun, false),
            Err(fault) => self.fail_volume(index, &fault.0),
        }
    }

    /// The command was not carried out, or not all of it, and its host should send it again if it can.
    pub(super) fn end_busy(&mut self, index: u32, id: OpId, task: &Task) {
        let Some(volume) = self.volume(index) else { return };
        let response = volume.unit.ended_early(task, Response::status(Status::Busy));
        self.end_op(index, id, response, true);
    }

    /// This node is about to become owner: what its part holds was checked against a state of the owner before, and would
    /// be executed unseen. What waits had no effect, and comes back at once; what is with the old owner is answered in its
    /// time (M18).
    pub(super) fn withdraw_operations(&mut self, index: u32) {
        let Some(volume) = self.volume_mut(index) else { return };
        let mut ids = Vec::new();
        for (id, op) in volume.ops.at_part() {
            op.returned = Returned::Recalled;
            ids.push(id);
        }
        for id in ids {
            let before = self.volume(index).map_or(0, |volume| volume.actions.len());
            self.volume_event(index, PartEvent::Abort { id });
            let Some(Volume { actions, ops, .. }) = self.volume_mut(index) else { return };
            let waited = |action: &PartAction| matches!(action, PartAction::Answer { id: of, .. } if *of == id);
            if let Some(op) = ops.get_mut(id).filter(|_| actions[before..].iter().any(waited)) {
                op.returned = Returned::Withdrawn;
            }
        }
    }

    /// A task of the unit itself; its operation.
    pub(super) fn run_own_task(&mut self, index: u32, task: Task) -> Option<OpId> {
        let now = self.now;
        let id = self.volume_mut(index)?.ops.add(Op::own(Whose::Unit, now));
        self.go_on(index, id, Begun::State { task }, false);
        Some(id)
    }

    /// A nexus is lost that held the unit by RESERVE: that ends (SPC-2 §5.5.1).
    pub(super) fn end_reserve(&mut self, index: u32, task: Task) {
        let anew = task.clone();
        let id = self.run_own_task(index, task);
        if let (Some(id), Some(volume)) = (id, self.volume_mut(index)) {
            volume.shared.releases.push((id, anew));
        }
    }

    /// If it did not, as without an owner, the unit would stay with a path that is gone.
    pub(super) fn on_release_over(&mut self, index: u32, id: OpId, is_done: bool) {
        let Some(shared) = self.volume_mut(index).map(|volume| &mut volume.shared) else { return };
        let Some(at) = shared.releases.iter().position(|(release, _)| *release == id) else { return };
        let (_, anew) = shared.releases.swap_remove(at);
        if !is_done {
            shared.owed.truncate(OWED_MAX - 1);
            shared.owed.push_front(anew);
        }
    }

    fn release_owed(&mut self, index: u32) {
        let owed = self.volume_mut(index).map(|volume| std::mem::take(&mut volume.shared.owed)).unwrap_or_default();
        for task in owed {
            // A host that came back by the same path may have reserved anew.
            if self.volume(index).is_some_and(|volume| volume.unit.is_lost(&task)) {
                self.end_reserve(index, task);
            }
        }
    }

    // --- other nodes ------------------------------------------------------------------------------------------------

    /// Sends what a part has to say; operations of hosts with what they were checked against.
    pub(super) fn send_of_part(&mut self, index: u32, to: NodeId, message: &PeerMessage) {
        let Some(volume) = self.volume_mut(index) else { return };
        let segment = volume.part.record().id;
        let edition = match message {
            PeerMessage::Forward { .. } => volume.shared.editions.pop_front().flatten(),
            _ => None,
        };
        let ends_write =
            matches!(message, PeerMessage::Forwarded { id, .. } if volume.shared.writer == Some(Writer::Peer(to, *id)));
        if ends_write {
            self.on_state_written(index, Some(to));
        }
        self.tell_peer(to, segment, message, edition);
    }

    /// At the owner: whether an operation of another node's host was checked against the newest state. If not, it is sent
    /// back, without any effect.
    pub(super) fn admits_forward(
        &mut self,
        index: u32,
        from: NodeId,
        (id, op): (u64, &VolumeOp),
        edition: Option<Edition>,
    ) -> bool {
        let Some(volume) = self.volume_mut(index) else { return true };
        let shared = &mut volume.shared;
        // Whoever is no owner executes nothing.
        let Some(own) = shared.own else { return true };
        let is_write = matches!(op, VolumeOp::WriteState { .. });
        if edition != Some(own) || is_write && shared.writer.is_some() {
            let segment = volume.part.record().id;
            self.tell_stale(from, segment, id, own);
            return false;
        }
        if is_write {
            shared.writer = Some(Writer::Peer(from, id));
        }
        true
    }

    /// The owner refused an operation.
    pub(super) fn on_stale(&mut self, index: u32, from: NodeId, id: u64, newest: Edition) {
        let Some(volume) = self.volume_mut(index) else { return };
        if volume.shared.own.is_none() {
            volume.shared.told = Some(newest);
            if volume.unit.edition() != Some(newest) {
                volume.unit.forget_state(); // what comes now waits instead of coming back
            }
        }
        volume.shared.is_stale_answer = true;
        self.note_edition(index);
        let message = PeerMessage::Forwarded { id, result: Err(VolumeError::Busy) };
        self.volume_event(index, PartEvent::Peer { from, message });
    }

    /// The owner says that the state is another one: hosts here may have to be told of something.
    pub(super) fn on_state_changed(&mut self, index: u32, newest: Edition) {
        let Some(volume) = self.volume_mut(index).filter(|volume| volume.shared.own.is_none()) else { return };
        volume.shared.told = Some(newest);
        if volume.unit.edition() == Some(newest) {
            return;
        }
        volume.unit.forget_state();
        (volume.shared.unread, volume.shared.wants_read) = (None, !volume.sessions.is_empty());
        self.note_edition(index);
        self.read_state(index);
    }

    /// At the owner: a change of the state ended, in whatever way. Before anybody is told so, what was checked against the
    /// state before is not executed any more.
    pub(super) fn on_state_written(&mut self, index: u32, writer: Option<NodeId>) {
        let Some(volume) = self.volume_mut(index) else { return };
        volume.shared.writer = None;
        let Some(own) = &mut volume.shared.own else { return };
        *own = own.next();
        let newest = *own;
        let segment = volume.part.record().id;
        if writer.is_some() {
            volume.unit.forget_state();
            volume.shared.wants_read = !volume.sessions.is_empty();
            self.note_edition(index);
            self.read_state(index);
        }
        self.tell_state_changed(segment, newest, writer);
    }

    /// A node that had a change under way is gone: how it ends is not told any more.
    pub(super) fn lose_writer(&mut self, index: u32, node: NodeId) {
        let writer = self.volume(index).and_then(|volume| volume.shared.writer);
        if matches!(writer, Some(Writer::Peer(of, _)) if of == node) {
            self.on_state_written(index, Some(node));
        }
    }

    fn tell_stale(&mut self, to: NodeId, segment: SegmentId, id: u64, newest: Edition) {
        self.say_to(to, segment, |sender, number| sender.stale(number, id, newest));
    }

    fn tell_state_changed(&mut self, segment: SegmentId, newest: Edition, but: Option<NodeId>) {
        let nodes: Vec<NodeId> = self.connected().filter(|node| Some(*node) != but).collect();
        for node in nodes {
            self.say_to(node, segment, |sender, number| sender.state_changed(number, newest));
        }
    }
}
