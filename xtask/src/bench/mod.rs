//! `cargo xtask bench`: tgt and Dyad side by side on equal files, the same clients in turn.
//!
//! Each round runs every server once per workload, in an order that changes from round to round; a ratio is always
//! between two runs of the same round, and what is reported is the median of the ratios. So a disturbance of the
//! machine that lasts longer than a round cancels out, and a shorter one is outvoted.

mod clients;
mod nodes;
mod report;
mod special;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use dyad_bench::load::{Kind, Order, Spec};
use dyad_e2e::{Lab, Target, Tgt, Unit, Volume, tools};

use crate::packages::{self, Need};
use clients::{Client, Sample};
use report::Line;
use workload::{WORKLOADS, Workload};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Rounds per workload
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of one run in milliseconds
    #[arg(long, default_value_t = 800)]
    millis: u64,
    /// Size of the volume and of tgt's file in MiB
    #[arg(long, default_value_t = 1024)]
    volume: u64,
    /// Only workloads whose name begins so (may be repeated)
    #[arg(long)]
    only: Vec<String>,
    /// Only this client: qemu, own or perf
    #[arg(long)]
    client: Vec<String>,
    /// Directory for the files; by default a temporary one
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Compare tgt with a second tgt: shows how far equal servers differ on this machine
    #[arg(long)]
    self_test: bool,
    /// Compare tgt's single copy with a volume over two nodes and an arbiter
    #[arg(long, conflicts_with = "self_test")]
    two_nodes: bool,
    /// With certificates between the nodes, as between machines
    #[arg(long, requires = "two_nodes")]
    encrypted: bool,
    /// Only the comparison with tgt, not the rows about Dyad alone
    #[arg(long)]
    no_special: bool,
    /// Try it with the build that tests use; the figures mean nothing
    #[arg(long)]
    pub debug: bool,
    /// Write the table to this file as well
    #[arg(long)]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    packages::install(Need::Bench)?;
    anyhow::ensure!(tools::has(&["tgtd", "qemu-img"]), "nothing to compare with");
    let temporary;
    let dir = match &args.dir {
        Some(dir) => dir.as_path(),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let tgt = start_tgt(dir, "tgt", args.volume)?;
    let (second, lab, units, pair);
    let servers: Vec<&dyn Target> = if args.self_test {
        second = start_tgt(dir, "second", args.volume)?;
        vec![&tgt, &second]
    } else if args.two_nodes {
        crate::cargo::use_dyad(!args.debug)?;
        pair = nodes::Pair::start(args.volume, args.encrypted)?;
        vec![&tgt, &pair.ways[0], &pair.ways[1]]
    } else {
        crate::cargo::use_dyad(!args.debug)?;
        lab = start_dyad(dir, args.volume)?;
        units = [volume(&lab, "one", args.volume, &["a"])?, volume(&lab, "two", args.volume, &["b", "c"])?];
        vec![&tgt, &units[0], &units[1]]
    };
    for server in servers.iter().filter(|server| server.label() != report::OTHER) {
        prefill(*server, args.volume)?;
    }
    let mut lines = Vec::new();
    for workload in WORKLOADS.iter().filter(|workload| args.wants(workload.name)) {
        for client in clients::ALL.iter().filter(|client| args.wants_client(client.name()) && client.can(workload)) {
            let rounds = compare(&servers, workload, *client, args)?;
            for (index, server) in servers.iter().enumerate().skip(1) {
                let line = Line::new(workload, client.name(), server.label(), &rounds, index);
                println!("{line}");
                lines.push(line);
            }
        }
    }
    drop(servers);
    let mut table = report::table(&lines);
    if !args.self_test && !args.no_special {
        table.push('\n');
        let wants = |name: &str| args.wants(name);
        table.push_str(&if args.two_nodes { nodes::run(&wants)? } else { special::run(dir, &wants)? });
    }
    println!("\n{table}");
    if let Some(path) = &args.output {
        fs::write(path, table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Args {
    fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| workload.starts_with(only.as_str()))
    }

    fn wants_client(&self, client: &str) -> bool {
        self.client.is_empty() || self.client.iter().any(|only| only == client)
    }
}

fn start_tgt(dir: &Path, name: &str, mib: u64) -> anyhow::Result<Tgt> {
    let dir = dir.join(name);
    fs::create_dir_all(&dir)?;
    let backing = dir.join("unit");
    fs::File::create(&backing)?.set_len(mib << 20)?;
    Tgt::start(&dir, &backing)
}

/// One image in pool a, two in b and c; each pool with room for one image and what describes it.
fn start_dyad(dir: &Path, mib: u64) -> anyhow::Result<Lab> {
    let dir = tempfile::Builder::new().prefix("dyad-").tempdir_in(dir)?;
    let mut lab = Lab::in_dir(dir, "")?;
    lab.start()?;
    for pool in ["a", "b", "c"] {
        lab.create_pool(pool, mib + mib / 4 + 128)?;
    }
    Ok(lab)
}

fn volume(lab: &Lab, name: &str, mib: u64, pools: &[&str]) -> anyhow::Result<Unit> {
    let label = if pools.len() == 1 { report::ONE_IMAGE } else { report::TWO_IMAGES };
    Ok(lab.create_volume(&Volume::new(name, mib, pools))?.labelled(label))
}

/// Writes the whole unit once, so that no run meets holes, and has it on disk before the first run.
pub(crate) fn prefill(target: &dyn Target, mib: u64) -> anyhow::Result<()> {
    let spec = Spec {
        kind: Kind::Write,
        order: Order::Sequential,
        size: PREFILL,
        depth: 8,
        sessions: 1,
        area: 0,
        duration: Duration::from_secs(600),
        count: mib * MIB / u64::from(PREFILL),
        seed: 5,
    };
    dyad_bench::load::run(&target.options(), &spec).with_context(|| format!("cannot fill {}", target.label()))?;
    let mut disk = dyad_bench::disk::Disk::open(&target.options())?;
    disk.flush()?;
    Ok(disk.logout()?)
}

/// Bytes per command when filling.
const PREFILL: u32 = 256 * 1024;
const MIB: u64 = 1 << 20;

/// All samples of one workload and client: per round, per server.
fn compare(
    servers: &[&dyn Target],
    workload: &Workload,
    client: &dyn Client,
    args: &Args,
) -> anyhow::Result<Vec<Vec<Sample>>> {
    let length = Duration::from_millis(args.millis);
    // One short run each to warm up, and to learn how many commands fill the time.
    let mut counts = Vec::new();
    for server in servers {
        let probe = clients::measure(client, *server, workload, workload.probe_count(), length / 4)?;
        counts.push((probe.rate() * length.as_secs_f64()).max(64.0) as u64);
    }
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        let mut samples = vec![Sample::default(); servers.len()];
        for place in 0..servers.len() {
            let index = (place + round) % servers.len();
            samples[index] = clients::measure(client, servers[index], workload, counts[index], length)?;
        }
        rounds.push(samples);
    }
    Ok(rounds)
}
