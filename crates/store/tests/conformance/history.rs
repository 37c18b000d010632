//! What happened, as watchers heard it and as setters were told: one must explain the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use dyad_cluster::{Changed, Key, Record, SetError, Store, Version};

use super::records::{PATIENCE, name};

/// What a watcher heard.
#[derive(Clone, Default)]
pub struct Heard(Arc<(Mutex<Vec<Changed>>, Condvar)>);

impl Heard {
    /// Hears what changes in the store from now on.
    pub fn of(store: &dyn Store) -> Self {
        let heard = Self::default();
        let log = heard.clone();
        store.watch(Box::new(move |changed| {
            log.lock().push(changed.clone());
            log.0.1.notify_all();
        }));
        heard
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Changed>> {
        self.0.0.lock().unwrap()
    }

    /// Waits until a change of this version, or a later one, was heard; gives all.
    pub fn until(&self, version: Version) -> Vec<Changed> {
        let is_there = |log: &Vec<Changed>| log.last().is_some_and(|last| last.version >= version);
        let wait = self.0.1.wait_timeout_while(self.lock(), PATIENCE, |log| !is_there(log));
        let log = wait.unwrap().0;
        assert!(is_there(&log), "{version} was never heard of, the last of {} is {:?}", log.len(), log.last());
        log.clone()
    }

    pub fn so_far(&self) -> Vec<Changed> {
        self.lock().clone()
    }
}

/// Each change once, in the order of versions.
pub fn assert_in_order(log: &[Changed]) {
    for pair in log.windows(2) {
        assert!(pair[0].version < pair[1].version, "{:?} then {:?}", pair[0], pair[1]);
    }
    for changed in log {
        assert!(changed.now.as_ref().is_none_or(|now| now.version == changed.version));
    }
}

/// What setters were told of their attempts, each of which had a name of its own.
#[derive(Default)]
pub struct Told(Mutex<Vec<Attempt>>);

struct Attempt {
    key: Key,
    name: String,
    expected: Option<Version>,
    outcome: Result<Version, SetError>,
}

impl Told {
    pub fn keep(&self, expected: Option<Version>, record: &Record, outcome: &Result<Version, SetError>) {
        let (key, name, outcome) = (record.key(), name(record), outcome.clone());
        self.0.lock().unwrap().push(Attempt { key, name, expected, outcome });
    }

    /// How many were said to be stored.
    pub fn stored(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|attempt| attempt.outcome.is_ok()).count()
    }

    /// How many failed otherwise than by a conflict.
    pub fn failed(&self) -> usize {
        let failed = |attempt: &&Attempt| matches!(attempt.outcome, Err(SetError::Unknown(_) | SetError::Store(_)));
        self.0.lock().unwrap().iter().filter(failed).count()
    }

    /// Against what was heard, without a gap, from the start on: what was said to be stored is there, at its version
    /// and after the version that it expected; what was said not to be is not; of the others either is right (M7).
    /// Returns how many were stored, refused, and unknown.
    pub fn check(&self, log: &[Changed]) -> [usize; 3] {
        assert_in_order(log);
        let mut stored: BTreeMap<(Key, String), (Version, Option<Version>)> = BTreeMap::new();
        let mut before: BTreeMap<Key, Version> = BTreeMap::new();
        for changed in log {
            let earlier = match &changed.now {
                Some(_) => before.insert(changed.key, changed.version),
                None => before.remove(&changed.key),
            };
            if let Some(now) = &changed.now {
                let again = stored.insert((changed.key, name(&now.record)), (changed.version, earlier));
                assert_eq!(again, None, "{changed:?} happened twice");
            }
        }
        let mut counts = [0; 3];
        for Attempt { key, name, expected, outcome } in self.0.lock().unwrap().iter() {
            let found = stored.get(&(*key, name.clone()));
            match outcome {
                Ok(version) => assert_eq!(found, Some(&(*version, *expected)), "{name} was said to be stored"),
                Err(SetError::Unknown(_)) => {
                    assert!(
                        found.is_none_or(|(_, earlier)| earlier == expected),
                        "{name}: {found:?}, not {expected:?}"
                    );
                }
                Err(error) => assert_eq!(found, None, "{name}, of which was said: {error}"),
            }
            let kind = match outcome {
                Ok(_) => 0,
                Err(SetError::Unknown(_)) => 2,
                Err(_) => 1,
            };
            counts[kind] += 1;
        }
        counts
    }
}
