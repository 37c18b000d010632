//! Two nodes of our own and an arbiter between them; a host that uses whichever node is there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Options, Session};
use dyad_bench::verify::{Mix, Report, RunError, SECTOR, Writer};
use dyad_store::LocalStore;
use dyad_store::arbiter::{ArbiterServer, ServeConfig};
use dyad_units::StoreId;
use serde_json::json;
use tempfile::TempDir;

use crate::lab::Lab;
use crate::port::Port;

/// The volume with an image on each node.
pub const VOLUME: &str = "v";
/// Whatever is waited for comes within this, or never.
const LONG: Duration = Duration::from_secs(60);
/// A look at what is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Commands that the host keeps in flight.
const DEPTH: usize = 16;
/// How long the host works before it looks around.
const SPELL: Duration = Duration::from_millis(200);

/// Two nodes and an arbiter. The arbiter runs in this process: no test kills it.
pub struct Cluster {
    /// The nodes.
    pub nodes: [Lab; 2],
    _arbiter: ArbiterServer,
    _ports: [Port; 2],
    _dir: TempDir,
}

impl Cluster {
    /// Running, with a volume of so many MiB.
    pub fn start(mib: u64) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("dyad-arbiter-").tempdir()?;
        let store = LocalStore::open(&dir.path().join("config.redb"), || StoreId::from_bytes([0xa7; 16]))?;
        let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let arbiter = ArbiterServer::start(Arc::new(store), &ServeConfig { listen, tls: None })?;
        let address = arbiter.addresses().first().context("the arbiter listens nowhere")?.to_string();
        let ports = [Port::reserve()?, Port::reserve()?];
        let node = |name: &str, port: &Port| {
            Lab::new(&format!(
                "node_name = \"{name}\"\npeer.listen = \"{}\"\nstore.kind = \"arbiter\"\nstore.addresses = [\"{address}\"]\n",
                port.address()
            ))
        };
        let mut nodes = [node("one", &ports[0])?, node("other", &ports[1])?];
        for (node, pool) in nodes.iter_mut().zip(["a", "b"]) {
            node.start()?;
            node.create_pool(pool, 4 * mib + 192)?;
        }
        let cluster = Self { nodes, _arbiter: arbiter, _ports: ports, _dir: dir };
        let volume = json!({ "name": VOLUME, "size_bytes": mib << 20 });
        cluster.until("the volume is made", || cluster.nodes[0].admin().post("/v1/volumes", &volume).is_ok())?;
        cluster.until("both nodes serve it", || cluster.nodes.iter().all(|node| images_in_sync(node) == Some(2)))?;
        Ok(cluster)
    }

    /// Waits until it is so.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + LONG;
        while !is_so() {
            if Instant::now() >= deadline {
                let logs: Vec<_> = self.nodes.iter().map(Lab::log).collect();
                let shown = self.nodes.iter().map(|node| node.admin().get("/v1/volumes/v"));
                let shown: Vec<_> = shown.map(|shown| format!("{shown:?}")).collect();
                anyhow::bail!("{what}: not in time\n{}\n{}", shown.join("\n"), logs.join("\n"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until the volume is redundant, as this node says.
    pub fn until_redundant(&self, node: usize) -> anyhow::Result<()> {
        self.until("both images are in sync", || images_in_sync(&self.nodes[node]) == Some(2))
    }

    /// The process of a node.
    pub fn process_id(&self, node: usize) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.nodes[node].pid()?)?)
    }

    /// How a host reaches the volume at each node.
    pub fn paths(&self) -> anyhow::Result<[Options; 2]> {
        let shown = self.nodes.iter().find_map(|node| node.admin().get(&format!("/v1/volumes/{VOLUME}")).ok());
        let shown = shown.context("no node knows the volume")?;
        let target = shown["target"].as_str().context("a volume without target name")?;
        Ok([0, 1].map(|node| Options::new(self.nodes[node].portal(), target)))
    }

    /// Everything that the volume holds, read from the image of each node alone.
    pub fn each_image(&mut self) -> anyhow::Result<[Vec<u8>; 2]> {
        let paths = self.paths()?;
        let mut images = [Vec::new(), Vec::new()];
        for alone in 0..2 {
            self.until_redundant(alone)?;
            self.nodes[1 - alone].stop()?;
            let mut found = None;
            self.until("the image that is left is read", || {
                found = Disk::open(&paths[alone]).ok().and_then(|mut disk| disk.read_all().ok());
                found.is_some()
            })?;
            images[alone] = found.unwrap_or_default();
            self.nodes[1 - alone].start()?;
        }
        Ok(images)
    }
}

/// How many images of the volume are in sync, as the node says.
fn images_in_sync(node: &Lab) -> Option<usize> {
    let shown = node.admin().get(&format!("/v1/volumes/{VOLUME}")).ok()?;
    let images = shown["images"].as_array()?;
    (shown["state"] == "serving").then(|| images.iter().filter(|image| image["state"] == "in-sync").count())
}

/// A host with a path to each node, which holds the volume to what was acknowledged.
pub struct Host {
    paths: [Options; 2],
    at: usize,
    session: Option<Session>,
    writer: Writer,
    acked: Option<(u64, Instant)>,
    /// Longest time from the end of one spell of work, of 200 ms, to the end of the next that got anywhere.
    pub longest_spell: Duration,
}

impl Host {
    /// A host of a volume of so many MiB that holds zeros.
    pub fn new(cluster: &Cluster, seed: u64, mib: u64) -> anyhow::Result<Self> {
        let writer = Writer::new(seed, (mib << 20) / SECTOR as u64, 512, DEPTH, Mix::default());
        let (paths, longest_spell) = (cluster.paths()?, Duration::ZERO);
        Ok(Self { paths, at: 0, session: None, writer, acked: None, longest_spell })
    }

    /// Writes acknowledged so far.
    pub fn writes(&self) -> u64 {
        self.writer.tally().writes
    }

    /// Works until `is_over`, wherever it is served; an error is a read of what may not be there.
    pub fn work(&mut self, mut is_over: impl FnMut() -> bool) -> anyhow::Result<()> {
        self.acked = None;
        while !is_over() {
            let Some(mut session) = self.session.take().or_else(|| self.connect()) else { continue };
            match self.writer.run(&mut session, Instant::now() + SPELL) {
                Ok(()) => self.session = Some(session),
                Err(RunError::Session(_)) => self.at = 1 - self.at,
                Err(wrong) => return Err(wrong).context("a read while writing"),
            }
            self.note_progress();
        }
        Ok(())
    }

    fn note_progress(&mut self) {
        let (writes, now) = (self.writes(), Instant::now());
        match self.acked {
            Some((before, at)) if before < writes => self.longest_spell = self.longest_spell.max(now - at),
            Some(_) => return,
            None => {}
        }
        self.acked = Some((writes, now));
    }

    fn connect(&mut self) -> Option<Session> {
        match Disk::open(&self.paths[self.at]) {
            Ok(disk) => Some(disk.into_session()),
            Err(_) => {
                self.at = 1 - self.at;
                std::thread::sleep(LOOK);
                None
            }
        }
    }

    /// Reads everything back through each node.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.session = None;
        for path in &self.paths {
            let deadline = Instant::now() + LONG;
            let report: Report = loop {
                let tried = Disk::open(path).map_err(anyhow::Error::from).and_then(|disk| {
                    let mut session = disk.into_session();
                    Ok(self.writer.check(&mut session)?)
                });
                match tried {
                    Ok(report) => break report,
                    Err(error) => ensure!(Instant::now() < deadline, "it cannot be read back: {error:#}"),
                }
                std::thread::sleep(LOOK);
            };
            let Report { wrong, torn, .. } = report;
            ensure!(report.is_clean(), "{wrong} sectors wrong, {torn} blocks torn: {:?}", report.spelled);
        }
        Ok(())
    }
}
