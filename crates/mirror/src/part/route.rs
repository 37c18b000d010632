//! Where operations of hosts go: to the mirror here, to the owner elsewhere, or nowhere yet (M18, M19).

use dyad_contract::volume::{VolumeError, VolumeOp, VolumeResult};
use dyad_units::{Epoch, Moment, NodeId, Period, Span};

use crate::lease::Leases;
use crate::owner::{Event, OpId};
use crate::part::event::PartAction;
use crate::part::front::{Op, Origin, Place};
use crate::part::message::PeerMessage;
use crate::part::part::Part;

/// Where an operation goes now.
enum Way {
    Mirror,
    Owner { to: NodeId, beat: u64 },
    Nowhere,
}

impl Part {
    /// T, by this node's clock, for what another node measures by its own (M19).
    fn patience(&self, leases: &Leases) -> Period {
        leases.tuning().stretched(self.setup.tuning.owner.lock_wait)
    }

    /// An operation of a host comes in, by a session of ours or through another node.
    pub(super) fn on_op(&mut self, origin: Origin, op: VolumeOp, arrived: Moment, out: &mut Vec<PartAction>) {
        let taken = if self.takes(origin) { self.front.take(origin, op, arrived) } else { None };
        match taken {
            Some(key) => {
                self.front.wait(key);
                self.front.watch(arrived + self.setup.tuning.owner.lock_wait);
            }
            None => self.reply(origin, Err(VolumeError::Busy), out),
        }
    }

    /// Sends on what waits, if there is somewhere to send it.
    pub(super) fn admit_waiting(&mut self, leases: &Leases, out: &mut Vec<PartAction>) {
        if !self.front.has_waiting() {
            return;
        }
        let mut keys = std::mem::take(&mut self.keys);
        self.front.take_waiting(&mut keys);
        for &key in &keys {
            match self.way(leases) {
                Way::Mirror => self.hand_to_mirror(key, out),
                Way::Owner { to, beat } => self.forward(key, to, beat, out),
                Way::Nowhere => self.front.wait(key),
            }
        }
        self.keys = keys;
    }

    fn way(&self, leases: &Leases) -> Way {
        if let Some(reign) = &self.reign {
            // M6: the promise is looked at again before the first answer as owner.
            let may_answer = reign.has_served || leases.promised_until(self.record.id) <= self.now;
            return if reign.is_serving() && may_answer { Way::Mirror } else { Way::Nowhere };
        }
        let Some(to) = self.record.owner.filter(|&owner| owner != self.me()) else { return Way::Nowhere };
        // M19: whoever was not heard for longer than L may have been followed by another.
        let is_near = leases.heard(to).is_some_and(|at| self.now.since(at) <= leases.tuning().length);
        let beat = leases.beat_heard(to);
        if self.peers.is_up(to) && is_near && beat > 0 { Way::Owner { to, beat } } else { Way::Nowhere }
    }

    fn hand_to_mirror(&mut self, key: u64, out: &mut Vec<PartAction>) {
        let Some(op) = self.front.get(key) else { return };
        let (Some(what), arrived) = (op.op.take(), op.arrived) else { return };
        op.place = Place::Mirror;
        let is_late = op.is_late(self.now, self.setup.tuning.owner.lock_wait);
        if is_late {
            return self.answer(key, Err(VolumeError::Busy), out);
        }
        if let Some(reign) = &mut self.reign {
            reign.has_served = true;
        }
        self.tell_mirror(Event::Op { id: OpId(key), op: what, arrived });
    }

    fn forward(&mut self, key: u64, to: NodeId, beat: u64, out: &mut Vec<PartAction>) {
        let epoch = self.record.epoch;
        let Some(op) = self.front.get(key) else { return };
        if matches!(op.origin, Origin::Peer { .. } | Origin::Nobody) {
            // It was sent here because this node was owner: whoever sent it chooses again (M18).
            return self.answer(key, Err(VolumeError::Busy), out);
        }
        let Some(what) = op.op.take() else { return };
        op.place = Place::Forwarded { to, is_connected: true };
        let age = self.now.since(op.arrived);
        self.front.forwarded += 1;
        self.counters.forwarded += 1;
        out.push(PartAction::Send { to, message: PeerMessage::Forward { id: key, epoch, age, beat, op: what } });
    }

    /// Another node's host wants something of the owner.
    pub(super) fn on_forward(
        &mut self,
        (from, id): (NodeId, u64),
        (epoch, age, beat): (Epoch, Period, u64),
        op: VolumeOp,
        leases: &Leases,
        out: &mut Vec<PartAction>,
    ) {
        let origin = Origin::Peer { node: from, id };
        let of_now = self.reign.as_ref().filter(|reign| reign.is_claimed());
        let is_current = of_now.is_some_and(|reign| (reign.first_epoch()..=self.record.epoch).contains(&epoch));
        // M19: it arrived at the front no earlier than `age` before the beat of ours that the front had heard by then was
        // sent: however long the connection held it up, it is not older than that.
        let arrived =
            leases.beat_sent(beat).map(|sent| Moment::from_nanos(sent.as_nanos().saturating_sub(age.as_nanos())));
        match arrived.filter(|&at| is_current && self.now.since(at) < self.setup.tuning.owner.lock_wait) {
            Some(arrived) => {
                self.counters.executed += 1;
                self.on_op(origin, op, arrived, out);
            }
            None => {
                self.counters.refused_forwards += 1;
                self.reply(origin, Err(VolumeError::Busy), out);
            }
        }
    }

    /// The owner says how a forwarded operation ended.
    pub(super) fn on_forwarded(&mut self, from: NodeId, key: u64, result: VolumeResult, out: &mut Vec<PartAction>) {
        let is_his = matches!(
            self.front.get(key).map(|op| op.place),
            Some(Place::Forwarded { to, is_connected: true }) if to == from
        );
        if is_his {
            self.answer(key, result, out);
        }
    }

    /// A host gave an operation up.
    pub(super) fn on_abort(&mut self, origin: Origin, out: &mut Vec<PartAction>) {
        let Some(key) = self.front.find(origin) else { return };
        let Some(op) = self.front.get(key) else { return };
        op.is_aborted = true;
        match op.place {
            Place::Waiting => self.answer(key, Err(VolumeError::Aborted), out),
            Place::Mirror => self.tell_mirror(Event::Abort { id: OpId(key) }),
            Place::Forwarded { to, is_connected: true } => {
                out.push(PartAction::Send { to, message: PeerMessage::ForwardAbort { id: key } });
            }
            Place::Forwarded { is_connected: false, .. } | Place::Free => {}
        }
    }

    /// The connection to a node ended (M19): what it forwarded is given up, what went to it may still take effect.
    pub(super) fn lose_operations_of(&mut self, node: NodeId, out: &mut Vec<PartAction>) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        keys.extend(self.front.keys().map(|(key, _)| key));
        for &key in &keys {
            let Some(op) = self.front.get(key) else { continue };
            if let Place::Forwarded { to, is_connected } = &mut op.place
                && *to == node
            {
                *is_connected = false;
                let arrived = op.arrived;
                self.front.watch(arrived);
            } else if matches!(op.origin, Origin::Peer { node: from, .. } if from == node) {
                op.origin = Origin::Nobody;
                match op.place {
                    Place::Mirror => self.tell_mirror(Event::Abort { id: OpId(key) }),
                    _ => self.answer(key, Err(VolumeError::Aborted), out),
                }
            }
        }
        self.keys = keys;
    }

    /// Answers what waited too long (M19), and what went to an owner that cannot be asked any more, once it can take no
    /// effect there after a later command: it got its lock within T of its arrival, or never will.
    pub(super) fn expire(&mut self, leases: &Leases, out: &mut Vec<PartAction>) {
        if self.front.look_at.take_if(|at| *at <= self.now).is_none() {
            return;
        }
        let (now, wait, patience) = (self.now, self.setup.tuning.owner.lock_wait, self.patience(leases));
        let length = leases.tuning().length;
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        keys.extend(self.front.keys().map(|(key, _)| key));
        for &key in &keys {
            let Some(op) = self.front.get(key) else { continue };
            let until = match op.place {
                Place::Waiting => op.arrived + wait,
                Place::Forwarded { is_connected: false, .. } => op.arrived + patience,
                // Connected, it is answered, unless the owner hangs.
                Place::Forwarded { to, .. } => match leases.heard(to) {
                    Some(at) if now.since(at) <= length => (op.arrived + patience).max(now + length),
                    _ => op.arrived + patience,
                },
                Place::Mirror | Place::Free => continue,
            };
            if until <= now {
                let error = if op.is_aborted { VolumeError::Aborted } else { VolumeError::Busy };
                self.answer(key, Err(error), out);
            } else {
                self.front.watch(until);
            }
        }
        self.keys = keys;
    }

    /// What went to these owners takes no effect after what the present one executes: the hosts may send it again.
    pub(super) fn busy_forwarded(&mut self, is_over: impl Fn(NodeId) -> bool, out: &mut Vec<PartAction>) {
        self.busy_where(|op| matches!(op.place, Place::Forwarded { to, .. } if is_over(to)), out);
    }

    /// What waits here took no effect so far.
    pub(super) fn busy_waiting(&mut self, out: &mut Vec<PartAction>) {
        self.busy_where(|op| op.place == Place::Waiting, out);
    }

    /// The mirror is no more.
    pub(super) fn busy_at_mirror(&mut self, out: &mut Vec<PartAction>) {
        self.busy_where(|op| op.place == Place::Mirror, out);
    }

    /// What other nodes sent here and waits is to be sent to somebody else.
    pub(super) fn busy_for_others(&mut self, out: &mut Vec<PartAction>) {
        let is_anothers = |op: &Op| matches!(op.origin, Origin::Peer { .. } | Origin::Nobody);
        self.busy_where(|op| op.place == Place::Waiting && is_anothers(op), out);
    }

    pub(super) fn answer_all_busy(&mut self, out: &mut Vec<PartAction>) {
        self.busy_where(|_| true, out);
    }

    fn busy_where(&mut self, is_meant: impl Fn(&Op) -> bool, out: &mut Vec<PartAction>) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        keys.extend(self.front.keys().filter(|(_, op)| is_meant(op)).map(|(key, _)| key));
        for &key in &keys {
            let is_aborted = self.front.get(key).is_some_and(|op| op.is_aborted);
            let error = if is_aborted { VolumeError::Aborted } else { VolumeError::Busy };
            self.answer(key, Err(error), out);
        }
        self.keys = keys;
    }

    /// Ends an operation with its answer.
    pub(super) fn answer(&mut self, key: u64, result: VolumeResult, out: &mut Vec<PartAction>) {
        if let Some(origin) = self.front.end(key) {
            self.reply(origin, result, out);
        }
    }

    fn reply(&mut self, origin: Origin, result: VolumeResult, out: &mut Vec<PartAction>) {
        self.counters.busy += u64::from(matches!(result, Err(VolumeError::Busy)));
        match origin {
            Origin::Host(id) => out.push(PartAction::Answer { id, result }),
            Origin::Peer { node, id } => {
                out.push(PartAction::Send { to: node, message: PeerMessage::Forwarded { id, result } });
            }
            Origin::Loss(asked) => {
                self.losses.on_read(asked, result);
                self.again = true;
            }
            Origin::Nobody => {}
        }
    }

    /// Reads the volume as a host would, for what a forced promotion lost (M10).
    pub(super) fn read_for_loss(&mut self, asked: u64, span: Span, out: &mut Vec<PartAction>) {
        self.on_op(Origin::Loss(asked), VolumeOp::Read { span }, self.now, out);
    }
}
