//! Opening, locking and making the file or device that is a disk.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dyad_units::{Bytes, Period, SECTOR_BYTES};
use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::control::DiskKind;

/// What a disk's addresses and sizes are multiples of here: the journal's and the pages' unit.
const ALIGNMENT: u32 = 4096;
/// Pause between two tries to get a lock that the remains of a killed process may hold.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Unit of filling a file on a file system that cannot preallocate.
const FILL_BYTES: usize = 1 << 20;
/// How much of the beginning and of the end is looked at to see whether a disk is in use: GPT, LVM, md and
/// every file system have something there.
const LOOK_BYTES: u64 = 1 << 20;

/// An open and locked disk.
#[derive(Debug)]
pub struct DiskFile {
    path: PathBuf,
    kind: DiskKind,
    buffered: File,
    direct: Option<File>,
    len: u64,
    physical_block: u32,
}

/// A disk could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenDiskError {
    /// Nothing there.
    #[error("{} is missing; connect the disk, and the pool is opened by itself, or delete the pool if the disk is gone for good", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// Neither file nor block device.
    #[error("{} is neither a regular file nor a block device", .path.display())]
    OddKind {
        /// The path.
        path: PathBuf,
    },
    /// In use by another process.
    #[error("{} is locked by another process (another dyad, or it is mounted); stop that first", .path.display())]
    Locked {
        /// The path.
        path: PathBuf,
    },
    /// Blocks larger than ours.
    #[error("{} has logical blocks of {bytes} bytes; at most 4096 can be used", .path.display())]
    LargeBlocks {
        /// The path.
        path: PathBuf,
        /// Size of the blocks.
        bytes: u32,
    },
    /// The system refused.
    #[error("{} cannot be opened", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A file for a pool could not be made. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateDiskError {
    /// It is there already.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// No space for it.
    #[error("the file system of {} has no {size} left", .path.display())]
    NoSpace {
        /// The path.
        path: PathBuf,
        /// What was asked for.
        size: Bytes,
    },
    /// The system refused.
    #[error("{} cannot be made", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was made but cannot be used.
    #[error(transparent)]
    Open(#[from] OpenDiskError),
}

impl DiskFile {
    /// Opens and locks a disk. Waits up to `lock_timeout` for a lock held by others: the operations of a
    /// process that was killed end only a while after it (P11).
    ///
    /// # Errors
    /// See [`OpenDiskError`].
    pub fn open(path: &Path, lock_timeout: Period) -> Result<Self, OpenDiskError> {
        let fault = |source| OpenDiskError::Io { path: path.into(), source };
        let meta = rustix::fs::stat(path).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV => OpenDiskError::Missing { path: path.into() },
            errno => fault(errno.into()),
        })?;
        let kind = match FileType::from_raw_mode(meta.st_mode) {
            FileType::RegularFile => DiskKind::File,
            FileType::BlockDevice => DiskKind::BlockDevice,
            _ => return Err(OpenDiskError::OddKind { path: path.into() }),
        };
        let deadline = Instant::now() + lock_timeout.to_duration();
        let buffered = open_locked(path, kind, Descriptor::Buffered, deadline)?;
        let direct = match open_locked(path, kind, Descriptor::Direct, deadline) {
            Ok(file) => Some(file),
            Err(OpenDiskError::Io { source, .. }) if is_unsupported(&source) => None,
            Err(error) => return Err(error),
        };
        same_file(&buffered, direct.as_ref(), path)?;
        let logical = logical_block(&buffered, kind);
        if logical > ALIGNMENT {
            return Err(OpenDiskError::LargeBlocks { path: path.into(), bytes: logical });
        }
        let end = rustix::fs::seek(&buffered, SeekFrom::End(0)).map_err(|errno| fault(errno.into()))?;
        let len = end - end % u64::from(ALIGNMENT);
        let direct = direct.filter(|file| can_read_direct(file, len));
        let physical_block = physical_block(&buffered, kind);
        Ok(Self { path: path.into(), kind, buffered, direct, len, physical_block })
    }

    /// Makes a file of this size with its space allocated (P3), for its owner only, and opens it.
    ///
    /// # Errors
    /// See [`CreateDiskError`].
    pub fn create(path: &Path, size: Bytes, lock_timeout: Period) -> Result<Self, CreateDiskError> {
        let fault = |source| CreateDiskError::Io { path: path.into(), source };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| match errno {
            Errno::EXIST => CreateDiskError::Exists { path: path.into() },
            errno => fault(errno.into()),
        })?;
        let made = allocate(&File::from(fd), size).and_then(|()| sync_directory(path));
        let opened = made.map_err(|source| not_made(path, size, source));
        let opened = opened.and_then(|()| Ok(Self::open(path, lock_timeout)?));
        if opened.is_err() {
            // Ours alone: it was made above with O_EXCL. What cannot be removed is said by the error anyway.
            let _ = std::fs::remove_file(path);
        }
        opened
    }

    /// Takes the space of a file that somebody else made (P3): one with holes would fail in the middle of hosts' writes. What it
    /// holds stays. A file system that cannot preallocate is its administrator's affair.
    ///
    /// # Errors
    /// [`CreateDiskError::NoSpace`], [`CreateDiskError::Io`].
    pub fn reserve(&self) -> Result<(), CreateDiskError> {
        if self.kind == DiskKind::BlockDevice {
            return Ok(());
        }
        let size = Bytes::new(self.len);
        let reserved = match preallocate(&self.buffered, size) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            outcome => outcome.map_err(io::Error::from),
        };
        let reserved = reserved.and_then(|()| self.buffered.sync_all());
        reserved.map_err(|source| not_made(&self.path, size, source))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// File or device.
    pub fn kind(&self) -> DiskKind {
        self.kind
    }

    /// Usable size in bytes, a multiple of 4096.
    pub fn size_bytes(&self) -> u64 {
        self.len
    }

    /// What the disk writes untorn, 512 or 4096 (A5); 512 where nobody knows.
    pub fn physical_block_bytes(&self) -> u32 {
        self.physical_block
    }

    /// Whether there is a descriptor that goes past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// The administrator says that the disk writes 4 KiB untorn although it does not say so itself (A5).
    pub fn assume_atomic_4k(&mut self) {
        self.physical_block = ALIGNMENT;
    }

    /// Pretends that the file system knows no O_DIRECT, so that tests reach the other path.
    #[cfg(test)]
    pub(crate) fn forget_direct(&mut self) {
        self.direct = None;
    }

    pub(super) fn buffered(&self) -> &File {
        &self.buffered
    }

    pub(super) fn direct(&self) -> Option<&File> {
        self.direct.as_ref()
    }

    /// Where something lies near the beginning or the end of the disk, if anywhere: a disk with something on
    /// it is not taken for a pool unasked.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn first_used_byte(&self) -> io::Result<Option<u64>> {
        for (start, end) in self.ends() {
            let mut bytes = vec![0; (end - start) as usize];
            self.buffered.read_exact_at(&mut bytes, start)?;
            if let Some(at) = bytes.iter().position(|&byte| byte != 0) {
                return Ok(Some(start + at as u64));
            }
        }
        Ok(None)
    }

    /// Makes the disk look empty to [`Self::first_used_byte`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn clear_ends(&self) -> io::Result<()> {
        for (start, end) in self.ends() {
            self.buffered.write_all_at(&vec![0; (end - start) as usize], start)?;
        }
        self.buffered.sync_all()
    }

    fn ends(&self) -> [(u64, u64); 2] {
        let head = LOOK_BYTES.min(self.len);
        [(0, head), (self.len.saturating_sub(LOOK_BYTES).max(head), self.len)]
    }
}

impl AsFd for DiskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.buffered.as_fd()
    }
}

#[derive(Clone, Copy)]
enum Descriptor {
    Buffered,
    Direct,
}

/// Opens one descriptor and locks a byte of its own with it: two descriptors cannot both hold the same lock,
/// and each must hold one, because either may have operations in flight when the process is killed (P11).
fn open_locked(path: &Path, kind: DiskKind, which: Descriptor, deadline: Instant) -> Result<File, OpenDiskError> {
    let fault = |source| OpenDiskError::Io { path: path.into(), source };
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    let byte = match which {
        Descriptor::Buffered => {
            // On a device O_EXCL claims it against mounts and everyone else who claims; one descriptor can.
            if kind == DiskKind::BlockDevice {
                flags |= OFlags::EXCL;
            }
            0
        }
        Descriptor::Direct => {
            flags |= OFlags::DIRECT | OFlags::DSYNC;
            1
        }
    };
    loop {
        let locked = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
        let locked = locked.and_then(|fd| lock_byte(&fd, byte).map(|()| File::from(fd)));
        match locked {
            Ok(file) => return Ok(file),
            Err(error) if is_taken(&error) && Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(error) if is_taken(&error) => return Err(OpenDiskError::Locked { path: path.into() }),
            Err(error) => return Err(fault(error)),
        }
    }
}

pub(crate) fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::BUSY | Errno::AGAIN))
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// An exclusive lock of the open file description: it goes when the last operation that uses it has ended.
pub(crate) fn lock_byte(fd: &impl AsRawFd, byte: i64) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the descriptor is open and `lock` is a valid `flock` that outlives the call.
    let result: c_int = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The path may have been given to another file between the two opens.
fn same_file(one: &File, other: Option<&File>, path: &Path) -> Result<(), OpenDiskError> {
    let Some(other) = other else { return Ok(()) };
    let fault = |errno: Errno| OpenDiskError::Io { path: path.into(), source: errno.into() };
    let (one, other) = (rustix::fs::fstat(one).map_err(fault)?, rustix::fs::fstat(other).map_err(fault)?);
    if (one.st_dev, one.st_ino, one.st_rdev) == (other.st_dev, other.st_ino, other.st_rdev) {
        return Ok(());
    }
    Err(OpenDiskError::Io { path: path.into(), source: io::Error::other("it was replaced while it was opened") })
}

/// Some file systems take the flag and refuse the reads.
fn can_read_direct(file: &File, len: u64) -> bool {
    let mut page = super::blocking::AlignedPages::new(1);
    len == 0 || file.read_exact_at(page.bytes_mut(), 0).is_ok()
}

fn logical_block(file: &File, kind: DiskKind) -> u32 {
    match kind {
        DiskKind::BlockDevice => rustix::fs::ioctl_blksszget(file).unwrap_or(SECTOR_BYTES),
        DiskKind::File => SECTOR_BYTES,
    }
}

/// From the device, or from the device under the file's file system.
fn physical_block(file: &File, kind: DiskKind) -> u32 {
    let bytes = match kind {
        DiskKind::BlockDevice => rustix::fs::ioctl_blkpbszget(file).ok(),
        DiskKind::File => rustix::fs::fstat(file).ok().and_then(|meta| {
            let (major, minor) = (rustix::fs::major(meta.st_dev), rustix::fs::minor(meta.st_dev));
            let device = format!("/sys/dev/block/{major}:{minor}");
            // A partition has no queue of its own; its disk, one level up, has.
            let text = ["queue", "../queue"]
                .iter()
                .find_map(|queue| std::fs::read_to_string(format!("{device}/{queue}/physical_block_size")).ok())?;
            text.trim().parse().ok()
        }),
    };
    // More than 4 KiB promises 4 KiB as well; 4 KiB is all that we need.
    if bytes.is_some_and(|bytes| bytes >= ALIGNMENT) { ALIGNMENT } else { SECTOR_BYTES }
}

fn not_made(path: &Path, size: Bytes, source: io::Error) -> CreateDiskError {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => CreateDiskError::NoSpace { path: path.into(), size },
        _ => CreateDiskError::Io { path: path.into(), source },
    }
}

/// Takes space for all of the file. Looked at before: a file system gives all that it has before it says that this is not
/// enough, and whoever else writes there would find it full.
fn preallocate(file: &File, size: Bytes) -> Result<(), Errno> {
    let (system, has) = (rustix::fs::fstatvfs(file)?, rustix::fs::fstat(file)?.st_blocks as u64 * 512);
    if size.value().saturating_sub(has) > system.f_bavail.saturating_mul(system.f_frsize) {
        return Err(Errno::NOSPC);
    }
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size.value())
}

fn allocate(file: &File, size: Bytes) -> io::Result<()> {
    match preallocate(file, size) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, size.value())?,
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()
}

/// Takes the space by writing it, where the file system cannot preallocate.
fn fill(file: &File, size: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut at = 0;
    while at < size {
        let len = (size - at).min(FILL_BYTES as u64);
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// A file is only there after a power cut if its directory was synced.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Period = Period::from_millis(50);

    #[test]
    fn a_made_file_has_its_space_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let disk = DiskFile::create(&path, Bytes::mib(3), SHORT).unwrap();
        assert_eq!(disk.size_bytes(), 3 << 20);
        let meta = rustix::fs::stat(&path).unwrap();
        assert!(meta.st_blocks as u64 * 512 >= 3 << 20, "P3: preallocated");
        assert_eq!(meta.st_mode & 0o777, 0o600);
        assert_eq!(disk.first_used_byte().unwrap(), None);
        drop(disk);
        assert!(matches!(DiskFile::create(&path, Bytes::mib(3), SHORT), Err(CreateDiskError::Exists { .. })));
    }

    /// Broke once (review): a sparse file of 1 GiB was a pool on a file system of 136 MiB; its disk would have failed, and its
    /// images with it, when that was full.
    #[test]
    fn a_file_with_holes_gets_its_space_before_it_is_a_pool() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(3 << 20).unwrap();
        file.write_all_at(&[7; 4096], 1 << 20).unwrap();
        let disk = DiskFile::open(&path, SHORT).unwrap();
        disk.reserve().unwrap();
        assert!(rustix::fs::stat(&path).unwrap().st_blocks as u64 * 512 >= 3 << 20, "P3: preallocated");
        let mut kept = vec![0; 4096];
        disk.buffered.read_exact_at(&mut kept, 1 << 20).unwrap();
        assert_eq!(kept, [7; 4096]);
        // No file system has as much.
        file.set_len(1 << 43).unwrap();
        drop(disk);
        let disk = DiskFile::open(&path, SHORT).unwrap();
        assert!(matches!(disk.reserve(), Err(CreateDiskError::NoSpace { .. })));
    }

    /// P11: nobody else gets the disk while either descriptor lives.
    #[test]
    fn a_disk_is_opened_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let disk = DiskFile::create(&path, Bytes::mib(1), SHORT).unwrap();
        assert!(matches!(DiskFile::open(&path, SHORT), Err(OpenDiskError::Locked { .. })));
        let in_flight = disk.direct().expect("this machine's temporary directory knows O_DIRECT").try_clone().unwrap();
        drop(disk);
        assert!(matches!(DiskFile::open(&path, SHORT), Err(OpenDiskError::Locked { .. })));
        drop(in_flight);
        DiskFile::open(&path, SHORT).unwrap();
    }

    #[test]
    fn what_is_missing_or_odd_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| DiskFile::open(path, SHORT).unwrap_err();
        assert!(matches!(open(&dir.path().join("none")), OpenDiskError::Missing { .. }));
        assert!(matches!(open(dir.path()), OpenDiskError::OddKind { .. }));
        assert!(matches!(open(Path::new("/dev/null")), OpenDiskError::OddKind { .. }));
    }

    #[test]
    fn a_file_that_does_not_fit_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let error = DiskFile::create(&path, Bytes::gib(1 << 22), SHORT).unwrap_err();
        assert!(matches!(error, CreateDiskError::NoSpace { .. }), "{error:?}");
        assert!(!path.exists());
    }

    #[test]
    fn something_on_the_disk_is_noticed_at_either_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let disk = DiskFile::create(&path, Bytes::mib(4), SHORT).unwrap();
        disk.buffered().write_all_at(b"x", (4 << 20) - 7).unwrap();
        assert_eq!(disk.first_used_byte().unwrap(), Some((4 << 20) - 7));
        disk.buffered().write_all_at(b"x", 1080).unwrap();
        assert_eq!(disk.first_used_byte().unwrap(), Some(1080));
    }
}
