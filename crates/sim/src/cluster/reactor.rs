//! What a node's program would do around the pure rooms: hands events in, carries actions out, until all is quiet.

use dyad_contract::image::{Reply, Request};
use dyad_contract::volume::VolumeResult;
use dyad_mirror::{Note, OpId, PartAction, PartEvent, PartNote, PeerMessage};
use dyad_pool::AdminReply;

use super::happening::{Happening, Local, StoreQuestion};
use super::machine::{Pending, Process};
use super::net::{Letter, NetEvent, NodeNo};
use super::plan::Trigger;
use super::queue::{MILLIS, Time};
use super::world::{Run, World, violation};
use crate::disk::Kind;

/// What a reactor does at leisure, and how often.
const HOUSEKEEPING: Time = 100 * MILLIS;
/// A part that wants to be called at once waits this long: a reactor looks at its sockets in between.
const TICK_MIN: Time = 20_000;
/// So many calls in a row without anything else mean that a deadline is never met.
const SPINS_MAX: u32 = 20_000;
/// Rounds of one pump: far more than all that can be under way.
const ROUNDS_MAX: u32 = 200_000;

impl World {
    /// Something happens to a process, if it still lives.
    pub(super) fn on_local(&mut self, node: NodeNo, life: u32, what: Local) -> Run {
        let machine = &mut self.machines[node];
        if machine.life != life || machine.process.is_none() {
            return Ok(());
        }
        if machine.pauses > 0 {
            match what {
                // The machine works on.
                Local::Disk => self.step_disk_of_stopped(node),
                what => machine.backlog.push(what),
            }
            return Ok(());
        }
        match what {
            Local::Disk => self.step_disk(node)?,
            Local::DiskAnswer(answer) => self.on_disk_answer(node, *answer)?,
            Local::Tick => self.on_tick(node)?,
            Local::Beat => self.on_beat_due(node),
            Local::Housekeeping => self.on_housekeeping(node),
            Local::Records(records) => self.on_records(node, records)?,
            Local::Beats { from, life, message } => self.on_beats(node, from, life, *message),
            Local::Store { segment, question, answer } => self.on_store_answer(node, segment, question, answer),
            // Whoever promotes by force sees to it that the owner hears of it (M10).
            Local::Watched { segment, .. } if !self.reaches_store(node) && !self.segments[segment].is_overruled => {
                self.reach.missed[node] = true;
            }
            Local::Watched { segment, record } => self.tell_part(node, segment, PartEvent::Seen(Some(record))),
            Local::Host { host, session, message } => self.on_host_message(node, host, session, message),
            Local::HostGone { session } => self.on_host_gone(node, session),
            Local::Net(event) => self.on_net(event)?,
        }
        self.pump(node)
    }

    /// Hands an event to a part.
    pub(super) fn tell_part(&mut self, node: NodeNo, segment: usize, event: PartEvent) {
        let machine = &mut self.machines[node];
        let now = machine.clock.read(self.queue.now());
        if let Some(process) = &mut machine.process {
            hand_in(process, segment, now, event);
        }
    }

    /// Carries out what has to be done, until all is quiet.
    pub(super) fn pump(&mut self, node: NodeNo) -> Run {
        let Some(mut process) = self.machines[node].process.take() else { return Ok(()) };
        let done = self.pump_process(node, &mut process);
        self.machines[node].process = Some(process);
        let survives = done?;
        if !survives {
            self.coverage.count("process crash in a call");
            // It may have outlived the time when it was to start again.
            self.queue.push(self.queue.now() + MILLIS, Happening::Boot(node));
            return self.kill_process(node, true);
        }
        self.plan_next(node);
        self.look_when_calm(node)
    }

    /// False if the process dies in the middle.
    fn pump_process(&mut self, node: NodeNo, process: &mut Process) -> Result<bool, crate::model::Violation> {
        let mut replies = Vec::new();
        let mut admin = Vec::new();
        for _ in 0..ROUNDS_MAX {
            if let Some((segment, action)) = process.actions.pop_front() {
                self.carry_out(node, process, segment, action)?;
                if std::mem::take(&mut self.machines[node].dies_amid_call) && process.pool.is_some() {
                    return Ok(false);
                }
                continue;
            }
            let Some(pool) = &mut process.pool else { return Ok(true) };
            pool.take_disk_ops(&mut process.disk_ops);
            let machine = &mut self.machines[node];
            process.disk_ops.drain(..).for_each(|op| machine.disk.submit(op));
            machine.log.mark();
            if let Some(misuse) = machine.disk.misuse() {
                return violation(format!("the pool of node {node} asked its disk for {misuse}"));
            }
            pool.take_replies(&mut replies);
            pool.take_admin_replies(&mut admin);
            if replies.is_empty() && admin.is_empty() {
                return Ok(true);
            }
            let now = machine.clock.read(self.queue.now());
            for (handle, token, reply) in replies.drain(..) {
                let found = process.parts.iter().enumerate().find_map(|(segment, slot)| {
                    let images = &slot.as_ref()?.images;
                    images.iter().find(|(_, known)| *known == handle).map(|(image, _)| (segment, *image))
                });
                let Some((segment, image)) = found else { continue };
                if self.story.is_long {
                    let said = crate::player::describe_reply(&reply);
                    self.tell(|| format!("node {node}: its pool answers, segment {segment}: {token:?} {said}"));
                }
                if let Some(slot) = &mut process.parts[segment] {
                    slot.asked.retain(|asked| *asked != (image, token));
                    let mut over = slot.flushing.extract_if(.., |flush| (flush.0, flush.1) == (image, token));
                    if let Some((.., asked)) = over.next().filter(|_| matches!(reply, Reply::Done)) {
                        let flushed = &mut self.segments[segment].flushed[node];
                        *flushed = asked.max(*flushed);
                    }
                }
                hand_in(process, segment, now, PartEvent::Pool { image, token, reply });
            }
            for (_, reply) in admin.drain(..) {
                if let AdminReply::Created(_) = reply {
                    self.find_images(node, process);
                }
            }
        }
        violation(format!("node {node} never comes to rest; {}", self.statuses()))
    }

    fn carry_out(&mut self, node: NodeNo, process: &mut Process, segment: usize, action: PartAction) -> Run {
        match action {
            PartAction::Answer { id, result } => self.on_answer(node, process, segment, id, result)?,
            PartAction::Pool { image, token, request } => {
                let slot = process.parts[segment].as_ref();
                let handle = slot.and_then(|slot| slot.images.iter().find(|(id, _)| *id == image)).map(|known| known.1);
                if let (Some(handle), Some(pool)) = (handle, &mut process.pool) {
                    self.coverage.note_request(&request);
                    if self.story.is_long {
                        let asked = crate::player::describe(token, &request);
                        self.tell(|| format!("node {node}: its pool is asked, segment {segment}: {asked}"));
                    }
                    self.machines[node].log.mark();
                    let mut trigger = trigger_of(&request);
                    let order = self.book.order();
                    if let Some(slot) = &mut process.parts[segment] {
                        trigger = trigger.or(slot.note_atomic(&request));
                        slot.note(image, token, &request, order);
                    }
                    let marked = pool.counters().regions_marked;
                    pool.submit(handle, token, request);
                    let marks = pool.counters().regions_marked > marked;
                    if let Some(trigger) = if marks { Some(Trigger::Marking) } else { trigger } {
                        self.rouse(trigger);
                    }
                }
            }
            PartAction::Send { to, message } => {
                let Some(to) = self.place(to) else { return violation("a message to no node") };
                if let PeerMessage::Forwarded { result, .. } = &message {
                    self.judge_reign(node, segment, result)?;
                }
                self.coverage.note_message(&message);
                self.trace(to as u64 + 100);
                if self.story.is_long {
                    let said = super::story::letter(&message);
                    self.tell(|| format!("node {node} -> {to}, segment {segment}: {said}"));
                }
                self.send_letter(node, to, Letter { segment, message: Some(message) });
            }
            PartAction::Propose { record, expected } => {
                self.tell(|| format!("node {node}: proposes {}", super::world::brief(&record)));
                if self.judge_hand_over(node, process, segment, &record)? {
                    self.rouse(Trigger::HandingOver);
                }
                let question = self.ask_store(node, segment, StoreQuestion::Propose(record, expected));
                if let Some(slot) = &mut process.parts[segment] {
                    slot.proposing = Some(question);
                }
            }
            PartAction::Read => {
                let question = self.ask_store(node, segment, StoreQuestion::Read);
                if let Some(slot) = &mut process.parts[segment] {
                    slot.reading = Some(question);
                }
            }
            PartAction::CloseSessions => self.close_sessions(node, process, segment),
            PartAction::Note(note) => {
                self.tell(|| format!("node {node}: {note:?}"));
                self.on_part_note(&note);
            }
            PartAction::Done { id, result } => {
                self.tell(|| format!("node {node}: command {id}: {result:?}"));
                self.coverage.count(if result.is_ok() { "command carried out" } else { "command refused" });
            }
            PartAction::Loss { id, report } => self.tell(|| format!("node {node}: command {id}: {report:?}")),
            PartAction::Stopped => self.tell(|| format!("node {node}: stopped")),
        }
        Ok(())
    }

    fn on_part_note(&mut self, note: &PartNote) {
        self.coverage.note_part(note);
        match note {
            PartNote::Mirror(Note::Serving { suspect: 1.., .. }) => self.rouse(Trigger::Equalising),
            PartNote::Mirror(Note::Unreadable { .. }) => self.book.left_with(0),
            _ => {}
        }
    }

    /// Sends what one node's program tells another's.
    pub(super) fn send_letter(&mut self, from: NodeNo, to: NodeNo, letter: Letter) {
        let jitter = self.jitter();
        if let Some((at, event)) = self.net.send(self.queue.now(), from, to, letter, jitter) {
            self.queue.push(at, Happening::Net(event));
        }
    }

    /// A little time that varies.
    pub(super) fn jitter(&mut self) -> Time {
        match self.rng.below(64) {
            0 => self.rng.below(3 * MILLIS),
            _ => self.rng.below(60_000),
        }
    }

    fn on_answer(
        &mut self,
        node: NodeNo,
        process: &mut Process,
        segment: usize,
        id: OpId,
        result: VolumeResult,
    ) -> Run {
        let Some(at) = process.pending.iter().position(|pending| pending.id == id) else {
            return violation(format!("node {node} answers {id:?} a second time: {result:?}"));
        };
        let Pending { session, op, attempt, is_forwarded, .. } = process.pending.swap_remove(at);
        if !is_forwarded {
            self.judge_reign(node, segment, &result)?;
        }
        self.trace(u64::from(attempt) << 32 | op);
        if let Some(found) = process.sessions.iter().find(|known| known.number == session && known.is_open) {
            let message = super::happening::ToHost::Answer { op, attempt, result };
            let host = found.host;
            self.send_to_host(node, host, session, message);
        }
        self.finish_logins(node, process);
        Ok(())
    }

    fn on_tick(&mut self, node: NodeNo) -> Run {
        let machine = &mut self.machines[node];
        let now = machine.clock.read(self.queue.now());
        let Some(process) = &mut machine.process else { return Ok(()) };
        if process.tick_at.is_none_or(|at| at > self.queue.now()) {
            return Ok(()); // Another one was planned meanwhile.
        }
        process.tick_at = None;
        process.spins += 1;
        if process.spins > SPINS_MAX {
            return violation(format!("a deadline of node {node} is never met; {}", self.statuses()));
        }
        tick_parts(process, now);
        Ok(())
    }

    /// The next step of the disk, the next tick.
    fn plan_next(&mut self, node: NodeNo) {
        let now = self.queue.now();
        self.plan_disk(node);
        let machine = &mut self.machines[node];
        let Some(process) = &mut machine.process else { return };
        let wanted = process.parts.iter().flatten().filter_map(|slot| slot.part.next_deadline()).min();
        let Some(moment) = wanted else { return };
        let at = machine.clock.reaches(moment).max(now + TICK_MIN);
        if process.tick_at.is_none_or(|planned| at < planned) {
            process.tick_at = Some(at);
            self.later(at, node, Local::Tick);
        }
    }

    /// The disk gets on, unless it is stuck.
    pub(super) fn plan_disk(&mut self, node: NodeNo) {
        let machine = &mut self.machines[node];
        let Some(process) = &mut machine.process else { return };
        let Some(pace) = machine.disk_pace else { return };
        if !process.is_disk_busy && machine.disk.in_flight() > 0 {
            process.is_disk_busy = true;
            let wait = (3_000 + machine.rng.below(30_000)) * pace;
            self.later(self.queue.now() + wait, node, Local::Disk);
        }
    }

    fn take_step(&mut self, node: NodeNo) -> Option<crate::disk::Answer> {
        let machine = &mut self.machines[node];
        machine.process.as_mut()?.is_disk_busy = false;
        machine.disk_pace?;
        let answer = machine.disk.step()?;
        if answer.2.is_err() {
            let kind = answer.0;
            self.coverage.count(match kind {
                Kind::Read => "disk failed a read",
                Kind::Write => "disk failed a write",
                Kind::Durable => "disk failed a durable write",
                Kind::Sync => "disk failed a sync",
            });
            self.tell(|| format!("node {node}: its disk fails a {kind}"));
            self.rouse(Trigger::DiskFailed);
        }
        Some(answer)
    }

    fn step_disk(&mut self, node: NodeNo) -> Run {
        match self.take_step(node) {
            Some(answer) => self.on_disk_answer(node, answer),
            None => Ok(()),
        }
    }

    fn step_disk_of_stopped(&mut self, node: NodeNo) {
        if let Some(answer) = self.take_step(node) {
            self.machines[node].backlog.push(Local::DiskAnswer(Box::new(answer)));
        }
        self.plan_disk(node);
    }

    fn on_disk_answer(&mut self, node: NodeNo, (_, token, result): crate::disk::Answer) -> Run {
        let machine = &mut self.machines[node];
        if let Some(pool) = machine.process.as_mut().and_then(|process| process.pool.as_mut()) {
            machine.log.mark();
            pool.complete(token, result);
        }
        Ok(())
    }

    fn on_housekeeping(&mut self, node: NodeNo) {
        let machine = &mut self.machines[node];
        if let Some(process) = machine.process.as_mut() {
            process.spins = 0;
            if let Some(pool) = &mut process.pool {
                machine.log.mark();
                pool.housekeeping();
            }
        }
        if let Some(mut process) = self.machines[node].process.take() {
            self.make_images(&mut process);
            self.machines[node].process = Some(process);
        }
        let wait = HOUSEKEEPING + self.rng.below(MILLIS);
        self.later(self.queue.now() + wait, node, Local::Housekeeping);
    }

    /// Something on the net.
    pub(super) fn on_net(&mut self, event: NetEvent) -> Run {
        let now = self.queue.now();
        if let NetEvent::Arrives { to: at, .. } | NetEvent::Begins { at, .. } | NetEvent::Ends { at, .. } = &event
            && self.machines[*at].pauses > 0
        {
            let at = *at;
            self.machines[at].backlog.push(Local::Net(event));
            return Ok(());
        }
        match event {
            NetEvent::Arrives { from, to, generation } => {
                let Some(letter) = self.net.arrive(now, from, to, generation) else { return Ok(()) };
                self.deliver(from, to, letter)
            }
            NetEvent::Straggles { to, from, letter } => {
                // Only what the process can still read.
                if self.machines[to].is_running() { self.deliver(from, to, *letter) } else { Ok(()) }
            }
            NetEvent::Lags { to, from, generation, letter } => {
                if self.machines[to].pauses > 0 || !self.net.lags(from, to, generation) {
                    return Ok(());
                }
                self.coverage.count("letter of the connection before (M3)");
                // What it did shows only until the next write to the same block.
                self.segments[letter.segment].calm.hurry();
                self.deliver(from, to, *letter)
            }
            NetEvent::Begins { at, peer, generation } => {
                if self.net.begins(at, peer, generation) {
                    self.peer_up(at, peer);
                }
                self.pump(at)
            }
            NetEvent::Ends { at, peer } => {
                if self.net.ends(at, peer) {
                    self.peer_down(at, peer);
                }
                self.pump(at)
            }
            NetEvent::Connects(a, b) => {
                if self.machines[a].is_running() && self.machines[b].is_running() {
                    let told = [now + MILLIS + self.jitter(), now + MILLIS + self.jitter()];
                    if self.net.connect((a, b), told, &mut self.net_out) {
                        self.coverage.count("connection made");
                    }
                    self.push_net();
                }
                Ok(())
            }
            NetEvent::GivesUp { from, to, generation } => {
                if self.net.gives_up(from, to, generation) {
                    self.coverage.count("connection given up");
                    self.break_link(from, to, 400 * MILLIS);
                }
                Ok(())
            }
        }
    }

    fn deliver(&mut self, from: NodeNo, to: NodeNo, letter: Letter) -> Run {
        self.trace(from as u64 + 200);
        let Letter { segment, message } = letter;
        let Some(message) = message else {
            self.on_announced(to, from, segment);
            return self.pump(to);
        };
        if self.story.is_long {
            let said = super::story::letter(&message);
            self.tell(|| format!("node {to} <- {from}, segment {segment}: {said}"));
        }
        let event = PartEvent::Peer { from: super::machine::node_id(from), message };
        if let PartEvent::Peer { message: PeerMessage::Forwarded { .. }, .. } = &event {
            self.coverage.count("forwarded operation answered");
        }
        self.tell_part(to, segment, event);
        self.pump(to)
    }
}

/// What such a request is the moment of.
fn trigger_of(request: &Request) -> Option<Trigger> {
    match request {
        Request::Close { .. } => Some(Trigger::Closing),
        Request::Progress { cursor: None, .. } => Some(Trigger::Completing),
        _ => None,
    }
}

/// Hands an event in; answers to what another node executed are not this node's own.
fn hand_in(process: &mut Process, segment: usize, now: dyad_units::Moment, event: PartEvent) {
    let Some(slot) = &mut process.parts[segment] else { return };
    let is_forwarded = matches!(&event, PartEvent::Peer { message: PeerMessage::Forwarded { .. }, .. });
    let mut out = Vec::new();
    slot.part.handle(now, event, &mut process.leases, &mut out);
    process.spins = process.spins.saturating_sub(1);
    take_over(process, segment, out, is_forwarded);
}

fn tick_parts(process: &mut Process, now: dyad_units::Moment) {
    for segment in 0..process.parts.len() {
        let Some(slot) = &mut process.parts[segment] else { continue };
        let mut out = Vec::new();
        slot.part.tick(now, &mut process.leases, &mut out);
        take_over(process, segment, out, false);
    }
}

fn take_over(process: &mut Process, segment: usize, out: Vec<PartAction>, is_forwarded: bool) {
    for action in out {
        if let PartAction::Answer { id, .. } = &action
            && is_forwarded
            && let Some(pending) = process.pending.iter_mut().find(|pending| pending.id == *id)
        {
            pending.is_forwarded = true;
        }
        process.actions.push_back((segment, action));
    }
}
