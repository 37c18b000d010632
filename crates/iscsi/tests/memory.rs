//! What a connection costs in memory: nothing per command in the steady state, little before login.
//!
//! One test function only: the counters belong to the whole process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Pair, pattern};
use dyad_iscsi::{Event, Settings};
use dyad_payload::{Buf, Payload};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is the test's: the harness has one of its own, which allocates when it likes.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_COUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if IS_COUNTED.get() {
            BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes of a queue of commands: 4 KiB reads, and 4 KiB writes with immediate data.
fn queue(pair: &mut Pair, write: bool, depth: usize) -> Vec<u8> {
    let one = |pair: &mut Pair| {
        let command = pair.command(!write, write, 4096);
        pair.encode(command.emit(), if write { &[7; 4096] } else { &[] })
    };
    (0..depth).flat_map(|_| one(pair)).collect()
}

/// Receives a queue, answers it, sends the answers.
fn serve(pair: &mut Pair, input: Buf, block: &Buf) -> usize {
    let mut served = 0;
    pair.connection.receive(pair.now, input);
    while let Some(event) = pair.connection.poll_event() {
        match event {
            Event::Command(command) if command.write => pair.connection.solicit(command.task, 4096),
            Event::Command(command) => {
                pair.connection.respond(command.task, 0, &[], Payload::from(block.clone()));
                served += 1;
            }
            Event::DataOut { task, data } => {
                assert_eq!(data.len(), 4096);
                pair.connection.respond(task, 0, &[], Payload::new());
                served += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    while pair.connection.wants_output() {
        let mut slices = [IoSlice::new(&[]); 64];
        let count = pair.connection.gather(&mut slices);
        let bytes = slices[..count].iter().map(|slice| slice.len()).sum();
        pair.connection.transmitted(pair.now, bytes);
    }
    served
}

fn commands_allocate_nothing() {
    for offers in [&[][..], &["HeaderDigest=CRC32C", "DataDigest=CRC32C"]] {
        let mut pair = Pair::logged_in_with(Settings::default(), offers);
        let block = pair.slab.copy_of(&pattern(4096)).unwrap();
        // Everything that is sent exists before anything is counted.
        let rounds: Vec<Buf> = (0..40)
            .map(|round| {
                let bytes = queue(&mut pair, round % 2 == 0, 32);
                pair.slab.copy_of(&bytes).unwrap()
            })
            .collect();
        let (first, rest) = rounds.split_at(8);
        for input in first {
            serve(&mut pair, input.clone(), &block);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let served: usize = rest.iter().map(|input| serve(&mut pair, input.clone(), &block)).sum();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!((served, allocations), (32 * 32, 0), "{offers:?}");
    }
}

/// 10,000 half-open logins must fit in 64 MiB together with what the node keeps for each.
fn half_open_logins_are_small() {
    const COUNT: usize = 1000;
    let partial = {
        let pair = Pair::new(Settings::default());
        let mut header = pair.login_header(dyad_iscsi::pdu::Stage::Operational, None).emit();
        header.set_data_len(8192);
        // A name, keys nobody knows, and a value that never ends: the most that is kept.
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(format!("InitiatorName={}\0", "n".repeat(223)).bytes());
        (0..16).for_each(|at| bytes.extend(format!("X-{at:060}=v\0").bytes()));
        bytes.extend(b"CHAP_C=0x");
        bytes.extend([b'0'; 2200]);
        bytes
    };
    for input in [&[][..], &partial[..20], &partial] {
        let slab = dyad_payload::Slab::new(1 << 20);
        let buf = slab.copy_of(if input.is_empty() { &[0] } else { input }).unwrap();
        let settings = std::sync::Arc::new(Settings::default());
        let now = dyad_units::Moment::START;
        let mut connections = Vec::with_capacity(COUNT);
        let before = BYTES.load(Ordering::Relaxed);
        for _ in 0..COUNT {
            let mut connection = dyad_iscsi::Connection::new(settings.clone(), now);
            if !input.is_empty() {
                connection.receive(now, buf.clone());
            }
            assert!(connection.poll_event().is_none());
            assert!(connection.wants_input());
            connections.push(connection);
        }
        let heap = (BYTES.load(Ordering::Relaxed) - before) / COUNT;
        let each = heap + size_of::<dyad_iscsi::Connection>();
        println!("{} bytes received: {each} bytes kept", input.len());
        assert!(each <= if input.len() < 48 { 3072 } else { 8192 }, "{each} bytes for a half-open login");
        // None of them keeps the receive buffer.
        drop((connections, buf));
        assert_eq!(slab.usage().bytes_total, slab.usage().bytes_free);
    }
}

#[test]
fn memory() {
    IS_COUNTED.set(true);
    commands_allocate_nothing();
    half_open_logins_are_small();
}
