//! `dyad-model [--quick] [--only NAME] [--depth N]`: searches every configuration and says what came of it.

use std::process::ExitCode;

use dyad_model::config;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1));
    let depth = args.iter().position(|arg| arg == "--depth").and_then(|at| args.get(at + 1)?.parse().ok());
    let depth_max = depth.unwrap_or(u32::MAX);
    println!("{:24} {:>11} {:>12} {:>6} {:>8}", "configuration", "states", "steps", "depth", "seconds");
    let mut is_proof = true;
    for configuration in config::all() {
        if is_quick && !configuration.is_quick || only.is_some_and(|only| *only != configuration.name) {
            continue;
        }
        let report = configuration.run(depth_max);
        let (name, seconds) = (configuration.name, report.time.as_secs_f64());
        println!("{name:24} {:>11} {:>12} {:>6} {seconds:>8.1}", report.states, report.steps, report.depth);
        for (milestone, _) in report.reached.iter().filter(|(_, reached)| !reached) {
            println!("    never reached: {milestone}");
        }
        if let Some(found) = &report.found {
            println!("    {} is broken: {}", found.violation.rule, found.violation.what);
            found.trace.iter().for_each(|step| println!("    {step}"));
        }
        is_proof &= report.is_proof();
    }
    if is_proof { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
