//! The store in etcd: three real members.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use dyad_cluster::{SetError, Store, StoreError, Version};
use dyad_store::etcd::{EtcdConfig, EtcdTls};
use dyad_store::{ConfigError, EtcdStore};
use dyad_units::StoreId;

use super::history::{Heard, Told};
use super::members::{Members, Secured, field, ports, program};
use super::proxy::Proxy;
use super::records::{eventually, get, pool, put, set};
use super::setters::Setters;
use super::suite::{Far, Stage, run_far, run_near};
use super::tls::Authority;

fn config(endpoints: Vec<String>, prefix: &str) -> EtcdConfig {
    EtcdConfig { endpoints, prefix: prefix.to_owned(), tls: None, user: None, allow_plain: false }
}

/// A store below a prefix of its own.
struct Place {
    members: Arc<Mutex<Members>>,
    prefix: String,
    identity: StoreId,
}

impl Place {
    fn new(members: &Arc<Mutex<Members>>, prefix: &str) -> Self {
        let at = config(members.lock().unwrap().urls(), prefix);
        let identity = eventually("etcd takes a store", || at.create(StoreId::from_bytes([7; 16])).unwrap().ok());
        assert_eq!(at.identify().unwrap().unwrap(), Some(identity));
        assert_eq!(at.create(StoreId::from_bytes([6; 16])).unwrap().unwrap(), identity, "it is made once");
        Self { members: Arc::clone(members), prefix: prefix.to_owned(), identity }
    }

    fn open(&self) -> Arc<EtcdStore> {
        let at = config(self.members.lock().unwrap().urls(), &self.prefix);
        Arc::new(EtcdStore::open(&at, self.identity, Version(0)).unwrap())
    }
}

impl Stage for Place {
    fn client(&self) -> Arc<dyn Store> {
        self.open()
    }

    fn far(&self) -> Option<Far> {
        let members = self.members.lock().unwrap();
        let ports = [0, 1, 2].map(|at| members.port(at));
        let proxies = ports.map(|port| Proxy::to(([127, 0, 0, 1], port).into()));
        let urls = proxies.iter().map(|proxy| format!("http://{}", proxy.address)).collect();
        let store = EtcdStore::open(&config(urls, &self.prefix), self.identity, Version(0)).unwrap();
        let set = move |mood| proxies.iter().for_each(|proxy| proxy.set(mood));
        Some(Far { store: Arc::new(store), set: Box::new(set) })
    }

    fn forget(&self, near: &dyn Store) {
        let version = put(near, &pool(6, "busy")).0;
        let members = self.members.lock().unwrap();
        let body = format!("{{\"revision\": {version}, \"physical\": true}}");
        members.ask(0, "/v3/kv/compaction", &body).unwrap();
    }
}

/// Stores below fresh prefixes, one after the other.
fn places(members: &Arc<Mutex<Members>>) -> impl Fn() -> Box<dyn Stage> + '_ {
    let number = AtomicU32::new(0);
    move || Box::new(Place::new(members, &format!("/test-{}", number.fetch_add(1, Ordering::Relaxed))))
}

#[test]
fn the_store_in_etcd_keeps_what_all_promise() {
    let Some(etcd) = program() else { return };
    let members = Arc::new(Mutex::new(Members::start(&etcd, 3, None)));
    let fresh = places(&members);
    run_near(&fresh);
    run_far(&fresh);
}

/// The first among the members is killed, then one is stopped without a word, then there is no majority, then there is
/// nobody, and all come back: no wrong outcome, no gap.
#[test]
fn members_that_die_and_come_back_never_give_a_wrong_outcome() {
    let Some(etcd) = program() else { return };
    let members = Arc::new(Mutex::new(Members::start(&etcd, 3, None)));
    let place = Place::new(&members, "/dyad");
    let clients = [place.open(), place.open()];
    let heard = [Heard::of(&*clients[0]), Heard::of(&*clients[1])];
    put(&*clients[0], &pool(1, "start"));
    let setters = Setters::default();
    // It forgets changes only when it is told to.
    setters.allow(u32::MAX);
    setters.run(&[&*clients[0], &*clients[1]], || torment(&mut members.lock().unwrap(), &setters.told));
    let last = put(&*clients[0], &pool(2, "end"));
    for heard in &heard {
        let [stored, refused, unknown] = setters.told.check(&heard.until(last));
        assert!(stored > 20, "{stored} stored, {refused} refused, {unknown} unknown");
    }
}

fn torment(members: &mut Members, told: &Told) {
    let goes_on = |why: &str| {
        let before = told.stored();
        eventually(why, || (told.stored() > before + 5).then_some(()));
    };
    goes_on("changes are stored");
    let first = members.first();
    members.kill(first);
    goes_on("two members serve without the third");
    members.restart(first);
    let first = members.first();
    members.pause(first, true);
    goes_on("two members serve without the one that stopped");
    members.pause(first, false);
    goes_on("it is with them again");
    members.kill(0);
    members.kill(1);
    let before = told.failed();
    eventually("one member of three stores nothing", || (told.failed() > before + 2).then_some(()));
    members.kill(2);
    (0..3).for_each(|at| members.restart(at));
    goes_on("all are back");
}

/// Section 8: what was restored or made anew is another store, and gets nothing that was meant for the old one.
#[test]
fn another_store_in_its_place_is_refused_and_gets_nothing() {
    let Some(etcd) = program() else { return };
    let members = Arc::new(Mutex::new(Members::start(&etcd, 1, None)));
    let place = Place::new(&members, "/dyad");
    let store = place.open();
    let version = put(&*store, &pool(1, "a"));
    // The identity is deleted and made anew while the connection stays: "/dyad/store".
    let deleted = members.lock().unwrap().ask(0, "/v3/kv/deleterange", "{\"key\": \"L2R5YWQvc3RvcmU=\"}");
    assert_eq!(field(&deleted.unwrap(), "deleted").as_deref(), Some("1"));
    let refused = store.get(pool(1, "a").key()).unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    let at = config(members.lock().unwrap().urls(), "/dyad");
    let other = at.create(StoreId::from_bytes([8; 16])).unwrap().unwrap();
    assert_ne!(other, place.identity);
    let is_other = |error: &StoreError| matches!(error, StoreError::Other { expected, found } if (*expected, *found) == (place.identity, other));
    let refused = eventually("etcd is asked again", || match set(&*store, Some(version), &pool(1, "b")) {
        Err(SetError::Store(StoreError::Unavailable { .. })) => None,
        outcome => Some(outcome.unwrap_err()),
    });
    assert!(matches!(&refused, SetError::Store(error) if is_other(error)), "{refused}");
    let refused = store.get(pool(1, "a").key()).unwrap_err();
    assert!(is_other(&refused), "{refused}");
    let new = EtcdStore::open(&at, other, Version(0)).unwrap();
    assert_eq!(get(&new, pool(1, "a").key()).unwrap().record, pool(1, "a"));
    // Less than was seen.
    let refused = EtcdStore::open(&at, other, Version(1 << 40)).unwrap().get(pool(1, "a").key()).unwrap_err();
    assert!(matches!(refused, StoreError::WentBack { .. }), "{refused}");
}

#[test]
fn certificates_and_users_are_asked_for_and_shown() {
    let Some(etcd) = program() else { return };
    let (authority, stranger) = (Authority::new("etcd"), Authority::new("another"));
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (server, client) = (authority.sign(&["127.0.0.1"]), authority.sign(&["node"]));
    let file = |name: &str, text: &[u8]| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let (ca, certificate) = (file("ca", &server.authority), file("certificate", &server.certificate));
    let (key, ([port], _held)) = (file("key", &server.key), ports());
    let secured = Secured { authority: &ca, certificate: &certificate, key: &key, port };
    let members = Members::start(&etcd, 1, Some(&secured));
    let ask = |path: &str, body: &str| eventually("etcd takes users", || members.ask(0, path, body));
    for name in ["root", "dyad"] {
        ask("/v3/auth/user/add", &format!("{{\"name\": \"{name}\", \"password\": \"secret\"}}"));
        ask("/v3/auth/role/add", &format!("{{\"name\": \"{name}\"}}"));
        ask("/v3/auth/user/grant", &format!("{{\"user\": \"{name}\", \"role\": \"{name}\"}}"));
    }
    // "/dyad/" to "/dyad0": all that starts with "/dyad/".
    let all = "{\"permType\": \"READWRITE\", \"key\": \"L2R5YWQv\", \"range_end\": \"L2R5YWQw\"}";
    ask("/v3/auth/role/grant", &format!("{{\"name\": \"dyad\", \"perm\": {all}}}"));
    ask("/v3/auth/enable", "{}");

    let tls = |shown: &dyad_store::Tls| {
        let identity = Some((shown.certificate.clone(), shown.key.clone()));
        EtcdTls { authority: authority.sign(&["x"]).authority, identity, name: None }
    };
    let mut at = config(vec![format!("https://127.0.0.1:{port}")], "/dyad");
    assert!(matches!(at.identify().err(), Some(ConfigError::Tls { .. })), "https without an authority");
    (at.tls, at.user) = (Some(tls(&client)), Some(("dyad".to_owned(), "secret".to_owned())));
    let identity = at.create(StoreId::from_bytes([7; 16])).unwrap().unwrap();
    let store = EtcdStore::open(&at, identity, Version(0)).unwrap();
    let heard = Heard::of(&store);
    let version = set(&store, None, &pool(1, "a")).unwrap();
    assert_eq!(heard.until(version).len(), 1);

    // A token that is not valid any more is renewed: whoever's password is set loses all tokens.
    assert!(!format!("{at:?}").contains("secret"));
    let body = "{\"name\": \"root\", \"password\": \"secret\"}";
    let token = field(&ask("/v3/auth/authenticate", body), "token").unwrap();
    members.ask_as(0, "/v3/auth/user/changepw", "{\"name\": \"dyad\", \"password\": \"secret\"}", &token).unwrap();
    let version = set(&store, Some(version), &pool(1, "b")).unwrap();
    assert_eq!(heard.until(version).len(), 2);

    let refused = |at: &EtcdConfig| {
        let store = EtcdStore::open(at, identity, Version(0)).unwrap();
        assert!(matches!(set(&store, None, &pool(2, "c")), Err(SetError::Store(_))));
        at.identify().unwrap().unwrap_err();
    };
    refused(&EtcdConfig { user: Some(("dyad".to_owned(), "wrong".to_owned())), ..at.clone() });
    refused(&EtcdConfig { user: None, ..at.clone() });
    refused(&EtcdConfig { prefix: "/elsewhere".to_owned(), ..at.clone() });
    refused(&EtcdConfig { tls: Some(EtcdTls { identity: None, ..tls(&client) }), ..at.clone() });
    refused(&EtcdConfig { tls: Some(tls(&stranger.sign(&["node"]))), ..at.clone() });
    let foreign = EtcdTls { authority: stranger.sign(&["x"]).authority, ..tls(&client) };
    refused(&EtcdConfig { tls: Some(foreign), ..at.clone() });
    refused(&EtcdConfig { tls: Some(EtcdTls { name: Some("other.test".to_owned()), ..tls(&client) }), ..at });
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |endpoint: &str| config(vec![endpoint.to_owned()], "/dyad").identify().err();
    for plain in ["http://192.0.2.1:2379", "http://etcd-1:2379", "http://[2001:db8::1]:2379"] {
        assert!(matches!(refused(plain), Some(ConfigError::Plain { .. })), "{plain}");
    }
    for wrong in ["", "ftp://localhost:1", "127.0.0.1:2379", "/x", "http://"] {
        assert!(matches!(refused(wrong), Some(ConfigError::Address { .. })), "{wrong}");
    }
    assert!(matches!(config(Vec::new(), "/dyad").identify().err(), Some(ConfigError::Address { .. })));
}
