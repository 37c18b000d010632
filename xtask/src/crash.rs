//! `cargo xtask crash`: kill -9 in the middle of writes, again and again; every acknowledged write must be there.

use dyad_e2e::crash::{self, Plan};

use crate::cargo;
use crate::tally::Tally;

/// Rounds in CI.
const CI_ROUNDS: u32 = 30;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// How often to kill
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Seed of the work and of the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kill the release build instead of the one that tests use
    #[arg(long)]
    release: bool,
}

pub fn in_ci() -> anyhow::Result<Tally> {
    run(&Args { rounds: CI_ROUNDS, seed: 1, release: false })
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    cargo::use_dyad(args.release)?;
    let plan = Plan { rounds: args.rounds, seed: args.seed, ..Plan::default() };
    let mut rounds = 0;
    let outcome = crash::run(&plan, |round, campaign| {
        rounds = u64::from(round);
        if round % 10 == 0 || round == plan.rounds {
            println!("{round} kills, {} writes acknowledged, none lost", campaign.writes);
        }
    });
    let mut tally = Tally { passed: rounds, ..Tally::default() };
    match outcome {
        Ok(campaign) => println!(
            "{} kills: {} writes acknowledged and present, {} unanswered; slowest start {:?}",
            campaign.kills, campaign.writes, campaign.unanswered, campaign.slowest_start
        ),
        Err(error) => {
            println!("error: {error:?}");
            tally.failed = 1;
        }
    }
    Ok(tally)
}
