//! A store whose answers are checked against, and kept in, a cache.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dyad_cluster::{Key, Kind, Listed, Record, SetError, Store, StoreError, Version, Versioned, Watcher};
use dyad_units::StoreId;

use super::KINDS;
use super::known::{Before, Cache};
use crate::error::ConfigError;

/// Pauses between attempts to learn all records after the start.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A store, and a node's cache of it.
///
/// Asking it asks the store, so while the store is away it fails; [`CachedStore::cache`] never does.
pub struct CachedStore {
    shared: Arc<Shared>,
    learner: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Arc<dyn Store>,
    cache: Arc<Cache>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    is_synced: bool,
    is_closing: bool,
}

impl CachedStore {
    /// Puts `cache` before `inner`, and learns all records in the background.
    ///
    /// # Errors
    /// [`ConfigError::Thread`].
    pub fn new(inner: Arc<dyn Store>, cache: Arc<Cache>) -> Result<Self, ConfigError> {
        cache.begin(inner.identity());
        let shared = Arc::new(Shared { inner, cache, progress: Mutex::default(), changed: Condvar::new() });
        let learning = Arc::clone(&shared);
        let learner = thread::Builder::new().name("store-learn".to_owned()).spawn(move || learning.learn_all());
        let learner = learner.map_err(|source| ConfigError::Thread { source })?;
        Ok(Self { shared, learner: Some(learner) })
    }

    /// What is known without asking.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.shared.cache
    }

    /// Whether all records were learned from the store since the start; waits for it at most so long.
    pub fn wait_until_synced(&self, longest: Duration) -> bool {
        let progress = self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.shared.changed.wait_timeout_while(progress, longest, |progress| !progress.is_synced);
        wait.unwrap_or_else(PoisonError::into_inner).0.is_synced
    }
}

impl Store for CachedStore {
    fn identity(&self) -> StoreId {
        self.shared.inner.identity()
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        let before = self.shared.cache.before(key);
        let found = self.shared.inner.get(key)?;
        self.shared.look(key, &before, found.as_ref())?;
        Ok(found)
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        self.shared.list(kind)
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        let before = self.shared.cache.before(key);
        match self.shared.inner.compare_and_set(key, expected, new) {
            Ok(version) => {
                match new {
                    Some(record) => self.shared.cache.learn(&Versioned { version, record: record.clone() }),
                    None => self.shared.cache.learn_gone(key, &before),
                }
                Ok(version)
            }
            Err(SetError::Conflict { current }) => {
                self.shared.look(key, &before, current.as_deref()).map_err(SetError::Store)?;
                Err(SetError::Conflict { current })
            }
            Err(error) => Err(error),
        }
    }

    fn watch(&self, mut watcher: Watcher) {
        let cache = Arc::clone(&self.shared.cache);
        self.shared.inner.watch(Box::new(move |changed| {
            if !cache.is_outdated(changed) {
                watcher(changed);
            }
        }));
    }
}

impl Shared {
    /// Checks an answer and keeps it.
    fn look(&self, key: Key, before: &Before, found: Option<&Versioned>) -> Result<(), StoreError> {
        match found {
            Some(found) => {
                before.check(found)?;
                self.cache.learn(found);
            }
            None => self.cache.learn_gone(key, before),
        }
        Ok(())
    }

    fn list(&self, kind: Kind) -> Result<Listed, StoreError> {
        let mut before = self.cache.before_all(kind);
        let heard = before.heard();
        let listed = self.inner.list_readable(kind)?;
        for found in &listed.records {
            let key = found.record.key();
            self.look(key, &before.take(key), Some(found))?;
        }
        // What cannot be read is as it was seen last; what was there before and is not in the list was deleted.
        for (key, _) in &listed.unreadable {
            before.take(*key);
        }
        for (key, before) in before.rest() {
            self.cache.learn_gone(key, &before);
        }
        self.cache.listed(kind, heard, listed.unreadable.is_empty());
        Ok(listed)
    }

    fn learn_all(&self) {
        let cache = Arc::clone(&self.cache);
        self.inner.watch(Box::new(move |changed| cache.hear(changed)));
        self.cache.begin_hearing();
        // The first round shows how far the store is at least; the second has all up to there, and what came later is
        // heard.
        let Some(at) = self.learn_lists() else { return };
        if self.learn_lists().is_none() {
            return;
        }
        self.cache.complete(at);
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).is_synced = true;
        self.changed.notify_all();
    }

    /// Asks for the records of all kinds, as long as it takes; the newest version of them, or none if there is no more
    /// time.
    fn learn_lists(&self) -> Option<Version> {
        let mut newest = Version(0);
        for kind in KINDS {
            let mut pause = PAUSE_MIN;
            loop {
                if self.is_closing() {
                    return None;
                }
                match self.list(kind) {
                    Ok(listed) => {
                        newest = listed.records.iter().map(|found| found.version).fold(newest, Version::max);
                        break;
                    }
                    Err(_) => self.sleep(pause),
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        Some(newest)
    }

    fn is_closing(&self) -> bool {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).is_closing
    }

    fn sleep(&self, pause: Duration) {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(progress, pause, |progress| !progress.is_closing));
    }
}

impl Drop for CachedStore {
    fn drop(&mut self) {
        self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner).is_closing = true;
        self.shared.changed.notify_all();
        if let Some(learner) = self.learner.take() {
            let _ = learner.join();
        }
    }
}
