//! `dyad arbiter`, for real: it may be killed at any time, and nothing that it answered is lost.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use dyad_cluster::{Name, PoolRecord, Record, SetError, Store, Version};
use dyad_store::arbiter::ArbiterConfig;
use dyad_store::{ArbiterStore, Tls};
use dyad_units::{NodeId, PoolId, StoreId};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::common::{program, run};
use crate::running::Running;

/// Memory of its own, all told. Programs and libraries are shared with whoever else runs them.
const OWN_KIB_MAX: u64 = 16 * 1024;

struct Arbiter {
    running: Running,
    store: StoreId,
    address: SocketAddr,
}

fn command(dir: &Path, listen: &str) -> Command {
    let mut command = program();
    command.env("NOTIFY_SOCKET", dir.join("notify")).args(["arbiter", "--listen", listen, "--data"]);
    command.arg(dir.join("data"));
    command
}

impl Arbiter {
    fn start(command: Command) -> Self {
        let mut running = Running::start(command);
        let said = running.until("serving the config store").to_owned();
        let words: Vec<_> = said.split_whitespace().collect();
        let (store, address) = (words[4].parse().unwrap(), words[6].parse().unwrap());
        Self { running, store, address }
    }

    fn open(&self, seen: Version) -> ArbiterStore {
        let config = ArbiterConfig { addresses: vec![self.address], tls: None };
        ArbiterStore::open(&config, self.store, seen).unwrap()
    }
}

fn pool(id: u8, name: &str) -> Record {
    let name: Name = name.parse().unwrap();
    let (id, node) = (PoolId::from_bytes([id; 16]), NodeId::from_bytes([1; 16]));
    Record::Pool(PoolRecord { id, name, node, disks: Vec::new() })
}

fn set(store: &dyn Store, expected: Option<Version>, record: &Record) -> Result<Version, SetError> {
    store.compare_and_set(record.key(), expected, Some(record))
}

/// Somebody who listens as systemd does.
fn systemd(dir: &Path) -> impl Fn(&str) {
    let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    move |words| {
        let mut buf = [0; 4096];
        loop {
            let len = socket.recv(&mut buf).unwrap_or_else(|error| panic!("never told {words}: {error}"));
            if String::from_utf8_lossy(&buf[..len]).contains(words) {
                return;
            }
        }
    }
}

/// Section 8: durable before it is answered; who watches hears all of it over the restart.
#[test]
fn an_arbiter_that_is_killed_has_all_that_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let told = systemd(dir.path());
    let first = Arbiter::start(command(dir.path(), "127.0.0.1:0"));
    told("READY=1");
    told("WATCHDOG=1");
    let store = first.open(Version(0));
    let (tell, heard) = channel();
    store.watch(Box::new(move |changed| {
        let _ = tell.send(changed.version);
    }));
    let mut version = set(&store, None, &pool(1, "n-0")).unwrap();
    let mut versions = vec![version];
    for round in 1..20 {
        version = set(&store, Some(version), &pool(1, &format!("n-{round}"))).unwrap();
        versions.push(version);
    }
    let own = own_kib(first.running.pid());
    assert!(own < OWN_KIB_MAX, "it has {own} KiB of memory of its own");
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/arbiter.redb")), (0o700, 0o600));

    let (identity, address) = (first.store, first.address);
    first.running.signal(Signal::KILL);
    assert_eq!(first.running.end().0, None);
    let second = Arbiter::start(command(dir.path(), &address.to_string()));
    assert_eq!(second.store, identity);
    let late = second.open(version);
    let found = late.get(pool(1, "a").key()).unwrap().unwrap();
    assert_eq!((found.version, found.record), (version, pool(1, "n-19")));
    versions.push(set(&late, Some(version), &pool(1, "after")).unwrap());
    for expected in versions {
        assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Ok(expected));
    }

    second.running.signal(Signal::TERM);
    let (code, _, log) = second.running.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("ended in good order"), "{log}");
    told("STOPPING=1");
}

fn own_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn two_arbiters_never_use_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Arbiter::start(command(dir.path(), "127.0.0.1:0"));
    let refused = run(command(dir.path(), "127.0.0.1:0"));
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("another arbiter is using"), "{}", refused.err);
    let mut elsewhere = program();
    elsewhere.args(["arbiter", "--listen", &first.address.to_string(), "--data"]).arg(dir.path().join("other"));
    let refused = run(elsewhere);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("cannot listen at"), "{}", refused.err);
    set(&first.open(Version(0)), None, &pool(1, "a")).unwrap();
}

#[test]
fn without_certificates_it_listens_on_loopback_only() {
    let dir = tempfile::tempdir().unwrap();
    let refused = run(command(dir.path(), "0.0.0.0:0"));
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("on loopback only") && refused.err.contains("--ca"), "{}", refused.err);
    let mut half = command(dir.path(), "127.0.0.1:0");
    half.args(["--ca", "/nowhere"]);
    assert_eq!(run(half).code, 2);
    let mut missing = command(dir.path(), "127.0.0.1:0");
    missing.args(["--ca", "/nowhere", "--certificate", "/nowhere", "--key", "/nowhere"]);
    let refused = run(missing);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("/nowhere cannot be read"), "{}", refused.err);
}

/// An authority, and a way to sign.
fn authority() -> impl Fn(&str) -> Tls {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem().into_bytes();
    let issuer = Issuer::new(params, key);
    move |name| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let (certificate, key) = (certificate.pem().into_bytes(), key.serialize_pem().into_bytes());
        Tls { authority: authority.clone(), certificate, key }
    }
}

#[test]
fn with_certificates_it_serves_those_who_show_theirs() {
    let (dir, sign) = (tempfile::tempdir().unwrap(), authority());
    let tls = sign("arbiter.test");
    let file = |name: &str, text: &[u8], mode| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let (ca, certificate) = (file("ca", &tls.authority, 0o644), file("certificate", &tls.certificate, 0o644));
    let with = |key: &Path| {
        let mut command = command(dir.path(), "127.0.0.1:0");
        command.arg("--ca").arg(&ca).arg("--certificate").arg(&certificate).arg("--key").arg(key);
        command
    };
    let refused = run(with(&file("open-key", &tls.key, 0o644)));
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("can be read by everybody"), "{}", refused.err);

    let arbiter = Arbiter::start(with(&file("key", &tls.key, 0o600)));
    let config = |tls| ArbiterConfig { addresses: vec![arbiter.address], tls };
    let ours = Some((sign("node.test"), "arbiter.test".to_owned()));
    assert_eq!(config(ours.clone()).identify().unwrap().unwrap(), arbiter.store);
    let store = ArbiterStore::open(&config(ours), arbiter.store, Version(0)).unwrap();
    set(&store, None, &pool(1, "a")).unwrap();
    for stranger in [None, Some((authority()("node.test"), "arbiter.test".to_owned()))] {
        assert!(config(stranger).identify().unwrap().is_err());
    }
}

/// Section 8: a lost arbiter is replaced by one command, by a store with another identity.
#[test]
fn a_lost_store_is_made_anew_from_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let lost = Arbiter::start(command(dir.path(), "127.0.0.1:0"));
    set(&lost.open(Version(0)), None, &pool(1, "a")).unwrap();
    let identity = lost.store;
    let (from, export) = (dir.path().join("data/arbiter.redb"), dir.path().join("records"));
    let (from, export) = (from.to_str().unwrap(), export.to_str().unwrap());
    let dyad = |args: &[&str]| {
        let mut command = program();
        command.arg("arbiter").args(args);
        run(command)
    };
    let used = dyad(&["export", "--from", from, "--to", export]);
    assert_eq!(used.code, 1);
    assert!(used.err.contains("in use by another process"), "{}", used.err);
    lost.running.signal(Signal::TERM);
    assert_eq!(lost.running.end().0, Some(0));
    let done = dyad(&["export", "--from", from, "--to", export]);
    assert_eq!((done.code, done.out), (0, format!("1 records of the config store {identity}\n")));

    let data = dir.path().join("data");
    let there = dyad(&["seed", "--data", data.to_str().unwrap(), "--from", export]);
    assert_eq!(there.code, 1);
    assert!(there.err.contains("there is a config store already"), "{}", there.err);
    fs::remove_file(from).unwrap();
    let done = dyad(&["seed", "--data", data.to_str().unwrap(), "--from", export]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
    assert!(done.out.contains(&format!("takes the place of {identity}")), "{}", done.out);

    let new = Arbiter::start(command(dir.path(), "127.0.0.1:0"));
    assert_ne!(new.store, identity);
    assert_eq!(new.open(Version(0)).get(pool(1, "a").key()).unwrap().unwrap().record, pool(1, "a"));
}
