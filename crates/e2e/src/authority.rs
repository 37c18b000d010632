//! Certificates that the members of a cluster show each other, as files.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dyad_store::{Authority, Tls};

/// Files of one member: `NAME.ca`, `NAME.pem`, `NAME.key`.
#[derive(Debug)]
pub struct Files {
    stem: PathBuf,
}

/// A certificate for a name, and what its owner needs to use it, in a directory.
pub fn issue(authority: &Authority, name: &str, dir: &Path) -> anyhow::Result<Files> {
    let made = authority.issue(name, &[])?;
    let files = Files { stem: dir.join(name) };
    fs::write(files.path("ca"), authority.certificate())?;
    fs::write(files.path("pem"), made.certificate)?;
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(files.path("key"))?;
    file.write_all(made.key.as_bytes())?;
    Ok(files)
}

impl Files {
    /// One of the files: `ca`, `pem` or `key`.
    pub fn path(&self, extension: &str) -> String {
        format!("{}.{extension}", self.stem.display())
    }

    /// All of them.
    pub fn read(&self) -> anyhow::Result<Tls> {
        let read = |extension: &str| fs::read(self.path(extension));
        Ok(Tls { authority: read("ca")?, certificate: read("pem")?, key: read("key")? })
    }
}
