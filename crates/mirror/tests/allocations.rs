//! The steady state allocates nothing: a heap that is short, slow or locked must not be in the way of a host's command.
//!
//! Counted per thread: what a test's runner does is none of ours.

mod instant;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use dyad_contract::volume::VolumeOp;
use instant::{Host, Owner, Parts};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn counted() {
    // While a thread ends there is nothing to count in.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is left to the system's allocator; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

const WARM_UP: usize = 200;
const ROUNDS: usize = 200;
const DEPTH: usize = 16;

/// How often the heap was asked while `round` was played, after it was played often enough to have its memory.
fn count(mut round: impl FnMut()) -> u64 {
    (0..WARM_UP).for_each(|_| round());
    let before = ALLOCATIONS.get();
    (0..ROUNDS).for_each(|_| round());
    ALLOCATIONS.get() - before
}

#[test]
fn the_steady_state_allocates_nothing() {
    let is_counted = count(|| drop(std::hint::black_box(Box::new(1_u8))));
    assert_eq!(is_counted, ROUNDS as u64, "the counter counts");

    for images in 1..=2 {
        let mut owner = Owner::serving(images);
        let mut host = Host::new(&owner.slab);
        assert_eq!(count(|| owner.batch((0..DEPTH).map(|_| host.write()))), 0, "writes, {images} images");
        assert_eq!(count(|| owner.batch((0..DEPTH).map(|_| host.read()))), 0, "reads, {images} images");
        assert_eq!(count(|| owner.batch(std::iter::once(VolumeOp::Flush))), 0, "flushes, {images} images");
        assert_eq!(owner.answers, ((WARM_UP + ROUNDS) * (2 * DEPTH + 1)) as u64);
    }

    let mut parts = Parts::serving();
    let mut host = Host::new(&parts.slab);
    let owner = parts.owner().unwrap();
    for (at, whose) in [(owner, "owner's"), (1 - owner, "another image's node"), (2, "node without an image")] {
        assert_eq!(count(|| parts.batch(at, (0..DEPTH).map(|_| host.write()))), 0, "writes by the {whose} session");
        assert_eq!(count(|| parts.batch(at, (0..DEPTH).map(|_| host.read()))), 0, "reads by the {whose} session");
        assert_eq!(count(|| parts.batch(at, std::iter::once(VolumeOp::Flush))), 0, "flushes by the {whose} session");
    }
    assert_eq!(parts.answers, (3 * (WARM_UP + ROUNDS) * (2 * DEPTH + 1)) as u64);
}
