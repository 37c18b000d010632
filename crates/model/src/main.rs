//! `dyad-model [--quick] [--only NAME] [--depth N] [--states N]`: searches every configuration and says what came of it.

use std::process::ExitCode;

use dyad_model::{Bounds, config};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1));
    let number = |name: &str| {
        let at = args.iter().position(|arg| *arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let depth = number("--depth").and_then(|depth| u32::try_from(depth).ok());
    let none = Bounds::NONE;
    let bounds = Bounds { depth: depth.unwrap_or(none.depth), states: number("--states").unwrap_or(none.states) };
    println!("{:24} {:>11} {:>12} {:>6} {:>8}", "configuration", "states", "steps", "depth", "seconds");
    let mut is_proof = true;
    for configuration in config::all() {
        if is_quick && !configuration.is_quick || only.is_some_and(|only| *only != configuration.name) {
            continue;
        }
        let report = configuration.run(bounds);
        let (name, seconds) = (configuration.name, report.time.as_secs_f64());
        println!("{name:24} {:>11} {:>12} {:>6} {seconds:>8.1}", report.states, report.steps, report.depth);
        if !report.is_complete && report.found.is_none() {
            println!("    not every state was seen: the bound was reached");
        }
        for (milestone, _) in report.reached.iter().filter(|(_, reached)| report.is_complete && !reached) {
            println!("    never reached: {milestone}");
        }
        if let Some(found) = &report.found {
            println!("    {} is broken: {}", found.violation.rule, found.violation.what);
            found.trace.iter().for_each(|step| println!("    {step}"));
        }
        let is_bounded = configuration.states_max.is_some() && report.found.is_none();
        is_proof &= report.is_proof() || is_bounded;
    }
    if is_proof { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
