//! Nodes to try, as processes of their own, and the arbiter between them: kill one and watch.
//!
//! This process is only the stage manager: it starts everything, starts again what died, and shows what the nodes say. All
//! end when it does, whatever ends it.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dyad_api::model::{NodeState, Pool, Status, Volume};
use rustix::process::{Pid, Signal, kill_process};

use super::place::{self, Place};
use super::records::Records;
use super::screen::{self, Picture};
use super::setup;
use crate::args::{self, Reach};
use crate::client::Client;
use crate::failure::Failure;
use crate::serve;
use crate::table;

/// What the nodes are called.
const NAMES: [&str; setup::NODES_MAX] = ["one", "two", "three", "four", "five"];
/// From the start of a process until it serves.
const START_MAX: Duration = Duration::from_secs(60);
/// From the word to end until a process ends; a node itself takes at most 30 s.
const STOP_MAX: Duration = Duration::from_secs(45);
/// A node that died is started again after this: long enough to see what its death means.
const REST: Duration = Duration::from_secs(10);
/// Between two looks at the nodes.
const LOOK: Duration = Duration::from_millis(500);
/// While something is about to happen.
const GLANCE: Duration = Duration::from_millis(50);

/// Runs until it is told to end.
pub fn run(args: &args::Quickstart, place: &Place) -> Result<(), Failure> {
    let is_over = end_on_signals()?;
    let mut records = Records::open(place, args.etcd)?;
    let mut next = args.port;
    let mut nodes = Vec::new();
    for name in NAMES.into_iter().take(count(place, args)) {
        let portal = place::free_port(next)?;
        next = if portal == u16::MAX { 0 } else { portal + 1 };
        nodes.push(Node::new(place, name, SocketAddr::from(([127, 0, 0, 1], portal)), records.store(), args)?);
    }
    if args.port != 0 && nodes[0].portal.port() != args.port {
        let (wanted, port) = (args.port, nodes[0].portal.port());
        table::print(&format!("Port {wanted} is taken by another program, so this node listens on {port}.\n"));
    }
    await_orphans(&nodes)?;
    if let Some(failure) = nodes.iter_mut().find_map(|node| node.start().err()) {
        let _ = stop(&mut nodes);
        return Err(failure);
    }
    let shown = set_up(&mut nodes, &mut records, place, args, &is_over)
        .and_then(|()| show(&mut nodes, &mut records, place, &is_over));
    let revived = records.revive();
    let ended = stop(&mut nodes);
    drop(records);
    shown.and(revived).and(ended)
}

/// How many nodes: as many as the directory was set up with. One whose set-up was cut short may have fewer than were wanted.
fn count(place: &Place, args: &args::Quickstart) -> usize {
    let begun = NAMES.iter().filter(|name| place.dir().join(name).exists()).count();
    if place.is_new() { begun.max(usize::from(args.nodes)) } else { begun }
}

/// One node's process and what it is started with.
struct Node {
    name: &'static str,
    portal: SocketAddr,
    socket: PathBuf,
    config: PathBuf,
    log: PathBuf,
    client: Client,
    process: Option<Child>,
    died: Option<Instant>,
}

impl Node {
    fn new(
        place: &Place,
        name: &'static str,
        portal: SocketAddr,
        store: toml::Value,
        args: &args::Quickstart,
    ) -> Result<Self, Failure> {
        let dir = place.dir().join(name);
        let cannot = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", dir.display()), "");
        fs::create_dir_all(&dir).map_err(cannot)?;
        // The first one's is where `dyad status` in this directory looks.
        let socket = if name == NAMES[0] { place.socket() } else { place.dir().join(format!("{name}.sock")) };
        serve::check_socket_path(&socket)?;
        let (config, log) = (dir.join("dyad.toml"), dir.join("dyad.log"));
        let peer = SocketAddr::from(([127, 0, 0, 1], place::free_port(0)?));
        let mut text = toml::Table::new();
        let mut put = |key: &str, value: toml::Value| drop(text.insert(key.into(), value));
        put("node_name", name.into());
        put("data_dir", dir.join("store").display().to_string().into());
        put("buffers", "128 MiB".into());
        if let Some(shm) = &args.shm_dir {
            put("shm_dir", shm.display().to_string().into());
        }
        let table = |pairs: &[(&str, toml::Value)]| {
            toml::Value::Table(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
        };
        let texts = |text: String| toml::Value::Array(vec![text.into()]);
        put("iscsi", table(&[("portals", texts(portal.to_string()))]));
        put("peer", table(&[("listen", peer.to_string().into())]));
        put("store", store);
        put("api", table(&[("socket", socket.display().to_string().into()), ("socket_mode", "0600".into())]));
        fs::write(&config, text.to_string()).map_err(cannot)?;
        let client = Client::new(&Reach { url: None, socket: Some(socket.clone()), token_file: None })?;
        Ok(Self { name, portal, socket, config, log, client, process: None, died: None })
    }

    fn start(&mut self) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| Failure::failed(format!("cannot start node {}: {error}", self.name), "");
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log).map_err(cannot)?;
        let program = std::env::current_exe().map_err(cannot)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&self.config).arg("--leash");
        // In a group of its own, Ctrl-C reaches this process alone, which then ends the nodes in good order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().map_err(cannot)?);
        self.died = None;
        Ok(())
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Notes that the process ended, if it did.
    fn look(&mut self) -> Option<String> {
        let ended = self.process.as_mut()?.try_wait().ok()??;
        self.process = None;
        self.died = Some(Instant::now());
        Some(format!("! node {} is gone ({ended}); it is started again in {} s\n", self.name, REST.as_secs()))
    }

    fn status(&self) -> Option<Status> {
        self.process.as_ref()?;
        self.client.get("/v1/status").ok()
    }
}

/// Nodes whose stage manager was killed end by themselves: they are let finish.
fn await_orphans(nodes: &[Node]) -> Result<(), Failure> {
    let deadline = Instant::now() + STOP_MAX;
    while let Some(left) = nodes.iter().find(|node| serve::is_served(&node.socket)) {
        if Instant::now() >= deadline {
            let what = format!("node {} of an earlier quickstart does not end", left.name);
            return Err(Failure::failed(what, format!("{} says why", left.log.display())));
        }
        thread::sleep(GLANCE);
    }
    Ok(())
}

/// Waits for all nodes; in a new directory, makes a pool on each and the volume, with images on the first two.
fn set_up(
    nodes: &mut [Node],
    records: &mut Records,
    place: &Place,
    args: &args::Quickstart,
    is_over: &AtomicBool,
) -> Result<(), Failure> {
    let serves = |status: Status| status.node.state == NodeState::Serving;
    let is_up = |nodes: &[Node]| nodes.iter().all(|node| node.status().is_some_and(serves));
    until(nodes, records, is_over, "all nodes serve", is_up)?;
    if !place.is_new() {
        return Ok(());
    }
    for (node, pool) in nodes.iter().zip(setup::POOLS) {
        let there: dyad_api::model::List<Pool> = node.client.get("/v1/pools")?;
        if !there.items.iter().any(|known| known.name == pool) {
            // Left by a creation that was cut off before the pool was recorded: nothing is in it.
            let _ = fs::remove_file(place.pool(pool));
            let _: Pool = node.client.post("/v1/pools", &setup::pool(place, pool, args.size)?)?;
        }
    }
    // A node hears of the other's pool within milliseconds.
    let pools = vec![setup::POOLS[0].to_owned(), format!("{}/{}", NAMES[1], setup::POOLS[1])];
    let volume = setup::volume(args.size, pools);
    let mut last = None;
    let made = until(nodes, records, is_over, "the volume is made", |nodes| {
        let there = nodes[0].client.get::<Volume>(&format!("/v1/volumes/{}", setup::VOLUME)).is_ok();
        there || nodes[0].client.post::<Volume>("/v1/volumes", &volume).map_err(|failure| last = Some(failure)).is_ok()
    });
    match (made, last) {
        (Ok(()), _) => place.set_ready(),
        (Err(_), Some(failure)) => Err(failure),
        (failed, None) => failed,
    }
}

fn until(
    nodes: &mut [Node],
    records: &mut Records,
    is_over: &AtomicBool,
    what: &str,
    mut is_so: impl FnMut(&[Node]) -> bool,
) -> Result<(), Failure> {
    let deadline = Instant::now() + START_MAX;
    while !is_so(nodes) {
        if is_over.load(Ordering::Relaxed) {
            return Err(Failure::failed("ended before it was set up", "start it again; it goes on from there"));
        }
        table::print(&records.look()?);
        if let Some(dead) = nodes.iter_mut().find_map(|node| node.look().map(|_| node)) {
            let log = dead.log.display();
            return Err(Failure::failed(format!("node {} did not start", dead.name), format!("{log} says why")));
        }
        if Instant::now() >= deadline {
            let log = nodes[0].log.display().to_string();
            return Err(Failure::failed(format!("{what}: not within {} s", START_MAX.as_secs()), format!("see {log}")));
        }
        thread::sleep(GLANCE);
    }
    Ok(())
}

/// Says how to use it, then shows what happens until the end is wanted.
fn show(nodes: &mut [Node], records: &mut Records, place: &Place, is_over: &AtomicBool) -> Result<(), Failure> {
    table::print(&welcome(nodes, records, place)?);
    let mut picture = Picture::plain();
    while !is_over.load(Ordering::Relaxed) {
        table::print(&records.look()?);
        for node in nodes.iter_mut() {
            if let Some(news) = node.look() {
                table::print(&news);
            }
            if node.died.is_some_and(|died| died.elapsed() >= REST) {
                node.start()?;
                let pid = node.pid().unwrap_or_default();
                table::print(&format!("  node {} is started again, process {pid}\n", node.name));
            }
        }
        if let Some(status) = nodes.iter().find_map(Node::status) {
            table::print(&picture.next(&status, usize::MAX));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn welcome(nodes: &[Node], records: &Records, place: &Place) -> Result<String, Failure> {
    let count = if nodes.len() == 2 { "Two nodes".to_owned() } else { table::count(nodes.len(), "node") };
    let mut text = format!("{count} and {} are running; their data is in {}.\n\n", records.shown(), place.shown());
    for node in nodes {
        let (name, portal, pid) = (node.name, node.portal, node.pid().unwrap_or_default());
        let admin = node.socket.display();
        text.push_str(&format!("  node {name}  portal  {portal}\n            process {pid}, admin {admin}\n"));
    }
    let volumes: dyad_api::model::List<Volume> = nodes[0].client.get("/v1/volumes")?;
    for volume in &volumes.items {
        let size = table::size(volume.size_bytes);
        let images = table::count(volume.images.len(), "image");
        text.push_str(&format!("  target    {}  ({size}, {images})\n", volume.target));
    }
    let pids = nodes.iter().filter_map(|node| Some(format!("  kill -9 {:<8} # node {}\n", node.pid()?, node.name)));
    text.push_str("\nKill either node while you write, and see that the other goes on:\n");
    text.extend(pids);
    text.push_str(&format!("or what decides between them; hosts do not notice:\n{}", records.kills()));
    text.push_str(&format!("It is started again after {} s and catches up by itself.\n", REST.as_secs()));
    match volumes.items.first() {
        Some(volume) => text.push_str(&screen::uses(&volume.target, nodes[0].portal)),
        None => text.push_str("\nThere is no volume any more; `dyad volume create --help` says how to make one.\n"),
    }
    text.push_str("\n`dyad status` in this directory tells more. Ctrl-C ends it; the data stays.\n\n");
    Ok(text)
}

/// Ends all nodes in good order.
fn stop(nodes: &mut [Node]) -> Result<(), Failure> {
    for pid in nodes.iter().filter_map(Node::pid) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let deadline = Instant::now() + STOP_MAX;
    let mut is_clean = true;
    for node in nodes {
        let Some(mut process) = node.process.take() else { continue };
        loop {
            match process.try_wait() {
                Ok(Some(status)) => {
                    is_clean &= status.success();
                    break;
                }
                Ok(None) if Instant::now() < deadline => thread::sleep(GLANCE),
                Ok(None) | Err(_) => {
                    is_clean = false;
                    let _ = process.kill();
                    let _ = process.wait();
                    break;
                }
            }
        }
    }
    if is_clean {
        return Ok(());
    }
    let what = "a node did not end in good order";
    Err(Failure::failed(what, "its log says why; nothing acknowledged is lost, the next start recovers"))
}

/// Set by the signals that mean the end.
fn end_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let is_over = Arc::new(AtomicBool::new(false));
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot take signals: {error}"), "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let mut signals = {
        let _inside = runtime.enter();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        kinds.map(|kind| signal(kind).map_err(cannot))
    };
    let told = is_over.clone();
    let waiting = thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let [Ok(interrupt), Ok(terminate), Ok(hang_up)] = &mut signals else { return };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        told.store(true, Ordering::Relaxed);
    });
    waiting.map_err(cannot)?;
    Ok(is_over)
}
