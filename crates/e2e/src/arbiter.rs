//! An arbiter as a process of its own, which may be killed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dyad_cluster::{Key, Kind, Record, SegmentRecord, Store as _, Version};
use dyad_store::arbiter::{ArbiterConfig, ArbiterStore};
use dyad_store::{Authority, Tls};
use tempfile::TempDir;

use crate::authority;
use crate::lab;
use crate::process::Running;
use crate::wait;

/// From the start until it answers.
const START: Duration = Duration::from_secs(30);
/// Name in its certificate.
pub const NAME: &str = "arbiter";

/// Its directory and addresses; the process comes and goes.
pub struct Arbiter {
    process: Option<Running>,
    args: Vec<String>,
    config: ArbiterConfig,
    store: Option<ArbiterStore>,
    dir: TempDir,
}

impl Arbiter {
    /// Started, at all the addresses; with certificates of the authority, if there is one.
    pub fn start(listen: &[SocketAddr], authority: Option<&Authority>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("dyad-arbiter-").tempdir()?;
        let data = dir.path().join("data");
        let mut args = vec!["arbiter".to_owned(), "--data".to_owned(), data.to_string_lossy().into_owned()];
        listen.iter().for_each(|address| args.extend(["--listen".to_owned(), address.to_string()]));
        let mut tls = None;
        if let Some(authority) = authority {
            let files = authority::issue(authority, NAME, dir.path())?;
            let file = |name: &str| files.path(name);
            args.extend(["--ca".to_owned(), file("ca"), "--certificate".to_owned(), file("pem")]);
            args.extend(["--key".to_owned(), file("key")]);
            let Tls { authority, certificate, key } = files.read()?;
            tls = Some((Tls { authority, certificate, key }, NAME.to_owned()));
        }
        let config = ArbiterConfig { addresses: listen.to_vec(), tls };
        let mut arbiter = Self { process: None, args, config, store: None, dir };
        arbiter.launch()?;
        let answers = || arbiter.config.identify().ok()?.ok();
        let identity = wait::until("the arbiter answers", START, answers)?;
        arbiter.store = Some(ArbiterStore::open(&arbiter.config, identity, Version(0))?);
        Ok(arbiter)
    }

    /// Starts the process, and waits for nothing.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the arbiter runs already");
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.process = Some(Running::start("arbiter", lab::binary()?, &args, self.dir.path())?);
        Ok(())
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the arbiter does not run")?.kill()
    }

    /// Number of the process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.process.as_ref().context("the arbiter does not run")?.pid())
    }

    /// The record of a volume's segment.
    pub fn segment(&self, volume: &str) -> anyhow::Result<SegmentRecord> {
        let store = self.store.as_ref().context("the arbiter was never reached")?;
        for found in store.list(Kind::Volume)? {
            if let Record::Volume(record) = found.record
                && record.name.to_string() == volume
                && let Some(segment) = record.segments.first()
                && let Some(found) = store.get(Key::Segment(*segment))?
                && let Record::Segment(segment) = found.record
            {
                return Ok(segment);
            }
        }
        anyhow::bail!("there is no record of volume {volume}")
    }
}
