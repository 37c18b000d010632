//! `dyad-sim pool --seeds N [--from S]`: runs that many seeds and tells the story of each violation.

use std::process::ExitCode;

use dyad_sim::campaign::{Summary, run_seed};

const USAGE: &str = "usage: dyad-sim pool [--seeds COUNT] [--from SEED]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((seeds, from)) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut total = Summary::default();
    let mut failures = 0_u64;
    for seed in from..from.saturating_add(seeds) {
        match run_seed(seed, false) {
            Ok(summary) => total = total.plus(summary),
            Err(finding) => {
                failures += 1;
                eprintln!("seed {seed}: {}", finding.violation);
                // The same run again, this time writing down what happens.
                if let Err(finding) = run_seed(seed, true)
                    && failures == 1
                {
                    finding.story.iter().for_each(|line| eprintln!("    {line}"));
                }
            }
        }
    }
    println!("{seeds} seeds from {from}: {failures} violations; {total:?}");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Option<(u64, u64)> {
    let (command, mut options) = arguments.split_first()?;
    let (mut seeds, mut from) = (100, 0);
    while let [name, value, rest @ ..] = options {
        match name.as_str() {
            "--seeds" => seeds = value.parse().ok()?,
            "--from" => from = value.parse().ok()?,
            _ => return None,
        }
        options = rest;
    }
    (command == "pool" && options.is_empty()).then_some((seeds, from))
}
