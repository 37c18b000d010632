//! The cast of the plays: a mirror, its images, a config store and a host, in virtual time.
#![allow(dead_code, reason = "every play uses another part of the cast")]

pub mod atomic;
pub mod history;
pub mod image;

use std::collections::{BTreeMap, BTreeSet};

use dyad_cluster::{AckPolicy, IMAGES_MAX, ImageState, Incarnation, NewSegment, OutReason, Outcome, SegmentRecord};
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_mirror::{Action, ChangeRefused, Event, ImageIndex, Lease, Mirror, MirrorState, Note, OpId, Setup, Tuning};
use dyad_payload::{Payload, Slab};
use dyad_units::{BootId, Bytes, Epoch, ImageId, LayerId, Moment, NodeId, Period, PoolId, SegmentId, Span, VolumeId};

pub const BLOCK: usize = image::BLOCK;
use image::Image;

pub const NODE: NodeId = NodeId::from_bytes([1; 16]);
pub const SIZE: Bytes = Bytes::mib(64);
pub const EXTENT: u64 = 256 * 1024;

/// What the config store does with the next proposals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreMood {
    Accepts,
    /// Keeps the proposal, but the answer is lost.
    AcceptsSilently,
    /// Does not keep it, and the answer is lost.
    Away,
    /// Answers later, when asked to.
    Thinks,
    /// Somebody else was faster.
    Rejects,
}

pub struct Stage {
    pub mirror: Mirror,
    pub images: Vec<Image>,
    pub store: SegmentRecord,
    pub mood: StoreMood,
    pub now: Moment,
    pub answers: BTreeMap<u64, VolumeResult>,
    pub notes: Vec<Note>,
    pub slab: Slab,
    pub setup: Setup,
    pub is_stopped: bool,
    pub proposals: Vec<SegmentRecord>,
    pub abandoned: BTreeSet<u64>,
    pub changed: BTreeMap<u64, Result<Epoch, ChangeRefused>>,
    pub handed_over: Option<(NodeId, Epoch)>,
    /// As if the images were on other nodes: until when each granted a lease (M5). None: they are not.
    pub leases: Option<[Moment; IMAGES_MAX]>,
    waiting: Option<SegmentRecord>,
    next_id: u64,
    out: Vec<Action>,
}

pub fn image_id(at: u8) -> ImageId {
    ImageId::from_bytes([10 + at; 16])
}

pub fn record(images: u8) -> SegmentRecord {
    SegmentRecord::new(NewSegment {
        id: SegmentId::from_bytes([2; 16]),
        volume: VolumeId::from_bytes([3; 16]),
        layer: LayerId::from_bytes([4; 16]),
        size: SIZE,
        images: (0..images).map(|at| (image_id(at), NODE, PoolId::from_bytes([20 + at; 16]))).collect(),
    })
}

impl Stage {
    /// Images that exist, a mirror that was not started.
    pub fn prepared(images: u8) -> Self {
        let slab = Slab::new(256 << 20);
        let setup = Setup {
            node: NODE,
            incarnation: Incarnation { boot: BootId::from_bytes([5; 16]), start: 1 },
            policy: AckPolicy::default(),
            // Plays that hold an image back do not mean that it is slow; one that does says so.
            tuning: Tuning { credits: 8, slow: Period::from_secs(3600), ..Tuning::default() },
        };
        let store = record(images);
        Self {
            mirror: Mirror::new(store.clone(), setup, slab.clone()).unwrap(),
            images: (0..images).map(|_| Image::new(slab.clone())).collect(),
            store,
            mood: StoreMood::Accepts,
            now: Moment::from_nanos(1_000_000_000),
            answers: BTreeMap::new(),
            notes: Vec::new(),
            slab,
            setup,
            is_stopped: false,
            proposals: Vec::new(),
            abandoned: BTreeSet::new(),
            changed: BTreeMap::new(),
            handed_over: None,
            leases: None,
            waiting: None,
            next_id: 0,
            out: Vec::new(),
        }
    }

    /// A mirror that serves.
    pub fn serving(images: u8) -> Self {
        let mut stage = Self::prepared(images);
        stage.start();
        stage.drive();
        assert_eq!(stage.mirror.status().state, MirrorState::Serving);
        stage
    }

    /// A mirror of two images that serves, one of which finds so many slots and no more.
    pub fn with_slots(image: usize, slots: usize) -> Self {
        let mut pair = Self::prepared(2);
        pair.images[image].slots = Some(slots);
        pair.start();
        pair.drive();
        pair
    }

    /// The segment at rest: the closes of its start are over, and what was heard until then is forgotten.
    pub fn at_rest(mut self) -> Self {
        self.pass(Period::from_secs(60));
        assert_eq!(self.mirror.next_deadline(), None, "an idle segment needs no time");
        self.images.iter_mut().for_each(|image| image.heard.clear());
        self
    }

    pub fn start(&mut self) {
        self.mirror.start(self.now, &mut self.out);
        self.carry_out();
    }

    /// The process ends and starts again. What happens to the images is the caller's affair.
    pub fn restart(&mut self) {
        self.setup.incarnation.start += 1;
        self.waiting = None;
        self.is_stopped = false;
        self.mirror = Mirror::new(self.store.clone(), self.setup, self.slab.clone()).unwrap();
        self.start();
    }

    pub fn payload(&self, bytes: &[u8]) -> Payload {
        let mut payload = Payload::new();
        for chunk in bytes.chunks(Slab::LEN_MAX) {
            payload.push(self.slab.copy_of(chunk).unwrap());
        }
        payload
    }

    pub fn ask(&mut self, op: VolumeOp) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        self.grant();
        self.mirror.handle(self.now, Event::Op { id, op, arrived: self.now }, &mut self.out);
        self.carry_out();
        id
    }

    /// The mirror is told which leases it holds, as before every door.
    fn grant(&mut self) {
        if let Some(leases) = self.leases {
            let leases = leases.map(|end| if end > self.now { Lease::Until(end) } else { Lease::Missing });
            self.mirror.set_leases(self.now, &leases, &mut self.out);
        }
    }

    pub fn abort(&mut self, id: OpId) {
        self.mirror.handle(self.now, Event::Abort { id }, &mut self.out);
        self.carry_out();
    }

    pub fn event(&mut self, event: Event) {
        self.grant();
        self.mirror.handle(self.now, event, &mut self.out);
        self.carry_out();
    }

    pub fn write(&mut self, offset: u64, len: u64, byte: u8) -> OpId {
        let data = self.payload(&vec![byte; len as usize]);
        self.ask(VolumeOp::Write { span: span(offset, len), data, durable: false })
    }

    pub fn read(&mut self, offset: u64, len: u64) -> OpId {
        self.ask(VolumeOp::Read { span: span(offset, len) })
    }

    pub fn flush(&mut self) -> OpId {
        self.ask(VolumeOp::Flush)
    }

    /// Writes and waits for the answer, which must be good.
    pub fn put(&mut self, offset: u64, len: u64, byte: u8) {
        let id = self.write(offset, len, byte);
        self.drive();
        assert!(self.is_done(id), "{:?}", self.answers.get(&id.0));
    }

    /// Reads and waits for the data.
    pub fn bytes(&mut self, offset: u64, len: u64) -> Vec<u8> {
        let id = self.read(offset, len);
        self.drive();
        match self.answer(id) {
            Some(Ok(VolumeDone::Data(data))) => data.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub fn answer(&self, id: OpId) -> Option<&VolumeResult> {
        self.answers.get(&id.0)
    }

    pub fn is_done(&self, id: OpId) -> bool {
        matches!(self.answer(id), Some(Ok(_)))
    }

    pub fn error(&self, id: OpId) -> Option<VolumeError> {
        self.answer(id).and_then(|result| result.as_ref().err().copied())
    }

    /// Everything that can happen happens, in order, but time does not pass.
    pub fn drive(&mut self) {
        self.drive_only(|_| true);
    }

    /// As [`Self::drive`], but this image does nothing.
    pub fn drive_without(&mut self, image: usize) {
        self.drive_only(|at| at != image);
    }

    pub fn drive_only(&mut self, acts: impl Fn(usize) -> bool) {
        for _ in 0..100_000 {
            let busy = (0..self.images.len()).find(|&at| acts(at) && !self.images[at].pending.is_empty());
            let Some(at) = busy else { return };
            self.reply(at, 0);
        }
        panic!("it never ends");
    }

    /// As [`Self::drive`], but no request of this name is carried out.
    pub fn drive_but(&mut self, kind: &str) {
        for _ in 0..100_000 {
            let is_other = |pending: &image::Pending| image::name(&pending.request) != kind;
            let found =
                (0..self.images.len()).find_map(|at| Some((at, self.images[at].pending.iter().position(is_other)?)));
            let Some((at, nth)) = found else { return };
            self.reply(at, nth);
        }
        panic!("it never ends");
    }

    /// One pending request of an image is carried out and replied to.
    pub fn reply(&mut self, image: usize, at: usize) {
        self.images[image].execute(at);
        let done = self.images[image].pending.remove(at).unwrap();
        let event = Event::Image { image: ImageIndex(image as u8), token: done.token, reply: done.reply.unwrap() };
        self.event(event);
    }

    /// The first pending request of this name is carried out and replied to.
    pub fn reply_to(&mut self, image: usize, kind: &str) {
        let is_it = |pending: &image::Pending| image::name(&pending.request) == kind;
        let at = self.images[image].pending.iter().position(is_it).unwrap_or_else(|| panic!("no {kind} is pending"));
        self.reply(image, at);
    }

    /// Time passes, with everything else happening meanwhile.
    pub fn pass(&mut self, period: Period) {
        self.pass_without(period, usize::MAX);
    }

    pub fn pass_without(&mut self, period: Period, image: usize) {
        let end = self.now + period;
        self.drive_without(image);
        for _ in 0..100_000 {
            let Some(next) = self.mirror.next_deadline().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.tick_at(next);
            self.drive_without(image);
        }
        panic!("its timers never rest");
    }

    /// The time comes.
    pub fn tick_at(&mut self, now: Moment) {
        self.now = self.now.max(now);
        self.grant();
        self.mirror.tick(self.now, &mut self.out);
        self.carry_out();
    }

    /// The store says what became of the proposal that it thought about.
    pub fn store_decides(&mut self, mood: StoreMood) {
        let record = self.waiting.take().expect("it thinks");
        let outcome = self.decide(record, mood);
        self.event(Event::Outcome(outcome));
    }

    pub fn gone(&mut self, image: u8) {
        self.event(Event::Gone { image: ImageIndex(image), reason: OutReason::Absent });
    }

    pub fn stop(&mut self) {
        self.mirror.stop(self.now, &mut self.out);
        self.carry_out();
    }

    pub fn state_of(&self, image: u8) -> (ImageState, Option<OutReason>) {
        let image = self.store.image(image_id(image)).unwrap();
        (image.state, image.reason)
    }

    /// Every image that the record names in sync has the same blocks.
    pub fn assert_equal_images(&self) {
        let in_sync: Vec<_> = (0..self.images.len())
            .filter(|&at| self.state_of(at as u8).0 == ImageState::InSync)
            .map(|at| &self.images[at].cells)
            .collect();
        for cells in &in_sync[1..] {
            assert_eq!(in_sync[0].keys().collect::<Vec<_>>(), cells.keys().collect::<Vec<_>>());
            for (block, cell) in in_sync[0] {
                assert!(*cell == cells[block], "block {block} differs");
            }
        }
    }

    fn decide(&mut self, record: SegmentRecord, mood: StoreMood) -> Outcome {
        match mood {
            StoreMood::Accepts | StoreMood::Thinks => {
                assert!(self.store == record || self.store.epoch.next() == record.epoch, "a gap in epochs");
                self.store = record;
                Outcome::Accepted
            }
            StoreMood::AcceptsSilently => {
                self.store = record;
                Outcome::Unknown
            }
            StoreMood::Away => Outcome::Unknown,
            StoreMood::Rejects => Outcome::Rejected { current: Some(Box::new(self.store.clone())) },
        }
    }

    /// Carries out what a door of the mirror asked for that the stage has no verb for.
    pub fn act_on(&mut self, actions: Vec<Action>) {
        self.out.extend(actions);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while !self.out.is_empty() {
            for action in std::mem::take(&mut self.out) {
                match action {
                    Action::Answer { id, result } => {
                        if let (Ok(VolumeDone::Data(_)), Some(leases)) = (&result, self.leases) {
                            let mut in_sync = self.mirror.record().in_sync();
                            let held =
                                |id: ImageId| leases[usize::from(self.mirror.index_of(id).unwrap().0)] > self.now;
                            assert!(in_sync.all(|image| held(image.id)), "M5: read without a lease");
                        }
                        let before = self.answers.insert(id.0, result);
                        assert!(before.is_none(), "{id:?} is answered twice");
                    }
                    Action::Image { image, token, request } => {
                        self.images[usize::from(image.0)].receive(token, request);
                    }
                    Action::Propose { record, expected } => {
                        assert!(expected == self.store.epoch || *record == self.store, "proposed on an old record");
                        self.proposals.push((*record).clone());
                        if self.mood == StoreMood::Thinks {
                            self.waiting = Some(*record);
                        } else {
                            let outcome = self.decide(*record, self.mood);
                            self.mirror.handle(self.now, Event::Outcome(outcome), &mut self.out);
                        }
                    }
                    Action::Note(note) => self.notes.push(note),
                    Action::Stopped => self.is_stopped = true,
                    Action::Abandoned { id } => drop(self.abandoned.insert(id.0)),
                    Action::Changed { id, result } => drop(self.changed.insert(id, result)),
                    Action::HandedOver { to, epoch } => self.handed_over = Some((to, epoch)),
                }
            }
        }
    }
}

pub fn span(offset: u64, len: u64) -> Span {
    Span::new(offset, len).unwrap()
}
