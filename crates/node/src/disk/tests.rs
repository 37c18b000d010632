//! Both backends against a model: what was written is read, whatever order the kernel chooses.

use std::sync::Arc;
use std::time::Duration;

use dyad_payload::{Payload, Slab};
use dyad_pool::{DiskOp, DiskToken};
use dyad_units::{Bytes, Moment, Period};

use super::engine::Engine;
use super::file::DiskFile;
use super::live::LiveDisk;
use super::work::{Finished, Job, Work};
use crate::settings::BackendChoice;

const PAGES: usize = 256;
const PAGE: usize = 4096;

struct Bench {
    _dir: tempfile::TempDir,
    file: Arc<DiskFile>,
    engine: Engine,
    slab: Slab,
    next: u64,
}

impl Bench {
    fn new(choice: BackendChoice, is_direct: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = Bytes::new((PAGES * PAGE) as u64);
        let mut file = DiskFile::create(&dir.path().join("disk"), size, Period::from_secs(1)).unwrap();
        if !is_direct {
            file.forget_direct();
        }
        let mut engine = Engine::new(choice, 3).unwrap();
        engine.add_disk(0).unwrap();
        Self { _dir: dir, file: Arc::new(file), engine, slab: Slab::new(64 << 20), next: 0 }
    }

    fn start(&mut self, work: Work) -> u64 {
        self.next += 1;
        let job = Job { file: self.file.clone(), disk: 0, tag: self.next, work, done: 0, started: Moment::START };
        self.engine.start(job).expect("room for the test's few operations");
        self.next
    }

    fn drain(&mut self) -> Vec<Finished> {
        let mut ended = Vec::new();
        self.engine.flush();
        assert!(self.engine.drain(Duration::from_secs(20), &mut ended), "an operation did not end");
        ended
    }

    /// A payload in slices of odd lengths, as receive buffers leave it.
    fn payload(&self, byte: u8, pages: usize) -> Payload {
        let mut payload = Payload::new();
        let mut left = pages * PAGE;
        let mut slice = 1000;
        while left > 0 {
            let len = left.min(slice);
            payload.push(self.slab.copy_of(&vec![byte; len]).unwrap());
            left -= len;
            slice = slice * 3 / 2 % 9000 + 1;
        }
        payload
    }
}

/// What broke: only a sync that lasts too long was a sign of a disk that hangs. The first writes went on in the reactor's
/// thread where it was the beginning of a write-back that did not end.
#[test]
fn writes_wait_elsewhere_while_a_write_back_does_not_end() {
    let mut bench = Bench::new(BackendChoice::Threads, true);
    let mut disk = LiveDisk::new(bench.file.clone(), 0, (2 * PAGE) as u64);
    let mut ends = Vec::new();
    let mut write = |disk: &mut LiveDisk, bench: &mut Bench, millis: u64, pages: usize| {
        let data = bench.payload(1, pages);
        let now = Moment::START + Period::from_millis(millis);
        disk.execute(now, DiskOp::Write { token: DiskToken(millis), offset: 0, data }, &mut bench.engine, &mut ends);
        std::mem::take(&mut ends).len()
    };
    assert_eq!(write(&mut disk, &mut bench, 1000, 2), 1, "done at once; the write-back begins");
    assert_eq!(write(&mut disk, &mut bench, 1700, 1), 1, "it has not lasted long");
    assert_eq!(write(&mut disk, &mut bench, 1801, 1), 0, "the engine has it");
    for finished in bench.drain() {
        disk.finished(Moment::START + Period::from_millis(1900), finished, &mut bench.engine, &mut Vec::new());
    }
    assert_eq!(write(&mut disk, &mut bench, 5000, 1), 1, "it ended");
}

/// Small and seeded: a failing run can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

fn check_against_model(choice: BackendChoice, is_direct: bool) {
    let mut bench = Bench::new(choice, is_direct);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut model = vec![0_u8; PAGES];
    for round in 0..60 {
        // Operations of one round touch different pages, as a pool promises.
        let mut at = random.below(4);
        while at + 20 < PAGES {
            let pages = 1 + random.below(16);
            let byte = random.below(256) as u8;
            let offset = (at * PAGE) as u64;
            match random.below(4) {
                0 => {
                    let buf = bench.slab.take(pages * PAGE).unwrap();
                    bench.start(Work::Read { buf, at: offset });
                }
                1 => {
                    let data = bench.slab.copy_of(&vec![byte; pages * PAGE]).unwrap();
                    bench.start(Work::WriteDurable { data, at: offset });
                    model[at..at + pages].fill(byte);
                }
                2 => {
                    let data = bench.payload(byte, pages);
                    bench.start(Work::Write { data, at: offset });
                    model[at..at + pages].fill(byte);
                }
                _ => {
                    bench.start(if byte < 128 { Work::Sync } else { Work::StartWriteback });
                }
            }
            at += pages + random.below(6);
        }
        for ended in bench.drain() {
            ended.result.unwrap();
            if let Work::Read { buf, at } = ended.job.work {
                for (page, bytes) in buf.chunks(PAGE).enumerate() {
                    let wanted = model[at as usize / PAGE + page];
                    assert!(bytes.iter().all(|&byte| byte == wanted), "round {round}, page {page} from {at}");
                }
            }
        }
    }
    let mut all = vec![0; PAGES * PAGE];
    bench.file.read_bytes_direct(&mut all, 0).unwrap();
    bench.file.sync_bytes().unwrap();
    assert!(all.chunks(PAGE).zip(&model).all(|(bytes, &wanted)| bytes.iter().all(|&byte| byte == wanted)));
}

#[test]
fn a_ring_does_what_it_is_told() {
    check_against_model(BackendChoice::IoUring, true);
}

#[test]
fn threads_do_what_they_are_told() {
    check_against_model(BackendChoice::Threads, true);
}

#[test]
fn both_do_without_direct_io() {
    check_against_model(BackendChoice::IoUring, false);
    check_against_model(BackendChoice::Threads, false);
}

#[test]
fn reading_beyond_the_end_is_an_error_of_that_read_alone() {
    for choice in [BackendChoice::IoUring, BackendChoice::Threads] {
        let mut bench = Bench::new(choice, true);
        let beyond = bench.slab.take(PAGE * 2).unwrap();
        let within = bench.slab.take(PAGE).unwrap();
        let bad = bench.start(Work::Read { buf: beyond, at: ((PAGES - 1) * PAGE) as u64 });
        bench.start(Work::Read { buf: within, at: 0 });
        for ended in bench.drain() {
            assert_eq!(ended.result.is_err(), ended.job.tag == bad);
        }
    }
}

/// Dropping an engine with operations in flight must not give away their memory.
#[test]
fn an_engine_ends_its_operations_before_it_goes() {
    for choice in [BackendChoice::IoUring, BackendChoice::Threads] {
        let mut bench = Bench::new(choice, true);
        for page in 0..PAGES {
            let data = bench.payload(7, 1);
            bench.start(Work::Write { data, at: (page * PAGE) as u64 });
        }
        bench.engine.flush();
        let Bench { engine, file, .. } = bench;
        drop(engine);
        if choice == BackendChoice::IoUring {
            assert_eq!(Arc::strong_count(&file), 1, "every job is gone");
        }
    }
}

#[test]
fn more_operations_than_a_ring_holds_are_given_back() {
    let mut bench = Bench::new(BackendChoice::IoUring, true);
    let mut refused = 0;
    for _ in 0..super::ring::DEPTH + 10 {
        let job = Job { file: bench.file.clone(), disk: 0, tag: 0, work: Work::Sync, done: 0, started: Moment::START };
        refused += usize::from(bench.engine.start(job).is_err());
    }
    assert_eq!(refused, 10);
    assert_eq!(bench.drain().len(), super::ring::DEPTH);
}

mod in_use {
    //! A disk in use, with the pool's operations.

    use std::time::Duration;

    use dyad_payload::{Payload, Slab};
    use dyad_pool::{DiskDone, DiskOp, DiskToken};
    use dyad_units::{Bytes, Period};

    use crate::clock;
    use crate::disk::{DiskFile, DiskIndex, Disks, End};
    use crate::settings::{BackendChoice, DiskSettings};

    struct Room {
        dir: tempfile::TempDir,
        disks: Disks,
        disk: DiskIndex,
        slab: Slab,
    }

    fn room(backend: BackendChoice, writeback_start: u64) -> Room {
        let dir = tempfile::tempdir().unwrap();
        let file = DiskFile::create(&dir.path().join("disk"), Bytes::mib(8), Period::from_secs(1)).unwrap();
        let settings = DiskSettings { backend, ..DiskSettings::default() };
        let mut disks = Disks::new(&settings).unwrap();
        disks.writeback_start = writeback_start;
        let disk = disks.add(file.into()).unwrap();
        Room { dir, disks, disk, slab: Slab::new(32 << 20) }
    }

    impl Room {
        fn run(&mut self, ops: Vec<DiskOp>) -> Vec<End> {
            let mut ends = Vec::new();
            let (mut ops, disk) = (ops, self.disk);
            self.disks.execute(clock::now(), disk, &mut ops, |token, result| ends.push((disk, token, result)));
            assert!(self.disks.drain(Duration::from_secs(20), &mut ends));
            ends
        }

        fn write(&self, token: u64, offset: u64, byte: u8, len: usize) -> DiskOp {
            let data = Payload::from(self.slab.copy_of(&vec![byte; len]).unwrap());
            DiskOp::Write { token: DiskToken(token), offset, data }
        }
    }

    /// The reactor waits for nothing that the page cache has or takes.
    #[test]
    fn what_is_in_the_page_cache_is_done_at_once() {
        let mut room = room(BackendChoice::Auto, 64 << 20);
        let mut ends = Vec::new();
        let buf = room.slab.take(8192).unwrap();
        let mut ops = vec![room.write(1, 4096, 7, 8192), DiskOp::Read { token: DiskToken(2), offset: 4096, buf }];
        room.disks.execute(clock::now(), room.disk, &mut ops, |token, result| ends.push((token, result.unwrap())));
        assert_eq!(room.disks.in_flight(), 0);
        let [(DiskToken(1), DiskDone::Done), (DiskToken(2), DiskDone::Read(buf))] = &ends[..] else {
            panic!("{ends:?}");
        };
        assert!(buf.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn every_operation_ends_once_also_when_much_is_dirty() {
        for backend in [BackendChoice::IoUring, BackendChoice::Threads] {
            let mut room = room(backend, 64 << 10);
            let mut tokens: Vec<u64> = Vec::new();
            for round in 0..6 {
                let base = round * 1000;
                let mut ops: Vec<_> =
                    (0..400).map(|n| room.write(base + n, n % 400 * 16384, round as u8, 16384)).collect();
                ops.push(DiskOp::Sync { token: DiskToken(base + 500) });
                ops.push(DiskOp::Sync { token: DiskToken(base + 501) });
                let data = room.slab.copy_of(&[9; 4096]).unwrap();
                ops.push(DiskOp::WriteDurable { token: DiskToken(base + 503), offset: 7 << 20, data });
                let ends = room.run(ops);
                tokens.extend(ends.iter().map(|(_, token, result)| {
                    assert!(result.is_ok());
                    token.0
                }));
            }
            tokens.sort_unstable();
            let wanted: Vec<u64> =
                (0..6).flat_map(|round| (0..400).chain([500, 501, 503]).map(move |n| round * 1000 + n)).collect();
            assert_eq!(tokens, wanted, "each token of the pool, and none of ours");
        }
    }

    #[test]
    fn a_disk_given_up_can_be_opened_again() {
        let mut room = room(BackendChoice::Auto, 64 << 20);
        assert!(room.run(vec![room.write(1, 0, 1, 4096)])[0].2.is_ok());
        assert!(room.disks.remove(room.disk));
        DiskFile::open(&room.dir.path().join("disk"), Period::from_secs(1)).unwrap();
        assert!(room.run(vec![DiskOp::Sync { token: DiskToken(2) }])[0].2.is_err(), "nobody is there to do it");
    }
}
