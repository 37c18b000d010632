//! Machines whose images, peers and store answer at once: what is left is what deciding costs.
#![allow(dead_code, reason = "every user needs another part of it")]

use std::collections::VecDeque;

use dyad_cluster::{AckPolicy, Incarnation, NewSegment, Outcome, SegmentRecord};
use dyad_contract::image::{Reply, Request, Survey, Written};
use dyad_contract::volume::VolumeOp;
use dyad_mirror::{
    Action, Event, LeaseTuning, Leases, Mirror, MirrorState, OpId, Part, PartAction, PartEvent, PartRole, PartSetup,
    PartTuning, Setup, Tuning,
};
use dyad_payload::{Payload, Slab};
use dyad_units::{
    BootId, Bytes, Epoch, ImageId, LayerId, Moment, NodeId, Period, PoolId, SegmentId, Span, Stamp, StoreId, VolumeId,
};

pub const BLOCK: u64 = 4096;
/// Blocks that are written and read in turn.
pub const BLOCKS: u64 = 4096;

pub fn node_id(at: usize) -> NodeId {
    NodeId::from_bytes([1 + at as u8; 16])
}

pub fn image_id(at: usize) -> ImageId {
    ImageId::from_bytes([10 + at as u8; 16])
}

/// A segment with an image on each of the first `images` nodes, or all of them on the first.
fn record(images: usize, is_spread: bool) -> SegmentRecord {
    let place = |at: usize| (image_id(at), node_id(if is_spread { at } else { 0 }), PoolId::from_bytes([20; 16]));
    SegmentRecord::new(NewSegment {
        id: SegmentId::from_bytes([2; 16]),
        volume: VolumeId::from_bytes([3; 16]),
        layer: LayerId::from_bytes([4; 16]),
        size: Bytes::gib(1),
        images: (0..images).map(place).collect(),
    })
}

fn incarnation() -> Incarnation {
    Incarnation { boot: BootId::from_bytes([5; 16]), start: 1 }
}

/// What an image that has everything and forgets all of it answers.
pub struct Image {
    epoch: Epoch,
    record: Vec<u8>,
    data: Payload,
    /// What is not the host's: nothing was ever written there.
    hidden: Payload,
}

impl Image {
    fn new(slab: &Slab) -> Self {
        let data = Payload::from(slab.copy_of(&[7; BLOCK as usize]).unwrap());
        let hidden = Payload::from(slab.copy_of(&[0; dyad_units::EXTENT_BYTES as usize]).unwrap());
        Self { epoch: Epoch::new(0), record: Vec::new(), data, hidden }
    }

    fn answer(&mut self, request: &Request) -> Reply {
        match request {
            Request::Read { piece } if piece.extent.is_hidden() => Reply::Data(self.hidden.slice(0, piece.len())),
            Request::Read { .. } => Reply::Data(self.data.clone()),
            Request::Write(_) | Request::Unmap(_) => Reply::Written(Written { used_slot: false }),
            Request::Grant { credits } => Reply::Granted(*credits),
            Request::Record { epoch, record } => {
                (self.epoch, self.record) = (*epoch, record.to_vec());
                Reply::Done
            }
            Request::Survey | Request::Show => Reply::Survey(Box::new(Survey {
                closed: Stamp::NEVER,
                epoch: self.epoch,
                record: self.record.clone(),
                lived_through: true,
                unsettled: Vec::new(),
                marked: Vec::new(),
                lost: Vec::new(),
                progress: None,
            })),
            _ => Reply::Done,
        }
    }
}

/// What is asked, in turn.
pub struct Host {
    data: Payload,
    next: u64,
}

impl Host {
    pub fn new(slab: &Slab) -> Self {
        Self { data: Payload::from(slab.copy_of(&[9; BLOCK as usize]).unwrap()), next: 0 }
    }

    fn span(&mut self) -> Span {
        self.next += 1;
        Span::new(self.next * 7 % BLOCKS * BLOCK, BLOCK).unwrap()
    }

    pub fn write(&mut self) -> VolumeOp {
        VolumeOp::Write { span: self.span(), data: self.data.clone(), durable: false }
    }

    pub fn read(&mut self) -> VolumeOp {
        VolumeOp::Read { span: self.span() }
    }
}

/// An owner and its images.
pub struct Owner {
    pub mirror: Mirror,
    images: Vec<Image>,
    pub slab: Slab,
    now: Moment,
    out: Vec<Action>,
    todo: VecDeque<Action>,
    next_id: u64,
    pub answers: u64,
}

impl Owner {
    pub fn serving(images: usize) -> Self {
        let slab = Slab::new(64 << 20);
        let setup = Setup {
            node: node_id(0),
            incarnation: incarnation(),
            policy: AckPolicy::default(),
            tuning: Tuning::default(),
        };
        let mut owner = Self {
            mirror: Mirror::new(record(images, false), setup, slab.clone()).unwrap(),
            images: (0..images).map(|_| Image::new(&slab)).collect(),
            slab,
            now: Moment::from_nanos(1_000_000_000),
            out: Vec::new(),
            todo: VecDeque::new(),
            next_id: 0,
            answers: 0,
        };
        owner.mirror.start(owner.now, &mut owner.out);
        owner.carry_out();
        assert_eq!(owner.mirror.state(), MirrorState::Serving);
        owner
    }

    /// Takes these operations in, then lets the images answer: several are under way at once.
    pub fn batch(&mut self, ops: impl Iterator<Item = VolumeOp>) {
        for op in ops {
            self.next_id += 1;
            let event = Event::Op { id: OpId(self.next_id), op, arrived: self.now };
            self.mirror.handle(self.now, event, &mut self.out);
        }
        self.carry_out();
    }

    fn carry_out(&mut self) {
        loop {
            self.todo.extend(self.out.drain(..));
            let Some(action) = self.todo.pop_front() else { return };
            match action {
                Action::Answer { result, .. } => {
                    result.unwrap();
                    self.answers += 1;
                }
                Action::Image { image, token, request } => {
                    let reply = self.images[usize::from(image.0)].answer(&request);
                    self.mirror.handle(self.now, Event::Image { image, token, reply }, &mut self.out);
                }
                Action::Propose { .. } => {
                    self.mirror.handle(self.now, Event::Outcome(Outcome::Accepted), &mut self.out);
                }
                _ => {}
            }
        }
    }
}

/// Whole parts: two nodes with an image each, and one with sessions only.
pub struct Parts {
    pub parts: Vec<Part>,
    leases: Vec<Leases>,
    images: Vec<Image>,
    stored: SegmentRecord,
    pub slab: Slab,
    now: Moment,
    out: Vec<PartAction>,
    todo: VecDeque<(usize, PartAction)>,
    next_id: u64,
    pub answers: u64,
}

impl Parts {
    pub fn serving() -> Self {
        let slab = Slab::new(64 << 20);
        let now = Moment::from_nanos(1_000_000_000);
        let stored = record(2, true);
        let part = |at: usize| {
            let setup = PartSetup {
                node: node_id(at),
                incarnation: incarnation(),
                store: StoreId::from_bytes([9; 16]),
                policy: AckPolicy::default(),
                tuning: PartTuning::default(),
            };
            Part::new(stored.clone(), setup, slab.clone()).unwrap()
        };
        let mut all = Self {
            parts: (0..3).map(part).collect(),
            leases: (0..3).map(|at| Leases::new(node_id(at), incarnation(), LeaseTuning::default(), now)).collect(),
            images: (0..2).map(|_| Image::new(&slab)).collect(),
            stored: stored.clone(),
            slab: slab.clone(),
            now,
            out: Vec::new(),
            todo: VecDeque::new(),
            next_id: 0,
            answers: 0,
        };
        for at in 0..2 {
            all.event(at, PartEvent::PoolUp { image: image_id(at) });
        }
        for (at, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            all.event(at, PartEvent::PeerUp { node: node_id(other), incarnation: incarnation() });
        }
        // The promise of the start runs out, somebody becomes owner, and leases come with the beats.
        for _ in 0..200 {
            all.pass(Period::from_millis(20));
        }
        assert!(all.owner().is_some(), "{}", all.parts[0].status().sentence);
        all
    }

    pub fn owner(&self) -> Option<usize> {
        (0..2).find(|&at| self.parts[at].status().role == PartRole::Owner)
    }

    fn pass(&mut self, period: Period) {
        self.now = self.now + period;
        for at in 0..3 {
            self.parts[at].tick(self.now, &mut self.leases[at], &mut self.out);
            self.carry_out(at);
            let Some(beat) = self.leases[at].beat(self.now) else { continue };
            for other in (0..3).filter(|&other| other != at) {
                let answer = self.leases[other].on_beat(self.now, node_id(at), &beat);
                self.leases[at].on_answer(self.now, node_id(other), &answer);
            }
        }
    }

    /// As [`Owner::batch`], by a session of this node.
    pub fn batch(&mut self, at: usize, ops: impl Iterator<Item = VolumeOp>) {
        for op in ops {
            self.next_id += 1;
            let event = PartEvent::Op { id: OpId(self.next_id), op, arrived: self.now };
            self.parts[at].handle(self.now, event, &mut self.leases[at], &mut self.out);
            self.todo.extend(self.out.drain(..).map(|action| (at, action)));
        }
        self.carry_out(at);
    }

    fn event(&mut self, at: usize, event: PartEvent) {
        self.parts[at].handle(self.now, event, &mut self.leases[at], &mut self.out);
        self.carry_out(at);
    }

    fn carry_out(&mut self, at: usize) {
        let mut at = at;
        loop {
            self.todo.extend(self.out.drain(..).map(|action| (at, action)));
            let Some((from, action)) = self.todo.pop_front() else { return };
            at = from;
            let event = match action {
                PartAction::Answer { result, .. } => {
                    result.unwrap();
                    self.answers += 1;
                    continue;
                }
                PartAction::Pool { image, token, request } => {
                    PartEvent::Pool { image, token, reply: self.images[from].answer(&request) }
                }
                PartAction::Send { to, message } => {
                    at = (0..3).find(|&other| node_id(other) == to).unwrap();
                    PartEvent::Peer { from: node_id(from), message }
                }
                PartAction::Propose { record, expected } if self.stored.epoch == expected => {
                    self.stored = *record;
                    PartEvent::Outcome(Outcome::Accepted)
                }
                PartAction::Propose { .. } => {
                    PartEvent::Outcome(Outcome::Rejected { current: Some(Box::new(self.stored.clone())) })
                }
                PartAction::Read => PartEvent::Seen(Some(Box::new(self.stored.clone()))),
                _ => continue,
            };
            self.parts[at].handle(self.now, event, &mut self.leases[at], &mut self.out);
        }
    }
}
