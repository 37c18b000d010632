//! Pools and their disks.

use dyad_units::{DiskId, ImageId, PoolId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Activity;

/// Disks of one node that hold extents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Identity, written on every disk of the pool.
    #[schema(value_type = String, format = "uuid")]
    pub id: PoolId,
    /// Name, unique on the node.
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Whether it works.
    pub health: Health,
    /// Why it does not, one sentence without full stop; empty if it works.
    pub reason: String,
    /// Room for extents, in bytes.
    pub capacity_bytes: u64,
    /// Of it free, in bytes.
    pub free_bytes: u64,
    /// Images in it.
    pub images: u32,
    /// Regions that would have to be compared after a power failure.
    pub marked_regions: u64,
    /// File in memory (tmpfs) with the log of recent operations, which outlives a crash of the process; empty while
    /// the pool is not open.
    pub recent_log: String,
    /// What went wrong since the pool was opened.
    pub counters: PoolCounters,
    /// Images in it that no record names: a deletion was cut short, their node was removed, or the pool was away meanwhile.
    /// Nothing uses them.
    #[serde(default)]
    pub orphans: Vec<Orphan>,
}

/// An image that no record names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// Identity.
    #[schema(value_type = String, format = "uuid")]
    pub id: ImageId,
    /// What it takes in its pool, in bytes.
    pub allocated_bytes: u64,
}

/// What went wrong since the pool was opened. All should be zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolCounters {
    /// Blocks whose checksum did not match.
    pub damaged_blocks: u64,
    /// Of those, rewritten from another image.
    pub healed_blocks: u64,
    /// Blocks believed after a crash although no checksum could vouch for them, because no image had better.
    pub adopted_blocks: u64,
    /// Of those, torn within the block.
    pub torn_blocks: u64,
    /// Extents that the disk lost.
    pub lost_extents: u64,
}

/// Whether a pool or disk works.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It works.
    Online,
    /// It works, but has failed reads or checksums.
    Damaged,
    /// It failed a write or a sync and is out of use until the node is restarted.
    Failed,
    /// It could not be opened.
    Missing,
}

/// A block device or file given to a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// Identity, written on the disk; none if it could not be read.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<DiskId>,
    /// Name of its pool.
    pub pool: String,
    /// Identity of its pool.
    #[schema(value_type = String, format = "uuid")]
    pub pool_id: PoolId,
    /// Path of the device or file.
    pub path: String,
    /// Device or file.
    pub kind: DiskKind,
    /// Whether it works.
    pub health: Health,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What it writes untorn, in bytes.
    pub physical_block_bytes: u32,
    /// Whether the journal bypasses the page cache (O_DIRECT); without it flushes are slower.
    pub direct_io: bool,
    /// Operations that failed since it was opened.
    pub errors: u64,
    /// Syncs since it was opened.
    pub syncs: u64,
    /// What it did since it was opened.
    pub activity: Activity,
}

/// What a disk is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// A regular file.
    File,
    /// A block device.
    BlockDevice,
}

/// A pool to be created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    /// Name, unique on the node: lower-case letters, digits, `-` and `.`, at most 63.
    pub name: String,
    /// Its disks. This version takes exactly one.
    pub disks: Vec<CreateDisk>,
}

/// A disk for a new pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDisk {
    /// Absolute path of a block device, or of a file.
    pub path: String,
    /// Create the file with this size in bytes; without it the device or file must exist and is used whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The disk writes 4 KiB untorn although it does not say so itself (rule A5).
    #[serde(default)]
    pub atomic_4k: bool,
}
