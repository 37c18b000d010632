//! Whole runs with everything drawn by seed. `DYAD_SEEDS` asks for more of them than the usual few.

use dyad_sim::campaign::{Summary, run_seed};

const SEEDS: u64 = 60;

#[test]
fn random_runs_keep_every_rule() {
    let seeds = std::env::var("DYAD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut total = Summary::default();
    for seed in 0..seeds {
        match run_seed(seed, false) {
            Ok(summary) => total = total.plus(summary),
            Err(finding) => panic!("seed {seed}: {} (tell: dyad-sim pool --from {seed} --seeds 1)", finding.violation),
        }
    }
    assert!(
        total.process_crashes > seeds / 2 && total.power_cuts > seeds / 2 && total.troubles > seeds / 4,
        "{total:?}"
    );
}
