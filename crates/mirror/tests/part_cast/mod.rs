//! The cast of the plays of whole parts: nodes with pools in memory, connections, beats, a config store, hosts; all in
//! virtual time, everything that takes time takes a fixed one.
#![allow(dead_code, reason = "every play uses another part of the cast")]

mod delivery;
mod hosts;
#[path = "../cast/image.rs"]
pub mod image;

use std::collections::BTreeMap;

use dyad_cluster::{AckPolicy, ImageState, Incarnation, NewSegment, OutReason, Outcome, SegmentRecord};
use dyad_contract::volume::VolumeResult;
use dyad_mirror::{
    Beat, BeatAnswer, CommandError, LeaseTuning, Leases, LossReport, Part, PartAction, PartEvent, PartNote, PartRole,
    PartSetup, PartTuning, PeerMessage, Tuning,
};
use dyad_payload::Slab;
use dyad_units::{BootId, Bytes, ImageId, LayerId, Moment, NodeId, Period, PoolId, SegmentId, Span, StoreId, VolumeId};
use image::Image;

pub const B: u64 = 4096;
pub const EXTENT: u64 = 256 * 1024;
const STORE: StoreId = StoreId::from_bytes([9; 16]);
/// One way of a message, and what a pool and the store take.
const HOP: Period = Period::from_nanos(200_000);
const DISK: Period = Period::from_nanos(100_000);
const STORE_WAY: Period = Period::from_millis(1);

pub fn node_id(at: usize) -> NodeId {
    NodeId::from_bytes([at as u8 + 1; 16])
}

pub fn image_id(at: usize) -> ImageId {
    ImageId::from_bytes([at as u8 + 10; 16])
}

#[derive(Debug)]
enum News {
    Message { from: usize, to: usize, connection: u64, message: PeerMessage },
    Beat { from: usize, to: usize, beat: Beat },
    Answer { from: usize, to: usize, answer: BeatAnswer },
    PoolReady { node: usize, life: u64 },
    SessionsClosed { node: usize, life: u64 },
    Outcome { node: usize, life: u64, record: Box<SegmentRecord>, expected: dyad_units::Epoch },
    Read { node: usize, life: u64 },
    Told { node: usize, life: u64, outcome: Option<Outcome>, seen: Option<Option<Box<SegmentRecord>>> },
}

pub struct Node {
    pub part: Option<Part>,
    pub leases: Leases,
    pub image: Option<Image>,
    pub incarnation: Incarnation,
    life: u64,
    /// Stopped by a signal: nothing runs, what comes waits.
    pub is_paused: bool,
    paused: Vec<News>,
    /// The pool takes requests but carries out none.
    pub is_stuck: bool,
    pub notes: Vec<PartNote>,
    pub done: BTreeMap<u64, Result<(), CommandError>>,
    pub losses: BTreeMap<u64, LossReport>,
    pub closed_sessions: usize,
    pub is_stopped: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreMood {
    Works,
    /// What is proposed is kept, but the answer is lost.
    Forgets,
    Away,
}

pub struct World {
    pub nodes: Vec<Node>,
    pub now: Moment,
    pub store: SegmentRecord,
    pub mood: StoreMood,
    queue: BTreeMap<(Moment, u64), News>,
    seq: u64,
    /// Number of the connection between two nodes, if there is one.
    connections: BTreeMap<(usize, usize), u64>,
    /// Beats from the first to the second are lost.
    pub deaf: Vec<(usize, usize)>,
    /// Messages from the first to the second wait, although the connection is up.
    pub held: Vec<(usize, usize)>,
    holding: Vec<News>,
    /// What the store answers to proposals waits; what it stored is stored.
    pub holds_outcomes: bool,
    pub answers: BTreeMap<u64, (Moment, VolumeResult)>,
    next_op: u64,
    slab: Slab,
    pub tuning: PartTuning,
}

impl World {
    /// `images` nodes with an image each, and `others` without; everything is up, nothing has been served.
    pub fn new(images: usize, others: usize) -> Self {
        let slab = Slab::new(256 << 20);
        let store = SegmentRecord::new(NewSegment {
            id: SegmentId::from_bytes([2; 16]),
            volume: VolumeId::from_bytes([3; 16]),
            layer: LayerId::from_bytes([4; 16]),
            size: Bytes::mib(16),
            images: (0..images)
                .map(|at| (image_id(at), node_id(at), PoolId::from_bytes([20 + at as u8; 16])))
                .collect(),
        });
        let owner = Tuning { credits: 8, ..Tuning::default() };
        let mut world = Self {
            nodes: Vec::new(),
            now: Moment::from_nanos(10_000_000_000),
            store,
            mood: StoreMood::Works,
            queue: BTreeMap::new(),
            seq: 0,
            connections: BTreeMap::new(),
            deaf: Vec::new(),
            held: Vec::new(),
            holding: Vec::new(),
            holds_outcomes: false,
            answers: BTreeMap::new(),
            next_op: 0,
            slab,
            tuning: PartTuning { owner, ..PartTuning::default() },
        };
        for at in 0..images + others {
            let incarnation = Incarnation { boot: BootId::from_bytes([at as u8 + 100; 16]), start: 0 };
            let image = (at < images).then(|| Image::new(world.slab.clone()));
            let leases = Leases::new(node_id(at), incarnation, LeaseTuning::default(), world.now);
            world.nodes.push(Node {
                part: None,
                leases,
                image,
                incarnation,
                life: 0,
                is_paused: false,
                paused: Vec::new(),
                is_stuck: false,
                notes: Vec::new(),
                done: BTreeMap::new(),
                losses: BTreeMap::new(),
                closed_sessions: 0,
                is_stopped: false,
            });
        }
        world
    }

    /// As [`Self::new`], and somebody serves.
    pub fn serving(images: usize, others: usize) -> Self {
        let mut world = Self::new(images, others);
        (0..images + others).for_each(|at| world.start(at));
        world.pass(Period::from_secs(2));
        world.owner();
        world
    }

    /// The node's process starts; its pool opens, its connections come up.
    pub fn start(&mut self, at: usize) {
        let (now, store, tuning) = (self.now, self.store.clone(), self.tuning);
        let node = &mut self.nodes[at];
        assert!(node.part.is_none(), "it runs");
        node.life += 1;
        node.incarnation.start += 1;
        node.leases = Leases::new(node_id(at), node.incarnation, LeaseTuning::default(), now);
        let setup = PartSetup {
            node: node_id(at),
            incarnation: node.incarnation,
            store: STORE,
            policy: AckPolicy::default(),
            tuning,
        };
        node.part = Some(Part::new(store, setup, self.slab.clone()).unwrap());
        (node.is_stopped, node.is_stuck) = (false, false);
        if node.image.is_some() {
            self.event(at, PartEvent::PoolUp { image: image_id(at) });
        }
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            self.connect(at, other);
        }
    }

    /// A node without an image makes one, as the record says.
    pub fn give_image(&mut self, at: usize) {
        self.nodes[at].image = Some(Image::new(self.slab.clone()));
        self.event(at, PartEvent::PoolUp { image: image_id(at) });
    }

    /// The process ends; the machine stays up.
    pub fn crash(&mut self, at: usize) {
        self.end(at);
        if let Some(image) = &mut self.nodes[at].image {
            image.crash(|_| false);
        }
    }

    /// The machine ends; of what was not flushed, nothing stays.
    pub fn lose_power(&mut self, at: usize) {
        self.end(at);
        if let Some(image) = &mut self.nodes[at].image {
            image.lose_power(|_| false);
        }
        let boot = self.nodes[at].incarnation.boot.to_bytes()[0].wrapping_add(50);
        self.nodes[at].incarnation.boot = BootId::from_bytes([boot; 16]);
    }

    fn end(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.part = None;
        node.life += 1;
        node.is_paused = false;
        node.paused.clear();
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            self.disconnect(at, other);
        }
    }

    fn pair(a: usize, b: usize) -> (usize, usize) {
        (a.min(b), a.max(b))
    }

    pub fn connect(&mut self, a: usize, b: usize) {
        let pair = Self::pair(a, b);
        let is_cut = self.deaf.contains(&(a, b)) && self.deaf.contains(&(b, a));
        let are_up = [a, b].iter().all(|&at| self.nodes[at].part.is_some());
        if !are_up || is_cut || self.connections.contains_key(&pair) {
            return;
        }
        self.seq += 1;
        self.connections.insert(pair, self.seq);
        for (me, other) in [(a, b), (b, a)] {
            let incarnation = self.nodes[other].incarnation;
            self.event(me, PartEvent::PeerUp { node: node_id(other), incarnation });
        }
    }

    pub fn disconnect(&mut self, a: usize, b: usize) {
        if self.connections.remove(&Self::pair(a, b)).is_some() {
            for (me, other) in [(a, b), (b, a)] {
                self.event(me, PartEvent::PeerDown { node: node_id(other) });
            }
        }
    }

    /// No word passes between the two, in either direction.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.deaf.extend([(a, b), (b, a)]);
        self.disconnect(a, b);
    }

    pub fn heal(&mut self, a: usize, b: usize) {
        self.deaf.retain(|&(from, to)| Self::pair(from, to) != Self::pair(a, b));
        self.connect(a, b);
    }

    pub fn pause(&mut self, at: usize) {
        self.nodes[at].is_paused = true;
    }

    /// What came meanwhile is handled now, all at once.
    pub fn resume(&mut self, at: usize) {
        self.nodes[at].is_paused = false;
        for news in std::mem::take(&mut self.nodes[at].paused) {
            self.deliver(news);
        }
    }

    /// Messages that were held arrive.
    pub fn let_go(&mut self) {
        self.held.clear();
        for news in std::mem::take(&mut self.holding) {
            self.deliver(news);
        }
    }

    // --- what is to be seen --------------------------------------------------------------------------------------

    pub fn status(&self, at: usize) -> dyad_mirror::PartStatus {
        self.nodes[at].part.as_ref().expect("it runs").status()
    }

    pub fn role(&self, at: usize) -> Option<PartRole> {
        self.nodes[at].part.as_ref().map(|part| part.status().role)
    }

    /// The one that serves at the epoch in the store.
    pub fn owner(&self) -> usize {
        let serves = |at: &usize| {
            self.role(*at) == Some(PartRole::Owner)
                && !self.nodes[*at].is_paused
                && self.status(*at).epoch == self.store.epoch
        };
        let mut owners = (0..self.nodes.len()).filter(serves);
        let owner = owners.next().unwrap_or_else(|| {
            let say = |at| self.role(at).map(|_| self.status(at).sentence);
            panic!("nobody serves: {:?}, {:?}", (0..self.nodes.len()).map(say).collect::<Vec<_>>(), self.store)
        });
        assert!(owners.next().is_none(), "two owners");
        owner
    }

    pub fn state_of(&self, at: usize) -> (ImageState, Option<OutReason>) {
        let image = self.store.image(image_id(at)).unwrap();
        (image.state, image.reason)
    }

    pub fn assert_equal_images(&self) {
        let in_sync: Vec<_> = (0..self.nodes.len())
            .filter(|&at| self.nodes[at].image.is_some() && self.state_of(at).0 == ImageState::InSync)
            .collect();
        for pair in in_sync.windows(2) {
            let cells = |at: usize| &self.nodes[at].image.as_ref().unwrap().cells;
            assert!(cells(pair[0]) == cells(pair[1]), "images {pair:?} differ");
        }
    }

    // --- the machinery -------------------------------------------------------------------------------------------

    fn post(&mut self, after: Period, news: News) {
        self.seq += 1;
        self.queue.insert((self.now + after, self.seq), news);
    }

    /// Time passes.
    pub fn pass(&mut self, period: Period) {
        let end = self.now + period;
        for _ in 0..2_000_000 {
            let news = self.queue.keys().next().map(|&(at, _)| at);
            let Some(next) = self.deadline().into_iter().chain(news).min().filter(|&at| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if news.is_some_and(|at| at <= self.now) {
                let (_, news) = self.queue.pop_first().unwrap();
                self.deliver(news);
            } else {
                self.tick();
            }
        }
        panic!("its timers never rest");
    }

    fn runs(&self, at: usize) -> bool {
        self.nodes[at].part.is_some() && !self.nodes[at].is_paused
    }

    fn deadline(&self) -> Option<Moment> {
        let of_node = |at: usize| {
            let node = &self.nodes[at];
            let part = node.part.as_ref()?.next_deadline();
            Some(part.map_or(node.leases.next_beat(), |part| part.min(node.leases.next_beat())))
        };
        (0..self.nodes.len()).filter(|&at| self.runs(at)).filter_map(of_node).min()
    }

    fn tick(&mut self) {
        let now = self.now;
        for at in (0..self.nodes.len()).filter(|&at| self.runs(at)).collect::<Vec<_>>() {
            if let Some(beat) = self.nodes[at].leases.beat(now) {
                for to in
                    (0..self.nodes.len()).filter(|&to| to != at && !self.deaf.contains(&(at, to))).collect::<Vec<_>>()
                {
                    self.post(HOP, News::Beat { from: at, to, beat: beat.clone() });
                }
            }
            let node = &mut self.nodes[at];
            let Some(part) = &mut node.part else { continue };
            if part.next_deadline().is_some_and(|due| due <= now) {
                let mut out = Vec::new();
                part.tick(now, &mut node.leases, &mut out);
                self.carry_out(at, out);
            }
        }
    }

    pub fn event(&mut self, at: usize, event: PartEvent) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(part) = &mut node.part else { return };
        let mut out = Vec::new();
        part.handle(now, event, &mut node.leases, &mut out);
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Vec<PartAction>) {
        let life = self.nodes[at].life;
        for action in out {
            match action {
                PartAction::Answer { id, result } => {
                    let before = self.answers.insert(id.0, (self.now, result));
                    assert!(before.is_none(), "{id:?} is answered twice");
                }
                PartAction::Pool { token, request, .. } => {
                    self.nodes[at].image.as_mut().expect("it has one").receive(token, request);
                    self.post(DISK, News::PoolReady { node: at, life });
                }
                PartAction::Send { to, message } => {
                    let to = (0..self.nodes.len()).find(|&other| node_id(other) == to).unwrap();
                    if let Some(&connection) = self.connections.get(&Self::pair(at, to)) {
                        self.post(HOP, News::Message { from: at, to, connection, message });
                    }
                }
                PartAction::Propose { record, expected } => {
                    self.post(STORE_WAY, News::Outcome { node: at, life, record, expected });
                }
                PartAction::Read => self.post(STORE_WAY, News::Read { node: at, life }),
                PartAction::CloseSessions => {
                    self.nodes[at].closed_sessions += 1;
                    self.post(DISK, News::SessionsClosed { node: at, life });
                }
                PartAction::Note(note) => self.nodes[at].notes.push(note),
                PartAction::Done { id, result } => drop(self.nodes[at].done.insert(id, result)),
                PartAction::Loss { id, report } => drop(self.nodes[at].losses.insert(id, report)),
                PartAction::Stopped => self.nodes[at].is_stopped = true,
            }
        }
    }
}

pub fn span(block: u64) -> Span {
    Span::new(block * B, B).unwrap()
}
