//! What the node knows of its pools and volumes, in service or not: the other half of every status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dyad_cluster::{DecodeError, Key, NodeRecord, PoolRecord, SegmentRecord, VolumeRecord};
use dyad_units::{ImageId, Moment, NodeId, PoolId, VolumeId};

use crate::control::{LogInfo, NodePhase};

/// Written by the administration thread, read by whoever asks.
pub(crate) struct Catalog {
    inner: Mutex<Known>,
}

/// The content.
pub(crate) struct Known {
    pub(crate) node: NodeRecord,
    pub(crate) started: Moment,
    pub(crate) phase: NodePhase,
    /// All nodes of the cluster, by name.
    pub(crate) nodes: Vec<NodeRecord>,
    /// Pools of other nodes, by name.
    pub(crate) pools_elsewhere: Vec<PoolRecord>,
    /// This node's, by name.
    pub(crate) pools: Vec<KnownPool>,
    /// By name.
    pub(crate) volumes: Vec<KnownVolume>,
    /// Images that are not in sync, and since when that is known here.
    pub(crate) outs: BTreeMap<ImageId, Moment>,
    /// The images that the records named when all were last looked at; none: that is not known.
    pub(crate) named: Option<BTreeSet<ImageId>>,
    /// Records that cannot be read, and why.
    pub(crate) unreadable: BTreeMap<Key, DecodeError>,
}

/// A pool, open or not.
#[derive(Clone)]
pub(crate) struct KnownPool {
    pub(crate) record: PoolRecord,
    /// Why it is not in use.
    pub(crate) fault: Option<String>,
    pub(crate) log: Option<LogInfo>,
}

/// A volume, in service or not.
#[derive(Clone)]
pub(crate) struct KnownVolume {
    pub(crate) record: VolumeRecord,
    /// As it was when it was last looked at.
    pub(crate) segment: Option<SegmentRecord>,
    /// Why it is not in service.
    pub(crate) fault: Option<String>,
}

impl Catalog {
    pub(crate) fn new(node: NodeRecord, started: Moment) -> Self {
        let phase = NodePhase::Starting;
        let nodes = vec![node.clone()];
        let known = Known {
            node,
            started,
            phase,
            nodes,
            pools_elsewhere: Vec::new(),
            pools: Vec::new(),
            volumes: Vec::new(),
            outs: BTreeMap::new(),
            named: None,
            unreadable: BTreeMap::new(),
        };
        Self { inner: Mutex::new(known) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        // Every change is one assignment or one push: what is inside stays whole whatever panics elsewhere.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The pool with this name or id.
    pub(crate) fn pool(&self, which: &str) -> Option<&KnownPool> {
        let by_name = self.pools.iter().find(|pool| pool.record.name.as_str() == which);
        by_name.or_else(|| self.pools.iter().find(|pool| pool.record.id.to_string() == which))
    }

    /// The volume with this name or id.
    pub(crate) fn volume(&self, which: &str) -> Option<&KnownVolume> {
        let by_name = self.volumes.iter().find(|volume| volume.record.name.as_str() == which);
        by_name.or_else(|| self.volumes.iter().find(|volume| volume.record.id.to_string() == which))
    }

    /// Nodes of which nothing is known, as their records cannot be read.
    pub(crate) fn nodes_unknown(&self) -> impl Iterator<Item = NodeId> {
        let unread = self.unreadable.keys().filter_map(|key| match key {
            Key::Node(id) => Some(*id),
            _ => None,
        });
        unread.filter(|id| self.nodes.iter().all(|node| node.id != *id))
    }

    /// Enters a pool, or what is new about it.
    pub(crate) fn put_pool(&mut self, pool: KnownPool) {
        self.pools.retain(|known| known.record.id != pool.record.id);
        self.pools.push(pool);
        self.pools.sort_by(|one, other| one.record.name.cmp(&other.record.name));
    }

    /// Enters a volume, or what is new about it.
    pub(crate) fn put_volume(&mut self, volume: KnownVolume) {
        self.volumes.retain(|known| known.record.id != volume.record.id);
        self.volumes.push(volume);
        self.volumes.sort_by(|one, other| one.record.name.cmp(&other.record.name));
    }

    pub(crate) fn forget_pool(&mut self, id: PoolId) {
        self.pools.retain(|known| known.record.id != id);
    }

    pub(crate) fn forget_volume(&mut self, id: VolumeId) {
        self.volumes.retain(|known| known.record.id != id);
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.lock();
        write!(f, "Catalog({} pools, {} volumes)", known.pools.len(), known.volumes.len())
    }
}
