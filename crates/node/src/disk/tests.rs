//! Both backends against a model: what was written is read, whatever order the kernel chooses.

use std::sync::Arc;
use std::time::Duration;

use dyad_payload::{Payload, Slab};
use dyad_units::{Bytes, Period};

use super::engine::Engine;
use super::file::DiskFile;
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
        let job = Job { file: self.file.clone(), disk: 0, tag: self.next, work, done: 0 };
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
                    bench.start(Work::Discard { at: offset, len: (pages * PAGE) as u64 });
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
        let job = Job { file: bench.file.clone(), disk: 0, tag: 0, work: Work::Sync, done: 0 };
        refused += usize::from(bench.engine.start(job).is_err());
    }
    assert_eq!(refused, 10);
    assert_eq!(bench.drain().len(), super::ring::DEPTH);
}
