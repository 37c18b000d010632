//! What the kernel counted for a process.

use std::fs;
use std::time::Duration;

/// CPU time of all its threads. `None` once the process is gone.
///
/// `schedstat` counts nanoseconds, but only of threads that live now; `stat` counts ended threads too (io_uring's
/// workers come and go), but in hundredths of a second. Both rise only, so the larger is the better.
pub fn cpu(pid: u32) -> Option<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; utime and stime are fields 14 and 15 of all, 12 and 13 after it.
    let after = stat.rsplit_once(')')?.1;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_nanos(nanos).max(Duration::from_nanos(ticks * 1_000_000_000 / per_second)))
}

/// Resident memory in bytes. `None` once the process is gone.
pub fn resident(pid: u32) -> Option<u64> {
    field_kib(pid, "VmRSS:")
}

/// Resident memory that is no file's: what the process would need if all files were gone from memory.
pub fn resident_anonymous(pid: u32) -> Option<u64> {
    field_kib(pid, "RssAnon:")
}

/// Highest resident memory so far.
pub fn resident_peak(pid: u32) -> Option<u64> {
    field_kib(pid, "VmHWM:")
}

fn field_kib(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::{cpu, resident};

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu(pid).unwrap().as_nanos() > 0);
        assert!(resident(pid).unwrap() > 1 << 20);
    }
}
