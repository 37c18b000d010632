//! `dyad-sim pool|mirrored|cluster [--seeds N] [--from S]`: runs that many seeds and tells the story of the first
//! violation. `dyad-sim cluster --seed S [--story yes]`: one seed, and the hash of all that happened.

use std::process::ExitCode;

use dyad_sim::campaign::{Finding, Summary, run_seed};
use dyad_sim::command::Asked;
use dyad_sim::mirrored::campaign::live_through;
use dyad_sim::model::Crash;

const USAGE: &str = "usage: dyad-sim pool|mirrored [--seeds COUNT] [--from SEED]
       dyad-sim cluster [--seeds COUNT] [--from SEED] [--step COUNT] [--keep-going yes]
       dyad-sim cluster --seed SEED [--story yes]
       dyad-sim cluster --campaign FILE [--commit ID] [--seeds COUNT] [--from SEED]
       dyad-sim cluster --sum FILE";

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
    if let Some((_, options)) = arguments.split_first().filter(|(command, _)| *command == "cluster") {
        let Some(asked) = parse_cluster(options) else {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        };
        return dyad_sim::command::run(&asked);
    }
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

fn parse_cluster(mut options: &[String]) -> Option<Asked> {
    let mut asked = Asked { seeds: 100, step: 1, ..Asked::default() };
    while let [name, value, rest @ ..] = options {
        match name.as_str() {
            "--seed" => asked.seed = Some(value.parse().ok()?),
            "--seeds" => asked.seeds = value.parse().ok()?,
            "--from" => asked.from = value.parse().ok()?,
            "--step" => asked.step = value.parse().ok()?,
            "--keep-going" => asked.keeps_going = value == "yes",
            "--story" => asked.tells = value == "yes",
            "--campaign" => asked.file = Some(value.into()),
            "--sum" => (asked.file, asked.sums) = (Some(value.into()), true),
            "--commit" => asked.commit.clone_from(value),
            _ => return None,
        }
        options = rest;
    }
    options.is_empty().then_some(asked)
}
