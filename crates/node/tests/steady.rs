//! The steady state allocates nothing: a counting allocator watches the data thread while hosts read and write.

mod cast;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use cast::Stage;
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Cdb, Transfer, cdb};

/// Thread whose allocations are counted; 0: none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Whether to say where each allocation comes from: set `DYAD_WHERE` to find one.
static WHERE: AtomicBool = AtomicBool::new(false);

struct Counting;

fn note() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched != 0 && rustix::thread::gettid().as_raw_nonzero().get() == watched {
        COUNT.fetch_add(1, Ordering::Relaxed);
        if WHERE.load(Ordering::Relaxed) {
            WATCHED.store(0, Ordering::Relaxed);
            let place = std::backtrace::Backtrace::force_capture().to_string();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), place.as_bytes());
            WATCHED.store(watched, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The thread with this name.
fn thread_named(name: &str) -> i32 {
    for task in std::fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap) {
        if std::fs::read_to_string(task.path().join("comm")).unwrap().trim() == name {
            return task.file_name().to_str().unwrap().parse().unwrap();
        }
    }
    panic!("no thread `{name}`");
}

/// Keeps 32 commands in flight until `count` are done.
fn run(host: &mut Disk, count: u64, command: impl Fn(u64) -> (Cdb, Transfer)) {
    let session = host.session();
    let mut sent = 0;
    let mut done = 0;
    while done < count {
        while sent < count && session.in_flight() < 32 {
            let (cdb, transfer) = command(sent);
            session.submit(sent, cdb, transfer).unwrap();
            sent += 1;
        }
        assert_eq!(session.wait().unwrap().status, 0);
        done += 1;
    }
}

#[test]
fn a_command_allocates_nothing() {
    WHERE.store(std::env::var_os("DYAD_WHERE").is_some(), Ordering::Relaxed);
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    let scattered = |n: u64| n * 7919 % 8000 * 8;
    let write = |n: u64| (cdb::write(scattered(n), 8), Transfer::Out(vec![n as u8; 4096]));
    let read = |n: u64| (cdb::read(scattered(n), 8), Transfer::In(vec![0; 4096]));
    let large_write = |n: u64| (cdb::write(n % 100 * 512, 512), Transfer::Out(vec![n as u8; 256 << 10]));
    let large_read = |n: u64| (cdb::read(n % 100 * 512, 512), Transfer::In(vec![0; 256 << 10]));
    let mut rounds = |measured: bool| {
        let mut counts = Vec::new();
        for (what, count, command) in [
            ("writes of 4 KiB", 8000, &write as &dyn Fn(u64) -> (Cdb, Transfer)),
            ("reads of 4 KiB", 8000, &read),
            ("writes of 256 KiB", 400, &large_write),
            ("reads of 256 KiB", 400, &large_read),
        ] {
            COUNT.store(0, Ordering::Relaxed);
            WATCHED.store(if measured { thread_named("data") } else { 0 }, Ordering::Relaxed);
            run(&mut host, count, command);
            WATCHED.store(0, Ordering::Relaxed);
            counts.push((what, count, COUNT.load(Ordering::Relaxed)));
        }
        counts
    };
    rounds(false);
    rounds(false);
    let counts = rounds(true);
    println!("{counts:?}");
    // An interval may close meanwhile, and queues may still grow a last time: a few, never one per command.
    let is_few = |&(_, count, allocations): &(&str, u64, u64)| allocations * 50 < count;
    assert!(counts.iter().all(is_few), "{counts:?}");
}
