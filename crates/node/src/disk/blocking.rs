//! Straight-line access for laying out, opening and inspecting a pool; never in the steady state.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use dyad_pool::{BlockingDisk, DiskError};
use dyad_units::Bytes;

use super::file::DiskFile;

const PAGE: usize = dyad_payload::PAGE;
/// Unit of direct transfers of any length: they go through one aligned buffer of this size.
const BOUNCE_PAGES: usize = 256;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Memory aligned as O_DIRECT asks.
pub(super) struct AlignedPages(Vec<Page>);

impl AlignedPages {
    pub(super) fn new(pages: usize) -> Self {
        Self(vec![Page([0; PAGE]); pages])
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `Page` is `repr(C)` with size and alignment 4096, without padding, any byte valid.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * PAGE) }
    }
}

impl DiskFile {
    /// Fills `bytes` from `at` on, through the page cache.
    ///
    /// # Errors
    /// As the system says; the end of the disk is an error too.
    pub fn read_bytes(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.buffered().read_exact_at(bytes, at)
    }

    /// Fills `bytes` with what the disk itself has, past the page cache (P11), where that is possible;
    /// otherwise the cache is asked to forget what it has first, and may not listen.
    ///
    /// # Errors
    /// As the system says.
    pub fn read_bytes_direct(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let Some(direct) = self.direct() else {
            forget_cached(self.buffered(), at, bytes.len());
            return self.read_bytes(bytes, at);
        };
        let mut bounce = AlignedPages::new(BOUNCE_PAGES.min(bytes.len().div_ceil(PAGE) + 1));
        let mut filled = 0;
        while filled < bytes.len() {
            let from = at + filled as u64;
            let skip = (from % PAGE as u64) as usize;
            let pages = bounce.bytes_mut();
            let want = (skip + bytes.len() - filled).next_multiple_of(PAGE).min(pages.len());
            direct.read_exact_at(&mut pages[..want], from - skip as u64)?;
            let take = (want - skip).min(bytes.len() - filled);
            bytes[filled..filled + take].copy_from_slice(&pages[skip..skip + take]);
            filled += take;
        }
        Ok(())
    }

    /// Writes through the page cache.
    ///
    /// # Errors
    /// As the system says.
    pub fn write_bytes(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.buffered().write_all_at(bytes, at)
    }

    /// Writes durably; past the page cache where position, length and file system allow.
    ///
    /// # Errors
    /// As the system says.
    pub fn write_bytes_durable(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let is_whole_pages = bytes.len().is_multiple_of(PAGE) && at.is_multiple_of(PAGE as u64);
        let Some(direct) = self.direct().filter(|_| is_whole_pages) else {
            self.write_bytes(bytes, at)?;
            return self.sync_bytes();
        };
        let mut bounce = AlignedPages::new(BOUNCE_PAGES.min(bytes.len() / PAGE));
        let pages = bounce.bytes_mut();
        let mut done = 0;
        while done < bytes.len() {
            let take = pages.len().min(bytes.len() - done);
            pages[..take].copy_from_slice(&bytes[done..done + take]);
            direct.write_all_at(&pages[..take], at + done as u64)?;
            done += take;
        }
        Ok(())
    }

    /// Makes durable everything written before.
    ///
    /// # Errors
    /// As the system says: then nothing written since the last good sync may be believed (P11).
    pub fn sync_bytes(&self) -> io::Result<()> {
        self.buffered().sync_data()
    }
}

impl BlockingDisk for DiskFile {
    fn size(&self) -> Bytes {
        Bytes::new(self.size_bytes())
    }

    fn physical_block(&self) -> u32 {
        self.physical_block_bytes()
    }

    fn read_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.read_bytes(to, offset).map_err(disk_error)
    }

    fn read_direct_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.read_bytes_direct(to, offset).map_err(disk_error)
    }

    fn write_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_bytes(from, offset).map_err(disk_error)
    }

    fn write_durable_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_bytes_durable(from, offset).map_err(disk_error)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.sync_bytes().map_err(disk_error)
    }
}

/// The system's error number; EIO where there is none.
pub(super) fn disk_error(error: io::Error) -> DiskError {
    DiskError { errno: error.raw_os_error().unwrap_or(DiskError::IO.errno) }
}

fn forget_cached(file: &File, at: u64, len: usize) {
    // SAFETY: the descriptor is open; the call takes numbers only, and it is advice that may be ignored.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), at as i64, len as i64, libc::POSIX_FADV_DONTNEED) };
}
