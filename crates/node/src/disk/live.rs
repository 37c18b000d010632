//! A disk in use: does at once what is sure not to wait, hands the rest to the engine.
//!
//! The reactor's thread must never wait for a disk. A read takes what is in the page cache (RWF_NOWAIT) and
//! goes to the engine otherwise. A write into the page cache costs a microsecond while the kernel is at ease,
//! but waits when too much is dirty or the disk hangs in the middle of a sync; so it is done at once only
//! while nothing hints at that. To keep it that way the disk is told early to begin writing back.
//!
//! Syncs run one at a time: the kernel reports a failed write-back to one of them only, and must not have
//! reported it to ours when the pool's says that all is well (P11).

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use dyad_pool::{DiskDone, DiskError, DiskOp, DiskToken};
use dyad_units::{Moment, Period};
use rustix::io::{Errno, ReadWriteFlags};

use super::blocking::disk_error;
use super::engine::Engine;
use super::file::DiskFile;
use super::work::{Finished, Job, Work, write_payload};
use crate::clock;

/// Operations of one disk in the engine; more wait here. Twice what a disk's own queue takes.
pub(super) const ENGINE_OPS_MAX: usize = 256;
/// A sync, or a beginning of write-back, that lasts longer hints at a disk that hangs: a healthy one took 0.4 s for a sync
/// behind 512 MiB of dirty data.
const OVERDUE: Period = Period::from_millis(800);
/// A write into the page cache that takes longer was made to wait by the kernel; on a busy machine a thread may
/// lose its processor for some 20 ms.
const WRITE_SLOW: Period = Period::from_millis(50);
/// How long writes then go to the engine.
const SLOW_PAUSE: Period = Period::from_millis(200);
/// Unsynced data, in units of the write-back start, beyond which the disk is synced without being asked, and
/// writes go to the engine until that is done. The kernel throttles at 15 % of the memory.
const DIRTY_FACTOR: u64 = 3;
/// Tags of operations of our own; a pool's tokens are given back to it.
const OWN_SYNC: u64 = u64::MAX;
const OWN_WRITEBACK: u64 = u64::MAX - 1;

/// Ends of operations, for the pool.
pub(super) type Ends = Vec<(DiskToken, Result<DiskDone, DiskError>)>;

/// What a disk did since it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveCounters {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Reads that had to wait for the disk.
    pub read_waits: u64,
    /// Time of those.
    pub read_time: Period,
    /// Writes, durable ones included.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Time of all writes.
    pub write_time: Period,
    /// Syncs.
    pub syncs: u64,
    /// Time of all syncs.
    pub sync_time: Period,
    /// Longest time that one operation took.
    pub time_max: Period,
    /// Operations that failed.
    pub errors: u64,
}

/// A disk in use by a pool.
#[derive(Debug)]
pub(super) struct LiveDisk {
    file: Arc<DiskFile>,
    index: u32,
    writeback_start: u64,
    /// Bytes written and not known to be synced.
    dirty: u64,
    /// Part of them written since the disk was told to begin.
    fresh: u64,
    sync: Option<RunningSync>,
    /// Since when the disk has been told to begin, while that lasts: the kernel waits where the disk's queue is full.
    writeback: Option<Moment>,
    /// Syncs, and durable writes that are syncs, which wait for the running one.
    sync_queue: VecDeque<Job>,
    /// Inline writes are trusted again from then on.
    calm_from: Moment,
    knows_nowait: bool,
    in_engine: usize,
    waiting: VecDeque<Job>,
    /// A sync of our own failed: the pool's next ones fail, whatever the kernel says (P11).
    failed: Option<DiskError>,
    counters: LiveCounters,
}

#[derive(Clone, Copy, Debug)]
struct RunningSync {
    tag: u64,
    started: Moment,
    dirty: u64,
}

impl LiveDisk {
    /// Puts a disk to use as number `index` of the reactor's disks; `writeback_start` as in the settings.
    pub fn new(file: Arc<DiskFile>, index: u32, writeback_start: u64) -> Self {
        Self {
            file,
            index,
            writeback_start,
            dirty: 0,
            fresh: 0,
            sync: None,
            writeback: None,
            sync_queue: VecDeque::new(),
            calm_from: Moment::START,
            knows_nowait: true,
            in_engine: 0,
            waiting: VecDeque::new(),
            failed: None,
            counters: LiveCounters::default(),
        }
    }

    /// The file or device.
    pub fn file(&self) -> &DiskFile {
        &self.file
    }

    /// What it did so far.
    pub fn counters(&self) -> LiveCounters {
        self.counters
    }

    /// Operations that have not ended.
    pub fn in_flight(&self) -> usize {
        self.in_engine + self.waiting.len() + self.sync_queue.len()
    }

    /// Carries out an operation, or begins to. What ends at once is added to `ends`.
    pub fn execute(&mut self, now: Moment, op: DiskOp, engine: &mut Engine, ends: &mut Ends) {
        match op {
            DiskOp::Read { token, offset, buf } => {
                let job = self.job(now, token.0, Work::Read { buf, at: offset });
                self.read(job, engine, ends);
            }
            DiskOp::Write { token, offset, data } => {
                let job = self.job(now, token.0, Work::Write { data, at: offset });
                self.write(now, job, engine, ends);
            }
            DiskOp::WriteDurable { token, offset, data } => {
                let job = self.job(now, token.0, Work::WriteDurable { data, at: offset });
                if self.file.is_direct() { self.start(job, engine) } else { self.start_sync(now, job, engine) }
            }
            DiskOp::Sync { token } => {
                let job = self.job(now, token.0, Work::Sync);
                self.start_sync(now, job, engine);
            }
        }
    }

    /// Takes an operation back from the engine; [`Self::resume`] is to follow.
    pub(super) fn finished(&mut self, now: Moment, finished: Finished, engine: &mut Engine, ends: &mut Ends) {
        let Finished { job, result } = finished;
        self.in_engine -= 1;
        let took = now.since(job.started);
        let tag = job.tag;
        let result = self.note_end(&job, took, result);
        if self.sync.is_some_and(|sync| sync.tag == tag) {
            self.end_sync(now, result.is_ok(), engine);
        }
        if tag == OWN_WRITEBACK {
            self.writeback = None;
        }
        if tag != OWN_SYNC && tag != OWN_WRITEBACK {
            ends.push((DiskToken(tag), result.map(|()| done(job))));
        }
    }

    /// Starts what waited for room in the engine.
    pub(super) fn resume(&mut self, engine: &mut Engine) {
        while self.in_engine < ENGINE_OPS_MAX {
            let Some(job) = self.waiting.pop_front() else { break };
            if !self.try_start(job, engine) {
                break;
            }
        }
    }

    fn job(&self, now: Moment, tag: u64, work: Work) -> Job {
        Job { file: self.file.clone(), disk: self.index, tag, work, done: 0, started: now }
    }

    /// Takes what the page cache has; the rest has to wait for the disk.
    fn read(&mut self, mut job: Job, engine: &mut Engine, ends: &mut Ends) {
        let Work::Read { buf, at } = &mut job.work else { return };
        self.counters.reads += 1;
        self.counters.read_bytes += buf.len() as u64;
        while self.knows_nowait && job.done < buf.len() {
            let rest = &mut buf[job.done..];
            let slices = &mut [IoSliceMut::new(rest)];
            let from = *at + job.done as u64;
            match rustix::io::preadv2(self.file.buffered(), slices, from, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                Ok(bytes) => job.done += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::INVAL) => self.knows_nowait = false,
                // Not in the cache, or an error that the engine will meet again.
                Err(_) => break,
            }
        }
        if job.done == buf.len() {
            return ends.push((DiskToken(job.tag), Ok(done(job))));
        }
        self.counters.read_waits += 1;
        self.start(job, engine);
    }

    fn write(&mut self, now: Moment, mut job: Job, engine: &mut Engine, ends: &mut Ends) {
        let Work::Write { data, at } = &job.work else { return };
        self.counters.writes += 1;
        self.counters.write_bytes += data.len() as u64;
        self.dirty += data.len() as u64;
        self.fresh += data.len() as u64;
        if self.may_wait(now) {
            self.start(job, engine);
            return self.pace(now, engine);
        }
        let begun = clock::now();
        let mut result = Ok(());
        while job.done < data.len() && result.is_ok() {
            match write_payload(self.file.buffered(), data, job.done, *at) {
                Ok(0) => result = Err(DiskError::IO),
                Ok(bytes) => job.done += bytes,
                Err(Errno::INTR) => {}
                Err(errno) => result = Err(DiskError { errno: errno.raw_os_error() }),
            }
        }
        let ended = clock::now();
        self.note_write(ended.since(begun), result.is_err());
        if ended.since(begun) > WRITE_SLOW {
            self.calm_from = ended + SLOW_PAUSE;
        }
        ends.push((DiskToken(job.tag), result.map(|()| DiskDone::Done)));
        self.pace(now, engine);
    }

    /// Whether a write into the page cache might be made to wait.
    fn may_wait(&self, now: Moment) -> bool {
        let is_overdue = |since: Moment| now.since(since) > OVERDUE;
        let hangs = self.sync.is_some_and(|sync| is_overdue(sync.started)) || self.writeback.is_some_and(is_overdue);
        hangs || now < self.calm_from || self.dirty > self.writeback_start.saturating_mul(DIRTY_FACTOR + 1)
    }

    /// Keeps the amount of dirty data low enough that the kernel throttles nobody.
    fn pace(&mut self, now: Moment, engine: &mut Engine) {
        if self.fresh >= self.writeback_start && self.writeback.is_none() {
            self.fresh = 0;
            self.writeback = Some(now);
            let job = self.job(now, OWN_WRITEBACK, Work::StartWriteback);
            self.start(job, engine);
        }
        if self.sync.is_none() && self.dirty > self.writeback_start.saturating_mul(DIRTY_FACTOR) {
            let job = self.job(now, OWN_SYNC, Work::Sync);
            self.start_sync(now, job, engine);
        }
    }

    fn start_sync(&mut self, now: Moment, job: Job, engine: &mut Engine) {
        if self.sync.is_some() {
            return self.sync_queue.push_back(job);
        }
        self.sync = Some(RunningSync { tag: job.tag, started: now, dirty: self.dirty });
        self.start(job, engine);
    }

    fn end_sync(&mut self, now: Moment, is_good: bool, engine: &mut Engine) {
        let Some(ended) = self.sync.take() else { return };
        if is_good {
            self.dirty -= ended.dirty.min(self.dirty);
        }
        if let Some(next) = self.sync_queue.pop_front() {
            self.start_sync(now, next, engine);
        }
    }

    fn start(&mut self, job: Job, engine: &mut Engine) {
        if self.in_engine < ENGINE_OPS_MAX {
            self.try_start(job, engine);
        } else {
            self.waiting.push_back(job);
        }
    }

    fn try_start(&mut self, job: Job, engine: &mut Engine) -> bool {
        match engine.start(job) {
            Ok(()) => {
                self.in_engine += 1;
                true
            }
            Err(job) => {
                self.waiting.push_front(job);
                false
            }
        }
    }

    fn note_write(&mut self, took: Period, is_error: bool) {
        self.counters.write_time = add(self.counters.write_time, took);
        self.counters.time_max = self.counters.time_max.max(took);
        self.counters.errors += u64::from(is_error);
    }

    /// Counts an end, and makes a failed sync of our own everybody's.
    fn note_end(&mut self, job: &Job, took: Period, result: io::Result<()>) -> Result<(), DiskError> {
        let error = result.err().map(disk_error);
        let counters = &mut self.counters;
        counters.errors += u64::from(error.is_some());
        counters.time_max = counters.time_max.max(took);
        match &job.work {
            Work::Read { .. } => counters.read_time = add(counters.read_time, took),
            Work::Write { .. } => counters.write_time = add(counters.write_time, took),
            Work::WriteDurable { data, .. } => {
                counters.writes += 1;
                counters.write_bytes += data.len() as u64;
                counters.write_time = add(counters.write_time, took);
            }
            Work::Sync => {
                counters.syncs += 1;
                counters.sync_time = add(counters.sync_time, took);
            }
            Work::StartWriteback => {}
        }
        let is_sync = matches!(job.work, Work::Sync | Work::WriteDurable { .. });
        if is_sync && self.failed.is_none() {
            self.failed = error;
        }
        match (error.or(self.failed), is_sync) {
            (Some(error), true) => Err(error),
            _ => error.map_or(Ok(()), Err),
        }
    }
}

fn add(one: Period, other: Period) -> Period {
    Period::from_nanos(one.as_nanos().saturating_add(other.as_nanos()))
}

fn done(job: Job) -> DiskDone {
    match job.work {
        Work::Read { buf, .. } => DiskDone::Read(buf),
        _ => DiskDone::Done,
    }
}
