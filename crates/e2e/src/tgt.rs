//! tgt (Debian's user-space target), the peer to compare with and the first to validate the clients against.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::port::Port;
use crate::process::{Running, finish};
use crate::target::Target;
use crate::tools;

const STEP: Duration = Duration::from_secs(10);
/// LUN 0 of tgt is a controller; the first disk is LUN 1.
const LUN: u8 = 1;

/// A `tgtd` of our own, apart from any other on this machine.
#[derive(Debug)]
pub struct Tgt {
    process: Running,
    port: Port,
    iqn: String,
}

impl Tgt {
    /// Starts it with one target on `backing`, a file, in its default mode (page cache, `rdwr`).
    pub fn start(dir: &Path, backing: &Path) -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        let program = tools::find("tgtd").context("tgtd is not installed (Debian package tgt)")?;
        let control = port.number().to_string();
        let portal = format!("portal={}", port.address());
        let process = Running::start("tgtd", &program, &["-f", "-C", &control, "--iscsi", &portal], dir)?;
        let iqn = format!("iqn.2026-11.example:tgt-{}", port.number());
        let mut tgt = Self { process, port, iqn };
        let admin = |args: &[&str]| {
            let mut all = vec!["-C", &control, "--lld", "iscsi"];
            all.extend_from_slice(args);
            finish("tgtadm", &all, STEP)
        };
        tgt.process.until("tgtd answers", STEP, |_| {
            admin(&["--op", "show", "--mode", "sys"]).ok().filter(|show| show.is_success())
        })?;
        let backing = backing.to_str().context("a path that is no text")?;
        let lun = LUN.to_string();
        admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", &tgt.iqn])?.expect_success("new target")?;
        let unit = ["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", &lun, "-b", backing];
        admin(&unit)?.expect_success("new logical unit")?;
        admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])?.expect_success("bind")?;
        Ok(tgt)
    }

    /// Kills it, as `kill -9` does. What it answered is in the page cache of `backing`.
    pub fn kill(self) -> anyhow::Result<()> {
        self.process.kill()
    }
}

impl Target for Tgt {
    fn label(&self) -> &str {
        "tgt"
    }

    fn portal(&self) -> SocketAddr {
        self.port.address()
    }

    fn iqn(&self) -> &str {
        &self.iqn
    }

    fn lun(&self) -> u8 {
        LUN
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }
}
