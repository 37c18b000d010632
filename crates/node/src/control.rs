//! The way in for an administrator's tools: ask what is, ask for changes, ask for an end.
//!
//! A [`NodeHandle`] may be cloned and used from any thread. Its calls block until the answer is known, at
//! most [`ANSWER_TIMEOUT`] for questions; changes last as long as the disk takes (a pool file is
//! preallocated). Questions are answered by the reactor from a bounded queue; when that is full they are
//! refused, so that a flood of questions never delays a host.

mod adjust;
mod cluster;
mod copy;
mod error;
mod exports;
mod images;
mod info;
mod loss;
mod nodes;
mod place;
mod request;
mod sessions;
mod status;

pub use copy::COPY_BYTES_MAX;
pub use error::{
    CloseSessionError, CreatePoolError, CreateVolumeError, DeleteOrphanError, DeletePoolError, DeleteVolumeError,
    OpenPoolError, QueryError, StopError,
};
pub use images::ImageError;
pub use info::{
    AccessInfo, BackendInfo, DiskInfo, DiskKind, ImageInfo, IoCounters, LogInfo, NeighbourInfo, NodeInfo, NodePhase,
    NodeStatus, OrphanInfo, PoolInfo, PoolPhase, ProgressInfo, Redundancy, SessionInfo, UnreadableInfo, VolumeInfo,
    VolumePhase,
};
pub use loss::{LossInfo, OtherInfo, RangesInfo};
pub use nodes::{DrainReport, NodeChangeError};
pub use request::{AccessRules, CreatePool, CreateVolume, WhenFew};

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use dyad_units::{ImageId, Period};

use crate::admin::{REQUESTS_MAX, Request};
use crate::catalog::Catalog;
use crate::config_store::Health;
use crate::join::Reception;
use crate::peers::Peers;
use crate::reactor::{Mailbox, Message, Reply};
use crate::settings::Settings;

/// How long a question waits for the reactor, which answers within milliseconds unless the machine is stuck.
pub const ANSWER_TIMEOUT: Period = Period::from_secs(5);

/// How often [`NodeHandle::wait_until_running`] looks.
const LOOK: Duration = Duration::from_millis(10);

/// Asks a running node; see the module's head.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    pub(crate) settings: Arc<Settings>,
    pub(crate) portals: Vec<std::net::SocketAddr>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) reception: Arc<Reception>,
    pub(crate) requests: SyncSender<Request>,
    pub(crate) health: Arc<Health>,
}

impl NodeHandle {
    /// Everything that fits one screen, of the whole cluster: what the owners of the volumes say, and pools and sessions
    /// of every node that answers within a second.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn status(&self) -> Result<NodeStatus, QueryError> {
        let own = self.own_status()?;
        Ok(self.with_others(own))
    }

    /// What this node knows by itself.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn own_status(&self) -> Result<NodeStatus, QueryError> {
        let snapshot = self.ask(Message::Look)?;
        Ok(status::merge(self, &self.catalog.lock(), snapshot))
    }

    /// The node itself.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn node(&self) -> Result<NodeInfo, QueryError> {
        self.own_status().map(|status| status.node)
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
    pub fn create_pool(&self, request: CreatePool) -> Result<PoolInfo, CreatePoolError> {
        let name = request.name.clone();
        self.request(|reply| Request::CreatePool(request, reply))??;
        Ok(self.pool(&name)?)
    }

    /// Opens a pool that could not be opened before; `which` is a name or an id. One that is open is no error. Pools
    /// whose disk was missing are opened by themselves when it is back; this is for who does not want to wait.
    ///
    /// # Errors
    /// See [`OpenPoolError`].
    pub fn open_pool(&self, which: &str) -> Result<PoolInfo, OpenPoolError> {
        self.request(|reply| Request::OpenPool(which.into(), reply))??;
        Ok(self.pool(which)?)
    }

    /// Deletes a pool that holds no image; `which` is a name or an id. `force`: although it holds images that no record names.
    ///
    /// # Errors
    /// See [`DeletePoolError`].
    pub fn delete_pool(&self, which: &str, force: bool) -> Result<(), DeletePoolError> {
        self.request(|reply| Request::DeletePool(which.into(), force, reply))?
    }

    /// Deletes an image in an open pool of this node (name or id) that no record names.
    ///
    /// # Errors
    /// See [`DeleteOrphanError`].
    pub fn delete_orphan(&self, pool: &str, image: ImageId) -> Result<(), DeleteOrphanError> {
        self.request(|reply| Request::DeleteOrphan(pool.into(), image, reply))?
    }

    /// Makes a volume and serves it.
    ///
    /// # Errors
    /// See [`CreateVolumeError`].
    pub fn create_volume(&self, mut request: CreateVolume) -> Result<VolumeInfo, CreateVolumeError> {
        let name = request.name.clone();
        if request.pools.is_empty() {
            request.pools = self.usual_pools(request.size)?;
            if request.pools.len() < 2 {
                let problem =
                    "there are no two open pools with room for its images; make one, or name the pools with --pool"
                        .to_owned();
                return Err(CreateVolumeError::BadRequest { problem });
            }
        }
        self.request(|reply| Request::CreateVolume(Box::new(request), reply))??;
        Ok(self.volume(&name)?)
    }

    /// Deletes a volume and its data; `which` is a name or an id. With sessions at any node, or while a node cannot be asked
    /// for its sessions, only if `force`.
    ///
    /// # Errors
    /// See [`DeleteVolumeError`].
    pub fn delete_volume(&self, which: &str, force: bool) -> Result<(), DeleteVolumeError> {
        if !force {
            self.check_unused(which)?;
        }
        self.request(|reply| Request::DeleteVolume(which.into(), reply))?
    }

    /// Waits until every pool and volume is in service, or known not to be.
    ///
    /// # Errors
    /// [`QueryError::Silent`] if that takes longer than `timeout`, [`QueryError::Stopping`] if it never will.
    pub fn wait_until_running(&self, timeout: Period) -> Result<(), QueryError> {
        let deadline = Instant::now() + timeout.to_duration();
        loop {
            match self.catalog.lock().phase {
                NodePhase::Running => return Ok(()),
                NodePhase::Stopping => return Err(QueryError::Stopping),
                NodePhase::Starting => {}
            }
            if Instant::now() >= deadline {
                return Err(QueryError::Silent { seconds: timeout.to_duration().as_secs() });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks the node to end in good order: no new sessions, commands in flight finish, everything is flushed
    /// and the pools are closed cleanly. Returns at once; [`Node::wait`](crate::Node::wait) tells the end.
    pub fn stop(&self) {
        self.catalog.lock().phase = NodePhase::Stopping;
        self.mailbox.post(Message::Stop);
    }

    fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, QueryError> {
        let (reply, answer) = sync_channel(1);
        self.mailbox.ask(message(reply)).map_err(|waiting| QueryError::Crowded { waiting })?;
        answer.recv_timeout(ANSWER_TIMEOUT.to_duration()).map_err(|error| match error {
            RecvTimeoutError::Timeout => QueryError::Silent { seconds: ANSWER_TIMEOUT.to_duration().as_secs() },
            RecvTimeoutError::Disconnected => QueryError::Stopping,
        })
    }

    fn request<T>(&self, request: impl FnOnce(SyncSender<T>) -> Request) -> Result<T, QueryError> {
        if self.catalog.lock().phase == NodePhase::Stopping {
            return Err(QueryError::Stopping);
        }
        let (reply, answer) = sync_channel(1);
        self.requests.try_send(request(reply)).map_err(|error| match error {
            TrySendError::Full(_) => QueryError::Crowded { waiting: REQUESTS_MAX },
            TrySendError::Disconnected(_) => QueryError::Stopping,
        })?;
        answer.recv().map_err(|_| QueryError::Stopping)
    }
}
