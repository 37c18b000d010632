//! qemu-storage-daemon between an iSCSI target and programs that speak NBD, such as fio.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::process::Running;
use crate::target::Target;
use crate::tools;

const START: Duration = Duration::from_secs(20);

/// A running bridge: an NBD export on a Unix socket, backed by the target.
#[derive(Debug)]
pub struct Bridge {
    process: Running,
    socket: PathBuf,
}

impl Bridge {
    /// Programs that it needs.
    pub const TOOLS: [&str; 1] = ["qemu-storage-daemon"];

    /// Starts it in `dir`.
    pub fn start(dir: &Path, target: &dyn Target) -> anyhow::Result<Self> {
        let program = tools::find(Self::TOOLS[0]).context("qemu-storage-daemon (qemu-system-common) is missing")?;
        let socket = dir.join("nbd.sock");
        let device = format!(
            "driver=iscsi,node-name=unit,transport=tcp,portal={},target={},lun={},cache.direct=on",
            target.portal(),
            target.iqn(),
            target.lun()
        );
        let server = format!("addr.type=unix,addr.path={}", socket.display());
        let export = "type=nbd,id=export,node-name=unit,name=unit,writable=on";
        let args = ["--blockdev", &device, "--nbd-server", &server, "--export", export];
        let mut process = Running::start("qemu-storage-daemon", &program, &args, dir)?;
        process.until("the bridge listens", START, |_| socket.exists().then_some(()))?;
        Ok(Self { process, socket })
    }

    /// URI for `fio --ioengine=nbd`.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///unit?socket={}", self.socket.display())
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }
}
