//! Records to store, and how to wait.

use std::time::{Duration, Instant};

use dyad_cluster::{Key, PoolRecord, Record, SetError, Store, Version, Versioned};
use dyad_units::{NodeId, PoolId};

/// Longest wait for anything; only a failure takes that long.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub fn pool(id: u8, name: &str) -> Record {
    let (id, node) = (PoolId::from_bytes([id; 16]), NodeId::from_bytes([1; 16]));
    Record::Pool(PoolRecord { id, name: name.parse().unwrap(), node, disks: Vec::new() })
}

pub fn name(record: &Record) -> String {
    let Record::Pool(pool) = record else { panic!("not a pool: {record:?}") };
    pool.name.as_str().to_owned()
}

pub fn set(store: &dyn Store, expected: Option<Version>, record: &Record) -> Result<Version, SetError> {
    store.compare_and_set(record.key(), expected, Some(record))
}

/// The record, from a store that may be about to come back.
pub fn get(store: &dyn Store, key: Key) -> Option<Versioned> {
    eventually("the store answers", || store.get(key).ok())
}

/// Puts the record there, whatever is there now, at a store that may be about to come back.
pub fn put(store: &dyn Store, record: &Record) -> Version {
    eventually("the store takes a record", || {
        let found = store.get(record.key()).ok()?;
        if let Some(found) = &found
            && found.record == *record
        {
            return Some(found.version);
        }
        set(store, found.map(|found| found.version), record).ok()
    })
}

/// Asks until there is an answer. What is asked waits itself, or is about another process.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
