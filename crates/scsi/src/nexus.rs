//! I_T nexuses and the unit attentions that wait for them (SAM-5 §5.14).

use crate::right::Right;
use crate::sense::Asc;

/// One I_T nexus, as numbered by the transport: one per session.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NexusId(pub u64);

/// Nexuses of one logical unit: hosts times paths, generously. Each costs 16 bytes.
pub const NEXUSES_MAX: usize = 1024;

/// The volume has as many sessions as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the volume already has {NEXUSES_MAX} sessions; log one out first")]
pub struct TooManyNexuses;

/// A unit attention condition. Declared in the order in which several are reported (SAM-5 §5.14.2: the
/// resets first, and they clear what happened before them).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Attention {
    /// The logical unit starts, or restarted with the loss of what was not flushed (M11).
    PowerOn,
    /// A LOGICAL UNIT RESET or target reset took effect.
    DeviceReset,
    /// The nexus was lost and came back.
    NexusLoss,
    /// Another nexus cleared the task set, and commands of this one with it (SAM-5 §7.5).
    CommandsCleared,
    /// Another nexus cleared all registrations, and this one's with them (SPC-4 §5.13.11.6).
    ReservationsPreempted,
    /// A reservation that this nexus had access by ended (SPC-4 §5.13.11.2).
    ReservationsReleased,
    /// Another nexus removed this one's registration (SPC-4 §5.13.11.4).
    RegistrationsPreempted,
    /// A mode page changed, such as the write cache.
    ModeParametersChanged,
    /// The volume was resized.
    CapacityChanged,
    /// The identity shown by INQUIRY changed.
    InquiryChanged,
    /// Another node became owner, or a node came or went (SPC-4 §5.11.2).
    AccessStateChanged,
    /// The space that the volume can grow into is getting short (SBC-3 §4.7.3.7).
    SoftThreshold,
    /// The unit came or went for this nexus (SPC-4 §6.33).
    LunsChanged,
}

impl Attention {
    const ALL: [Self; 13] = [
        Self::PowerOn,
        Self::DeviceReset,
        Self::NexusLoss,
        Self::CommandsCleared,
        Self::ReservationsPreempted,
        Self::ReservationsReleased,
        Self::RegistrationsPreempted,
        Self::ModeParametersChanged,
        Self::CapacityChanged,
        Self::InquiryChanged,
        Self::AccessStateChanged,
        Self::SoftThreshold,
        Self::LunsChanged,
    ];

    /// Its additional sense code.
    pub const fn asc(self) -> Asc {
        match self {
            Self::PowerOn => Asc::POWER_ON,
            Self::DeviceReset => Asc::DEVICE_RESET,
            Self::NexusLoss => Asc::NEXUS_LOSS,
            Self::CommandsCleared => Asc::COMMANDS_CLEARED,
            Self::ReservationsPreempted => Asc::RESERVATIONS_PREEMPTED,
            Self::ReservationsReleased => Asc::RESERVATIONS_RELEASED,
            Self::RegistrationsPreempted => Asc::REGISTRATIONS_PREEMPTED,
            Self::ModeParametersChanged => Asc::MODE_PARAMETERS_CHANGED,
            Self::CapacityChanged => Asc::CAPACITY_CHANGED,
            Self::InquiryChanged => Asc::INQUIRY_CHANGED,
            Self::AccessStateChanged => Asc::ACCESS_STATE_CHANGED,
            Self::SoftThreshold => Asc::SOFT_THRESHOLD,
            Self::LunsChanged => Asc::LUNS_CHANGED,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// Whom a unit attention concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Every nexus.
    All,
    /// Every nexus but this one.
    AllBut(NexusId),
    /// This nexus.
    Only(NexusId),
}

impl Who {
    fn includes(self, nexus: NexusId) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(other) => nexus != other,
            Self::Only(one) => nexus == one,
        }
    }
}

struct Nexus {
    id: NexusId,
    /// One bit per [`Attention`]: a queue that cannot overflow, as each condition is reported once.
    pending: u16,
    right: Right,
}

/// The nexuses of one logical unit, ordered by number.
#[derive(Default)]
pub(crate) struct Nexuses {
    known: Vec<Nexus>,
    /// Nexuses with something pending: zero lets a command pass without a look.
    waiting: usize,
    /// Nexuses that may not do everything: zero likewise.
    restricted: usize,
}

impl Nexuses {
    pub(crate) fn add(&mut self, id: NexusId) -> Result<(), TooManyNexuses> {
        let Err(at) = self.find(id) else { return Ok(()) };
        if self.known.len() >= NEXUSES_MAX {
            return Err(TooManyNexuses);
        }
        self.known.insert(at, Nexus { id, pending: 0, right: Right::Full });
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: NexusId) {
        if let Ok(at) = self.find(id) {
            let gone = self.known.remove(at);
            self.waiting -= usize::from(gone.pending != 0);
            self.restricted -= usize::from(gone.right != Right::Full);
        }
    }

    /// The right that the nexus had before; `None`: there is no such nexus.
    pub(crate) fn set_right(&mut self, id: NexusId, right: Right) -> Option<Right> {
        let at = self.find(id).ok()?;
        let before = std::mem::replace(&mut self.known[at].right, right);
        self.restricted -= usize::from(before != Right::Full);
        self.restricted += usize::from(right != Right::Full);
        Some(before)
    }

    pub(crate) fn right(&self, id: NexusId) -> Right {
        self.find(id).map_or(Right::Full, |at| self.known[at].right)
    }

    /// Whether any nexus may not do everything.
    #[inline]
    pub(crate) fn is_restricted(&self) -> bool {
        self.restricted != 0
    }

    /// The nexus learned by itself what this attention would tell it.
    pub(crate) fn forget(&mut self, id: NexusId, what: Attention) {
        let Ok(at) = self.find(id) else { return };
        let nexus = &mut self.known[at];
        let was_waiting = nexus.pending != 0;
        nexus.pending &= !what.bit();
        self.waiting -= usize::from(was_waiting && nexus.pending == 0);
    }

    pub(crate) fn attend(&mut self, who: Who, what: Attention) {
        for nexus in self.known.iter_mut().filter(|nexus| who.includes(nexus.id)) {
            self.waiting += usize::from(nexus.pending == 0);
            if matches!(what, Attention::PowerOn | Attention::DeviceReset) {
                nexus.pending = 0;
            }
            nexus.pending |= what.bit();
        }
    }

    /// Whether any nexus has something pending.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting != 0
    }

    /// The next unit attention of the nexus, which stays.
    fn pending(&self, id: NexusId) -> Option<Attention> {
        let nexus = &self.known[self.find(id).ok()?];
        Attention::ALL.into_iter().find(|attention| nexus.pending & attention.bit() != 0)
    }

    /// The next unit attention of the nexus, which is thereby reported.
    pub(crate) fn take(&mut self, id: NexusId) -> Option<Attention> {
        let next = self.pending(id)?;
        let at = self.find(id).ok()?;
        let nexus = &mut self.known[at];
        nexus.pending &= !next.bit();
        self.waiting -= usize::from(nexus.pending == 0);
        Some(next)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    fn find(&self, id: NexusId) -> Result<usize, usize> {
        self.known.binary_search_by_key(&id, |nexus| nexus.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise every later command of every nexus would take the slow way.
    #[test]
    fn nothing_waits_once_all_is_reported_or_gone() {
        let (one, other) = (NexusId(1), NexusId(2));
        let mut nexuses = Nexuses::default();
        nexuses.add(one).unwrap();
        nexuses.add(other).unwrap();
        nexuses.attend(Who::All, Attention::CapacityChanged);
        nexuses.attend(Who::All, Attention::PowerOn);
        assert_eq!(nexuses.take(one), Some(Attention::PowerOn));
        assert_eq!(nexuses.take(one), None);
        assert!(nexuses.is_waiting());
        assert_eq!(nexuses.set_right(other, Right::ReadOnly), Some(Right::Full));
        assert!(nexuses.is_restricted());
        nexuses.attend(Who::Only(one), Attention::LunsChanged);
        nexuses.forget(one, Attention::LunsChanged);
        nexuses.forget(one, Attention::LunsChanged);
        nexuses.remove(other);
        assert!(!nexuses.is_restricted());
        assert!(!nexuses.is_waiting());
        nexuses.remove(one);
        assert!(!nexuses.is_waiting());
    }
}
