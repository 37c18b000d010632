//! The administration sockets: never two processes at one, never open wider than configured, not even for a moment.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use dyad_api::{Guard, Listener};
use rustix::fs::{FlockOperation, flock};
use tokio::net::{TcpListener, UnixListener};

use crate::config::ApiConfig;
use crate::failure::Failure;

/// Longest path of a Unix socket (sun_path of unix(7), less the closing zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A Unix socket that is removed at the end, and the lock that makes it ours.
pub struct OwnSocket {
    path: PathBuf,
    /// Taken before the socket is looked at, kept as long as it is served.
    _lock: File,
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a process serves this socket.
pub fn is_served(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// Whether the kernel takes a path of this length for a socket.
pub fn check_socket_path(path: &Path) -> Result<(), Failure> {
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::failed(
        format!("{} is too long for a socket: at most {SOCKET_PATH_BYTES_MAX} bytes", path.display()),
        "choose a shorter path (`api.socket` of the configuration, `--dir` of the quickstart)",
    ))
}

impl OwnSocket {
    /// Takes the place. Fails when another process has it.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        check_socket_path(path)?;
        let failed = |what: &str, error: std::io::Error| {
            Failure::failed(format!("cannot {what} {}: {error}", path.display()), "check its directory and its owner")
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
            made.map_err(|error| failed("make the directory of", error))?;
        }
        let lock = lock(&path.with_extension("lock")).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Failure::failed(
                format!("another node is running here: {} is in use", path.display()),
                "stop that one first, or give this one another socket",
            ),
            _ => failed("lock", error),
        })?;
        // With the lock in hand, a socket that is still there was left behind by a process that died.
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                fs::remove_file(path).map_err(|error| failed("remove the old", error))?;
            }
            Ok(_) => {
                return Err(Failure::failed(
                    format!("{} is there and is not a socket", path.display()),
                    "move it away, or give this node another socket",
                ));
            }
            Err(_) => {}
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Listens. The process's umask keeps everybody else out until the mode is set.
    pub fn listen(&self, mode: u32) -> Result<UnixListener, Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!("cannot listen on {}: {error}", self.path.display()), "check its directory")
        };
        let listener = UnixListener::bind(&self.path).map_err(failed)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(listener)
    }
}

fn lock(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Listens on all that is configured; each with its guard.
pub async fn listeners(api: &ApiConfig, socket: &OwnSocket) -> Result<Vec<(Listener, Guard)>, Failure> {
    let mut listeners = vec![(Listener::Unix(socket.listen(api.socket_mode)?), Guard::FileMode)];
    if let Some(address) = api.listen {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::failed(format!("cannot listen for administration on {address}: {error}"), "see `api.listen`")
        })?;
        // The configuration was refused if the address can be reached from elsewhere and there is no token.
        let guard = api.token.clone().map_or(Guard::Loopback, Guard::Token);
        listeners.push((Listener::Tcp(listener), guard));
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::{OwnSocket, is_served};

    #[tokio::test]
    async fn a_socket_is_served_by_one_process_at_a_time_and_gone_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/dyad.sock");
        let own = OwnSocket::take(&path).unwrap();
        let listener = own.listen(0o660).unwrap();
        assert!(is_served(&path));
        let second = OwnSocket::take(&path).err().expect("it is taken");
        assert!(format!("{second:?}").contains("another node is running here"), "{second:?}");
        drop((listener, own));
        assert!(!path.exists() && OwnSocket::take(&path).is_ok());
    }

    /// A process that was killed leaves its socket; the next one must start all the same.
    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_anything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dyad.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let own = OwnSocket::take(&path).unwrap();
        own.listen(0o600).unwrap();
        drop(own);
        std::fs::write(&path, "precious").unwrap();
        assert!(OwnSocket::take(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_a_reason() {
        let path = std::path::PathBuf::from(format!("/tmp/{}/dyad.sock", "x".repeat(120)));
        assert!(format!("{:?}", OwnSocket::take(&path).err()).contains("too long"));
    }
}
