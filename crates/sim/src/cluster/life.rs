//! Lives of processes and machines: starts, crashes, losses of power, pauses; and what each does to the net.

use dyad_cluster::{ImageState, OutReason, SegmentRecord};
use dyad_mirror::{LeaseTuning, Leases, Part, PartEvent, PartSetup, PartTuning, ResyncStage};
use dyad_pool::{AdminToken, OpenError};
use dyad_units::Period;

use super::happening::{Happening, Local, StoreQuestion, ToHost};
use super::machine::{PartSlot, Process, node_id};
use super::net::{Letter, NetEvent, NodeNo};
use super::queue::{MILLIS, Time};
use super::world::{Run, World, violation};
use crate::disk::Survival;
use crate::log::SimLog;
use crate::rng::Rng;

/// Pause between two tries to read the records at a start.
const FIRST_READ_AGAIN: Time = 100 * MILLIS;

impl World {
    /// A process is started, unless one runs or the machine shall rest.
    pub(super) fn boot(&mut self, node: NodeNo) -> Run {
        let now = self.queue.now();
        let slab = self.slab.clone();
        let machine = &mut self.machines[node];
        if machine.process.is_some() {
            return Ok(());
        }
        if machine.rests_until > now {
            self.queue.push(machine.rests_until, Happening::Boot(node));
            return Ok(());
        }
        if !machine.is_on {
            machine.switch_on(now);
            self.change_disk(node);
        }
        let machine = &mut self.machines[node];
        machine.starts += 1;
        machine.life += 1;
        let opened = machine.open_pool(&slab);
        let local = machine.clock.read(now);
        let tuning = LeaseTuning { drift_ppm: self.plan.ppm_bound as u32, ..LeaseTuning::default() };
        let incarnation = machine.incarnation();
        let pool = match opened {
            Ok(pool) => Some(pool),
            Err(OpenError::Disk(_)) if self.excuses.disk => None,
            Err(_) if self.excuses.medium => None,
            Err(error) => return violation(format!("node {node} cannot open its pool: {error}")),
        };
        let is_open = pool.is_some();
        machine.process = Some(Box::new(Process {
            incarnation,
            pool,
            leases: Leases::new(node_id(node), incarnation, tuning, local),
            parts: (0..self.plan.segments).map(|_| None).collect(),
            sessions: Vec::new(),
            pending: Vec::new(),
            logins: Vec::new(),
            next_op: 0,
            peers: vec![None; self.plan.nodes],
            theirs: vec![vec![false; self.plan.segments]; self.plan.nodes],
            tick_at: None,
            is_disk_busy: false,
            spins: 0,
            actions: std::collections::VecDeque::new(),
            disk_ops: Vec::new(),
        }));
        let life = machine.life;
        self.tell(|| format!("node {node} starts: {incarnation:?}{}", if is_open { "" } else { ", without its pool" }));
        self.coverage.count("start of a process");
        self.later(now, node, Local::Beat);
        self.later(now + 5 * MILLIS, node, Local::Housekeeping);
        self.queue.push(now + MILLIS, Happening::FirstRead { node, life });
        self.connect_soon(node);
        self.pump(node)
    }

    /// Another disk stands in the place of the old one, if no record needs that any more, nor one that is about to be stored:
    /// whoever changes a disk looks at the record first, and does not do so amid the image's joining.
    fn change_disk(&mut self, node: NodeNo) {
        let Some(disk) = self.machines[node].other_disk.take() else { return };
        let me = node_id(node);
        let is_out = |record: &SegmentRecord| {
            record.images.iter().all(|image| image.node != me || image.state != ImageState::InSync)
        };
        let is_asked = self.queue.events().any(|event| match event {
            Happening::Asked { what: StoreQuestion::Propose(record, _), .. } => !is_out(record),
            _ => false,
        });
        let mut parts =
            self.machines.iter().flat_map(|machine| machine.process.iter().flat_map(|process| &process.parts));
        let is_joining = parts.any(|slot| {
            let run = slot.as_ref().and_then(|slot| slot.part.status().mirror).and_then(|mirror| mirror.resync);
            run.is_some_and(|run| run.stage == ResyncStage::Joining)
        });
        if !is_asked && !is_joining && self.segments.iter().all(|segment| is_out(&segment.stored)) {
            self.coverage.count("start with another disk");
            self.tell(|| format!("node {node}: comes back with another disk"));
            self.machines[node].disk = disk;
        }
    }

    /// A process that starts asks the store for the records.
    pub(super) fn on_first_read(&mut self, node: NodeNo, life: u32) {
        if self.machines[node].life != life {
            return;
        }
        let now = self.queue.now();
        if self.reach.away > 0 || self.reach.cut[node] > 0 {
            self.queue.push(now + FIRST_READ_AGAIN, Happening::FirstRead { node, life });
            return;
        }
        let records =
            (0..self.segments.len()).map(|at| self.store.segment(self.segments[at].id).map(Box::new)).collect();
        self.reach.missed[node] = false;
        let at = (now + 300_000 + self.jitter()).max(self.reach.watched[node]);
        self.reach.watched[node] = at;
        self.later(at, node, Local::Records(records));
    }

    /// The records are there: the parts begin.
    pub(super) fn on_records(&mut self, node: NodeNo, records: Vec<Option<Box<SegmentRecord>>>) -> Run {
        let interval = Period::from_millis(self.plan.interval);
        let slab = self.slab.clone();
        let Some(mut process) = self.machines[node].process.take() else { return Ok(()) };
        for (segment, record) in records.into_iter().enumerate() {
            let Some(record) = record else { continue };
            let mut tuning = PartTuning::default();
            tuning.owner.interval = interval;
            if self.plan.segments > 1 {
                tuning.resyncs_at_once = 1; // so that one has to wait for the other
            }
            let policy = self.plan.policy;
            let store = dyad_cluster::Store::identity(&self.store);
            let setup = PartSetup { node: node_id(node), incarnation: process.incarnation, policy, store, tuning };
            let part = match Part::new(*record, setup, slab.clone()) {
                Ok(part) => part,
                Err(error) => return violation(format!("node {node} cannot begin segment {segment}: {error}")),
            };
            process.parts[segment] = Some(PartSlot {
                part,
                images: Vec::new(),
                asked: Vec::new(),
                flushing: Vec::new(),
                reading: None,
                proposing: None,
                has_noted: false,
            });
        }
        self.make_images(&mut process);
        self.machines[node].process = Some(process);
        for peer in 0..self.plan.nodes {
            for segment in 0..self.plan.segments {
                self.announce(node, peer, segment);
                self.meet(node, peer, segment);
            }
        }
        let Some(mut process) = self.machines[node].process.take() else { return Ok(()) };
        self.find_images(node, &mut process);
        self.machines[node].process = Some(process);
        Ok(())
    }

    /// Images that are out of sync and not there, because they were just added or the disk was replaced, are made, empty.
    pub(super) fn make_images(&mut self, process: &mut Process) {
        let Some(pool) = &mut process.pool else { return };
        for (segment, slot) in process.parts.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let record = slot.part.record();
            let here = pool.id();
            for image in record.images.iter().filter(|image| image.pool == here) {
                if image.state != ImageState::InSync && pool.find(image.id).is_none() {
                    pool.create_image(AdminToken(1), super::setup::meta(image.id, segment, record.size));
                }
            }
        }
    }

    /// Tells the parts which of their images can be asked.
    pub(super) fn find_images(&mut self, node: NodeNo, process: &mut Process) {
        let machine = &mut self.machines[node];
        let now = machine.clock.read(self.queue.now());
        for segment in 0..process.parts.len() {
            let Some(slot) = &mut process.parts[segment] else { continue };
            let me = node_id(node);
            let mine: Vec<_> =
                slot.part.record().images.iter().filter(|image| image.node == me).map(|image| image.id).collect();
            let mut out = Vec::new();
            for image in mine {
                if slot.images.iter().any(|(known, _)| *known == image) {
                    continue;
                }
                match process.pool.as_ref().and_then(|pool| pool.find(image)) {
                    Some(handle) => {
                        slot.images.push((image, handle));
                        slot.part.handle(now, PartEvent::PoolUp { image }, &mut process.leases, &mut out);
                    }
                    None => {
                        let event = PartEvent::PoolDown { image, reason: OutReason::Absent };
                        slot.part.handle(now, event, &mut process.leases, &mut out);
                    }
                }
            }
            process.actions.extend(out.into_iter().map(|action| (segment, action)));
        }
    }

    /// The process dies; the machine stays up.
    pub(super) fn kill_process(&mut self, node: NodeNo, is_amid_call: bool) -> Run {
        let machine = &mut self.machines[node];
        let Some(process) = machine.process.take() else { return Ok(()) };
        let mut rng = machine.rng.fork();
        machine.log = if is_amid_call { machine.log.amid_stores(&mut rng) } else { machine.log.after_process_crash() };
        machine.disk = machine.disk.after_process_crash(&mut rng);
        if Rng::new(self.plan.seed ^ u64::from(machine.life)).chance(1, 2) {
            // What a failed sync dropped is not there any more when the next process looks (P11).
            machine.disk.evict_clean();
        }
        machine.life += 1;
        machine.pauses = 0;
        machine.backlog.clear();
        self.coverage.count("process crash");
        self.tell(|| {
            format!("node {node}: the process dies{}", if is_amid_call { " in a call of its pool" } else { "" })
        });
        // The kernel resets its connections.
        for session in &process.sessions {
            let at = self.queue.now() + 100_000 + self.jitter();
            if self.host_cuts[session.host][node] == 0 {
                let (host, session) = (session.host, session.number);
                self.queue.push(at, Happening::ToHost { host, node, session, message: ToHost::Closed });
            }
        }
        drop(process);
        self.leave_net(node, 20 * MILLIS);
        Ok(())
    }

    /// The machine loses its power.
    pub(super) fn cut_power(&mut self, node: NodeNo, rng: &mut Rng) {
        let survival = Survival::ALL[rng.index(Survival::ALL.len())];
        let machine = &mut self.machines[node];
        machine.process = None;
        machine.disk = machine.disk.after_power_cut(survival, rng);
        machine.log = SimLog::new(self.plan.log_bytes);
        (machine.is_on, machine.pauses) = (false, 0);
        machine.life += 1;
        machine.backlog.clear();
        self.coverage.count("power loss");
        self.tell(|| format!("node {node}: the power is gone; of what was not synced survives: {survival:?}"));
        self.book.forgot(1 << node);
        // Nobody resets anything: the others notice by themselves.
        self.leave_net(node, 1500 * MILLIS);
    }

    fn leave_net(&mut self, node: NodeNo, noticed_within: Time) {
        for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
            self.break_link(node, peer, noticed_within);
            self.net.forget_side(node, peer);
        }
    }

    /// The connection of two nodes breaks; each side notices within this time.
    pub(super) fn break_link(&mut self, a: NodeNo, b: NodeNo, noticed_within: Time) {
        let pair = (a.min(b), a.max(b));
        let mut notice = || 50_000 + self.rng.below(noticed_within);
        let notices = [notice(), notice()];
        let keeps = [self.rng.below(257), self.rng.below(257)];
        self.net.break_up(self.queue.now(), pair, notices, keeps, &mut self.net_out);
        self.push_net();
    }

    /// A node connects to all that it is not connected to.
    pub(super) fn connect_soon(&mut self, node: NodeNo) {
        for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
            if !self.net.is_whole(node, peer) {
                let at = self.queue.now() + MILLIS + self.rng.below(30 * MILLIS);
                self.queue.push(at, Happening::Net(NetEvent::Connects(node.min(peer), node.max(peer))));
            }
        }
    }

    pub(super) fn peer_up(&mut self, node: NodeNo, peer: NodeNo) {
        let incarnation = self.machines[peer].incarnation();
        let machine = &mut self.machines[node];
        let now = machine.clock.read(self.queue.now());
        let Some(process) = &mut machine.process else { return };
        process.peers[peer] = Some(incarnation);
        process.leases.hello(node_id(peer), incarnation, now);
        self.tell(|| format!("node {node}: connected to {peer}"));
        (0..self.plan.segments).for_each(|segment| self.announce(node, peer, segment));
    }

    /// A node tells another that it has a part of the segment: only from then on do the two parts talk.
    fn announce(&mut self, node: NodeNo, peer: NodeNo, segment: usize) {
        let process = self.machines[node].process.as_ref();
        if process.is_some_and(|process| process.peers[peer].is_some() && process.parts[segment].is_some()) {
            self.send_letter(node, peer, Letter { segment, message: None });
        }
    }

    /// The other node has a part of the segment.
    pub(super) fn on_announced(&mut self, node: NodeNo, peer: NodeNo, segment: usize) {
        if let Some(process) = &mut self.machines[node].process {
            process.theirs[peer][segment] = true;
        }
        self.meet(node, peer, segment);
    }

    /// If both have a part of the segment, this node's learns of the other.
    fn meet(&mut self, node: NodeNo, peer: NodeNo, segment: usize) {
        let Some(process) = &self.machines[node].process else { return };
        if let Some(incarnation) = process.peers[peer].filter(|_| process.theirs[peer][segment]) {
            self.tell_part(node, segment, PartEvent::PeerUp { node: node_id(peer), incarnation });
        }
    }

    pub(super) fn peer_down(&mut self, node: NodeNo, peer: NodeNo) {
        let Some(process) = &mut self.machines[node].process else { return };
        process.peers[peer] = None;
        let theirs = std::mem::replace(&mut process.theirs[peer], vec![false; self.plan.segments]);
        self.coverage.count("connection lost");
        self.tell(|| format!("node {node}: connection to {peer} lost"));
        for segment in (0..theirs.len()).filter(|&segment| theirs[segment]) {
            self.tell_part(node, segment, PartEvent::PeerDown { node: node_id(peer) });
        }
        let at = self.queue.now() + self.rng.below(20 * MILLIS);
        self.queue.push(at, Happening::Net(NetEvent::Connects(node.min(peer), node.max(peer))));
    }

    /// A stopped process goes on: all that waited comes at once.
    pub(super) fn resume(&mut self, node: NodeNo, life: u32) -> Run {
        let machine = &mut self.machines[node];
        if machine.life != life || machine.pauses == 0 {
            return Ok(());
        }
        machine.pauses -= 1;
        if machine.pauses > 0 {
            return Ok(());
        }
        let mut backlog = std::mem::take(&mut machine.backlog);
        // Which of its threads wakes first is chance; each finds its own things in order.
        let beats_first = machine.rng.chance(1, 2);
        self.tell(|| format!("node {node}: goes on"));
        let is_beat = |what: &Local| matches!(what, Local::Beat | Local::Beats { .. });
        if beats_first {
            backlog.sort_by_key(|what| !is_beat(what));
        } else {
            backlog.sort_by_key(is_beat);
        }
        let at = self.queue.now();
        for what in backlog {
            self.later(at, node, what);
        }
        Ok(())
    }
}
