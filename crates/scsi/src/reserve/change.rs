//! What PERSISTENT RESERVE OUT makes of a state (SPC-4 §5.13, §6.16), and RESERVE and RELEASE (SPC-2 §7.16, §7.21).

use crate::reserve::port::{InitiatorPort, Path};
use crate::reserve::state::{Kind, REGISTRATIONS_MAX, Registration, Reservation, State, What};
use crate::sense::{Asc, Condition, Field};
use crate::table::Refusal;

/// SERVICE ACTION RESERVATION KEY in the parameter list.
const NEW_KEY_AT: u16 = 8;
/// RELATIVE TARGET PORT IDENTIFIER in the list of REGISTER AND MOVE.
const PORT_AT: u16 = 18;
/// TransportIDs, or their length, in either list.
const IDS_AT: u16 = 24;

/// A service action with its parameters (SPC-4 table 206).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Register(Register),
    Reserve(Kind),
    Release(Kind),
    Clear,
    Preempt { kind: Kind, key: u64, abort: bool },
    Move(Move),
}

/// REGISTER, or REGISTER AND IGNORE EXISTING KEY.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Register {
    pub(crate) key: u64,
    pub(crate) ignores_key: bool,
    pub(crate) aptpl: bool,
    /// Every target port of these (ALL_TG_PT), else the one that it came through.
    pub(crate) ports: Vec<u16>,
    /// SPEC_I_PT: register these as well.
    pub(crate) others: Option<Vec<InitiatorPort>>,
}

/// REGISTER AND MOVE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Move {
    pub(crate) key: u64,
    pub(crate) aptpl: bool,
    pub(crate) unregisters: bool,
    /// `None`: there is no such target port.
    pub(crate) to: Option<Path>,
}

/// The state after a change; `None`: nothing is to be changed.
pub(crate) type Changed = Result<Option<State>, Refusal>;

const BAD_NEW_KEY: Condition = Condition::invalid_list(NEW_KEY_AT);

impl State {
    /// Carries out a service action. `key` is the RESERVATION KEY field.
    pub(crate) fn persistent(&self, from: &Path, key: u64, action: &Action) -> Changed {
        let mut next = self.begun();
        let is_changed = match action {
            Action::Register(register) => next.register(from, key, register)?,
            Action::Reserve(kind) => next.reserve(from, key, *kind)?,
            Action::Release(kind) => next.release(from, key, *kind)?,
            Action::Clear => next.clear(from, key)?,
            Action::Preempt { kind, key: victims, abort } => next.preempt(from, key, (*kind, *victims), *abort)?,
            Action::Move(to) => next.move_to(from, key, to)?,
        };
        next.trim();
        Ok(is_changed.then_some(next))
    }

    /// The path must be registered with this key (SPC-4 §5.13.7: else RESERVATION CONFLICT).
    fn check_key(&self, from: &Path, key: u64) -> Result<(), Refusal> {
        match self.registration(from) {
            Some(registration) if registration.key == key => Ok(()),
            _ => Err(Refusal::Conflict),
        }
    }

    /// SPC-4 §5.13.7, tables 63 and 64.
    fn register(&mut self, from: &Path, key: u64, register: &Register) -> Result<bool, Refusal> {
        let is_known = self.registration(from).is_some();
        if !register.ignores_key && key != self.registration(from).map_or(0, |registration| registration.key) {
            return Err(Refusal::Conflict);
        }
        if register.others.is_some() && is_known {
            return Err(Condition::invalid_list(20).into());
        }
        let mut is_changed = false;
        for path in paths_of(from, register) {
            // As if it had come through each of these paths.
            match self.registrations.iter_mut().find(|registration| registration.path == path) {
                Some(registration) if !register.ignores_key && registration.key != key => {
                    return Err(Refusal::Conflict);
                }
                Some(_) if register.key == 0 => self.unregister(&path),
                Some(registration) => registration.key = register.key,
                // An unregistered path has nothing to give up.
                None if register.key == 0 => continue,
                None => self.add(path, register.key)?,
            }
            is_changed = true;
        }
        if !is_changed {
            return Ok(false);
        }
        self.aptpl = register.aptpl;
        self.generation = self.generation.wrapping_add(1);
        Ok(true)
    }

    fn add(&mut self, path: Path, key: u64) -> Result<(), Refusal> {
        if self.registrations.len() >= REGISTRATIONS_MAX {
            return Err(Condition::illegal(Asc::INSUFFICIENT_REGISTRATIONS).into());
        }
        self.registrations.push(Registration { path, key });
        Ok(())
    }

    /// Removes a registration, and with the holder's, or the last one of all holders, the reservation (SPC-4 §5.13.11.3).
    fn unregister(&mut self, path: &Path) {
        self.registrations.retain(|registration| registration.path != *path);
        let ends = match &self.reservation {
            None => false,
            Some(Reservation { holder: Some(holder), .. }) => holder == path,
            Some(Reservation { holder: None, .. }) => self.registrations.is_empty(),
        };
        if ends {
            self.end_reservation(path);
        }
    }

    /// The reservation ends; who is registered hears of it where it gave him access (SPC-4 §5.13.11.2).
    fn end_reservation(&mut self, by: &Path) {
        if self.reservation.take().is_some_and(|ended| ended.kind.admits_registrants()) {
            self.note_others(by, What::ReservationsReleased);
        }
    }

    /// Everybody who is registered but one.
    fn note_others(&mut self, but: &Path, what: What) {
        for at in 0..self.registrations.len() {
            if self.registrations[at].path != *but {
                let path = self.registrations[at].path.clone();
                self.note(&path, what);
            }
        }
    }

    /// SPC-4 §5.13.9.
    fn reserve(&mut self, from: &Path, key: u64, kind: Kind) -> Result<bool, Refusal> {
        self.check_key(from, key)?;
        if let Some(reservation) = &self.reservation {
            let is_same = self.is_holder(from) && reservation.kind == kind;
            return if is_same { Ok(false) } else { Err(Refusal::Conflict) };
        }
        self.hold(from, kind);
        Ok(true)
    }

    fn hold(&mut self, by: &Path, kind: Kind) {
        let holder = (!kind.is_of_all()).then(|| by.clone());
        self.reservation = Some(Reservation { kind, holder });
    }

    /// SPC-4 §5.13.11.2: whoever holds nothing gives nothing up, which is no error.
    fn release(&mut self, from: &Path, key: u64, kind: Kind) -> Result<bool, Refusal> {
        self.check_key(from, key)?;
        if !self.is_holder(from) {
            return Ok(false);
        }
        if self.reservation.as_ref().is_some_and(|reservation| reservation.kind != kind) {
            return Err(Condition::illegal(Asc::INVALID_RELEASE).into());
        }
        self.end_reservation(from);
        Ok(true)
    }

    /// SPC-4 §5.13.11.6.
    fn clear(&mut self, from: &Path, key: u64) -> Result<bool, Refusal> {
        self.check_key(from, key)?;
        self.note_others(from, What::ReservationsPreempted);
        self.registrations.clear();
        self.reservation = None;
        self.generation = self.generation.wrapping_add(1);
        Ok(true)
    }

    /// SPC-4 §5.13.11.4, §5.13.11.5 and figure 9.
    fn preempt(&mut self, from: &Path, key: u64, to: (Kind, u64), abort: bool) -> Result<bool, Refusal> {
        self.check_key(from, key)?;
        let (kind, victims) = to;
        let what = if abort { What::Aborted } else { What::RegistrationsPreempted };
        let takes_over = match &self.reservation {
            None => false,
            Some(Reservation { holder: None, .. }) => victims == 0,
            Some(Reservation { holder: Some(holder), .. }) => {
                victims != 0 && self.registration(holder).is_some_and(|registration| registration.key == victims)
            }
        };
        if victims == 0 && !takes_over {
            return Err(BAD_NEW_KEY.into());
        }
        let is_victim = |registration: &Registration| victims == 0 || registration.key == victims;
        if !takes_over && !self.registrations.iter().any(is_victim) {
            return Err(Refusal::Conflict);
        }
        let is_spared = |registration: &Registration| takes_over && registration.path == *from;
        let gone: Vec<Registration> = self
            .registrations
            .extract_if(.., |registration| is_victim(registration) && !is_spared(registration))
            .collect();
        for registration in gone.iter().filter(|registration| registration.path != *from) {
            self.note(&registration.path, what);
        }
        if takes_over {
            let before = self.reservation.take().map(|reservation| reservation.kind);
            if before != Some(kind) {
                self.note_others(from, What::ReservationsReleased);
            }
            self.hold(from, kind);
        } else if self.registrations.is_empty() {
            // The last of all holders was among them, the one who asked.
            self.reservation = None;
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(true)
    }

    /// SPC-4 §5.13.8, table 65.
    fn move_to(&mut self, from: &Path, key: u64, to: &Move) -> Result<bool, Refusal> {
        self.check_key(from, key)?;
        let kind = match &self.reservation {
            Some(reservation) if self.is_holder(from) && !reservation.kind.is_of_all() => reservation.kind,
            _ => return Err(Refusal::Conflict),
        };
        let target = to.to.as_ref().ok_or(Condition::invalid_list(PORT_AT))?;
        if to.key == 0 {
            return Err(BAD_NEW_KEY.into());
        }
        if target == from {
            return Err(Condition::invalid_list(IDS_AT).into());
        }
        match self.registrations.iter_mut().find(|registration| registration.path == *target) {
            Some(registration) => registration.key = to.key,
            None => self.add(target.clone(), to.key)?,
        }
        self.hold(target, kind);
        if to.unregisters {
            self.registrations.retain(|registration| registration.path != *from);
        }
        self.aptpl = to.aptpl;
        self.generation = self.generation.wrapping_add(1);
        Ok(true)
    }

    /// RESERVE (SPC-2 §7.21), with the exceptions for who has a persistent reservation (SPC-4 §5.13.3, CRH).
    pub(crate) fn reserve_unit(&self, from: &Path) -> Changed {
        if !self.registrations.is_empty() {
            return self.compatible(from).map(|()| None);
        }
        match &self.reserved {
            Some(holder) if holder == from => Ok(None),
            Some(_) => Err(Refusal::Conflict),
            None => Ok(Some(Self { reserved: Some(from.clone()), ..self.begun() })),
        }
    }

    /// RELEASE (SPC-2 §7.16): of another's reservation it is ignored.
    pub(crate) fn release_unit(&self, from: &Path) -> Changed {
        if !self.registrations.is_empty() {
            return self.compatible(from).map(|()| None);
        }
        let is_own = self.reserved.as_ref() == Some(from);
        Ok(is_own.then(|| Self { reserved: None, ..self.begun() }))
    }

    /// While there are registrations RESERVE and RELEASE do nothing for who holds the persistent reservation, or has access
    /// by being registered, and are refused for the others.
    fn compatible(&self, from: &Path) -> Result<(), Refusal> {
        let admits = self.reservation.as_ref().is_some_and(|reservation| reservation.kind.admits_registrants());
        let may = self.is_holder(from) || admits && self.registration(from).is_some();
        if may { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// MODE SELECT: these flags are set, those are cleared, and every other path hears of it; `None`: they are so already.
    pub(crate) fn with_mode(&self, set: u8, clear: u8) -> Option<Self> {
        let flags = self.flags & !clear | set;
        if flags == self.flags {
            return None;
        }
        let mut next = self.begun();
        next.flags = flags;
        next.note_all(What::ModeChanged);
        next.trim();
        Some(next)
    }

    /// A LOGICAL UNIT RESET ends what RESERVE began and brings the mode pages back to what was saved, which is the default;
    /// every host hears of it (SPC-2 §5.5.1, SAM-5 §6.3.3, SPC-4 §6.14).
    pub(crate) fn reset(&self) -> Self {
        let mut next = self.begun();
        next.reserved = None;
        next.flags = 0;
        next.note_all(What::Reset);
        next.trim();
        next
    }

    /// The nexus is no more: what RESERVE began ends with it (SPC-2 §5.5.1); `None`: it began nothing.
    pub(crate) fn without(&self, path: &Path) -> Option<Self> {
        (self.reserved.as_ref() == Some(path)).then(|| Self { reserved: None, ..self.begun() })
    }
}

/// The paths that a REGISTER is about, its own first.
fn paths_of(from: &Path, register: &Register) -> Vec<Path> {
    let mut paths = vec![from.clone()];
    let initiators = std::iter::once(&from.initiator).chain(register.others.iter().flatten());
    for initiator in initiators {
        for &target in &register.ports {
            let path = Path { initiator: initiator.clone(), target };
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths
}

/// The byte of a list at fault: TransportIDs.
pub(crate) const fn bad_ids() -> Condition {
    Condition::invalid_list(IDS_AT)
}

/// The field of a CDB at fault: SCOPE or TYPE.
pub(crate) const fn bad_kind() -> Condition {
    Condition::invalid_cdb(Field::cdb(2))
}
