//! A host's paths: logins, timeouts, and where an operation goes next.

use super::{ABORT_TIMEOUT, ATTEMPTS_MAX, COMMAND_TIMEOUT, Host, LOGIN_TIMEOUT, Op, Path, Stage};
use crate::cluster::happening::{SessionNo, ToNode};
use crate::cluster::queue::{MILLIS, Time};

/// What a host does when it wakes up, in this order.
#[derive(Debug)]
pub(in crate::cluster) enum Deed {
    /// Sends something.
    Send { node: usize, session: SessionNo, message: ToNode },
    /// Sends operation `id` on this path.
    Ask { id: u64, node: usize, session: SessionNo },
    /// Drops a session.
    Drop { node: usize, session: SessionNo },
    /// Operation `id` happened by now or never will; it is asked anew.
    Renew { id: u64 },
    /// Gives operation `id` up: it happened by now or never will.
    GiveUp { id: u64 },
}

impl Op {
    /// What was asked without an answer is over: it is asked anew, or given up.
    fn is_over(&mut self, now: Time, deeds: &mut Vec<Deed>) {
        (self.stage, self.is_orphaned) = (Stage::Waits(now), true);
        let tries = self.attempt < ATTEMPTS_MAX || self.is_inspection;
        let id = self.id;
        deeds.push(if tries && self.may_be_renewed() { Deed::Renew { id } } else { Deed::GiveUp { id } });
    }
}

impl Host {
    /// Everything that is due.
    pub(in crate::cluster) fn due(&mut self, now: Time, next_session: &mut SessionNo) -> Vec<Deed> {
        let mut deeds = Vec::new();
        self.look_after_paths(now, next_session, &mut deeds);
        self.look_after_ops(now, &mut deeds);
        for at in 0..self.ops.len() {
            let is_doomed = |deed: &Deed| matches!(deed, Deed::GiveUp { id } if *id == self.ops[at].id);
            if matches!(self.ops[at].stage, Stage::Waits(when) if when <= now) && !deeds.iter().any(is_doomed) {
                if let Some((node, session)) = self.path_for(at) {
                    self.ops[at].stage = Stage::Sent { node, session, at: now, aborted: None };
                    self.ops[at].attempt += 1;
                    deeds.push(Deed::Ask { id: self.ops[at].id, node, session });
                } else {
                    self.ops[at].stage = Stage::Waits(now + 20 * MILLIS);
                }
            }
        }
        deeds
    }

    fn look_after_paths(&mut self, now: Time, next_session: &mut SessionNo, deeds: &mut Vec<Deed>) {
        for node in 0..self.paths.len() {
            match self.paths[node] {
                Path::Closed(at) if at <= now => {}
                Path::LoggingIn(_, since) if since + LOGIN_TIMEOUT <= now => {}
                _ => continue,
            }
            *next_session += 1;
            self.paths[node] = Path::LoggingIn(*next_session, now);
            deeds.push(Deed::Send { node, session: *next_session, message: ToNode::Login });
        }
    }

    fn look_after_ops(&mut self, now: Time, deeds: &mut Vec<Deed>) {
        let mut lost = Vec::new();
        for op in &mut self.ops {
            match op.stage {
                Stage::Sent { node, session, at, aborted: None } => {
                    let is_late = at + COMMAND_TIMEOUT <= now;
                    let is_impatient = op.patience.take_if(|until| *until <= now).is_some();
                    if is_late || is_impatient {
                        op.stage = Stage::Sent { node, session, at, aborted: Some(now) };
                        deeds.push(Deed::Send {
                            node,
                            session,
                            message: ToNode::Abort { op: op.id, attempt: op.attempt },
                        });
                    }
                }
                Stage::Sent { node, session, aborted: Some(at), .. } if at + ABORT_TIMEOUT <= now => {
                    lost.push((node, session));
                }
                Stage::Orphan { until, .. } if until <= now => op.is_over(now, deeds),
                _ => {}
            }
        }
        lost.dedup();
        for (node, session) in lost {
            if self.paths[node] == Path::Open(session) {
                deeds.push(Deed::Drop { node, session });
                self.path_lost(node, session, now);
            }
        }
    }

    /// The session is gone. What was asked on it may still be carried out for a while (M19).
    pub(in crate::cluster) fn path_lost(&mut self, node: usize, session: SessionNo, now: Time) {
        match self.paths[node] {
            Path::Open(known) | Path::LoggingIn(known, _) if known == session => {
                self.paths[node] = Path::Closed(now + (20 + self.rng.below(400)) * MILLIS);
            }
            _ => return,
        }
        for op in &mut self.ops {
            if let Stage::Sent { node: on, session: of, at, .. } = op.stage
                && (on, of) == (node, session)
            {
                op.stage = Stage::Orphan { node, until: at.max(now.saturating_sub(COMMAND_TIMEOUT)) + COMMAND_TIMEOUT };
            }
        }
    }

    /// A new session of this node: whatever was asked on older ones is over.
    pub(in crate::cluster) fn logged_in(&mut self, node: usize, session: SessionNo, now: Time) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if !matches!(self.paths[node], Path::LoggingIn(known, _) if known == session) {
            return deeds;
        }
        self.paths[node] = Path::Open(session);
        for op in &mut self.ops {
            if matches!(op.stage, Stage::Orphan { node: on, .. } if on == node) {
                op.is_over(now, &mut deeds);
            }
        }
        deeds
    }

    /// The session of this path, if it is open.
    pub(in crate::cluster) fn session(&self, node: usize) -> Option<SessionNo> {
        match self.paths[node] {
            Path::Open(session) => Some(session),
            Path::Closed(_) | Path::LoggingIn(..) => None,
        }
    }

    /// In the end every node in turn has to serve.
    fn path_for(&mut self, at: usize) -> Option<(usize, SessionNo)> {
        let op = &self.ops[at];
        let node = (op.id % self.paths.len() as u64) as usize;
        match (op.is_inspection, self.paths[node]) {
            (false, _) => self.choose_path(),
            (true, Path::Open(session)) => Some((node, session)),
            (true, _) => None,
        }
    }

    fn choose_path(&mut self) -> Option<(usize, SessionNo)> {
        let open = |node: usize, path: &Path| match path {
            Path::Open(session) => Some((node, *session)),
            _ => None,
        };
        let all: Vec<_> = self.paths.iter().enumerate().filter_map(|(node, path)| open(node, path)).collect();
        let preferred = all.iter().find(|(node, _)| Some(*node) == self.habits.prefers).copied();
        match preferred {
            Some(path) if self.rng.chance(15, 16) => Some(path),
            _ if all.is_empty() => None,
            _ => Some(all[self.rng.index(all.len())]),
        }
    }

    /// When there is something to do next.
    pub(in crate::cluster) fn next_at(&self) -> Option<Time> {
        let paths = self.paths.iter().map(|path| match path {
            Path::Closed(at) => Some(*at),
            Path::LoggingIn(_, since) => Some(since + LOGIN_TIMEOUT),
            Path::Open(_) => None,
        });
        let ops = self.ops.iter().map(|op| match op.stage {
            Stage::Waits(at) => Some(at),
            Stage::Sent { aborted: Some(at), .. } => Some(at + ABORT_TIMEOUT),
            Stage::Sent { at, .. } => Some((at + COMMAND_TIMEOUT).min(op.patience.unwrap_or(Time::MAX))),
            Stage::Orphan { until, .. } => Some(until),
        });
        let wish = (!self.is_done && self.quota > 0 && self.ops.len() < self.habits.depth).then_some(self.next_wish);
        paths.chain(ops).flatten().chain(wish).min()
    }
}
