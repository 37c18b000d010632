//! A process that the stage manager starts, watches, starts again and ends: a node, an arbiter, a member of etcd.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;

/// One that died is started again after this: long enough to see what its death means.
pub const REST: Duration = Duration::from_secs(10);
/// From the word to end until a process ends; a node itself takes at most 30 s.
pub const STOP_MAX: Duration = Duration::from_secs(45);
/// Between two looks whether something ended.
const LOOK: Duration = Duration::from_millis(20);

/// What is run, and the process while it runs.
pub struct Process {
    /// As people are told: "node one".
    name: String,
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    died: Option<Instant>,
}

impl Process {
    /// Nothing is started yet.
    pub fn new(name: String, command: Vec<String>, log: PathBuf) -> Self {
        Self { name, command, log, child: None, died: None }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it says why it ended.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it, once the one of an earlier quickstart that was killed has ended: its files are locked until then.
    pub fn start(&mut self) -> Result<(), Failure> {
        let cannot = |error: io::Error| Failure::failed(format!("cannot start {}: {error}", self.name), "");
        let log = self.own_log().map_err(cannot)?.ok_or_else(|| {
            let what = format!("{} of an earlier quickstart does not end", self.name);
            Failure::failed(what, format!("{} says why", self.log.display()))
        })?;
        let mut command = Command::new(&self.command[0]);
        // In a group of its own: Ctrl-C reaches the stage manager alone, which then ends all in good order.
        command.args(&self.command[1..]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().map_err(cannot)?);
        self.died = None;
        Ok(())
    }

    /// Its log, locked. The process inherits the lock with the file, so it is held until the very end of the process,
    /// after every other file of it; none if that takes too long.
    fn own_log(&self) -> io::Result<Option<File>> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let deadline = Instant::now() + STOP_MAX;
        loop {
            match flock(&log, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(log)),
                Err(Errno::WOULDBLOCK) if Instant::now() >= deadline => return Ok(None),
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(LOOK),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Notes that it ended, if it did, and says so.
    pub fn look(&mut self) -> Option<String> {
        let ended = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.died = Some(Instant::now());
        Some(format!("! {} is gone ({ended}); it is started again in {} s\n", self.name, REST.as_secs()))
    }

    /// Starts it again when it has been dead for long enough, and says so.
    pub fn restart(&mut self) -> Result<Option<String>, Failure> {
        if self.died.is_none_or(|died| died.elapsed() < REST) {
            return Ok(None);
        }
        self.start()?;
        let pid = self.pid().unwrap_or_default();
        Ok(Some(format!("  {} is started again, process {pid}\n", self.name)))
    }

    /// A line that kills it.
    pub fn kill_line(&self) -> Option<String> {
        Some(format!("  kill -9 {:<8} # {}\n", self.pid()?, self.name))
    }

    /// Asks it to end in good order.
    pub fn tell_to_end(&self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for its end, and kills it if that takes too long; whether it ended in good order or did not run.
    pub fn await_end(&mut self, deadline: Instant) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
                Ok(None) | Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A killed stage manager left a node that was still closing its store; the next quickstart's node met the locked
    /// store and "did not start".
    #[test]
    fn it_starts_only_when_the_one_before_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (log, mark) = (dir.path().join("log"), dir.path().join("mark"));
        let shell = |text: String| vec!["sh".to_owned(), "-c".to_owned(), text];
        // Its leash is cut with the standard input; it then goes on for a moment.
        let slow = format!("read line; sleep 0.3; echo ended > {}", mark.display());
        let mut before = Process::new("node one".into(), shell(slow), log.clone());
        before.start().unwrap();
        drop(before.child.as_mut().unwrap().stdin.take());
        let mut next = Process::new("node one".into(), shell(format!("test -e {}", mark.display())), log);
        next.start().unwrap();
        assert!(next.await_end(Instant::now() + STOP_MAX), "it was started too early");
        assert!(before.await_end(Instant::now() + STOP_MAX), "it has ended, or the next would not have found its mark");
    }
}
