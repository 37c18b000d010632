//! A whole segment: the real mirror over real pools on simulated disks, and a host.
//!
//! ```text
//!  Host ── VolumeOp ──▶ Mirror ── Request ──▶ Pool 0 ──▶ SimDisk 0
//!   │ ◀── answer ────     │    └───────────▶ Pool 1 ──▶ SimDisk 1
//!  Model                  └─ Propose ─▶ the one record that the config store would keep
//! ```
//!
//! One small happening at a time, as in [`crate::player`]; a crash may come between any two.

pub mod campaign;
mod crash;
mod host;
mod inspect;

pub use crash::Wreck;
pub use host::HostHabits;

use std::collections::{BTreeMap, VecDeque};

use dyad_cluster::{AckPolicy, Incarnation, NewSegment, Outcome, SegmentRecord};
use dyad_contract::image::{Reply, Token};
use dyad_mirror::{Action, Event, ImageIndex, Mirror, MirrorState, OpId, Setup, Tuning};
use dyad_payload::Slab;
use dyad_pool::ImageHandle;
use dyad_units::{BootId, Bytes, Epoch, LayerId, Moment, NodeId, Period, PoolId, SegmentId, VolumeId};

use crate::disk::SimDisk;
use crate::log::SimLog;
use crate::model::{Model, Violation};
use crate::player::{Stop, Story};
use crate::rig::{self, Rig, image_id};
use crate::rng::Rng;
use host::HostOp;

/// Happenings after which a segment that should come to rest counts as hanging.
const HAPPENINGS_TO_REST: u32 = 400_000;
/// Virtual time between two happenings, at most.
const PAUSE_NANOS_MAX: u64 = 20_000;
/// One call of a pool in so many is what a reactor does every 100 ms.
const HOUSEKEEPING_EVERY: u64 = 200;

/// One step of a disk in so many changes which side lags, if any.
const SLOWNESS_CHANGES_EVERY: u64 = 300;
/// A lagging side gets one of so many turns.
const SLOW_STEPS_EVERY: u64 = 40;

const NODE: NodeId = NodeId::from_bytes(*b"simulated node 1");

/// The shape of a run.
#[derive(Clone, Debug)]
pub struct Cast {
    /// What the disks write untorn.
    pub unit: usize,
    /// Size of each disk.
    pub disk_bytes: u64,
    /// Size of each L.
    pub log_bytes: usize,
    /// How many images the segment has.
    pub images: u8,
    /// Blocks of the segment.
    pub blocks: u64,
    /// What the host does.
    pub habits: HostHabits,
}

impl Cast {
    /// Two images of a small segment with three regions.
    pub fn pair() -> Self {
        let habits = HostHabits::mixed();
        Self { unit: 4096, disk_bytes: 12 << 20, log_bytes: 256 << 10, images: 2, blocks: 40 * 64, habits }
    }
}

/// One pool, unless it could not be opened, and the image in it.
struct Side {
    rig: Rig,
    handle: ImageHandle,
}

/// A segment with everything around it.
pub struct Mirrored {
    sides: Vec<Side>,
    mirror: Mirror,
    /// What the config store has.
    stored: SegmentRecord,
    /// What a host may read.
    pub model: Model,
    /// The shape of the run.
    pub cast: Cast,
    rng: Rng,
    now: Moment,
    life: u64,
    slab: Slab,
    actions: VecDeque<Action>,
    arrived: VecDeque<(ImageIndex, Token, Reply)>,
    /// The side whose pool was called last, if the disk has not seen what came of that.
    called: Option<usize>,
    /// A side that lags behind for a while: the images then differ the most.
    slow: Option<usize>,
    ops: BTreeMap<OpId, HostOp>,
    next_op: u64,
    next_version: u32,
    answered: u64,
    /// Faults were ordered: errors of this kind are expected.
    pub(crate) excuses: Excuses,
    /// The last happenings.
    pub story: Story,
    out: Vec<Action>,
}

/// What a host may be told because of faults that were ordered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// Writes and flushes may fail: the last image's disk failed.
    pub faults: bool,
    /// Blocks may be unreadable: no good copy is left.
    pub medium: bool,
    /// The process died before a power cut was made up for on both images: the one that was not told so yet may be
    /// taken out as one that forgot (M11).
    pub forgot: bool,
}

impl Mirrored {
    /// Makes pools, images and the segment, and starts to serve.
    pub fn new(cast: Cast, seed: u64) -> Result<Self, Stop> {
        let mut rng = Rng::new(seed);
        let mut sides = Vec::new();
        let size = Bytes::new(cast.blocks * crate::pattern::BLOCK as u64);
        for image in 0..u64::from(cast.images) {
            let mut disk = SimDisk::new(cast.disk_bytes, cast.unit, rng.bits());
            let broken = |error: &dyn std::fmt::Debug| Violation(format!("cannot set up: {error:?}"));
            rig::format(&mut disk).map_err(|error| broken(&error))?;
            let opened = Rig::open(disk, SimLog::new(cast.log_bytes));
            let (mut rig, _) = opened.map_err(|(_, error)| broken(&error))?;
            let handle = rig.create(image, size).map_err(|error| broken(&error))?;
            sides.push(Side { rig, handle });
        }
        let pool = |image: u64| PoolId::from_bytes([image as u8; 16]);
        let stored = SegmentRecord::new(NewSegment {
            id: SegmentId::from_bytes([1; 16]),
            volume: VolumeId::from_bytes([2; 16]),
            layer: LayerId::from_bytes([3; 16]),
            size,
            images: (0..u64::from(cast.images)).map(|image| (image_id(image), NODE, pool(image))).collect(),
        });
        let model = Model::new(0, cast.unit);
        Self::around(sides, stored, model, cast, 1, 0, &mut rng)
    }

    /// A new process meets its pools.
    fn around(
        sides: Vec<Side>,
        stored: SegmentRecord,
        model: Model,
        cast: Cast,
        life: u64,
        next_version: u32,
        rng: &mut Rng,
    ) -> Result<Self, Stop> {
        let slab = Slab::new(64 << 20);
        let tuning = Tuning { interval: Period::from_millis(5), ..Tuning::default() };
        let incarnation = Incarnation { boot: BootId::from_bytes([life as u8; 16]), start: life };
        let setup = Setup { node: NODE, incarnation, policy: AckPolicy::default(), tuning };
        let mirror = Mirror::new(stored.clone(), setup, slab.clone())
            .map_err(|error| Violation(format!("the segment cannot be served: {error}")))?;
        let mut mirrored = Self {
            sides,
            mirror,
            stored,
            model,
            cast,
            rng: rng.fork(),
            now: Moment::from_nanos(1_000_000_000),
            life,
            slab,
            actions: VecDeque::new(),
            arrived: VecDeque::new(),
            called: None,
            slow: None,
            ops: BTreeMap::new(),
            next_op: 0,
            next_version,
            answered: 0,
            excuses: Excuses::default(),
            story: Story::default(),
            out: Vec::new(),
        };
        mirrored.mirror.start(mirrored.now, &mut mirrored.out);
        mirrored.actions.extend(mirrored.out.drain(..));
        Ok(mirrored)
    }

    /// Operations that were answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The newest record in the store.
    pub fn stored(&self) -> &SegmentRecord {
        &self.stored
    }

    /// The mirror's own words.
    pub fn status(&self) -> dyad_mirror::MirrorStatus {
        self.mirror.status()
    }

    /// The disk of an image.
    pub fn disk(&mut self, image: usize) -> &mut SimDisk {
        &mut self.sides[image].rig.disk
    }

    fn tell(&mut self, event: Event) {
        self.mirror.handle(self.now, event, &mut self.out);
        self.actions.extend(self.out.drain(..));
    }

    /// The next small happening.
    pub fn advance(&mut self, is_host_active: bool) -> Result<(), Stop> {
        self.now = self.now + Period::from_nanos(self.rng.below(PAUSE_NANOS_MAX));
        if let Some(side) = self.called.take() {
            return self.finish_call(side);
        }
        if let Some(action) = self.actions.pop_front() {
            return self.carry_out(action);
        }
        if self.mirror.next_deadline().is_some_and(|at| at <= self.now) {
            self.mirror.tick(self.now, &mut self.out);
            self.actions.extend(self.out.drain(..));
            return Ok(());
        }
        if !self.arrived.is_empty() && self.rng.chance(1, 2) {
            let at = self.rng.index(self.arrived.len());
            let (image, token, reply) = self.arrived.remove(at).expect("an index of the list");
            self.tell(Event::Image { image, token, reply });
            return Ok(());
        }
        if is_host_active && self.rng.chance(self.cast.habits.eagerness, 100) && self.issue() {
            return Ok(());
        }
        self.step_a_disk();
        Ok(())
    }

    fn step_a_disk(&mut self) {
        if self.rng.chance(1, SLOWNESS_CHANGES_EVERY) {
            self.slow = self.rng.chance(1, 2).then(|| self.rng.index(self.sides.len()));
        }
        let mut at = self.rng.index(self.sides.len());
        if self.slow == Some(at) && !self.rng.chance(1, SLOW_STEPS_EVERY) {
            at = (at + 1) % self.sides.len();
        }
        let at = (0..self.sides.len())
            .map(|step| (at + step) % self.sides.len())
            .find(|&at| !self.sides[at].rig.is_quiet())
            .unwrap_or(at);
        if self.rng.chance(1, HOUSEKEEPING_EVERY) {
            self.sides[at].rig.housekeeping();
        } else {
            self.sides[at].rig.step();
        }
        self.called = Some(at);
    }

    /// What a call of a pool brought: its replies are on their way, its operations at the disk.
    fn finish_call(&mut self, side: usize) -> Result<(), Stop> {
        let rig = &mut self.sides[side].rig;
        for (_, token, reply) in rig.replies() {
            self.arrived.push_back((ImageIndex(side as u8), token, reply));
        }
        rig.hand_over();
        match rig.disk.misuse() {
            Some(misuse) => Err(Violation(format!("pool {side} asked the disk for {misuse}")).into()),
            None => Ok(()),
        }
    }

    fn carry_out(&mut self, action: Action) -> Result<(), Stop> {
        match action {
            Action::Answer { id, result } => self.judge(id, result)?,
            Action::Image { image, token, request } => {
                let side = &mut self.sides[usize::from(image.0)];
                self.story.tell(|| format!("image {}: {}", image.0, crate::player::describe(token, &request)));
                side.rig.submit(side.handle, token, request);
                self.called = Some(usize::from(image.0));
            }
            Action::Propose { record, expected } => {
                let outcome = self.propose(*record, expected);
                self.tell(Event::Outcome(outcome));
            }
            Action::Note(note) => self.story.tell(|| format!("note: {note:?}")),
            Action::Stopped => {}
            other => return Err(Violation(format!("unexpected of images on one node: {other:?}")).into()),
        }
        Ok(())
    }

    /// The config store: sometimes its answer is lost, before or after the change (M7).
    fn propose(&mut self, record: SegmentRecord, expected: Epoch) -> Outcome {
        self.story.tell(|| format!("propose epoch {} for {expected}", record.epoch));
        if self.rng.chance(1, 8) {
            return Outcome::Unknown;
        }
        if self.stored == record {
            return Outcome::Accepted;
        }
        if self.stored.epoch != expected {
            return Outcome::Rejected { current: Some(Box::new(self.stored.clone())) };
        }
        self.stored = record;
        if self.rng.chance(1, 8) { Outcome::Unknown } else { Outcome::Accepted }
    }

    /// So many happenings with an active host; `probe` looks after each.
    pub fn run(&mut self, happenings: u32, mut probe: impl FnMut(&Self) -> Result<(), Stop>) -> Result<(), Stop> {
        for _ in 0..happenings {
            self.advance(true)?;
            probe(self)?;
        }
        Ok(())
    }

    /// The host asks nothing more until all is answered and every suspect extent is equal.
    pub fn rest(&mut self) -> Result<(), Stop> {
        for _ in 0..HAPPENINGS_TO_REST {
            let is_quiet = self.called.is_none()
                && self.actions.is_empty()
                && self.arrived.is_empty()
                && self.sides.iter().all(|side| side.rig.is_quiet());
            let status = self.mirror.status();
            if is_quiet && self.ops.is_empty() && status.suspect == 0 && status.state == MirrorState::Serving {
                return Ok(());
            }
            if is_quiet {
                let Some(deadline) = self.mirror.next_deadline() else {
                    let text = format!("everything is idle in state {:?}, but {:?} wait", status.state, self.ops);
                    return Err(Violation(text).into());
                };
                self.now = self.now.max(deadline);
            }
            self.advance(false)?;
        }
        let status = self.mirror.status();
        Err(Violation(format!("no rest after {HAPPENINGS_TO_REST} happenings: {status:?}, {:?}", self.ops)).into())
    }

    /// Ends in good order: drained, flushed, closed.
    pub fn stop(&mut self) -> Result<(), Stop> {
        self.rest()?;
        self.mirror.stop(self.now, &mut self.out);
        self.actions.extend(self.out.drain(..));
        for _ in 0..HAPPENINGS_TO_REST {
            if self.mirror.status().state == MirrorState::Stopped && self.actions.is_empty() && self.called.is_none() {
                return Ok(());
            }
            self.advance(false)?;
        }
        Err(Violation("the mirror never stops".into()).into())
    }
}
