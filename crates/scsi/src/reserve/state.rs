//! What a logical unit knows of reservations, the same on every node (M20), and what can be asked of it.

use crate::reserve::port::Path;

/// Type of a persistent reservation (SPC-4 table 182).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Kind {
    WriteExclusive = 0x1,
    ExclusiveAccess = 0x3,
    WriteExclusiveRegistrants = 0x5,
    ExclusiveAccessRegistrants = 0x6,
    WriteExclusiveAll = 0x7,
    ExclusiveAccessAll = 0x8,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrants,
        Self::ExclusiveAccessRegistrants,
        Self::WriteExclusiveAll,
        Self::ExclusiveAccessAll,
    ];

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Whether others may read.
    pub(crate) const fn is_write_exclusive(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::WriteExclusiveRegistrants | Self::WriteExclusiveAll)
    }

    /// Whether everybody who is registered has access.
    pub(crate) const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whether everybody who is registered holds it.
    pub(crate) const fn is_of_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }
}

/// A registration: a path and its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Registration {
    pub(crate) path: Path,
    /// Never zero.
    pub(crate) key: u64,
}

/// A persistent reservation of the logical unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reservation {
    pub(crate) kind: Kind,
    /// Who holds it, registered; `None` where everybody who is registered does.
    pub(crate) holder: Option<Path>,
}

/// What a path has to be told, wherever its session is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum What {
    ReservationsPreempted = 1,
    ReservationsReleased = 2,
    RegistrationsPreempted = 3,
    /// As before, and its commands are aborted (PREEMPT AND ABORT).
    Aborted = 4,
    /// A LOGICAL UNIT RESET at some node: all paths.
    Reset = 5,
    /// MODE SELECT at some node: all paths but the one that sent it.
    ModeChanged = 6,
}

impl What {
    pub(crate) const ALL: [Self; 6] = [
        Self::ReservationsPreempted,
        Self::ReservationsReleased,
        Self::RegistrationsPreempted,
        Self::Aborted,
        Self::Reset,
        Self::ModeChanged,
    ];

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|what| *what as u8 == code)
    }
}

/// Something that happened to a path, to be told at whatever node its session is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Notice {
    /// Serial of the state that it came with.
    pub(crate) serial: u64,
    /// [`Path::digest`]; zero: every path.
    pub(crate) whom: u64,
    pub(crate) what: What,
}

/// Notices that are kept, the newest; a node that missed more tells all its hosts ([`State::oldest_told`]).
pub(crate) const NOTICES_MAX: usize = 512;
/// Registrations of one unit. Names of usual length all fit; of very long ones as many as the state has room for.
pub(crate) const REGISTRATIONS_MAX: usize = 512;

/// Software write protection (SWP of the Control mode page).
pub(crate) const PROTECTED: u8 = 0x01;
/// The write cache is off (WCE of the Caching mode page), although the administrator has it on.
pub(crate) const CACHE_OFF: u8 = 0x02;
/// All that hosts can set.
pub(crate) const MODE_FLAGS: u8 = PROTECTED | CACHE_OFF;

/// Reservations and registrations of a logical unit, and what hosts set by MODE SELECT.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    /// Rises with every change.
    pub(crate) serial: u64,
    /// Who made the last change: tells a change of one's own, of which no answer came, from another's.
    pub(crate) author: u64,
    /// PRGENERATION (SPC-4 §5.13.7).
    pub(crate) generation: u32,
    /// As the last REGISTER said. The state is durable in any case.
    pub(crate) aptpl: bool,
    /// What hosts set by MODE SELECT: [`PROTECTED`], [`CACHE_OFF`].
    pub(crate) flags: u8,
    /// In the order in which they came.
    pub(crate) registrations: Vec<Registration>,
    pub(crate) reservation: Option<Reservation>,
    /// Who holds the unit by RESERVE (SPC-2 §7.21).
    pub(crate) reserved: Option<Path>,
    /// The oldest first.
    pub(crate) notices: Vec<Notice>,
}

impl State {
    /// The registration of a path.
    pub(crate) fn registration(&self, path: &Path) -> Option<&Registration> {
        self.registrations.iter().find(|registration| registration.path == *path)
    }

    /// Whether the path holds the persistent reservation (SPC-4 §5.13.9).
    pub(crate) fn is_holder(&self, path: &Path) -> bool {
        match &self.reservation {
            None => false,
            Some(Reservation { holder: Some(holder), .. }) => holder == path,
            Some(Reservation { holder: None, .. }) => self.registration(path).is_some(),
        }
    }

    /// Every command is everybody's.
    pub(crate) const fn is_free(&self) -> bool {
        self.reservation.is_none() && self.reserved.is_none() && self.flags & PROTECTED == 0
    }

    /// The path hears of it, and of this change at most once.
    pub(crate) fn note(&mut self, path: &Path, what: What) {
        self.notices.push(Notice { serial: self.serial, whom: path.digest(), what });
    }

    /// Everybody hears of it.
    pub(crate) fn note_all(&mut self, what: What) {
        self.notices.push(Notice { serial: self.serial, whom: 0, what });
    }

    /// Begins a change: what follows is the state after it.
    pub(crate) fn begun(&self) -> Self {
        let mut next = self.clone();
        next.serial += 1;
        next
    }

    /// Forgets notices for which there is no room.
    pub(crate) fn trim(&mut self) {
        let over = self.notices.len().saturating_sub(NOTICES_MAX);
        self.notices.drain(..over);
    }

    /// Whoever has seen the state with this serial knows of all notices but those that are kept.
    pub(crate) fn oldest_told(&self) -> u64 {
        match self.notices.first() {
            // Of its serial, others may have been forgotten.
            Some(first) if self.notices.len() >= NOTICES_MAX => first.serial,
            _ => 0,
        }
    }
}
