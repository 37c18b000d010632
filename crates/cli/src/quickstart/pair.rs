//! Nodes to try, as processes of their own, and the arbiter between them: kill one and watch.
//!
//! This process is only the stage manager: it starts everything, starts again what died, and shows what the nodes say. All
//! end when it does, whatever ends it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dyad_api::model::{NodeState, Pool, Status, Volume};

use super::place::Place;
use super::port::Port;
use super::process::{Process, REST, STOP_MAX};
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
        let portal = Port::find(next)?;
        if next != 0 {
            next = portal.number().checked_add(1).unwrap_or(0);
        }
        nodes.push(Node::new(place, name, portal, records.store(), args)?);
    }
    nodes[0].portal.say_if_not(args.port);
    if let Some(failure) = nodes.iter_mut().find_map(|node| node.process.start().err()) {
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

/// One node: its process, and where it is reached.
struct Node {
    name: &'static str,
    process: Process,
    portal: Port,
    /// For the other nodes.
    _peer: Port,
    socket: PathBuf,
    client: Client,
}

impl Node {
    fn new(
        place: &Place,
        name: &'static str,
        portal: Port,
        store: toml::Value,
        args: &args::Quickstart,
    ) -> Result<Self, Failure> {
        let dir = place.dir().join(name);
        let cannot = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", dir.display()), "");
        fs::create_dir_all(&dir).map_err(cannot)?;
        // The first one's is where `dyad status` in this directory looks.
        let socket = if name == NAMES[0] { place.socket() } else { place.dir().join(format!("{name}.sock")) };
        serve::check_socket_path(&socket)?;
        let config = dir.join("dyad.toml");
        let peer = Port::find(0)?;
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
        put("iscsi", table(&[("portals", texts(portal.address().to_string()))]));
        put("peer", table(&[("listen", peer.address().to_string().into())]));
        put("store", store);
        put("api", table(&[("socket", socket.display().to_string().into()), ("socket_mode", "0600".into())]));
        fs::write(&config, text.to_string()).map_err(cannot)?;
        let client = Client::new(&Reach { url: None, socket: Some(socket.clone()), token_file: None })?;
        let program = std::env::current_exe().map_err(cannot)?.display().to_string();
        let command = [program, "serve".into(), "--config".into(), config.display().to_string(), "--leash".into()];
        let process = Process::new(format!("node {name}"), command.to_vec(), dir.join("dyad.log"));
        Ok(Self { name, process, portal, _peer: peer, socket, client })
    }

    fn status(&self) -> Option<Status> {
        self.process.pid()?;
        self.client.get("/v1/status").ok()
    }
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
        if let Some(dead) = nodes.iter_mut().map(|node| &mut node.process).find_map(|one| one.look().map(|_| one)) {
            let log = dead.log().display();
            return Err(Failure::failed(format!("{} did not start", dead.name()), format!("{log} says why")));
        }
        if Instant::now() >= deadline {
            let log = nodes[0].process.log().display();
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
            let news = [node.process.look(), node.process.restart()?];
            news.iter().flatten().for_each(|news| table::print(news));
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
        let (name, portal, pid) = (node.name, node.portal.address(), node.process.pid().unwrap_or_default());
        let admin = node.socket.display();
        text.push_str(&format!("  node {name}  portal  {portal}\n            process {pid}, admin {admin}\n"));
    }
    let volumes: dyad_api::model::List<Volume> = nodes[0].client.get("/v1/volumes")?;
    for volume in &volumes.items {
        let size = table::size(volume.size_bytes);
        let images = table::count(volume.images.len(), "image");
        text.push_str(&format!("  target    {}  ({size}, {images})\n", volume.target));
    }
    text.push_str("\nKill either node while you write, and see that the other goes on:\n");
    text.extend(nodes.iter().filter_map(|node| node.process.kill_line()));
    text.push_str(&format!("or what decides between them; hosts do not notice:\n{}", records.kills()));
    text.push_str(&format!("It is started again after {} s and catches up by itself.\n", REST.as_secs()));
    match volumes.items.first() {
        Some(volume) => text.push_str(&screen::uses(&volume.target, nodes[0].portal.address())),
        None => text.push_str("\nThere is no volume any more; `dyad volume create --help` says how to make one.\n"),
    }
    text.push_str("\n`dyad status` in this directory tells more. Ctrl-C ends it; the data stays.\n\n");
    Ok(text)
}

/// Ends all nodes in good order.
fn stop(nodes: &mut [Node]) -> Result<(), Failure> {
    nodes.iter().for_each(|node| node.process.tell_to_end());
    let deadline = Instant::now() + STOP_MAX;
    let mut is_clean = true;
    for node in nodes {
        is_clean &= node.process.await_end(deadline);
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
