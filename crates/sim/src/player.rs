//! A run: several owners on one pool, a seed that decides what they ask and what the disk does next.

use dyad_contract::image::{BlockState, Reply, Request, Token};
use dyad_pool::ImageHandle;
use dyad_units::{Bytes, EXTENT_BYTES, Extent};

use crate::actor::Actor;
use crate::disk::SimDisk;
use crate::habits::Habits;
use crate::log::SimLog;
use crate::model::Violation;
use crate::rig::{self, Rig};
use crate::rng::Rng;

/// Steps of the disk after which a run that should come to rest counts as hanging: far above what the
/// longest chain of operations of one request takes.
const STEPS_TO_REST: u32 = 200_000;

/// One call of the pool in so many is what a reactor does every 100 ms.
const HOUSEKEEPING_EVERY: u64 = 64;

/// The shape of a run.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What the disk writes untorn: 512 or 4096.
    pub unit: usize,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Size of L.
    pub log_bytes: usize,
    /// How many images the pool has.
    pub images: u64,
    /// The extents that are used, of each image.
    pub extents: Vec<Extent>,
    /// What the owners do.
    pub habits: Habits,
}

impl Scene {
    /// Two images with a few extents in two regions, on a disk that has room.
    pub fn small() -> Self {
        Self {
            unit: 4096,
            disk_bytes: 12 << 20,
            log_bytes: 256 << 10,
            images: 2,
            extents: [0, 1, 2, 3, 16, 17].map(Extent).to_vec(),
            habits: Habits::mixed(),
        }
    }

    /// Size of an image: just beyond its last extent.
    pub fn size(&self) -> Bytes {
        let last = self.extents.iter().map(|extent| extent.0).max().unwrap_or(0);
        Bytes::new(u64::from(last + 1) * u64::from(EXTENT_BYTES))
    }
}

/// Why a run ended early.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stop {
    /// A rule was broken.
    Violation(Violation),
    /// The fuse burnt down: crash here.
    Fuse,
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// The owners, their pool and what happens next.
pub struct Player {
    /// The pool and its surroundings.
    pub rig: Rig,
    /// One owner per image.
    pub actors: Vec<(ImageHandle, Actor)>,
    /// The shape of the run.
    pub scene: Scene,
    pub(crate) rng: Rng,
    next_token: u64,
    next_version: u32,
    /// Steps until [`Stop::Fuse`].
    pub(crate) fuse: Option<u32>,
    phase: Phase,
    story: Story,
}

/// The last happenings, for whoever has to find out what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Story {
    lines: std::collections::VecDeque<String>,
    /// Whether anything is kept: writing it down costs more than the run itself.
    pub is_kept: bool,
    /// Whether all of it is kept, in detail.
    pub is_long: bool,
}

impl Story {
    /// Lines kept.
    const LINES: usize = 400;

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if !self.is_kept {
            return;
        }
        if self.lines.len() == Self::LINES && !self.is_long {
            self.lines.pop_front();
        }
        self.lines.push_back(line());
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

/// Where a run stands between two calls of the pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The pool was called; nobody has seen its replies, the disk has not seen its operations. A process may
    /// have died in the middle of that call.
    Called,
    /// Its replies were seen.
    Judged,
    /// Its operations were handed over.
    Handed,
}

impl Player {
    /// Makes a pool with its images.
    pub fn new(scene: Scene, seed: u64) -> Result<Self, Stop> {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new(scene.disk_bytes, scene.unit, rng.bits());
        let broken = |what: &str, error: &dyn std::fmt::Debug| Violation(format!("cannot {what}: {error:?}"));
        rig::format(&mut disk).map_err(|error| broken("format", &error))?;
        let log = SimLog::new(scene.log_bytes);
        let (mut rig, _) = Rig::open(disk, log).map_err(|(_, error)| broken("open", &error))?;
        for image in 0..scene.images {
            rig.create(image, scene.size()).map_err(|error| broken("create an image", &error))?;
        }
        let actors = (0..scene.images).map(|image| Actor::new(image, scene.unit)).collect();
        Self::around(rig, scene, actors, 0, &mut rng)
    }

    /// The owners meet their images again.
    pub(crate) fn around(
        rig: Rig,
        scene: Scene,
        actors: Vec<Actor>,
        versions: u32,
        rng: &mut Rng,
    ) -> Result<Self, Stop> {
        let mut met = Vec::new();
        for actor in actors {
            let image = actor.model.image();
            let handle = rig.find(image).ok_or_else(|| Violation(format!("image {image} is gone")))?;
            met.push((handle, actor));
        }
        Ok(Self {
            rig,
            actors: met,
            scene,
            rng: rng.fork(),
            next_token: 0,
            next_version: versions,
            fuse: None,
            phase: Phase::Called,
            story: Story::default(),
        })
    }

    /// Makes one more image and gives it an owner.
    pub fn adopt_image(&mut self, image: u64) -> Result<(), Stop> {
        let made = self.rig.create(image, self.scene.size());
        let handle = made.map_err(|error| Violation(format!("cannot make image {image}: {error:?}")))?;
        self.actors.push((handle, Actor::new(image, self.scene.unit)));
        Ok(())
    }

    /// Keeps a story of what happens from now on.
    pub fn keep_story(&mut self) {
        self.story.is_kept = true;
    }

    /// The last happenings.
    pub fn story(&self) -> &Story {
        &self.story
    }

    /// Requests that were answered so far.
    pub fn answered(&self) -> u64 {
        self.actors.iter().map(|(_, actor)| actor.answered).sum()
    }

    pub(crate) fn versions(&self) -> u32 {
        self.next_version
    }

    /// Whether the pool was called and nothing came of it yet.
    pub(crate) fn is_amid_call(&self) -> bool {
        self.phase == Phase::Called
    }

    pub(crate) fn version(&mut self) -> u32 {
        self.next_version += 1;
        self.next_version
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Sends what `build` makes of it to image `at`; false if it made nothing.
    pub(crate) fn send(
        &mut self,
        at: usize,
        build: impl FnOnce(&mut Actor, Token, &dyad_payload::Slab) -> Option<Request>,
    ) -> bool {
        let token = self.token();
        let (handle, actor) = &mut self.actors[at];
        let Some(request) = build(actor, token, &self.rig.slab) else { return false };
        self.story.tell(|| format!("image {at}: {}", describe(token, &request)));
        self.rig.submit(*handle, token, request);
        self.phase = Phase::Called;
        true
    }

    /// The next small happening.
    pub fn advance(&mut self) -> Result<(), Stop> {
        match self.phase {
            Phase::Called => {
                self.judge()?;
                self.phase = Phase::Judged;
            }
            Phase::Judged => {
                self.rig.hand_over();
                if let Some(misuse) = self.rig.disk.misuse() {
                    return Err(Violation(format!("the pool asked the disk for {misuse}")).into());
                }
                self.phase = Phase::Handed;
            }
            Phase::Handed if self.rng.chance(1, HOUSEKEEPING_EVERY) => {
                self.rig.housekeeping();
                self.phase = Phase::Called;
            }
            Phase::Handed => {
                let asks = self.rig.is_quiet() || self.rng.chance(self.scene.habits.eagerness, 100);
                if !(asks && self.issue()) {
                    self.rig.step();
                }
                self.phase = Phase::Called;
            }
        }
        Ok(())
    }

    /// What would differ after a crash: a number that changes whenever something on disk or in L may have.
    pub fn pulse(&self) -> u64 {
        let counts = self.rig.disk.counts();
        counts.changes() * 1_000_003 + self.rig.disk.happenings() * 1009 + self.rig.log.stores() as u64
    }

    /// So many happenings; `probe` looks after each.
    pub fn run(&mut self, happenings: u32, mut probe: impl FnMut(&Self) -> Result<(), Stop>) -> Result<(), Stop> {
        for _ in 0..happenings {
            self.advance()?;
            probe(self)?;
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), Stop> {
        let has_failed = self.rig.failed().is_some();
        let replies = self.rig.replies();
        if has_failed {
            self.actors.iter_mut().filter(|(_, actor)| !actor.is_poisoned).for_each(|(_, actor)| actor.poison());
        }
        for (handle, token, reply) in replies {
            self.story.tell(|| format!("{token:?} -> {}", describe_reply(&reply)));
            let found = self.actors.iter_mut().find(|(of, _)| *of == handle);
            let (_, actor) = found.ok_or_else(|| Violation(format!("a reply from no image: {handle:?}")))?;
            actor.judge(token, reply)?;
        }
        Ok(())
    }

    /// Asks nothing more until everything is answered; a request that never is, is a violation (P15).
    pub fn rest(&mut self) -> Result<(), Stop> {
        for _ in 0..STEPS_TO_REST {
            if self.phase == Phase::Handed {
                let is_answered = self.actors.iter().all(|(_, actor)| actor.sent.is_empty());
                if self.rig.is_quiet() {
                    if is_answered {
                        return Ok(());
                    }
                    let waiting: Vec<_> = self.actors.iter().flat_map(|(_, actor)| actor.sent.values()).collect();
                    return Err(Violation(format!("the disk is idle, but these wait: {waiting:?}")).into());
                }
                self.rig.step();
                self.phase = Phase::Called;
            } else {
                self.advance()?;
            }
        }
        Err(Violation(format!("no rest after {STEPS_TO_REST} steps")).into())
    }

    /// One request of image `at`, alone, and its reply.
    pub(crate) fn ask(&mut self, at: usize, request: Request) -> Result<Reply, Stop> {
        let asked = self.token();
        self.story.tell(|| format!("image {at}: {}", describe(asked, &request)));
        self.rig.submit(self.actors[at].0, asked, request);
        for _ in 0..STEPS_TO_REST {
            if let Some((_, token, reply)) = self.rig.replies().pop() {
                assert_eq!(token, asked, "a reply to what was not asked");
                self.story.tell(|| format!("{token:?} -> {}", describe_reply(&reply)));
                self.rig.hand_over();
                return Ok(reply);
            }
            self.rig.hand_over();
            if let Some(fuse) = &mut self.fuse {
                *fuse = fuse.checked_sub(1).ok_or(Stop::Fuse)?;
            }
            if self.rig.is_quiet() {
                return Err(Violation(format!("request {asked:?} of image {at} is never answered")).into());
            }
            self.rig.step();
        }
        Err(Violation(format!("no answer after {STEPS_TO_REST} steps")).into())
    }
}

pub(crate) fn describe(token: Token, request: &Request) -> String {
    let text = match request {
        Request::Write(write) => format!("write {:?} at {} number {}", write.piece, write.stamp, write.number),
        Request::Mend(write) => format!("mend {:?} at {}", write.piece, write.stamp),
        Request::Record { epoch, .. } => format!("record of epoch {epoch}"),
        other => format!("{other:?}"),
    };
    format!("{token:?} {text}")
}

pub(crate) fn describe_reply(reply: &Reply) -> String {
    match reply {
        Reply::Data(data) => format!("{} bytes", data.len()),
        Reply::Examined(examined) => {
            let count = |which: fn(&BlockState) -> bool| examined.blocks.iter().filter(|block| which(block)).count();
            let verified = count(|block| matches!(block, BlockState::Verified(_)));
            let unverified = count(|block| matches!(block, BlockState::Unverified(_)));
            format!("stamp {}, {verified} verified, {unverified} unverified", examined.stamp)
        }
        other => format!("{other:?}"),
    }
}
