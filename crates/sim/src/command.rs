//! `dyad-sim cluster`: campaigns of whole clusters, and single seeds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::cluster::{Campaign, Outcome, Plan, campaign};
use crate::record::{self, Entry, SEEDS_PER_ENTRY, Sum};

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
    /// Where the campaign is written down.
    pub file: Option<PathBuf>,
    /// Which commit ran, for that.
    pub commit: String,
    /// Only add up what is written in the file.
    pub sums: bool,
}

/// Runs and prints; failure if a rule was broken.
pub fn run(asked: &Asked) -> ExitCode {
    match (asked.seed, &asked.file) {
        (Some(seed), _) => run_one(seed, asked.tells),
        (None, Some(file)) if asked.sums => sum(file),
        (None, _) => run_many(asked),
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
    println!("code {}", record::CODE);
    let mut runs = Runs { campaign: Campaign::default(), total: Entry { from: asked.from, ..Entry::default() } };
    let until = asked.from.saturating_add(asked.seeds);
    let mut from = asked.from;
    while from < until {
        let piece = (from, until.min(from.saturating_add(SEEDS_PER_ENTRY)));
        let entry = runs.play(asked, piece);
        if let Some(file) = &asked.file
            && let Err(error) = entry.append(file, &asked.commit)
        {
            eprintln!("cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
        if runs.total.violations > 0 && !asked.keeps_going {
            break;
        }
        from = piece.1;
    }
    let Entry { seeds, violations, ops, events, seconds, coverage, .. } = runs.total;
    println!("{coverage}");
    println!(
        "{seeds} seeds from {}: {violations} violations; {ops} host operations ({:.0} a second), {events} events, \
         {seconds:.1} s",
        asked.from,
        ops as f64 / seconds.max(0.001)
    );
    if let Some(shortfall) = coverage.shortfall() {
        println!("{shortfall}");
        return ExitCode::FAILURE;
    }
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A campaign under way.
struct Runs {
    campaign: Campaign,
    total: Entry,
}

impl Runs {
    /// Plays the seeds from the first to the one before the second; ends at the first violation unless asked otherwise.
    fn play(&mut self, asked: &Asked, (from, until): (u64, u64)) -> Entry {
        let begin = Instant::now();
        let mut entry = Entry { from, ..Entry::default() };
        for seed in (from..until).step_by(asked.step.max(1) as usize) {
            let Outcome { violation, answered, events, coverage, .. } = self.campaign.play(Plan::draw(seed), false);
            entry.coverage.add_run(&coverage);
            self.total.coverage.add_run(&coverage);
            (entry.seeds, entry.ops, entry.events) = (entry.seeds + 1, entry.ops + answered, entry.events + events);
            if let Some(violation) = violation {
                entry.violations += 1;
                println!("seed {seed}: {violation}");
                if self.total.violations + entry.violations == 1 {
                    tell_smallest(&mut self.campaign, seed);
                }
                if !asked.keeps_going {
                    break;
                }
            }
        }
        entry.seconds = begin.elapsed().as_secs_f64();
        let total = &mut self.total;
        (total.seeds, total.violations) = (total.seeds + entry.seeds, total.violations + entry.violations);
        (total.ops, total.events) = (total.ops + entry.ops, total.events + entry.events);
        total.seconds += entry.seconds;
        entry
    }
}

/// What the file's entries of the present code come to.
pub fn sum(file: &Path) -> ExitCode {
    match Sum::read(file, record::CODE) {
        Ok(sum) => {
            println!("{}", sum.tell());
            if sum.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("cannot read {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
