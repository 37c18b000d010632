//! What a map of 1 TiB costs: time to open it, memory to hold it, time to discard all of it.
//!
//! `cargo run --release -p dyad-pool --example large --features synthetic [-- FILE]`
//!
//! FILE is a sparse file, made anew; without, the disk is memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use dyad_contract::image::{Reply, Request, Token, Unmap};
use dyad_payload::Slab;
use dyad_pool::{
    BlockingDisk, DiskDone, DiskError, DiskOp, FormatConfig, ImageMeta, ImagePhase, NoLog, OpenConfig, Pool, synthetic,
};
use dyad_units::{
    Bytes, DiskId, EXTENT_BYTES, Epoch, Extent, ImageId, Interval, LayerId, NodeId, Piece, PoolId, SegmentId, Stamp,
    VolumeId, WriteNumber,
};

/// A chunk of the disk in memory that was ever written.
const CHUNK: usize = 64 << 10;

enum Disk {
    Memory(BTreeMap<u64, Box<[u8]>>, u64),
    File(File, u64),
}

impl Disk {
    /// Bytes of memory that it takes itself.
    fn memory(&self) -> u64 {
        match self {
            Self::Memory(chunks, _) => (chunks.len() * CHUNK) as u64,
            Self::File(..) => 0,
        }
    }

    fn in_chunks(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let within = (at % CHUNK as u64) as usize;
            let count = (CHUNK - within).min(len - done);
            let part = done..done + count;
            done += count;
            (count > 0).then_some((at / CHUNK as u64, within, part))
        })
    }
}

impl BlockingDisk for Disk {
    fn size(&self) -> Bytes {
        let (Self::Memory(_, size) | Self::File(_, size)) = self;
        Bytes::new(*size)
    }

    fn physical_block(&self) -> u32 {
        4096
    }

    fn read_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        match self {
            Self::Memory(chunks, _) => {
                for (chunk, within, part) in Self::in_chunks(offset, to.len()) {
                    let to = &mut to[part];
                    match chunks.get(&chunk) {
                        Some(bytes) => to.copy_from_slice(&bytes[within..within + to.len()]),
                        None => to.fill(0),
                    }
                }
                Ok(())
            }
            Self::File(file, _) => file.read_exact_at(to, offset).map_err(|_| DiskError::IO),
        }
    }

    fn read_direct_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.read_at(to, offset)
    }

    fn write_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        match self {
            Self::Memory(chunks, _) => {
                for (chunk, within, part) in Self::in_chunks(offset, from.len()) {
                    let bytes = chunks.entry(chunk).or_insert_with(|| vec![0; CHUNK].into());
                    bytes[within..within + part.len()].copy_from_slice(&from[part]);
                }
                Ok(())
            }
            Self::File(file, _) => file.write_all_at(from, offset).map_err(|_| DiskError::IO),
        }
    }

    fn write_durable_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_at(from, offset)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn disk(size: u64) -> Disk {
    match std::env::args().nth(1) {
        Some(path) => {
            let file = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("a file");
            file.set_len(size).expect("a sparse file");
            Disk::File(file, size)
        }
        None => Disk::Memory(BTreeMap::new(), size),
    }
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
}

fn meta(size: Bytes) -> ImageMeta {
    ImageMeta {
        id: ImageId::from_bytes([7; 16]),
        segment: SegmentId::from_bytes([4; 16]),
        volume: VolumeId::from_bytes([5; 16]),
        layer: LayerId::from_bytes([6; 16]),
        parent: None,
        size,
        phase: ImagePhase::Ready,
        closed: Stamp::NEVER,
        epoch: Epoch::new(1),
        record: Vec::new(),
        cursor: None,
        complete: Stamp::NEVER,
    }
}

/// A pool for `extents` extents, `every` so many of an image of `size`.
fn open(disk: &mut Disk, size: Bytes, every: u32) -> Pool {
    let config = FormatConfig {
        pool: PoolId::from_bytes([1; 16]),
        disk: DiskId::from_bytes([2; 16]),
        node: NodeId::from_bytes([3; 16]),
        overwrite: true,
    };
    Pool::format(disk, &config).expect("formatted");
    let extents = (size.value() / u64::from(EXTENT_BYTES)) as u32;
    let before = resident() - disk.memory();
    synthetic::fill(disk, &meta(size), (0..extents).step_by(every as usize).map(Extent)).expect("filled");
    let begun = Instant::now();
    let config = OpenConfig { pool: None, slab: Slab::new(256 << 20) };
    let (pool, _) = Pool::open(disk, Box::new(NoLog), &config).expect("opened");
    // What filling used and gave back is used again, so that it does not count twice.
    let (took, memory) = (begun.elapsed(), Bytes::new(resident() - disk.memory() - before));
    println!("{size}, every {every}. extent written: opened in {took:.2?}, {memory} of memory");
    pool
}

/// Unmaps everything extent by extent, as a host's discard of the whole volume comes down.
fn discard(pool: &mut Pool, disk: &mut Disk, size: Bytes) {
    let image = pool.find(ImageId::from_bytes([7; 16])).expect("the image");
    let (begun, extents) = (Instant::now(), (size.value() / u64::from(EXTENT_BYTES)) as u32);
    let (mut ops, mut replies) = (Vec::new(), Vec::new());
    let (mut sent, mut done) = (0, 0);
    while done < extents {
        while sent < extents && sent - done < 256 {
            let piece = Piece::whole(Extent(sent));
            let number = WriteNumber::new(u64::from(sent) + 1);
            let (stamp, settled) = (Stamp::new(Epoch::new(1), Interval::new(2)), WriteNumber::new(u64::from(done)));
            let unmap = Unmap { piece, stamp, number, settled };
            pool.submit(image, Token(u64::from(sent)), Request::Unmap(unmap));
            sent += 1;
        }
        pool.take_disk_ops(&mut ops);
        for op in ops.drain(..) {
            let token = op.token();
            let result = carry_out(disk, op);
            pool.complete(token, result);
        }
        pool.take_replies(&mut replies);
        done += replies.len() as u32;
        assert!(replies.drain(..).all(|(_, _, reply)| matches!(reply, Reply::Written(_))), "an unmap failed");
    }
    println!("{size} discarded in {:.2?}, {} commits", begun.elapsed(), pool.counters().commits);
}

fn carry_out(disk: &mut Disk, op: DiskOp) -> Result<DiskDone, DiskError> {
    match op {
        DiskOp::Read { offset, mut buf, .. } => disk.read_at(&mut buf, offset).map(|()| DiskDone::Read(buf)),
        DiskOp::Write { mut offset, data, .. } => {
            for slice in data.slices() {
                disk.write_at(slice, offset)?;
                offset += slice.len() as u64;
            }
            Ok(DiskDone::Done)
        }
        DiskOp::WriteDurable { offset, data, .. } => disk.write_at(&data, offset).map(|()| DiskDone::Done),
        DiskOp::Sync { .. } => Ok(DiskDone::Done),
    }
}

fn main() {
    let size = Bytes::gib(1024);
    let mut tenth = disk((120 << 30) + (1 << 30));
    drop(open(&mut tenth, size, 10));
    drop(tenth);
    let mut full = disk((1024 << 30) + (40 << 30));
    let mut pool = open(&mut full, size, 1);
    discard(&mut pool, &mut full, size);
    let begun = Instant::now();
    let image = pool.find(ImageId::from_bytes([7; 16])).expect("the image");
    println!("{} left, counted in {:.2?}", pool.image_bytes(image), begun.elapsed());
}
