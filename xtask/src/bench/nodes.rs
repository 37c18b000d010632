//! Two nodes and an arbiter on this machine, all of them counted against one tgt.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dyad_e2e::cluster::{Cluster, Shape};
use dyad_e2e::{Target, Unit, procfs};
use serde_json::json;

use super::report;
use super::special::{self, Row};

/// What creating volumes left to do is no idling: intervals close after 10 s (M4).
const SETTLE: Duration = Duration::from_secs(15);
/// How long idling is watched.
const LENGTH: Duration = Duration::from_secs(15);

/// A volume with an image on each of two nodes.
pub struct Pair {
    /// At the owner, and at the node that forwards.
    pub ways: [Way; 2],
    _cluster: Cluster,
}

/// The volume at one of the nodes; both nodes and the arbiter serve it.
pub struct Way {
    unit: Unit,
    pids: Vec<u32>,
}

impl Pair {
    /// A volume of so many MiB.
    pub fn start(mib: u64, is_encrypted: bool) -> anyhow::Result<Self> {
        let shape = Shape { is_encrypted, ..Shape::pools(mib + mib / 4 + 256) };
        let cluster = Cluster::start_without_volume(shape)?;
        let [owner, other] = cluster.create_volume(&json!({ "name": "pair", "size_bytes": mib << 20 }))?;
        let pids = pids(&cluster)?.to_vec();
        let owner = Way { unit: owner.labelled(report::OWNER), pids: pids.clone() };
        let other = Way { unit: other.labelled(report::OTHER), pids };
        Ok(Self { ways: [owner, other], _cluster: cluster })
    }
}

impl Target for Way {
    fn label(&self) -> &str {
        self.unit.label()
    }

    fn portal(&self) -> SocketAddr {
        self.unit.portal()
    }

    fn iqn(&self) -> &str {
        self.unit.iqn()
    }

    fn lun(&self) -> u8 {
        self.unit.lun()
    }

    fn pid(&self) -> u32 {
        self.unit.pid()
    }

    fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }
}

/// Rows about two nodes alone; a table in Markdown.
pub fn run(wants: &dyn Fn(&str) -> bool) -> anyhow::Result<String> {
    Ok(if wants("idle") { special::table(&[idle_volumes()?]) } else { String::new() })
}

fn pids(cluster: &Cluster) -> anyhow::Result<[u32; 3]> {
    Ok([cluster.nodes[0].pid()?, cluster.nodes[1].pid()?, cluster.arbiter.pid()?])
}

/// 100 volumes that nobody uses, each with an image on both nodes.
fn idle_volumes() -> anyhow::Result<Row> {
    const VOLUMES: u32 = 100;
    // A pool has room for the metadata of about 40 images per GiB.
    const POOL_MIB: u64 = 4096;
    let cluster = Cluster::start_without_volume(Shape::pools(POOL_MIB))?;
    for number in 0..VOLUMES {
        cluster.create_volume(&json!({ "name": format!("v{number}"), "size_bytes": 64 << 20 }))?;
    }
    std::thread::sleep(SETTLE);
    let spent = || -> anyhow::Result<Vec<Duration>> {
        let of = |pid: u32| procfs::cpu(pid).context("a process is gone");
        pids(&cluster)?.into_iter().map(of).collect()
    };
    let (begin, before) = (Instant::now(), spent()?);
    std::thread::sleep(LENGTH);
    let (after, elapsed) = (spent()?, begin.elapsed());
    let percent = |(after, before): (&Duration, &Duration)| {
        after.saturating_sub(*before).as_secs_f64() / elapsed.as_secs_f64() * 100.0
    };
    let percents: Vec<f64> = after.iter().zip(&before).map(percent).collect();
    let shown: Vec<_> = percents.iter().map(|percent| format!("{percent:.2}")).collect();
    Ok(Row {
        name: "idle",
        about: format!("{VOLUMES} idle volumes over two nodes, CPU of each node and of the arbiter"),
        value: format!("{} % of a core", shown.join(", ")),
        wanted: "< 1 % each",
        met: percents.iter().all(|percent| *percent < 1.0),
    })
}
