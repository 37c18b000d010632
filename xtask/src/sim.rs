//! `cargo xtask sim`: whole clusters, simulated; exit code 1 and the story of the first violation.

use std::process::{Command, ExitStatus};

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
    /// Write down what ran and what it saw; entries add up while the code of mirror, cluster, pool and sim is the same
    #[arg(long, value_name = "FILE")]
    campaign: Option<String>,
    /// Add up what is written in this file for the present code
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "seed", "campaign"])]
    sum: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let mut options = vec!["--keep-going".to_owned(), yes(args.keep_going)];
    let mut add = |name: &str, value: String| options.extend([name.to_owned(), value]);
    if let Some(file) = &args.sum {
        add("--sum", file.clone());
    } else if let Some(seed) = args.seed {
        add("--seed", seed.to_string());
        add("--story", yes(args.story));
    } else {
        add("--seeds", args.seeds.to_string());
        add("--from", args.from.to_string());
    }
    if let Some(file) = &args.campaign {
        add("--campaign", file.clone());
        add("--commit", commit()?);
    }
    Ok(Tally::one(simulate(&options)?.success()))
}

fn simulate(options: &[String]) -> anyhow::Result<ExitStatus> {
    let mut command = cargo::command();
    command.args(["run", "--release", "--quiet", "-p", "dyad-sim", "--", "cluster"]).args(options);
    command.status().context("cannot start cargo")
}

/// The commit that is checked out.
fn commit() -> anyhow::Result<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().context("cannot start git")?;
    anyhow::ensure!(output.status.success(), "git does not know which commit this is");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
