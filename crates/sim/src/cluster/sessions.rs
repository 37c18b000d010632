//! Sessions of hosts at a node: logins, commands, aborts (M19), and the way back to the host.

use dyad_contract::volume::VolumeError;
use dyad_mirror::{OpId, PartEvent};

use super::happening::{Happening, Local, SessionNo, ToHost, ToNode};
use super::host::{Court, Deed, Host, Verdict};
use super::machine::{Pending, Process, Session};
use super::net::NodeNo;
use super::queue::{MILLIS, Time};
use super::world::{Run, World, in_sync};
use crate::model::Violation;

impl World {
    /// A host's message reaches a node.
    pub(super) fn on_host_message(&mut self, node: NodeNo, host: usize, session: SessionNo, message: ToNode) {
        match message {
            ToNode::Login => self.on_login(node, host, session),
            ToNode::Command { op, attempt, command } => self.on_command(node, session, (op, attempt), command),
            ToNode::Abort { op, attempt } => {
                let Some(process) = &self.machines[node].process else { return };
                let segment = process.sessions.iter().find(|known| known.number == session).map(|known| known.segment);
                let is_it =
                    |pending: &&Pending| (pending.session, pending.op, pending.attempt) == (session, op, attempt);
                let asked = process.pending.iter().find(is_it);
                if let (Some(segment), Some(id)) = (segment, asked.map(|pending| pending.id)) {
                    self.coverage.count("abort");
                    self.tell_part(node, segment, PartEvent::Abort { id });
                }
            }
        }
    }

    /// A new session in the place of the host's older one: it is open when whatever that asked is over (M19).
    fn on_login(&mut self, node: NodeNo, host: usize, number: SessionNo) {
        let segment = self.hosts[host].volume();
        let Some(process) = &mut self.machines[node].process else { return };
        let mut old = Vec::new();
        for session in process.sessions.iter_mut().filter(|known| known.host == host && known.number < number) {
            session.is_open = false;
            old.push(session.number);
        }
        process.sessions.push(Session { host, number, segment, is_open: false });
        process.logins.extend(old.iter().map(|&old| (number, old)));
        process.logins.push((number, number));
        let given_up: Vec<OpId> =
            process.pending.iter().filter(|pending| old.contains(&pending.session)).map(|pending| pending.id).collect();
        for id in given_up {
            self.tell_part(node, segment, PartEvent::Abort { id });
        }
        let Some(mut process) = self.machines[node].process.take() else { return };
        self.finish_logins(node, &mut process);
        self.machines[node].process = Some(process);
    }

    /// Logins whose older sessions have nothing under way any more.
    pub(super) fn finish_logins(&mut self, node: NodeNo, process: &mut Process) {
        if process.logins.is_empty() {
            return;
        }
        let Process { pending, logins, .. } = process;
        logins.retain(|&(new, old)| new == old || pending.iter().any(|op| op.session == old));
        let mut at = 0;
        while at < process.logins.len() {
            let (new, old) = process.logins[at];
            if new != old || process.logins.iter().any(|&(other, of)| other == new && of != new) {
                at += 1;
                continue;
            }
            process.logins.remove(at);
            let Some(session) = process.sessions.iter_mut().find(|session| session.number == new) else { continue };
            session.is_open = true;
            let host = session.host;
            process.sessions.retain(|known| known.host != host || known.number >= new);
            self.send_to_host(node, host, new, ToHost::LoggedIn);
        }
    }

    fn on_command(
        &mut self,
        node: NodeNo,
        session: SessionNo,
        (op, attempt): (u64, u32),
        command: dyad_contract::volume::VolumeOp,
    ) {
        let arrived = self.machines[node].clock.read(self.queue.now());
        let Some(process) = &mut self.machines[node].process else { return };
        let Some(known) = process.sessions.iter().find(|known| known.number == session && known.is_open) else {
            return;
        };
        let (segment, host) = (known.segment, known.host);
        if process.parts[segment].is_none() {
            let result = Err(VolumeError::Busy);
            return self.send_to_host(node, host, session, ToHost::Answer { op, attempt, result });
        }
        process.next_op += 1;
        let id = OpId(process.next_op);
        process.pending.push(Pending { id, session, op, attempt, is_forwarded: false });
        self.tell_part(node, segment, PartEvent::Op { id, op: command, arrived });
    }

    /// The host's connection is gone, and with it its session.
    pub(super) fn on_host_gone(&mut self, node: NodeNo, session: SessionNo) {
        let Some(process) = &mut self.machines[node].process else { return };
        let Some(known) = process.sessions.iter_mut().find(|known| known.number == session) else { return };
        known.is_open = false;
        let segment = known.segment;
        let given_up: Vec<OpId> =
            process.pending.iter().filter(|pending| pending.session == session).map(|pending| pending.id).collect();
        for id in given_up {
            self.tell_part(node, segment, PartEvent::Abort { id });
        }
    }

    /// The node was paused for long: the sessions of the volume close, what they sent unread (M19).
    pub(super) fn close_sessions(&mut self, node: NodeNo, process: &mut Process, segment: usize) {
        self.coverage.count("sessions closed after a pause (M19)");
        let mut closed = Vec::new();
        process.sessions.retain(|session| {
            if session.segment == segment {
                closed.push((session.host, session.number));
            }
            session.segment != segment
        });
        process.logins.retain(|(new, _)| !closed.iter().any(|(_, number)| number == new));
        // What they asked before ends as it may; nobody hears of it.
        let now = self.machines[node].clock.read(self.queue.now());
        let given_up: Vec<OpId> = process
            .pending
            .iter()
            .filter(|pending| closed.iter().any(|(_, number)| *number == pending.session))
            .map(|pending| pending.id)
            .collect();
        if let Some(slot) = &mut process.parts[segment] {
            let mut out = Vec::new();
            for event in given_up.into_iter().map(|id| PartEvent::Abort { id }).chain([PartEvent::SessionsClosed]) {
                slot.part.handle(now, event, &mut process.leases, &mut out);
            }
            process.actions.extend(out.into_iter().map(|action| (segment, action)));
        }
        for (host, session) in closed {
            self.send_to_host(node, host, session, ToHost::Closed);
        }
    }

    /// A host learns that its session is gone.
    pub(super) fn close_at_host(&mut self, after: Time, node: NodeNo, host: usize, session: SessionNo) {
        if self.host_cuts[host][node] == 0 {
            let at = after + 60_000 + self.jitter();
            self.queue.push(at, Happening::ToHost { host, node, session, message: ToHost::Closed });
        }
    }

    /// All machines lost their power: hosts that say something to them when they are up again are told that nobody knows
    /// their sessions. Nothing of what they asked is anywhere any more.
    pub(super) fn notice_restart(&mut self, node: NodeNo, up: Time) {
        for host in 0..self.hosts.len() {
            let at = up + self.rng.below(300 * MILLIS);
            if let Some(session) = self.hosts[host].session(node).filter(|_| self.rng.chance(3, 4)) {
                self.close_at_host(at, node, host, session);
            }
        }
    }

    /// Sends to a host, if it can be reached.
    pub(super) fn send_to_host(&mut self, node: NodeNo, host: usize, session: SessionNo, message: ToHost) {
        if self.host_cuts[host][node] > 0 {
            return;
        }
        let at = self.queue.now() + 30_000 + self.jitter();
        self.queue.push(at, Happening::ToHost { host, node, session, message });
    }

    fn send_to_node(&mut self, node: NodeNo, host: usize, session: SessionNo, message: ToNode) {
        if self.host_cuts[host][node] > 0 {
            return;
        }
        if self.machines[node].process.is_none() {
            if self.machines[node].is_on && self.machines[node].starts > 0 {
                // Its address is known, and the kernel refuses.
                self.close_at_host(self.queue.now(), node, host, session);
            }
            return;
        }
        let at = self.queue.now() + 30_000 + self.jitter();
        self.later(at, node, Local::Host { host, session, message });
    }

    /// A host looks what it has to do.
    pub(super) fn on_host_wakes(&mut self, host: usize) -> Run {
        let now = self.queue.now();
        if self.hosts[host].woke(now) {
            let is_busy = self.hosts[host].wants_more(now);
            if is_busy && let Some(wish) = self.hosts[host].wish(now, &mut self.book) {
                self.hosts[host].begin(wish, now, &mut self.book, false);
            }
            let deeds = self.hosts[host].due(now, &mut self.sessions);
            for deed in deeds {
                self.carry_out_deed(host, deed)?;
            }
        }
        self.plan_host(host);
        Ok(())
    }

    fn carry_out_deed(&mut self, host: usize, deed: Deed) -> Run {
        match deed {
            Deed::Send { node, session, message } => self.send_to_node(node, host, session, message),
            Deed::Ask { id: op, node, session } => {
                if !self.hosts[host].has(op) {
                    return Ok(()); // given up a moment ago
                }
                let order = self.book.order();
                let Some((attempt, command)) = self.hosts[host].sent(op, order, &self.slab) else {
                    return Err(Violation("all buffers of the run are in use: somebody keeps them".into()));
                };
                let wish = if self.story.is_kept { self.hosts[host].brief(op) } else { String::new() };
                self.tell(|| format!("host {host} asks node {node}: {op}.{attempt} {wish}"));
                self.send_to_node(node, host, session, ToNode::Command { op, attempt, command });
            }
            Deed::Drop { node, session } => {
                self.coverage.count("session dropped by its host");
                if self.host_cuts[host][node] == 0 && self.machines[node].process.is_some() {
                    let at = self.queue.now() + 30_000;
                    self.later(at, node, Local::HostGone { session });
                }
            }
            Deed::Renew { id } => {
                self.with_court(host, |host, court| host.renew(id, court)).map_err(Violation)?;
            }
            Deed::GiveUp { id } => {
                self.coverage.count("operation given up by its host");
                self.with_court(host, |host, court| host.give_up(id, court)).map_err(Violation)?;
            }
        }
        Ok(())
    }

    /// Lets a host judge with all that it has to know.
    fn with_court<T>(&mut self, host: usize, judge: impl FnOnce(&mut Host, &mut Court<'_>) -> T) -> T {
        let holders = self.holders(self.hosts[host].volume());
        let oldest = self.hosts.iter().filter_map(Host::oldest).min().unwrap_or(u64::MAX);
        let (excuses, now) = (self.excuses, self.queue.now());
        let few_since = self.segments[self.hosts[host].volume()].few_since;
        let segment = &self.segments[self.hosts[host].volume()];
        let places = in_sync(&segment.stored).filter_map(|image| self.place(image.node));
        let flushed =
            places.map(|node| segment.flushed[node]).min().filter(|_| !segment.is_overruled && !self.is_loose);
        let mut court = Court { book: &mut self.book, excuses, holders, few_since, flushed, oldest, now };
        judge(&mut self.hosts[host], &mut court)
    }

    /// Something reaches a host.
    pub(super) fn on_to_host(&mut self, host: usize, node: NodeNo, session: SessionNo, message: ToHost) -> Run {
        let now = self.queue.now();
        match message {
            ToHost::LoggedIn => {
                for deed in self.hosts[host].logged_in(node, session, now) {
                    self.carry_out_deed(host, deed)?;
                }
            }
            ToHost::Closed => self.hosts[host].path_lost(node, session, now),
            ToHost::Answer { op, attempt, result } => {
                self.tell(|| {
                    let said = match &result {
                        Ok(_) => "ok".to_owned(),
                        Err(error) => format!("{error:?}"),
                    };
                    format!("host {host} <- node {node}: {op}.{attempt} {said}")
                });
                let judged = self.with_court(host, |host, court| host.judge(court, session, (op, attempt), &result));
                let verdict = judged.map_err(Violation)?;
                if verdict != Verdict::Stray {
                    self.answered += 1;
                }
                self.coverage.note_answer(&result);
            }
        }
        self.plan_host(host);
        Ok(())
    }

    pub(super) fn plan_host(&mut self, host: usize) {
        let now = self.queue.now();
        if let Some(at) = self.hosts[host].plan(now) {
            self.queue.push(at, Happening::HostWakes(host));
        }
    }
}
