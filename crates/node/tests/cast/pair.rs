//! Two nodes and an arbiter in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::Options;
use dyad_node::control::VolumePhase;
use dyad_node::settings::{Settings, StoreChoice};
use dyad_store::arbiter::{ArbiterServer, ServeConfig};
use dyad_store::{Authority, LocalStore, Tls};
use dyad_units::StoreId;
use socket2::{Domain, Protocol, Socket, Type};

use super::Stage;

/// The arbiter and two nodes.
pub struct Pair {
    pub one: Stage,
    pub other: Stage,
    /// None: it is lost.
    pub arbiter: Option<Arbiter>,
}

/// An arbiter alone.
pub struct Arbiter {
    server: ArbiterServer,
    dir: tempfile::TempDir,
}

impl Arbiter {
    pub fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    /// Over the store `config.redb` in the directory, made if missing.
    pub fn over(dir: tempfile::TempDir) -> Self {
        Self::serve(dir, None)
    }

    /// One that wants certificates of this authority.
    pub fn encrypted(authority: &Authority) -> Self {
        Self::serve(tempfile::tempdir().unwrap(), Some(certified(authority, "arbiter")))
    }

    /// The one that [ended](Self::end), where it was.
    pub fn again(dir: tempfile::TempDir, listen: Vec<SocketAddr>) -> Self {
        Self::serve_at(dir, listen, None)
    }

    fn serve(dir: tempfile::TempDir, tls: Option<Tls>) -> Self {
        Self::serve_at(dir, vec![loopback()], tls)
    }

    fn serve_at(dir: tempfile::TempDir, listen: Vec<SocketAddr>, tls: Option<Tls>) -> Self {
        let store = LocalStore::open(&dir.path().join("config.redb"), || StoreId::from_bytes([7; 16])).unwrap();
        let config = ServeConfig { listen, tls };
        Self { server: ArbiterServer::start(Arc::new(store), &config).unwrap(), dir }
    }

    /// Ends it; what it keeps its records in.
    pub fn end(self) -> tempfile::TempDir {
        drop(self.server);
        self.dir
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.server.addresses().to_vec()
    }

    /// As nodes are told of it.
    pub fn choice(&self) -> StoreChoice {
        StoreChoice::Arbiter { addresses: self.server.addresses().to_vec(), tls: None }
    }

    /// As a node is told of it that shows this certificate.
    pub fn choice_with(&self, tls: &Tls) -> StoreChoice {
        let tls = Some((tls.clone(), "arbiter".to_owned()));
        StoreChoice::Arbiter { addresses: self.server.addresses().to_vec(), tls }
    }

    /// A node that keeps its records there, with other settings than the usual ones.
    pub fn node(&self, name: &str, change: impl FnOnce(&mut Settings)) -> Stage {
        let store = self.choice();
        Stage::with(|settings| {
            settings.node_name = name.into();
            settings.store = store;
            settings.peer.listen = Some(loopback());
            change(settings);
        })
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A port that stays free for whoever listens on it, as long as the socket lives: bound with SO_REUSEADDR, no connection
/// that goes out gets it.
pub fn free_port() -> (SocketAddr, Socket) {
    let held = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    held.set_reuse_address(true).unwrap();
    held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    (held.local_addr().unwrap().as_socket().unwrap(), held)
}

/// Looks until it is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// SENSE KEY, ADDITIONAL SENSE CODE and its qualifier.
pub type Sense = (u8, u8, u8);

/// ASYMMETRIC ACCESS STATE CHANGED: another node is owner.
pub const OTHER_OWNER: Sense = (6, 0x2a, 6);

/// A host named `host{name}` that is logged in to the volume `v`, as soon as it is served here.
pub fn host(stage: &Stage, name: u32) -> Disk {
    let options = || Options { initiator: format!("iqn.2026-11.example:host{name}"), ..stage.login("v") };
    let mut found = None;
    wait_until("a login", || {
        found = Disk::open(&options()).ok();
        found.is_some()
    });
    found.unwrap()
}

/// Sent again while the target says BUSY or has such news: the command had no effect then (M18).
#[track_caller]
pub fn patiently<T>(
    mut command: impl FnMut() -> Result<T, DiskError>,
    is_news: impl Fn(Sense) -> bool,
) -> Result<T, DiskError> {
    /// An owner that moves all the time keeps a command waiting, not for ever.
    const PATIENCE: Duration = Duration::from_secs(20);
    const BUSY: u8 = 0x08;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match command() {
            Err(DiskError::Status { status, sense, .. }) if status == BUSY || sense.is_some_and(&is_news) => {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
    panic!("busy all the time");
}

impl Pair {
    /// Running, with a volume `v` that has an image on each.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, with connections between the nodes encrypted.
    pub fn encrypted(authority: &Authority) -> Self {
        Self::with(|settings| settings.peer.tls = Some(certified(authority, &settings.node_name)))
    }

    /// The same, with other settings than the usual ones.
    pub fn with(change: impl Fn(&mut Settings)) -> Self {
        let pair = Self::bare(change);
        pair.one.add_pool("a");
        pair.other.add_pool("b");
        // A node hears of the other's pool by the store's news.
        wait_until("two images", || pair.one.handle().create_volume(pair.one.volume("v", &[])).is_ok());
        wait_until("served at the other", || pair.other.handle().volume("v").is_ok_and(|v| is_served(&v.phase)));
        pair
    }

    /// Two nodes without pools, with other settings than the usual ones.
    pub fn bare(change: impl Fn(&mut Settings)) -> Self {
        let arbiter = Arbiter::new();
        let (one, other) = (arbiter.node("one", &change), arbiter.node("other", &change));
        Self { one, other, arbiter: Some(arbiter) }
    }
}

/// What a node of this name shows.
pub fn certified(authority: &Authority, name: &str) -> Tls {
    let made = authority.issue(name, &[]).unwrap();
    let authority = authority.certificate().as_bytes().to_vec();
    Tls { authority, certificate: made.certificate.into_bytes(), key: made.key.into_bytes() }
}

/// Nothing is left to compare.
pub fn is_served(phase: &VolumePhase) -> bool {
    matches!(phase, VolumePhase::Serving { comparing: 0 })
}

/// Images in sync, as this node says.
pub fn in_sync(stage: &Stage) -> usize {
    stage.handle().images().unwrap().iter().filter(|image| image.state == "in-sync").count()
}
