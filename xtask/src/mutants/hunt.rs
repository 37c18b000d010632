//! Building the simulator from the copy, and running it until it sees a rule broken.

use std::fmt;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::copy::Copy;
use crate::cargo;

/// One run of the simulator takes at most so long: ten times what a thousand seeds need on a busy machine.
const RUN_MAX: Duration = Duration::from_secs(1200);

/// Characters of a violation that are shown.
const SHOWN_MAX: usize = 150;

/// What the simulator plays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mix {
    /// Whole clusters: the default.
    Cluster,
    /// Single pools.
    Pool,
    /// A mirror over two pools.
    Mirrored,
}

impl Mix {
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Pool, Self::Mirrored];
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Pool => "pool",
            Self::Mirrored => "mirrored",
        })
    }
}

/// Where something is sought.
#[derive(Clone, Copy, Debug)]
pub struct Sought {
    pub mix: Mix,
    pub from: u64,
    pub seeds: u64,
}

/// A seed at which a rule was seen broken.
pub struct Found {
    pub seed: u64,
    pub violation: String,
}

/// A simulator that was built.
pub struct Simulator {
    binary: PathBuf,
}

impl Simulator {
    /// Builds it from the copy as it is now.
    pub fn build(copy: &Copy) -> anyhow::Result<Self> {
        let mut command = cargo::command();
        command.args(["build", "--quiet", "--locked", "--profile", "mutants", "-p", "dyad-sim", "--target-dir"]);
        command.arg(copy.target()).current_dir(copy.tree());
        let output = command.output().context("cannot start cargo")?;
        anyhow::ensure!(output.status.success(), "it does not build:\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { binary: copy.target().join("mutants/dyad-sim") })
    }

    /// The first seed that is not passed, but for those that do not count.
    pub fn first_failing(&self, sought: &Sought, counts_not: impl Fn(u64) -> bool) -> anyhow::Result<Option<Found>> {
        let mut first = None;
        self.run(sought, |found| {
            if !counts_not(found.seed) {
                first = Some(found);
            }
            first.is_none()
        })?;
        Ok(first)
    }

    /// Every seed that is not passed.
    pub fn all_failing(&self, mix: Mix, from: u64, seeds: u64) -> anyhow::Result<Vec<u64>> {
        let mut failing = Vec::new();
        self.run(&Sought { mix, from, seeds }, |found| {
            println!("unmutated, seed {}: {}", found.seed, beginning(&found.violation));
            failing.push(found.seed);
            true
        })?;
        Ok(failing)
    }

    /// Runs seeds, and tells each that is not passed to `goes_on`, until that says false.
    fn run(&self, sought: &Sought, mut goes_on: impl FnMut(Found) -> bool) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg(sought.mix.to_string());
        command.args(["--from", &sought.from.to_string(), "--seeds", &sought.seeds.to_string()]);
        if sought.mix == Mix::Cluster {
            command.args(["--keep-going", "yes"]);
        }
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = Running(command.spawn().context("cannot start the simulator")?);
        drop(command); // Its ends of the pipe, so that the pipe ends with the child.
        let lines = lines_of(BufReader::new(reader));
        let deadline = Instant::now() + RUN_MAX;
        let mut has_found = false;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let Some(found) = parse(&line) else { continue };
                    has_found = true;
                    if !goes_on(found) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => anyhow::bail!("the simulator does not end"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = child.0.wait()?;
        anyhow::ensure!(status.success() || has_found, "the simulator ended with {status} and named no seed");
        Ok(())
    }
}

/// Ends the simulator when nobody wants to know more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As much of a violation as a person wants to see beside others; its seed tells the rest.
pub fn beginning(violation: &str) -> &str {
    violation.char_indices().nth(SHOWN_MAX).map_or(violation, |(end, _)| &violation[..end])
}

/// Lines as they come, so that waiting for one can be given up.
fn lines_of(reader: impl std::io::BufRead + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// `seed 7: what broke`, at the beginning of a line.
fn parse(line: &str) -> Option<Found> {
    let (seed, violation) = line.strip_prefix("seed ")?.split_once(": ")?;
    Some(Found { seed: seed.parse().ok()?, violation: violation.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{SHOWN_MAX, beginning, parse};

    #[test]
    fn a_long_violation_is_cut_between_characters() {
        assert_eq!(beginning("short"), "short");
        assert_eq!(beginning(&"µ".repeat(SHOWN_MAX + 1)), "µ".repeat(SHOWN_MAX));
    }

    #[test]
    fn only_a_line_that_begins_with_a_seed_tells_of_one() {
        assert_eq!(parse("seed 17: a read of block 3").map(|found| found.seed), Some(17));
        for other in ["    seed 17: 2 nodes, 2 images", "seeds: 4", "100 seeds from 0: 4 violations", "seed x: y"] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
