//! Block devices to test with: loop devices, where this process may make them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::process::finish;
use crate::tools;

/// How long any of the programs used here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A loop device on a sparse file in a directory of its own; gone when dropped.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    dir: TempDir,
}

impl LoopDevice {
    /// A device of `bytes` with logical blocks of `block` bytes; `None`, said plainly, where that is not allowed:
    /// it needs root and a kernel that shares its loop devices.
    pub fn new(bytes: u64, block: u32) -> anyhow::Result<Option<Self>> {
        if !tools::has(&["losetup"]) {
            return Ok(None);
        }
        let dir = tempfile::Builder::new().prefix("dyad-loop-").tempdir()?;
        let file = dir.path().join("disk");
        File::create(&file)?.set_len(bytes)?;
        let block = block.to_string();
        let args = ["--find", "--show", "--sector-size", &block, &*file.to_string_lossy()];
        let made = finish("losetup", &args, LIMIT)?;
        if !made.is_success() {
            println!("skipped: no loop device may be made here: {}", made.output.trim());
            return Ok(None);
        }
        Ok(Some(Self { path: made.output.trim().into(), dir }))
    }

    /// The device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file system on it.
    pub fn format(&self) -> anyhow::Result<()> {
        finish("mkfs.ext4", &["-q", &*self.path.to_string_lossy()], LIMIT)?.expect_success("mkfs.ext4").map(drop)
    }

    /// Tries to mount it; the error is what mount says.
    pub fn mount(&self) -> anyhow::Result<Mounted> {
        let place = self.dir.path().join("mounted");
        std::fs::create_dir_all(&place)?;
        let args = [&*self.path.to_string_lossy(), &*place.to_string_lossy()];
        finish("mount", &args, LIMIT)?.expect_success("mount").context("not mounted")?;
        Ok(Mounted(place))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Detached by the kernel when its last user goes, if there still is one.
        let _ = finish("losetup", &["--detach", &*self.path.to_string_lossy()], LIMIT);
    }
}

/// A mounted device; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = finish("umount", &[&*self.0.to_string_lossy()], LIMIT);
    }
}
