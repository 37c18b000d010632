//! Who plays: a disk in memory, an L in memory, a pool with one image and its owner.

use std::sync::{Arc, Mutex};

use dyad_contract::image::{Reply, Request, Space, Survey, Token, Unmap, Write};
use dyad_payload::{Payload, Slab, Sums};
use dyad_pool::{
    AdminReply, AdminToken, BlockingDisk, DiskDone, DiskError, DiskOp, FormatConfig, ImageHandle, ImageMeta,
    ImagePhase, OpenConfig, OpenError, OpenReport, Pool, RecentLog,
};
use dyad_units::{
    Bytes, DiskId, Epoch, Extent, ImageId, Interval, LayerId, NodeId, Piece, PoolId, SegmentId, Stamp, VolumeId,
    WriteNumber,
};

/// What the page cache holds, and what the disk itself holds.
#[derive(Clone)]
pub struct Memory {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync.
    unsynced: Vec<(usize, usize)>,
}

impl Memory {
    pub fn new(bytes: usize) -> Self {
        Self { cached: vec![0xee; bytes], durable: vec![0xee; bytes], unsynced: Vec::new() }
    }

    fn put(&mut self, bytes: &[u8], offset: u64) {
        self.cached[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        self.unsynced.push((offset as usize, bytes.len()));
    }

    fn sync_all(&mut self) {
        for (at, len) in self.unsynced.drain(..) {
            self.durable[at..at + len].copy_from_slice(&self.cached[at..at + len]);
        }
    }

    /// What was not synced is gone.
    pub fn cut_power(&mut self) {
        self.cached.copy_from_slice(&self.durable);
        self.unsynced.clear();
    }

    /// Overwrites `len` bytes everywhere.
    pub fn rot(&mut self, offset: usize, len: usize) {
        self.cached[offset..offset + len].fill(0x5a);
        self.durable[offset..offset + len].fill(0x5a);
    }

    /// Puts other bytes there, everywhere.
    pub fn change(&mut self, offset: usize, bytes: &[u8]) {
        self.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.durable[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Where these bytes lie.
    pub fn find(&self, bytes: &[u8]) -> Vec<usize> {
        self.cached
            .chunks(4096)
            .enumerate()
            .filter(|(_, page)| page.starts_with(bytes))
            .map(|(at, _)| at * 4096)
            .collect()
    }
}

impl BlockingDisk for Memory {
    fn size(&self) -> Bytes {
        Bytes::new(self.cached.len() as u64)
    }

    fn physical_block(&self) -> u32 {
        4096
    }

    fn read_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        let from = self.cached.get(offset as usize..).and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(from.ok_or(DiskError::IO)?);
        Ok(())
    }

    fn read_direct_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.read_at(to, offset)
    }

    fn write_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.put(from, offset);
        Ok(())
    }

    fn write_durable_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.put(from, offset);
        self.durable[offset as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.sync_all();
        Ok(())
    }
}

/// Memory that outlives the process.
#[derive(Clone)]
pub struct Shm(Arc<Mutex<Vec<u8>>>);

impl Shm {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; bytes])))
    }
}

impl RecentLog for Shm {
    fn capacity(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn load(&self, at: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.lock().unwrap()[at..at + to.len()]);
    }

    fn store(&mut self, at: usize, from: &[u8]) {
        self.0.lock().unwrap()[at..at + from.len()].copy_from_slice(from);
    }
}

/// What the disk does with an op.
pub type Verdict = fn(&DiskOp) -> bool;

pub const IMAGE: ImageId = ImageId::from_bytes([7; 16]);

pub struct Bench {
    pub disk: Memory,
    pub log: Shm,
    pub slab: Slab,
    pub pool: Option<Pool>,
    pub image: Option<ImageHandle>,
    pub report: OpenReport,
    /// Ops that are kept back as long as this says so.
    pub holds: Option<Verdict>,
    /// Ops that fail.
    pub fails: Option<Verdict>,
    held: Vec<DiskOp>,
    pub replies: Vec<(Token, Reply)>,
    pub admin: Vec<AdminReply>,
    next: u64,
    pub number: u64,
    pub settled: u64,
    pub stamp: Stamp,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(64 << 20, 1 << 20, Bytes::gib(1))
    }

    /// A pool on a disk of `disk` bytes with `log` bytes of L and one image of this size.
    pub fn with(disk: usize, log: usize, size: Bytes) -> Self {
        let mut disk = Memory::new(disk);
        let config = FormatConfig {
            pool: PoolId::from_bytes([1; 16]),
            disk: DiskId::from_bytes([2; 16]),
            node: NodeId::from_bytes([3; 16]),
            overwrite: false,
        };
        Pool::format(&mut disk, &config).unwrap();
        let mut bench = Self {
            disk,
            log: Shm::new(log),
            slab: Slab::new(256 << 20),
            pool: None,
            image: None,
            report: OpenReport::default(),
            holds: None,
            fails: None,
            held: Vec::new(),
            replies: Vec::new(),
            admin: Vec::new(),
            next: 0,
            number: 0,
            settled: 0,
            stamp: stamp(1),
        };
        bench.open().unwrap();
        bench.image = Some(bench.create(IMAGE, size));
        bench
    }

    pub fn create(&mut self, id: ImageId, size: Bytes) -> ImageHandle {
        let meta = ImageMeta {
            id,
            segment: SegmentId::from_bytes([4; 16]),
            volume: VolumeId::from_bytes([5; 16]),
            layer: LayerId::from_bytes(id.to_bytes()),
            parent: None,
            size,
            phase: ImagePhase::Ready,
            closed: Stamp::NEVER,
            epoch: Epoch::new(0),
            record: Vec::new(),
            cursor: None,
            complete: Stamp::NEVER,
        };
        self.pool().create_image(AdminToken(1), meta);
        match self.administered() {
            AdminReply::Created(image) => image,
            other => panic!("{other:?}"),
        }
    }

    pub fn open(&mut self) -> Result<(), OpenError> {
        let config = OpenConfig { pool: None, slab: self.slab.clone() };
        let (pool, report) = Pool::open(&mut self.disk, Box::new(self.log.clone()), &config)?;
        self.image = pool.find(IMAGE);
        self.pool = Some(pool);
        self.report = report;
        Ok(())
    }

    /// The process dies; what was handed to the disk is in its cache, what was held back is not.
    pub fn crash(&mut self) {
        self.crash_only();
        self.open().unwrap();
    }

    pub fn crash_only(&mut self) {
        self.pool = None;
        self.held.clear();
        self.replies.clear();
        (self.holds, self.fails) = (None, None);
    }

    /// The machine dies.
    pub fn cut_power(&mut self) {
        self.crash_only();
        self.disk.cut_power();
        self.log = Shm::new(self.log.capacity());
        self.open().unwrap();
    }

    pub fn pool(&mut self) -> &mut Pool {
        self.pool.as_mut().unwrap()
    }

    /// Lets the disk do all that it does not hold back.
    pub fn drive(&mut self) {
        let mut ops = std::mem::take(&mut self.held);
        let mut kept = Vec::new();
        loop {
            self.pool().take_disk_ops(&mut ops);
            if ops.is_empty() {
                break;
            }
            for op in ops.drain(..) {
                if self.holds.is_some_and(|holds| holds(&op)) {
                    kept.push(op);
                    continue;
                }
                let token = op.token();
                let done =
                    if self.fails.is_some_and(|fails| fails(&op)) { Err(DiskError::IO) } else { self.carry_out(op) };
                self.pool().complete(token, done);
            }
        }
        self.held = kept;
        let (mut replies, mut admin) = (Vec::new(), Vec::new());
        self.pool().take_replies(&mut replies);
        self.pool().take_admin_replies(&mut admin);
        self.replies.extend(replies.into_iter().map(|(_, token, reply)| (token, reply)));
        self.admin.extend(admin.into_iter().map(|(_, reply)| reply));
    }

    /// Nothing is held back any more.
    pub fn let_go(&mut self) {
        self.holds = None;
        self.drive();
    }

    fn carry_out(&mut self, op: DiskOp) -> Result<DiskDone, DiskError> {
        match op {
            DiskOp::Read { offset, mut buf, .. } => self.disk.read_at(&mut buf, offset).map(|()| DiskDone::Read(buf)),
            DiskOp::Write { offset, data, .. } => {
                self.disk.put(&data.to_vec(), offset);
                Ok(DiskDone::Done)
            }
            DiskOp::WriteDurable { offset, data, .. } => {
                self.disk.write_durable_at(&data, offset).map(|()| DiskDone::Done)
            }
            DiskOp::Sync { .. } => self.disk.sync().map(|()| DiskDone::Done),
        }
    }

    pub fn administered(&mut self) -> AdminReply {
        self.drive();
        assert_eq!(self.admin.len(), 1, "one answer to an administrator");
        self.admin.remove(0)
    }

    pub fn stop(&mut self) {
        self.pool().stop(AdminToken(2));
        assert_eq!(self.administered(), AdminReply::Stopped);
    }

    /// Hands a request over, without waiting for its reply.
    pub fn send(&mut self, request: Request) -> Token {
        self.next += 1;
        let (token, image) = (Token(self.next), self.image.unwrap());
        self.pool().submit(image, token, request);
        self.drive();
        token
    }

    /// The reply to what was sent, if it is there.
    pub fn reply(&mut self, token: Token) -> Option<Reply> {
        let at = self.replies.iter().position(|(of, _)| *of == token)?;
        Some(self.replies.remove(at).1)
    }

    pub fn ask(&mut self, request: Request) -> Reply {
        let token = self.send(request);
        self.reply(token).expect("answered at once")
    }

    pub fn write_of(&mut self, extent: u32, first: u8, bytes: &[u8]) -> Write {
        self.number += 1;
        let data = Payload::from(self.slab.copy_of(bytes).unwrap());
        let sums = Sums::of(&data, &self.slab).unwrap();
        let piece = Piece::new(Extent(extent), first, (bytes.len() / 4096) as u8).unwrap();
        let (number, settled) = (WriteNumber::new(self.number), WriteNumber::new(self.settled));
        Write { piece, stamp: self.stamp, number, settled, data, sums, space: Space::Credit }
    }

    pub fn send_write(&mut self, extent: u32, first: u8, bytes: &[u8]) -> Token {
        self.ask(Request::Grant { credits: 1 });
        let write = self.write_of(extent, first, bytes);
        self.send(Request::Write(write))
    }

    pub fn write(&mut self, extent: u32, first: u8, bytes: &[u8]) -> Reply {
        let token = self.send_write(extent, first, bytes);
        self.reply(token).expect("answered at once")
    }

    pub fn unmap(&mut self, piece: Piece) -> Reply {
        self.number += 1;
        let (number, settled) = (WriteNumber::new(self.number), WriteNumber::new(self.settled));
        self.ask(Request::Unmap(Unmap { piece, stamp: self.stamp, number, settled }))
    }

    pub fn read(&mut self, extent: u32, first: u8, count: u8) -> Vec<u8> {
        match self.ask(Request::Read { piece: Piece::new(Extent(extent), first, count).unwrap() }) {
            Reply::Data(data) => data.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub fn flush(&mut self) {
        assert!(matches!(self.ask(Request::Flush), Reply::Done));
    }

    /// Both phases of a close of the open interval.
    pub fn close(&mut self) {
        let closes = self.stamp;
        self.stamp = Stamp::new(closes.epoch, closes.interval.next());
        assert!(matches!(self.ask(Request::Close { interval: closes.interval }), Reply::Done));
        assert!(matches!(self.ask(Request::Closed { stamp: closes }), Reply::Done));
    }

    pub fn survey(&mut self) -> Survey {
        let Reply::Survey(survey) = self.ask(Request::Survey) else { panic!("no survey") };
        *survey
    }
}

pub fn stamp(interval: u32) -> Stamp {
    Stamp::new(Epoch::new(1), Interval::new(interval))
}

pub fn is_write(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Write { .. })
}

pub fn is_journal(op: &DiskOp) -> bool {
    matches!(op, DiskOp::WriteDurable { .. })
}

pub fn is_sync(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Sync { .. })
}
