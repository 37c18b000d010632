//! An administrator's word that all reservations are to be forgotten: the only way on where nobody can read what they are.
//!
//! What follows is like a CLEAR of everybody's (SPC-4 §5.13.11.6), and the mode pages are back to their defaults; every host
//! hears of both. Where the state before is not known, neither is its serial, by which nodes tell what is new to their hosts: the
//! new one is made from the edition, which rises whatever was forgotten.

use dyad_contract::volume::Edition;

use crate::reserve::request::{self, Request};
use crate::reserve::state::{State, What};
use crate::response::Begun;
use crate::task::Task;
use crate::unit::LogicalUnit;

/// Hosts that are named; of more it is said how many.
const NAMED_MAX: usize = 4;

/// A serial above that of every state of this edition or of an earlier one. An ordinary serial counts changes, from zero, and
/// each of them has an edition of its own.
pub(crate) fn serial_at(edition: Edition) -> u64 {
    u64::from(edition.epoch.value()) << 32 | edition.changes.min(u64::from(u32::MAX))
}

impl State {
    /// Nobody is registered and nothing reserved or set any more; everybody hears of it.
    pub(crate) fn forgotten(&self) -> Self {
        let known = self.begun();
        let generation = known.generation.wrapping_add(1);
        let mut next = Self { serial: known.serial, generation, notices: known.notices, ..Self::default() };
        next.tell_all_forgotten();
        next
    }

    /// The same, as the first change of this edition, where nobody knows what was before.
    pub(crate) fn anew(edition: Edition) -> Self {
        let mut state = Self { serial: serial_at(edition), ..Self::default() };
        state.tell_all_forgotten();
        state
    }

    fn tell_all_forgotten(&mut self) {
        self.note_all(What::ReservationsPreempted);
        self.note_all(What::ModeChanged);
        self.trim();
    }
}

impl LogicalUnit {
    /// An administrator wants all reservations, registrations and mode parameters forgotten; the task does it: see
    /// [`Self::again`]. `is_forced`: also where they are known. Otherwise that is a RESERVATION CONFLICT: they are somebody's.
    pub fn forget_reservations(&mut self, is_forced: bool) -> Task {
        request::own_task(Request::Forget { is_forced })
    }

    /// The state of this edition cannot be read, or not be understood: nexuses here are told if one is written in its place.
    pub fn lack_state(&mut self, edition: Edition) {
        self.shared.blind(edition);
    }

    /// The same: a task of [`Self::forget_reservations`] writes one in its place, every other one is not carried out.
    pub fn begin_anew(&mut self, task: Task, edition: Edition) -> Begun {
        request::anew(self, task, edition)
    }

    /// Who is registered and who holds what, as far as is known: half a sentence for an administrator.
    pub fn reservations_told(&self) -> String {
        let state = self.shared.state();
        let mut names: Vec<&str> = state.registrations.iter().map(|known| known.path.initiator.name()).collect();
        names.sort_unstable();
        names.dedup();
        let holder = state.reservation.as_ref().map(|reservation| match &reservation.holder {
            Some(path) => format!("{} holds a persistent reservation", path.initiator.name()),
            None => "all of them hold a persistent reservation".to_owned(),
        });
        let reserved = state.reserved.as_ref().map(|path| format!("{} holds it by RESERVE", path.initiator.name()));
        let registered = (!names.is_empty()).then(|| format!("registered are {}", listed(&names)));
        let told: Vec<String> = registered.into_iter().chain(holder).chain(reserved).collect();
        if told.is_empty() { "no host is registered or holds a reservation".to_owned() } else { told.join(", ") }
    }
}

fn listed(names: &[&str]) -> String {
    let first = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
