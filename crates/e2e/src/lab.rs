//! One Dyad of our own: temporary directories, a reserved port, the real binary.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin::Admin;
use crate::port::Port;
use crate::process::Running;
use crate::target::Target;

/// From the start of the process until it serves; opening pools after a crash reads them.
const START: Duration = Duration::from_secs(60);
/// From SIGTERM to the end.
const STOP: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// Directories, place and configuration; the process comes and goes.
#[derive(Debug)]
pub struct Lab {
    process: Option<Running>,
    place: Place,
    dir: TempDir,
    /// In memory, as `/dev/shm` is on a real machine, but not shared with other tests.
    shm: Option<TempDir>,
}

/// Where a node runs.
#[derive(Debug)]
pub struct Place {
    /// Where it accepts iSCSI.
    pub portal: SocketAddr,
    /// What is put before the command that starts it, such as `nsenter --net=...`.
    pub prefix: Vec<String>,
    /// What keeps the portal's number from others.
    pub port: Option<Port>,
}

impl Place {
    /// On this machine's loopback.
    pub fn loopback() -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        Ok(Self { portal: port.address(), prefix: Vec::new(), port: Some(port) })
    }
}

/// A volume as a client sees it. Valid until the process is restarted.
#[derive(Clone, Debug)]
pub struct Unit {
    label: String,
    portal: SocketAddr,
    iqn: String,
    pid: u32,
}

/// What a new volume is like; the rest has defaults.
#[derive(Clone, Debug)]
pub struct Volume<'a> {
    /// Name.
    pub name: &'a str,
    /// Size.
    pub mib: u64,
    /// Pools that get an image each.
    pub pools: &'a [&'a str],
    /// Anything else, as the API takes it.
    pub more: Value,
}

impl<'a> Volume<'a> {
    /// A volume with an image in each of `pools`.
    pub fn new(name: &'a str, mib: u64, pools: &'a [&'a str]) -> Self {
        Self { name, mib, pools, more: json!({}) }
    }
}

impl Lab {
    /// A configured Dyad that is not started yet. `more` is added to the end of the configuration.
    pub fn new(more: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("dyad-lab-").tempdir()?;
        Self::in_dir(dir, more)
    }

    /// The same in a directory of the caller's choice.
    pub fn in_dir(dir: TempDir, more: &str) -> anyhow::Result<Self> {
        Self::at(dir, Place::loopback()?, more)
    }

    /// The same at a place of the caller's choice.
    pub fn at(dir: TempDir, place: Place, more: &str) -> anyhow::Result<Self> {
        let shm = tempfile::Builder::new().prefix("dyad-lab-").tempdir_in("/dev/shm").ok();
        let lab = Self { process: None, place, dir, shm };
        lab.configure(more)?;
        Ok(lab)
    }

    /// Started, with pools of `mib` MiB.
    pub fn with_pools(pools: &[&str], mib: u64) -> anyhow::Result<Self> {
        let mut lab = Self::new("")?;
        lab.start()?;
        for pool in pools {
            lab.create_pool(pool, mib)?;
        }
        Ok(lab)
    }

    /// Writes the configuration anew; it counts from the next start on.
    pub fn configure(&self, more: &str) -> anyhow::Result<()> {
        let mut text = String::new();
        writeln!(text, "data_dir = {:?}", self.path("data"))?;
        if let Some(shm) = &self.shm {
            writeln!(text, "shm_dir = {:?}", shm.path())?;
        }
        writeln!(text, "iscsi.portals = [\"{}\"]", self.place.portal)?;
        writeln!(text, "api.socket = {:?}", self.path("admin.sock"))?;
        writeln!(text, "{more}")?;
        Ok(fs::write(self.config(), text)?)
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("dyad.toml")
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its logs of recent operations are, if it has a directory in memory.
    pub fn shm(&self) -> Option<&Path> {
        self.shm.as_ref().map(TempDir::path)
    }

    /// Its portal.
    pub fn portal(&self) -> SocketAddr {
        self.place.portal
    }

    /// A file or directory of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file of a pool made by [`Lab::create_pool`].
    pub fn pool_file(&self, pool: &str) -> PathBuf {
        self.path(&format!("{pool}.pool"))
    }

    /// Starts the process and waits until it serves.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        let admin = self.admin();
        let process = self.process.as_mut().context("it is not running")?;
        process.until("the node serves", START, |_| {
            let status = admin.get("/v1/status").ok()?;
            (status["node"]["state"] == "serving").then_some(())
        })
    }

    /// Starts the process and waits for nothing.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.process.is_none(), "it runs already");
        let config = self.config();
        let (binary, config) = (binary()?.to_string_lossy(), config.to_string_lossy());
        let mut words: Vec<&str> = self.place.prefix.iter().map(String::as_str).collect();
        words.extend([&*binary, "serve", "--config", &*config]);
        let (program, args) = words.split_first().context("no program")?;
        self.process = Some(Running::start("dyad", Path::new(program), args, self.dir.path())?);
        Ok(())
    }

    /// The process.
    pub fn process(&mut self) -> anyhow::Result<&mut Running> {
        self.process.as_mut().context("it is not running")
    }

    /// Number of the process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.process.as_ref().context("it is not running")?.pid())
    }

    /// Everything that it has logged so far, over all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("dyad.log")).unwrap_or_default()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("it is not running")?.kill()
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.process.take().context("it is not running")?.stop_by(Signal::TERM, STOP)?;
        anyhow::ensure!(status.success(), "it ended with {status}:\n{}", self.log());
        Ok(())
    }

    /// Forgets what memory held, as a restart of the machine does.
    pub fn forget_memory(&self) -> anyhow::Result<()> {
        for entry in self.shm().map(fs::read_dir).transpose()?.into_iter().flatten() {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            if is_dir { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
        Ok(())
    }

    /// Its REST interface.
    pub fn admin(&self) -> Admin {
        Admin::new(&self.path("admin.sock"))
    }

    /// Makes a pool in a file of its own.
    pub fn create_pool(&self, name: &str, mib: u64) -> anyhow::Result<Value> {
        let disk = json!({ "path": self.pool_file(name), "size_bytes": mib * MIB });
        self.admin().post("/v1/pools", &json!({ "name": name, "disks": [disk] }))
    }

    /// Makes a volume.
    pub fn create_volume(&self, volume: &Volume<'_>) -> anyhow::Result<Unit> {
        let mut body = json!({ "name": volume.name, "size_bytes": volume.mib * MIB, "pools": volume.pools });
        let more = volume.more.as_object().into_iter().flatten();
        more.for_each(|(key, value)| body[key] = value.clone());
        self.admin().post("/v1/volumes", &body)?;
        self.unit(volume.name)
    }

    /// A volume as clients see it now.
    pub fn unit(&self, volume: &str) -> anyhow::Result<Unit> {
        let shown = self.admin().get(&format!("/v1/volumes/{volume}"))?;
        let iqn = shown["target"].as_str().context("a volume without target name")?.to_owned();
        let pid = self.process.as_ref().context("it is not running")?.pid();
        Ok(Unit { label: "dyad".to_owned(), portal: self.portal(), iqn, pid })
    }

    /// A field of a volume, such as `/redundancy/state`.
    pub fn volume_field(&self, volume: &str, pointer: &str) -> anyhow::Result<Value> {
        let shown = self.admin().get(&format!("/v1/volumes/{volume}"))?;
        shown.pointer(pointer).cloned().with_context(|| format!("no {pointer} in {shown}"))
    }

    /// A counter of a pool, such as `damaged_blocks`.
    pub fn pool_counter(&self, pool: &str, counter: &str) -> anyhow::Result<u64> {
        let shown = self.admin().get(&format!("/v1/pools/{pool}"))?;
        shown["counters"][counter].as_u64().with_context(|| format!("no counter {counter} in {shown}"))
    }

    /// Copies records and pools aside. The process must not run.
    pub fn save(&self) -> anyhow::Result<Saved> {
        anyhow::ensure!(self.process.is_none(), "it runs");
        let saved = tempfile::tempdir_in(self.dir.path())?;
        copy_tree(&self.path("data"), &saved.path().join("data"))?;
        let mut pools = Vec::new();
        for entry in fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "pool") {
                let name = path.file_name().context("a file without name")?.to_owned();
                fs::copy(&path, saved.path().join(&name))?;
                pools.push(name);
            }
        }
        Ok(Saved { saved, pools })
    }

    /// Runs `look` once per pool, with the node serving from that pool alone; afterwards all is as before, and the
    /// node runs. It must run, and its pools must be `pools`.
    pub fn with_each_alone(
        &mut self,
        pools: &[&str],
        mut look: impl FnMut(&Self, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.stop()?;
        let saved = self.save()?;
        for left in pools {
            for gone in pools.iter().filter(|pool| *pool != left) {
                fs::remove_file(self.pool_file(gone))?;
            }
            self.start().with_context(|| format!("with no pool but {left}"))?;
            look(self, left).with_context(|| format!("reading only the image in pool {left}"))?;
            self.stop()?;
            self.restore(&saved)?;
        }
        self.start()
    }

    /// Puts everything back as it was when it was saved. The process must not run.
    pub fn restore(&self, saved: &Saved) -> anyhow::Result<()> {
        anyhow::ensure!(self.process.is_none(), "it runs");
        fs::remove_dir_all(self.path("data"))?;
        copy_tree(&saved.saved.path().join("data"), &self.path("data"))?;
        for name in &saved.pools {
            fs::copy(saved.saved.path().join(name), self.dir.path().join(name))?;
        }
        self.forget_memory()
    }
}

/// Records and pools of a [`Lab`] at one moment.
#[derive(Debug)]
pub struct Saved {
    saved: TempDir,
    pools: Vec<std::ffi::OsString>,
}

impl Unit {
    /// The same under another label, for reports that show several.
    pub fn labelled(self, label: &str) -> Self {
        Self { label: label.to_owned(), ..self }
    }
}

impl Target for Unit {
    fn label(&self) -> &str {
        &self.label
    }

    fn portal(&self) -> SocketAddr {
        self.portal
    }

    fn iqn(&self) -> &str {
        &self.iqn
    }

    fn lun(&self) -> u8 {
        0
    }

    fn pid(&self) -> u32 {
        self.pid
    }
}

static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// Sets the binary for all labs of this process. The first one set, or used, stays.
pub fn use_binary(path: PathBuf) {
    BINARY.get_or_init(|| Ok(path));
}

/// The binary: the one set, or `DYAD_BIN`, or built now.
pub fn binary() -> anyhow::Result<&'static Path> {
    let found = BINARY.get_or_init(|| match std::env::var_os("DYAD_BIN") {
        Some(path) => Ok(path.into()),
        None => build(false).map_err(|error| format!("{error:#}")),
    });
    match found {
        Ok(path) => Ok(path),
        Err(error) => bail!("no binary to test: {error}"),
    }
}

/// Builds the binary and says where it is.
pub fn build(release: bool) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "dyad", "--bin", "dyad", "--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = command.current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "the binary does not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let artifacts = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut binaries = artifacts.filter_map(|value| value["executable"].as_str().map(PathBuf::from));
    binaries.next().context("cargo built no binary")
}

/// Copies a directory with everything in it, sockets left out.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
