//! The unit's copy of the state that all nodes share, how old it is, and what it means for the nexuses here.
//!
//! The state itself is with the volume (M20). A node that answers a host from its copy has to know that no other node
//! changed the state since; whoever runs commands sees to that with the copy's [`Edition`].

use dyad_contract::volume::Edition;

use crate::nexus::{Attention, NexusId, Nexuses, Who};
use crate::reserve::bytes::StateError;
use crate::reserve::forget::serial_at;
use crate::reserve::port::{InitiatorPort, Path};
use crate::reserve::state::{CACHE_OFF, PROTECTED, Reservation, State, What};
use crate::table::Conflict;

/// What a nexus may do, as the state says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Standing {
    is_registered: bool,
    is_holder: bool,
    has_reserved: bool,
}

/// Who of the nexuses here knows of a change that was made here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// None.
    Nobody,
    /// Who asked for it.
    By(NexusId),
    /// All.
    All,
}

/// A nexus with the name of its initiator port.
struct Named {
    id: NexusId,
    path: Path,
    standing: Standing,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Shared {
    /// Of `state`; `None`: it may be out of date.
    edition: Option<Edition>,
    state: State,
    /// The serial up to which the nexuses here were told of notices; `None`: none was seen yet.
    told: Option<u64>,
    /// It is known, and nobody has reserved or protected anything: a command passes without a look.
    is_open: bool,
    /// In the order of their ids.
    named: Vec<Named>,
    /// Nexuses whose commands another host's PREEMPT AND ABORT ends; taken by [`crate::LogicalUnit::take_drain`].
    aborted: Vec<NexusId>,
    /// The serial of the last one that was carried out here: whom it aborts was found then.
    aborted_by: u64,
}

impl Shared {
    /// Whether no command has to be looked at.
    #[inline]
    pub(crate) const fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) const fn edition(&self) -> Option<Edition> {
        self.edition
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Whether SWP is set, as far as that is known.
    #[inline]
    pub(crate) const fn is_protected(&self) -> bool {
        self.edition.is_some() && self.state.flags & PROTECTED != 0
    }

    /// Whether a host switched the write cache off, as far as that is known.
    #[inline]
    pub(crate) const fn is_cache_off(&self) -> bool {
        self.state.flags & CACHE_OFF != 0
    }

    /// It may be out of date.
    pub(crate) fn forget(&mut self) {
        self.edition = None;
        self.is_open = false;
    }

    /// The state of that edition cannot be read: if one is written in its place, that is news for the nexuses here, although
    /// they were never told of any.
    pub(crate) fn blind(&mut self, edition: Edition) {
        self.told.get_or_insert(serial_at(edition));
    }

    /// This is the state of that edition.
    pub(crate) fn adopt(&mut self, edition: Edition, bytes: &[u8], nexuses: &mut Nexuses) -> Result<(), StateError> {
        let state = State::decode(bytes)?;
        self.take(edition, state, nexuses, Known::Nobody);
        Ok(())
    }

    /// Takes over a state; `known`: who knows what its last change tells everybody.
    pub(crate) fn take(&mut self, edition: Edition, state: State, nexuses: &mut Nexuses, known: Known) {
        self.edition = Some(edition);
        self.state = state;
        self.is_open = self.state.is_free();
        self.tell(nexuses, known);
        for named in &mut self.named {
            named.standing = standing_of(&self.state, &named.path);
        }
    }

    /// Hands new notices to the nexuses that they concern.
    fn tell(&mut self, nexuses: &mut Nexuses, known: Known) {
        let serial = self.state.serial;
        let Some(told) = self.told.replace(serial) else { return };
        if told < self.state.oldest_told() {
            // Some were forgotten before this node saw them: it says the worst of them to everybody.
            nexuses.attend(Who::All, Attention::ModeParametersChanged);
            return nexuses.attend(Who::All, Attention::ReservationsPreempted);
        }
        for notice in self.state.notices.iter().filter(|notice| notice.serial > told) {
            if notice.whom == 0 {
                let who = match known {
                    Known::All if notice.serial == serial => continue,
                    Known::By(nexus) if notice.serial == serial => Who::AllBut(nexus),
                    _ => Who::All,
                };
                nexuses.attend(who, attention_of(notice.what));
                continue;
            }
            for named in self.named.iter().filter(|named| named.path.digest() == notice.whom) {
                nexuses.attend(Who::Only(named.id), attention_of(notice.what));
                let is_news = notice.serial > self.aborted_by;
                if notice.what == What::Aborted && is_news && !self.aborted.contains(&named.id) {
                    self.aborted.push(named.id);
                }
            }
        }
    }

    /// A PREEMPT AND ABORT made this state, and is about to be answered: whom it aborts.
    pub(crate) fn abort_by(&mut self, state: &State) {
        self.aborted_by = state.serial;
        let of_now =
            state.notices.iter().filter(|notice| notice.serial == state.serial && notice.what == What::Aborted);
        for notice in of_now {
            for named in self.named.iter().filter(|named| named.path.digest() == notice.whom) {
                if !self.aborted.contains(&named.id) {
                    self.aborted.push(named.id);
                }
            }
        }
    }

    /// The nexuses here know of everything up to the present state: they caused it.
    pub(crate) fn name(&mut self, id: NexusId, initiator: InitiatorPort, target: u16) {
        self.unname(id);
        let path = Path { initiator, target };
        let standing = standing_of(&self.state, &path);
        let at = self.named.partition_point(|named| named.id < id);
        self.named.insert(at, Named { id, path, standing });
    }

    pub(crate) fn unname(&mut self, id: NexusId) {
        self.named.retain(|named| named.id != id);
        self.aborted.retain(|aborted| *aborted != id);
    }

    fn find(&self, id: NexusId) -> Option<&Named> {
        let at = self.named.binary_search_by_key(&id, |named| named.id).ok()?;
        Some(&self.named[at])
    }

    /// The path of a nexus, if it has a name.
    pub(crate) fn path(&self, id: NexusId) -> Option<&Path> {
        self.find(id).map(|named| &named.path)
    }

    /// The names of the initiator ports that have a session here or are registered, of this host.
    pub(crate) fn ports_of(&self, name: &str) -> Vec<InitiatorPort> {
        let here = self.named.iter().map(|named| &named.path.initiator);
        let registered = self.state.registrations.iter().map(|registration| &registration.path.initiator);
        let mut ports: Vec<_> = here.chain(registered).filter(|port| port.name() == name).cloned().collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Whether what this command does is kept from this nexus by a reservation (SPC-4 §5.13.1, SPC-2 §5.5.1). The state is
    /// known.
    #[cold]
    pub(crate) fn conflicts(&self, id: NexusId, conflict: Conflict, passes_reserve: bool) -> bool {
        let standing = self.find(id).map(|named| named.standing).unwrap_or_default();
        if self.state.reserved.is_some() && !standing.has_reserved && !passes_reserve {
            return true;
        }
        let Some(Reservation { kind, .. }) = &self.state.reservation else { return false };
        if standing.is_holder || kind.admits_registrants() && standing.is_registered {
            return false;
        }
        match conflict {
            Conflict::Never => false,
            Conflict::UnlessWriteExclusive => !kind.is_write_exclusive(),
            Conflict::Always => true,
        }
    }

    pub(crate) const fn has_aborted(&self) -> bool {
        !self.aborted.is_empty()
    }

    pub(crate) fn take_aborted(&mut self) -> Vec<NexusId> {
        std::mem::take(&mut self.aborted)
    }

    /// Whether a nexus of this path is here.
    pub(crate) fn is_here(&self, digest: u64) -> bool {
        self.named.iter().any(|named| named.path.digest() == digest)
    }
}

fn standing_of(state: &State, path: &Path) -> Standing {
    Standing {
        is_registered: state.registration(path).is_some(),
        is_holder: state.is_holder(path),
        has_reserved: state.reserved.as_ref() == Some(path),
    }
}

const fn attention_of(what: What) -> Attention {
    match what {
        What::ReservationsPreempted => Attention::ReservationsPreempted,
        What::ReservationsReleased => Attention::ReservationsReleased,
        What::RegistrationsPreempted | What::Aborted => Attention::RegistrationsPreempted,
        What::Reset => Attention::DeviceReset,
        What::ModeChanged => Attention::ModeParametersChanged,
    }
}
