use std::process::Command;

/// What one process makes of a seed.
fn trace(seed: u64) -> String {
    let binary = env!("CARGO_BIN_EXE_dyad-sim");
    let output = Command::new(binary).args(["cluster", "--seed", &seed.to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find(|line| line.starts_with("trace ")).expect("a seed has a trace").to_owned()
}

/// One seed reproduces a run bit for bit, in any process: nothing depends on addresses, hash seeds, time or threads.
#[test]
fn a_seed_means_the_same_in_every_process() {
    let traces: Vec<String> = (0..12).map(trace).collect();
    for (seed, known) in (0..).zip(&traces) {
        assert_eq!(trace(seed), *known, "seed {seed}");
        assert_eq!(traces.iter().filter(|other| *other == known).count(), 1, "traces tell runs apart");
    }
}

/// In one process too, whatever ran before.
#[test]
fn a_seed_means_the_same_after_other_seeds() {
    use dyad_sim::cluster::{Campaign, Plan};
    let alone = Campaign::default().play(Plan::draw(5), false).trace;
    let mut campaign = Campaign::default();
    (0..5).for_each(|seed| drop(campaign.play(Plan::draw(seed), false)));
    assert_eq!(campaign.play(Plan::draw(5), true).trace, alone, "a story changes nothing either");
}
