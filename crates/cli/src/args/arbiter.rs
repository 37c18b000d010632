//! The arbiter's command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Run an arbiter.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "\
An arbiter keeps the records of a cluster of two nodes: which image holds every acknowledged write, and who may serve. It \
breaks the tie when one node is gone, so it belongs on a third machine, which may be small: it takes a few MB of memory \
and a disk that survives a power failure. While it is away hosts go on reading and writing; only a node that fails \
meanwhile cannot be taken out.

It runs in the foreground until SIGTERM or SIGINT, then ends in good order. It tells systemd when it is ready, prints one \
line with the identity of its store and where it listens, and answers a change only when it is durable: it may be killed \
at any time. If its disk fails it ends with an error. Nodes and arbiter show each other certificates of one authority; \
without certificates it listens on loopback only.

Nodes find it by the keys `store.…` of their configuration.

Examples:
  dyad arbiter --listen 192.0.2.9:8402 --ca /etc/dyad/ca.pem \\
      --certificate /etc/dyad/arbiter.pem --key /etc/dyad/arbiter.key
  dyad arbiter --data ./arbiter --listen 127.0.0.1:8402"
)]
pub struct Arbiter {
    /// Seed, if that is wanted instead.
    #[command(subcommand)]
    pub command: Option<ArbiterCommand>,
    /// How it is run.
    #[command(flatten)]
    pub serve: ServeArbiter,
}

/// How an arbiter is run.
#[derive(Args, Debug)]
pub struct ServeArbiter {
    /// Directory of its store; made if missing. One arbiter at a time uses it
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub data: PathBuf,
    /// Where it listens; several times for several addresses. Port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8402")]
    pub listen: Vec<SocketAddr>,
    /// Authority whose certificates are believed (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"])]
    pub ca: Option<PathBuf>,
    /// The arbiter's certificate, and those between it and the authority (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key (PEM), which others must not be able to read
    #[arg(long, value_name = "FILE", requires_all = ["ca", "certificate"])]
    pub key: Option<PathBuf>,
    /// End when the standard input ends: whoever started it is gone
    #[arg(long, hide = true)]
    pub leash: bool,
}

/// Where systemd's unit keeps it.
const DATA_DEFAULT: &str = "/var/lib/dyad-arbiter";

/// What else can be done.
#[derive(Debug, Subcommand)]
pub enum ArbiterCommand {
    /// Make a new store in the place of a lost one, from what nodes know
    #[command(after_help = "\
Takes the newest of each record from all files together: give it those of all nodes that are left. A node keeps the \
records in `data_dir`: `config-cache.redb` if it used an arbiter or etcd, `config.redb` if it was alone. Copy the file \
while the store is lost: then nodes write nothing to it and may run, and should, so that hosts go on.

The new store has an identity of its own, so that nobody takes it for the old one by mistake: nodes go on with their \
volumes and do not use it before they were told to.

Example:
  dyad arbiter seed --data /var/lib/dyad-arbiter --from left.redb --from right.redb")]
    Seed {
        /// Directory of the new store; there must be none yet
        #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
        data: PathBuf,
        /// A node's cache or store, or what `dyad arbiter export` made of one
        #[arg(long, value_name = "FILE", required = true)]
        from: Vec<PathBuf>,
        /// The lost store, if the files are of several: the others are left out
        #[arg(long, value_name = "ID")]
        store: Option<String>,
    },
    /// Write the records of a node or arbiter that does not run to a file for `seed`
    #[command(after_help = "\
The file holds the secrets of hosts; only its owner can read it.

Example:
  dyad arbiter export --from /var/lib/dyad/config-cache.redb --to left.records")]
    Export {
        /// The node's cache or store, or an arbiter's store
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The file; there must be none yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}
