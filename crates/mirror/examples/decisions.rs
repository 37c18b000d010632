//! How many writes one core decides in a second, without any I/O: `cargo run --release -p dyad-mirror --example decisions`.
//!
//! Images answer at once. A write is an operation taken in, sent to every image, acknowledged by all, and answered.
//! What counts is the time on the processor, so that a machine that is shared does not matter.

#[path = "../tests/instant/mod.rs"]
mod instant;

use std::time::{Duration, Instant};

use dyad_contract::volume::VolumeOp;
use instant::{Host, Owner, Parts};

/// Operations under way at once.
const DEPTH: u64 = 32;
/// Per line of the table.
const OPS: u64 = 1_000_000;

fn main() {
    println!("{:<52}{:>16}{:>12}", "", "operations/s", "ns each");
    for images in [1, 2, 3] {
        let mut owner = Owner::serving(images);
        let mut host = Host::new(&owner.slab);
        measure(&format!("mirror, {images} images: writes of 4 KiB"), || {
            owner.batch((0..DEPTH).map(|_| host.write()));
        });
        let mut host = Host::new(&owner.slab);
        measure(&format!("mirror, {images} images: reads of 4 KiB"), || {
            owner.batch((0..DEPTH).map(|_| host.read()));
        });
    }
    let mut parts = Parts::serving();
    let mut host = Host::new(&parts.slab);
    let owner = parts.owner().expect("it serves");
    for (at, name) in [(owner, "at the owner"), (2, "forwarded")] {
        measure(&format!("three parts, 2 images: writes of 4 KiB {name}"), || {
            parts.batch(at, (0..DEPTH).map(|_| host.write()));
        });
    }
    let since = spent();
    let mut host = Host::new(&parts.slab);
    for _ in 0..OPS {
        let VolumeOp::Write { data, .. } = host.write() else { unreachable!() };
        std::hint::black_box(data.block_sums().next());
    }
    let nanos = (spent() - since).as_nanos() as u64 / OPS;
    println!("of that, the checksum of {} bytes (P7): {nanos} ns", instant::BLOCK);
}

fn measure(name: &str, mut batch: impl FnMut()) {
    (0..1000).for_each(|_| batch()); // its memory, and the processor's
    let since = spent();
    for _ in 0..OPS / DEPTH {
        batch();
    }
    let nanos = (spent() - since).as_nanos() as u64;
    println!("{name:<52}{:>16}{:>12}", OPS * 1_000_000_000 / nanos, nanos / OPS);
}

/// How long this thread ran; where the system does not say, how long it is since the first call.
fn spent() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = stat.and_then(|stat| stat.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
}
