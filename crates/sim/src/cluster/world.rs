//! Everything of a run, and what happens next in it.

use std::collections::BTreeMap;

use dyad_cluster::{ImageState, NewSegment, SegmentRecord};
use dyad_payload::Slab;
use dyad_units::{BootId, Bytes, ImageId, LayerId, REGION_BYTES, SegmentId, VolumeId};

use super::block::{Nodes, Order, at_seconds};
use super::book::Book;
use super::calm::Calm;
use super::clock::Clock;
use super::config::ConfigStore;
use super::coverage::Coverage;
use super::cut_off::Awaited;
use super::faults::Mend;
use super::happening::{Happening, Local, SessionNo};
use super::host::{Excuses, Host};
use super::machine::{Machine, node_id, pool_id};
use super::net::{Net, NetEvent, NodeNo};
use super::plan::{Plan, Trigger};
use super::queue::{MILLIS, Queue, Time};
use super::setup::Templates;
use crate::log::SimLog;
use crate::model::Violation;
use crate::player::Story;
use crate::rng::Rng;

/// Events of a run at most: a hundred times what a long one has.
const EVENTS_MAX: u64 = 20_000_000;

/// One segment, as the run sees it.
pub struct Segment {
    /// Its identity.
    pub id: SegmentId,
    /// What the store holds.
    pub stored: SegmentRecord,
    /// Of each node: the last epoch in which the record named it owner anew.
    pub reigns: Vec<u32>,
    /// The highest of these in which anybody answered as owner.
    pub answered: u32,
    /// Of each node: when its image was asked for the last flush that it has made.
    pub flushed: Vec<Order>,
    /// Since when there have been fewer images in sync than the volume wants (A4).
    pub few_since: Option<Order>,
    /// Since when one image alone is in sync, and nodes of those that were in sync with it: until it was flushed alone they
    /// may have what it forgot, and it does not serve of its own accord (M8).
    pub alone: Option<(Order, Nodes)>,
    /// Its last change was a promotion by force: whoever was promoted has not claimed yet (M10).
    pub is_overruled: bool,
    /// When its images were last held against each other.
    pub calm: Calm,
}

/// How well the config store can be reached.
#[derive(Debug, Default)]
pub struct Reach {
    /// Reasons why nobody reaches it.
    pub away: u32,
    /// Reasons why it loses things.
    pub flaky: u32,
    /// Of each node, reasons why it does not.
    pub cut: Vec<u32>,
    /// Nodes that missed a change.
    pub missed: Vec<bool>,
    /// Of each node: when the last news of the watch arrives.
    pub watched: Vec<Time>,
    /// The next claim of another node is slow, and something else happens meanwhile.
    pub awaited: Option<Awaited>,
}

/// Beats between two nodes, in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct BeatWay {
    /// Reasons why they are lost.
    pub lost: u32,
    /// Reasons why they are late.
    pub late: u32,
    /// Until when.
    pub until: Time,
    /// From when until when they get through a cut.
    pub open: (Time, Time),
    /// Arrival of the last.
    pub last: Time,
}

/// A run.
pub struct World {
    /// What it is made of.
    pub plan: Plan,
    pub(super) slab: Slab,
    pub(super) queue: Queue<Happening>,
    pub(super) machines: Vec<Machine>,
    pub(super) net: Net,
    pub(super) beats: Vec<Vec<BeatWay>>,
    pub(super) store: ConfigStore,
    pub(super) reach: Reach,
    pub(super) segments: Vec<Segment>,
    pub(super) hosts: Vec<Host>,
    /// Reasons why a host does not reach a node.
    pub(super) host_cuts: Vec<Vec<u32>>,
    pub(super) book: Book,
    pub(super) excuses: Excuses,
    /// What the run saw.
    pub coverage: Coverage,
    /// What happened, in words.
    pub story: Story,
    /// Folded over everything that happened.
    pub trace: u64,
    pub(super) rng: Rng,
    pub(super) sessions: SessionNo,
    pub(super) questions: u64,
    /// Host operations answered.
    pub answered: u64,
    /// Faults are over.
    pub(super) is_mended: bool,
    /// Number of the image that an administrator added last; the first ones are the segment's own.
    pub(super) images_added: usize,
    /// Faults that struck, and those that wait for a new owner's extents to be made equal (M9), until when.
    pub(super) struck: Vec<usize>,
    pub(super) awaiting: Vec<(usize, Time)>,
    /// Clocks broke the bound: a read may be stale (M5).
    pub(super) is_loose: bool,
    pub(super) net_out: Vec<(Time, NetEvent)>,
}

/// Result of everything that may find a rule broken.
pub(super) type Run = Result<(), Violation>;

pub(super) fn violation<T>(what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(what.into()))
}

impl World {
    /// The run of this plan, before anything happened.
    pub fn new(plan: Plan, slab: &Slab, templates: &mut Templates) -> Self {
        let mut rng = Rng::new(plan.seed);
        let size = Bytes::new(plan.regions * u64::from(REGION_BYTES));
        let store = ConfigStore::default();
        let segments: Vec<Segment> = (0..plan.segments).map(|at| found_segment(&plan, at, size, &store)).collect();
        let machines = (0..plan.nodes).map(|no| found_machine(&plan, no, &mut rng, templates, slab)).collect();
        let blocks = size.value() / crate::pattern::BLOCK as u64;
        let host = |no: usize, rng: &mut Rng| {
            // Whoever watches looks at what faults aim at, all the time.
            let (volume, times) = if no == super::host::WATCHER { (0, 3) } else { (no % plan.segments, 1) };
            Host::new(no, volume, plan.nodes, plan.quota * times, rng.fork())
        };
        let all: Vec<Host> = (0..4).map(|no| host(no, &mut rng)).collect();
        let special = |no| Host::new(no, 0, plan.nodes, plan.quota * 3, Rng::new(plan.seed ^ 0x5e4d));
        let hosts = all
            .into_iter()
            .chain((super::host::SENDER..=super::host::JOINER).map(special))
            .filter(|host| plan.hosts.contains(&host.number()))
            .collect::<Vec<_>>();
        let net = Net::new(plan.nodes, 20_000 + rng.below(200_000));
        let reach = Reach { cut: vec![0; plan.nodes], missed: vec![false; plan.nodes], ..Reach::default() };
        let reach = Reach { watched: vec![0; plan.nodes], ..reach };
        let mut world = Self {
            slab: slab.clone(),
            queue: Queue::default(),
            machines,
            net,
            beats: vec![vec![BeatWay::default(); plan.nodes]; plan.nodes],
            store,
            reach,
            segments,
            host_cuts: vec![vec![0; plan.nodes]; hosts.len()],
            hosts,
            book: Book::new(plan.segments, blocks, plan.unit < crate::pattern::BLOCK),
            excuses: Excuses { few: plan.policy.min_in_sync > 1, ..Excuses::default() },
            coverage: Coverage::default(),
            story: Story::default(),
            trace: plan.seed,
            rng: rng.fork(),
            sessions: 0,
            questions: 0,
            answered: 0,
            is_mended: false,
            images_added: dyad_cluster::IMAGES_MAX,
            struck: Vec::new(),
            awaiting: Vec::new(),
            is_loose: plan.is_beyond_bound,
            net_out: Vec::new(),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.machines.len() {
            let at = self.rng.below(300) * MILLIS;
            self.queue.push(at, Happening::Boot(node));
        }
        for host in 0..self.hosts.len() {
            self.queue.push(MILLIS, Happening::HostWakes(host));
        }
        for (fault, planned) in self.plan.faults.iter().enumerate() {
            if !self.plan.skipped.contains(&fault) {
                self.queue.push(planned.at, Happening::Fault { fault, until: planned.at + super::plan::TRIGGER_WAIT });
            }
        }
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.queue.made()
    }

    /// True time.
    pub fn now(&self) -> Time {
        self.queue.now()
    }

    /// Writes a line of the story.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.queue.now();
        self.story.tell(|| format!("{:>10} {}", at_seconds(now), line()));
    }

    pub(super) fn trace(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// Something happens to a process.
    pub(super) fn later(&mut self, at: Time, node: NodeNo, what: Local) {
        let life = self.machines[node].life;
        self.queue.push(at, Happening::Node { node, life, what });
    }

    pub(super) fn push_net(&mut self) {
        for (at, event) in self.net_out.drain(..) {
            self.queue.push(at, Happening::Net(event));
        }
    }

    /// Lets things happen until the given time.
    pub fn run_until(&mut self, end: Time) -> Run {
        while self.queue.next_at().is_some_and(|at| at <= end) {
            let Some(what) = self.queue.pop() else { break };
            self.happen(what)?;
            if self.queue.made() > EVENTS_MAX {
                return violation("the run never gets anywhere: too many events");
            }
        }
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Run {
        self.book.order();
        self.trace(self.queue.now());
        match what {
            Happening::Node { node, life, what } => {
                self.trace(node as u64 + 1);
                self.on_local(node, life, what)
            }
            Happening::Net(event) => self.on_net(event),
            Happening::Asked { node, life, segment, question, what } => {
                self.on_asked(node, life, segment, question, what);
                Ok(())
            }
            Happening::Boot(node) => self.boot(node),
            Happening::FirstRead { node, life } => {
                self.on_first_read(node, life);
                Ok(())
            }
            Happening::HostWakes(host) => self.on_host_wakes(host),
            Happening::ToHost { host, node, session, message } => self.on_to_host(host, node, session, message),
            Happening::Fault { fault, until } => self.on_fault(fault, until),
            Happening::Mended(mend) => self.mend(mend),
        }
    }

    /// Nodes whose image of the segment the store names in sync.
    pub(super) fn holders(&self, segment: usize) -> Nodes {
        let record = &self.segments[segment].stored;
        in_sync(record).filter_map(|image| self.place(image.node)).fold(0, |nodes, node| nodes | 1 << node)
    }

    /// The place of a node.
    pub(super) fn place(&self, id: dyad_units::NodeId) -> Option<NodeNo> {
        (0..self.plan.nodes).find(|&node| node_id(node) == id)
    }

    /// The place of the owner that the store names.
    pub(super) fn owner(&self, segment: usize) -> Option<NodeNo> {
        self.segments[segment].stored.owner.and_then(|owner| self.place(owner))
    }

    /// Images that left the set, and what that means for what they hold (A1, M8, M9).
    fn note_alone(&mut self, segment: usize, before: &SegmentRecord, now: &SegmentRecord) {
        let mut left = 0;
        for image in in_sync(before) {
            let stays = now.image(image.id).is_some_and(|image| image.state == ImageState::InSync);
            left |= self.place(image.node).filter(|_| !stays).map_or(0, |node| 1 << node);
        }
        let is_alone = in_sync(now).count() == 1;
        // The note counts from the record on that makes it, and that says so of the set that there was before. One that is there
        // already when an image leaves says nothing of what that image held (M8).
        let is_flushed = left == 0 && is_alone && now.flushed_alone && !before.flushed_alone;
        let may_be_unflushed = !now.flushed_alone || left != 0 || self.segments[segment].alone.is_some();
        if is_alone && !is_flushed && may_be_unflushed && now.forks == before.forks {
            let (since, nodes) = self.segments[segment].alone.unwrap_or((self.book.order(), 0));
            let may_know = |image: &&dyad_cluster::ImageRecord| image.state != ImageState::Detached;
            let others = now.images.iter().filter(may_know).filter_map(|image| self.place(image.node));
            let others = others.fold(0, |nodes, node| nodes | 1 << node);
            self.segments[segment].alone = Some((since, (nodes | left) & others));
            self.book.left(segment, (nodes | left) & !others);
            return;
        }
        let (since, nodes) = self.segments[segment].alone.take().unwrap_or((0, 0));
        if is_flushed {
            // What all had together is durable where one is left.
            self.book.flushed(segment, since);
        }
        if nodes | left != 0 {
            self.book.left(segment, nodes | left);
        }
    }

    /// The store holds a new record.
    pub(super) fn note_record(&mut self, segment: usize) {
        let Some(now) = self.store.segment(self.segments[segment].id) else { return };
        let before = std::mem::replace(&mut self.segments[segment].stored, now.clone());
        if before == now {
            return;
        }
        self.tell(|| format!("store: segment {segment} {}", brief(&now)));
        self.coverage.note_record(&before, &now);
        self.segments[segment].calm.hurry();
        let is_forked = now.forks.len() > before.forks.len();
        // What an owner that lives answers before the one that was promoted claims, it answers by the record that it knows.
        let is_few = in_sync(&now).count() < usize::from(self.plan.policy.min_in_sync) && !is_forked;
        let few_since = self.segments[segment].few_since.or(Some(self.book.order()));
        self.segments[segment].few_since = few_since.filter(|_| is_few);
        if let Some(owner) = self.owner(segment)
            && (before.owner != now.owner || !before.images.iter().eq(&now.images))
        {
            self.segments[segment].reigns[owner] = now.epoch.value();
        }
        if before.owner != now.owner {
            let writes = self.hosts.iter().filter(|host| host.volume() == segment).any(Host::is_writing);
            self.coverage.note_owner(writes);
        }
        // M10: the word that the owner is off may have been wrong. What it still answers until the next one claims is the
        // administrator's loss too.
        if std::mem::replace(&mut self.segments[segment].is_overruled, is_forked) || is_forked {
            self.book.forked(segment);
        }
        self.note_alone(segment, &before, &now);
        if in_sync(&before).count() > 1 && in_sync(&now).count() == 1 {
            self.rouse(Trigger::Alone);
        }
        let holders = self.holders(segment);
        self.book.left_with(holders);
        for image in now.images.iter().filter(|image| image.state == ImageState::InSync) {
            let was = before.image(image.id).map(|image| image.state);
            // Whoever lost its power while its joining was on the way to the store has forgotten again (M11, M16).
            let is_of_now = |node: &NodeNo| {
                let machine = &self.machines[*node];
                machine.is_on && image.incarnation.is_some_and(|of| of.boot == machine.boot)
            };
            if was != Some(ImageState::InSync)
                && let Some(node) = self.place(image.node).filter(is_of_now)
            {
                self.book.joined(segment, 1 << node);
                self.rouse(Trigger::Joined);
            }
        }
    }
}

/// The images that hold every acknowledged write, by the record's own words: what is judged must not judge itself.
pub(super) fn in_sync(record: &SegmentRecord) -> impl Iterator<Item = &dyad_cluster::ImageRecord> {
    record.images.iter().filter(|image| image.state == ImageState::InSync)
}

/// A record in few words.
pub(super) fn brief(record: &SegmentRecord) -> String {
    let owner = record.owner.map_or("none".to_owned(), |owner| (owner.to_bytes()[15] - 0xa0).to_string());
    let image = |image: &dyad_cluster::ImageRecord| {
        let why = image.reason.map_or(String::new(), |reason| format!("({reason:?})"));
        format!("{}:{:?}{why}", image.node.to_bytes()[15] - 0xa0, image.state)
    };
    let images: Vec<String> = record.images.iter().map(image).collect();
    let alone = if record.flushed_alone { ", flushed alone" } else { "" };
    format!("epoch {} owner {owner} [{}]{alone}", record.epoch, images.join(" "))
}

/// Identity of an image.
pub(super) fn image_id(segment: usize, image: usize) -> ImageId {
    ImageId::from_bytes([0xe0 + segment as u8, image as u8, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
}

/// Identity of a segment.
pub(super) fn segment_id(segment: usize) -> SegmentId {
    SegmentId::from_bytes([0xc0 + segment as u8; 16])
}

fn found_segment(plan: &Plan, at: usize, size: Bytes, store: &ConfigStore) -> Segment {
    let image = |image: usize| {
        let node = (at + image) % plan.nodes;
        (image_id(at, image), node_id(node), pool_id(node))
    };
    let stored = SegmentRecord::new(NewSegment {
        id: segment_id(at),
        volume: VolumeId::from_bytes([0x70 + at as u8; 16]),
        layer: LayerId::from_bytes([0x60 + at as u8; 16]),
        size,
        images: (0..plan.images).map(image).collect(),
    });
    store.seed(stored.clone());
    Segment {
        id: stored.id,
        stored,
        reigns: vec![0; plan.nodes],
        answered: 0,
        flushed: vec![0; plan.nodes],
        few_since: None,
        alone: None,
        is_overruled: false,
        calm: Calm::default(),
    }
}

fn found_machine(plan: &Plan, no: usize, rng: &mut Rng, templates: &mut Templates, slab: &Slab) -> Machine {
    let ppm = plan.draw_ppm(rng).clamp(-plan.ppm_bound, plan.ppm_bound);
    let mut disk = templates.disk(plan, no, slab);
    disk.reseed(rng.bits());
    Machine {
        no,
        is_on: true,
        boot: BootId::from_bytes([no as u8 + 1, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]),
        boots: 0,
        starts: 0,
        life: 0,
        clock: Clock::started(0, ppm),
        ppm,
        process: None,
        disk,
        log: SimLog::new(plan.log_bytes),
        pauses: 0,
        backlog: Vec::new(),
        disk_pace: Some(1),
        dies_amid_call: false,
        rests_until: 0,
        old_disk: None,
        other_disk: None,
        rng: rng.fork(),
    }
}

/// What the nodes say about a segment, for whoever has to find out why it is not served.
impl World {
    /// The parts' own words.
    pub fn statuses(&self) -> String {
        let mut all = BTreeMap::new();
        for machine in &self.machines {
            let said = match &machine.process {
                None => "no process".to_owned(),
                Some(process) => {
                    let parts = process.parts.iter().flatten().map(|slot| {
                        let status = slot.part.status();
                        let mirror = status.mirror.map_or(String::new(), |mirror| format!(" / {}", mirror.sentence()));
                        format!(
                            "{:?} epoch {} of {:?}: {}{mirror}",
                            status.role, status.epoch, status.images, status.sentence
                        )
                    });
                    parts.collect::<Vec<_>>().join("; ")
                }
            };
            all.insert(machine.no, said);
        }
        let records: Vec<String> = self.segments.iter().map(|segment| brief(&segment.stored)).collect();
        let hosts: Vec<String> = self.hosts.iter().filter(|host| !host.is_idle()).map(Host::tell).collect();
        let nodes: Vec<String> = all.iter().map(|(no, said)| format!("node {no}: {said}")).collect();
        format!("store: {}; {}; {}", records.join(" | "), nodes.join(" | "), hosts.join(" | "))
    }

    /// Ends the run of a fault's effect when it is due.
    pub(super) fn mend_later(&mut self, at: Time, mend: Mend) {
        self.queue.push(at, Happening::Mended(mend));
    }
}
