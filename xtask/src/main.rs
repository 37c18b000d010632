//! `cargo xtask`: everything that a developer or CI runs, under one roof.

mod bench;
mod cargo;
mod chaos;
mod conformance;
mod crash;
mod fuzz;
mod model;
mod mutants;
mod packages;
mod resync;
mod sim;
mod stages;
mod tally;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Tests, proofs and benchmarks of Dyad")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything that CI runs
    Test(stages::Args),
    /// Check what clippy cannot know: lengths, pure rooms, words
    Tidy,
    /// Run libiscsi's test suite
    Conformance(conformance::Args),
    /// Run the end-to-end tests
    E2e,
    /// Simulate whole clusters with faults
    Sim(sim::Args),
    /// Kill the node again and again in the middle of writes
    Crash(crash::Args),
    /// Break nodes, links and disks again and again under a host that remembers
    Chaos(chaos::Args),
    /// Compare with tgt, side by side
    Bench(bench::Args),
    /// Measure what crosses the link when an image comes back, how fast, and what hosts notice
    Resync(resync::Args),
    /// Feed random bytes to everything that parses bytes from outside
    Fuzz(fuzz::Args),
    /// Search every interleaving of small cases (model checker)
    Model(model::Args),
    /// Break each rule on purpose and see whether the simulator notices
    Mutants(mutants::Args),
    /// Install the Debian packages that tests and benchmarks need
    Packages,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    std::env::set_current_dir(cargo::root())?;
    let tally = match cli.command {
        Command::Test(args) => stages::run(&args),
        Command::Tidy => tidy::run(),
        Command::Conformance(args) => conformance::run(&args),
        Command::E2e => stages::end_to_end(),
        Command::Crash(args) => crash::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        // The load generator runs in this process: an unoptimized one would measure itself.
        Command::Bench(args) if cfg!(debug_assertions) && !args.debug => return cargo::again_in_release(),
        Command::Resync(args) if cfg!(debug_assertions) && !args.debug => return cargo::again_in_release(),
        Command::Resync(args) => resync::run(&args),
        Command::Bench(args) => return bench::run(&args),
        Command::Packages => return packages::install(packages::Need::Bench).map(drop),
    }?;
    println!("{tally}");
    if tally.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}
