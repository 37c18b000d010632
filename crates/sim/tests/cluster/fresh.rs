use std::time::{SystemTime, UNIX_EPOCH};

use dyad_sim::cluster::{Campaign, Coverage, Plan};

/// Seeds in each run of the tests.
const SEEDS: u64 = 300;
/// They are shared among so many threads.
const THREADS: u64 = 2;

/// Seeds that nobody tried before: chosen by the hour, or by `DYAD_SIM_FROM`, so that a failure can be repeated.
#[test]
fn fresh_seeds_break_no_rule() {
    let hours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600;
    let from = std::env::var("DYAD_SIM_FROM").map_or(hours * 1000, |from| from.parse().unwrap());
    println!("seeds from {from}; again: cargo xtask sim --from {from} --seeds {SEEDS}");
    let share = |thread: u64| {
        let (mut campaign, mut coverage) = (Campaign::default(), Coverage::default());
        for seed in (from + thread..from + SEEDS).step_by(THREADS as usize) {
            let outcome = campaign.play(Plan::draw(seed), false);
            coverage.add_run(&outcome.coverage);
            if let Some(violation) = outcome.violation {
                panic!("seed {seed}: {violation}\nits story: cargo xtask sim --seed {seed}");
            }
        }
        coverage
    };
    let coverages = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || share(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    for coverage in coverages {
        println!("{coverage}");
    }
}
