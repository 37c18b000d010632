//! The directory of an arbiter: one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

/// Not the name of a node's own store: a directory that belongs to a node is no arbiter's by mistake.
const STORE_FILE: &str = "arbiter.redb";
const LOCK_FILE: &str = "arbiter.lock";

/// A directory that is this process's.
pub struct Place {
    dir: PathBuf,
    /// Its lock goes with the process, however that ends.
    _lock: File,
}

impl Place {
    /// Makes the directory, if it is missing, and takes it. Fails when another process has it.
    pub fn take(dir: &Path) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| {
            Failure::failed(format!("cannot {what} {}: {error}", dir.display()), "check the directory and its owner")
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed("make", error))?;
        let lock = lock(&dir.join(LOCK_FILE)).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Failure::failed(
                format!("another arbiter is using {}", dir.display()),
                "stop that one first, or give this one another directory (--data)",
            ),
            _ => failed("lock", error),
        })?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.dir.join(STORE_FILE)
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}
