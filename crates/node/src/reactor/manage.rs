//! Giving commands up: task management, logout, lost sessions, logins that replace a session.
//!
//! None of them is answered before every command that it ends has taken effect or never will (M19). The
//! part decides which; until it has answered an operation that was given up, whoever asked waits here. Only where a disk
//! hangs and there is no other image to go on with does nobody know, for as long as it hangs. Whoever asked is answered
//! then all the same, in bounded time: the write's range stays locked (M2), so that until the write is over nobody reads
//! what was there before, and nothing that is written later can be overtaken by it.

use dyad_iscsi::{
    CloseReason, LoginRefusal, Management, ManagementFunction, ManagementOutcome, ManagementTag, SessionKey, TaskTag,
};
use dyad_mirror::OpId;
use dyad_scsi::{Attention, Drain, NexusId, Response, Right, Who};
use dyad_units::{Moment, Period};

use super::conns::{Conn, ConnRef, Held};
use super::run::Reactor;

/// What happens when the operations that a [`Waiter`] waits for are over.
pub(super) enum Then {
    /// A task management function is answered, after it had its effect on the unit.
    Management { conn: ConnRef, tag: ManagementTag, effect: Effect },
    /// It is answered, after its effect was told to other nodes and is over there.
    Told { conn: ConnRef, tag: ManagementTag },
    /// A logout is answered.
    Logout { conn: ConnRef },
    /// A session begins.
    Start { conn: ConnRef, key: Box<SessionKey> },
    /// A command is answered.
    Respond { id: OpId, response: Response, is_error: bool },
}

/// What a task management function does to the unit besides ending tasks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    Nothing,
    /// CLEAR TASK SET: the other nexuses are told (SAM-5 §7.3).
    Cleared(NexusId),
    /// LOGICAL UNIT RESET, TARGET WARM RESET.
    Reset,
    /// TARGET COLD RESET: the other sessions are closed as well.
    Cold(ConnRef),
}

/// Somebody who waits for operations to be over.
pub(super) struct Waiter {
    then: Then,
    left: Vec<OpId>,
    /// Not before.
    until: Option<Moment>,
    /// Then, whatever is left.
    latest: Option<Moment>,
    /// What it waits for was not done.
    is_failed: bool,
}

/// T, by another node's clock (M19): what other nodes forwarded before then has its lock, or never will. As long as a
/// command may wait for one, stretched as the mirror stretches it.
const ELSEWHERE: Period = Period::from_millis(3300);

/// Then, at the latest, an abort, a reset, a logout or the login of a host that was here before is answered, whatever is
/// stuck: well after a slow image is out (1 s), another node has taken over and T has passed, and before Linux gives an
/// abort up (15 s).
const STUCK: Period = Period::from_secs(10);

/// LUN 0 in peripheral device and in flat space addressing (SAM-5 §4.7.5).
pub(super) const LUN_ZERO: [u64; 2] = [0, 0x4000_0000_0000_0000];

impl Reactor {
    /// A task management request.
    pub(super) fn on_management(&mut self, at: ConnRef, management: Management) {
        let Management { tag, function, lun } = management;
        if self.export_used(at).is_some() {
            return self.on_export_management(at, management);
        }
        let Some((index, nexus)) = self.use_of(at) else {
            // A discovery session has no tasks.
            return self.end_management(at, tag, ManagementOutcome::Rejected);
        };
        let is_target_wide =
            matches!(function, ManagementFunction::TargetWarmReset | ManagementFunction::TargetColdReset);
        if !LUN_ZERO.contains(&lun) && !is_target_wide {
            return self.end_management(at, tag, ManagementOutcome::LunDoesNotExist);
        }
        let is_of_own = matches!(function, ManagementFunction::AbortTask(_) | ManagementFunction::AbortTaskSet);
        let is_governing = self.volume(index).is_some_and(|volume| volume.unit.right(nexus) == Right::Full);
        if !is_of_own && !is_governing {
            // It would end the commands of hosts that may write.
            return self.end_management(at, tag, ManagementOutcome::Rejected);
        }
        let mut left = Vec::new();
        let effect = match function {
            ManagementFunction::AbortTask(task) => {
                left.extend(self.abort(at, index, task));
                left.extend(self.orphans_at(at, index));
                Effect::Nothing
            }
            ManagementFunction::AbortTaskSet => {
                self.abort_all(at, index, &mut left);
                left.extend(self.orphans_at(at, index));
                Effect::Nothing
            }
            ManagementFunction::ClearTaskSet => {
                self.abort_everyones(index, &mut left);
                Effect::Cleared(nexus)
            }
            ManagementFunction::LogicalUnitReset | ManagementFunction::TargetWarmReset => {
                self.abort_everyones(index, &mut left);
                Effect::Reset
            }
            ManagementFunction::TargetColdReset => {
                self.abort_everyones(index, &mut left);
                Effect::Cold(at)
            }
        };
        if is_target_wide || matches!(effect, Effect::Reset | Effect::Cleared(_)) {
            // What others had given up before counts as well: it must not take effect after the reset.
            self.add_given_up(index, &mut left);
        }
        self.wait_for(index, left, Then::Management { conn: at, tag, effect });
    }

    fn end_management(&mut self, at: ConnRef, tag: ManagementTag, outcome: ManagementOutcome) {
        if let Some(conn) = self.conns.get_mut(at) {
            conn.iscsi.management_done(tag, outcome);
            self.list(at);
        }
    }

    /// The host logs out.
    pub(super) fn on_logout(&mut self, at: ConnRef) {
        let Some((index, _)) = self.use_of(at) else { return self.finish_logout(at) };
        let mut left = Vec::new();
        self.abort_all(at, index, &mut left);
        left.extend(self.orphans_at(at, index));
        self.wait_for(index, left, Then::Logout { conn: at });
    }

    fn finish_logout(&mut self, at: ConnRef) {
        if let Some(conn) = self.conns.get_mut(at) {
            conn.iscsi.logout_done();
            self.list(at);
        }
    }

    /// The session is over, in whatever way: its commands are given up, its nexus is gone.
    pub(super) fn end_session(&mut self, at: ConnRef) {
        self.leave_export(at);
        let Some((index, nexus)) = self.use_of(at) else {
            if let Some(conn) = self.conns.get_mut(at) {
                conn.session = None;
            }
            return;
        };
        let tags = self.conns.get(at).map(tags_of).unwrap_or_default();
        let left: Vec<_> = tags.into_iter().filter_map(|tag| self.give_up(at, index, tag)).collect();
        let session = self.conns.get_mut(at).and_then(|conn| conn.session.take());
        if let (Some(session), Some(volume)) = (session, self.volume_mut(index)) {
            volume.orphans.extend(left.into_iter().map(|id| (id, session.initiator.clone())));
        }
        self.forget_nexus(Some(index), nexus, at);
    }

    /// The data of a command will not come; its host has its answer. What the volume has of it is given up, and waited for
    /// like what a lost session left.
    pub(super) fn on_data_out_failed(&mut self, at: ConnRef, tag: TaskTag) {
        let Some((index, _)) = self.use_of(at) else { return self.forget_at_export(at, tag) };
        let Some(id) = self.give_up(at, index, tag) else { return };
        let initiator =
            self.conns.get(at).and_then(|conn| conn.session.as_ref()).map(|session| session.initiator.clone());
        if let (Some(initiator), Some(volume)) = (initiator, self.volume_mut(index)) {
            volume.orphans.push((id, initiator));
        }
    }

    pub(super) fn forget_nexus(&mut self, volume: Option<u32>, nexus: NexusId, at: ConnRef) {
        let index = volume;
        if let Some(volume) = index.and_then(|index| self.volume_mut(index)) {
            let task = volume.unit.remove_nexus(nexus);
            volume.sessions.retain(|&session| session != at);
            if let Some(index) = index {
                self.forget_at_door(index, at);
            }
            if let Some((index, task)) = index.zip(task) {
                self.end_reserve(index, task);
            }
        }
    }

    /// What another host's PREEMPT AND ABORT ends.
    pub(super) fn abort_nexuses(&mut self, index: u32, nexuses: &[NexusId], left: &mut Vec<OpId>) {
        let sessions = self.volume(index).map(|volume| volume.sessions.clone()).unwrap_or_default();
        for at in sessions {
            if self.use_of(at).is_some_and(|(_, nexus)| nexuses.contains(&nexus)) {
                self.abort_all(at, index, left);
            }
        }
        self.give_up_errands(index, Some(nexuses), left);
    }

    /// Does `then` when what has to be given up is over, here and at other nodes (M19, M20).
    pub(super) fn drain_then(&mut self, index: u32, drain: Drain, then: Then) {
        let mut left = Vec::new();
        self.abort_nexuses(index, &drain.nexuses, &mut left);
        // What the state told of before its answer came ended them already (M20).
        self.add_given_up(index, &mut left);
        let until = (drain.is_elsewhere && self.has_neighbours).then(|| self.now + ELSEWHERE);
        if until.is_some() {
            self.wake_in(ELSEWHERE);
        }
        self.wait_until(index, then, left, until);
    }

    fn add_given_up(&self, index: u32, left: &mut Vec<OpId>) {
        left.extend(self.volume(index).into_iter().flat_map(|volume| volume.ops.given_up()));
        left.sort_unstable();
        left.dedup();
    }

    /// Looks whether somebody's time has come.
    pub(super) fn wake_waiters(&mut self) {
        for index in 0..self.volumes.len() as u32 {
            if self.volume(index).is_some_and(|volume| !volume.waiters.is_empty()) {
                self.proceed_all(index);
            }
        }
        let waiters = self.volumes.iter().flatten().flat_map(|volume| &volume.waiters);
        let next = waiters.flat_map(|waiter| [waiter.until, waiter.latest]).flatten().filter(|at| *at > self.now).min();
        if let Some(next) = next {
            self.wake_in(next.since(self.now));
        }
    }

    /// Operations that lost sessions of a host left with a volume.
    pub(super) fn orphans_of(&self, index: u32, initiator: &str) -> Vec<OpId> {
        let orphans = self.volume(index).map(|volume| &volume.orphans[..]).unwrap_or_default();
        orphans.iter().filter(|(_, of)| of.eq_ignore_ascii_case(initiator)).map(|(id, _)| *id).collect()
    }

    /// The same for the host of a session: of one that goes on, what it began is here whose data failed later.
    fn orphans_at(&self, at: ConnRef, index: u32) -> Vec<OpId> {
        let session = self.conns.get(at).and_then(|conn| conn.session.as_ref());
        session.map(|session| self.orphans_of(index, &session.initiator)).unwrap_or_default()
    }

    /// Gives up one task, which its connection forgets; the operation that is to be waited for, if the volume
    /// has it.
    fn abort(&mut self, at: ConnRef, index: u32, task: TaskTag) -> Option<OpId> {
        self.conns.get_mut(at)?.iscsi.abort_task(task);
        self.give_up(at, index, task)
    }

    /// Gives up one task of a connection that may be over, or broken by a fault.
    fn give_up(&mut self, at: ConnRef, index: u32, task: TaskTag) -> Option<OpId> {
        let held = self.conns.get_mut(at)?.session.as_mut()?.take(task);
        self.release(at, task, &held);
        let Held::Volume { op, .. } = held else { return None };
        self.give_up_op(index, op)
    }

    /// Aborts all tasks of a session.
    fn abort_all(&mut self, at: ConnRef, index: u32, left: &mut Vec<OpId>) {
        for tag in self.conns.get(at).map(tags_of).unwrap_or_default() {
            left.extend(self.abort(at, index, tag));
        }
    }

    /// Aborts all tasks of all sessions of a volume, and what copies from or to other volumes have run there.
    fn abort_everyones(&mut self, index: u32, left: &mut Vec<OpId>) {
        let sessions = self.volume(index).map(|volume| volume.sessions.clone()).unwrap_or_default();
        for at in sessions {
            self.abort_all(at, index, left);
        }
        self.give_up_errands(index, None, left);
    }

    /// Does `then` when the operations are over: at once, if there are none.
    pub(super) fn wait_for(&mut self, index: u32, left: Vec<OpId>, then: Then) {
        self.wait_until(index, then, left, None);
    }

    fn wait_until(&mut self, index: u32, then: Then, left: Vec<OpId>, until: Option<Moment>) {
        let latest = Some(self.now + STUCK);
        match self.volume_mut(index) {
            Some(volume) if !left.is_empty() || until.is_some() => {
                volume.waiters.push(Waiter { then, left, until, latest, is_failed: false });
                self.wake_in(STUCK);
            }
            _ => self.proceed(index, then, false),
        }
    }

    /// An operation that was given up is over.
    pub(super) fn on_op_over(&mut self, index: u32, id: OpId) {
        let Some(volume) = self.volume_mut(index) else { return };
        volume.orphans.retain(|(orphan, _)| *orphan != id);
        if volume.waiters.is_empty() {
            return;
        }
        for waiter in &mut volume.waiters {
            waiter.left.retain(|&left| left != id);
        }
        self.proceed_all(index);
    }

    fn proceed_all(&mut self, index: u32) {
        let now = self.now;
        let Some(volume) = self.volume_mut(index) else { return };
        let is_done = |waiter: &mut Waiter| {
            let is_over = waiter.left.is_empty() && waiter.until.is_none_or(|until| until <= now);
            is_over || waiter.latest.is_some_and(|latest| latest <= now)
        };
        let done: Vec<_> = volume.waiters.extract_if(.., is_done).collect();
        for waiter in done {
            if !waiter.left.is_empty() {
                let count = waiter.left.len();
                let volume = self.volume(index).map(|volume| volume.record.name.as_str());
                tracing::error!(volume, count, "commands that were given up do not end: a disk hangs");
            }
            let is_failed = waiter.is_failed || !waiter.left.is_empty();
            self.proceed(index, waiter.then, is_failed);
        }
    }

    fn proceed(&mut self, index: u32, then: Then, is_failed: bool) {
        match then {
            Then::Logout { conn } => self.finish_logout(conn),
            Then::Start { conn, key } => {
                if self.volume(index).is_none() {
                    return self.refuse(conn, LoginRefusal::ServiceUnavailable);
                }
                self.start_session(conn, *key, Some(index));
            }
            Then::Respond { id, response, is_error } => self.respond_op(index, id, response, is_error),
            Then::Management { conn, tag, effect } => {
                let told = self.take_effect(index, effect);
                let then = Then::Told { conn, tag };
                // Other nodes end nothing for it: what they forwarded before has its lock by then, or never will (M19).
                let is_elsewhere = self.has_neighbours && !matches!(effect, Effect::Nothing);
                self.wait_told(index, then, told, is_elsewhere);
            }
            // The other nodes were told before the host, or the host is told that it was not done: it asks again.
            Then::Told { conn, tag } => {
                let outcome = if is_failed { ManagementOutcome::Rejected } else { ManagementOutcome::Complete };
                self.end_management(conn, tag, outcome);
            }
        }
    }

    /// A reset ends in bounded time, whatever is stuck.
    fn wait_told(&mut self, index: u32, then: Then, told: Option<OpId>, is_elsewhere: bool) {
        let at = self.now + ELSEWHERE;
        let until = is_elsewhere.then_some(at);
        match self.volume_mut(index) {
            Some(volume) if told.is_some() || until.is_some() => {
                let left = told.into_iter().collect();
                volume.waiters.push(Waiter { then, left, until, latest: Some(at), is_failed: false });
                self.wake_in(ELSEWHERE);
            }
            _ => self.proceed(index, then, false),
        }
    }

    /// A task of the unit itself ended.
    pub(super) fn on_own_task_over(&mut self, index: u32, id: OpId, is_done: bool) {
        self.on_release_over(index, id, is_done);
        if !is_done && let Some(volume) = self.volume_mut(index) {
            for waiter in volume.waiters.iter_mut().filter(|waiter| waiter.left.contains(&id)) {
                waiter.is_failed = true;
            }
        }
        self.on_op_over(index, id);
    }

    /// The operation by which other nodes hear of it, if they have to.
    fn take_effect(&mut self, index: u32, effect: Effect) -> Option<OpId> {
        let has_neighbours = self.has_neighbours;
        let volume = self.volume_mut(index)?;
        if let Effect::Cleared(nexus) = effect {
            volume.unit.attend(Who::AllBut(nexus), Attention::CommandsCleared);
        }
        if !matches!(effect, Effect::Reset | Effect::Cold(_)) {
            return None;
        }
        let is_shared = has_neighbours || volume.unit.is_changed_by_reset();
        let task = volume.unit.reset();
        if let Effect::Cold(by) = effect {
            for other in volume.sessions.clone() {
                if other != by {
                    self.close(other, CloseReason::TargetReset, false);
                }
            }
        }
        let id = is_shared.then(|| self.run_own_task(index, task)).flatten()?;
        // It may be over already.
        self.volume_mut(index)?.ops.get_mut(id).map(|_| id)
    }
}

pub(super) fn tags_of(conn: &Conn) -> Vec<TaskTag> {
    let tasks = conn.session.iter().flat_map(|session| &session.tasks);
    let tag = |held: &Held| match held {
        Held::Nothing => None,
        Held::DataOut { tag, .. } | Held::AtDoor { tag, .. } | Held::Volume { tag, .. } => Some(*tag),
    };
    tasks.filter_map(tag).collect()
}
