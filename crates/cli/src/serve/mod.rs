//! Runs a node: `dyad serve`. The quickstart runs one in the same way.

pub mod life;
mod listen;
pub mod log;
mod watchdog;

use crate::args;
use crate::config::Config;
use crate::failure::Failure;

pub use listen::is_served;

/// Runs the node of a configuration file until it is told to stop.
pub fn run(args: &args::Serve) -> Result<(), Failure> {
    let config = Config::load(&args.config)
        .map_err(|errors| Failure::Usage(format!("the configuration is wrong, nothing was started\n{errors}")))?;
    log::to_stderr(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %args.config.display(), "starting");
    let life = life::Life::begin(&config)?;
    life.run(None)
}
