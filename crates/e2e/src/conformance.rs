//! libiscsi's test suite: one run per family, read line by line.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::finish;

/// Program of the suite (Debian package libiscsi-bin).
pub const TOOL: &str = "iscsi-test-cu";

/// Name of the host that it plays.
pub const INITIATOR: &str = "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test";

/// How one test of the suite ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Passed, every step of it done.
    Passed,
    /// Passed or left, with at least one step skipped: the reasons.
    Skipped(Vec<String>),
    /// Failed: what the suite said.
    Failed(Vec<String>),
}

/// One run of one family.
#[derive(Clone, Debug, Default)]
pub struct FamilyRun {
    /// Verdicts by name (`ALL.Family.Test`).
    pub tests: BTreeMap<String, Verdict>,
    /// False if it had to be stopped or crashed: then what is missing counts as failed.
    pub ended: bool,
    /// How long it took.
    pub elapsed: Duration,
    /// All that it printed.
    pub output: String,
}

/// Names of the families and their tests, as the suite lists them.
pub fn families() -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let list = finish(TOOL, &["-l"], Duration::from_secs(10))?.output;
    let mut families: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in list.lines() {
        let parts: Vec<_> = line.trim().split('.').collect();
        if let ["ALL", family, _] = parts[..] {
            families.entry(format!("ALL.{family}")).or_default().push(line.trim().to_owned());
        }
    }
    Ok(families)
}

/// Runs one family. `urls` is the unit, and for the multipath family the same by a second way.
pub fn run(family: &str, tests: &[String], urls: &[&str], limit: Duration) -> anyhow::Result<FamilyRun> {
    let mut args = vec!["--initiator-name", INITIATOR, "--dataloss", "--allow-sanitize", "-V", "-t", family];
    args.extend_from_slice(urls);
    let finished = finish(TOOL, &args, limit).context("cannot run the suite")?;
    let mut run = FamilyRun {
        tests: parse(family, &finished.output),
        ended: finished.status.is_some_and(|status| status.code().is_some()),
        elapsed: finished.elapsed,
        output: finished.output,
    };
    for test in tests {
        let why = if run.ended { "it was not run" } else { "it had not ended in time" };
        run.tests.entry(test.clone()).or_insert_with(|| Verdict::Failed(vec![why.to_owned()]));
    }
    Ok(run)
}

/// Reads the verbose output: `  Test: Name ...`, its lines, then `passed` or `FAILED` and why.
fn parse(family: &str, output: &str) -> BTreeMap<String, Verdict> {
    let mut tests = BTreeMap::new();
    for part in output.split("\n  Test: ").skip(1) {
        let Some((name, body)) = part.split_once(" ...") else { continue };
        let lines: Vec<_> = body.lines().map(str::trim).collect();
        // After the verdict of a family's last test, some of it on the same line, comes what the suite sends to
        // clean up; a mark there is no test's.
        let verdict = lines.iter().position(|line| line.starts_with("passed") || line.starts_with("FAILED"));
        let before = &lines[..verdict.unwrap_or(lines.len())];
        let skipped: Vec<_> = before.iter().filter_map(|line| line.strip_prefix("[SKIPPED]")).map(tidy).collect();
        let is_failure =
            |line: &&str| line.starts_with("[FAILED]") || line.contains("CU_FAIL") || line.contains("ASSERT");
        let failed: Vec<_> = lines.iter().copied().filter(is_failure).map(tidy).collect();
        let verdict = if verdict.is_some_and(|at| lines[at].starts_with("passed")) {
            if skipped.is_empty() { Verdict::Passed } else { Verdict::Skipped(unique(skipped)) }
        } else {
            let what = if failed.is_empty() { vec!["no reason was printed".to_owned()] } else { unique(failed) };
            Verdict::Failed(what)
        };
        tests.insert(format!("{family}.{name}"), verdict);
    }
    tests
}

fn tidy(line: &str) -> String {
    line.trim().to_owned()
}

/// A failure in a loop of thousands says the same each time.
fn unique(mut lines: Vec<String>) -> Vec<String> {
    const LINES_MAX: usize = 4;
    lines.dedup();
    lines.truncate(LINES_MAX);
    lines
}

#[cfg(test)]
mod tests {
    use super::{Verdict, parse};

    #[test]
    fn verdicts_are_read_from_the_verbose_output() {
        let output = "
Suite: Unmap
  Test: Simple ...
    [OK] UNMAP returned SUCCESS
passed
  Test: ZeroBlocks ...
    [SKIPPED] UNMAP is not implemented.
    [SKIPPED] UNMAP is not implemented.
passed    Send PRIN/READ_KEYS
  Test: VPD ...    [SKIPPED] Logical unit is fully provisioned. Skipping test
passed
  Test: Bad ...
    [FAILED] UNMAP command: failed with sense
FAILED
    1. test_bad.c:35  - CU_ASSERT(0)
  Test: Last ...
    [OK] UNMAP returned SUCCESS
passed    Send PRIN/READ_KEYS
    [SKIPPED] PERSISTENT RESERVE IN is not implemented.

Run Summary:";
        let tests = parse("ALL.Unmap", output);
        assert_eq!(tests["ALL.Unmap.Simple"], Verdict::Passed);
        assert_eq!(tests["ALL.Unmap.ZeroBlocks"], Verdict::Skipped(vec!["UNMAP is not implemented.".to_owned()]));
        assert!(matches!(&tests["ALL.Unmap.VPD"], Verdict::Skipped(reasons) if reasons.len() == 1));
        assert!(matches!(&tests["ALL.Unmap.Bad"], Verdict::Failed(lines) if lines.len() == 2));
        assert_eq!(tests["ALL.Unmap.Last"], Verdict::Passed, "a mark of the suite's own clean-up is no test's");
    }
}
