//! Two nodes of our own and an arbiter between them, each a process of its own.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dyad_bench::disk::Disk;
use dyad_bench::initiator::Options;
use dyad_cluster::ImageState;
use dyad_store::Authority;
use dyad_units::NodeId;
use serde_json::{Value, json};

use crate::arbiter::{self, Arbiter};
use crate::authority::{self, Files};
use crate::lab::{Lab, Place, Unit};
use crate::net::Net;
use crate::port::Port;

pub use crate::host::Host;

/// The volume with an image on each node.
pub const VOLUME: &str = "v";
/// Whatever is waited for comes within this, or never.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// A look at what is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Pools of the nodes, in their order.
const POOLS: [&str; 2] = ["a", "b"];

/// Two nodes and an arbiter.
pub struct Cluster {
    /// The nodes.
    pub nodes: [Lab; 2],
    /// The arbiter.
    pub arbiter: Arbiter,
    /// The networks between them, if they are not all on loopback.
    pub net: Option<Net>,
    ids: [NodeId; 2],
    /// Name of the volume's target, asked for once: a node may not be able to answer later.
    target: OnceLock<String>,
    _ports: Vec<Port>,
}

/// What a cluster is like.
#[derive(Debug)]
pub struct Shape {
    /// Size of the volume in MiB.
    pub mib: u64,
    /// Size of each pool in MiB.
    pub pool_mib: u64,
    /// Networks of their own for the nodes; none: all is on loopback.
    pub net: Option<Net>,
    /// Whether the nodes show each other certificates, and encrypt, as between machines; the arbiter always does on a net.
    pub is_encrypted: bool,
    /// What is put before the command that starts a node.
    pub prefix: Vec<String>,
    /// Added to the end of each node's configuration.
    pub more: String,
}

impl Shape {
    /// On loopback, with pools that are never full.
    pub fn new(mib: u64) -> Self {
        Self { mib, pool_mib: 4 * mib + 192, net: None, is_encrypted: false, prefix: Vec::new(), more: String::new() }
    }

    /// On loopback, with pools of this size and without a volume.
    pub fn pools(pool_mib: u64) -> Self {
        Self { pool_mib, ..Self::new(0) }
    }
}

impl Cluster {
    /// Running, with a volume of so many MiB.
    pub fn start(mib: u64) -> anyhow::Result<Self> {
        Self::start_as(Shape::new(mib))
    }

    /// Running, with a volume that has an image on each node.
    pub fn start_as(shape: Shape) -> anyhow::Result<Self> {
        let volume = json!({ "name": VOLUME, "size_bytes": shape.mib << 20 });
        let cluster = Self::start_without_volume(shape)?;
        cluster.until("the volume is made", || cluster.nodes[0].admin().post("/v1/volumes", &volume).is_ok())?;
        for node in 0..2 {
            cluster.until_redundant(node)?;
        }
        Ok(cluster)
    }

    /// Running, with a pool on each node and no volume.
    pub fn start_without_volume(shape: Shape) -> anyhow::Result<Self> {
        let (arbiter, mut nodes, ports) = parts(&shape)?;
        for (node, pool) in nodes.iter_mut().zip(POOLS) {
            node.start()?;
            node.create_pool(pool, shape.pool_mib)?;
        }
        let ids = [id_of(&nodes[0])?, id_of(&nodes[1])?];
        let said = nodes[0].admin().get("/v1/status")?["node"]["peer_encryption"].as_bool();
        ensure!(said == Some(shape.is_encrypted), "whether the nodes encrypt: {said:?}");
        Ok(Self { nodes, arbiter, net: shape.net, ids, target: OnceLock::new(), _ports: ports })
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
        self.until_in_sync(node, VOLUME)
    }

    /// Waits until both images of a volume are in sync, as this node says.
    pub fn until_in_sync(&self, node: usize, volume: &str) -> anyhow::Result<()> {
        let admin = self.nodes[node].admin();
        let shown = || admin.get(&format!("/v1/volumes/{volume}")).ok();
        self.until("both images are in sync", || shown().as_ref().and_then(images_in_sync) == Some(2))
    }

    /// The process of a node.
    pub fn process_id(&self, node: usize) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.nodes[node].pid()?)?)
    }

    /// Makes a volume with an image on each node, as the API takes it. How it is reached at its owner, and at the
    /// other node.
    pub fn create_volume(&self, body: &Value) -> anyhow::Result<[Unit; 2]> {
        let name = body["name"].as_str().context("a volume without name")?;
        // Right after a start the nodes may not have found each other yet.
        let mut refused = None;
        let made = self.until("the volume is made", || {
            refused = self.nodes[0].admin().post("/v1/volumes", body).err();
            refused.is_none()
        });
        made.with_context(|| format!("volume {name}: {refused:?}"))?;
        for node in 0..2 {
            self.until_in_sync(node, name)?;
        }
        self.until("the volume has an owner", || self.owner_of(name).is_ok())?;
        let owner = self.owner_of(name)?;
        Ok([self.nodes[owner].unit(name)?, self.nodes[1 - owner].unit(name)?])
    }

    /// The node that owns the volume, as the arbiter says.
    pub fn owner(&self) -> anyhow::Result<usize> {
        self.owner_of(VOLUME)
    }

    /// The other node becomes the owner of the volume (M12); it is when this returns.
    pub fn move_owner(&self) -> anyhow::Result<()> {
        let (owner, path) = (self.owner()?, format!("/v1/volumes/{VOLUME}/owner"));
        self.nodes[owner].admin().post(&path, &json!({}))?;
        self.until("the other node is the owner", || self.owner().is_ok_and(|now| now != owner))
    }

    /// The node that owns a volume, as the arbiter says.
    pub fn owner_of(&self, volume: &str) -> anyhow::Result<usize> {
        let owner = self.arbiter.segment(volume)?.owner.context("the volume has no owner")?;
        self.ids.iter().position(|id| *id == owner).context("the owner is none of the nodes")
    }

    /// The nodes whose images of the volume are in sync, as the arbiter says.
    pub fn in_sync(&self) -> anyhow::Result<Vec<usize>> {
        let record = self.arbiter.segment(VOLUME)?;
        Ok((0..2).filter(|node| record.in_sync().any(|image| image.node == self.ids[*node])).collect())
    }

    /// Whether an image of the volume is being copied to, as the arbiter says.
    pub fn is_syncing(&self) -> anyhow::Result<bool> {
        let record = self.arbiter.segment(VOLUME)?;
        Ok(record.images.iter().any(|image| image.state == ImageState::Syncing))
    }

    /// How a host reaches the volume at each node.
    pub fn paths(&self) -> anyhow::Result<[Options; 2]> {
        if self.target.get().is_none() {
            let shown = self.nodes.iter().find_map(|node| node.admin().get(&format!("/v1/volumes/{VOLUME}")).ok());
            let shown = shown.context("no node knows the volume")?;
            let target = shown["target"].as_str().context("a volume without target name")?;
            self.target.get_or_init(|| target.to_owned());
        }
        let target = self.target.get().context("no target name")?;
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

    /// How many regions are marked in each node's pool.
    pub fn marked_regions(&self) -> anyhow::Result<[u64; 2]> {
        let of = |node: usize| {
            let shown = self.nodes[node].admin().get(&format!("/v1/pools/{}", POOLS[node]))?;
            shown["marked_regions"].as_u64().context("a pool that counts no marked regions")
        };
        Ok([of(0)?, of(1)?])
    }

    /// A counter of each node's pool, such as `damaged_blocks`.
    pub fn pool_counters(&self, counter: &str) -> anyhow::Result<[u64; 2]> {
        let of = |node: usize| self.nodes[node].pool_counter(POOLS[node], counter);
        Ok([of(0)?, of(1)?])
    }
}

type Parts = (Arbiter, [Lab; 2], Vec<Port>);

/// The arbiter, running, and the nodes, not yet.
fn parts(shape: &Shape) -> anyhow::Result<Parts> {
    let has_certificates = shape.net.is_some() || shape.is_encrypted;
    let authority = has_certificates.then(Authority::create).transpose()?.map(|(authority, _)| authority);
    let ports = match shape.net {
        None => vec![Port::reserve()?, Port::reserve()?, Port::reserve()?],
        Some(_) => Vec::new(),
    };
    let arbiter_at = |number: usize| shape.net.as_ref().map_or_else(|| ports[2].address(), |net| net.arbiter(number));
    let listen = if shape.net.is_some() { vec![arbiter_at(0), arbiter_at(1)] } else { vec![arbiter_at(0)] };
    let arbiter = Arbiter::start(&listen, authority.as_ref())?;
    let node = |name: &str, number: usize| {
        let dir = tempfile::Builder::new().prefix("dyad-lab-").tempdir()?;
        let (peer, place) = match &shape.net {
            None => (ports[number].address(), Place { prefix: shape.prefix.clone(), ..Place::loopback()? }),
            Some(net) => {
                let prefix = [net.enter(number), shape.prefix.clone()].concat();
                (net.peer(number), Place { portal: net.portal(number), prefix, port: None })
            }
        };
        let arbiter = arbiter_at(number);
        let mut config = format!("node_name = \"{name}\"\npeer.listen = \"{peer}\"\n");
        config += &format!("store.kind = \"arbiter\"\nstore.addresses = [\"{arbiter}\"]\n");
        if let Some(authority) = &authority {
            let files = authority::issue(authority, name, dir.path())?;
            config += &certificates("store", &files);
            config += &format!("store.name = \"{}\"\n", arbiter::NAME);
            config +=
                &if shape.is_encrypted { certificates("peer", &files) } else { "peer.tls = \"off\"\n".to_owned() };
        }
        Lab::at(dir, place, &format!("{config}{}\n", shape.more))
    };
    let nodes = [node("one", 0)?, node("other", 1)?];
    Ok((arbiter, nodes, ports))
}

/// What a section of the configuration says of them.
fn certificates(section: &str, files: &Files) -> String {
    let (ca, certificate, key) = (files.path("ca"), files.path("pem"), files.path("key"));
    format!("{section}.ca = {ca:?}\n{section}.certificate = {certificate:?}\n{section}.key = {key:?}\n")
}

fn id_of(node: &Lab) -> anyhow::Result<NodeId> {
    let shown = node.admin().get("/v1/status")?;
    let id = shown["node"]["id"].as_str().context("a node without id")?;
    id.parse().map_err(|_| anyhow::anyhow!("{id:?} is no node's id"))
}

/// How many images of a volume are in sync, as a node shows it.
fn images_in_sync(shown: &Value) -> Option<usize> {
    let images = shown["images"].as_array()?;
    (shown["state"] == "serving").then(|| images.iter().filter(|image| image["state"] == "in-sync").count())
}
