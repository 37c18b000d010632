//! `cargo xtask conformance`: every family of libiscsi's suite, judged by the table of allowed skips.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dyad_bench::disk::Disk;
use dyad_e2e::admin::Admin;
use dyad_e2e::cluster::{Cluster, Shape};
use dyad_e2e::conformance::{self as suite, TOOL, Verdict};
use dyad_e2e::{Lab, Target, Tgt, Unit, Volume, tools, wait};
use serde_json::json;

use crate::cargo;
use crate::packages::{self, Need};
use crate::tally::Tally;

/// Families take under a second each, but for a few that wait; none waits this long.
const FAMILY_LIMIT: Duration = Duration::from_secs(90);
/// Until a right that was granted holds at both nodes.
const GRANT_LIMIT: Duration = Duration::from_secs(10);
/// Page whose table names the skips that are right, each with its reason.
const PAGE: &str = "docs/conformance.md";
/// Enough for every test of the suite, and small enough to be written often.
const UNIT_LEN: u64 = 256 << 20;
const POOL_MIB: u64 = 512;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run against tgt instead of Dyad: shows what the suite does with another target
    #[arg(long)]
    tgt: bool,
    /// Only these families, such as ALL.Unmap
    #[arg(long)]
    family: Vec<String>,
    /// Only volumes with logical blocks of this size
    #[arg(long)]
    block_bytes: Vec<u32>,
    /// Only over two nodes, through the owner and through the node that forwards
    #[arg(long)]
    two_nodes: bool,
    /// Directory for everything that the suite printed
    #[arg(long)]
    keep: Option<PathBuf>,
}

pub fn in_ci() -> anyhow::Result<Tally> {
    run(&Args { tgt: false, family: Vec::new(), block_bytes: Vec::new(), two_nodes: false, keep: None })
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    packages::install(if args.tgt { Need::Bench } else { Need::Test })?;
    if !tools::has(&[TOOL]) {
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    let page = fs::read_to_string(cargo::root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let mut session = Session { args, allowed: Allowed::parse(&page), tally: Tally::default() };
    let dir = tempfile::tempdir()?;
    if args.tgt {
        let backing = dir.path().join("unit");
        fs::File::create(&backing)?.set_len(UNIT_LEN)?;
        let tgt = Tgt::start(dir.path(), &backing)?;
        for (family, tests) in session.families()? {
            session.family(&family, &tests, [&tgt, &tgt], "tgt")?;
        }
        return Ok(session.tally);
    }
    cargo::use_dyad(false)?;
    if !args.two_nodes {
        one_node(&mut session)?;
    }
    if args.two_nodes || args.block_bytes.is_empty() {
        two_nodes(&mut session)?;
    }
    session.unused();
    Ok(session.tally)
}

/// Both images on one node.
fn one_node(session: &mut Session<'_>) -> anyhow::Result<()> {
    let lab = Lab::with_pools(&["a", "b"], POOL_MIB)?;
    let args = session.args;
    let sizes = if args.block_bytes.is_empty() { &[512, 4096][..] } else { &args.block_bytes };
    for block_bytes in sizes {
        println!("--- {block_bytes}-byte blocks");
        for (family, tests) in session.families()? {
            // A unit of its own for each family: some expect blocks that nobody wrote before.
            let more = json!({ "block_bytes": block_bytes });
            let volume = Volume { more, ..Volume::new("conformance", UNIT_LEN >> 20, &["a", "b"]) };
            let unit = lab.create_volume(&volume)?;
            prepare(&family, &lab.admin(), "conformance", &unit)?;
            session.family(&family, &tests, [&unit, &unit], &block_bytes.to_string())?;
            lab.admin().delete("/v1/volumes/conformance?force=true")?;
        }
    }
    Ok(())
}

/// An image on each of two nodes: at the owner, and at the other node, which forwards (M18).
fn two_nodes(session: &mut Session<'_>) -> anyhow::Result<()> {
    let cluster = Cluster::start_without_volume(Shape::pools(POOL_MIB))?;
    for way in ["owner", "other"] {
        println!("--- two nodes, 512-byte blocks, through the {way}");
        for (number, (family, tests)) in session.families()?.into_iter().enumerate() {
            let name = format!("{way}-{number}");
            let body = json!({ "name": name, "size_bytes": UNIT_LEN, "block_bytes": 512 });
            let [owner, other] = cluster.create_volume(&body)?;
            let [unit, second] = if way == "owner" { [owner, other] } else { [other, owner] };
            prepare(&family, &cluster.nodes[0].admin(), &name, &unit)?;
            session.family(&family, &tests, [&unit, &second], way)?;
            cluster.nodes[0].admin().delete(&format!("/v1/volumes/{name}?force=true"))?;
        }
    }
    Ok(())
}

/// One family wants a unit that is write protected: the suite's host may only read it.
fn prepare(family: &str, admin: &Admin, volume: &str, unit: &Unit) -> anyhow::Result<()> {
    if family != "ALL.ReadOnly" {
        return Ok(());
    }
    let change = json!({ "initiator": suite::INITIATOR, "right": "read-only" });
    admin.patch(&format!("/v1/volumes/{volume}/access"), &change)?;
    // It closes the volume to every other host. The node that was not asked hears of it a moment later.
    let is_closed = || Disk::open(&unit.options()).is_err().then_some(());
    wait::until("the volume is closed to other hosts", GRANT_LIMIT, is_closed)
}

/// A run over families, and what came of it so far.
struct Session<'a> {
    args: &'a Args,
    allowed: Allowed,
    tally: Tally,
}

impl Session<'_> {
    /// Families to run, with the names of their tests.
    fn families(&self) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        let wanted = |family: &String| self.args.family.is_empty() || self.args.family.contains(family);
        Ok(suite::families()?.into_iter().filter(|(family, _)| wanted(family)).collect())
    }

    /// Runs one against a unit; the multipath family by both its paths.
    fn family(&mut self, family: &str, tests: &[String], paths: [&dyn Target; 2], kind: &str) -> anyhow::Result<()> {
        let urls = paths.map(Target::url);
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let urls = if family == "ALL.MultipathIO" { &urls[..] } else { &urls[..1] };
        let run = suite::run(family, tests, urls, FAMILY_LIMIT)?;
        if let Some(keep) = &self.args.keep {
            fs::create_dir_all(keep)?;
            fs::write(keep.join(format!("{family}.{kind}.txt")), &run.output)?;
        }
        let mut lines = Vec::new();
        let before = self.tally;
        for (test, verdict) in &run.tests {
            match verdict {
                Verdict::Passed => self.tally.passed += 1,
                Verdict::Skipped(marks) if self.allowed.covers(test, marks) => self.tally.skipped += 1,
                Verdict::Skipped(marks) => {
                    self.tally.failed += 1;
                    lines.push(format!("{test}: skipped without being allowed to: {}", marks.join("; ")));
                }
                Verdict::Failed(what) if self.allowed.covers_failure(test, what) => {
                    self.tally.skipped += 1;
                    lines.push(format!("{test}: fails by a fault of the suite, see {PAGE}"));
                }
                Verdict::Failed(what) => {
                    self.tally.failed += 1;
                    lines.push(format!("{test}: FAILED: {}", what.join("; ")));
                }
            }
        }
        let (passed, skipped) = (self.tally.passed - before.passed, self.tally.skipped - before.skipped);
        let (all, seconds) = (run.tests.len(), run.elapsed.as_secs_f64());
        println!("{family}: {passed} of {all} passed, {skipped} rightly skipped, in {seconds:.1} s");
        lines.iter().for_each(|line| println!("  {line}"));
        Ok(())
    }

    /// After a run of everything, a row that allowed nothing claims what is not so.
    fn unused(&mut self) {
        if self.args.two_nodes || !self.args.family.is_empty() || !self.args.block_bytes.is_empty() {
            return;
        }
        for row in self.allowed.rows.iter().filter(|row| !row.used) {
            println!("{PAGE}: no test is skipped, or fails, as the row for {} ({}) says", row.test, row.mark);
            self.tally.failed += 1;
        }
    }
}

/// The tables of allowed skips, and of failures that are the suite's own fault.
struct Allowed {
    rows: Vec<Row>,
}

/// Before the words of a failure in its row.
const FAILED: &str = "FAILED: ";

/// A test's name, or a beginning of names followed by `*`; then words of the skip mark, or of the failure.
struct Row {
    test: String,
    mark: String,
    used: bool,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.strip_prefix("| `")?.split("` | ");
        let test = cells.next().filter(|name| name.starts_with("ALL."))?.to_owned();
        let mark = cells.next()?.strip_prefix('`')?.to_owned();
        Some(Self { test, mark, used: false })
    }

    fn fits(&self, test: &str) -> bool {
        match self.test.strip_suffix('*') {
            Some(start) => test.starts_with(start),
            None => test == self.test,
        }
    }
}

impl Allowed {
    fn parse(page: &str) -> Self {
        Self { rows: page.lines().filter_map(Row::parse).collect() }
    }

    /// Whether every mark in the test is one that the table expects there.
    fn covers(&mut self, test: &str, marks: &[String]) -> bool {
        marks.iter().all(|mark| {
            let row = self.rows.iter_mut().find(|row| row.fits(test) && mark.contains(&row.mark));
            row.map(|row| row.used = true).is_some()
        })
    }

    /// Whether every failure in the test is one that the table expects there.
    fn covers_failure(&mut self, test: &str, what: &[String]) -> bool {
        what.iter().all(|what| {
            let is_it = |row: &&mut Row| {
                row.fits(test) && row.mark.strip_prefix(FAILED).is_some_and(|words| what.contains(words))
            };
            self.rows.iter_mut().find(is_it).map(|row| row.used = true).is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Allowed;

    #[test]
    fn the_table_allows_marks_of_single_tests_and_of_whole_families() {
        let page = "text\n\n| test | mark | why |\n|---|---|---|\n\
                    | `ALL.NoMedia.*` | `not removable` | no removable media |\n| `ALL.A.B` | `so` | so |\n";
        let mut allowed = Allowed::parse(page);
        let mut covers = |test: &str, mark: &str| allowed.covers(test, &[mark.to_owned()]);
        assert!(covers("ALL.NoMedia.SBC", "LUN is not removable. Skipping test."));
        assert!(!covers("ALL.NoMedia.SBC", "INQUIRY is not implemented."));
        assert!(covers("ALL.A.B", "so it is"));
        assert!(!covers("ALL.A.BC", "so it is"));
    }

    /// What may be skipped may not fail, nor the reverse.
    #[test]
    fn a_failure_is_allowed_by_its_own_words_only() {
        let page = "| `ALL.A.B` | `so` | so |\n| `ALL.A.C` | `FAILED: test_c.c:7 ` | a fault of the suite |\n";
        let mut allowed = Allowed::parse(page);
        let line = |line: &str| [line.to_owned()];
        assert!(allowed.covers_failure("ALL.A.C", &line("1. test_c.c:7  - CU_FAIL")));
        assert!(!allowed.covers_failure("ALL.A.C", &line("1. test_c.c:70  - CU_FAIL")));
        assert!(!allowed.covers_failure("ALL.A.C", &[line("1. test_c.c:7  - a"), line("2. test_c.c:9  - b")].concat()));
        assert!(!allowed.covers_failure("ALL.A.B", &line("so it is")));
        assert!(!allowed.covers("ALL.A.C", &line("test_c.c:7 ")));
    }

    #[test]
    fn the_page_of_the_project_has_rows() {
        let page = std::fs::read_to_string(crate::cargo::root().join(super::PAGE)).unwrap();
        assert!(Allowed::parse(&page).rows.len() > 5);
    }
}
