//! Memory that outlives the process but not the machine: a file in a tmpfs, mapped (P6).
//!
//! ```text
//!   /dev/shm/dyad-<uid>/          made with mode 0700, refused if it is anybody else's
//!            +-- <disk id>.log    made with mode 0600, its space allocated, mapped shared
//! ```
//!
//! A store into the mapping is there for the next process, whatever ends this one. The space is allocated
//! beforehand, because a store into a full tmpfs kills the process.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::{Duration, Instant};

use dyad_pool::RecentLog;
use dyad_units::{Bytes, DiskId};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::disk::{is_taken, lock_byte};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// A log of another size is somebody's, not ours; the settings allow no more.
const LEN_MAX: u64 = 1 << 30;
/// How long the end of a killed process may take between its two locks.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The directory for logs cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShmError {
    /// No directory was named and none of the usual ones is in memory.
    #[error("neither /dev/shm nor $XDG_RUNTIME_DIR is a tmpfs; mount one and name it as `shm_dir`")]
    NoTmpfs,
    /// What was named is on a disk.
    #[error("{} is not a tmpfs; name a directory in memory as `shm_dir`", .path.display())]
    NotTmpfs {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else made it, or may write to it.
    #[error("{} is not this user's alone (mode 0700); remove it or name another `shm_dir`", .path.display())]
    NotOurs {
        /// The directory or file.
        path: PathBuf,
    },
    /// No memory for it.
    #[error("{} has no room for {size}; enlarge the tmpfs, or make `recent_log` smaller", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: Bytes,
    },
    /// Another process has it mapped.
    #[error("{} is in use by another process; two disks cannot have one id: remove the copy", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} cannot be used", .path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The directory of the logs of this user's nodes.
#[derive(Debug)]
pub struct ShmDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl ShmDir {
    /// Opens or makes the directory below `wanted`, or below the first usual place that is a tmpfs.
    ///
    /// # Errors
    /// See [`ShmError`].
    pub fn open(wanted: Option<&Path>) -> Result<Self, ShmError> {
        let base = match wanted {
            Some(path) if is_tmpfs(path)? => path.to_owned(),
            Some(path) => return Err(ShmError::NotTmpfs { path: path.into() }),
            None => usual_place().ok_or(ShmError::NoTmpfs)?,
        };
        let uid = rustix::process::geteuid().as_raw();
        let path = base.join(format!("dyad-{uid}"));
        let fault = |errno: Errno| ShmError::Io { path: path.clone(), source: errno.into() };
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault(errno)),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NOTDIR | Errno::ACCESS) => return Err(ShmError::NotOurs { path }),
            Err(errno) => return Err(fault(errno)),
        };
        if !is_ours(&fd, FileType::Directory).map_err(fault)? {
            return Err(ShmError::NotOurs { path });
        }
        Ok(Self { path, fd })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Maps the memory of a disk's log: the one that is there, with whatever size it has, so that nothing it
    /// remembers is lost; else a new one of `size`, all zeros.
    ///
    /// To be called only while the disk is locked. The log is locked as well, for as long as it is mapped: a copy of the
    /// disk has the same id, and two processes would write over each other's entries.
    ///
    /// # Errors
    /// See [`ShmError`].
    pub fn map(&self, disk: DiskId, size: Bytes) -> Result<SharedMemory, ShmError> {
        let name = format!("{disk}.log");
        let path = self.path.join(&name);
        let fault = |errno: Errno| ShmError::Io { path: path.clone(), source: errno.into() };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &name, flags, Mode::RUSR | Mode::WUSR).map_err(fault)?;
        if !is_ours(&fd, FileType::RegularFile).map_err(fault)? {
            return Err(ShmError::NotOurs { path });
        }
        lock(&fd, &path)?;
        let found = rustix::fs::fstat(&fd).map_err(fault)?.st_size as u64;
        let len = if found == 0 { size.value() } else { found.min(LEN_MAX) };
        match rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, len) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::NOMEM) => return Err(ShmError::Full { path, size: Bytes::new(len) }),
            Err(errno) => return Err(fault(errno)),
        }
        SharedMemory::map(File::from(fd), len as usize, path.clone()).map_err(fault)
    }

    /// Removes the memory of a disk that is gone for good. What finds none behaves as after a restart of the machine,
    /// so nobody else may decide this: that a disk cannot be found now does not say that it never comes back.
    ///
    /// # Errors
    /// As the system says; that there was none is no error.
    pub fn remove(&self, disk: DiskId) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, format!("{disk}.log"), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// An exclusive lock, which goes with the last descriptor. The one of a process that is being killed may outlive its
/// lock of the disk by a moment.
fn lock(fd: &OwnedFd, path: &Path) -> Result<(), ShmError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match lock_byte(fd, 0) {
            Ok(()) => return Ok(()),
            Err(error) if is_taken(&error) && Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(error) if is_taken(&error) => return Err(ShmError::InUse { path: path.into() }),
            Err(source) => return Err(ShmError::Io { path: path.into(), source }),
        }
    }
}

fn usual_place() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    [Some(PathBuf::from("/dev/shm")), runtime].into_iter().flatten().find(|path| is_tmpfs(path).unwrap_or(false))
}

fn is_tmpfs(path: &Path) -> Result<bool, ShmError> {
    let fault = |errno: Errno| ShmError::Io { path: path.into(), source: errno.into() };
    let kind = rustix::fs::statfs(path).map_err(fault)?.f_type;
    // The field's type differs between architectures; the magic numbers fit 32 bits.
    Ok(MEMORY_FILE_SYSTEMS.contains(&(kind as u64 & 0xffff_ffff)))
}

/// Of the wanted kind, this user's, and closed to everybody else.
fn is_ours(fd: impl AsFd, kind: FileType) -> Result<bool, Errno> {
    let meta = rustix::fs::fstat(fd)?;
    let is_single = kind == FileType::Directory || meta.st_nlink == 1;
    Ok(FileType::from_raw_mode(meta.st_mode) == kind
        && meta.st_uid == rustix::process::geteuid().as_raw()
        && meta.st_mode & 0o077 == 0
        && is_single)
}

/// Mapped memory that the next process will find.
#[derive(Debug)]
pub struct SharedMemory {
    start: NonNull<u8>,
    len: usize,
    path: PathBuf,
    _file: File,
}

// SAFETY: the mapping is owned by this value alone and is not tied to a thread.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    fn map(file: File, len: usize, path: PathBuf) -> Result<Self, Errno> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice; it is unmapped only in `drop`.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, &file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, len, path, _file: file })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // The file is this user's alone and its disk is locked, so nobody else writes to it.
        // SAFETY: `start .. start + len` is mapped and allocated for as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// All of it, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl RecentLog for SharedMemory {
    fn capacity(&self) -> usize {
        self.len
    }

    fn load(&self, at: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.bytes()[at..at + to.len()]);
    }

    fn store(&mut self, at: usize, from: &[u8]) {
        self.bytes_mut()[at..at + from.len()].copy_from_slice(from);
        // The process may be killed between any two instructions, and what was stored before this call must
        // not come after what is stored after it. The kernel's switch away from a dead thread orders the rest.
        compiler_fence(Ordering::SeqCst);
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; nothing borrowed from it can be alive here.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast::<c_void>(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DiskId = DiskId::from_bytes(*b"a disk of a test");

    fn shm() -> (tempfile::TempDir, ShmDir) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let shm = ShmDir::open(Some(dir.path())).unwrap();
        (dir, shm)
    }

    /// P6: what was stored is there for the next process, here for the next mapping.
    #[test]
    fn what_was_stored_outlives_the_mapping() {
        let (_dir, shm) = shm();
        let mut memory = shm.map(DISK, Bytes::mib(1)).unwrap();
        assert!(memory.bytes().iter().all(|&byte| byte == 0));
        memory.bytes_mut()[4095..4098].copy_from_slice(b"abc");
        drop(memory);
        let again = shm.map(DISK, Bytes::mib(2)).unwrap();
        assert_eq!(again.bytes().len(), 1 << 20, "an old log keeps its size, so that nothing in it is lost");
        assert_eq!(&again.bytes()[4095..4098], b"abc");
    }

    /// A copy of a disk has its id: opened by a second process, both wrote into one log.
    #[test]
    fn a_log_is_mapped_once() {
        let (_dir, shm) = shm();
        let memory = shm.map(DISK, Bytes::mib(1)).unwrap();
        assert!(matches!(shm.map(DISK, Bytes::mib(1)), Err(ShmError::InUse { .. })));
        drop(memory);
        shm.map(DISK, Bytes::mib(1)).unwrap();
    }

    #[test]
    fn a_directory_on_a_disk_is_refused() {
        let path = std::env::current_dir().unwrap();
        assert!(matches!(ShmDir::open(Some(&path)), Err(ShmError::NotTmpfs { .. })));
    }

    #[test]
    fn a_link_or_an_open_directory_in_its_place_is_refused() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let name = format!("dyad-{}", rustix::process::geteuid().as_raw());
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(&name)).unwrap();
        assert!(matches!(ShmDir::open(Some(dir.path())), Err(ShmError::NotOurs { .. })));
        std::fs::remove_file(dir.path().join(&name)).unwrap();
        std::fs::create_dir(dir.path().join(&name)).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path().join(&name), open).unwrap();
        assert!(matches!(ShmDir::open(Some(dir.path())), Err(ShmError::NotOurs { .. })));
    }

    #[test]
    fn a_file_with_a_second_name_is_refused() {
        let (_dir, shm) = shm();
        drop(shm.map(DISK, Bytes::mib(1)).unwrap());
        let file = shm.path().join(format!("{DISK}.log"));
        std::fs::hard_link(&file, shm.path().join("second")).unwrap();
        assert!(matches!(shm.map(DISK, Bytes::mib(1)), Err(ShmError::NotOurs { .. })));
    }
}
