//! Loopback ports that no two tests on this machine get at the same time.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

/// Below the range from which the kernel takes ports for outgoing connections (32768 on).
const FIRST: u16 = 20_000;
const COUNT: u16 = 2_000;
/// Reserved ports lie apart: the ones behind belong to whoever wants "the next free one".
const STRIDE: u16 = 4;

/// A reserved port: its lock file is held for as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port that nobody listens on.
    pub fn reserve() -> anyhow::Result<Self> {
        let dir = lock_dir();
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Start at different places, so that processes rarely meet.
        let start = (std::process::id() as u16).wrapping_mul(31) % COUNT;
        for index in 0..COUNT {
            let number = FIRST + STRIDE * ((start + index) % COUNT);
            let path = dir.join(number.to_string());
            let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free loopback port between {FIRST} and {}", FIRST + STRIDE * COUNT)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with this port.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

pub(crate) fn lock_dir() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("dyad-test-ports-{user}"))
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn two_reservations_never_share_a_port() {
        let (a, b) = (Port::reserve().unwrap(), Port::reserve().unwrap());
        assert_ne!(a.number(), b.number());
    }
}
