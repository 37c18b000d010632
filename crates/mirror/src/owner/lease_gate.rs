//! Leases (M5): an answer that reveals what the segment holds goes out only while every other in-sync image's node
//! has promised not to answer as owner. Checked when the answer goes out.
//!
//! An acknowledgement of a write reveals nothing that the images did not take at this epoch; it needs no lease. While
//! a change of the set is being recorded, leases are needed of the old set and the new (M7): of those that are to
//! leave until they are out, of one that joins from the time on when everything needs it (M16).

use dyad_cluster::{IMAGES_MAX, OutReason};
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeResult};
use dyad_units::Moment;

use crate::owner::core::Core;
use crate::owner::event::{Action, ImageIndex, OpId};
use crate::owner::images::Images;
use crate::owner::status::MirrorState;

/// What is known of an image's lease at the mirror's epoch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Lease {
    /// The image is on the owner's own node, which promises nothing to itself.
    #[default]
    NotNeeded,
    /// Its node granted none at this epoch yet.
    Missing,
    /// Granted until then, by this node's clock.
    Until(Moment),
}

/// The leases of all images.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseTable {
    known: [Lease; IMAGES_MAX],
    /// Since when each is out, as far as anybody looked.
    out_since: [Option<Moment>; IMAGES_MAX],
    /// Who granted one in this epoch.
    had: Images,
}

impl LeaseTable {
    pub(crate) fn is_held(&self, image: ImageIndex, now: Moment) -> bool {
        match self.known[usize::from(image.0)] {
            Lease::NotNeeded => true,
            Lease::Missing => false,
            Lease::Until(end) => now < end,
        }
    }

    /// A new epoch: leases are of an epoch.
    pub(crate) fn renew(&mut self) {
        for known in self.known.iter_mut().filter(|known| **known != Lease::NotNeeded) {
            *known = Lease::Missing;
        }
        (self.out_since, self.had) = ([None; IMAGES_MAX], Images::NONE);
    }
}

/// An answer that may not go out yet.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) id: OpId,
    pub(crate) result: VolumeResult,
    /// It needs leases.
    pub(crate) reveals: bool,
    /// Some image changed for it.
    pub(crate) has_effect: bool,
}

/// Whether an answer says something about what the segment holds.
pub(crate) const fn reveals(is_change: bool, result: &VolumeResult) -> bool {
    match result {
        Ok(VolumeDone::Data(_)) | Err(VolumeError::Miscompare { .. } | VolumeError::Medium { .. }) => true,
        Ok(VolumeDone::Done) => !is_change,
        Err(_) => false,
    }
}

impl Core {
    /// Whose leases are needed.
    pub(crate) fn lease_set(&self) -> Images {
        self.members.in_sync.or(self.joining())
    }

    /// The leases as they are now.
    pub(crate) fn on_leases(&mut self, leases: &[Lease; IMAGES_MAX]) {
        self.leases.known = *leases;
    }

    /// Whether an answer that reveals something may go out now. Not while an image may have joined that alone has a write which
    /// failed: it would show that the write is not there, and the next owner that it is (M16, M19).
    fn may_reveal(&self) -> bool {
        self.members.is_own()
            && self.doubted.is_empty()
            && self.lease_set().into_iter().all(|image| self.leases.is_held(image, self.now))
    }

    /// Answers, or holds the answer until it may go out.
    pub(crate) fn answer(&mut self, held: Held, out: &mut Vec<Action>) {
        if self.members.is_adopting || (held.reveals && !self.may_reveal()) {
            self.counters.lease_holds += u64::from(!self.members.is_adopting);
            self.held.push(held);
        } else {
            out.push(Action::Answer { id: held.id, result: held.result });
        }
    }

    /// Lets answers go that may go out now, in their order.
    pub(crate) fn release_held(&mut self, out: &mut Vec<Action>) {
        if self.held.is_empty() || self.members.is_adopting {
            return;
        }
        let may_reveal = self.may_reveal();
        for held in self.held.extract_if(.., |held| may_reveal || !held.reveals) {
            out.push(Action::Answer { id: held.id, result: held.result });
        }
    }

    /// The host gave up an operation whose answer is held: that it was read tells nobody anything.
    pub(crate) fn abort_held(&mut self, id: OpId) {
        let held = self.held.iter_mut().find(|held| held.id == id && held.reveals && !held.has_effect);
        if let Some(held) = held {
            (held.result, held.reveals) = (Err(VolumeError::Aborted), false);
        }
    }

    /// Takes out whose lease is out for too long (M5), and remembers who granted one.
    pub(crate) fn watch_leases(&mut self, out: &mut Vec<Action>) {
        if !self.needs_leases() {
            return;
        }
        for image in self.lease_set() {
            let at = usize::from(image.0);
            if self.leases.is_held(image, self.now) {
                self.leases.out_since[at] = None;
                self.leases.had.insert(image);
                continue;
            }
            let since = *self.leases.out_since[at].get_or_insert(self.now);
            if self.now >= since + self.grace(image) {
                self.fail_image(image, OutReason::Silent, out);
                // Looked at again: the last one stays, and so does one that joins until that is known; nothing can be
                // read meanwhile.
                self.leases.out_since[at] = Some(self.now);
            }
        }
    }

    /// When a lease ends, or has been out for too long.
    pub(crate) fn lease_deadline(&self) -> Option<Moment> {
        let of = |image: ImageIndex| {
            let at = usize::from(image.0);
            match (self.leases.known[at], self.leases.out_since[at]) {
                (Lease::NotNeeded, _) => None,
                (_, Some(since)) => Some(since + self.grace(image)),
                (Lease::Until(end), None) => Some(end),
                (Lease::Missing, None) => Some(self.now),
            }
        };
        if !self.needs_leases() {
            return None;
        }
        self.lease_set().minus(self.members.failing).into_iter().filter_map(of).min()
    }

    fn grace(&self, image: ImageIndex) -> dyad_units::Period {
        if self.leases.had.contains(image) { self.tuning.lease_grace } else { self.tuning.lease_first }
    }

    fn needs_leases(&self) -> bool {
        let is_serving = matches!(self.state, MirrorState::Serving | MirrorState::HandingOver)
            || (self.state == MirrorState::Stopping && self.has_served);
        is_serving && self.members.is_own()
    }
}
