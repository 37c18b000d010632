//! The administration thread: opens pools and volumes at the start, then makes and deletes them on request.
//!
//! One at a time, in the order of asking. Every change is durable in the config store before the next step
//! depends on it, and creating and deleting go through states, so that whatever ends the process in between
//! is finished or undone at the next start.

mod adjust;
mod exports;
mod images;
mod news;
mod nodes;
mod orphans;
mod pools;
mod reopen;
mod rescan;
mod unreadable;
mod volumes;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use adjust::{AdjustError, Adjustment};
use dyad_cluster::{Incarnation, Key, Kind, NodeRecord, Record, SetError, Store, StoreError, Version, Versioned};
use dyad_payload::Slab;
use dyad_store::Cache;
use dyad_units::{ImageId, NodeId, VolumeId};
pub(crate) use exports::ExportError;
use images::Tending;
pub(crate) use news::News;
pub(crate) use orphans::unnamed;
use reopen::Retries;
pub(crate) use unreadable::told as unreadable_records;

use crate::catalog::Catalog;
use crate::config_store::Health;
use crate::control::{
    CreatePool, CreatePoolError, CreateVolume, CreateVolumeError, DeleteOrphanError, DeletePoolError,
    DeleteVolumeError, DrainReport, NodeChangeError, NodePhase, OpenPoolError, QueryError,
};
use crate::exported::Exported;
use crate::peers::Peers;
use crate::reactor::{Mailbox, Message, Reply};
use crate::settings::Settings;
use crate::shm::ShmDir;

/// Requests that may wait for the thread; more are refused.
pub(crate) const REQUESTS_MAX: usize = 16;
/// How long the thread waits for the reactor to carry out a change that waits for disks.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(90);
/// A store that is away is asked again after this.
const STORE_REST: Duration = Duration::from_secs(5);
/// Attempts at a change of a record that somebody else changed meanwhile.
const ATTEMPTS: usize = 8;

/// What the thread can be asked for.
pub(crate) enum Request {
    CreatePool(CreatePool, SyncSender<Result<(), CreatePoolError>>),
    OpenPool(String, SyncSender<Result<(), OpenPoolError>>),
    /// Which, and whether although it holds images that no record names.
    DeletePool(String, bool, SyncSender<Result<(), DeletePoolError>>),
    /// Delete an image in this pool that no record names.
    DeleteOrphan(String, ImageId, SyncSender<Result<(), DeleteOrphanError>>),
    CreateVolume(Box<CreateVolume>, SyncSender<Result<(), CreateVolumeError>>),
    DeleteVolume(String, SyncSender<Result<(), DeleteVolumeError>>),
    /// Change a volume in use.
    Adjust(String, Adjustment, SyncSender<Result<(), AdjustError>>),
    DrainNode(String, bool, SyncSender<Result<DrainReport, NodeChangeError>>),
    RemoveNode(String, SyncSender<Result<(), NodeChangeError>>),
    /// Export a detached image of this node, or end that.
    Export(VolumeId, ImageId, bool, SyncSender<Result<(), ExportError>>),
    /// Something in the config store changed.
    Rescan,
    /// The node ends.
    End,
}

/// Everything that the thread works with.
pub(crate) struct Admin {
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) store: Arc<dyn Store>,
    /// What is known of a store elsewhere without asking.
    pub(crate) cache: Option<Arc<Cache>>,
    /// When the store was found to be away.
    pub(crate) away: Mutex<Option<Instant>>,
    /// This node, as its record is to be.
    pub(crate) record: NodeRecord,
    pub(crate) shm: ShmDir,
    pub(crate) slab: Slab,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) news: Arc<News>,
    /// Images that are exported, as the file says.
    pub(crate) exported: Mutex<Exported>,
    pub(crate) health: Arc<Health>,
}

impl Admin {
    /// Brings everything into service, then does what it is asked until the node ends.
    pub(crate) fn run(&self, requests: &Receiver<Request>) {
        self.recall_exports();
        // First, so that the other nodes are connected when the volumes start.
        self.meet_nodes();
        self.open_pools();
        self.open_volumes();
        // What cannot be read is told.
        let _ = self.look(Kind::Segment);
        self.tend_exports();
        self.mailbox.post(Message::Open);
        {
            let mut known = self.catalog.lock();
            if known.phase == NodePhase::Starting {
                known.phase = NodePhase::Running;
            }
        }
        let (mut retries, mut tending) = (Retries::default(), Tending::default());
        loop {
            let request = match requests.recv_timeout(retries.pause()) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => {
                    self.retry_pools(&mut retries);
                    self.health.look();
                    // Whatever news were lost, and what waited for a node that was away.
                    self.rescan();
                    self.tend_images(&mut tending);
                    self.tend_exports();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match request {
                Request::CreatePool(request, reply) => drop(reply.try_send(self.create_pool(&request))),
                Request::OpenPool(which, reply) => drop(reply.try_send(self.open_again(&which))),
                Request::DeletePool(which, force, reply) => drop(reply.try_send(self.delete_pool(&which, force))),
                Request::DeleteOrphan(pool, image, reply) => drop(reply.try_send(self.delete_orphan(&pool, image))),
                Request::CreateVolume(request, reply) => drop(reply.try_send(self.create_volume(&request))),
                Request::DeleteVolume(which, reply) => drop(reply.try_send(self.delete_volume(&which))),
                Request::Adjust(which, adjustment, reply) => {
                    drop(reply.try_send(self.adjust(&which, &adjustment)));
                }
                Request::DrainNode(which, is_wanted, reply) => {
                    drop(reply.try_send(self.drain_node(&which, is_wanted)));
                }
                Request::RemoveNode(which, reply) => drop(reply.try_send(self.remove_node(&which))),
                Request::Export(volume, image, is_wanted, reply) => {
                    drop(reply.try_send(self.export(volume, image, is_wanted)));
                }
                Request::Rescan => {
                    self.rescan();
                    self.tend_images(&mut tending);
                    self.tend_exports();
                }
                Request::End => return,
            }
        }
    }

    /// Asks the reactor for something that may take its time.
    fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, QueryError> {
        let (reply, answer) = sync_channel(1);
        self.mailbox.post(message(reply));
        answer.recv_timeout(CHANGE_TIMEOUT).map_err(|error| match error {
            RecvTimeoutError::Timeout => QueryError::Silent { seconds: CHANGE_TIMEOUT.as_secs() },
            RecvTimeoutError::Disconnected => QueryError::Stopping,
        })
    }

    /// The records of a kind that can be read; none, told in the log, if the store cannot.
    fn list(&self, kind: Kind) -> Vec<Record> {
        match self.look(kind) {
            Ok(listed) => listed.records.into_iter().map(|versioned| versioned.record).collect(),
            Err(error) => {
                tracing::error!(?kind, error = chain(&error), "records of the config store cannot be read");
                Vec::new()
            }
        }
    }

    /// Asks a store that has a cache before it, unless it was away a moment ago: each attempt takes seconds then, and a node
    /// with many volumes asks often.
    fn patiently<T>(&self, ask: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let away = || self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cache.is_some() && away().is_some_and(|at| at.elapsed() < STORE_REST) {
            return Err(StoreError::Unavailable { reason: "it was away a moment ago".to_owned() });
        }
        let answer = ask();
        *away() = matches!(answer, Err(StoreError::Unavailable { .. })).then(Instant::now);
        answer
    }

    /// The store was away when this node started: its record tells of this life as soon as it is back.
    fn record_life(&self) -> Result<(), StoreError> {
        let (id, mine) = (self.node, &self.record);
        let found = match self.store.get(Key::Node(id)) {
            Ok(Some(found)) => found,
            // Newer software at another node wrote it while this one runs, as when it is drained: what has nothing to do with
            // it goes on.
            Ok(None) | Err(StoreError::Record { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        match found.record {
            Record::Node(known) if known.incarnation.start < mine.incarnation.start => {
                let _ = self.change(Key::Node(id), |record| match record {
                    Record::Node(known) => Some(Record::Node(NodeRecord { state: known.state, ..mine.clone() })),
                    other => Some(other),
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Stores a new record.
    fn insert(&self, record: &Record) -> Result<(), SetError> {
        self.store.compare_and_set(record.key(), None, Some(record)).map(|_| ())
    }

    /// Changes a record, or deletes it if `change` gives none. A record that is gone stays gone.
    fn change(&self, key: Key, change: impl Fn(Record) -> Option<Record>) -> Result<(), SetError> {
        for _ in 0..ATTEMPTS {
            let Some((version, record)) = self.find(key).map_err(SetError::Store)? else { return Ok(()) };
            match self.store.compare_and_set(key, Some(version), change(record).as_ref()) {
                Ok(_) => return Ok(()),
                Err(SetError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let reason = "the record is changed all the time".to_owned();
        Err(SetError::Store(StoreError::Unavailable { reason }))
    }

    fn find(&self, key: Key) -> Result<Option<(Version, Record)>, StoreError> {
        let found = match (self.patiently(|| self.store.get(key)), &self.cache) {
            // As in `look`.
            (Err(StoreError::Unavailable { .. }), Some(cache)) => cache.get(key).map(|found| (*found).clone()),
            (answer, _) => answer?,
        };
        Ok(found.map(|Versioned { version, record }| (version, record)))
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
