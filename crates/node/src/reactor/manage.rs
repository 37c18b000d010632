//! Giving commands up: task management, logout, lost sessions, logins that replace a session.
//!
//! None of them is answered before every command that it ends has taken effect or never will (M19). The
//! part decides which; until it has answered an operation that was given up, whoever asked waits here.

use dyad_iscsi::{
    CloseReason, LoginRefusal, Management, ManagementFunction, ManagementOutcome, ManagementTag, SessionKey, TaskTag,
};
use dyad_mirror::{OpId, PartEvent};
use dyad_scsi::{Attention, NexusId, Who};

use super::conns::{Conn, ConnRef, Held};
use super::run::Reactor;

/// What happens when the operations that a [`Waiter`] waits for are over.
pub(super) enum Then {
    /// A task management function is answered, after it had its effect on the unit.
    Management { conn: ConnRef, tag: ManagementTag, effect: Effect },
    /// A logout is answered.
    Logout { conn: ConnRef },
    /// A session begins.
    Start { conn: ConnRef, key: Box<SessionKey> },
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
}

/// LUN 0 in peripheral device and in flat space addressing (SAM-5 §4.7.5).
const LUN_ZERO: [u64; 2] = [0, 0x4000_0000_0000_0000];

impl Reactor {
    /// A task management request.
    pub(super) fn on_management(&mut self, at: ConnRef, management: Management) {
        let Management { tag, function, lun } = management;
        let Some((index, nexus)) = self.use_of(at) else {
            // A discovery session has no tasks.
            if let Some(conn) = self.conns.get_mut(at) {
                conn.iscsi.management_done(tag, ManagementOutcome::Rejected);
                self.list(at);
            }
            return;
        };
        let is_target_wide =
            matches!(function, ManagementFunction::TargetWarmReset | ManagementFunction::TargetColdReset);
        if !LUN_ZERO.contains(&lun) && !is_target_wide {
            if let Some(conn) = self.conns.get_mut(at) {
                conn.iscsi.management_done(tag, ManagementOutcome::LunDoesNotExist);
                self.list(at);
            }
            return;
        }
        let mut left = Vec::new();
        let effect = match function {
            ManagementFunction::AbortTask(task) => {
                left.extend(self.abort(at, index, task));
                Effect::Nothing
            }
            ManagementFunction::AbortTaskSet => {
                self.abort_all(at, index, &mut left);
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
            left.extend(self.volume(index).into_iter().flat_map(|volume| volume.ops.given_up()));
            left.sort_unstable();
            left.dedup();
        }
        self.wait_for(index, left, Then::Management { conn: at, tag, effect });
    }

    /// The host logs out.
    pub(super) fn on_logout(&mut self, at: ConnRef) {
        let Some((index, _)) = self.use_of(at) else { return self.finish_logout(at) };
        let mut left = Vec::new();
        self.abort_all(at, index, &mut left);
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

    pub(super) fn forget_nexus(&mut self, volume: Option<u32>, nexus: NexusId, at: ConnRef) {
        if let Some(volume) = volume.and_then(|index| self.volume_mut(index)) {
            volume.unit.remove_nexus(nexus);
            volume.sessions.retain(|&session| session != at);
        }
    }

    /// Operations that lost sessions of a host left with a volume.
    pub(super) fn orphans_of(&self, index: u32, initiator: &str) -> Vec<OpId> {
        let orphans = self.volume(index).map(|volume| &volume.orphans[..]).unwrap_or_default();
        orphans.iter().filter(|(_, of)| of.eq_ignore_ascii_case(initiator)).map(|(id, _)| *id).collect()
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
        let volume = self.volume_mut(index)?;
        let id = volume.ops.give_up(op)?;
        self.volume_event(index, PartEvent::Abort { id });
        Some(id)
    }

    /// Aborts all tasks of a session.
    fn abort_all(&mut self, at: ConnRef, index: u32, left: &mut Vec<OpId>) {
        for tag in self.conns.get(at).map(tags_of).unwrap_or_default() {
            left.extend(self.abort(at, index, tag));
        }
    }

    /// Aborts all tasks of all sessions of a volume.
    fn abort_everyones(&mut self, index: u32, left: &mut Vec<OpId>) {
        let sessions = self.volume(index).map(|volume| volume.sessions.clone()).unwrap_or_default();
        for at in sessions {
            self.abort_all(at, index, left);
        }
    }

    /// Does `then` when the operations are over: at once, if there are none.
    pub(super) fn wait_for(&mut self, index: u32, left: Vec<OpId>, then: Then) {
        match self.volume_mut(index) {
            Some(volume) if !left.is_empty() => volume.waiters.push(Waiter { then, left }),
            _ => self.proceed(index, then),
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
        let done: Vec<_> = volume.waiters.extract_if(.., |waiter| waiter.left.is_empty()).collect();
        for waiter in done {
            self.proceed(index, waiter.then);
        }
    }

    fn proceed(&mut self, index: u32, then: Then) {
        match then {
            Then::Logout { conn } => self.finish_logout(conn),
            Then::Start { conn, key } => {
                if self.volume(index).is_none() {
                    return self.refuse(conn, LoginRefusal::ServiceUnavailable);
                }
                self.start_session(conn, *key, Some(index));
            }
            Then::Management { conn, tag, effect } => {
                self.take_effect(index, effect);
                if let Some(Conn { iscsi, .. }) = self.conns.get_mut(conn) {
                    iscsi.management_done(tag, ManagementOutcome::Complete);
                    self.list(conn);
                }
            }
        }
    }

    fn take_effect(&mut self, index: u32, effect: Effect) {
        let Some(volume) = self.volume_mut(index) else { return };
        match effect {
            Effect::Nothing => {}
            Effect::Cleared(nexus) => volume.unit.attend(Who::AllBut(nexus), Attention::CommandsCleared),
            Effect::Reset => volume.unit.reset(),
            Effect::Cold(by) => {
                volume.unit.reset();
                for other in volume.sessions.clone() {
                    if other != by {
                        self.close(other, CloseReason::TargetReset, false);
                    }
                }
            }
        }
    }
}

fn tags_of(conn: &Conn) -> Vec<TaskTag> {
    let tasks = conn.session.iter().flat_map(|session| &session.tasks);
    let tag = |held: &Held| match held {
        Held::Nothing => None,
        Held::DataOut { tag, .. } | Held::Volume { tag, .. } => Some(*tag),
    };
    tasks.filter_map(tag).collect()
}
