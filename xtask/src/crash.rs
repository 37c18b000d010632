//! `cargo xtask crash`: kill -9 in the middle of writes, again and again; every acknowledged write must be there.

use crate::tally::Tally;

/// Rounds in CI.
const CI_ROUNDS: u32 = 10;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// How often to kill
    #[arg(long, default_value_t = 200)]
    rounds: u32,
}

pub fn in_ci() -> anyhow::Result<Tally> {
    run(&Args { rounds: CI_ROUNDS })
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    anyhow::bail!("the binary cannot be started yet, so it cannot be killed {} times", args.rounds)
}
