//! The start and the end of a node: its store, its threads, its portals.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use dyad_cluster::{
    DecodeError, Incarnation, Key, Kind, Listed, Name, NodeRecord, NodeState, ParseNameError, Record, SetError, Store,
    StoreError, Version, Versioned,
};
use dyad_mirror::{LeaseTuning, Leases};
use dyad_payload::Slab;
use dyad_store::{Cache, ConfigError, Shown};
use dyad_units::{BootId, ClusterId, NodeId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin::{self, Admin, News, REQUESTS_MAX, Request};
use crate::beats::Beats;
use crate::catalog::Catalog;
use crate::clock;
use crate::config_store::{self, Opened, StoreStartError, UntilTheEnd};
use crate::control::{NodeHandle, NodePhase, StopError};
use crate::identity::Identity;
use crate::join::Reception;
use crate::keeper::{self, QUESTIONS_MAX};
use crate::peers::tls::{self, PeerTls};
use crate::peers::{Door, Peers, Transport};
use crate::reactor::{ListenError, Listener, Mailbox, Reactor, ReactorError, ReactorSetup};
use crate::settings::{BadSetting, Settings, StoreChoice};
use crate::shm::{ShmDir, ShmError};
use crate::talk;

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
    OpenStore(#[from] StoreStartError),
    /// The config store cannot be read.
    #[error("the config store cannot be read")]
    ReadStore(#[source] StoreError),
    /// The config store cannot be written.
    #[error("the start cannot be recorded in the config store")]
    WriteStore(#[source] SetError),
    /// The node is of the cluster no more.
    #[error(
        "this node was removed from the cluster: to let the machine join as a new node, move its data directory away \
         and run `dyad node join`"
    )]
    Removed,
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
    desk: JoinHandle<()>,
    beating: JoinHandle<()>,
    beats: Arc<Beats>,
    peers: Arc<Peers>,
    door: Option<Door>,
}

/// What a start has come to before its threads begin.
struct Start {
    settings: Arc<Settings>,
    opened: Opened,
    shm: ShmDir,
    listeners: Vec<Listener>,
    door: Option<Door>,
    transport: Transport,
    identity: Identity,
    node: NodeRecord,
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { what, source }
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
        let known = Identity::read(&settings.data_dir).map_err(system("the file with the node's identity"))?;
        let opened = match config_store::open(&settings.store, &settings.data_dir, known.as_ref()) {
            Err(StoreStartError::Removed | StoreStartError::Config(ConfigError::Removed)) => {
                return Err(StartError::Removed);
            }
            opened => opened?,
        };
        let shm = ShmDir::open(settings.shm_dir.as_deref())?;
        let listeners: Vec<_> =
            settings.iscsi.portals.iter().map(|&address| Listener::bind(address)).collect::<Result<_, _>>()?;
        let transport = transport(&settings)?;
        let door = settings.peer.listen.map(|address| {
            let fault = |source| ListenError { address, source };
            Door::bind(address).map_err(fault)
        });
        let door = door.transpose()?;
        let reached = match &door {
            Some(door) if settings.peer.addresses.is_empty() => vec![door.address().to_string()],
            _ => settings.peer.addresses.clone(),
        };
        let portals = listeners.iter().map(|listener| listener.address.to_string()).collect();
        let (identity, node) = record_start(&opened, &settings, known, (reached, portals))?;
        tracing::info!(node = %node.name, id = %node.id, start = node.incarnation.start, "starting");
        Self::start_threads(Start { settings, opened, shm, listeners, door, transport, identity, node })
    }

    fn start_threads(start: Start) -> Result<Self, StartError> {
        let Start { settings, opened, shm, listeners, door, transport, identity, node } = start;
        let Opened { store, cache, health, .. } = opened;
        let mailbox = Arc::new(Mailbox::new().map_err(system("no event descriptor is left"))?);
        let store: Arc<dyn Store> = Arc::new(UntilTheEnd::new(store, mailbox.clone()));
        let slab = Slab::new(usize::try_from(settings.buffers.value()).unwrap_or(usize::MAX));
        let portals = listeners.iter().map(|listener| listener.address).collect();
        let (questions, asked) = sync_channel(QUESTIONS_MAX);
        let (callers, called) = sync_channel(talk::CALLERS_MAX);
        let leases = Leases::new(node.id, node.incarnation, LeaseTuning::default(), clock::now());
        let beats = Arc::new(Beats::new(leases).map_err(system("no event descriptor is left"))?);
        // It beats before anything is served and after everything has ended.
        let beating = {
            let beats = beats.clone();
            spawn("beats", move || beats.run())?
        };
        let setup = ReactorSetup {
            settings: settings.clone(),
            listeners,
            mailbox: mailbox.clone(),
            questions,
            callers,
            slab: slab.clone(),
            node: node.id,
            incarnation: node.incarnation,
            store: store.identity(),
            beats: beats.clone(),
        };
        let reactor = start_reactor(setup)?;
        let local = local(&identity, &node, &*store);
        let addresses = node.peers.clone();
        let reception = Arc::new(Reception::new(settings.clone(), node.name.clone(), addresses, store.clone()));
        let peers = Peers::new(local, transport, reception.clone(), slab.clone(), mailbox.clone(), beats.clone());
        let catalog = Arc::new(Catalog::new(node.clone(), clock::now()));
        let keeper = {
            let (store, mailbox) = (store.clone(), mailbox.clone());
            spawn("store", move || keeper::run(&store, &asked, &mailbox))?
        };
        let (requests, requested) = sync_channel(REQUESTS_MAX);
        let news = Arc::new(News::new(requests.clone(), settings.peer.listen.is_none()));
        {
            let (news, mailbox) = (news.clone(), mailbox.clone());
            store.watch(Box::new(move |changed| news.hear(changed, &mailbox)));
        }
        let admin = Admin {
            settings: settings.clone(),
            node: node.id,
            incarnation: node.incarnation,
            store,
            cache,
            away: Mutex::default(),
            record: node,
            shm,
            slab,
            mailbox: mailbox.clone(),
            catalog: catalog.clone(),
            peers: peers.clone(),
            news,
            exported: Mutex::default(),
            health: health.clone(),
        };
        let admin = spawn("admin", move || admin.run(&requested))?;
        let door = door.map(|mut door| door.open(&peers).map(|()| door)).transpose();
        let door = door.map_err(system("a thread cannot be started"))?;
        let handle =
            NodeHandle { settings, portals, mailbox, catalog, peers: peers.clone(), reception, requests, health };
        let desk = start_desk(&handle, called)?;
        Ok(Self { handle, reactor, keeper, admin, desk, beating, beats, peers, door })
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
        let desk = self.desk.join();
        let admin = if asked { self.admin.join() } else { Ok(()) };
        drop(self.door);
        self.peers.stop();
        self.beats.end();
        let beats = self.beating.join();
        let left = ended.map_err(|_| StopError::Fault { thread: "data" })?;
        keeper.map_err(|_| StopError::Fault { thread: "store" })?;
        admin.map_err(|_| StopError::Fault { thread: "admin" })?;
        desk.map_err(|_| StopError::Fault { thread: "desk" })?;
        beats.map_err(|_| StopError::Fault { thread: "beats" })?;
        if left > 0 {
            let seconds = self.handle.settings.stop_timeout.to_duration().as_secs();
            return Err(StopError::CutOff { seconds, left });
        }
        Ok(())
    }
}

/// Answers other nodes.
fn start_desk(handle: &NodeHandle, called: Receiver<talk::Caller>) -> Result<JoinHandle<()>, StartError> {
    let handle = handle.clone();
    spawn("desk", move || talk::run(&handle, &called))
}

/// This node, as it greets others.
fn local(identity: &Identity, node: &NodeRecord, store: &dyn Store) -> dyad_wire::Local {
    dyad_wire::Local {
        versions: dyad_wire::VERSIONS,
        cluster: identity.cluster,
        node: node.id,
        name: node.name.clone(),
        incarnation: node.incarnation,
        store: store.identity(),
        reactors: 1,
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

/// How the nodes connect: encrypted where there are certificates, unless the administrator says otherwise.
fn transport(settings: &Settings) -> Result<Transport, StartError> {
    let peer = &settings.peer;
    match &peer.tls {
        Some(tls) if !peer.allow_plain => {
            let bad = |key, problem: String| BadSetting { key, problem };
            let name =
                settings.node_name.parse().map_err(|error: ParseNameError| bad("node_name", error.to_string()))?;
            tls::server_name(&name).map_err(|error| bad("node_name", error.to_string()))?;
            Ok(Transport::Tls(PeerTls::new(tls).map_err(|error| bad("peer.certificate", admin::chain(&error)))?))
        }
        _ => Ok(Transport::Plain { is_allowed: peer.allow_plain }),
    }
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

/// Which node the certificate is of; none: it does not tell.
fn certified(settings: &Settings) -> Result<Option<NodeId>, StartError> {
    let Some(tls) = &settings.peer.tls else { return Ok(None) };
    let bad = |error| BadSetting { key: "peer.certificate", problem: admin::chain(&error) };
    Ok(Shown::in_pem(&tls.certificate).map_err(bad)?.node)
}

type Unread = Vec<(Key, DecodeError)>;

/// The nodes of the cluster, and which records of nodes cannot be read; from the cache if the store is away.
fn known_nodes(store: &dyn Store, away: Option<&Cache>) -> Result<(Vec<(Version, NodeRecord)>, Unread), StartError> {
    let Listed { records, unreadable } = match away {
        Some(cache) => Listed { records: cache.list(Kind::Node), ..Listed::default() },
        None => store.list_readable(Kind::Node).map_err(StartError::ReadStore)?,
    };
    let node = |found: Versioned| match found.record {
        Record::Node(node) => Some((found.version, node)),
        _ => None,
    };
    Ok((records.into_iter().filter_map(node).collect(), unreadable))
}

/// Another node's record that cannot be read is no reason not to start, unless it may say that the name is taken; this node's
/// own is: it tells which of its lives is the newest (M11).
fn check_unread(unread: &[(Key, DecodeError)], node: NodeId, is_named: bool) -> Result<(), StartError> {
    match unread.iter().find(|(key, _)| *key == Key::Node(node) || !is_named) {
        Some(&(key, source)) => Err(StartError::ReadStore(StoreError::Record { key, source })),
        None => Ok(()),
    }
}

/// Counts the start, durably, before anything else is done (M11); the first one makes the node's identity. `reached`:
/// where the other nodes reach this one, and where hosts do.
fn record_start(
    Opened { store, cache, is_away, .. }: &Opened,
    settings: &Settings,
    known: Option<Identity>,
    (peers, portals): (Vec<String>, Vec<String>),
) -> Result<(Identity, NodeRecord), StartError> {
    let boot = clock::boot_id().map_err(system("the kernel does not tell which start of the machine this is"))?;
    let boot = BootId::from_bytes(boot);
    let name = |text: &str, key| text.parse::<Name>().map_err(|error| BadSetting { key, problem: error.to_string() });
    let (name, site) = (name(&settings.node_name, "node_name")?, name(&settings.site, "site")?);
    let (nodes, unread) = known_nodes(&**store, cache.as_deref().filter(|_| *is_away))?;
    let certified = certified(settings)?;
    // A store of one node from before there was a file with the identity.
    let from_before = match (&settings.store, &nodes[..]) {
        (StoreChoice::Local, [(_, only)]) => Some(only.id),
        _ => None,
    };
    let is_first = known.is_none();
    let mut identity = known.unwrap_or_else(|| Identity {
        node: from_before.or(certified).unwrap_or_else(|| NodeId::from_bytes(clock::random_id())),
        cluster: ClusterId::from_bytes(store.identity().to_bytes()),
        store: store.identity(),
        starts: 0,
    });
    let bears = |node: &NodeRecord| node.name == name && node.id != identity.node && node.state != NodeState::Removed;
    if let Some((_, other)) = nodes.iter().find(|(_, node)| bears(node)) {
        let problem = format!("node {} of this cluster is called {name} already; choose another name", other.id);
        return Err(BadSetting { key: "node_name", problem }.into());
    }
    let recorded = nodes.into_iter().find(|(_, node)| node.id == identity.node);
    let is_named = recorded.as_ref().is_some_and(|(_, node)| node.name == name);
    check_unread(&unread, identity.node, is_named)?;
    let state = recorded.as_ref().map_or(NodeState::Active, |(_, node)| node.state);
    if state == NodeState::Removed {
        return Err(StartError::Removed);
    }
    let bad = |problem| Err(StartError::from(BadSetting { key: "peer.certificate", problem }));
    if certified.is_some_and(|node| node != identity.node) {
        return bad(format!("it is of another node than the data directory, which is node {}'s", identity.node));
    }
    if is_first && certified.is_some() && recorded.is_some() {
        // Another machine has a copy of the key, or this one lost what says which of its lives is the newest (M11).
        return bad("its node has run before, and not with this data directory: remove that node, and join anew".into());
    }
    let counted = recorded.as_ref().map_or(0, |(_, node)| node.incarnation.start);
    identity.starts = identity.starts.max(counted).saturating_add(1);
    identity.write(&settings.data_dir).map_err(system("the file with the node's identity"))?;
    let incarnation = Incarnation { boot, start: identity.starts };
    let admin = settings.admin.clone();
    let record = NodeRecord { id: identity.node, name, site, incarnation, peers, portals, admin, state };
    if *is_away && recorded.is_some() {
        // The count is durable here; the record follows when the store is back.
        return Ok((identity, record));
    }
    let new = Record::Node(record.clone());
    let expected = recorded.map(|(version, _)| version);
    store.compare_and_set(new.key(), expected, Some(&new)).map_err(StartError::WriteStore)?;
    Ok((identity, record))
}
