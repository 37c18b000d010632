//! Two nodes and an arbiter in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyad_node::control::VolumePhase;
use dyad_node::settings::StoreChoice;
use dyad_store::LocalStore;
use dyad_store::arbiter::{ArbiterServer, ServeConfig};
use dyad_units::StoreId;

use super::Stage;

/// The arbiter and two nodes.
pub struct Pair {
    pub one: Stage,
    pub other: Stage,
    _arbiter: ArbiterServer,
    _dir: tempfile::TempDir,
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Looks until it is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Pair {
    /// Running, with a volume `v` that has an image on each.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&dir.path().join("config.redb"), || StoreId::from_bytes([7; 16])).unwrap();
        let config = ServeConfig { listen: vec![loopback()], tls: None };
        let arbiter = ArbiterServer::start(Arc::new(store), &config).unwrap();
        let addresses = arbiter.addresses().to_vec();
        let node = |name: &str| {
            let store = StoreChoice::Arbiter { addresses: addresses.clone(), tls: None };
            Stage::with(|settings| {
                settings.node_name = name.into();
                settings.store = store;
                settings.peer.listen = Some(loopback());
            })
        };
        let pair = Self { one: node("one"), other: node("other"), _arbiter: arbiter, _dir: dir };
        pair.one.add_pool("a");
        pair.other.add_pool("b");
        // A node hears of the other's pool by the store's news.
        wait_until("two images", || pair.one.handle().create_volume(pair.one.volume("v", &[])).is_ok());
        wait_until("served at the other", || pair.other.handle().volume("v").is_ok_and(|v| is_served(&v.phase)));
        pair
    }
}

/// Nothing is left to compare.
pub fn is_served(phase: &VolumePhase) -> bool {
    matches!(phase, VolumePhase::Serving { comparing: 0 })
}

/// Images in sync, as this node says.
pub fn in_sync(stage: &Stage) -> usize {
    stage.handle().images().unwrap().iter().filter(|image| image.state == "in-sync").count()
}
