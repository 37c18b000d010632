//! The way in for an administrator's tools: ask what is, ask for changes, ask for an end.
//!
//! A [`NodeHandle`] may be cloned and used from any thread. Its calls block until the answer is known, at
//! most [`ANSWER_TIMEOUT`] for questions; changes last as long as the disk takes (a pool file is
//! preallocated). Questions are answered by the reactor from a bounded queue; when that is full they are
//! refused, so that a flood of questions never delays a host.

mod error;
mod info;
mod request;

pub use error::{
    CloseSessionError, CreatePoolError, CreateVolumeError, DeletePoolError, DeleteVolumeError, QueryError, StopError,
};
pub use info::{
    BackendInfo, DiskInfo, DiskKind, ImageInfo, IoCounters, LogInfo, NodeInfo, NodePhase, NodeStatus, PoolInfo,
    PoolPhase, Redundancy, SessionInfo, VolumeInfo, VolumePhase,
};
pub use request::{AccessRules, CreatePool, CreateVolume, WhenFew};

use dyad_units::Period;

/// How long a question waits for the reactor, which answers within milliseconds unless the machine is stuck.
pub const ANSWER_TIMEOUT: Period = Period::from_secs(5);

/// Asks a running node; see the module's head.
#[derive(Clone, Debug)]
pub struct NodeHandle {}

impl NodeHandle {
    /// Everything that fits one screen.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn status(&self) -> Result<NodeStatus, QueryError> {
        Err(QueryError::Stopping)
    }

    /// The node itself.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn node(&self) -> Result<NodeInfo, QueryError> {
        self.status().map(|status| status.node)
    }

    /// All pools, by name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn pools(&self) -> Result<Vec<PoolInfo>, QueryError> {
        self.status().map(|status| status.pools)
    }

    /// The pool with this name or id.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn pool(&self, which: &str) -> Result<PoolInfo, QueryError> {
        let found = self.pools()?.into_iter().find(|pool| pool.name == which || pool.id.to_string() == which);
        found.ok_or_else(|| QueryError::Unknown { kind: "pool", name: which.into() })
    }

    /// All disks, by pool.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn disks(&self) -> Result<Vec<DiskInfo>, QueryError> {
        self.pools().map(|pools| pools.into_iter().flat_map(|pool| pool.disks).collect())
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>, QueryError> {
        self.status().map(|status| status.volumes)
    }

    /// The volume with this name or id.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn volume(&self, which: &str) -> Result<VolumeInfo, QueryError> {
        let found = self.volumes()?.into_iter().find(|volume| volume.name == which || volume.id.to_string() == which);
        found.ok_or_else(|| QueryError::Unknown { kind: "volume", name: which.into() })
    }

    /// All images, by volume.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn images(&self) -> Result<Vec<ImageInfo>, QueryError> {
        self.volumes().map(|volumes| volumes.into_iter().flat_map(|volume| volume.images).collect())
    }

    /// All sessions, oldest first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn sessions(&self) -> Result<Vec<SessionInfo>, QueryError> {
        self.status().map(|status| status.sessions)
    }

    /// Makes a pool.
    ///
    /// # Errors
    /// See [`CreatePoolError`].
    pub fn create_pool(&self, _request: CreatePool) -> Result<PoolInfo, CreatePoolError> {
        Err(QueryError::Stopping.into())
    }

    /// Deletes a pool that holds no image; `which` is a name or an id.
    ///
    /// # Errors
    /// See [`DeletePoolError`].
    pub fn delete_pool(&self, _which: &str) -> Result<(), DeletePoolError> {
        Err(QueryError::Stopping.into())
    }

    /// Makes a volume and serves it.
    ///
    /// # Errors
    /// See [`CreateVolumeError`].
    pub fn create_volume(&self, _request: CreateVolume) -> Result<VolumeInfo, CreateVolumeError> {
        Err(QueryError::Stopping.into())
    }

    /// Deletes a volume and its data; `which` is a name or an id. With sessions only if `force`.
    ///
    /// # Errors
    /// See [`DeleteVolumeError`].
    pub fn delete_volume(&self, _which: &str, _force: bool) -> Result<(), DeleteVolumeError> {
        Err(QueryError::Stopping.into())
    }

    /// Closes a host's session; the host may come back at once.
    ///
    /// # Errors
    /// See [`CloseSessionError`].
    pub fn close_session(&self, _id: u64) -> Result<(), CloseSessionError> {
        Err(QueryError::Stopping.into())
    }

    /// Asks the node to end in good order: no new sessions, commands in flight finish, everything is flushed
    /// and the pools are closed cleanly. Returns at once; [`Node::wait`] tells the end.
    pub fn stop(&self) {}
}

/// A running node: the owner of its threads.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
}

impl Node {
    /// A way in, to be cloned as needed.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Waits for the end of the node, which [`NodeHandle::stop`] asks for.
    ///
    /// # Errors
    /// See [`StopError`].
    pub fn wait(self) -> Result<(), StopError> {
        Ok(())
    }
}
