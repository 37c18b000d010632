//! SCSI state that nobody can read (M20): what becomes of commands that need it, and an administrator's order to forget it.
//!
//! ```text
//!                             ┌─ can be read ─────────▶ refused, unless forced: hosts' reservations are real
//!  order ─▶ the owner reads ──┤
//!                             └─ cannot, or not be ───▶ one without reservations is written, of the newest edition ─▶ every
//!                                understood             node hears of it as of any change, and tells its hosts
//! ```
//!
//! Whoever changes the state has to know it. So where it cannot be read no host can write another one, and no command that needs
//! it is ever carried out again, unless somebody says that what it held may be lost.

use dyad_contract::volume::Edition;
use dyad_mirror::{OpId, PartEvent};
use dyad_scsi::{Begun, StateError, Status};
use dyad_units::{NodeId, VolumeId};

use super::message::Reply;
use super::ops::{Op, Weight, Whose};
use super::run::{Reactor, guarded};
use super::service::Service;
use super::shared::{Shared, Writer};

/// Why the state is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unread {
    /// No image in sync can read it.
    Lost,
    /// It can be read, and is none.
    Damaged,
    /// A later version wrote it, in this format.
    Newer(u16),
}

impl From<StateError> for Unread {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Format(format) => Self::Newer(format),
            _ => Self::Damaged,
        }
    }
}

impl Unread {
    /// What is wrong and what to do, for the volume of this name: one sentence.
    pub(crate) fn sentence(self, volume: &str) -> String {
        let what = match self {
            Self::Lost => "no image in sync can read its reservations",
            Self::Damaged => "its reservations are damaged",
            Self::Newer(format) => {
                return format!(
                    "a later version of Dyad wrote its reservations (format {format}), so hosts get errors; update this node"
                );
            }
        };
        format!("{what}, so hosts get errors; `dyad volume forget-reservations {volume}` lets them begin anew")
    }
}

/// Why nothing was forgotten.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NotForgotten {
    /// Another node owns the volume, if any does.
    NotOwner(Option<NodeId>),
    /// It is not in service here, for this reason.
    NotServing(Option<String>),
    /// Somebody asked for it already.
    Underway,
    /// The state is known: who holds what.
    Known(String),
    /// A later version wrote it.
    Newer,
    /// The owner or the state changed meanwhile.
    Busy,
    /// No image took it.
    NotWritten,
}

/// How an order to forget ended.
pub(crate) type Forgotten = Result<(), NotForgotten>;

/// An order under way.
pub(super) struct Forgetting {
    id: OpId,
    is_forced: bool,
    reply: Reply<Forgotten>,
}

impl Shared {
    pub(super) fn is_forgetting(&self, id: OpId) -> bool {
        self.forgetting.as_ref().is_some_and(|forgetting| forgetting.id == id)
    }
}

impl Reactor {
    /// This node serves as owner from now on, or found a home that cannot be read: it looks whether the state can be, before a
    /// host wants to know.
    pub(super) fn look_at_state(&mut self, index: u32) {
        let Some(volume) = self.volume_mut(index) else { return };
        volume.shared.wants_read = true;
        self.read_state(index);
    }

    /// An administrator wants the reservations of a volume forgotten.
    pub(super) fn forget_reservations(&mut self, volume: VolumeId, is_forced: bool, reply: Reply<Forgotten>) {
        let now = self.now;
        let Some(index) = self.volume_with_id(volume) else {
            let _ = reply.try_send(Err(NotForgotten::NotServing(None)));
            return;
        };
        let Some(volume) = self.volume_mut(index) else { return };
        if let Err(why) = volume.admits_forgetting() {
            let _ = reply.try_send(Err(why));
            return;
        }
        let task = volume.unit.forget_reservations(is_forced);
        let id = volume.ops.add(Op::own(Whose::Unit, now));
        volume.shared.forgetting = Some(Forgetting { id, is_forced, reply });
        self.go_on(index, id, Begun::State { task }, false);
    }

    /// The state could not be read, or not be understood; of this edition, if that is known.
    pub(super) fn on_state_unread(&mut self, index: u32, waiting: &[OpId], edition: Option<Edition>, why: Unread) {
        let Some(volume) = self.volume_mut(index) else { return };
        if volume.shared.unread.replace(why) != Some(why) {
            let name = &volume.record.name;
            tracing::error!(volume = %name, "{}", why.sentence(name.as_str()));
        }
        if let Some(edition) = edition {
            volume.unit.lack_state(edition);
        }
        for &id in waiting {
            let Some((task, _)) = self.unpark(index, id) else { continue };
            let Some(volume) = self.volume_mut(index) else { return };
            let order = volume.shared.forgetting.as_ref().filter(|order| order.id == id);
            if order.is_some() && edition.is_none() {
                self.end_busy(index, id, &task); // another owner reads it anew
                continue;
            }
            let is_refused = matches!(why, Unread::Newer(_)) && order.is_some_and(|order| !order.is_forced);
            let unit = &mut volume.unit;
            let begun = guarded(|| match edition.filter(|_| !is_refused) {
                Some(edition) => unit.begin_anew(task, edition),
                None => Begun::Answer(unit.ended_early(&task, unit.without_state())),
            });
            match begun {
                Ok(begun) => self.write_anew(index, id, begun),
                Err(fault) => return self.fail_volume(index, &fault.0),
            }
        }
    }

    /// Hands a state to the part that was made from none: at the owner alone, and while nobody changes it.
    fn write_anew(&mut self, index: u32, id: OpId, begun: Begun) {
        let now = self.now;
        let Begun::Volume { task, op } = begun else { return self.go_on(index, id, begun, true) };
        let Some(volume) = self.volume_mut(index) else { return };
        if volume.shared.own.is_none() || volume.shared.writer.is_some() {
            return self.end_busy(index, id, &task);
        }
        let Some(entry) = volume.ops.get_mut(id) else { return };
        entry.task = Some(task);
        entry.weight.get_or_insert(Weight::of(&op));
        volume.shared.writer = Some(Writer::Here(id));
        self.volume_event(index, PartEvent::Op { id, op, arrived: now });
    }

    /// The state is not known for a while.
    pub(super) fn end_all_busy(&mut self, index: u32, waiting: &[OpId]) {
        for &id in waiting {
            let Some((task, _)) = self.unpark(index, id) else { continue };
            self.end_busy(index, id, &task);
        }
    }

    /// A task of the unit's own ended so: the order, or not.
    pub(super) fn on_forgetting_over(&mut self, index: u32, id: OpId, status: Status) {
        let Some(volume) = self.volume_mut(index) else { return };
        let Some(order) = volume.shared.forgetting.take_if(|order| order.id == id) else { return };
        let result = match status {
            Status::Good => Ok(()),
            Status::ReservationConflict => Err(NotForgotten::Known(volume.unit.reservations_told())),
            Status::CheckCondition if matches!(volume.shared.unread, Some(Unread::Newer(_))) => {
                Err(NotForgotten::Newer)
            }
            Status::CheckCondition => Err(NotForgotten::NotWritten),
            _ => Err(NotForgotten::Busy),
        };
        if result.is_ok() {
            let name = &volume.record.name;
            tracing::warn!(volume = %name, forced = order.is_forced, "reservations forgotten by an administrator's order");
            volume.shared.unread = None;
            self.look_at_state(index);
        }
        let _ = order.reply.try_send(result);
    }
}

impl super::volumes::Volume {
    fn admits_forgetting(&self) -> Forgotten {
        if self.shared.own.is_none() {
            return Err(NotForgotten::NotOwner(self.part.record().owner));
        }
        match Service::of(&self.part.status(), &self.places) {
            Service::Here { .. } if self.shared.forgetting.is_some() => Err(NotForgotten::Underway),
            Service::Here { .. } => Ok(()),
            Service::Not(why) => Err(NotForgotten::NotServing(Some(why))),
            Service::Elsewhere | Service::Starting => Err(NotForgotten::NotServing(None)),
        }
    }
}
