//! The start and the end of a node: its store, its threads, its portals.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use dyad_cluster::{Incarnation, Kind, Name, NodeRecord, Record, SetError, Store, StoreError};
use dyad_mirror::{LeaseTuning, Leases};
use dyad_payload::Slab;
use dyad_store::LocalStore;
use dyad_units::{BootId, NodeId, StoreId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin::{Admin, REQUESTS_MAX, Request};
use crate::beats::{self, LeaseTable};
use crate::catalog::Catalog;
use crate::clock;
use crate::control::{NodeHandle, NodePhase, StopError};
use crate::keeper::{self, QUESTIONS_MAX};
use crate::reactor::{ListenError, Listener, Mailbox, Reactor, ReactorError, ReactorSetup};
use crate::settings::{BadSetting, Settings};
use crate::shm::{ShmDir, ShmError};

/// The config store's file in the data directory.
const STORE_FILE: &str = "config.redb";
/// Descriptors beside those of connections: disks, logs, the store, the administration's sockets.
const SPARE_DESCRIPTORS: u64 = 256;

/// A node did not start. Nothing was changed but the count of its starts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The data directory cannot be made.
    #[error("the data directory {} cannot be made", .path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The config store cannot be opened.
    #[error(transparent)]
    OpenStore(#[from] dyad_store::OpenError),
    /// The config store cannot be read.
    #[error("the config store cannot be read")]
    ReadStore(#[source] StoreError),
    /// The config store cannot be written.
    #[error("the start cannot be recorded in the config store")]
    WriteStore(#[source] SetError),
    /// There is no memory that outlives the process.
    #[error(transparent)]
    Shm(#[from] ShmError),
    /// A portal cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The reactor cannot be made.
    #[error(transparent)]
    Reactor(#[from] ReactorError),
    /// The kernel refused something basic.
    #[error("{what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running node: the owner of its threads.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
    reactor: JoinHandle<usize>,
    keeper: JoinHandle<()>,
    admin: JoinHandle<()>,
    beats: JoinHandle<()>,
    stop_beats: SyncSender<()>,
}

impl Node {
    /// Starts a node: opens its config store and its portals, then brings its pools and volumes into service
    /// in the background ([`NodeHandle::wait_until_running`] tells when). Hosts that come before their volume
    /// is there are asked to come again.
    ///
    /// # Errors
    /// See [`StartError`]. A pool or a volume that cannot be used is no reason: its status says why.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        settings.check()?;
        let settings = Arc::new(settings);
        raise_descriptor_limit(&settings);
        make_data_dir(&settings.data_dir)?;
        let fresh = || StoreId::from_bytes(clock::random_id());
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&settings.data_dir.join(STORE_FILE), fresh)?);
        let shm = ShmDir::open(settings.shm_dir.as_deref())?;
        let listeners: Vec<_> =
            settings.iscsi.portals.iter().map(|&address| Listener::bind(address)).collect::<Result<_, _>>()?;
        let node = record_start(&*store, &settings)?;
        tracing::info!(node = %node.name, id = %node.id, start = node.incarnation.start, "starting");
        Self::start_threads(settings, store, shm, listeners, node)
    }

    fn start_threads(
        settings: Arc<Settings>,
        store: Arc<dyn Store>,
        shm: ShmDir,
        listeners: Vec<Listener>,
        node: NodeRecord,
    ) -> Result<Self, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let mailbox = Arc::new(Mailbox::new().map_err(system("no event descriptor is left"))?);
        let slab = Slab::new(usize::try_from(settings.buffers.value()).unwrap_or(usize::MAX));
        let portals = listeners.iter().map(|listener| listener.address).collect();
        let (questions, asked) = sync_channel(QUESTIONS_MAX);
        let table = Leases::new(node.id, node.incarnation, LeaseTuning::default(), clock::now());
        let leases = Arc::new(LeaseTable::new(table));
        // It beats before anything is served and after everything has ended.
        let (stop_beats, end) = sync_channel(1);
        let beats = {
            let leases = leases.clone();
            spawn("beats", move || beats::run(&leases, &end))?
        };
        let setup = ReactorSetup {
            settings: settings.clone(),
            listeners,
            mailbox: mailbox.clone(),
            questions,
            slab: slab.clone(),
            node: node.id,
            incarnation: node.incarnation,
            store: store.identity(),
            leases,
        };
        let reactor = start_reactor(setup)?;
        let catalog = Arc::new(Catalog::new(node.clone(), clock::now()));
        let keeper = {
            let (store, mailbox) = (store.clone(), mailbox.clone());
            spawn("store", move || keeper::run(&store, &asked, &mailbox))?
        };
        let (requests, requested) = sync_channel(REQUESTS_MAX);
        let admin = Admin {
            settings: settings.clone(),
            node: node.id,
            store,
            shm,
            slab,
            mailbox: mailbox.clone(),
            catalog: catalog.clone(),
        };
        let admin = spawn("admin", move || admin.run(&requested))?;
        let buffers_max = settings.buffers;
        let handle = NodeHandle { settings, portals, mailbox, catalog, requests, buffers_max };
        Ok(Self { handle, reactor, keeper, admin, beats, stop_beats })
    }

    /// A way in, to be cloned as needed.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Waits for the end of the node, which [`NodeHandle::stop`] asks for.
    ///
    /// # Errors
    /// See [`StopError`].
    pub fn wait(self) -> Result<(), StopError> {
        let ended = self.reactor.join();
        self.handle.catalog.lock().phase = NodePhase::Stopping;
        let asked = end_admin(&self.handle.requests);
        let keeper = self.keeper.join();
        let admin = if asked { self.admin.join() } else { Ok(()) };
        drop(self.stop_beats);
        let beats = self.beats.join();
        let left = ended.map_err(|_| StopError::Fault { thread: "data" })?;
        keeper.map_err(|_| StopError::Fault { thread: "store" })?;
        admin.map_err(|_| StopError::Fault { thread: "admin" })?;
        beats.map_err(|_| StopError::Fault { thread: "beats" })?;
        if left > 0 {
            let seconds = self.handle.settings.stop_timeout.to_duration().as_secs();
            return Err(StopError::CutOff { seconds, left });
        }
        Ok(())
    }
}

/// Lets the administration thread end; `false` if it does not listen, which must not hold up the end.
fn end_admin(requests: &SyncSender<Request>) -> bool {
    requests.try_send(Request::End).is_ok()
}

/// The reactor is made on the thread that runs it: its ring belongs to that thread.
fn start_reactor(setup: ReactorSetup) -> Result<JoinHandle<usize>, StartError> {
    let (made, how) = sync_channel(1);
    let mailbox = setup.mailbox.clone();
    let thread = spawn("data", move || {
        // Whatever ends the reactor, nobody may wait for its answers.
        let _close = CloseOnDrop(mailbox);
        let mut reactor = match Reactor::new(setup) {
            Ok(reactor) => reactor,
            Err(error) => {
                let _ = made.send(Err(error));
                return 0;
            }
        };
        let _ = made.send(Ok(()));
        reactor.run();
        reactor.left()
    })?;
    match how.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let source = io::Error::other("it ended at once");
            Err(StartError::System { what: "the data thread cannot be started", source })
        }
    }
}

struct CloseOnDrop(Arc<Mailbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(body);
    thread.map_err(|source| StartError::System { what: "a thread cannot be started", source })
}

fn make_data_dir(path: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StartError::DataDir { path: path.into(), source })
}

/// Connections need descriptors: as many as the administrator allows, or as the system lets us have.
fn raise_descriptor_limit(settings: &Settings) {
    let wanted = u64::from(settings.iscsi.connections_max) + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    if raised.is_err() || current < wanted {
        tracing::warn!(wanted, current, "fewer descriptors than connections_max needs: some hosts may have to wait");
    }
}

/// Counts the start, durably, before anything else is done (M11); the first one makes the node's identity.
fn record_start(store: &dyn Store, settings: &Settings) -> Result<NodeRecord, StartError> {
    let boot = clock::boot_id().map_err(|source| {
        let what = "the kernel does not tell which start of the machine this is";
        StartError::System { what, source }
    })?;
    let boot = BootId::from_bytes(boot);
    let name = |text: &str, key| text.parse::<Name>().map_err(|error| BadSetting { key, problem: error.to_string() });
    let (name, site) = (name(&settings.node_name, "node_name")?, name(&settings.site, "site")?);
    let known = store.list(Kind::Node).map_err(StartError::ReadStore)?.into_iter().next();
    let (version, record) = match known.map(|known| (known.version, known.record)) {
        Some((version, Record::Node(old))) => (Some(version), NodeRecord { name, site, ..old.started(boot) }),
        _ => {
            let id = NodeId::from_bytes(clock::random_id());
            (None, NodeRecord { id, name, site, incarnation: Incarnation { boot, start: 1 } })
        }
    };
    let new = Record::Node(record.clone());
    store.compare_and_set(new.key(), version, Some(&new)).map_err(StartError::WriteStore)?;
    Ok(record)
}
