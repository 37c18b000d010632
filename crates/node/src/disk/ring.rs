//! Operations by io_uring: submitted in one system call per turn, ended by the kernel in any order.
//!
//! The ring belongs to the thread that made it. Its descriptor is readable whenever something ended, so that
//! it sits in the reactor's epoll like a socket. Task work runs cooperatively, on the thread's next system
//! call (no DEFER_TASKRUN: with that flag a ring in epoll was measured to hang).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::io::Errno;

use super::work::{Finished, Job, SLICES_MAX, Step, Work, durable_descriptor, slices_after};

/// Operations in flight on one ring. A disk has at most [`super::live::ENGINE_OPS_MAX`]; more wait there.
pub(super) const DEPTH: usize = 1024;
/// Kernel threads for what cannot be done without waiting (syncs, writes into the page cache): enough that
/// the threads held by a disk that hangs do not starve the others.
const WORKERS_MAX: u32 = 256;

/// A ring and the operations in it.
pub(super) struct Ring {
    uring: IoUring,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots pushed to the queue and not yet handed to the kernel.
    unsubmitted: usize,
    /// Slots whose next step found the queue full; tried again at the next flush.
    postponed: Vec<u32>,
}

/// An operation in flight. The vectors of slices live here, because the kernel reads them when it takes the
/// entry from the queue, which is after the push.
struct Slot {
    job: Option<Job>,
    slices: [libc::iovec; SLICES_MAX],
}

// The pointers in `slices` point into the job's buffers, which are `Send` themselves.
// SAFETY: a `Slot` is only moved between threads together with the `Ring` that owns it, at rest.
unsafe impl Send for Slot {}

impl Ring {
    /// Makes a ring for the calling thread.
    pub(super) fn new() -> io::Result<Self> {
        let uring = build()?;
        check_operations(&uring)?;
        let mut workers = [WORKERS_MAX, 0];
        // Fewer threads than wished are slower, not wrong.
        let _ = uring.submitter().register_iowq_max_workers(&mut workers);
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let slots = (0..DEPTH).map(|_| Slot { job: None, slices: [empty; SLICES_MAX] }).collect();
        let free = (0..DEPTH as u32).rev().collect();
        Ok(Self { uring, slots, free, unsubmitted: 0, postponed: Vec::with_capacity(DEPTH) })
    }

    /// Readable when something ended.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor is open for as long as the ring, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }

    /// Operations that have not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes an operation; it is given back when all slots are in use.
    #[allow(clippy::result_large_err, reason = "a box per operation is what this avoids")]
    pub(super) fn start(&mut self, job: Job) -> Result<(), Job> {
        let Some(index) = self.free.pop() else { return Err(job) };
        self.slots[index as usize].job = Some(job);
        self.push(index);
        Ok(())
    }

    /// Hands everything new to the kernel.
    pub(super) fn flush(&mut self) {
        while let Some(index) = self.postponed.pop() {
            self.push(index);
            if self.postponed.last() == Some(&index) {
                break;
            }
        }
        if self.unsubmitted > 0 {
            self.submit();
        }
    }

    /// Moves what ended to `out`.
    pub(super) fn finish(&mut self, out: &mut Vec<Finished>) {
        loop {
            // One entry at a time: a partial operation goes on, which needs the submission queue.
            let Some(entry) = self.uring.completion().next() else { break };
            let index = entry.user_data() as u32;
            let Some(job) = self.slots.get_mut(index as usize).and_then(|slot| slot.job.as_mut()) else {
                debug_assert!(false, "an operation ended twice");
                continue;
            };
            let answer = usize::try_from(entry.result()).map_err(|_| Errno::from_raw_os_error(-entry.result()));
            match job.advance(answer) {
                Step::Again => self.push(index),
                Step::End(result) => {
                    if let Some(job) = self.slots[index as usize].job.take() {
                        self.free.push(index);
                        out.push(Finished { job, result });
                    }
                }
            }
        }
    }

    /// Waits until nothing is in flight or the time is over; whether nothing is.
    pub(super) fn drain(&mut self, timeout: Duration, out: &mut Vec<Finished>) -> bool {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            self.flush();
            self.finish(out);
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if self.in_flight() == 0 || left.is_zero() {
                return self.in_flight() == 0;
            }
            let timespec = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
            let _ = self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec));
        }
    }

    fn push(&mut self, index: u32) {
        let entry = self.entry(index).user_data(u64::from(index));
        for _ in 0..2 {
            // SAFETY: buffers, slices and descriptors of the entry live in the slot, which is not touched
            // before the kernel has ended the operation; `Drop` waits for that or leaks them.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                self.unsubmitted += 1;
                return;
            }
            self.submit();
        }
        self.postponed.push(index);
    }

    fn submit(&mut self) {
        // EBUSY and EAGAIN mean that completions have to be taken first, EINTR nothing: what was not taken
        // stays in the queue and is handed over at the next flush.
        if self.uring.submit().is_ok() {
            self.unsubmitted = self.uring.submission().len();
        }
    }

    /// The queue entry of the operation's next step.
    fn entry(&mut self, index: u32) -> squeue::Entry {
        let Slot { job, slices } = &mut self.slots[index as usize];
        let job = job.as_mut().expect("a slot in use has a job");
        let buffered = Fd(job.file.buffered().as_raw_fd());
        let done = job.done;
        match &mut job.work {
            Work::Read { buf, at } => {
                let rest = &mut buf[done..];
                opcode::Read::new(buffered, rest.as_mut_ptr(), rest.len() as u32).offset(*at + done as u64).build()
            }
            Work::Write { data, at } => {
                let mut count = 0;
                slices_after(data, done, |slice| {
                    slices[count] = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
                    count += 1;
                });
                opcode::Writev::new(buffered, slices.as_ptr(), count as u32).offset(*at + done as u64).build()
            }
            Work::WriteDurable { data, at } => {
                let (file, flags) = durable_descriptor(&job.file, data, done);
                let rest = &data[done..];
                opcode::Write::new(Fd(file.as_raw_fd()), rest.as_ptr(), rest.len() as u32)
                    .offset(*at + done as u64)
                    .rw_flags(flags.bits() as i32)
                    .build()
            }
            Work::Sync => opcode::Fsync::new(buffered).flags(FsyncFlags::DATASYNC).build(),
            Work::StartWriteback => {
                opcode::SyncFileRange::new(buffered, 0).offset(0).flags(libc::SYNC_FILE_RANGE_WRITE).build()
            }
        }
    }
}

/// Time given to operations in flight when a ring is dropped, beyond which their memory is leaked instead:
/// a disk that hangs may hold them for ever.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

impl Drop for Ring {
    fn drop(&mut self) {
        let mut ended = Vec::new();
        if !self.drain(DROP_TIMEOUT, &mut ended) {
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

/// A ring with the newest flags that the kernel knows, older ones without.
fn build() -> io::Result<IoUring> {
    let completions = (DEPTH * 2) as u32;
    let newest = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(DEPTH as u32 / 4);
    match newest {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            IoUring::builder().setup_cqsize(completions).build(DEPTH as u32 / 4)
        }
        other => other,
    }
}

fn check_operations(uring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Writev::CODE,
        opcode::Fsync::CODE,
        opcode::SyncFileRange::CODE,
    ];
    let has_all = needed.iter().all(|&code| probe.is_supported(code));
    if has_all && uring.params().is_feature_nodrop() && uring.params().is_feature_ext_arg() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel's io_uring is too old (Linux 5.11 is needed)"))
}
