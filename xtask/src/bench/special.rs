//! Rows about Dyad alone: clean regions, cold checksums, idle sessions.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dyad_bench::hold::Held;
use dyad_bench::load::{Kind, Order, Outcome, Spec, run as load};
use dyad_e2e::{Lab, Target, Unit, Volume, procfs};

use super::prefill;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Unit of the region log.
const REGION: u64 = 4 * MIB;
const EXTENT: u64 = 256 << 10;
/// Extents whose checksums share one 4 KiB page of the table: 64 sums of 8 bytes each.
const EXTENTS_PER_TABLE_PAGE: u64 = 4096 / (64 * 8);

pub(super) struct Row {
    pub name: &'static str,
    pub about: String,
    pub value: String,
    pub wanted: &'static str,
    pub met: bool,
}

type Measure = fn(&Path) -> anyhow::Result<Row>;

const ROWS: [(&str, Measure); 3] =
    [("idle", idle_sessions), ("cold-checksums", cold_checksums), ("clean-regions", clean_regions)];

/// Runs the rows that are wanted; a table in Markdown.
pub fn run(dir: &Path, wants: &dyn Fn(&str) -> bool) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    for (name, measure) in ROWS.iter().filter(|(name, _)| wants(name)) {
        rows.push(measure(dir).with_context(|| format!("row {name}"))?);
    }
    Ok(table(&rows))
}

/// The rows in Markdown; also printed.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = String::from("| Dyad alone | measured | wanted | met |\n|---|---|---|---|\n");
    for row in rows {
        let met = if row.met { "yes" } else { "no" };
        let line = format!("| {}: {} | {} | {} | {met} |\n", row.name, row.about, row.value, row.wanted);
        print!("{line}");
        table.push_str(&line);
    }
    table
}

fn lab(dir: &Path, pool_mib: u64) -> anyhow::Result<Lab> {
    let mut lab = Lab::in_dir(tempfile::Builder::new().prefix("dyad-").tempdir_in(dir)?, "")?;
    lab.start()?;
    lab.create_pool("a", pool_mib)?;
    Ok(lab)
}

fn spec(kind: Kind, stride: u64, offset: u64, area: u64) -> Spec {
    Spec {
        kind,
        order: Order::OncePer { stride, offset },
        size: 4096,
        depth: 32,
        sessions: 1,
        area,
        duration: Duration::from_secs(300),
        count: 0,
        seed: 3,
    }
}

fn once_per(unit: &Unit, spec: &Spec) -> anyhow::Result<Outcome> {
    Ok(load(&unit.options(), spec)?)
}

/// 100 sessions that do nothing but answer pings.
fn idle_sessions(dir: &Path) -> anyhow::Result<Row> {
    const SESSIONS: u32 = 100;
    const LENGTH: Duration = Duration::from_secs(15);
    let lab = lab(dir, 512)?;
    let unit = lab.create_volume(&Volume::new("v", 64, &["a"]))?;
    let held = Held::open(&unit.options(), SESSIONS)?;
    let cpu = || procfs::cpu(unit.pid()).context("it is gone");
    // What the logins left to do is no idling.
    std::thread::sleep(Duration::from_secs(2));
    let (begin, before) = (Instant::now(), cpu()?);
    std::thread::sleep(LENGTH);
    let percent = (cpu()? - before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    anyhow::ensure!(held.alive() == SESSIONS as usize, "only {} sessions are left", held.alive());
    Ok(Row {
        name: "idle",
        about: format!("{SESSIONS} idle sessions, CPU"),
        value: format!("{percent:.2} % of a core"),
        wanted: "< 1 %",
        met: percent < 1.0,
    })
}

/// Reads right after a restart, each of another page of the checksum table, against the same reads once more. The page
/// cache is warm for both; what differs is that the node has to fetch the checksums first.
fn cold_checksums(dir: &Path) -> anyhow::Result<Row> {
    const VOLUME: u64 = 4 * GIB;
    const ROUNDS: usize = 5;
    let mut lab = lab(dir, VOLUME / MIB + VOLUME / MIB / 4 + 256)?;
    let unit = lab.create_volume(&Volume::new("v", VOLUME / MIB, &["a"]))?;
    prefill(&unit, VOLUME / MIB)?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        lab.stop()?;
        lab.start()?;
        let unit = lab.unit("v")?;
        let reads = spec(Kind::Read, EXTENT * EXTENTS_PER_TABLE_PAGE, 0, VOLUME);
        let cold = once_per(&unit, &reads)?.rate();
        let warm = once_per(&unit, &reads)?.rate();
        ratios.push((cold / warm, cold, warm));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, cold, warm) = ratios[ROUNDS / 2];
    Ok(Row {
        name: "cold-checksums",
        about: "4 KiB reads, depth 32, checksums not in memory against in memory".to_owned(),
        value: format!("{ratio:.2} ({cold:.0} /s, {warm:.0} /s)"),
        wanted: "≥ 0.5",
        met: ratio >= 0.5,
    })
}

/// One 4 KiB write into each of 65,536 clean regions, against as many first writes into regions that are marked.
fn clean_regions(dir: &Path) -> anyhow::Result<Row> {
    const REGIONS: u64 = 65_536;
    const VOLUME: u64 = REGIONS * REGION;
    /// Below the budget of marked regions (P5), so that these stay marked while they are written.
    const MARKED: u64 = 8_192;
    // Every write takes an extent: once for the clean ones, once for the marked ones and their marking.
    let pool = (2 * REGIONS + MARKED) * EXTENT;
    let lab = lab(dir, pool / MIB + pool / MIB / 16 + 4096)?;
    let clean_unit = lab.create_volume(&Volume::new("clean", VOLUME / MIB, &["a"]))?;
    let clean = once_per(&clean_unit, &spec(Kind::Write, REGION, 0, VOLUME))?;
    let marked_unit = lab.create_volume(&Volume::new("marked", VOLUME / MIB, &["a"]))?;
    let area = MARKED * REGION;
    once_per(&marked_unit, &spec(Kind::Write, REGION, 0, area))?;
    // Other extents of the same regions, eight in each.
    let marked = once_per(&marked_unit, &spec(Kind::Write, 2 * EXTENT, EXTENT, area))?;
    let ratio = clean.rate() / marked.rate();
    Ok(Row {
        name: "clean-regions",
        about: format!("{REGIONS} first writes, depth 32, to clean regions against marked ones"),
        value: format!("{ratio:.2} ({:.0} /s, {:.0} /s)", clean.rate(), marked.rate()),
        wanted: "≥ 0.5",
        met: ratio >= 0.5,
    })
}
