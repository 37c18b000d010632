//! Files of a new member of a cluster. Nothing that is there is written over, and whether they can be written is tried
//! before anything that cannot be taken back: a token is spent by the first answer to it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// Everybody.
    Open,
    /// Its owner.
    Secret,
}

/// What is to be written into a directory.
pub struct Files {
    dir: PathBuf,
    files: Vec<(PathBuf, String, Kept)>,
}

/// Written and removed to see whether the directory takes files.
const PROBE: &str = "probe";
/// All that these commands write.
const NAMES: [&str; 10] = [
    "ca.key",
    "ca.pem",
    "node.pem",
    "node.key",
    "store-ca.pem",
    "etcd-password",
    "dyad.toml",
    "arbiter/ca.pem",
    "arbiter/arbiter.pem",
    "arbiter/arbiter.key",
];

impl Files {
    /// Looks whether everything can be written. A `dyad.toml` in which nothing is set may be there.
    pub fn begin(dir: &Path) -> Result<Self, Failure> {
        let dir = std::path::absolute(dir).map_err(|error| cannot("use", dir, &error))?;
        make(&dir)?;
        for name in NAMES {
            let path = dir.join(name);
            if path.exists() && !(name == "dyad.toml" && is_unset(&path)) {
                let what = format!("{} is there already: this machine is of a cluster, or was", path.display());
                return Err(Failure::failed(what, "move the old files away, or give another directory (--dir)"));
            }
        }
        let probe = dir.join(PROBE);
        let probed = put(&probe, "", Kept::Secret).and_then(|()| fs::remove_file(&probe));
        probed.map_err(|error| cannot("write to", &dir, &error))?;
        Ok(Self { dir, files: Vec::new() })
    }

    /// Where a file will be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file to be written; where.
    pub fn add(&mut self, name: &str, content: &str, kept: Kept) -> PathBuf {
        let path = self.path(name);
        self.files.push((path.clone(), content.to_owned(), kept));
        path
    }

    /// Writes them, durably; says which. What was written is taken away again if another cannot be.
    pub fn write(&self) -> Result<String, Failure> {
        let mut told = String::new();
        for (at, (path, content, kept)) in self.files.iter().enumerate() {
            let parent = path.parent().unwrap_or(&self.dir);
            let written = make(parent).and_then(|()| {
                let put = put(path, content, *kept).and_then(|()| sync(parent));
                put.map_err(|error| cannot("write", path, &error))
            });
            if let Err(failure) = written {
                self.files[..at].iter().for_each(|(path, ..)| drop(fs::remove_file(path)));
                return Err(failure);
            }
            told.push_str(&format!("wrote {}\n", path.display()));
        }
        sync(&self.dir).map_err(|error| cannot("write", &self.dir, &error))?;
        Ok(told)
    }
}

fn make(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|error| cannot("make", dir, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}: {error}", path.display()), "run it as root, or give a --dir of your own")
}

/// Makes the names in a directory durable.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whole or not at all: a certificate that is cut would be worse than none.
fn put(path: &Path, content: &str, kept: Kept) -> io::Result<()> {
    let new = path.with_extension("new");
    let mode = if kept == Kept::Secret { 0o600 } else { 0o644 };
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// A file of comments and empty sections, as the package has it.
fn is_unset(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let found = text.parse::<toml::Table>();
    found.is_ok_and(|table| table.values().all(|value| value.as_table().is_some_and(toml::Table::is_empty)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_there_is_written_over_but_an_example() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dyad.toml"), "# only comments\n[iscsi]\n#portals = []\n").unwrap();
        let mut files = Files::begin(dir.path()).unwrap();
        files.add("node.key", "secret", Kept::Secret);
        files.write().unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.path().join("node.key")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert!(Files::begin(dir.path()).is_err());
        fs::remove_file(dir.path().join("node.key")).unwrap();
        fs::write(dir.path().join("dyad.toml"), "site = \"here\"\n").unwrap();
        assert!(Files::begin(dir.path()).is_err());
    }

    /// A machine could be let in, its token spent, and then have no place for its certificate.
    #[test]
    fn a_directory_that_takes_no_files_is_refused_before_anything_is_done() {
        let dir = tempfile::tempdir().unwrap();
        // Even root cannot put a file over a directory that is not empty.
        fs::create_dir_all(dir.path().join(PROBE).join("taken")).unwrap();
        let Err(failure) = Files::begin(dir.path()) else { panic!("begun") };
        assert!(format!("{failure:?}").contains("cannot write to"), "{failure:?}");
    }

    #[test]
    fn what_was_written_is_taken_away_when_another_file_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::begin(dir.path()).unwrap();
        let first = files.add("node.key", "secret", Kept::Secret);
        fs::create_dir_all(dir.path().join("node.pem").join("taken")).unwrap();
        files.add("node.pem", "public", Kept::Open);
        assert!(files.write().is_err());
        assert!(!first.exists());
    }
}
