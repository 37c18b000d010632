//! The ordinary life of a pool on an honest disk: made, written, flushed, stopped, opened again.

use dyad_contract::image::{Reply, Request, Space, Token, Unmap, Write};
use dyad_payload::{Payload, Slab, Sums};
use dyad_pool::{
    AdminReply, AdminToken, BlockingDisk, DiskDone, DiskError, DiskOp, FormatConfig, ImageHandle, ImageMeta,
    ImagePhase, NoLog, OpenConfig, Pool,
};
use dyad_units::{
    Bytes, DiskId, Epoch, Extent, ImageId, Interval, LayerId, NodeId, Piece, PoolId, SegmentId, Stamp, VolumeId,
    WriteNumber,
};

struct Memory(Vec<u8>);

impl BlockingDisk for Memory {
    fn size(&self) -> Bytes {
        Bytes::new(self.0.len() as u64)
    }

    fn physical_block(&self) -> u32 {
        4096
    }

    fn read_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        to.copy_from_slice(self.0.get(offset as usize..).and_then(|rest| rest.get(..to.len())).ok_or(DiskError::IO)?);
        Ok(())
    }

    fn read_direct_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.read_at(to, offset)
    }

    fn write_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.0[offset as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn write_durable_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_at(from, offset)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

struct Bench {
    disk: Memory,
    slab: Slab,
    pool: Option<Pool>,
    image: Option<ImageHandle>,
    next: u64,
}

const IMAGE: ImageId = ImageId::from_bytes([7; 16]);

impl Bench {
    fn new() -> Self {
        let mut disk = Memory(vec![0xee; 64 << 20]);
        let config = FormatConfig {
            pool: PoolId::from_bytes([1; 16]),
            disk: DiskId::from_bytes([2; 16]),
            node: NodeId::from_bytes([3; 16]),
            overwrite: false,
        };
        Pool::format(&mut disk, &config).unwrap();
        let mut bench = Self { disk, slab: Slab::new(256 << 20), pool: None, image: None, next: 0 };
        bench.open();
        let meta = ImageMeta {
            id: IMAGE,
            segment: SegmentId::from_bytes([4; 16]),
            volume: VolumeId::from_bytes([5; 16]),
            layer: LayerId::from_bytes([6; 16]),
            parent: None,
            size: Bytes::gib(1),
            phase: ImagePhase::Ready,
            closed: Stamp::NEVER,
            epoch: Epoch::new(0),
            record: Vec::new(),
            cursor: None,
            complete: Stamp::NEVER,
        };
        bench.pool().create_image(AdminToken(1), meta);
        match bench.drive_admin() {
            AdminReply::Created(image) => bench.image = Some(image),
            other => panic!("{other:?}"),
        }
        bench
    }

    fn open(&mut self) {
        let config = OpenConfig { pool: None, slab: self.slab.clone() };
        let (pool, _) = Pool::open(&mut self.disk, Box::new(NoLog), &config).unwrap();
        self.image = pool.find(IMAGE);
        self.pool = Some(pool);
    }

    fn pool(&mut self) -> &mut Pool {
        self.pool.as_mut().unwrap()
    }

    fn drive(&mut self) {
        let mut ops = Vec::new();
        loop {
            self.pool.as_mut().unwrap().take_disk_ops(&mut ops);
            if ops.is_empty() {
                return;
            }
            for op in ops.drain(..) {
                let token = op.token();
                let done = match op {
                    DiskOp::Read { offset, mut buf, .. } => {
                        self.disk.read_at(&mut buf, offset).map(|()| DiskDone::Read(buf))
                    }
                    DiskOp::Write { offset, data, .. } => {
                        self.disk.write_at(&data.to_vec(), offset).map(|()| DiskDone::Done)
                    }
                    DiskOp::WriteDurable { offset, data, .. } => {
                        self.disk.write_at(&data, offset).map(|()| DiskDone::Done)
                    }
                    DiskOp::Sync { .. } => Ok(DiskDone::Done),
                };
                self.pool.as_mut().unwrap().complete(token, done);
            }
        }
    }

    fn drive_admin(&mut self) -> AdminReply {
        self.drive();
        let mut replies = Vec::new();
        self.pool().take_admin_replies(&mut replies);
        assert_eq!(replies.len(), 1);
        replies[0].1
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.next += 1;
        let (token, image) = (Token(self.next), self.image.unwrap());
        self.pool().submit(image, token, request);
        self.drive();
        let mut replies = Vec::new();
        self.pool().take_replies(&mut replies);
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].1, token);
        replies.remove(0).2
    }

    fn write(&mut self, extent: u32, first: u8, bytes: &[u8]) -> Reply {
        let data = Payload::from(self.slab.copy_of(bytes).unwrap());
        let sums = Sums::of(&data, &self.slab).unwrap();
        let piece = Piece::new(Extent(extent), first, (bytes.len() / 4096) as u8).unwrap();
        let Reply::Granted(1) = self.ask(Request::Grant { credits: 1 }) else { panic!("no credit") };
        self.ask(Request::Write(Write {
            piece,
            stamp: stamp(1),
            number: WriteNumber::new(1),
            settled: WriteNumber::new(0),
            data,
            sums,
            space: Space::Credit,
        }))
    }

    fn read(&mut self, extent: u32, first: u8, count: u8) -> Vec<u8> {
        match self.ask(Request::Read { piece: Piece::new(Extent(extent), first, count).unwrap() }) {
            Reply::Data(data) => data.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

fn stamp(interval: u32) -> Stamp {
    Stamp::new(Epoch::new(1), Interval::new(interval))
}

#[test]
fn what_was_flushed_is_there_after_opening_again() {
    let mut bench = Bench::new();
    assert!(matches!(bench.write(3, 5, &[0xaa; 8192]), Reply::Written(written) if written.used_slot));
    assert_eq!(bench.read(3, 5, 2), [0xaa; 8192]);
    assert_eq!(bench.read(3, 4, 1), [0; 4096], "never written (P1)");
    assert!(matches!(bench.ask(Request::Flush), Reply::Done));
    bench.open();
    assert_eq!(bench.read(3, 5, 2), [0xaa; 8192]);
    assert_eq!(bench.read(3, 4, 4), [&[0; 4096][..], &[0xaa; 8192], &[0; 4096]].concat());
}

#[test]
fn an_unmapped_extent_reads_zeros_and_gives_its_slot_back() {
    let mut bench = Bench::new();
    let free = bench.pool().usage().slots_free;
    bench.write(9, 0, &[1; 4096 * 4]);
    assert_eq!(bench.pool().usage().slots_free, free - 1);
    let piece = Piece::whole(Extent(9));
    let (stamp, number, settled) = (stamp(1), WriteNumber::new(2), WriteNumber::new(1));
    assert!(matches!(bench.ask(Request::Unmap(Unmap { piece, stamp, number, settled })), Reply::Written(_)));
    assert_eq!(bench.read(9, 0, 4), [0; 4096 * 4]);
    assert_eq!(bench.pool().usage().slots_free, free - 1, "not before the commit (P3)");
    bench.ask(Request::Flush);
    assert_eq!(bench.pool().usage().slots_free, free);
}

#[test]
fn a_stopped_pool_is_clean() {
    let mut bench = Bench::new();
    bench.write(1, 0, &[5; 4096]);
    bench.ask(Request::Close { interval: Interval::new(1) });
    bench.ask(Request::Closed { stamp: stamp(1) });
    bench.ask(Request::Close { interval: Interval::new(2) });
    bench.ask(Request::Closed { stamp: stamp(2) });
    assert_eq!(bench.pool().usage().regions_marked, 0, "quiet regions lose their marks (P5)");
    bench.pool().stop(AdminToken(2));
    assert_eq!(bench.drive_admin(), AdminReply::Stopped);
    bench.open();
    assert_eq!(bench.read(1, 0, 1), [5; 4096]);
    let Reply::Survey(survey) = bench.ask(Request::Survey) else { panic!("no survey") };
    assert_eq!((survey.closed, survey.marked), (stamp(2), Vec::new()));
}

#[test]
fn a_deleted_image_gives_everything_back() {
    let mut bench = Bench::new();
    let before = bench.pool().usage();
    for extent in 0..20 {
        bench.write(extent * 200, 0, &[9; 4096]);
    }
    bench.ask(Request::Flush);
    let image = bench.image.unwrap();
    bench.pool().delete_image(AdminToken(3), image, IMAGE);
    assert_eq!(bench.drive_admin(), AdminReply::Deleted);
    let after = bench.pool().usage();
    assert_eq!(after.slots_free, before.slots_free);
    bench.open();
    assert!(bench.image.is_none());
    assert_eq!(bench.pool().usage().slots_free, before.slots_free);
}

/// A page that was assigned, but held nothing yet when the power went, was left out of the next checkpoint; the journal was
/// cut behind its assignment and the pool could not be opened again.
#[test]
fn a_page_that_was_assigned_before_a_power_cut_is_there_after_the_next_checkpoint() {
    let mut bench = Bench::new();
    bench.open();
    bench.pool().stop(AdminToken(2));
    assert_eq!(bench.drive_admin(), AdminReply::Stopped);
    bench.open();
    assert!(bench.image.is_some());
}
