//! The mirror over real pools: crashes, power cuts, failing disks and changed bytes, as a host sees them.

use dyad_sim::disk::{Fault, Kind};
use dyad_sim::mirrored::Mirrored;
use dyad_sim::mirrored::campaign::{draw_cast, live_through};
use dyad_sim::model::Crash;
use dyad_sim::player::Stop;
use dyad_sim::rng::Rng;

const SEEDS: u64 = 25;

fn seeds() -> impl Iterator<Item = u64> {
    0..std::env::var("DYAD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

fn must<T>(result: Result<T, Stop>, seed: u64) -> T {
    result.unwrap_or_else(|stop| panic!("seed {seed}: {stop:?}"))
}

fn live_through_all(crashes: &[Crash], salt: u64) {
    for seed in seeds().map(|seed| seed + salt) {
        if let Err(finding) = live_through(seed, crashes, false) {
            panic!("seed {seed}: {} (tell: dyad-sim mirrored --from {seed} --seeds 1)", finding.violation);
        }
    }
}

/// A1: every acknowledged write is there, both images are equal.
#[test]
fn a_crash_of_the_process_loses_nothing_and_leaves_equal_images() {
    live_through_all(&[Crash::Process], 1 << 20);
}

/// A2, A5: every flushed write is there; the others old or new, on both images alike.
#[test]
fn a_power_cut_loses_nothing_flushed_and_leaves_equal_images() {
    live_through_all(&[Crash::Power], 2 << 20);
}

#[test]
fn crashes_of_both_kinds_in_any_order_leave_equal_images() {
    live_through_all(&[Crash::Process, Crash::Power], 0);
}

/// A3, M8: one disk fails; the host notices nothing, and after a crash the good image serves.
#[test]
fn a_failing_disk_is_taken_out_and_costs_nothing() {
    for seed in seeds() {
        let mut rng = Rng::new(seed ^ 4);
        let mut mirrored = must(Mirrored::new(draw_cast(&mut rng), seed), seed);
        must(mirrored.run(2000, |_| Ok(())), seed);
        let kind = [Kind::Write, Kind::Durable, Kind::Sync][rng.index(3)];
        let bad = rng.index(2);
        mirrored.disk(bad).order(Fault { kind, after: rng.below(30), times: u64::MAX });
        must(mirrored.run(8000, |_| Ok(())), seed);
        must(mirrored.inspect(), seed);
        let crash = if rng.chance(1, 2) { Crash::Power } else { Crash::Process };
        let mut wreck = mirrored.crash(crash, &mut rng);
        wreck.sides.iter_mut().for_each(|(disk, _)| disk.repair());
        let mut mirrored = must(wreck.start(&mut rng), seed);
        must(mirrored.run(2000, |_| Ok(())), seed);
        must(mirrored.inspect(), seed);
    }
}

/// P7, P14: bytes of one image change while it is served; the host reads right data, and the image is healed.
#[test]
fn changed_bytes_of_one_image_are_healed_from_the_other() {
    let mut healed = 0;
    for seed in seeds() {
        let mut rng = Rng::new(seed ^ 5);
        let mut mirrored = must(Mirrored::new(draw_cast(&mut rng), seed), seed);
        must(mirrored.run(5000, |_| Ok(())), seed);
        must(mirrored.rest(), seed);
        let size = mirrored.disk(0).len_bytes();
        for _ in 0..400 {
            // The last part of the disk: slots.
            let at = size / 3 + rng.below(size - size / 3);
            mirrored.disk(0).flip(at, 1 << rng.below(8));
        }
        must(mirrored.run(5000, |_| Ok(())), seed);
        must(mirrored.rest(), seed);
        must(mirrored.read_twice(), seed);
        healed += mirrored.status().counters.healed;
    }
    assert!(healed > 10, "only {healed} blocks were healed");
}

/// A stop in good order leaves nothing to compare and nothing marked.
#[test]
fn a_segment_that_was_stopped_starts_without_anything_to_compare() {
    for seed in seeds() {
        let mut rng = Rng::new(seed ^ 6);
        let mut mirrored = must(Mirrored::new(draw_cast(&mut rng), seed), seed);
        must(mirrored.run(3000, |_| Ok(())), seed);
        must(mirrored.stop(), seed);
        let mut mirrored = must(mirrored.crash(Crash::Power, &mut rng).start(&mut rng), seed);
        must(mirrored.inspect(), seed);
        let counters = mirrored.status().counters;
        assert_eq!((counters.adopted, counters.mended), (0, 0), "seed {seed}");
    }
}
