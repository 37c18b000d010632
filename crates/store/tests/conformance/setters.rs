//! Clients that change one record again and again while something goes wrong with the store.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use dyad_cluster::{SetError, Store};

use super::history::Told;
use super::records::{eventually, pool, set};

#[derive(Default)]
pub struct Setters {
    /// What they were told.
    pub told: Told,
    tried: AtomicU32,
    /// Changes that were stored, or may have been.
    changes: AtomicU32,
    allowed: AtomicU32,
    is_over: AtomicBool,
}

/// Ends them also when the test fails amid its troubles.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Setters {
    /// Lets all clients set until `troubles` are over.
    pub fn run(&self, clients: &[&dyn Store], troubles: impl FnOnce()) {
        std::thread::scope(|scope| {
            let over = Over(&self.is_over);
            for (at, &store) in clients.iter().enumerate() {
                scope.spawn(move || self.set_until_over(store, at));
            }
            troubles();
            drop(over);
        });
    }

    /// They may change the record so often more. Whoever does not hear of more changes than the store remembers is told
    /// only what stands there in the end, and no test can say how long a watcher stays away on a busy machine.
    pub fn allow(&self, changes: u32) {
        self.allowed.fetch_add(changes, Ordering::AcqRel);
    }

    /// Waits until they have tried so often more.
    pub fn go_on(&self, tries: u32) {
        let before = self.tried.load(Ordering::Acquire);
        eventually("something is set", || (self.tried.load(Ordering::Acquire) >= before + tries).then_some(()));
    }

    fn set_until_over(&self, store: &dyn Store, at: usize) {
        let (key, mut expected) = (pool(1, "a").key(), None);
        for attempt in 0.. {
            let (is_over, may) = (
                || self.is_over.load(Ordering::Acquire),
                || self.changes.load(Ordering::Acquire) < self.allowed.load(Ordering::Acquire),
            );
            eventually("more changes are allowed", || (is_over() || may()).then_some(()));
            if is_over() {
                return;
            }
            // A store that cannot be asked is told all the same, on what was known before.
            if let Ok(found) = store.get(key) {
                expected = found.map(|found| found.version);
            }
            let record = pool(1, &format!("w-{at}-{attempt}"));
            let outcome = set(store, expected, &record);
            if matches!(outcome, Ok(_) | Err(SetError::Unknown(_))) {
                self.changes.fetch_add(1, Ordering::AcqRel);
            }
            self.told.keep(expected, &record, &outcome);
            self.tried.fetch_add(1, Ordering::AcqRel);
        }
    }
}
