//! Errands: what copies between volumes (EXTENDED COPY) have run at the other volume.
//!
//! ```text
//!  volume of the copy: operation ── Errand ──▶ operation at the other volume ──▶ its part ──▶ owner, wherever that is (M18)
//!                          ▲                              │
//!                          └────────── Response ──────────┘
//! ```
//!
//! An errand is an operation of the other volume like that of any host: checked against its newest state (M20), forwarded to
//! its owner, given up where a host's would be. It has no session; what it answers goes to the copy.
//!
//! - **Who may.** The host by its name, as the other volume's access list says at that moment. Where the other volume demands
//!   CHAP, the session that copies must have proved the very same: else whoever knows one volume's secret could claim
//!   another host's name, and have what that host may.
//! - **M19.** While an errand is out its copy is not over, so an abort, a reset, a logout, a new login at the copy's volume wait
//!   for it; they have it given up. What ends commands at the other volume, a reset, PREEMPT AND ABORT, a pause of this node,
//!   ends its errands, and the copy with TASK ABORTED as the third party's status. A copy that began before a pause has no
//!   errand run after it.
//! - **Bounds.** A copy has one errand at a time, and a unit runs so many copies (`dyad_scsi`); each keeps one chunk in memory.

use dyad_iscsi::SessionKey;
use dyad_mirror::{OpId, PartEvent};
use dyad_payload::Payload;
use dyad_scsi::{Begun, Errand, InitiatorPort, NexusId, NodeOp, Response, Right, Status, Task, Transfer, Unreached};
use dyad_units::{Moment, Period};

use super::adjust::right_of_unit;
use super::ops::{Op, Ops, Whose};
use super::run::{Reactor, guarded};
use super::talk::Waiting;

/// Whose errand an operation is.
pub(super) struct Sender {
    /// The copy.
    copy: Waiting,
    /// The errand's own, at the volume where it runs.
    pub(super) nexus: NexusId,
    /// What it writes, until the unit asks for it.
    data: Payload,
}

impl Reactor {
    /// A copy has something to be done at another volume. Its operation waits meanwhile.
    pub(super) fn send_errand(&mut self, index: u32, copy: Waiting, errand: Errand, data: Payload) {
        let begun = self.volume(index).and_then(|volume| volume.ops.get(copy.id)).map(|op| op.begun);
        if begun.is_none_or(|begun| self.paused_at.is_some_and(|at| begun <= at)) {
            // Its session is about to be closed: its volume has not noticed the pause yet, the other one has.
            return self.answer_copy(copy, Ok(Response::status(Status::TaskAborted)));
        }
        let is_it = |volume: &super::volumes::Volume| volume.stop.is_none() && volume.unit.is_named(&errand.to);
        let at = self.volumes.iter().position(|slot| slot.as_deref().is_some_and(is_it)).map(|at| at as u32);
        let admitted = at.and_then(|at| Some((at, self.admit_errand(index, copy.id, at)?)));
        let Some((at, (right, port))) = admitted else {
            return self.answer_copy(copy, Err(Unreached::NotThere));
        };
        if self.volume(at).is_some_and(|volume| volume.unit.shape().block() != errand.block) {
            return self.answer_copy(copy, Err(Unreached::OtherBlocks));
        }
        // As a session's: the number after a fresh one is no other nexus's.
        let (_, nexus) = (self.fresh_id(), NexusId(self.next_id));
        let now = self.now;
        let Some(other) = self.volume_mut(at) else { return };
        if other.unit.add_errand(nexus, right, port).is_err() {
            return self.answer_copy(copy, Ok(Response::status(Status::Busy)));
        }
        let sender = Box::new(Sender { copy, nexus, data });
        let id = other.ops.add(Op { errand: Some(sender), ..Op::own(Whose::Copy, now) });
        let there = other.record.id;
        if let Some(op) = self.volume_mut(index).and_then(|volume| volume.ops.get_mut(copy.id)) {
            op.sent = Some((there, id));
        }
        let (cdb, transfer) = errand.command();
        let Some(other) = self.volume_mut(at) else { return };
        let unit = &mut other.unit;
        match guarded(|| unit.begin(nexus, 0, &cdb, transfer)) {
            Ok(begun) => self.go_on(at, id, begun, false),
            Err(fault) => self.fail_volume(at, &fault.0),
        }
    }

    /// What the host whose copy this is may do at the other volume; none: nothing.
    fn admit_errand(&self, index: u32, copy: OpId, at: u32) -> Option<(Right, Option<InitiatorPort>)> {
        let copying = self.volume(index)?;
        let (conn, _) = copying.ops.get(copy)?.host?;
        let SessionKey { initiator, isid, .. } = &self.conns.get(conn)?.session.as_ref()?.key;
        let (here, there) = (&copying.record.access, &self.volume(at)?.record.access);
        let has_proved = match (&there.chap, &here.chap) {
            (None, _) => true,
            (Some(there), here) => here.as_ref().is_some_and(|here| here.host == there.host),
        };
        let right = there.right_of(initiator).filter(|_| has_proved)?;
        Some((right_of_unit(Some(right)), InitiatorPort::new(initiator, *isid)))
    }

    /// The unit wants what the errand writes; `None`: the operation is no errand.
    pub(super) fn feed_errand(&mut self, index: u32, id: OpId, task: Task) -> Option<Task> {
        let Some(volume) = self.volume_mut(index) else { return Some(task) };
        let Some(sender) = volume.ops.get_mut(id).and_then(|op| op.errand.as_mut()) else { return Some(task) };
        let (unit, data) = (&mut volume.unit, std::mem::take(&mut sender.data));
        match guarded(|| unit.data_out(task, data)) {
            Ok(step) => self.go_on(index, id, Begun::from(step), false),
            Err(fault) => self.fail_volume(index, &fault.0),
        }
        None
    }

    /// A copy waits before it asks for a chunk again.
    pub(super) fn pause(&mut self, index: u32, copy: Waiting, period: Period) {
        let until = self.now + period;
        if let Some(volume) = self.volume_mut(index) {
            volume.pauses.push((until, copy));
            self.wake_in(period);
        }
    }

    /// Looks whose pause is over; of copies that were given up meanwhile nothing is left to go on.
    pub(super) fn wake_paused(&mut self) {
        let now = self.now;
        let pauses = self.volumes.iter_mut().flatten().flat_map(|volume| {
            let is_over = |(until, _): &mut (Moment, Waiting)| *until <= now;
            volume.pauses.extract_if(.., is_over)
        });
        for (_, copy) in pauses.collect::<Vec<_>>() {
            self.go_on_waiting(copy, false, |unit, task| unit.paused(task));
        }
        let next = self.volumes.iter().flatten().flat_map(|volume| &volume.pauses).map(|(until, _)| *until).min();
        if let Some(next) = next {
            self.wake_in(next.since(now));
        }
    }

    /// An errand has ended, in whatever way.
    pub(super) fn end_errand(&mut self, index: u32, sender: Sender, response: Response) {
        if let Some(volume) = self.volume_mut(index) {
            volume.unit.remove_errand(sender.nexus);
        }
        self.answer_copy(sender.copy, Ok(response));
    }

    fn answer_copy(&mut self, copy: Waiting, ended: Result<Response, Unreached>) {
        let op = self.volume_with_id(copy.volume).and_then(|index| self.volume_mut(index)?.ops.get_mut(copy.id));
        if let Some(op) = op {
            op.sent = None;
        }
        let is_error = !matches!(&ended, Ok(response) if response.status == Status::Good);
        self.go_on_waiting(copy, is_error, |unit, task| unit.ran(task, ended));
    }

    /// Gives up an operation that lost whoever waits for it; its number, if it is to be waited for.
    pub(super) fn give_up_op(&mut self, index: u32, op: u32) -> Option<OpId> {
        let volume = self.volume_mut(index)?;
        let (id, is_at_part) = volume.ops.give_up(op)?;
        if !is_at_part {
            // It waited for the state, and took no effect.
            self.forget_op(index, id);
            return None;
        }
        match volume.ops.get_mut(id).and_then(|op| op.sent) {
            Some((there, errand)) => self.recall(there, errand),
            None => self.volume_event(index, PartEvent::Abort { id }),
        }
        // With the errand it may be over already.
        self.volume_mut(index)?.ops.get_mut(id).map(|_| id)
    }

    /// A copy is given up: its errand as well.
    fn recall(&mut self, volume: dyad_units::VolumeId, errand: OpId) {
        let Some(index) = self.volume_with_id(volume) else { return };
        let is_there = self.volume(index).is_some_and(|volume| volume.ops.get(errand).is_some());
        if is_there {
            self.give_up_op(index, errand.0 as u32);
        }
    }

    /// Gives up the errands at a volume, those of these nexuses or all.
    pub(super) fn give_up_errands(&mut self, index: u32, of: Option<&[NexusId]>, left: &mut Vec<OpId>) {
        let Some(volume) = self.volume(index) else { return };
        let errands = volume.ops.errands().filter(|(_, nexus)| of.is_none_or(|of| of.contains(nexus)));
        for id in errands.map(|(id, _)| id).collect::<Vec<_>>() {
            left.extend(self.give_up_op(index, id.0 as u32));
        }
    }

    /// A volume is out of service: what was sent to it comes back, and what it sent is given up.
    pub(super) fn scatter_errands(&mut self, ops: &mut Ops) {
        let (senders, sent) = ops.take_errands();
        for sender in senders {
            self.answer_copy(sender.copy, Err(Unreached::NotThere));
        }
        for (volume, errand) in sent {
            self.recall(volume, errand);
        }
    }
}

/// What a task of a copy has to have run elsewhere, with what it writes.
pub(super) fn errand_of(op: NodeOp, task: &Task) -> Option<(Errand, Payload)> {
    match op {
        NodeOp::Errand(errand) => {
            let writes = matches!(errand.command().1, Transfer::Out(_));
            Some((errand, if writes { task.errand_data() } else { Payload::new() }))
        }
        NodeOp::Look { .. } | NodeOp::Move { .. } | NodeOp::Pause { .. } => None,
    }
}
