//! Where the nodes of a quickstart keep their records: an arbiter, or three members of etcd, as processes of their own, so
//! that they can be killed as well.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::place::{self, Place};
use crate::failure::Failure;

/// One that died is started again after this, as a node is.
const REST: Duration = Duration::from_secs(10);
/// From the word to end until a process ends.
const STOP_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// A majority of three goes on when any one is killed.
const MEMBERS: usize = 3;
const ETCD: &str = "etcd";

/// The processes that hold the records.
pub struct Records {
    helpers: Vec<Helper>,
    /// The section `store` of the nodes' configurations.
    store: toml::Table,
    /// One quickstart at a time uses the directory; the lock goes with this process, however that ends.
    _lock: File,
}

struct Helper {
    name: String,
    command: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
    died: Option<Instant>,
}

impl Records {
    /// An arbiter, or etcd if that is wanted or the directory was begun so.
    pub fn open(place: &Place, wants_etcd: bool) -> Result<Self, Failure> {
        let is_etcd = place.dir().join(ETCD).exists() || wants_etcd && !place.dir().join("arbiter").exists();
        let lock = lock(place)?;
        let (helpers, store) = if is_etcd { etcd(place)? } else { arbiter(place)? };
        let mut records = Self { helpers, store, _lock: lock };
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
            if let Some(Ok(Some(status))) = helper.process.as_mut().map(Child::try_wait) {
                (helper.process, helper.died) = (None, Some(Instant::now()));
                let (name, rest) = (&helper.name, REST.as_secs());
                told.push_str(&format!("! the {name} is gone ({status}); it is started again in {rest} s\n"));
            }
            if helper.died.is_some_and(|died| died.elapsed() >= REST) {
                helper.start()?;
                let pid = helper.process.as_ref().map(Child::id).unwrap_or_default();
                told.push_str(&format!("  the {} is started again, process {pid}\n", helper.name));
            }
        }
        Ok(told)
    }

    /// Starts at once what died: nodes end in good order only with it.
    pub fn revive(&mut self) -> Result<(), Failure> {
        for helper in &mut self.helpers {
            if !matches!(helper.process.as_mut().map(Child::try_wait), Some(Ok(None))) {
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
        let line =
            |helper: &Helper| Some(format!("  kill -9 {:<8} # {}\n", helper.process.as_ref()?.id(), helper.name));
        self.helpers.iter().filter_map(line).collect()
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        for process in self.helpers.iter().filter_map(|helper| helper.process.as_ref()) {
            if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_MAX;
        for process in self.helpers.iter_mut().filter_map(|helper| helper.process.as_mut()) {
            while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Helper {
    fn new(name: String, command: Vec<String>, log: PathBuf) -> Self {
        Self { name, command, log, process: None, died: None }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| Failure::failed(format!("cannot start the {}: {error}", self.name), "");
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log).map_err(cannot)?;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().map_err(cannot)?);
        self.died = None;
        Ok(())
    }
}

fn lock(place: &Place) -> Result<File, Failure> {
    let path = place.dir().join("lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display()), ""))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| place.is_running())?;
    Ok(file)
}

fn arbiter(place: &Place) -> Result<(Vec<Helper>, toml::Table), Failure> {
    let dir = place.dir().join("arbiter");
    let cannot = |error: std::io::Error| Failure::failed(format!("the arbiter cannot start: {error}"), "");
    fs::create_dir_all(&dir).map_err(cannot)?;
    // Earlier ones kept it under a node's name.
    let (old, new) = (dir.join("config.redb"), dir.join("arbiter.redb"));
    if old.exists() && !new.exists() {
        fs::rename(old, new).map_err(cannot)?;
    }
    let address = SocketAddr::from(([127, 0, 0, 1], place::free_port(0)?)).to_string();
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = vec![text(&program), "arbiter".into(), "--leash".into(), "--data".into(), text(&dir)];
    command.extend(["--listen".into(), address.clone()]);
    let helpers = vec![Helper::new("arbiter".into(), command, dir.join("arbiter.log"))];
    Ok((helpers, section("arbiter", vec![address])))
}

fn etcd(place: &Place) -> Result<(Vec<Helper>, toml::Table), Failure> {
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
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let peers: Vec<_> = (0..MEMBERS).map(|at| format!("member-{at}={}", url(ports[2 * at]))).collect();
    let mut helpers = Vec::new();
    for at in 0..MEMBERS {
        let name = format!("member-{at}");
        let (peer, client) = (url(ports[2 * at]), url(ports[2 * at + 1]));
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
        helpers.push(Helper::new(format!("etcd {name}"), command, dir.join(format!("{name}.log"))));
    }
    let clients = (0..MEMBERS).map(|at| url(ports[2 * at + 1])).collect();
    Ok((helpers, section("etcd", clients)))
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
fn ports(path: &Path) -> Result<Vec<u16>, Failure> {
    if let Ok(text) = fs::read_to_string(path) {
        let found: Vec<u16> = text.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        if found.len() == 2 * MEMBERS {
            return Ok(found);
        }
    }
    // Held together, so that they differ.
    let held: Result<Vec<_>, _> = (0..2 * MEMBERS).map(|_| std::net::TcpListener::bind(("127.0.0.1", 0))).collect();
    let taken =
        held.and_then(|held| held.iter().map(|one| Ok(one.local_addr()?.port())).collect::<std::io::Result<Vec<_>>>());
    let ports = taken.map_err(|error| Failure::failed(format!("no port is free: {error}"), ""))?;
    let text: Vec<String> = ports.iter().map(u16::to_string).collect();
    fs::write(path, text.join(" ")).map_err(|error| Failure::failed(format!("etcd cannot start: {error}"), ""))?;
    Ok(ports)
}
