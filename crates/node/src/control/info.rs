//! What a node says about itself: plain data, taken at one moment. Nodes tell it each other as JSON.

use std::net::SocketAddr;
use std::path::PathBuf;

use dyad_cluster::{Limits, Right};
use dyad_units::{Bytes, DiskId, ImageId, NodeId, Period, PoolId, StoreId, VolumeId};
use serde::{Deserialize, Serialize};

/// Everything that fits one screen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node itself.
    pub node: NodeInfo,
    /// The other nodes of the cluster, by name.
    pub neighbours: Vec<NeighbourInfo>,
    /// Its pools, by name; of other nodes that answered, behind its own.
    pub pools: Vec<PoolInfo>,
    /// Its volumes, by name.
    pub volumes: Vec<VolumeInfo>,
    /// Its sessions, oldest first; those of other nodes behind its own.
    pub sessions: Vec<SessionInfo>,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum NodePhase {
    /// Opening pools and volumes; portals are open for those that serve already.
    Starting,
    /// Serving.
    Running,
    /// Draining; takes no new sessions.
    Stopping,
}

/// The node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its identity, made at its first start.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Version of the program.
    pub version: String,
    /// Where it is in its life.
    pub phase: NodePhase,
    /// How often it has been started, this time included; durable (M11).
    pub starts: u64,
    /// How long it has been running.
    #[serde(with = "nanos")]
    pub uptime: Period,
    /// Addresses where it accepts iSCSI.
    pub portals: Vec<SocketAddr>,
    /// Where its config store is.
    pub data_dir: PathBuf,
    /// How disk operations that may block are carried out.
    pub backend: BackendInfo,
    /// TCP connections now, those that have not logged in included.
    pub connections: u32,
    /// Those that have not logged in.
    pub half_open: u32,
    /// Connections refused or dropped for want of room since the start.
    pub refused: u64,
    /// What is wanted of it.
    pub wanted: dyad_cluster::NodeState,
    /// Whether connections to other nodes are encrypted; none: it has none.
    pub is_encrypted: Option<bool>,
    /// Memory held for data on its way.
    pub buffers_held: Bytes,
    /// Bound of that.
    pub buffers_max: Bytes,
    /// Sessions and volumes closed because of a fault in this program since the start.
    pub faults: u64,
    /// What is wrong with its config store, one sentence; none: all is well.
    #[serde(default)]
    pub store_trouble: Option<String>,
    /// Which config store it uses; none: its version does not tell.
    #[serde(default)]
    pub store: Option<StoreId>,
    /// Records of the config store that it cannot read.
    #[serde(default)]
    pub unreadable: Vec<UnreadableInfo>,
}

/// A record of the config store that a node cannot read: what it tells of is not served there, and nothing deleted that it
/// may name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct UnreadableInfo {
    /// What it tells of, such as `volume db1`.
    pub object: String,
    /// Version of the record, of newer software; none: it is damaged.
    pub newer: Option<u8>,
}

/// Another node of the cluster, as this one knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeighbourInfo {
    /// Identity.
    pub id: NodeId,
    /// Name.
    pub name: String,
    /// Site.
    pub site: String,
    /// Its starts so far.
    pub starts: u64,
    /// Whether this node is connected to it.
    pub is_connected: bool,
    /// Why not, as far as is known here; or what is wrong although it is.
    pub trouble: Option<String>,
    /// Where hosts reach it.
    pub portals: Vec<String>,
    /// Where administrators reach it over the network.
    pub admin: Vec<String>,
    /// What is wanted of it.
    pub wanted: dyad_cluster::NodeState,
    /// What it says about itself; `None` if it was not asked or did not answer.
    pub told: Option<Box<NodeInfo>>,
}

/// How disk operations that may block are carried out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum BackendInfo {
    /// io_uring.
    IoUring,
    /// Threads, and why.
    Threads {
        /// Why not io_uring.
        reason: String,
    },
}

/// Whether a pool can be used.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum PoolPhase {
    /// In use.
    Open,
    /// Could not be opened, or failed later; what to do is in the sentence.
    Failed {
        /// One sentence.
        reason: String,
    },
}

/// The log of recent operations of a pool (P6), in memory that outlives the process.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LogInfo {
    /// The file, in a tmpfs.
    pub path: PathBuf,
    /// Its size.
    pub size: Bytes,
}

/// A pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolInfo {
    /// Identity.
    pub id: PoolId,
    /// Name, unique on its node.
    pub name: String,
    /// The node that has it.
    pub node: NodeId,
    /// That node's name.
    pub node_name: String,
    /// Whether it can be used.
    pub phase: PoolPhase,
    /// Its disks.
    pub disks: Vec<DiskInfo>,
    /// Space for extents.
    pub total: Bytes,
    /// Free part of it.
    pub free: Bytes,
    /// Sizes of its images together, whether written or not.
    pub provisioned: Bytes,
    /// Images in it.
    pub images: u32,
    /// Regions that may have been written since closed (P5).
    pub marked_regions: u64,
    /// Blocks found damaged since it was opened (P7).
    pub damaged: u64,
    /// Damaged blocks rewritten with good data since it was opened (P14).
    pub healed: u64,
    /// Blocks known to be damaged now.
    pub damaged_now: u64,
    /// Blocks adopted after a crash because no image could verify them (P8).
    pub adopted: u64,
    /// Blocks found torn after a crash (A5).
    pub torn: u64,
    /// Extents lost by the disk (P12).
    pub lost: u64,
    /// Where its recent operations are kept; `None` while it is not open.
    pub log: Option<LogInfo>,
    /// Images in it that no record names.
    #[serde(default)]
    pub orphans: Vec<OrphanInfo>,
}

/// An image that no record names: a deletion was cut short, its node was removed, or its pool was away meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct OrphanInfo {
    /// Identity.
    pub id: ImageId,
    /// What it takes in its pool.
    pub allocated: Bytes,
}

/// What a disk is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum DiskKind {
    /// A regular file.
    File,
    /// A block device.
    BlockDevice,
}

/// A disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Identity; `None` if the disk could not be read.
    pub id: Option<DiskId>,
    /// Its pool.
    pub pool: PoolId,
    /// Its pool's name.
    pub pool_name: String,
    /// Where it is.
    pub path: PathBuf,
    /// File or device.
    pub kind: DiskKind,
    /// Its size.
    pub size: Bytes,
    /// What it writes untorn (A5).
    pub physical_block: u32,
    /// Whether journal writes go past the page cache; otherwise each is followed by a sync, which is slower.
    pub is_direct: bool,
    /// It failed a write or a sync and is believed no longer (P11).
    pub is_poisoned: bool,
    /// What it did since it was opened.
    pub io: IoCounters,
    /// Syncs since it was opened.
    pub syncs: u64,
    /// Operations that failed.
    pub errors: u64,
}

/// Operations, bytes and time since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct IoCounters {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Sum of the time that reads took.
    #[serde(with = "nanos")]
    pub read_time: Period,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Sum of the time that writes took.
    #[serde(with = "nanos")]
    pub write_time: Period,
    /// Flushes, unmaps and everything else.
    pub others: u64,
    /// Sum of the time that those took.
    #[serde(with = "nanos")]
    pub other_time: Period,
    /// Longest time that one operation took.
    #[serde(with = "nanos")]
    pub time_max: Period,
    /// Operations answered with an error.
    pub errors: u64,
}

/// Whether a volume can be used.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum VolumePhase {
    /// Being created.
    Creating,
    /// Served; parts that must be compared after a crash are served as they become equal (P8).
    Serving {
        /// Extents still to be compared.
        comparing: u64,
    },
    /// Cannot be served; what to do is in the sentence.
    Failed {
        /// One sentence.
        reason: String,
    },
    /// Being deleted.
    Deleting,
}

/// The plain answer to "is my data redundant, and if not, when will it be?"
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Redundancy {
    /// Images that hold every acknowledged write.
    pub in_sync: u32,
    /// Images that the volume should have.
    pub wanted: u32,
    /// The answer as one sentence.
    pub sentence: String,
}

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Identity.
    pub id: VolumeId,
    /// Name.
    pub name: String,
    /// Name of its iSCSI target; LUN 0.
    pub target: String,
    /// Size.
    pub size: Bytes,
    /// Logical block, 512 or 4096 bytes.
    pub block_bytes: u32,
    /// Whether its write cache is on (A1, A2).
    pub cache: bool,
    /// Fewest in-sync images with which writes are acknowledged (A4).
    pub min_in_sync: u32,
    /// Who may log in.
    pub access: AccessInfo,
    /// How much its hosts may ask of it.
    pub limits: Limits,
    /// Whether it can be used.
    pub phase: VolumePhase,
    /// The node that owns it, as the newest record known says.
    pub owner: Option<NodeId>,
    /// Its name.
    pub owner_name: Option<String>,
    /// Name of the node that should own it, and after how many seconds of being well it gets it back by itself.
    pub preferred_name: Option<(String, Option<u32>)>,
    /// Why the owner did not tell, so that what is said here is what is recorded.
    pub silent: Option<String>,
    /// Why its reservations cannot be read, so that hosts get errors, and what to do: one sentence; none: they can.
    #[serde(default)]
    pub unread: Option<String>,
    /// Whether it is redundant.
    pub redundancy: Redundancy,
    /// Its images.
    pub images: Vec<ImageInfo>,
    /// Sessions now.
    pub sessions: u32,
    /// Commands in flight now.
    pub in_flight: u32,
    /// What it did since the start.
    pub io: IoCounters,
}

/// Who may log in to a volume; secrets are never told.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct AccessInfo {
    /// What every host may do; `None`: only those named may log in.
    pub everybody: Option<Right>,
    /// iSCSI names of the hosts that may, and what.
    pub initiators: Vec<(String, Right)>,
    /// Name by which hosts prove themselves (CHAP); `None`: they need not.
    pub chap_user: Option<String>,
    /// Name by which we prove ourselves to hosts that ask.
    pub mutual_chap_user: Option<String>,
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Identity.
    pub id: ImageId,
    /// Its volume.
    pub volume: VolumeId,
    /// Its volume's name.
    pub volume_name: String,
    /// The node that it is on.
    pub node: NodeId,
    /// That node's name.
    pub node_name: String,
    /// Its pool.
    pub pool: PoolId,
    /// Its pool's name.
    pub pool_name: String,
    /// `in-sync`, `syncing`, `stale` or `detached`, as in the record.
    pub state: String,
    /// Why, where there is something to say.
    pub reason: Option<String>,
    /// It could catch up, but has to wait until images of other volumes have.
    #[serde(default)]
    pub is_waiting: bool,
    /// Space that it holds; `None` while its pool cannot be used.
    pub allocated: Option<Bytes>,
    /// How long it has not been in sync, as far as this node has seen; `None` if it is.
    pub out_seconds: Option<u64>,
    /// How far its catching up is, while it does.
    pub progress: Option<ProgressInfo>,
    /// The image whose place it takes once it is in sync.
    pub replaces: Option<ImageId>,
    /// The read-only target under which its node exports it.
    #[serde(default)]
    pub export: Option<String>,
}

/// How far an image's catching up is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgressInfo {
    /// `beginning`, `listing`, `copying` or `joining`.
    pub stage: String,
    /// Looked at in this run.
    pub done: Bytes,
    /// Still to be looked at: what was written while it was away, in whole extents.
    pub left: Bytes,
    /// What differed and was sent.
    pub sent: Bytes,
    /// Bytes looked at per second; zero at the beginning.
    pub rate: Bytes,
    /// Seconds until the copying ends at this rate; `None`: nobody knows yet.
    pub seconds_left: Option<u64>,
}

/// A host's session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Number that names it on its node until the node stops.
    pub id: u64,
    /// The node that the host is logged in at.
    pub node_name: String,
    /// The host's iSCSI name.
    pub initiator: String,
    /// Name of the target; `None` for a discovery session.
    pub target: Option<String>,
    /// The volume's name.
    pub volume: Option<String>,
    /// Address of the host.
    pub peer: SocketAddr,
    /// Address that it came to.
    pub portal: SocketAddr,
    /// How long ago it logged in.
    #[serde(with = "nanos")]
    pub age: Period,
    /// Commands in flight now.
    pub in_flight: u32,
    /// What it did.
    pub io: IoCounters,
}

/// Periods as nanoseconds.
mod nanos {
    use dyad_units::Period;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(period: &Period, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(period.as_nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Period, D::Error> {
        u64::deserialize(from).map(Period::from_nanos)
    }
}
