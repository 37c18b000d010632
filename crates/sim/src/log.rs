//! L in memory: outlives a crash of the process exactly as stored, and nothing else (P6).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dyad_pool::RecentLog;

use crate::rng::Rng;

#[derive(Debug, Default)]
struct Shared {
    bytes: Vec<u8>,
    /// Stores since the last mark, with what was there before: a process may die between any two, or in one.
    recent: Vec<(usize, Vec<u8>, Vec<u8>)>,
}

/// One end is in the pool, the other in the test's hands.
#[derive(Clone, Debug)]
pub struct SimLog(Arc<Mutex<Shared>>);

impl SimLog {
    /// Fresh memory, as after a start of the machine.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(Shared { bytes: vec![0; capacity], recent: Vec::new() })))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of a process that stores nothing any more once this is set: it is no more, though its code may still run to see
    /// a disk fail.
    pub(crate) fn until(&self, is_dead: Arc<AtomicBool>) -> Mortal {
        Mortal { log: self.clone(), is_dead }
    }

    /// The memory as a new process finds it when the old one dies now.
    #[must_use]
    pub fn after_process_crash(&self) -> Self {
        let bytes = self.shared().bytes.clone();
        Self(Arc::new(Mutex::new(Shared { bytes, recent: Vec::new() })))
    }

    /// The memory as a new process finds it when the old one died somewhere between the last mark and now:
    /// some of the stores happened, the last of them perhaps in part.
    #[must_use]
    pub fn amid_stores(&self, rng: &mut Rng) -> Self {
        let shared = self.shared();
        let mut bytes = shared.bytes.clone();
        for (at, before, _) in shared.recent.iter().rev() {
            bytes[*at..*at + before.len()].copy_from_slice(before);
        }
        let count = rng.index(shared.recent.len() + 1);
        for (index, (at, _, after)) in shared.recent[..count].iter().enumerate() {
            let is_cut = index + 1 == count && rng.chance(1, 2);
            let len = if is_cut { rng.index(after.len() + 1) } else { after.len() };
            bytes[*at..*at + len].copy_from_slice(&after[..len]);
        }
        drop(shared);
        Self(Arc::new(Mutex::new(Shared { bytes, recent: Vec::new() })))
    }

    /// From here on [`Self::amid_stores`] takes stores back.
    pub fn mark(&self) {
        self.shared().recent.clear();
    }

    /// Stores since the last mark.
    pub fn stores(&self) -> usize {
        self.shared().recent.len()
    }

    /// Flips bits of a byte.
    pub fn flip(&self, at: usize, mask: u8) {
        self.shared().bytes[at] ^= mask;
    }
}

impl RecentLog for SimLog {
    fn capacity(&self) -> usize {
        self.shared().bytes.len()
    }

    fn load(&self, at: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.shared().bytes[at..at + to.len()]);
    }

    fn store(&mut self, at: usize, from: &[u8]) {
        let mut shared = self.shared();
        let place = &mut shared.bytes[at..at + from.len()];
        let before = place.to_vec();
        place.copy_from_slice(from);
        shared.recent.push((at, before, from.to_vec()));
    }
}

/// L as a process has it that may die.
pub(crate) struct Mortal {
    log: SimLog,
    is_dead: Arc<AtomicBool>,
}

impl RecentLog for Mortal {
    fn capacity(&self) -> usize {
        self.log.capacity()
    }

    fn load(&self, at: usize, to: &mut [u8]) {
        self.log.load(at, to);
    }

    fn store(&mut self, at: usize, from: &[u8]) {
        if !self.is_dead.load(Ordering::Relaxed) {
            self.log.store(at, from);
        }
    }
}
