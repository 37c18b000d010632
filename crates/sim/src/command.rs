//! `dyad-sim cluster`: campaigns of whole clusters, and single seeds.

use std::process::ExitCode;
use std::time::Instant;

use crate::cluster::{Campaign, Coverage, Outcome, Plan, campaign};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Only this one, with its trace.
    pub seed: Option<u64>,
    /// So many.
    pub seeds: u64,
    /// The first.
    pub from: u64,
    /// Only each so-many-th: several processes share a campaign.
    pub step: u64,
    /// Whether to go on after a violation.
    pub keeps_going: bool,
    /// Whether to print the story of a single seed that breaks nothing.
    pub tells: bool,
}

/// Runs and prints; failure if a rule was broken.
pub fn run(asked: &Asked) -> ExitCode {
    match asked.seed {
        Some(seed) => run_one(seed, asked.tells),
        None => run_many(asked),
    }
}

fn run_one(seed: u64, tells: bool) -> ExitCode {
    let mut campaign = Campaign::default();
    let outcome = campaign.play_told(Plan::draw(seed), tells, tells);
    if tells {
        campaign::tell(&Plan::draw(seed)).iter().chain(&outcome.story).for_each(|line| println!("{line}"));
    }
    println!("trace {:016x}", outcome.trace);
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {seed}: {violation}");
            if !tells {
                tell_smallest(&mut campaign, seed);
            }
            ExitCode::FAILURE
        }
    }
}

/// The story of a failing seed with as little in it as still fails.
fn tell_smallest(campaign: &mut Campaign, seed: u64) {
    let small = campaign.shrink(Plan::draw(seed));
    let outcome = campaign.play(small.clone(), true);
    println!("the smallest run found that breaks a rule:");
    campaign::tell(&small).iter().for_each(|line| println!("    {line}"));
    outcome.story.iter().for_each(|line| println!("    {line}"));
    if let Some(violation) = outcome.violation {
        println!("    violation: {violation}");
    }
}

fn run_many(asked: &Asked) -> ExitCode {
    let begin = Instant::now();
    let mut campaign = Campaign::default();
    let mut total = Coverage::default();
    let (mut runs, mut failures, mut answered, mut events) = (0_u64, 0_u64, 0_u64, 0_u64);
    for seed in (asked.from..asked.from.saturating_add(asked.seeds)).step_by(asked.step.max(1) as usize) {
        let Outcome { violation, answered: some, events: more, coverage, .. } = campaign.play(Plan::draw(seed), false);
        total.add_run(&coverage);
        (runs, answered, events) = (runs + 1, answered + some, events + more);
        if let Some(violation) = violation {
            failures += 1;
            println!("seed {seed}: {violation}");
            if failures == 1 {
                tell_smallest(&mut campaign, seed);
            }
            if !asked.keeps_going {
                break;
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64().max(0.001);
    println!("{total}");
    println!(
        "{runs} seeds from {}: {failures} violations; {answered} host operations ({:.0} a second), {events} events, {seconds:.1} s",
        asked.from,
        answered as f64 / seconds
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
