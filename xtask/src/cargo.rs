//! Running cargo, and reading how many tests ran from what it prints.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::tally::Tally;

/// Root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The cargo that runs this program.
pub fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this program about itself must not reach the cargo that it starts.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME").stdin(Stdio::null());
    command
}

/// Runs a check that either passes or fails.
pub fn check(args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Tally> {
    let status = command().args(args).envs(env.iter().copied()).status().context("cannot start cargo")?;
    Ok(Tally::one(status.success()))
}

/// Runs tests and counts them. A run that fails without a failed test (it did not compile) counts as one failure.
pub fn test(args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Tally> {
    let mut command = command();
    let (reader, writer) = std::io::pipe()?;
    command.args(args).envs(env.iter().copied());
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cannot start cargo")?;
    drop(command); // Its ends of the pipe, so that the pipe ends with the child.
    let mut tally = Tally::default();
    for line in BufReader::new(reader).lines() {
        let line = line?;
        println!("{line}");
        tally += parse(&line);
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// Runs this program with the same arguments, optimized.
pub fn again_in_release() -> anyhow::Result<()> {
    let args = std::env::args_os().skip(1);
    let status = command().args(["run", "--release", "--quiet", "-p", "xtask", "--"]).args(args).status()?;
    std::process::exit(status.code().unwrap_or(1));
}

/// Builds the binary, and has everything that this program starts use it.
pub fn use_dyad(release: bool) -> anyhow::Result<()> {
    if std::env::var_os("DYAD_BIN").is_none() {
        dyad_e2e::lab::use_binary(dyad_e2e::lab::build(release)?);
    }
    Ok(())
}

/// Summary lines of `cargo test` and `cargo nextest`, and the skips that tests announce.
fn parse(line: &str) -> Tally {
    let mut tally = Tally::default();
    if line.trim().starts_with("skipped: ") {
        tally.skipped = 1;
    // Indented, the former is what nextest shows of a test that failed, and counted by the latter.
    } else if line.starts_with("test result: ") || line.trim().starts_with("Summary [") {
        let words: Vec<_> = line.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => tally.passed = count,
                "failed" => tally.failed = count,
                "ignored" | "skipped" => tally.skipped = count,
                _ => {}
            }
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::tally::Tally;

    #[test]
    fn both_runners_are_understood() {
        let cargo =
            "test result: FAILED. 15 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(parse(cargo), Tally { passed: 15, failed: 2, skipped: 1 });
        let nextest = "     Summary [   0.011s] 40 tests run: 39 passed, 1 failed, 3 skipped";
        assert_eq!(parse(nextest), Tally { passed: 39, failed: 1, skipped: 3 });
        assert_eq!(parse("skipped: fio not installed"), Tally { skipped: 1, ..Tally::default() });
        assert_eq!(parse("7 passed"), Tally::default());
        assert_eq!(parse(&format!("    {cargo}")), Tally::default());
    }
}
