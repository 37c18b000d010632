//! Child processes that end with their guard.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A started process; dropping it kills it by its id.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    /// Length of the log before it started.
    log_begin: usize,
}

impl Running {
    /// Starts `program`; what it prints goes to `NAME.log` in `dir` (appended).
    ///
    /// The kernel ends the process if this one dies without dropping the guard.
    pub fn start(name: &str, program: &Path, args: &[&str], dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let log_begin = file.metadata()?.len() as usize;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).current_dir(dir);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log, log_begin })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.log_begin..).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Kills it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn stop(self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.stop_by(Signal::TERM, limit)
    }

    /// Asks it to end with `signal` and waits.
    pub fn stop_by(self, signal: Signal, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(limit)
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let ended = wait::until(&what, limit, || self.child.try_wait().transpose());
        ended.with_context(|| format!("it printed:\n{}", tail(&self.output())))?.context("cannot wait for a child")
    }

    /// Waits for `probe`, but fails at once if the process ends before.
    pub fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&Self) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut ended = None;
        let found = wait::until(what, limit, || {
            if let Some(found) = probe(self) {
                return Some(Some(found));
            }
            ended = self.child.try_wait().ok().flatten();
            ended.map(|_| None)
        });
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!("{} ended ({ended:?}) before {what}:\n{}", self.name, tail(&self.output())),
            Err(error) => Err(error.context(format!("{} printed:\n{}", self.name, tail(&self.output())))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// How it ended; `None` if it was killed because its time was over.
    pub status: Option<ExitStatus>,
    /// What it printed, both streams in order.
    pub output: String,
    /// How long it took.
    pub elapsed: Duration,
    /// CPU time of the process, user and system.
    pub cpu: Duration,
}

impl Finished {
    /// True for exit status 0.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// An error with the output, unless it succeeded.
    pub fn expect_success(self, what: &str) -> anyhow::Result<Self> {
        if self.is_success() {
            return Ok(self);
        }
        let how = self.status.map_or_else(|| format!("was stopped after {:?}", self.elapsed), |s| s.to_string());
        bail!("{what}: {how}\n{}", tail(&self.output))
    }
}

/// Runs a program to its end, killing it after `limit`.
pub fn finish(program: &str, args: &[&str], limit: Duration) -> anyhow::Result<Finished> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).args(args);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    drop(command); // Else our end of the pipe stays open and it never ends.
    let collector = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut reader = reader;
        // What came before an error is still worth showing.
        let _ = std::io::Read::read_to_end(&mut reader, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let mut cpu = Duration::ZERO;
    let pid = child.id();
    let ended = wait::until("it ends", limit, || {
        cpu = crate::procfs::cpu(pid).unwrap_or(cpu);
        child.try_wait().transpose()
    });
    let status = match ended {
        Ok(status) => Some(status?),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            None
        }
    };
    let elapsed = begin.elapsed();
    let output = collector.join().unwrap_or_default();
    Ok(Finished { status, output, elapsed, cpu })
}

/// The last lines of a long text.
pub fn tail(text: &str) -> &str {
    const LINES: usize = 40;
    let start = text.rmatch_indices('\n').nth(LINES).map_or(0, |(at, _)| at + 1);
    &text[start..]
}
