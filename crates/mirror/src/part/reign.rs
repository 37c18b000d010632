//! While this node is owner, or about to be: the mirror, what it asks for, and the end.

use dyad_cluster::{Change, IMAGES_MAX};
use dyad_contract::volume::VolumeError;
use dyad_units::{Epoch, Moment, NodeId, Period};

use crate::lease::Leases;
use crate::owner::{Action, Event, Lease, Mirror, MirrorState, Note, Setup};
use crate::part::event::{PartAction, PartNote};
use crate::part::links::Link;
use crate::part::message::PeerMessage;
use crate::part::part::{Life, Part};
use crate::part::store::Proposer;

/// How often a part looks whether a lease that is out has come back: the beat thread does not wake it.
const LEASE_LOOK: Period = Period::from_millis(10);

/// A mirror and what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Reign {
    pub(super) mirror: Mirror,
    /// Epoch of the record that the claim replaces.
    base: Epoch,
    began: Moment,
    /// An operation was handed to it: the promise was looked at before (M6). So from the start where there is none.
    pub(super) has_served: bool,
    pub(super) links: [Link; IMAGES_MAX],
    /// A lease that is needed is out.
    is_lease_out: bool,
    /// When it said last that it ticks.
    owned_at: Moment,
    /// Whether it says so.
    is_listed: bool,
    /// How often that has to be said.
    own_every: Period,
}

impl Reign {
    /// Whether the store keeps a record that this reign proposed.
    pub(super) fn is_claimed(&self) -> bool {
        self.mirror.record().epoch > self.base
    }

    /// Whether it may be handed operations.
    pub(super) fn is_serving(&self) -> bool {
        self.mirror.state() == MirrorState::Serving
    }

    /// Whether it is past the claim.
    pub(super) fn has_begun_to_serve(&self) -> bool {
        matches!(self.mirror.state(), MirrorState::Serving | MirrorState::Stopping | MirrorState::HandingOver)
    }

    /// The first epoch of this reign: what was forwarded for an earlier one is not executed (M18).
    pub(super) const fn first_epoch(&self) -> Epoch {
        self.base.next()
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let own = self.is_listed.then(|| on_grid(self.owned_at + self.own_every, self.own_every.as_nanos() / 2));
        let lease = (self.is_lease_out && self.is_serving()).then(|| self.owned_at + LEASE_LOOK);
        [self.mirror.next_deadline(), own, lease].into_iter().flatten().min()
    }
}

/// The last point of a grid common to all segments that is not after `at`: what a hundred of them have to do now and then,
/// they do together, or a node would wake a hundred times as often for it.
fn on_grid(at: Moment, step: u64) -> Moment {
    Moment::from_nanos(at.as_nanos() - at.as_nanos().checked_rem(step).unwrap_or(0))
}

impl Part {
    /// Begins to become owner: the mirror asks the images, proposes, fences (M9).
    pub(super) fn begin_reign(&mut self, changes: Vec<Change>, leases: &Leases, out: &mut Vec<PartAction>) {
        let setup = Setup {
            node: self.me(),
            incarnation: self.setup.incarnation,
            policy: self.setup.policy,
            tuning: self.setup.tuning.owner,
        };
        let Ok(mirror) = Mirror::new(self.record.clone(), setup, self.slab.clone()) else { return };
        self.counters.claims += 1;
        out.push(PartAction::Note(PartNote::Claiming { epoch: self.record.epoch, after: self.record.owner }));
        let mut mirror = mirror.claiming(changes);
        for image in self.record.images.iter().filter(|image| image.node != self.setup.node) {
            if let (Some(index), Some(peer)) = (mirror.index_of(image.id), self.peers.get(image.node)) {
                mirror.set_incarnation(index, Some(peer.incarnation));
            }
        }
        self.reign = Some(Reign {
            mirror,
            base: self.record.epoch,
            began: self.now,
            has_served: self.is_all_here(), // nobody to have promised anything
            links: [Link::default(); IMAGES_MAX],
            is_lease_out: false,
            owned_at: self.now,
            is_listed: false,
            own_every: Period::from_nanos(leases.tuning().length.as_nanos() / 4),
        });
        self.begin_links();
        if let Some(reign) = &mut self.reign {
            reign.mirror.start(self.now, &mut self.mirror_out);
        }
        self.acts.extend(self.mirror_out.drain(..));
    }

    pub(super) fn tell_mirror(&mut self, event: Event) {
        if let Some(reign) = &mut self.reign {
            reign.mirror.handle(self.now, event, &mut self.mirror_out);
            self.acts.extend(self.mirror_out.drain(..));
        }
    }

    pub(super) fn tick_mirror(&mut self) {
        if let Some(reign) = &mut self.reign {
            reign.mirror.tick(self.now, &mut self.mirror_out);
            self.acts.extend(self.mirror_out.drain(..));
        }
    }

    /// Says that the reactor ticks (M5), and tells the mirror which leases it holds.
    pub(super) fn renew(&mut self, leases: &mut Leases) {
        let Some(reign) = &mut self.reign else { return };
        let (segment, me) = (self.record.id, self.setup.node);
        let record = reign.mirror.record();
        let is_late = self.now.since(reign.began) > self.setup.tuning.claim_max && !reign.has_begun_to_serve();
        let rules = !matches!(reign.mirror.state(), MirrorState::SteppedDown | MirrorState::Stopped);
        let others = record.images.iter().any(|image| image.node != me);
        reign.is_listed = others && rules && !is_late && reign.is_claimed() && record.owner == Some(me);
        let epoch = record.epoch;
        if reign.is_listed {
            leases.own(segment, epoch, self.now);
        } else {
            leases.unlist(segment);
        }
        reign.owned_at = self.now;
        reign.is_lease_out = false;
        let mut known = [Lease::NotNeeded; IMAGES_MAX];
        for (at, lease) in known.iter_mut().enumerate() {
            let index = crate::owner::ImageIndex(at as u8);
            let Some(id) = reign.mirror.image_at(index) else { continue };
            let Some(node) = reign.mirror.record().image(id).map(|image| image.node).filter(|&node| node != me) else {
                continue;
            };
            *lease = match leases.held_until(segment, epoch, node) {
                Some(until) => Lease::Until(until),
                None => Lease::Missing,
            };
            let is_out = !matches!(*lease, Lease::Until(until) if until > self.now);
            reign.is_lease_out |= is_out && reign.mirror.needs_lease_of(index);
        }
        reign.mirror.set_leases(self.now, &known, &mut self.mirror_out);
        self.acts.extend(self.mirror_out.drain(..));
    }

    /// Carries out what the mirror asks for.
    pub(super) fn on_action(&mut self, action: Action, leases: &mut Leases, out: &mut Vec<PartAction>) {
        match action {
            Action::Answer { id, result } => self.answer(id.0, result, out),
            // M18: it takes no effect any more once the new owner's epoch is at the images, and the host's next command
            // is executed after that.
            Action::Abandoned { id } => self.answer(id.0, Err(VolumeError::Busy), out),
            Action::Image { image, token, request } => self.ask(image, token, request, out),
            Action::Propose { record, expected } => self.propose_for_mirror(record, expected, out),
            Action::Changed { id, result } => self.on_changed(id, result, out),
            Action::HandedOver { to, epoch } => self.on_handed_over(to, epoch, leases, out),
            Action::Note(note) => self.on_note(note, leases, out),
            Action::Stopped => self.on_mirror_stopped(leases, out),
        }
    }

    fn on_note(&mut self, note: Note, leases: &mut Leases, out: &mut Vec<PartAction>) {
        out.push(PartAction::Note(PartNote::Mirror(note)));
        match note {
            Note::Serving { suspect, .. } => {
                self.counters.claims_won += 1;
                self.counters.claims_unsettled += u64::from(suspect > 0);
                leases.hurry(self.now);
            }
            Note::HandOverFailed => self.on_hand_over_failed(out),
            Note::ResyncBegan { .. } | Note::Unreadable { .. } | Note::IntentVoided => {}
            Note::ResyncEnded { image, reason } | Note::TakenOut { image, reason } => {
                self.on_image_out(image, reason);
            }
            Note::Joined { image } => self.on_image_joined(image),
            _ => {}
        }
    }

    /// The record names another node (M12): that node may answer at once, because we never will.
    fn on_handed_over(&mut self, to: NodeId, epoch: Epoch, leases: &mut Leases, out: &mut Vec<PartAction>) {
        self.counters.handed_over += 1;
        if let Some(record) = self.reign.as_ref().map(|reign| reign.mirror.record().clone())
            && record.epoch > self.record.epoch
        {
            self.take_record(record, leases, out);
        }
        self.on_hand_over_done(out);
        self.drop_reign(leases, out);
        let record = Box::new(self.record.clone());
        out.push(PartAction::Send { to, message: PeerMessage::Record { record } });
        out.push(PartAction::Send { to, message: PeerMessage::Released { epoch } });
    }

    fn on_mirror_stopped(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        self.release(leases, out);
        self.again = true;
    }

    /// This node answers as owner no more, in no epoch so far: the others need not wait (M12).
    fn release(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        let Some(reign) = &self.reign else { return };
        let epoch = reign.mirror.record().epoch;
        let is_claimed = reign.is_claimed();
        self.drop_reign(leases, out);
        let others: Vec<NodeId> = self.peers.up().collect();
        for to in others.into_iter().filter(|_| is_claimed) {
            out.push(PartAction::Send { to, message: PeerMessage::Released { epoch } });
        }
    }

    /// A mirror that serves no more, or never will, makes room for another try.
    pub(super) fn end_reign(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        let Some(reign) = &self.reign else { return };
        let why = match reign.mirror.state() {
            MirrorState::Waiting(why) => Some(why.to_string()),
            MirrorState::Refused(why) => Some(why.to_string()),
            MirrorState::SteppedDown | MirrorState::Stopped => None,
            MirrorState::Serving if self.is_deserted() => None,
            _ => return,
        };
        self.drop_reign(leases, out);
        self.pause_claim(why);
        self.again = true;
    }

    /// Every image in sync was gone, so that nobody could be taken out, and one of ours is back: begin anew.
    fn is_deserted(&self) -> bool {
        let Some(reign) = &self.reign else { return false };
        let mut in_sync = reign.mirror.record().in_sync();
        let is_gone = |image: &dyad_cluster::ImageRecord| {
            reign.links.iter().any(|link| link.image == Some(image.id) && link.told == crate::part::links::Told::Gone)
        };
        in_sync.all(is_gone)
            && reign.mirror.record().in_sync().any(|image| self.image(image.id).is_some_and(crate::image::Image::is_up))
            && self.store.proposer == Proposer::Nobody
    }

    /// Forgets the mirror. What it had not answered is answered busy: whatever it did takes effect before the next owner
    /// serves, or never (M3, M9).
    pub(super) fn drop_reign(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        if self.reign.take().is_none() {
            return;
        }
        self.acts.retain(|act| matches!(act, Action::Answer { .. } | Action::Note(_)));
        while let Some(act) = self.acts.pop_front() {
            match act {
                Action::Answer { id, result } => self.answer(id.0, result, out),
                Action::Note(note) => out.push(PartAction::Note(PartNote::Mirror(note))),
                _ => {}
            }
        }
        leases.disown(self.record.id);
        self.forget_proposals();
        let me = self.me();
        self.images.iter_mut().for_each(|image| image.peer_down(me));
        self.busy_at_mirror(out);
        self.commands.reign_ended(self.record.owner, out);
        self.returns.clear();
        self.again = true;
    }

    /// What the mirror recorded is the newest record; those who may not have seen it are told.
    pub(super) fn follow_mirror(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        let Some(reign) = &self.reign else { return };
        if reign.mirror.record().epoch <= self.record.epoch {
            return;
        }
        let record = reign.mirror.record().clone();
        leases.know_own(record.id, record.epoch);
        self.take_record(record, leases, out);
        leases.hurry(self.now);
        for to in self.peers.up() {
            let record = Box::new(self.record.clone());
            out.push(PartAction::Send { to, message: PeerMessage::Record { record } });
        }
    }

    /// Nothing is served, and the node goes down: the end.
    pub(super) fn consider_end(&mut self, out: &mut Vec<PartAction>) {
        let is_over = self.life == Life::Stopping && self.reign.is_none() && self.front.len() == 0;
        if is_over {
            self.life = Life::Stopped;
            self.commands.stopped(out);
            out.push(PartAction::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_were_told_at_different_times_are_told_together_soon() {
        const EVERY: Period = Period::from_millis(150);
        let next = |told: Moment| on_grid(told + EVERY, EVERY.as_nanos() / 2);
        let told = [1_000, 1_001, 1_030, 1_049].map(|millis| next(Moment::from_nanos(millis * 1_000_000)));
        assert_eq!(told, [Moment::from_nanos(1_125_000_000); 4]);
        assert_eq!(next(told[0]).since(told[0]), EVERY, "and as rarely as before");
        for nanos in (0..400_000_000).step_by(999_983) {
            let told = Moment::from_nanos(nanos);
            assert!(next(told) > told && next(told) <= told + EVERY, "{nanos}");
        }
    }
}
