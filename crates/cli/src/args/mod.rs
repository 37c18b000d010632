//! The command line. Help texts are part of the interface: a test keeps a picture of them.

mod arbiter;
mod cluster;
mod node;
mod objects;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use arbiter::{Arbiter, ArbiterCommand, ServeArbiter};
pub use cluster::{AcceptStore, ClusterCommand, InitCluster, JoinNode, NewNode, SeedStore};
pub use node::{ConfigCommand, Quickstart, Serve};
pub use objects::{
    AccessAction, AddImage, ChangeAccess, CreatePool, CreateVolume, DiskCommand, ExportImage, ForgetReservations,
    ImageCommand, MoveImage, NodeCommand, PoolCommand, Qos, SessionCommand, VolumeCommand, WhenFewWord,
};

/// Clustered, mirrored storage over iSCSI
///
/// `dyad serve` runs a node; all other commands ask a running one, over its Unix socket unless told otherwise.
#[derive(Debug, Parser)]
#[command(
    name = "dyad",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    pub json: bool,
    /// How to reach the node.
    #[command(flatten)]
    pub reach: Reach,
}

const EXAMPLES: &str = "\
Examples:
  dyad quickstart                        try it: one node, two pools, one mirrored volume
  dyad status                            is my data redundant?
  dyad pool create fast --disk /dev/sdb
  dyad volume create vm1 100GiB --pool fast --pool other

Exit status:
  0  done
  1  refused or failed; the message says what to do
  2  wrong usage, or a wrong configuration file
  3  no node can be reached
  4  there is no such object
  5  `status --check`: something is not as redundant as it should be";

/// How to reach the node. Global, so that it may stand anywhere on the line.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Reaching the node")]
pub struct Reach {
    /// The node's Unix socket [default: /run/dyad/dyad.sock, else ./dyad-data/dyad.sock]
    #[arg(long, global = true, value_name = "PATH", env = "DYAD_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,
    /// A node's address over TCP, such as http://127.0.0.1:8400
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DYAD_URL",
        hide_env_values = true,
        conflicts_with = "socket"
    )]
    pub url: Option<String>,
    /// File with the token for that address; or the token itself in the environment variable DYAD_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What `dyad` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node until it is told to stop
    Serve(Serve),
    /// Run an arbiter, the tie-breaker of two nodes, until it is told to stop
    Arbiter(Arbiter),
    /// Clusters of nodes
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Try Dyad: two nodes, an arbiter and one mirrored volume on this machine, without root
    Quickstart(Quickstart),
    /// One glance: is the data redundant, and what is wrong if not?
    Status(StatusArgs),
    /// Pools: disks that hold the data
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Disks of pools
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Volumes: what hosts see
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Images: the copies of volumes
    #[command(subcommand)]
    Image(ImageCommand),
    /// Sessions: hosts that are logged in
    #[command(subcommand)]
    Session(SessionCommand),
    /// Nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a token for administration over TCP, and its hash for the configuration
    Token,
    /// Print the description of the REST interface (OpenAPI 3.1)
    Openapi,
    /// Print completions for a shell
    #[command(after_help = "Example:\n  dyad completions bash > /etc/bash_completion.d/dyad")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How to show the status.
#[derive(Args, Debug)]
#[command(after_help = "Example, for a monitor:\n  dyad status --check || mail -s 'storage' root")]
pub struct StatusArgs {
    /// Exit with status 5 unless everything is as redundant as it should be
    #[arg(long)]
    pub check: bool,
}
