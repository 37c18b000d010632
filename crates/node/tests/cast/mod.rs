//! A node with its files in a temporary directory, and a host that uses it.

#![allow(dead_code, reason = "each test file uses a part of the cast")]

pub mod pair;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dyad_bench::disk::Disk;
use dyad_bench::initiator::Options;
use dyad_node::control::{AccessRules, CreatePool, CreateVolume, WhenFew};
use dyad_node::settings::{BackendChoice, Settings};
use dyad_node::{Node, NodeHandle, StartError};
use dyad_units::{Bytes, Period};

/// Everything of one node; stopped and removed when dropped.
pub struct Stage {
    pub dir: tempfile::TempDir,
    _shm: tempfile::TempDir,
    pub settings: Settings,
    node: Option<Node>,
}

/// Ends the loops of a scope's threads however the scope is left: a failed assertion would wait for them for ever.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A question to another node is answered or given up within a second; twice and more for a busy machine.
const STORE_FREE_MAX: Duration = Duration::from_secs(5);

/// Starts a node with the data directory of one that ended in this process. A thread of that one that asked another node at the end
/// still holds the cache for a moment: a process would have taken it with it.
pub fn start_again(settings: &Settings) -> Result<Node, StartError> {
    let end = Instant::now() + STORE_FREE_MAX;
    loop {
        match Node::start(settings.clone()) {
            Err(StartError::OpenStore(_)) if Instant::now() < end => std::thread::yield_now(),
            started => return started,
        }
    }
}

impl Stage {
    /// A running node without pools.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A running node with other settings than the usual ones.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).try_init();
        let dir = tempfile::tempdir().unwrap();
        let shm = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut settings =
            Settings { data_dir: dir.path().join("data"), shm_dir: Some(shm.path().to_owned()), ..Settings::default() };
        settings.iscsi.portals = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        settings.disk.backend = BackendChoice::Auto;
        change(&mut settings);
        let mut stage = Self { dir, _shm: shm, settings, node: None };
        stage.start();
        stage
    }

    /// A running node with two pools `a` and `b` and a volume `v` with an image in each.
    pub fn mirrored() -> Self {
        let stage = Self::new();
        stage.add_pool("a");
        stage.add_pool("b");
        stage.add_volume("v", &["a", "b"]);
        stage
    }

    pub fn start(&mut self) {
        let node = start_again(&self.settings).unwrap();
        node.handle().wait_until_running(Period::from_secs(30)).unwrap();
        self.node = Some(node);
    }

    /// Ends the node in good order.
    pub fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.handle().stop();
            node.wait().unwrap();
        }
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub fn handle(&self) -> &NodeHandle {
        self.node.as_ref().unwrap().handle()
    }

    pub fn pool_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.pool"))
    }

    pub fn pool(&self, name: &str) -> CreatePool {
        let size = Some(Bytes::mib(256));
        CreatePool { name: name.into(), path: self.pool_path(name), size, assume_atomic_4k: false }
    }

    pub fn add_pool(&self, name: &str) {
        self.handle().create_pool(self.pool(name)).unwrap();
    }

    pub fn volume(&self, name: &str, pools: &[&str]) -> CreateVolume {
        CreateVolume {
            name: name.into(),
            size: Bytes::mib(64),
            pools: pools.iter().map(|&pool| pool.to_owned()).collect(),
            block_bytes: 512,
            cache: true,
            min_in_sync: 1,
            when_few: WhenFew::Error,
            access: AccessRules::default(),
        }
    }

    pub fn add_volume(&self, name: &str, pools: &[&str]) {
        self.handle().create_volume(self.volume(name, pools)).unwrap();
    }

    pub fn portal(&self) -> SocketAddr {
        self.handle().node().unwrap().portals[0]
    }

    /// How a host logs in to a volume.
    pub fn login(&self, volume: &str) -> Options {
        Options::new(self.portal(), &self.handle().volume(volume).unwrap().target)
    }

    /// A host that is logged in.
    pub fn host(&self, volume: &str) -> Disk {
        Disk::open(&self.login(volume)).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.handle().stop();
            let _ = node.wait();
        }
    }
}
