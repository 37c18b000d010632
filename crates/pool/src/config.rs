//! What an administrator or the node decides about a pool.

use dyad_payload::Slab;
use dyad_units::{DiskId, NodeId, PoolId};

/// For [`crate::Pool::format`].
#[derive(Clone, Copy, Debug)]
pub struct FormatConfig {
    /// The pool that the disk will belong to.
    pub pool: PoolId,
    /// The disk's own id.
    pub disk: DiskId,
    /// The node that makes it.
    pub node: NodeId,
    /// Format even a disk that holds a Dyad pool already.
    pub overwrite: bool,
}

/// For [`crate::Pool::open`].
#[derive(Clone)]
pub struct OpenConfig {
    /// Refuse a disk that belongs to another pool; `None` opens whatever pool it is.
    pub pool: Option<PoolId>,
    /// Where buffers come from.
    pub slab: Slab,
}
