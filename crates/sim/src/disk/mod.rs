//! A disk with a page cache before it, in memory, that behaves as badly as real ones may.
//!
//! - Operations complete in any order; a write may reach the page cache page by page.
//! - What a write brought sits in the page cache until a sync that started after the write was answered.
//! - When the power fails, every unit (physical block) for itself keeps its durable content or any newer one.
//! - When the process dies, the page cache stays; of what was in flight, any part has happened.
//! - Reads, writes and syncs fail when told to; a failed sync drops what it did not write, as Linux does.
//!
//! The disk does nothing by itself: [`SimDisk::step`] lets one thing happen, chosen by the run's seed.

mod blocking;
mod faults;
mod flight;
mod medium;

pub use faults::{Counts, Fault, Kind};
pub use medium::Survival;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dyad_pool::{DiskDone, DiskError, DiskOp, DiskToken};

use crate::rng::Rng;
use faults::Faults;
use flight::Job;
use medium::{Medium, Tick};

/// What a disk answers to one operation.
pub type Answer = (Kind, DiskToken, Result<DiskDone, DiskError>);

/// A simulated disk. Its content outlives crashes; what is in flight does not.
#[derive(Debug)]
pub struct SimDisk {
    len: u64,
    medium: Medium,
    flight: Vec<Job>,
    now: Tick,
    /// Names each write, so that a sync knows which are answered.
    writes: u64,
    rng: Rng,
    faults: Faults,
    counts: Counts,
    /// A kind that waits while anything else can go on; drawn anew now and then.
    starved: Option<Kind>,
    /// The power goes off in the middle of the change with this number (blocking access only).
    cut_at: Option<u64>,
    /// The power is off: nothing works until the next restart, and whoever used the disk is no more.
    is_off: Arc<AtomicBool>,
    /// The first use that no correct pool makes.
    misuse: Option<String>,
}

impl SimDisk {
    /// A disk of `len` bytes, all zeros, that writes `unit` bytes (512 or 4096) untorn.
    pub fn new(len: u64, unit: usize, seed: u64) -> Self {
        Self::around(len, Medium::new(len, unit), Rng::new(seed))
    }

    fn around(len: u64, medium: Medium, rng: Rng) -> Self {
        Self {
            len,
            medium,
            flight: Vec::new(),
            now: 1,
            writes: 0,
            rng,
            faults: Faults::default(),
            counts: Counts::default(),
            starved: None,
            cut_at: None,
            is_off: Arc::default(),
            misuse: None,
        }
    }

    /// The disk as it is found after the power failed now.
    #[must_use]
    pub fn after_power_cut(&self, survival: Survival, rng: &mut Rng) -> Self {
        let mut medium = self.medium.clone();
        for job in &self.flight {
            job.leave_part(&mut medium, rng);
        }
        medium.cut_power(survival, rng);
        Self { counts: self.counts, ..Self::around(self.len, medium, rng.fork()) }
    }

    /// The disk as a new process finds it after the old one died now. Faults that were ordered stay.
    #[must_use]
    pub fn after_process_crash(&self, rng: &mut Rng) -> Self {
        let mut medium = self.medium.clone();
        for job in &self.flight {
            job.leave_part(&mut medium, rng);
        }
        medium.answer_all(self.now);
        let now = self.now + 1;
        let fresh = Self::around(self.len, medium, rng.fork());
        Self { now, writes: self.writes, counts: self.counts, faults: self.faults.clone(), ..fresh }
    }

    /// The same disk once more, while nothing is in flight.
    #[must_use]
    pub fn copy(&self) -> Self {
        assert!(self.flight.is_empty(), "what is in flight cannot be copied");
        let fresh = Self::around(self.len, self.medium.clone(), self.rng.clone());
        let (faults, counts) = (self.faults.clone(), self.counts);
        let is_off = Arc::new(AtomicBool::new(self.is_off()));
        Self { now: self.now, writes: self.writes, faults, counts, cut_at: self.cut_at, is_off, ..fresh }
    }

    /// From now on chance comes from this seed.
    pub fn reseed(&mut self, seed: u64) {
        self.rng = Rng::new(seed);
    }

    /// Orders failures.
    pub fn order(&mut self, fault: Fault) {
        self.faults.order(fault);
    }

    /// Makes a range unreadable until it is written.
    pub fn spoil(&mut self, offset: u64, len: u64) {
        self.faults.spoil(offset, len);
    }

    /// Takes all orders to fail back.
    pub fn repair(&mut self) {
        self.faults.clear();
    }

    /// Lets the power fail in the middle of the `changes`-th change from now on, during blocking access.
    pub fn cut_after(&mut self, changes: u64) {
        self.cut_at = Some(self.counts.changes() + changes);
    }

    /// Whether [`Self::cut_after`] struck.
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Tells the log of the same process when that is no more.
    pub(crate) fn off_switch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_off)
    }

    /// Flips bits of one byte of the durable content.
    pub fn flip(&mut self, offset: u64, mask: u8) {
        self.medium.flip(offset, mask);
    }

    /// Size in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Puts durable bytes at a place, as if the disk had answered later writes there and dropped them.
    pub fn put_back(&mut self, offset: u64, bytes: &[u8]) {
        self.medium.write_durable(offset, bytes);
    }

    /// The durable bytes, past all caches: for tests that look at places.
    pub fn durable(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.medium.read_durable(&mut bytes, offset);
        bytes
    }

    /// What a read through the page cache would show now.
    pub fn peek(&self, offset: u64, to: &mut [u8]) {
        self.medium.read(to, offset);
    }

    /// The page cache lets go of whatever it need not keep.
    pub fn evict_clean(&mut self) {
        self.medium.evict_clean();
    }

    /// Shortens the disk, as a file is truncated, or lengthens it with zeros.
    pub fn resize(&mut self, len: u64) {
        self.medium.resize(len);
        self.len = len;
    }

    /// What was begun so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A count that rises with everything that happens on the disk.
    pub fn happenings(&self) -> u64 {
        self.now
    }

    /// Units that a power cut could take away.
    pub fn dirty_units(&self) -> usize {
        self.medium.dirty_units()
    }

    /// Operations that were handed over and not answered.
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// The first use that no correct pool makes, such as two writes to one place at once.
    pub fn misuse(&self) -> Option<&str> {
        self.misuse.as_deref()
    }

    /// Takes an operation over.
    pub fn submit(&mut self, op: DiskOp) {
        // Later than whatever was answered before: a sync covers that.
        self.now += 1;
        let job = Job::new(op, self.writes, self.now);
        self.writes += 1;
        self.counts.count(job.kind());
        self.look_for_misuse(&job);
        self.flight.push(job);
    }

    /// Lets one thing happen. Not every step answers an operation: a write may have got only halfway.
    pub fn step(&mut self) -> Option<Answer> {
        if self.flight.is_empty() {
            return None;
        }
        if self.rng.chance(1, 32) {
            self.starved = self.rng.chance(1, 2).then(|| Kind::ALL[self.rng.index(Kind::ALL.len())]);
        }
        let at = self.choose();
        self.now += 1;
        if self.flight[at].goes_halfway(&mut self.medium, &mut self.rng) {
            return None;
        }
        let job = self.flight.swap_remove(at);
        let fails = self.faults.strikes(job.kind(), job.offset(), job.len());
        Some(job.finish(&mut self.medium, self.now, fails, &mut self.rng))
    }

    /// One of the operations in flight; of the starved kind only where there is no other.
    fn choose(&mut self) -> usize {
        let is_fed = |job: &Job| Some(job.kind()) != self.starved;
        let fed = self.flight.iter().filter(|job| is_fed(job)).count();
        if fed == 0 {
            return self.rng.index(self.flight.len());
        }
        let nth = self.rng.index(fed);
        let mut choice = self.flight.iter().enumerate().filter(|(_, job)| is_fed(job));
        choice.nth(nth).map_or(0, |(at, _)| at)
    }

    fn look_for_misuse(&mut self, new: &Job) {
        let beyond = new.offset().checked_add(new.len()).is_none_or(|end| end > self.len);
        let problem = if beyond {
            Some(format!("{new} reaches beyond the end at {}", self.len))
        } else {
            let clash = self.flight.iter().find(|old| old.clashes_with(new));
            clash.map(|old| format!("{new} while {old} is in flight"))
        };
        assert!(!beyond, "{}", problem.unwrap_or_default());
        if self.misuse.is_none() {
            self.misuse = problem;
        }
    }
}
