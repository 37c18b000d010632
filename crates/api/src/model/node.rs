//! Nodes and the glance at everything.

use dyad_units::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Disk, Pool, Session, Volume};

/// One glance at a node: what `dyad status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The node that answers.
    pub node: Node,
    /// All volumes with their images.
    pub volumes: Vec<Volume>,
    /// All pools.
    pub pools: Vec<Pool>,
    /// All disks.
    pub disks: Vec<Disk>,
    /// All iSCSI sessions.
    pub sessions: Vec<Session>,
    /// What an administrator should know about, the worst first.
    pub troubles: Vec<Trouble>,
}

/// One running Dyad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Identity, made when the data directory was.
    #[schema(value_type = String, format = "uuid")]
    pub id: NodeId,
    /// Name from the configuration.
    pub name: String,
    /// Version of the program; empty for another node than the one that answers, and so are all numbers below.
    pub version: String,
    /// Site: the failure domain that it is in.
    pub site: String,
    /// What it is doing.
    pub state: NodeState,
    /// Whether the administrator wants it drained: it gives volumes to other nodes and takes none.
    pub draining: bool,
    /// Why it is not connected to the node that answers, or what is wrong with its config store, one sentence without full stop;
    /// empty if all is well, or if nobody knows.
    pub trouble: String,
    /// Whether its connections to other nodes are encrypted; missing if it has none, and for other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_encryption: Option<bool>,
    /// Where administrators reach it over the network.
    pub admin: Vec<String>,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// How often it was started on this data directory: with the boot id, its incarnation.
    pub start_counter: u64,
    /// Where it accepts iSCSI, as `address:port`.
    pub portals: Vec<String>,
    /// How it reaches its disks.
    pub disk_access: DiskAccess,
    /// Why it uses threads, one sentence without full stop; empty if it does not.
    pub disk_access_reason: String,
    /// Directory of its config store.
    pub data_dir: String,
    /// How many iSCSI connections are open, logged in or not.
    pub connections: u32,
    /// Of those, not logged in yet.
    pub half_open: u32,
    /// Connections refused or dropped for want of room since the start.
    pub refused_connections: u64,
    /// Memory held for data on its way, in bytes.
    pub buffer_bytes: u64,
    /// Bound of that, in bytes.
    pub buffer_bytes_max: u64,
    /// Sessions and volumes closed by a fault of the program since the start. Should be zero.
    pub faults: u64,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Opening pools and volumes.
    Starting,
    /// Serving.
    Serving,
    /// Finishing what is in flight before it ends.
    Stopping,
    /// Another node, connected to the one that answers; ask it for what it does.
    Connected,
    /// Another node, not connected to the one that answers.
    Unreachable,
}

/// A token with which another machine joins the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// For `dyad node join` there; good once. Whoever has it can become a node.
    pub token: String,
    /// How long it is good for.
    pub seconds: u64,
}

/// What is wanted of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeNode {
    /// Give its volumes to other nodes, and take none; or serve again.
    pub draining: bool,
}

/// What a node that is drained still has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// Volumes that it could not give to another node yet: no other node has an in-sync image.
    pub owned: Vec<String>,
    /// Volumes of which it has an image.
    pub images: Vec<String>,
}

/// How a node reaches its disks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskAccess {
    /// By io_uring.
    IoUring,
    /// By a pool of threads: slower; used where io_uring is forbidden or switched off.
    Threads,
}

/// Something that an administrator should know about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// How bad it is.
    pub severity: Severity,
    /// Kind and name of the object: "pool a".
    pub object: String,
    /// What is wrong, one sentence without full stop.
    pub what: String,
    /// What to do, one sentence without full stop; empty if there is nothing to do.
    pub advice: String,
}

/// How bad a trouble is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Data cannot be reached, or was lost.
    Critical,
    /// Data is less protected than it should be.
    Warning,
    /// Worth knowing.
    Notice,
}
