//! Runs a node: `dyad serve`. The quickstart runs one in the same way.

pub mod life;
mod listen;
pub mod log;
pub mod signals;
pub mod watchdog;

use crate::args;
use crate::config::Config;
use crate::failure::Failure;

pub use listen::{check_socket_path, is_served};

/// Runs the node of a configuration file until it is told to stop.
pub fn run(args: &args::Serve) -> Result<(), Failure> {
    let config = Config::load(&args.config)
        .map_err(|errors| Failure::Usage(format!("the configuration is wrong, nothing was started\n{errors}")))?;
    log::to_stderr(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %args.config.display(), "starting");
    if args.leash {
        end_with_input()?;
    }
    let life = life::Life::begin(&config)?;
    life.run(None)
}

/// Whoever started the node holds the other end of its standard input: when that is gone, the node ends in good order.
pub fn end_with_input() -> Result<(), Failure> {
    let watching = std::thread::Builder::new().name("leash".into()).spawn(|| {
        // Whatever is read means nothing; the end does.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    });
    watching.map(drop).map_err(|error| Failure::failed(format!("cannot start threads: {error}"), "check `ulimit -u`"))
}
