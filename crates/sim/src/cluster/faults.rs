//! How each fault strikes, and how it ends.

use dyad_cluster::ImageState;
use dyad_mirror::{Command, PartEvent};

use super::happening::Happening;
use super::host::Host;
use super::machine::node_id;
use super::net::{NodeNo, PATIENCE_MAX};
use super::plan::{Aim, Beats, DiskFault, Fault, FaultKind, Trigger};
use super::queue::{MILLIS, Time};
use super::world::{Run, World, in_sync};
use crate::disk::{self, Kind, SimDisk};
use crate::rng::Rng;

/// How often a fault that waits looks whether it may strike.
const LOOK: Time = 3 * MILLIS;

/// The end of a fault's effect.
#[derive(Clone, Copy, Debug)]
pub enum Mend {
    /// A process goes on.
    Resume(NodeNo, u32),
    /// A direction is whole again.
    Way(NodeNo, NodeNo),
    /// Beats travel again.
    BeatWay(NodeNo, NodeNo, bool),
    /// Letters are as fast as usual.
    Speed(NodeNo),
    /// The store can be reached.
    Store,
    /// The play is over in which a claim was awaited.
    AwaitedClaim,
    /// It loses nothing any more.
    StoreFlaky,
    /// A node reaches it.
    StoreCut(NodeNo),
    /// Two nodes' connection breaks and comes back.
    Reset(NodeNo, NodeNo),
    /// A host reaches a node.
    Host(usize, NodeNo),
    /// A disk works as usual.
    Disk(NodeNo),
}

impl World {
    /// A fault strikes, or waits on.
    pub(super) fn on_fault(&mut self, number: usize, until: u64) -> Run {
        let fault = self.plan.faults[number];
        if self.is_mended || self.struck.contains(&number) {
            return Ok(());
        }
        let lasts = || Rng::new(fault.seed ^ self.queue.now()).chance(1, 16);
        let is_due = match fault.trigger {
            Trigger::Time => Some(true),
            Trigger::Writing => Some(self.hosts.iter().any(Host::is_writing)),
            Trigger::Resyncing => Some(self.is_resyncing()),
            Trigger::Copying => Some(self.is_resyncing() && lasts()),
            Trigger::Comparing => Some(self.is_comparing() && lasts()),
            // These are told when it happens.
            Trigger::Equalising | Trigger::Joined | Trigger::Marking | Trigger::Closing => None,
            Trigger::Alone | Trigger::Completing | Trigger::DiskFailed | Trigger::HandingOver => None,
            Trigger::Noting | Trigger::Carrying => None,
        };
        if self.queue.now() < until {
            match is_due {
                Some(true) => {}
                Some(false) => {
                    self.queue.push(self.queue.now() + LOOK, Happening::Fault { fault: number, until });
                    return Ok(());
                }
                None => {
                    if !self.awaiting.contains(&(number, until)) {
                        self.awaiting.push((number, until));
                        self.queue.push(until, Happening::Fault { fault: number, until });
                    }
                    return Ok(());
                }
            }
        }
        self.struck.push(number);
        let mut rng = Rng::new(fault.seed);
        let node = self.aim(fault.aim, &mut rng);
        self.tell(|| format!("fault {number}: {:?} at node {node} for {} ms", fault.kind, fault.lasts / MILLIS));
        self.coverage.count(name(fault.kind));
        self.strike(fault, node, &mut rng)
    }

    /// What waits for this strikes within moments, or a little later.
    pub(super) fn rouse(&mut self, trigger: Trigger) {
        let now = self.queue.now();
        for (number, until) in self.awaiting.clone() {
            let fault = self.plan.faults[number];
            if fault.trigger == trigger && now <= until {
                let mut rng = Rng::new(fault.seed ^ 1);
                let after = match trigger {
                    // What a mark is for is over within a few steps of a disk.
                    Trigger::Marking | Trigger::HandingOver => [20_000, LOOK, MILLIS / 3],
                    // So is each stage of an atomic write; disks are slow then.
                    Trigger::Noting | Trigger::Carrying => [MILLIS / 3, LOOK, 2 * LOOK],
                    _ => [20_000, LOOK, 100 * MILLIS],
                };
                let after = after[rng.index(3)];
                self.queue.push(now + rng.below(after), Happening::Fault { fault: number, until: 0 });
            }
        }
    }

    fn aim(&self, aim: Aim, rng: &mut Rng) -> NodeNo {
        let record = &self.segments[0].stored;
        let owner = self.owner(0);
        let found = match aim {
            Aim::Node(node) => Some(node),
            Aim::Owner => owner,
            Aim::Follower => {
                in_sync(record).filter_map(|image| self.place(image.node)).find(|node| Some(*node) != owner)
            }
            Aim::Behind => {
                let of = |state| record.images.iter().find(|image| image.state == state);
                let behind = of(ImageState::Syncing).or(of(ImageState::Stale)).or(of(ImageState::Detached));
                behind.and_then(|image| self.place(image.node))
            }
            Aim::Front => self.front(),
        };
        found.unwrap_or_else(|| rng.index(self.plan.nodes))
    }

    fn strike(&mut self, fault: Fault, node: NodeNo, rng: &mut Rng) -> Run {
        let end = self.queue.now() + fault.lasts;
        match fault.kind {
            FaultKind::ProcessCrash { amid: true } if self.machines[node].is_running() => {
                self.machines[node].dies_amid_call = true;
                self.rest_until(node, end);
            }
            FaultKind::ProcessCrash { .. } => {
                self.rest_until(node, end);
                self.kill_process(node, false)?;
            }
            FaultKind::ProcessCrashOfAll => {
                for node in 0..self.plan.nodes {
                    self.rest_until(node, self.queue.now() + rng.below(fault.lasts.max(1)));
                    self.kill_process(node, false)?;
                }
            }
            FaultKind::PowerLoss | FaultKind::OldDisk | FaultKind::EmptyDisk => {
                self.strike_power(fault, node, end, rng)
            }
            FaultKind::PowerLossOfAll => self.strike_power_of_all(fault, rng),
            FaultKind::Pause => {
                let machine = &mut self.machines[node];
                if machine.process.is_some() {
                    machine.pauses += 1;
                    let life = machine.life;
                    self.mend_later(end, Mend::Resume(node, life));
                }
            }
            FaultKind::DiskSlow { factor } => {
                self.machines[node].disk_pace = Some(factor);
                self.mend_later(end, Mend::Disk(node));
            }
            FaultKind::DiskStuck => {
                self.machines[node].disk_pace = None;
                self.mend_later(end, Mend::Disk(node));
            }
            FaultKind::DiskFails { kind, times } => {
                let after = rng.below(30);
                self.fail_disk(node, kind, (after, times));
            }
            FaultKind::DiskFailsNow { kind } => self.fail_disk(node, kind, (0, 1)),
            FaultKind::Rot => self.rot(node, rng),
            FaultKind::RotOfLast => self.rot_last(node, rng),
            FaultKind::RotOfState => self.rot_state(node, rng),
            FaultKind::Drift { ppm } => {
                let now = self.queue.now();
                let machine = &mut self.machines[node];
                machine.ppm = ppm;
                machine.clock.change(now, ppm);
            }
            FaultKind::HandOver
            | FaultKind::TakeOut
            | FaultKind::Detach
            | FaultKind::AddImage { .. }
            | FaultKind::RemoveImage
            | FaultKind::Promote => self.command(fault.kind, node),
            FaultKind::OwnerCutOff { twist } => self.cut_off(fault, node, twist, rng)?,
            _ => self.strike_net(fault, node, end, rng),
        }
        Ok(())
    }

    pub(super) fn rest_until(&mut self, node: NodeNo, end: Time) {
        let machine = &mut self.machines[node];
        machine.rests_until = machine.rests_until.max(end);
        self.queue.push(end, Happening::Boot(node));
    }

    fn strike_power_of_all(&mut self, fault: Fault, rng: &mut Rng) {
        for node in 0..self.plan.nodes {
            let up = self.queue.now() + MILLIS + rng.below(fault.lasts.max(1));
            self.rest_until(node, up);
            self.cut_power(node, rng);
            self.notice_restart(node, up);
        }
    }

    fn strike_power(&mut self, fault: Fault, node: NodeNo, end: Time, rng: &mut Rng) {
        self.rest_until(node, end);
        self.cut_power(node, rng);
        // Another disk comes only where the others went on without this one: looked at when it starts.
        let machine = &mut self.machines[node];
        machine.other_disk = match fault.kind {
            FaultKind::OldDisk => machine.old_disk.take(),
            FaultKind::EmptyDisk => {
                let mut disk = SimDisk::new(self.plan.disk_bytes, self.plan.unit, rng.bits());
                let node_disk = machine.format(&mut disk);
                node_disk.is_ok().then_some(disk)
            }
            _ => None,
        };
    }

    fn strike_net(&mut self, fault: Fault, node: NodeNo, end: Time, rng: &mut Rng) {
        let other = |other: usize| (node + other) % self.plan.nodes;
        match fault.kind {
            FaultKind::CutOneWay { other: step, inward, beats } => {
                let peer = other(step);
                let (from, to) = if inward { (peer, node) } else { (node, peer) };
                self.cut(from, to, beats, end, rng);
                // Sometimes the store is behind the same cut: then nobody tells the node what the others did, while a
                // third one still talks to both (M5: every lease counts).
                if fault.seed >> 62 == 0 {
                    self.reach.cut[node] += 1;
                    self.mend_later(end, Mend::StoreCut(node));
                }
            }
            FaultKind::Isolation { store, hosts, beats } => {
                for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
                    self.cut(node, peer, beats, end, rng);
                    self.cut(peer, node, beats, end, rng);
                }
                if store {
                    self.reach.cut[node] += 1;
                    self.mend_later(end, Mend::StoreCut(node));
                }
                for host in (0..self.hosts.len()).filter(|_| hosts) {
                    self.host_cuts[host][node] += 1;
                    self.mend_later(end, Mend::Host(host, node));
                }
            }
            FaultKind::LinkBreak { other: step } => self.break_link(node, other(step), 30 * MILLIS),
            FaultKind::BeatsOnly { other: step, late } => {
                let peer = other(step);
                self.lose_beats(node, peer, late, end);
            }
            FaultKind::SlowToOwner { delay } => self.slow_to_owner(node, delay, end),
            FaultKind::FrontHangsUp => self.hang_up(node, fault.lasts),
            FaultKind::OwnerUnheard => self.unhear_owner(node, end),
            FaultKind::SlowNet { most } => {
                let delay = (1 + rng.below(most / MILLIS)) * MILLIS;
                for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
                    self.net.slow_down(node, peer, delay);
                    self.net.slow_down(peer, node, delay);
                }
                self.mend_later(end, Mend::Speed(node));
            }
            FaultKind::StoreAway => {
                self.reach.away += 1;
                self.mend_later(end, Mend::Store);
            }
            FaultKind::StoreFlaky => {
                self.reach.flaky += 1;
                self.mend_later(end, Mend::StoreFlaky);
            }
            FaultKind::StoreCut => {
                self.reach.cut[node] += 1;
                self.mend_later(end, Mend::StoreCut(node));
            }
            FaultKind::HostCut if !self.hosts.is_empty() => {
                let host = rng.index(self.hosts.len());
                self.host_cuts[host][node] += 1;
                self.mend_later(end, Mend::Host(host, node));
            }
            _ => {}
        }
    }

    pub(super) fn cut(&mut self, from: NodeNo, to: NodeNo, beats: Beats, end: Time, rng: &mut Rng) {
        let patience = 50 * MILLIS + rng.below(PATIENCE_MAX);
        if let Some((at, event)) = self.net.cut(self.queue.now(), from, to, patience) {
            self.queue.push(at, Happening::Net(event));
        }
        self.mend_later(end, Mend::Way(from, to));
        if beats == Beats::Late {
            self.lose_beats(from, to, true, end);
        }
    }

    pub(super) fn lose_beats(&mut self, from: NodeNo, to: NodeNo, late: bool, end: Time) {
        let way = &mut self.beats[from][to];
        if late {
            way.late += 1;
            // Beats have a connection of their own: what lay in it may come, and the rest flow, while everything else is
            // still cut off (M5: an answer that comes so late is worth nothing).
            let span = end.saturating_sub(self.queue.now());
            let quarters = 2 + (end / MILLIS) % 3;
            way.until = way.until.max(end - span + span * quarters / 4);
        } else {
            way.lost += 1;
        }
        self.mend_later(end, Mend::BeatWay(from, to, late));
    }

    /// So many operations of a kind pass, and so many fail after them.
    fn fail_disk(&mut self, node: NodeNo, kind: DiskFault, (after, times): (u64, u64)) {
        self.excuses.disk = true;
        let kind = match kind {
            DiskFault::Read => Kind::Read,
            DiskFault::Write => Kind::Write,
            DiskFault::Durable => Kind::Durable,
            DiskFault::Sync => Kind::Sync,
        };
        self.machines[node].disk.order(disk::Fault { kind, after, times });
    }

    /// An image on a node that has none.
    fn command_to_add(&mut self, replaces: Option<dyad_units::ImageId>) -> Option<Command> {
        let record = &self.segments[0].stored;
        let has_one = |node: NodeNo| record.images.iter().any(|image| image.node == node_id(node));
        let node = (0..self.plan.nodes).find(|&node| !has_one(node))?;
        self.images_added += 1;
        let image = super::world::image_id(0, self.images_added);
        let (node, pool) = (node_id(node), super::machine::pool_id(node));
        Some(Command::Add { image, node, pool, replaces })
    }

    /// Whether the owner is off, or hears at once that it was overruled: an administrator says so who promotes (M10), and what
    /// two owners do that a false word made is his.
    fn is_told_of_promotions(&self) -> bool {
        let is_off = self.owner(0).is_none_or(|owner| !self.machines[owner].is_running());
        is_off || (self.reach.flaky == 0 && (0..self.plan.nodes).all(|node| self.reaches_store(node)))
    }

    /// An administrator wants something.
    fn command(&mut self, kind: FaultKind, node: NodeNo) {
        let record = &self.segments[0].stored;
        let Some(image) = record.images.iter().find(|image| image.node == node_id(node)) else { return };
        let (id, state) = (image.id, image.state);
        let (at, command) = match kind {
            FaultKind::HandOver => (self.owner(0), Command::HandOver { to: node_id(node) }),
            FaultKind::TakeOut => (self.owner(0), Command::TakeOut { image: id }),
            FaultKind::Detach if state != ImageState::InSync => (self.owner(0), Command::Detach { image: id }),
            FaultKind::RemoveImage if state != ImageState::InSync => (self.owner(0), Command::Remove { image: id }),
            FaultKind::AddImage { replaces } => match self.command_to_add(replaces.then_some(id)) {
                Some(command) => (self.owner(0), command),
                None => return,
            },
            FaultKind::Promote if state != ImageState::InSync && self.is_told_of_promotions() => {
                (Some(node), Command::Promote { image: id })
            }
            _ => return,
        };
        self.questions += 1;
        if let Some(at) = at.filter(|at| self.machines[*at].is_running()) {
            let id = self.questions;
            self.tell(|| format!("administrator to node {at}: {command:?}"));
            self.tell_part(at, 0, PartEvent::Command { id, command });
            let life = self.machines[at].life;
            // The part's wishes are carried out with the next thing that happens there.
            self.queue.push(self.queue.now(), Happening::Node { node: at, life, what: super::happening::Local::Disk });
        }
    }

    /// A fault's effect is over.
    pub(super) fn mend(&mut self, mend: Mend) -> Run {
        match mend {
            Mend::Resume(node, life) => return self.resume(node, life),
            Mend::Way(from, to) => {
                let jitter = self.rng.below(200 * MILLIS);
                self.net.mend(self.queue.now(), from, to, jitter, &mut self.net_out);
                self.push_net();
            }
            Mend::BeatWay(from, to, late) => {
                let way = &mut self.beats[from][to];
                let count = if late { &mut way.late } else { &mut way.lost };
                *count = count.saturating_sub(1);
            }
            Mend::Speed(node) => {
                for peer in (0..self.plan.nodes).filter(|peer| *peer != node) {
                    self.net.slow_down(node, peer, 0);
                    self.net.slow_down(peer, node, 0);
                }
            }
            Mend::Reset(one, other) => self.break_link(one, other, 30 * MILLIS),
            Mend::AwaitedClaim => self.await_no_claim(),
            Mend::Store => self.reach.away = self.reach.away.saturating_sub(1),
            Mend::StoreFlaky => self.reach.flaky = self.reach.flaky.saturating_sub(1),
            Mend::StoreCut(node) => self.reach.cut[node] = self.reach.cut[node].saturating_sub(1),
            Mend::Host(host, node) => {
                let cuts = &mut self.host_cuts[host][node];
                *cuts = cuts.saturating_sub(1);
            }
            Mend::Disk(node) => {
                self.machines[node].disk_pace = Some(1);
                self.plan_disk(node);
            }
        }
        self.catch_up_watches();
        Ok(())
    }
}

/// A fault's name in the coverage.
fn name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::ProcessCrash { .. } => "fault: process crash",
        FaultKind::PowerLoss => "fault: power loss",
        FaultKind::OldDisk => "fault: power loss, an old disk",
        FaultKind::EmptyDisk => "fault: power loss, an empty disk",
        FaultKind::PowerLossOfAll => "fault: power loss of all",
        FaultKind::ProcessCrashOfAll => "fault: process crash of all",
        FaultKind::Pause => "fault: pause",
        FaultKind::CutOneWay { .. } => "fault: one-way cut",
        FaultKind::Isolation { store: true, .. } => "fault: partition from all and the store",
        FaultKind::Isolation { store: false, .. } => "fault: partition from the others",
        FaultKind::OwnerCutOff { .. } => "fault: the owner is cut off from all but its hosts",
        FaultKind::LinkBreak { .. } => "fault: connection reset",
        FaultKind::BeatsOnly { .. } => "fault: beats lost or late",
        FaultKind::SlowToOwner { .. } => "fault: a front's letters to the owner are slow",
        FaultKind::FrontHangsUp => "fault: a front hangs up on the owner",
        FaultKind::OwnerUnheard => "fault: a front does not hear the owner",
        FaultKind::SlowNet { .. } => "fault: slow net",
        FaultKind::StoreAway => "fault: store away",
        FaultKind::StoreFlaky => "fault: store loses things",
        FaultKind::StoreCut => "fault: a node without the store",
        FaultKind::HostCut => "fault: a host without a node",
        FaultKind::DiskSlow { .. } => "fault: slow disk",
        FaultKind::DiskStuck => "fault: stuck disk",
        FaultKind::DiskFails { kind: DiskFault::Read, .. } => "fault: disk fails reads",
        FaultKind::DiskFails { kind: DiskFault::Write, .. } => "fault: disk fails writes",
        FaultKind::DiskFails { kind: DiskFault::Durable, .. } => "fault: disk fails durable writes",
        FaultKind::DiskFails { kind: DiskFault::Sync, .. } => "fault: disk fails syncs",
        FaultKind::DiskFailsNow { .. } => "fault: disk fails at a certain moment",
        FaultKind::Rot => "fault: bit rot",
        FaultKind::RotOfLast => "fault: bit rot on the only image in sync",
        FaultKind::RotOfState => "fault: bit rot of the SCSI state of the only image in sync",
        FaultKind::Drift { .. } => "fault: clock drift",
        FaultKind::HandOver => "administrator: hand-over (M12)",
        FaultKind::TakeOut => "administrator: take out",
        FaultKind::Detach => "administrator: detach",
        FaultKind::AddImage { .. } => "administrator: an image is added",
        FaultKind::RemoveImage => "administrator: an image is removed",
        FaultKind::Promote => "administrator: forced promotion (M10)",
    }
}
