//! All disks of a reactor and their engine.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyad_pool::{DiskDone, DiskError, DiskOp, DiskToken};
use dyad_units::Moment;

use super::engine::{Engine, EngineError};
use super::file::DiskFile;
use super::live::{Ends, LiveCounters, LiveDisk};
use super::work::Finished;
use crate::clock;
use crate::control::BackendInfo;
use crate::settings::DiskSettings;

/// One of a reactor's disks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DiskIndex(u32);

/// An operation that ended: of which disk, which one, and how.
pub type End = (DiskIndex, DiskToken, Result<DiskDone, DiskError>);

/// All disks of a reactor. Made, used and dropped by the reactor's thread.
#[derive(Debug)]
pub struct Disks {
    engine: Engine,
    disks: Vec<Option<LiveDisk>>,
    pub(super) writeback_start: u64,
    finished: Vec<Finished>,
    ends: Ends,
}

impl Disks {
    /// No disks yet.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new(settings: &DiskSettings) -> Result<Self, EngineError> {
        Ok(Self {
            engine: Engine::new(settings.backend, settings.threads)?,
            disks: Vec::new(),
            writeback_start: settings.writeback_start.value(),
            finished: Vec::new(),
            ends: Ends::new(),
        })
    }

    /// How operations that may block are carried out.
    pub fn backend(&self) -> &BackendInfo {
        self.engine.info()
    }

    /// Readable when something ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.engine.descriptor()
    }

    /// Puts a disk to use.
    ///
    /// # Errors
    /// If its threads cannot be started.
    pub fn add(&mut self, file: Arc<DiskFile>) -> io::Result<DiskIndex> {
        let free = self.disks.iter().position(Option::is_none).unwrap_or(self.disks.len());
        let index = free as u32;
        self.engine.add_disk(index)?;
        if free == self.disks.len() {
            self.disks.push(None);
        }
        self.disks[free] = Some(LiveDisk::new(file, index, self.writeback_start));
        Ok(DiskIndex(index))
    }

    /// Gives a disk up if nothing is in flight on it; whether it did. Its locks go with it.
    pub fn remove(&mut self, disk: DiskIndex) -> bool {
        match self.disks.get(disk.0 as usize) {
            Some(Some(live)) if live.in_flight() > 0 => false,
            Some(Some(_)) => {
                self.disks[disk.0 as usize] = None;
                self.engine.remove_disk(disk.0);
                true
            }
            _ => true,
        }
    }

    /// The disk's file or device and what it did, for the status.
    pub fn look(&self, disk: DiskIndex) -> Option<(&DiskFile, LiveCounters)> {
        let live = self.disks.get(disk.0 as usize)?.as_ref()?;
        Some((live.file(), live.counters()))
    }

    /// Carries out operations of a disk, or begins to; `ended` gets what ended at once.
    pub fn execute(
        &mut self,
        now: Moment,
        disk: DiskIndex,
        ops: &mut Vec<DiskOp>,
        mut ended: impl FnMut(DiskToken, Result<DiskDone, DiskError>),
    ) {
        let Some(Some(live)) = self.disks.get_mut(disk.0 as usize) else {
            return ops.drain(..).for_each(|op| ended(op.token(), Err(DiskError::IO)));
        };
        for op in ops.drain(..) {
            live.execute(now, op, &mut self.engine, &mut self.ends);
        }
        self.ends.drain(..).for_each(|(token, result)| ended(token, result));
    }

    /// Hands everything new to the kernel: once per turn of the reactor.
    pub fn flush(&mut self) {
        self.engine.flush();
    }

    /// Adds to `out` what ended since.
    pub fn collect(&mut self, now: Moment, out: &mut Vec<End>) {
        self.engine.finish(&mut self.finished);
        self.sort(now, out);
    }

    /// Waits until nothing is in flight or the time is over; whether nothing is. For the end of a reactor.
    pub fn drain(&mut self, timeout: Duration, out: &mut Vec<End>) -> bool {
        let deadline = Instant::now() + timeout;
        // What ends makes room for what waited, so that there may be several rounds.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.engine.drain(left, &mut self.finished);
            self.sort(clock::now(), out);
            if self.in_flight() == 0 || left.is_zero() {
                return self.in_flight() == 0;
            }
        }
    }

    /// Operations that have not ended.
    pub fn in_flight(&self) -> usize {
        self.disks.iter().flatten().map(LiveDisk::in_flight).sum()
    }

    fn sort(&mut self, now: Moment, out: &mut Vec<End>) {
        if self.finished.is_empty() {
            return;
        }
        for finished in self.finished.drain(..) {
            let index = finished.job.disk;
            let Some(Some(live)) = self.disks.get_mut(index as usize) else { continue };
            live.finished(now, finished, &mut self.engine, &mut self.ends);
            out.extend(self.ends.drain(..).map(|(token, result)| (DiskIndex(index), token, result)));
        }
        // A disk may have waited for room that another's operation took.
        for live in self.disks.iter_mut().flatten() {
            live.resume(&mut self.engine);
        }
    }
}
