//! The store at the arbiter, over mutual TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dyad_cluster::{SetError, Store, StoreError, Version};
use dyad_store::arbiter::{ArbiterConfig, ServeConfig};
use dyad_store::{ArbiterServer, ArbiterStore, ConfigError, LocalStore, Tls};
use dyad_units::StoreId;

use super::history::Heard;
use super::proxy::{Mood, Proxy};
use super::records::{eventually, get, pool, put, set};
use super::setters::Setters;
use super::suite::{Far, Stage, run_far, run_near};
use super::tls::Authority;

pub const STORE: StoreId = StoreId::from_bytes([9; 16]);
pub const NAME: &str = "arbiter.test";

/// An arbiter that can be stopped and started again.
pub struct Arbiter {
    authority: Authority,
    tls: Tls,
    pub address: SocketAddr,
    server: Mutex<Option<ArbiterServer>>,
    dir: tempfile::TempDir,
}

impl Arbiter {
    pub fn new() -> Self {
        let authority = Authority::new("the cluster");
        let tls = authority.sign(&[NAME]);
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let mut arbiter = Self { authority, tls, address, server: Mutex::default(), dir };
        arbiter.start();
        arbiter.address = arbiter.server.lock().unwrap().as_ref().unwrap().addresses()[0];
        arbiter
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("config.redb")
    }

    pub fn start(&self) {
        self.start_with(&self.file(), &self.tls);
    }

    fn start_with(&self, file: &Path, tls: &Tls) {
        let store = Arc::new(LocalStore::open(file, || STORE).unwrap());
        let config = ServeConfig { listen: vec![self.address], tls: Some(tls.clone()) };
        *self.server.lock().unwrap() = Some(ArbiterServer::start(store, &config).unwrap());
    }

    pub fn stop(&self) {
        *self.server.lock().unwrap() = None;
    }

    pub fn connections(&self) -> usize {
        self.server.lock().unwrap().as_ref().map_or(0, ArbiterServer::connections)
    }

    pub fn config(&self, address: SocketAddr) -> ArbiterConfig {
        ArbiterConfig { addresses: vec![address], tls: Some((self.authority.sign(&["node.test"]), NAME.to_owned())) }
    }

    /// A client whose certificate has these names.
    pub fn open_as(&self, names: &[&str]) -> ArbiterStore {
        let tls = Some((self.authority.sign(names), NAME.to_owned()));
        ArbiterStore::open(&ArbiterConfig { addresses: vec![self.address], tls }, STORE, Version(0)).unwrap()
    }

    pub fn open(&self) -> Arc<ArbiterStore> {
        Arc::new(ArbiterStore::open(&self.config(self.address), STORE, Version(0)).unwrap())
    }
}

impl Stage for Arbiter {
    fn client(&self) -> Arc<dyn Store> {
        self.open()
    }

    fn far(&self) -> Option<Far> {
        let proxy = Proxy::to(self.address);
        let store = Arc::new(ArbiterStore::open(&self.config(proxy.address), STORE, Version(0)).unwrap());
        Some(Far { store, set: Box::new(move |mood| proxy.set(mood)) })
    }

    fn forget(&self, near: &dyn Store) {
        let mut version = None;
        for _ in 0..1100 {
            version = Some(set(near, version, &pool(6, "busy")).unwrap());
        }
    }
}

#[test]
fn the_store_at_the_arbiter_keeps_what_all_promise() {
    run_near(&|| Box::new(Arbiter::new()));
}

#[test]
fn the_store_at_the_arbiter_keeps_it_over_a_network_that_breaks() {
    run_far(&|| Box::new(Arbiter::new()));
}

/// Section 8: durable before it is answered; watches go on over restarts without a gap.
#[test]
fn an_arbiter_that_restarts_again_and_again_never_gives_a_wrong_outcome() {
    let arbiter = Arbiter::new();
    let clients = [arbiter.open(), arbiter.open()];
    let heard = [Heard::of(&*clients[0]), Heard::of(&*clients[1])];
    put(&*clients[0], &pool(1, "start"));
    let setters = Setters::default();
    setters.run(&[&*clients[0], &*clients[1]], || {
        for round in 0..6 {
            let before = setters.told.stored();
            // Fewer in all than the store remembers, more each time than the restart makes unknown.
            setters.allow(100);
            eventually("changes are stored", || (setters.told.stored() > before + 9 + round).then_some(()));
            arbiter.stop();
            arbiter.start();
        }
    });
    let last = put(&*clients[0], &pool(2, "end"));
    for heard in &heard {
        let [stored, ..] = setters.told.check(&heard.until(last));
        assert!(stored > 50);
    }
}

#[test]
fn another_store_at_the_same_address_is_refused_and_gets_nothing() {
    let arbiter = Arbiter::new();
    let store = arbiter.open();
    let version = put(&*store, &pool(1, "a"));
    arbiter.stop();
    let other = arbiter.file().with_file_name("other.redb");
    drop(LocalStore::open(&other, || StoreId::from_bytes([8; 16])).unwrap());
    arbiter.start_with(&other, &arbiter.tls);
    let is_other = |error: &StoreError| matches!(error, StoreError::Other { expected: STORE, found } if *found == StoreId::from_bytes([8; 16]));
    let refused = eventually("the new arbiter answers", || match store.get(pool(1, "a").key()) {
        Err(StoreError::Unavailable { .. }) => None,
        answer => Some(answer.unwrap_err()),
    });
    assert!(is_other(&refused), "{refused}");
    let refused = eventually("it is asked again", || match set(&*store, Some(version), &pool(1, "b")) {
        Err(SetError::Store(StoreError::Unavailable { .. })) => None,
        outcome => Some(outcome.unwrap_err()),
    });
    assert!(matches!(&refused, SetError::Store(error) if is_other(error)), "{refused}");
    eventually("the status says it", || store.fault().filter(|fault| fault.contains("adopt it by command")));
    let found = arbiter.config(arbiter.address).identify().unwrap().unwrap();
    assert_eq!(found, StoreId::from_bytes([8; 16]));
    arbiter.stop();
    assert_eq!(LocalStore::open(&other, || STORE).unwrap().get(pool(1, "a").key()).unwrap(), None);
}

#[test]
fn an_old_copy_put_back_is_refused() {
    let arbiter = Arbiter::new();
    let store = arbiter.open();
    put(&*store, &pool(1, "a"));
    arbiter.stop();
    let copy = arbiter.file().with_file_name("copy.redb");
    std::fs::copy(arbiter.file(), &copy).unwrap();
    arbiter.start();
    let seen = put(&*store, &pool(1, "b"));
    arbiter.stop();
    arbiter.start_with(&copy, &arbiter.tls);
    let is_back = |error: &StoreError| matches!(error, StoreError::WentBack { seen: at, .. } if *at == seen);
    let refused = eventually("the copy answers", || match store.get(pool(1, "a").key()) {
        Err(StoreError::Unavailable { .. }) => None,
        answer => Some(answer.unwrap_err()),
    });
    assert!(is_back(&refused), "{refused}");
    // A node that comes back knows it from its cache.
    let late = ArbiterStore::open(&arbiter.config(arbiter.address), STORE, seen).unwrap();
    let refused = late.get(pool(1, "a").key()).unwrap_err();
    assert!(is_back(&refused), "{refused}");
}

#[test]
fn of_several_addresses_whichever_answers_is_used() {
    let arbiter = Arbiter::new();
    let ways = [Proxy::to(arbiter.address), Proxy::to(arbiter.address)];
    let mut config = arbiter.config(ways[0].address);
    config.addresses.push(ways[1].address);
    let store = ArbiterStore::open(&config, STORE, Version(0)).unwrap();
    let heard = Heard::of(&store);
    for round in 0..4 {
        ways[round % 2].set(Mood::Cut);
        ways[1 - round % 2].set(Mood::Works);
        let version = put(&store, &pool(1, &format!("n-{round}")));
        assert_eq!(get(&store, pool(1, "a").key()).unwrap().version, version);
        assert_eq!(heard.until(version).len(), round + 1);
    }
}

#[test]
fn without_tls_only_loopback_is_served_and_used() {
    let open: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let refused = ArbiterStore::open(&ArbiterConfig { addresses: vec![open], tls: None }, STORE, Version(0));
    assert!(matches!(refused.err(), Some(ConfigError::Plain { .. })));
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Arc::new(LocalStore::open(&dir.path().join("config.redb"), || STORE).unwrap());
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let config = ServeConfig { listen: vec![listen.parse().unwrap()], tls: None };
        let refused = ArbiterServer::start(Arc::clone(&store), &config).err();
        assert!(matches!(refused, Some(ConfigError::Plain { .. })), "{listen}");
    }
    let config = ServeConfig { listen: vec!["127.0.0.1:0".parse().unwrap()], tls: None };
    let server = ArbiterServer::start(store, &config).unwrap();
    let config = ArbiterConfig { addresses: server.addresses().to_vec(), tls: None };
    let store = ArbiterStore::open(&config, STORE, Version(0)).unwrap();
    put(&store, &pool(1, "a"));
}

/// Both sides show a certificate of the cluster's authority, the arbiter's has its name.
#[test]
fn strangers_are_refused_by_both_sides() {
    let (arbiter, other) = (Arbiter::new(), Authority::new("another cluster"));
    put(&*arbiter.open(), &pool(1, "a"));
    let (ours, theirs) = (arbiter.authority.sign(&["node.test"]), other.sign(&["node.test"]));
    let mixed = Tls { authority: ours.authority.clone(), ..theirs.clone() };
    for (tls, name) in [(theirs, NAME), (mixed, NAME), (ours.clone(), "elsewhere.test")] {
        let config = ArbiterConfig { addresses: vec![arbiter.address], tls: Some((tls, name.to_owned())) };
        let store = ArbiterStore::open(&config, STORE, Version(0)).unwrap();
        let refused = store.get(pool(1, "a").key()).unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
        assert!(config.identify().unwrap().is_err());
        let refused = set(&store, None, &pool(2, "b")).unwrap_err();
        assert!(matches!(refused, SetError::Store(_) | SetError::Unknown(_)), "{refused}");
    }
    assert_eq!(arbiter.open().get(pool(2, "b").key()).unwrap(), None);
    let broken = Tls { key: b"no key".to_vec(), ..ours };
    let config = ArbiterConfig { addresses: vec![arbiter.address], tls: Some((broken, NAME.to_owned())) };
    assert!(matches!(ArbiterStore::open(&config, STORE, Version(0)).err(), Some(ConfigError::Tls { .. })));
}
