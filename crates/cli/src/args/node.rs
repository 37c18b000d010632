//! Commands that do not ask a node.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dyad_units::Bytes;

/// Run a node.
#[derive(Args, Debug)]
#[command(after_help = "\
The node runs in the foreground until SIGTERM or SIGINT, then drains, flushes and closes its pools. It tells systemd \
when it is ready. docs/administration.md has the whole story, docs/configuration.md all keys of the file.

Example:
  dyad serve --config /etc/dyad/dyad.toml")]
pub struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// End when the standard input ends: whoever started the node is gone
    #[arg(long, hide = true)]
    pub leash: bool,
}

/// Try it.
#[derive(Args, Debug)]
#[command(after_help = "\
Two nodes and an arbiter run as processes of their own, with a volume that has an image on each: kill any one, and it \
goes on. Everything is kept in the directory: config store, pools in files, administration sockets. Start it again and it goes \
on with its data; delete the directory and it is gone. For real use see `dyad serve --help`.

Examples:
  dyad quickstart
  dyad quickstart --nodes 3 --etcd
  dyad quickstart --dir /srv/try --port 3270")]
pub struct Quickstart {
    /// One node alone instead of two and an arbiter
    #[arg(long)]
    pub single: bool,
    /// Nodes; the volume has images on two of them
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "single",
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub nodes: u8,
    /// Three members of etcd instead of the arbiter, if etcd is installed
    #[arg(long, conflicts_with = "single")]
    pub etcd: bool,
    /// Directory for everything; made if missing
    #[arg(long, value_name = "DIR", default_value = "dyad-data")]
    pub dir: PathBuf,
    /// Port on 127.0.0.1; the next free one is taken if this one is not; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 3260)]
    pub port: u16,
    /// Size of the volume, when the directory is new; space is taken as it is written
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub size: Bytes,
    /// Directory in memory (tmpfs) for the logs of recent operations, 8 MiB per pool [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub shm_dir: Option<PathBuf>,
}

/// Configuration files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file without starting anything
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print an example: every key with its meaning and default
    Example,
    /// Print the reference of all keys as Markdown
    Reference,
}
