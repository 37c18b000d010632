//! `cargo xtask mutants`: breaks one rule after the other, each in a scratch copy of the tree, and has the simulator find
//! out. A mutant that survives means that the simulator is too weak.
//!
//! ```text
//!  tracked files ──▶ scratch copy ──▶ unmutated: must pass all seeds
//!                        │ ▲
//!        git apply NN.patch │ restore
//!                        ▼ │
//!                    build, run from several fresh starts until a rule is seen broken
//! ```

mod copy;
mod hunt;
mod passed;
mod patch;

use std::path::PathBuf;
use std::time::Instant;

use crate::cargo;
use crate::tally::Tally;
use copy::Copy;
use hunt::{Mix, Simulator, Sought};
use passed::Passed;
use patch::Patch;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only mutants whose name contains this (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Seeds within which each has to be caught, from each start
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// How many fresh starts
    #[arg(long, default_value_t = 5)]
    starts: u64,
    /// The first seed of the first start; the starts follow each other
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only apply and build
    #[arg(long)]
    dry: bool,
}

/// What became of one mutant.
struct Report {
    patch: Patch,
    /// Seeds until it was caught, per start; none: it survived.
    caught: Vec<Option<u64>>,
    /// How it was caught first.
    how: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    let begin = Instant::now();
    let mut patches = patch::all()?;
    patches.retain(|patch| args.only.is_empty() || args.only.iter().any(|name| patch.name.contains(name.as_str())));
    anyhow::ensure!(!patches.is_empty(), "no mutant has such a name; see mutants/");
    let copy = Copy::make(&scratch())?;
    let mut tally = Tally::default();
    let sound = if args.dry { Passed::default() } else { check_unmutated(args, &patches, &copy, &mut tally)? };
    let mut reports = Vec::new();
    for patch in patches {
        match try_one(args, patch, &copy, &sound) {
            Ok(report) => {
                tally += Tally::one(report.is_caught());
                println!("{}", report.line());
                reports.push(report);
            }
            Err(error) => {
                println!("error: {error:#}");
                tally += Tally::one(false);
            }
        }
    }
    print_table(&reports);
    println!("{} mutants in {} s", reports.len(), begin.elapsed().as_secs());
    Ok(tally)
}

/// Where the copy and what is built from it lie.
fn scratch() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| cargo::root().join("target"), PathBuf::from);
    target.join("mutants")
}

/// The unmutated code has to pass every seed, else a catch says nothing. Seeds that it does not pass are told, count as
/// a failure, and nothing is caught at them.
fn check_unmutated(args: &Args, patches: &[Patch], copy: &Copy, tally: &mut Tally) -> anyhow::Result<Passed> {
    let simulator = Simulator::build(copy)?;
    let mut sound = Passed::load(copy)?;
    for mix in Mix::ALL.into_iter().filter(|mix| patches.iter().any(|patch| patch.mix == *mix)) {
        let (from, seeds) = (args.from, args.seeds * args.starts);
        if !sound.has(mix, from, seeds) {
            let failed = simulator.all_failing(mix, from, seeds)?;
            sound.note(mix, from, seeds, &failed)?;
        }
        let failed = sound.failing(mix, from, seeds);
        println!("unmutated, {mix}: {seeds} seeds from {from}, {} not passed {failed:?}", failed.len());
        *tally += Tally::one(failed.is_empty());
    }
    Ok(sound)
}

fn try_one(args: &Args, patch: Patch, copy: &Copy, sound: &Passed) -> anyhow::Result<Report> {
    let mut report = Report { caught: Vec::new(), how: None, patch };
    let applied = copy.apply(&report.patch)?;
    let simulator = Simulator::build(copy)?;
    if !args.dry {
        for start in 0..args.starts {
            let from = args.from + start * args.seeds;
            let sought = Sought { mix: report.patch.mix, from, seeds: args.seeds };
            let found = simulator.first_failing(&sought, |seed| sound.fails(sought.mix, seed))?;
            report.caught.push(found.as_ref().map(|found| found.seed - from + 1));
            let Some(found) = found else { break }; // it survived: further starts would not change that
            report.how = report.how.take().or(Some(found.violation));
        }
    }
    applied.undo()?;
    Ok(report)
}

impl Report {
    fn is_caught(&self) -> bool {
        self.caught.iter().all(Option::is_some)
    }

    /// Seeds that half of the starts needed at most; one that survived counts as endless.
    fn median(&self) -> Option<u64> {
        let mut sorted: Vec<_> = self.caught.iter().map(|caught| caught.unwrap_or(u64::MAX)).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().filter(|&seeds| seeds != u64::MAX)
    }

    fn starts(&self) -> String {
        let words = self.caught.iter().map(|caught| caught.map_or("-".to_owned(), |seeds| seeds.to_string()));
        words.collect::<Vec<_>>().join(", ")
    }

    fn line(&self) -> String {
        let (name, rule) = (&self.patch.name, &self.patch.rule);
        let verdict = match self.caught.len() {
            0 => "applies and builds".to_owned(),
            _ if self.is_caught() => format!("caught at {}", self.starts()),
            _ => format!("SURVIVED {}", self.starts()),
        };
        format!("{name} ({rule}): {verdict}: {}", self.how.as_deref().map_or("", hunt::beginning))
    }
}

/// As docs/proof.md wants it.
fn print_table(reports: &[Report]) {
    println!("\n| mutant | rule | mix | seeds until caught, median | each start |\n|---|---|---|---|---|");
    for report in reports {
        let Patch { name, rule, mix, .. } = &report.patch;
        let median = report.median().map_or("-".to_owned(), |seeds| seeds.to_string());
        println!("| {name} | {rule} | {mix} | {median} | {} |", report.starts());
    }
    println!();
}
