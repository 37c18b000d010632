//! Waiting for a state, with a limit.

use std::time::{Duration, Instant};

use anyhow::bail;

const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

/// Asks `probe` again and again until it has something; fails after `limit`, saying what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = SHORTEST;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain until {what}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}
