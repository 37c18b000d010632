//! Overwrites and reads in the steady state allocate nothing.
//!
//! One test function only: the counter belongs to the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dyad_contract::image::{Reply, Request, Space, Token, Write};
use dyad_payload::{Payload, Sums};
use dyad_pool::{DiskDone, DiskOp};
use dyad_units::{Bytes, Extent, Piece, WriteNumber};

#[allow(dead_code, reason = "shared with the plays, which use all of it")]
#[path = "plays/cast.rs"]
mod cast;

use cast::Bench;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is the test's: the harness has one of its own, which allocates when it likes.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Extents that are written and read.
const EXTENTS: u64 = 64;
/// In flight at once.
const DEPTH: u64 = 32;

struct Load {
    bench: Bench,
    ops: Vec<DiskOp>,
    replies: Vec<(dyad_pool::ImageHandle, Token, Reply)>,
    number: u64,
    data: Payload,
    sums: Sums,
}

impl Load {
    fn new() -> Self {
        // L is large enough for no flush to be due while it is measured.
        let mut bench = Bench::with(64 << 20, 16 << 20, Bytes::gib(1));
        for extent in 0..EXTENTS as u32 {
            bench.write(extent, 0, &[1; 64 * 4096]);
        }
        bench.flush();
        let data = Payload::from(bench.slab.copy_of(&[2; 4096]).unwrap());
        let sums = Sums::of(&data, &bench.slab).unwrap();
        let number = bench.number;
        Self { bench, ops: Vec::new(), replies: Vec::new(), number, data, sums }
    }

    /// A block, another one each time.
    fn piece(nth: u64) -> Piece {
        let place = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Piece::new(Extent((place % EXTENTS) as u32), (place / EXTENTS % 64) as u8, 1).unwrap()
    }

    fn overwrite(&mut self, nth: u64) -> Request {
        self.number += 1;
        Request::Write(Write {
            piece: Self::piece(nth),
            stamp: self.bench.stamp,
            number: WriteNumber::new(self.number),
            settled: WriteNumber::new(self.number - DEPTH),
            data: self.data.clone(),
            sums: self.sums.clone(),
            space: Space::Credit,
        })
    }

    /// The disk does everything and touches nothing; reads find the old content of a buffer, so they are damaged.
    fn run(&mut self, count: u64, request: fn(&mut Self, u64) -> Request) {
        let image = self.bench.image.unwrap();
        let (mut sent, mut done) = (0, 0);
        while done < count {
            while sent < count && sent - done < DEPTH {
                let request = request(self, sent);
                self.bench.pool().submit(image, Token(sent), request);
                sent += 1;
            }
            self.bench.pool().take_disk_ops(&mut self.ops);
            for op in self.ops.drain(..) {
                let token = op.token();
                let result = match op {
                    DiskOp::Read { buf, .. } => DiskDone::Read(buf),
                    _ => DiskDone::Done,
                };
                self.bench.pool.as_mut().unwrap().complete(token, Ok(result));
            }
            self.bench.pool().take_replies(&mut self.replies);
            done += self.replies.drain(..).count() as u64;
        }
    }

    /// Nanoseconds and allocations per request.
    fn measure(&mut self, what: &str, count: u64, request: fn(&mut Self, u64) -> Request) -> usize {
        self.run(count, request);
        let (begun, before) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
        self.run(count, request);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        println!("{what}: {} ns each, {allocations} allocations in {count}", begun.elapsed().as_nanos() as u64 / count);
        allocations
    }
}

#[test]
fn overwrites_and_reads_allocate_nothing() {
    let mut load = Load::new();
    IS_COUNTED.with(|counted| counted.set(true));
    assert_eq!(load.measure("overwrite of a block", 5_000, Load::overwrite), 0);
    let read = |_: &mut Load, nth| Request::Read { piece: Load::piece(nth) };
    assert_eq!(load.measure("read of a block", 5_000, read), 0);
    let unwritten = |_: &mut Load, nth: u64| Request::Read { piece: Piece::whole(Extent(1000 + (nth % 100) as u32)) };
    assert_eq!(load.measure("read of an extent that is not there", 5_000, unwritten), 0);
}
