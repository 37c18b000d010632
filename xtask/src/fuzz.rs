//! Random bytes for everything that parses bytes from outside.

use std::process::Command;

use anyhow::Context as _;

use crate::cargo;
use crate::tally::Tally;

/// Directory of the cargo-fuzz targets, a workspace of its own.
const DIR: &str = "fuzz";
/// Per target in CI.
const SMOKE_SECONDS: u64 = 20;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Minutes per target
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    campaign(args.minutes.max(1) * 60, args.target.as_deref())
}

/// A few seconds per target where cargo-fuzz is installed; the smoke tests among the unit tests run everywhere.
pub fn smoke() -> anyhow::Result<Tally> {
    campaign(SMOKE_SECONDS, None)
}

fn campaign(seconds: u64, only: Option<&str>) -> anyhow::Result<Tally> {
    let installed = cargo::command().args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success());
    if !installed || !cargo::root().join(DIR).is_dir() {
        println!("skipped: cargo-fuzz is not installed (cargo install cargo-fuzz); the unit tests hold a smoke run");
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    let list = fuzz(&["list"]).output().context("cannot list the fuzz targets")?;
    anyhow::ensure!(list.status.success(), "cargo fuzz list failed");
    let names = String::from_utf8_lossy(&list.stdout).into_owned();
    let limit = format!("-max_total_time={seconds}");
    let mut tally = Tally::default();
    for name in names.lines().filter(|name| only.is_none_or(|only| only == *name)) {
        println!("--- {name}");
        let status = fuzz(&["run", name, "--", &limit, "-timeout=10", "-rss_limit_mb=2048"]).status()?;
        tally += Tally::one(status.success());
    }
    Ok(tally)
}

fn fuzz(args: &[&str]) -> Command {
    let mut command = cargo::command();
    // The sanitizer flags are unstable; this lets a stable compiler take them.
    command.env("RUSTC_BOOTSTRAP", "1").current_dir(cargo::root()).arg("fuzz").args(args);
    command
}
