//! The model checker: every interleaving of small cases, with the real handlers.

use crate::cargo;
use crate::tally::Tally;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only the short configurations
    #[arg(long)]
    quick: bool,
    /// Only this configuration
    #[arg(long)]
    only: Option<String>,
    /// No deeper than this many steps
    #[arg(long)]
    depth: Option<u32>,
    /// No more than about this many states
    #[arg(long)]
    states: Option<u64>,
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    let mut all: Vec<String> = ["run", "--release", "--quiet", "-p", "dyad-model", "--"].map(String::from).into();
    all.extend(args.quick.then(|| "--quick".to_owned()));
    all.extend(args.only.iter().flat_map(|name| ["--only".to_owned(), name.clone()]));
    all.extend(args.depth.iter().flat_map(|depth| ["--depth".to_owned(), depth.to_string()]));
    all.extend(args.states.iter().flat_map(|states| ["--states".to_owned(), states.to_string()]));
    cargo::check(&all.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}
