//! The directory of a quickstart.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::serve;

/// Says whose the directory is, and whether it is complete. Written first, completed last.
const MARKER: &str = "quickstart";
const MARKER_NEW: &str = "dyad quickstart, format 1, being set up\n";
const MARKER_READY: &str = "dyad quickstart, format 1\n";

/// The directory of a quickstart.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    shown: PathBuf,
    is_new: bool,
}

impl Place {
    /// Opens a directory that an earlier quickstart made, or makes a new one. Touches nothing that is not its own.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let cannot = |what: &str, error: std::io::Error| {
            Failure::failed(format!("cannot {what} {}: {error}", dir.display()), "name another directory with --dir")
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => foreign(dir, "it is not a directory"),
            _ => cannot("make", error),
        })?;
        let whole = fs::canonicalize(dir).map_err(|error| cannot("find", error))?;
        let mut place = Self { dir: whole, shown: dir.to_owned(), is_new: true };
        match fs::read_to_string(place.marker()) {
            Ok(text) if text == MARKER_READY => place.is_new = false,
            // An interrupted write of the marker leaves its beginning.
            Ok(text) if MARKER_NEW.starts_with(&text) => {}
            Ok(_) => return Err(foreign(dir, "it belongs to another version of Dyad")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut inside = fs::read_dir(&place.dir).map_err(|error| cannot("read", error))?;
                if inside.next().is_some() {
                    return Err(foreign(dir, "it holds files that are not of a quickstart"));
                }
                fs::write(place.marker(), MARKER_NEW).map_err(|error| cannot("write into", error))?;
            }
            Err(error) => return Err(cannot("read", error)),
        }
        // With several nodes a lock says whether one is running: nodes may outlive it for a moment.
        if !place.has_arbiter() && serve::is_served(&place.socket()) {
            return Err(place.is_running());
        }
        Ok(place)
    }

    /// Whether it was begun with several nodes, and an arbiter or etcd.
    pub fn has_arbiter(&self) -> bool {
        self.dir.join("arbiter").exists() || self.dir.join("etcd").exists()
    }

    /// Another quickstart runs in it.
    pub fn is_running(&self) -> Failure {
        Failure::failed(
            format!("a quickstart is already running in {}", self.shown.display()),
            "use that one (`dyad status` in the same directory), or name another directory with --dir",
        )
    }

    /// Whether it is not yet complete: no node has served from it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Notes that it is complete.
    pub fn set_ready(&self) -> Result<(), Failure> {
        let new = self.dir.join("quickstart.new");
        let noted = fs::write(&new, MARKER_READY).and_then(|()| fs::rename(&new, self.marker()));
        noted.map_err(|error| Failure::failed(format!("cannot write into {}: {error}", self.shown.display()), ""))
    }

    /// The directory as the user named it.
    pub fn shown(&self) -> std::path::Display<'_> {
        self.shown.display()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The config store.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The administration socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("dyad.sock")
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("dyad.log")
    }

    /// The file of a pool.
    pub fn pool(&self, name: &str) -> PathBuf {
        self.dir.join(format!("pool-{name}"))
    }

    fn marker(&self) -> PathBuf {
        self.dir.join(MARKER)
    }
}

fn foreign(dir: &Path, why: &str) -> Failure {
    let what = format!("{} cannot be used: {why}", dir.display());
    Failure::failed(what, "name another directory with --dir; this one was not touched")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(failure: Failure) -> String {
        format!("{failure:?}")
    }

    #[test]
    fn a_new_directory_becomes_ready_and_is_known_again() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("a/b");
        let place = Place::open(&dir).unwrap();
        assert!(place.is_new());
        assert!(Place::open(&dir).unwrap().is_new(), "an unfinished one is finished");
        fs::write(dir.join(MARKER), &MARKER_NEW[..7]).unwrap();
        assert!(Place::open(&dir).unwrap().is_new(), "so is one that has only begun");
        place.set_ready().unwrap();
        assert!(!Place::open(&dir).unwrap().is_new());
    }

    #[test]
    fn a_foreign_directory_is_refused_and_not_touched() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("thesis.txt"), "precious").unwrap();
        assert!(why(Place::open(top.path()).unwrap_err()).contains("not of a quickstart"));
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
        let file = top.path().join("thesis.txt");
        assert!(why(Place::open(&file).unwrap_err()).contains("not a directory"));
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(MARKER), "dyad quickstart, format 2\n").unwrap();
        assert!(why(Place::open(other.path()).unwrap_err()).contains("another version"));
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let place = Place::open(top.path()).unwrap();
        let _running = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
        assert!(why(Place::open(top.path()).unwrap_err()).contains("already running"));
    }
}
