//! The logical unit's doors to the shared state.

use dyad_contract::volume::{Edition, VolumeOp};

use crate::copy;
use crate::nexus::NexusId;
use crate::reserve::bytes::StateError;
use crate::reserve::port::InitiatorPort;
use crate::reserve::request::{self, Request};
use crate::reserve::shared::Known;
use crate::reserve::state::State;
use crate::response::{Begun, Response, Status};
use crate::right;
use crate::sense::{Asc, Condition, SenseKey};
use crate::table::{Call, Command, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::{LogicalUnit, attention_condition};

/// What has to be over before an answer goes out, that of a PREEMPT AND ABORT (M20).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drain {
    /// Nexuses here: give their commands up, and wait for what comes of them.
    pub nexuses: Vec<NexusId>,
    /// Others are at other nodes: what they sent before may still take effect until T has passed (M19).
    pub is_elsewhere: bool,
}

impl LogicalUnit {
    /// Who is at the other end of a nexus. Without a name it can hold no reservation.
    pub fn set_initiator(&mut self, nexus: NexusId, initiator: InitiatorPort) {
        self.shared.name(nexus, initiator, self.settings.identity.target_port);
    }

    /// Which state the unit's copy is; none: it has to be read anew.
    pub fn edition(&self) -> Option<Edition> {
        self.shared.edition()
    }

    /// Whether a reset changes the shared state, as far as is known: a nexus holds the unit by RESERVE, or set something by
    /// MODE SELECT.
    pub fn is_changed_by_reset(&self) -> bool {
        let state = self.shared.state();
        state.reserved.is_some() || state.flags != 0
    }

    /// The copy may be out of date.
    pub fn forget_state(&mut self) {
        self.shared.forget();
    }

    /// The shared state is this; nothing: there never was any. Nexuses here are told of what concerns them.
    ///
    /// # Errors
    /// [`StateError`]: commands that depend on it cannot be carried out.
    pub fn adopt(&mut self, edition: Edition, bytes: &[u8]) -> Result<(), StateError> {
        self.shared.adopt(edition, bytes, &mut self.nexuses)?;
        self.drains |= self.shared.has_aborted();
        Ok(())
    }

    /// A change of our own, made from `base`, is durable.
    pub(crate) fn adopt_own(&mut self, base: Edition, state: State, known: Known) {
        if self.shared.edition() == Some(base) {
            self.shared.take(base.next(), state, &mut self.nexuses, known);
            self.drains |= self.shared.has_aborted();
        } else {
            self.shared.forget();
        }
    }

    /// Goes on with a task of [`Begun::State`] or [`crate::Step::State`].
    pub fn again(&mut self, task: Task) -> Begun {
        match task.phase {
            Phase::Begin { cdb, transfer } => {
                let call = Call { nexus: task.nexus(), cdb: &cdb, transfer };
                self.run(&call, true).unwrap_or_else(|refusal| Begun::Answer(self.refuse(refusal)))
            }
            _ => self.attempt(task),
        }
    }

    /// Goes on with a task whose last request to the volume was not carried out, because the state is another meanwhile;
    /// the newest was read since.
    pub fn overtaken(&mut self, task: Task, mut op: VolumeOp) -> Begun {
        if task.phase == Phase::Share {
            return self.attempt(task);
        }
        // Who lost a registration hears of that first (SAM-5 §5.14.1). A copy began before: its host hears with the next one.
        if task.copy.is_none()
            && let Some(attention) = self.nexuses.take(task.nexus())
        {
            return Begun::Answer(self.check_condition(attention_condition(attention)));
        }
        if self.is_kept_out(&task) {
            return Begun::Answer(self.ended_early(&task, Response::status(Status::ReservationConflict)));
        }
        // What MODE SELECT switched meanwhile holds for it, too.
        let writes = match &mut op {
            VolumeOp::Write { durable, .. }
            | VolumeOp::Fill { durable, .. }
            | VolumeOp::Unmap { durable, .. }
            | VolumeOp::CompareAndWrite { durable, .. } => {
                *durable = self.is_durable(*durable);
                true
            }
            VolumeOp::WriteAtomic { .. } => true,
            _ => false,
        };
        if writes && let Err(protected) = self.check_writable(task.nexus()) {
            return Begun::Answer(self.ended_early(&task, self.check_condition(protected)));
        }
        Begun::Volume { task, op }
    }

    /// The answer of a command that cannot go on, in the place of `response`: a copy that is half done says so, for what was
    /// not carried out its host would send again.
    pub fn ended_early(&self, task: &Task, response: Response) -> Response {
        copy::ended_early(task, response)
    }

    fn attempt(&mut self, task: Task) -> Begun {
        match request::attempt(self, task) {
            Ok(step) => step.into(),
            Err(refusal) => Begun::Answer(self.refuse(refusal)),
        }
    }

    /// The state cannot be read, or not be understood: commands that depend on it are not carried out.
    pub fn without_state(&self) -> Response {
        self.check_condition(Condition::new(SenseKey::HardwareError, Asc::INTERNAL_TARGET_FAILURE))
    }

    /// What has to be given up because of a change that the unit made or heard of, before anything more is answered.
    pub fn take_drain(&mut self) -> Option<Drain> {
        if !std::mem::take(&mut self.drains) {
            return None;
        }
        let is_elsewhere = std::mem::take(&mut self.drains_elsewhere);
        Some(Drain { nexuses: self.shared.take_aborted(), is_elsewhere })
    }

    /// Whether the nexus holds the unit by RESERVE, as a request to give that up.
    pub(crate) fn reserved_by(&self, nexus: NexusId) -> Option<Request> {
        let path = self.shared.path(nexus)?;
        (self.shared.state().reserved.as_ref() == Some(path)).then(|| Request::Lost(path.clone()))
    }

    /// Whether the nexus whose loss this task tells of did not come back meanwhile, by the same path.
    pub fn is_lost(&self, task: &Task) -> bool {
        let path = task.share.as_ref().and_then(|share| share.lost_path());
        path.is_some_and(|path| !self.shared.is_here(path.digest()))
    }

    /// Changes of the shared state are known again by their names, where no answer tells what became of one: this unit's
    /// begin here, best at random. Two nodes may have the same number of a target port, and an earlier life of this one had it
    /// and counted from the same; whose change was taken for one's own would be answered although it was never made.
    pub fn name_changes(&mut self, from: u64) {
        self.changes = from;
    }

    /// Names a change.
    pub(crate) fn next_author(&mut self) -> u64 {
        self.changes = self.changes.wrapping_add(1);
        self.changes
    }

    /// SPC-4 §5.13.1, §7.5.8: what a reservation, or SWP, keeps the nexus from. A command that depends on the state waits until it is known;
    /// and what it says, or that it is refused, is said of a state that is newer than the command: whoever released the
    /// unit at another node may have told this host so.
    #[cold]
    pub(crate) fn check_reservation(
        &mut self,
        call: &Call<'_>,
        command: &Command,
        is_fresh: bool,
    ) -> Result<Option<Begun>, Refusal> {
        let phase = Phase::Begin { cdb: *call.cdb, transfer: call.transfer };
        let waits = || Some(Begun::State { task: Task::new(call.nexus, phase, Range::NONE) });
        if self.shared.edition().is_none() || command.shares && !is_fresh {
            return Ok(if command.needs_state() { waits() } else { None });
        }
        let rule = command.rule();
        let is_kept_out = self.shared.conflicts(call.nexus, rule.conflict, rule.passes_reserve);
        match is_kept_out || command.writes && self.shared.is_protected() {
            false => Ok(None),
            true if !is_fresh => Ok(waits()),
            true if is_kept_out => Err(Refusal::Conflict),
            true => Err(right::SOFTWARE_PROTECTED.into()),
        }
    }

    #[cold]
    pub(crate) fn is_kept_out(&self, task: &Task) -> bool {
        let is_known = self.shared.edition().is_some();
        is_known && self.shared.conflicts(task.nexus(), task.rule.conflict, task.rule.passes_reserve)
    }
}
