//! `cargo xtask sim`: whole clusters, simulated; exit code 1 and the story of the first violation.

use std::process::ExitStatus;

use anyhow::Context as _;

use crate::cargo;
use crate::tally::Tally;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this seed; prints the hash of all that happened
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// With --seed: tell what happened, whatever came of it
    #[arg(long, requires = "seed")]
    story: bool,
    /// Go on after a violation
    #[arg(long)]
    keep_going: bool,
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let options = match args.seed {
        Some(seed) => vec!["--seed".to_owned(), seed.to_string(), "--story".to_owned(), yes(args.story)],
        None => vec![
            "--seeds".to_owned(),
            args.seeds.to_string(),
            "--from".to_owned(),
            args.from.to_string(),
            "--keep-going".to_owned(),
            yes(args.keep_going),
        ],
    };
    Ok(Tally::one(simulate(&options)?.success()))
}

fn simulate(options: &[String]) -> anyhow::Result<ExitStatus> {
    let mut command = cargo::command();
    command.args(["run", "--release", "--quiet", "-p", "dyad-sim", "--", "cluster"]).args(options);
    command.status().context("cannot start cargo")
}
