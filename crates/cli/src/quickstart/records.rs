//! Where the nodes of a quickstart keep their records: an arbiter, or three members of etcd, as processes of their own, so
//! that they can be killed as well.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use super::place::Place;
use super::port::Port;
use super::process::{Process, STOP_MAX};
use crate::failure::Failure;

/// A majority of three goes on when any one is killed.
const MEMBERS: usize = 3;
const ETCD: &str = "etcd";

/// The processes that hold the records.
pub struct Records {
    helpers: Vec<Process>,
    /// What they listen on.
    _ports: Vec<Port>,
    /// The section `store` of the nodes' configurations.
    store: toml::Table,
    /// One quickstart at a time uses the directory; the lock goes with this process, however that ends.
    _lock: File,
}

impl Records {
    /// An arbiter, or etcd if that is wanted or the directory was begun so.
    pub fn open(place: &Place, wants_etcd: bool) -> Result<Self, Failure> {
        let is_etcd = place.dir().join(ETCD).exists() || wants_etcd && !place.dir().join("arbiter").exists();
        let lock = lock(place)?;
        let (helpers, ports, store) = if is_etcd { etcd(place)? } else { arbiter(place)? };
        let mut records = Self { helpers, _ports: ports, store, _lock: lock };
        for helper in &mut records.helpers {
            helper.start()?;
        }
        Ok(records)
    }

    /// The section `store` of a node's configuration.
    pub fn store(&self) -> toml::Value {
        toml::Value::Table(self.store.clone())
    }

    /// Starts again what died; says what happened.
    pub fn look(&mut self) -> Result<String, Failure> {
        let mut told = String::new();
        for helper in &mut self.helpers {
            told.extend(helper.look());
            told.extend(helper.restart()?);
        }
        Ok(told)
    }

    /// Starts at once what died: nodes end in good order only with it.
    pub fn revive(&mut self) -> Result<(), Failure> {
        for helper in &mut self.helpers {
            if helper.look().is_some() || helper.pid().is_none() {
                helper.start()?;
            }
        }
        Ok(())
    }

    /// What it is, in a sentence: "an arbiter".
    pub fn shown(&self) -> &'static str {
        if self.helpers.len() == 1 { "an arbiter" } else { "three members of etcd" }
    }

    /// Lines that kill each.
    pub fn kills(&self) -> String {
        self.helpers.iter().filter_map(Process::kill_line).collect()
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.helpers.iter().for_each(Process::tell_to_end);
        let deadline = Instant::now() + STOP_MAX;
        for helper in &mut self.helpers {
            helper.await_end(deadline);
        }
    }
}

fn lock(place: &Place) -> Result<File, Failure> {
    let path = place.dir().join("lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display()), ""))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| place.is_running())?;
    Ok(file)
}

fn arbiter(place: &Place) -> Result<(Vec<Process>, Vec<Port>, toml::Table), Failure> {
    let dir = place.dir().join("arbiter");
    let cannot = |error: std::io::Error| Failure::failed(format!("the arbiter cannot start: {error}"), "");
    fs::create_dir_all(&dir).map_err(cannot)?;
    // Earlier ones kept it under a node's name.
    let (old, new) = (dir.join("config.redb"), dir.join("arbiter.redb"));
    if old.exists() && !new.exists() {
        fs::rename(old, new).map_err(cannot)?;
    }
    let port = Port::find(0)?;
    let address = port.address().to_string();
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = vec![text(&program), "arbiter".into(), "--leash".into(), "--data".into(), text(&dir)];
    command.extend(["--listen".into(), address.clone()]);
    let helpers = vec![Process::new("arbiter".into(), command, dir.join("arbiter.log"))];
    Ok((helpers, vec![port], section("arbiter", vec![address])))
}

fn etcd(place: &Place) -> Result<(Vec<Process>, Vec<Port>, toml::Table), Failure> {
    let has = |program: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
    };
    if !has(ETCD) {
        return Err(Failure::failed("etcd is not installed here", "`apt install etcd-server`, or leave out --etcd"));
    }
    let dir = place.dir().join(ETCD);
    let cannot = |error: std::io::Error| Failure::failed(format!("etcd cannot start: {error}"), "");
    fs::create_dir_all(&dir).map_err(cannot)?;
    let ports = ports(&dir.join("ports"))?;
    let url = |port: &Port| format!("http://{}", port.address());
    let peers: Vec<_> = (0..MEMBERS).map(|at| format!("member-{at}={}", url(&ports[2 * at]))).collect();
    let mut helpers = Vec::new();
    for at in 0..MEMBERS {
        let name = format!("member-{at}");
        let (peer, client) = (url(&ports[2 * at]), url(&ports[2 * at + 1]));
        let pairs = [
            ("--name", name.clone()),
            ("--data-dir", text(&dir.join(&name))),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--initial-cluster", peers.join(",")),
            ("--initial-cluster-token", text(&dir)),
        ];
        // It ends with this process, whatever ends that.
        let leash = if has("setpriv") { vec!["setpriv", "--pdeathsig", "TERM", ETCD] } else { vec![ETCD] };
        let mut command: Vec<String> = leash.into_iter().map(String::from).collect();
        command.extend(pairs.into_iter().flat_map(|(key, value)| [key.to_owned(), value]));
        helpers.push(Process::new(format!("etcd {name}"), command, dir.join(format!("{name}.log"))));
    }
    let clients = (0..MEMBERS).map(|at| url(&ports[2 * at + 1])).collect();
    Ok((helpers, ports, section("etcd", clients)))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn section(kind: &str, addresses: Vec<String>) -> toml::Table {
    let addresses = addresses.into_iter().map(toml::Value::String).collect();
    toml::Table::from_iter([
        ("kind".to_owned(), toml::Value::String(kind.to_owned())),
        ("addresses".to_owned(), toml::Value::Array(addresses)),
    ])
}

/// Members know each other by their ports, so these stay.
fn ports(path: &Path) -> Result<Vec<Port>, Failure> {
    if let Ok(text) = fs::read_to_string(path) {
        let known: Vec<u16> = text.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        if known.len() == 2 * MEMBERS {
            let held: std::io::Result<Vec<_>> = known.iter().map(|port| Port::hold(*port)).collect();
            return held.map_err(|error| {
                let what = format!("etcd cannot start: a port of {} is taken: {error}", path.display());
                Failure::failed(
                    what,
                    "end the program that listens there: members of etcd know each other by their ports",
                )
            });
        }
    }
    let ports: Vec<_> = (0..2 * MEMBERS).map(|_| Port::find(0)).collect::<Result<_, _>>()?;
    let text: Vec<String> = ports.iter().map(|port| port.number().to_string()).collect();
    fs::write(path, text.join(" ")).map_err(|error| Failure::failed(format!("etcd cannot start: {error}"), ""))?;
    Ok(ports)
}
