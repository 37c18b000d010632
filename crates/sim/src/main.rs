//! `dyad-sim pool|mirrored [--seeds N] [--from S]`: runs that many seeds and tells the story of the first violation.

use std::process::ExitCode;

use dyad_sim::campaign::{Finding, Summary, run_seed};
use dyad_sim::mirrored::campaign::live_through;
use dyad_sim::model::Crash;

const USAGE: &str = "usage: dyad-sim pool|mirrored [--seeds COUNT] [--from SEED]";

#[derive(Clone, Copy)]
enum Stage {
    /// Single pools.
    Pool,
    /// A mirror over two pools.
    Mirrored,
}

impl Stage {
    fn run(self, seed: u64, keeps_story: bool) -> Result<Summary, Box<Finding>> {
        match self {
            Self::Pool => run_seed(seed, keeps_story),
            Self::Mirrored => {
                live_through(seed, &[Crash::Process, Crash::Power], keeps_story).map(|()| Summary::default())
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((stage, seeds, from)) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut total = Summary::default();
    let mut failures = 0_u64;
    for seed in from..from.saturating_add(seeds) {
        match stage.run(seed, false) {
            Ok(summary) => total = total.plus(summary),
            Err(finding) => {
                failures += 1;
                eprintln!("seed {seed}: {}", finding.violation);
                // The same run again, this time writing down what happens.
                if failures == 1
                    && let Err(finding) = stage.run(seed, true)
                {
                    finding.story.iter().for_each(|line| eprintln!("    {line}"));
                }
            }
        }
    }
    println!("{seeds} seeds from {from}: {failures} violations; {total:?}");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Option<(Stage, u64, u64)> {
    let (command, mut options) = arguments.split_first()?;
    let stage = match command.as_str() {
        "pool" => Stage::Pool,
        "mirrored" => Stage::Mirrored,
        _ => return None,
    };
    let (mut seeds, mut from) = (100, 0);
    while let [name, value, rest @ ..] = options {
        match name.as_str() {
            "--seeds" => seeds = value.parse().ok()?,
            "--from" => from = value.parse().ok()?,
            _ => return None,
        }
        options = rest;
    }
    options.is_empty().then_some((stage, seeds, from))
}
