//! Commands that make a cluster, and nodes of it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use dyad_cluster::Name;

/// Clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster: its authority, this machine's certificate and configuration as its first node
    Init(InitCluster),
    /// Make etcd the config store, from what the nodes know of the one before
    Seed(SeedStore),
    /// Accept another config store in the place of the one that this node knows; the node has to be stopped
    AcceptStore(AcceptStore),
}

/// Seed etcd.
#[derive(Args, Debug)]
#[command(after_help = "\
From an arbiter to etcd: stop the arbiter for good, copy config-cache.redb from the data_dir of each node, put etcd into the
configurations (`store.kind`, `store.addresses`), seed it once on one node, then on each node after the other: stop it,
`dyad cluster accept-store`, start it. Hosts go on meanwhile; a node that fails cannot be taken out until this is done.

Example:
  dyad cluster seed --config /etc/dyad/dyad.toml --from one.redb --from two.redb")]
pub struct SeedStore {
    /// The configuration that names etcd
    #[arg(long, value_name = "FILE", default_value = "/etc/dyad/dyad.toml")]
    pub config: PathBuf,
    /// A copy of a node's config-cache.redb; from every node, if possible
    #[arg(long, value_name = "FILE", required = true)]
    pub from: Vec<PathBuf>,
    /// The store that the files are of, if they are of several
    #[arg(long, value_name = "ID")]
    pub store: Option<String>,
}

/// Accept another store.
#[derive(Args, Debug)]
#[command(after_help = "\
What the node knew is kept beside, as config-cache.STORE.redb.

Example:
  systemctl stop dyad && dyad cluster accept-store && systemctl start dyad")]
pub struct AcceptStore {
    /// The node's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/dyad/dyad.toml")]
    pub config: PathBuf,
}

/// Where a node's files go, and who it is.
#[derive(Args, Clone, Debug)]
pub struct NewNode {
    /// Name of this node: letters, digits and `-`; its certificate is for it [default: this machine's]
    #[arg(long)]
    pub name: Option<Name>,
    /// Site, the failure domain that this machine is in: a room, a building
    #[arg(long, default_value = "site-1")]
    pub site: Name,
    /// Where this node takes connections of the other nodes
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub peer_listen: SocketAddr,
    /// Where the other nodes reach it, in the order in which they try [default: --peer-listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub peer_address: Vec<String>,
    /// Directory for certificates and configuration
    #[arg(long, value_name = "DIR", default_value = "/etc/dyad")]
    pub dir: PathBuf,
    /// Directory for the node's own data
    #[arg(long, value_name = "DIR", default_value = "/var/lib/dyad")]
    pub data_dir: PathBuf,
}

/// Make a cluster.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is started. The directory gets ca.pem and ca.key (the cluster's authority; keep a copy of ca.key elsewhere),
node.pem and node.key, and dyad.toml. With --arbiter it gets arbiter/ as well: copy that to /etc/dyad of the arbiter's
machine.

Examples:
  dyad cluster init --peer-listen 192.0.2.1:3261 --arbiter 192.0.2.9:8402
  dyad cluster init --peer-listen 192.0.2.1:3261 --etcd http://127.0.0.1:2379")]
pub struct InitCluster {
    /// The node.
    #[command(flatten)]
    pub node: NewNode,
    /// Where the arbiter will listen: the tie-breaker of two nodes, on a third machine
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "etcd", conflicts_with = "etcd")]
    pub arbiter: Option<SocketAddr>,
    /// A member of etcd, once for each: for more than two nodes
    #[arg(long, value_name = "URL")]
    pub etcd: Vec<String>,
}

/// Join a cluster.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is started. The directory gets ca.pem, node.pem, node.key and dyad.toml; the private key never leaves this machine.

Example:
  dyad node join dyad1:one@192.0.2.1:3261:... --peer-listen 192.0.2.2:3261")]
pub struct JoinNode {
    /// What `dyad node token` printed on a node of the cluster
    pub token: String,
    /// The node.
    #[command(flatten)]
    pub node: NewNode,
}
