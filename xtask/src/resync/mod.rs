//! `cargo xtask resync`: what crosses the link between two nodes when an image that was away comes back, how fast, and
//! what hosts notice. The nodes have a link of their own, whose bytes the kernel counts, with all headers.

mod copy;
mod pair;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dyad_bench::disk::Disk;
use dyad_bench::load::{Kind, Order, Outcome, Spec, run as load};

use crate::cargo;
use crate::packages::{self, Need};
use crate::tally::Tally;
use pair::Pair;

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;
const EXTENT: u64 = 256 << 10;
const REGION: u64 = 4 * MIB;
/// Per block, as they cross the link (P7).
const CHECKSUM: u64 = 8;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Size of the volume in MiB
    #[arg(long, default_value_t = 2048)]
    volume: u64,
    /// Only rows whose name begins so (may be repeated)
    #[arg(long)]
    only: Vec<String>,
    /// Try it with the build that tests use; the figures mean nothing
    #[arg(long)]
    pub debug: bool,
    /// Write the table to this file as well
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

struct Row {
    about: String,
    value: String,
    wanted: String,
    is_met: bool,
}

type Measure = fn(&mut Pair) -> anyhow::Result<Row>;

const ROWS: [(&str, Measure); 6] = [
    ("marks", marked_once),
    ("one-write", one_write),
    ("absence", long_absence),
    ("owner-crash", owner_crash),
    ("rate", rate),
    ("foreground", foreground),
];

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    packages::install(Need::Test)?;
    cargo::use_dyad(!args.debug)?;
    let Some(mut pair) = Pair::start(args.volume)? else {
        return Ok(Tally { skipped: 1, ..Tally::default() });
    };
    let mut table = String::from("| resync | measured | wanted | met |\n|---|---|---|---|\n");
    let mut tally = Tally::default();
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| name.starts_with(only.as_str()));
    for (name, measure) in ROWS.iter().filter(|(name, _)| wanted(name)) {
        let row = measure(&mut pair).with_context(|| format!("row {name}"))?;
        tally += Tally::one(row.is_met);
        let met = if row.is_met { "yes" } else { "no" };
        let line = format!("| {} | {} | {} | {met} |\n", row.about, row.value, row.wanted);
        print!("{line}");
        table.push_str(&line);
    }
    println!("\n{table}");
    if let Some(path) = &args.output {
        fs::write(path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(tally)
}

fn spec(order: Order, size: u32, depth: usize, seed: u64) -> Spec {
    let duration = Duration::from_secs(600);
    Spec { kind: Kind::Write, order, size, depth, sessions: 1, area: 0, duration, count: 0, seed }
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / MIB as f64)
}

/// Hosts at both nodes write to one region, which each image marks once (P5, M18).
fn marked_once(pair: &mut Pair) -> anyhow::Result<Row> {
    const WRITES: u64 = 64;
    pair.until_closed()?;
    let mut most = [0; 2];
    for round in 0..WRITES {
        for path in pair.cluster.paths()? {
            Disk::open(&path)?.write(round * 8, vec![round as u8; BLOCK as usize])?;
        }
        let marked = pair.cluster.marked_regions()?;
        most = [most[0].max(marked[0]), most[1].max(marked[1])];
    }
    Ok(Row {
        about: format!("regions marked while hosts at both nodes write {WRITES} blocks each of one region"),
        value: format!("{} and {}", most[0], most[1]),
        wanted: "1 and 1".to_owned(),
        is_met: most == [1, 1],
    })
}

/// One image is away while one block is written.
fn one_write(pair: &mut Pair) -> anyhow::Result<Row> {
    let back = pair.absence(|path| Ok(Disk::open(path)?.write(8 * 1000, vec![0x5a; BLOCK as usize])?))?;
    Ok(Row {
        about: "bytes on the link when an image returns that missed one 4 KiB write".to_owned(),
        value: mib(back.bytes),
        wanted: "< 1 MiB".to_owned(),
        is_met: back.bytes < MIB,
    })
}

/// One image is away while every eighth block is written, some of each extent.
fn long_absence(pair: &mut Pair) -> anyhow::Result<Row> {
    let (stride, blocks, extents) = (8 * BLOCK, pair.bytes / (8 * BLOCK), pair.bytes / EXTENT);
    let seed = pair.seed();
    let back = pair.absence(|path| {
        load(path, &spec(Order::OncePer { stride, offset: 0 }, BLOCK as u32, 32, seed))?;
        Ok(())
    })?;
    let checksums = extents * (EXTENT / BLOCK) * CHECKSUM;
    let needed = blocks * BLOCK + checksums;
    let ratio = back.bytes as f64 / needed as f64;
    Ok(Row {
        about: format!(
            "bytes on the link when an image returns that missed {blocks} scattered blocks, to those that differ and \
             the checksums of {extents} extents"
        ),
        value: format!("{ratio:.3} ({} to {}; {} of them to the image)", mib(back.bytes), mib(needed), mib(back.there)),
        wanted: "≤ 1.05".to_owned(),
        is_met: ratio <= 1.05,
    })
}

/// The owner is killed after writes to a few regions: when it returns, nothing else is looked at.
fn owner_crash(pair: &mut Pair) -> anyhow::Result<Row> {
    const REGIONS: u64 = 16;
    let seed = pair.seed();
    let path = pair.owner_path()?;
    let stride = pair.bytes / REGIONS;
    pair.until_closed()?;
    load(&path, &spec(Order::OncePer { stride, offset: 0 }, BLOCK as u32, 4, seed))?;
    let back = pair.owner_crash()?;
    let checksums = REGIONS * (REGION / BLOCK) * CHECKSUM;
    let bound = 2 * checksums + REGIONS * EXTENT;
    let all = pair.bytes / BLOCK * CHECKSUM;
    Ok(Row {
        about: format!(
            "bytes on the link from the crash of an owner with {REGIONS} marked regions until all is in sync"
        ),
        value: mib(back.bytes),
        wanted: format!("≤ {}; checksums of the whole volume are {}", mib(bound), mib(all)),
        is_met: back.bytes <= bound,
    })
}

/// Everything is written anew while an image is away; then nobody writes.
fn rate(pair: &mut Pair) -> anyhow::Result<Row> {
    let plain = copy::file_to_file(pair.bytes.min(1 << 30))?;
    let seed = pair.seed();
    let back = pair.absence(|path| {
        load(path, &spec(Order::OncePer { stride: EXTENT, offset: 0 }, EXTENT as u32, 8, seed))?;
        Ok(())
    })?;
    let rate = pair.bytes as f64 / back.copying.as_secs_f64();
    let ratio = rate / plain;
    let shown = |rate: f64| format!("{:.0} MiB/s", rate / MIB as f64);
    Ok(Row {
        about: "rate of a resync of everything, nobody writing, to file → TCP → file".to_owned(),
        value: format!("{ratio:.2} ({} to {})", shown(rate), shown(plain)),
        wanted: "≥ 0.6".to_owned(),
        is_met: ratio >= 0.6,
    })
}

/// 4 KiB writes, depth 1, while everything is resynced, against the same with nothing else to do.
fn foreground(pair: &mut Pair) -> anyhow::Result<Row> {
    let path = pair.owner_path()?;
    let alone = |seed: u64, seconds: u64| Spec {
        duration: Duration::from_secs(seconds),
        ..spec(Order::Random, BLOCK as u32, 1, seed)
    };
    let p99 = |outcome: &Outcome| outcome.latency.quantile(0.99);
    let before = p99(&load(&path, &alone(pair.seed(), 5))?);
    let seed = pair.seed();
    let all = spec(Order::OncePer { stride: EXTENT, offset: 0 }, EXTENT as u32, 8, seed);
    let mut total = Outcome::default();
    pair.absence_with(
        |path| {
            load(path, &all)?;
            Ok(())
        },
        |is_over| {
            while !is_over() {
                let part = load(&path, &Spec { duration: Duration::from_millis(200), ..alone(seed, 0) })?;
                total.latency.merge(&part.latency);
            }
            Ok(())
        },
    )?;
    let meanwhile = p99(&total);
    let ratio = meanwhile.as_secs_f64() / before.as_secs_f64().max(1e-9);
    Ok(Row {
        about: "p99 of 4 KiB writes, depth 1, during a resync of everything, to before it".to_owned(),
        value: format!("{ratio:.2} ({meanwhile:.0?} to {before:.0?})"),
        wanted: "≤ 2".to_owned(),
        is_met: ratio <= 2.0,
    })
}
