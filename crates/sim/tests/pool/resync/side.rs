//! One image of the pair: its pool, asked one thing at a time, and a fuse that stops it at any point.

use dyad_contract::image::{Changed, Examined, ImageError, Reply, Request, Space, Survey, Token, Unmap, Write};
use dyad_payload::{Payload, Sums};
use dyad_pool::ImageHandle;
use dyad_sim::disk::{SimDisk, Survival};
use dyad_sim::log::SimLog;
use dyad_sim::model::Crash;
use dyad_sim::pattern::{Value, fill};
use dyad_sim::rig::{Rig, format};
use dyad_sim::rng::Rng;
use dyad_units::{Bytes, Extent, Piece, Stamp, WriteNumber};

pub const DISK_BYTES: u64 = 16 << 20;
const LOG_BYTES: usize = 64 << 10;
/// The image of both sides, in the patterns.
pub const IMAGE: u64 = 1;
/// Steps that one request may take.
const STEPS_MAX: u32 = 100_000;

/// Why a side does not go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stopped {
    /// The fuse burnt down.
    Cut,
    /// The disk failed.
    Failed,
}

/// What stops a side, and how it is found then.
#[derive(Clone, Copy, Debug)]
pub struct Fuse {
    pub points: u64,
    pub crash: Crash,
    pub survival: Survival,
}

pub struct Side {
    pub rig: Rig,
    image: ImageHandle,
    tokens: u64,
    pub fuse: Option<Fuse>,
    /// Points passed, at which a fuse may burn down.
    pub points: u64,
    rng: Rng,
    remains: Option<(SimDisk, SimLog)>,
}

impl Side {
    pub fn new(seed: u64, size: Bytes) -> Self {
        let mut disk = SimDisk::new(DISK_BYTES, 4096, seed);
        format(&mut disk).expect("the disk is large enough");
        let (mut rig, _) = Rig::open(disk, SimLog::new(LOG_BYTES)).map_err(|(_, error)| error).expect("just formatted");
        let image = rig.create(IMAGE, size).expect("the pool is empty");
        Self { rig, image, tokens: 0, fuse: None, points: 0, rng: Rng::new(seed), remains: None }
    }

    /// Opens again what was left; of a failed disk nothing is clean in the page cache any more.
    pub fn reopen(mut self, why: Stopped, crash: Crash, survival: Survival) -> Self {
        let (mut disk, log) = match why {
            Stopped::Cut => self.remains.take().expect("the fuse left something"),
            Stopped::Failed => self.left(crash, survival, false),
        };
        disk.repair();
        if why == Stopped::Failed {
            disk.evict_clean();
        }
        let (rig, _) = Rig::open(disk, log).map_err(|(_, error)| error).expect("a pool opens after a crash");
        let image = rig.find(IMAGE).expect("the image is still there");
        Self { rig, image, tokens: 0, fuse: None, points: self.points, rng: self.rng, remains: None }
    }

    /// A crash at rest.
    pub fn crash(mut self, crash: Crash, survival: Survival) -> Self {
        self.remains = Some(self.left(crash, survival, false));
        self.reopen(Stopped::Cut, crash, survival)
    }

    fn left(&mut self, crash: Crash, survival: Survival, is_amid_call: bool) -> (SimDisk, SimLog) {
        match crash {
            Crash::Power => (self.rig.disk.after_power_cut(survival, &mut self.rng), SimLog::new(LOG_BYTES)),
            Crash::Process if is_amid_call => {
                (self.rig.disk.after_process_crash(&mut self.rng), self.rig.log.amid_stores(&mut self.rng))
            }
            Crash::Process => (self.rig.disk.after_process_crash(&mut self.rng), self.rig.log.after_process_crash()),
        }
    }

    fn point(&mut self, is_amid_call: bool) -> Result<(), Stopped> {
        self.points += 1;
        let Some(fuse) = &mut self.fuse else { return Ok(()) };
        if fuse.points > 0 {
            fuse.points -= 1;
            return Ok(());
        }
        let Fuse { crash, survival, .. } = *fuse;
        self.remains = Some(self.left(crash, survival, is_amid_call));
        Err(Stopped::Cut)
    }

    pub fn ask(&mut self, request: Request) -> Result<Reply, Stopped> {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.rig.submit(self.image, token, request);
        for _ in 0..STEPS_MAX {
            self.point(true)?;
            self.rig.hand_over();
            self.point(false)?;
            if let Some((_, of, reply)) = self.rig.replies().pop() {
                assert_eq!(of, token, "one reply to one request");
                return if matches!(reply, Reply::Failed(ImageError::Poisoned)) {
                    Err(Stopped::Failed)
                } else {
                    Ok(reply)
                };
            }
            if self.rig.is_quiet() {
                self.rig.housekeeping();
                assert!(self.rig.has_waiting(), "a request is never answered");
            } else {
                self.rig.step();
            }
        }
        panic!("a request takes more than {STEPS_MAX} steps");
    }

    pub fn must(&mut self, request: Request) -> Result<(), Stopped> {
        match self.ask(request)? {
            Reply::Done | Reply::Written(_) => Ok(()),
            reply => panic!("answered by {reply:?}"),
        }
    }

    pub fn survey(&mut self) -> Result<Survey, Stopped> {
        let Reply::Survey(survey) = self.ask(Request::Survey)? else { panic!("no survey") };
        Ok(*survey)
    }

    pub fn changed(&mut self, after: Stamp, from: Extent) -> Result<Changed, Stopped> {
        let Reply::Changed(changed) = self.ask(Request::Changed { after, from })? else { panic!("no list") };
        Ok(*changed)
    }

    pub fn examine(&mut self, extent: Extent) -> Result<Examined, Stopped> {
        let Reply::Examined(examined) = self.ask(Request::Examine { extent })? else { panic!("no state") };
        Ok(*examined)
    }

    pub fn read(&mut self, piece: Piece) -> Result<Vec<u8>, Stopped> {
        match self.ask(Request::Read { piece })? {
            Reply::Data(data) => Ok(data.to_vec()),
            reply => panic!("a read of {piece:?} was answered by {reply:?}"),
        }
    }

    /// Writes `bytes` with a reservation.
    pub fn write(&mut self, piece: Piece, bytes: &[u8], order: Order, is_mend: bool) -> Result<(), Stopped> {
        self.must(Request::Reserve { piece })?;
        let data = Payload::from(self.rig.slab.copy_of(bytes).expect("the slab is large"));
        let sums = Sums::of(&data, &self.rig.slab).expect("the slab is large");
        let Order { stamp, number, settled } = order;
        let write = Write { piece, stamp, number, settled, data, sums, space: Space::Reserved };
        self.must(if is_mend { Request::Mend(write) } else { Request::Write(write) })
    }

    pub fn unmap(&mut self, piece: Piece, order: Order, is_mend: bool) -> Result<(), Stopped> {
        let Order { stamp, number, settled } = order;
        let unmap = Unmap { piece, stamp, number, settled };
        self.must(if is_mend { Request::MendUnmap(unmap) } else { Request::Unmap(unmap) })
    }
}

/// Place of a change in the owner's order.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub stamp: Stamp,
    pub number: WriteNumber,
    pub settled: WriteNumber,
}

/// What write `version` puts into these blocks.
pub fn bytes_of(piece: Piece, version: u32) -> Vec<u8> {
    let mut bytes = vec![0; piece.len()];
    fill(&mut bytes, IMAGE, piece.block().0, Value::of(version));
    bytes
}
