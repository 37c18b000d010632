//! The bell that rings when a store changed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dyad_cluster::Version;

/// The newest version that was stored in this life of the process.
pub(crate) struct Latest {
    version: Mutex<Version>,
    rung: Condvar,
}

impl Latest {
    pub(crate) fn new() -> Self {
        Self { version: Mutex::new(Version(0)), rung: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Version> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, version: Version) {
        let mut latest = self.lock();
        *latest = (*latest).max(version);
        self.rung.notify_all();
    }

    /// Waits until there is more than `after`, somebody rings, or `longest` has passed.
    pub(crate) fn wait(&self, after: Version, longest: Duration) {
        let latest = self.lock();
        if *latest <= after {
            drop(self.rung.wait_timeout(latest, longest));
        }
    }

    /// Wakes all who wait, without news.
    pub(crate) fn ring(&self) {
        drop(self.lock());
        self.rung.notify_all();
    }
}
