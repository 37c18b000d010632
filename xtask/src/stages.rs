//! `cargo xtask test`: the stages in order, cheap ones first.

use std::time::Instant;

use crate::packages::{self, Need};
use crate::tally::Tally;
use crate::{cargo, conformance, crash, fuzz, tidy};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run only these stages (may be repeated)
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
    /// List the stages and end
    #[arg(long)]
    list: bool,
}

struct Stage {
    name: &'static str,
    about: &'static str,
    run: fn() -> anyhow::Result<Tally>,
}

const STAGES: [Stage; 10] = [
    Stage { name: "format", about: "rustfmt changes nothing", run: format },
    Stage { name: "tidy", about: "lengths, pure rooms, words", run: tidy::run },
    Stage { name: "clippy", about: "no warning in any target", run: clippy },
    Stage { name: "unit", about: "unit, property, simulation and crash tests", run: unit },
    Stage { name: "doctest", about: "examples in the documentation", run: doctest },
    Stage { name: "doc", about: "the documentation builds without a warning", run: doc },
    Stage { name: "fuzz", about: "random bytes, for a few seconds each", run: fuzz::smoke },
    Stage { name: "e2e", about: "the real binary with real clients", run: end_to_end },
    Stage { name: "conformance", about: "libiscsi's test suite", run: conformance::in_ci },
    Stage { name: "crash", about: "kill -9 in the middle of writes", run: crash::in_ci },
];

/// Crate of the end-to-end tests; they need the binary and the packages, and have a stage of their own.
const E2E: &str = "dyad-e2e";

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    if args.list {
        for stage in &STAGES {
            println!("{:12} {}", stage.name, stage.about);
        }
        return Ok(Tally::default());
    }
    for name in &args.only {
        anyhow::ensure!(
            STAGES.iter().any(|stage| stage.name == name),
            "there is no stage {name:?}; see `cargo xtask test --list`"
        );
    }
    let wanted = |stage: &&Stage| args.only.is_empty() || args.only.iter().any(|name| name == stage.name);
    let mut total = Tally::default();
    let mut lines = Vec::new();
    for stage in STAGES.iter().filter(wanted) {
        println!("\n=== {}: {}", stage.name, stage.about);
        let begin = Instant::now();
        let tally = (stage.run)().unwrap_or_else(|error| {
            println!("error: {error:?}");
            Tally::one(false)
        });
        total += tally;
        lines.push(format!("{:12} {tally} in {} s", stage.name, begin.elapsed().as_secs()));
    }
    println!("\n{}", lines.join("\n"));
    Ok(total)
}

fn format() -> anyhow::Result<Tally> {
    cargo::check(&["fmt", "--all", "--check"], &[])
}

fn clippy() -> anyhow::Result<Tally> {
    cargo::check(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
}

fn unit() -> anyhow::Result<Tally> {
    let nextest = cargo::command().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test", "--all-targets"] };
    let mut args = runner.to_vec();
    args.extend(["--workspace", "--exclude", E2E, "--no-fail-fast"]);
    cargo::test(&args, &[])
}

fn doctest() -> anyhow::Result<Tally> {
    cargo::test(&["test", "--workspace", "--doc", "--no-fail-fast"], &[])
}

fn doc() -> anyhow::Result<Tally> {
    cargo::check(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])
}

/// The tests of `dyad-e2e` against the binary built just now.
pub fn end_to_end() -> anyhow::Result<Tally> {
    let complete = packages::install(Need::Test)?;
    let binary = dyad_e2e::lab::build(false)?;
    let binary = binary.to_string_lossy();
    let tools = if complete { "required" } else { "optional" };
    // Output is shown, because it says what was skipped and why.
    let args = ["test", "-p", E2E, "--all-targets", "--no-fail-fast", "--", "--nocapture"];
    cargo::test(&args, &[("DYAD_BIN", &binary), ("DYAD_TOOLS", tools)])
}
