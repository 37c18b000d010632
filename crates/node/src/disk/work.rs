//! One disk operation that may block, with everything that it needs until it has ended.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;

use dyad_payload::{Buf, BufMut, PAGE, Payload};
use dyad_units::Moment;
use rustix::io::{Errno, ReadWriteFlags};

use super::file::DiskFile;

/// Slices handed to the kernel at once; a payload of more goes in several steps. IOV_MAX is 1024.
pub(super) const SLICES_MAX: usize = 64;

/// What to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Fill the buffer.
    Read { buf: BufMut, at: u64 },
    /// Write into the page cache.
    Write { data: Payload, at: u64 },
    /// Write past the page cache, durably.
    WriteDurable { data: Buf, at: u64 },
    /// Make durable what was written.
    Sync,
    /// Start writing back what is dirty, without waiting for the end.
    StartWriteback,
}

/// An operation of a disk. It owns its buffers and keeps the descriptors open: whatever happens to the rest
/// of the program, the kernel never meets memory or a descriptor that was given away.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: Arc<DiskFile>,
    /// Index of the disk, for whoever gets the end.
    pub(super) disk: u32,
    /// The disk's own name for the operation.
    pub(super) tag: u64,
    pub(super) work: Work,
    /// Bytes done; the kernel may do a part only.
    pub(super) done: usize,
    /// When it was asked for.
    pub(super) started: Moment,
}

/// An operation that ended, its buffers included.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) result: io::Result<()>,
}

/// The next system call of an operation.
pub(super) enum Step {
    Again,
    End(io::Result<()>),
}

impl Job {
    /// Bytes to transfer in all; zero for what transfers none.
    pub(super) fn len(&self) -> usize {
        match &self.work {
            Work::Read { buf, .. } => buf.len(),
            Work::Write { data, .. } => data.len(),
            Work::WriteDurable { data, .. } => data.len(),
            Work::Sync | Work::StartWriteback => 0,
        }
    }

    /// Takes the answer of a system call: bytes, or an error number. Part of the bytes means to go on.
    pub(super) fn advance(&mut self, answer: Result<usize, Errno>) -> Step {
        match answer {
            Err(Errno::INTR | Errno::AGAIN) => Step::Again,
            // It was advice.
            Err(Errno::OPNOTSUPP) if matches!(self.work, Work::StartWriteback) => Step::End(Ok(())),
            Err(errno) => Step::End(Err(errno.into())),
            Ok(0) if self.done < self.len() => Step::End(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => {
                self.done += bytes;
                if self.done < self.len() { Step::Again } else { Step::End(Ok(())) }
            }
        }
    }

    /// Carries the whole operation out, waiting as long as it takes.
    pub(super) fn run(&mut self) -> io::Result<()> {
        loop {
            let answer = self.call();
            match self.advance(answer) {
                Step::Again => {}
                Step::End(result) => return result,
            }
        }
    }

    fn call(&mut self) -> Result<usize, Errno> {
        let (file, done) = (&self.file, self.done);
        match &mut self.work {
            Work::Read { buf, at } => rustix::io::pread(file.buffered(), &mut buf[done..], *at + done as u64),
            Work::Write { data, at } => write_payload(file.buffered(), data, done, *at),
            Work::WriteDurable { data, at } => {
                let bytes = [IoSlice::new(&data[done..])];
                let (to, flags) = durable_descriptor(file, data, done);
                rustix::io::pwritev2(to, &bytes, *at + done as u64, flags)
            }
            Work::Sync => rustix::fs::fdatasync(file.buffered()).map(|()| 0),
            Work::StartWriteback => start_writeback(file.buffered()).map(|()| 0),
        }
    }
}

/// Where and how a durable write goes: by the direct descriptor, or, where there is none or the memory does
/// not suit it, through the page cache with a sync of what was written.
pub(super) fn durable_descriptor<'a>(file: &'a DiskFile, data: &Buf, done: usize) -> (&'a File, ReadWriteFlags) {
    let is_aligned = (data.as_ptr() as usize + done).is_multiple_of(PAGE) && (data.len() - done).is_multiple_of(PAGE);
    match file.direct() {
        Some(direct) if is_aligned => (direct, ReadWriteFlags::empty()),
        _ => (file.buffered(), ReadWriteFlags::DSYNC),
    }
}

/// Calls `each` with the slices of `data` after the first `done` bytes, at most [`SLICES_MAX`].
pub(super) fn slices_after<'a>(data: &'a Payload, mut done: usize, mut each: impl FnMut(&'a [u8])) {
    let mut count = 0;
    for slice in data.slices() {
        if done >= slice.len() {
            done -= slice.len();
            continue;
        }
        if count == SLICES_MAX {
            break;
        }
        each(&slice[done..]);
        done = 0;
        count += 1;
    }
}

/// Most bytes of one write into the page cache. The kernel keeps what one call writes in one folio if it can, and later
/// walks all blocks of that folio for every 4 KiB written into it.
const WRITE_PIECE: usize = 32 * 1024;

/// One system call that writes what is left of a payload, or the first of its slices.
pub(super) fn write_payload(file: &File, data: &Payload, done: usize, at: u64) -> Result<usize, Errno> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let (mut count, mut left) = (0, WRITE_PIECE);
    slices_after(data, done, |slice| {
        let slice = &slice[..slice.len().min(left)];
        slices[count] = IoSlice::new(slice);
        (count, left) = (count + usize::from(!slice.is_empty()), left - slice.len());
    });
    rustix::io::pwritev(file, &slices[..count], at + done as u64)
}

/// Whether a write answered at once may still make the disk busy: asks the kernel to begin, waits for nothing.
fn start_writeback(file: &File) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open; the call takes numbers only.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}
