//! `dyad`: runs a node, or asks one.

mod arbiter;
mod args;
mod bind;
mod client;
mod cluster;
mod commands;
mod config;
mod failure;
#[cfg(test)]
#[path = "../../api/tests/fake/mod.rs"]
mod fake;
mod offline;
mod quickstart;
mod serve;
mod status;
mod table;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, ClusterCommand, Command, NodeCommand};
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Config(command) => offline::config(&command),
        Command::Serve(args) => serve::run(&args),
        Command::Arbiter(args) => arbiter::run(&args, cli.json),
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Cluster(ClusterCommand::Init(args)) => cluster::init(&args),
        Command::Cluster(ClusterCommand::Seed(args)) => cluster::seed(&args),
        Command::Cluster(ClusterCommand::AcceptStore(args)) => cluster::accept(&args),
        Command::Node(NodeCommand::Join(args)) => cluster::join(&args),
        Command::Token => offline::token(cli.json),
        Command::Openapi => {
            table::print(&dyad_api::openapi_json());
            Ok(())
        }
        Command::Completions { shell } => offline::completions(shell),
        _ => commands::run(cli),
    }
}
