//! `cargo xtask conformance`: every family of libiscsi's suite, judged by the table of allowed skips.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dyad_e2e::conformance::{self as suite, TOOL, Verdict};
use dyad_e2e::{Lab, Target, Tgt, Volume, tools};

use crate::cargo;
use crate::packages::{self, Need};
use crate::tally::Tally;

/// Families take under a second each, but for a few that wait; none waits this long.
const FAMILY_LIMIT: Duration = Duration::from_secs(90);
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
    /// Directory for everything that the suite printed
    #[arg(long)]
    keep: Option<PathBuf>,
}

pub fn in_ci() -> anyhow::Result<Tally> {
    run(&Args { tgt: false, family: Vec::new(), keep: None })
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    packages::install(if args.tgt { Need::Bench } else { Need::Test })?;
    if !tools::has(&[TOOL]) {
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    let dir = tempfile::tempdir()?;
    if args.tgt {
        let backing = dir.path().join("unit");
        fs::File::create(&backing)?.set_len(UNIT_LEN)?;
        let tgt = Tgt::start(dir.path(), &backing)?;
        return families(args, &tgt);
    }
    cargo::use_dyad(false)?;
    let lab = Lab::with_pools(&["a", "b"], POOL_MIB)?;
    let unit = lab.create_volume(&Volume::new("conformance", UNIT_LEN >> 20, &["a", "b"]))?;
    families(args, &unit)
}

fn families(args: &Args, target: &dyn Target) -> anyhow::Result<Tally> {
    let page = fs::read_to_string(cargo::root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let allowed = Allowed::parse(&page);
    let mut tally = Tally::default();
    let mut skips = 0;
    let url = target.url();
    for (family, tests) in suite::families()? {
        if !args.family.is_empty() && !args.family.contains(&family) {
            continue;
        }
        // The multipath family wants the same unit a second time.
        let urls = if family == "ALL.MultipathIO" { vec![url.as_str(), url.as_str()] } else { vec![url.as_str()] };
        let run = suite::run(&family, &tests, &urls, FAMILY_LIMIT)?;
        if let Some(keep) = &args.keep {
            fs::create_dir_all(keep)?;
            fs::write(keep.join(format!("{family}.txt")), &run.output)?;
        }
        let (mut lines, mut passed) = (Vec::new(), 0);
        for (test, verdict) in &run.tests {
            match verdict {
                Verdict::Passed => passed += 1,
                Verdict::Skipped(reasons) => {
                    skips += 1;
                    if allowed.covers(test, reasons) {
                        tally.skipped += 1;
                    } else {
                        tally.failed += 1;
                        lines.push(format!("{test}: skipped without being allowed to: {}", reasons.join("; ")));
                    }
                }
                Verdict::Failed(what) => {
                    tally.failed += 1;
                    lines.push(format!("{test}: FAILED: {}", what.join("; ")));
                }
            }
        }
        tally.passed += passed;
        println!("{family}: {passed} of {} passed in {:.1} s", run.tests.len(), run.elapsed.as_secs_f64());
        lines.iter().for_each(|line| println!("  {line}"));
    }
    println!("{} against {}: {skips} tests with skip marks, {} of them allowed", TOOL, target.label(), tally.skipped);
    Ok(tally)
}

/// The table of allowed skips: a test's name, or a beginning of names followed by `*`; then what the skip mark says.
struct Allowed(Vec<(String, String)>);

impl Allowed {
    fn parse(page: &str) -> Self {
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split("` | ");
            let name = cells.next().filter(|name| name.starts_with("ALL."))?;
            let mark = cells.next()?.strip_prefix('`')?;
            Some((name.to_owned(), mark.to_owned()))
        };
        Self(page.lines().filter_map(row).collect())
    }

    /// Whether every mark in the test is one that the table expects there.
    fn covers(&self, test: &str, marks: &[String]) -> bool {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => test.starts_with(start),
            None => test == pattern,
        };
        let rows: Vec<_> = self.0.iter().filter(|(pattern, _)| fits(pattern)).collect();
        marks.iter().all(|mark| rows.iter().any(|(_, expected)| mark.contains(expected.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::Allowed;

    #[test]
    fn the_table_allows_marks_of_single_tests_and_of_whole_families() {
        let page = "text\n\n| test | mark | why |\n|---|---|---|\n\
                    | `ALL.NoMedia.*` | `not removable` | no removable media |\n| `ALL.A.B` | `so` | so |\n";
        let allowed = Allowed::parse(page);
        let covers = |test: &str, mark: &str| allowed.covers(test, &[mark.to_owned()]);
        assert!(covers("ALL.NoMedia.SBC", "LUN is not removable. Skipping test."));
        assert!(!covers("ALL.NoMedia.SBC", "INQUIRY is not implemented."));
        assert!(covers("ALL.A.B", "so it is"));
        assert!(!covers("ALL.A.BC", "so it is"));
    }

    #[test]
    fn the_page_of_the_project_has_rows() {
        let page = std::fs::read_to_string(crate::cargo::root().join(super::PAGE)).unwrap();
        assert!(Allowed::parse(&page).0.len() > 5);
    }
}
