//! The record of a pool.

use dyad_units::{DiskId, NodeId, PoolId};
use serde::{Deserialize, Serialize};

use crate::name::Name;

/// A disk of a pool, as its node finds it. The disk itself says who it is (P13); this only says where to look.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// Identity, as in its superblock.
    pub id: DiskId,
    /// File or block device.
    pub path: String,
}

/// A pool.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Identity, as in its disks' superblocks.
    pub id: PoolId,
    /// Unique among the pools of a node.
    pub name: Name,
    /// Whose it is.
    pub node: NodeId,
    /// Its disks.
    pub disks: Vec<DiskRecord>,
}
