//! The config store of a run: the real rules of `cluster::propose` over rows in memory. What is asked may be lost, may
//! be carried out late, and its answer may be lost (M7).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dyad_cluster::{
    Key, Kind, Listed, Outcome, Record, SegmentRecord, SetError, Store, StoreError, Version, Versioned, Watcher,
};
use dyad_units::{Epoch, SegmentId, StoreId};

/// Rows in memory.
#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Key, Versioned>,
    version: u64,
}

/// The store as `cluster` sees it.
#[derive(Debug, Default)]
pub struct ConfigStore {
    rows: Mutex<Rows>,
}

impl ConfigStore {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a first record there.
    pub fn seed(&self, record: SegmentRecord) {
        let row = Versioned { version: Version(0), record: Record::Segment(record) };
        self.rows().rows.insert(row.record.key(), row);
    }

    /// The segment's record.
    pub fn segment(&self, id: SegmentId) -> Option<SegmentRecord> {
        match self.rows().rows.get(&Key::Segment(id)).map(|row| &row.record) {
            Some(Record::Segment(record)) => Some(record.clone()),
            _ => None,
        }
    }

    /// A proposal arrives.
    pub fn propose(&self, record: &SegmentRecord, expected: Epoch) -> Outcome {
        dyad_cluster::propose(self, record, expected)
    }
}

impl Store for ConfigStore {
    fn identity(&self) -> StoreId {
        StoreId::from_bytes([7; 16])
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        Ok(self.rows().rows.get(&key).cloned())
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        let records = self.rows().rows.values().filter(|row| row.record.key().kind() == kind).cloned().collect();
        Ok(Listed { records, ..Listed::default() })
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        let mut rows = self.rows();
        let found = rows.rows.get(&key).cloned();
        if found.as_ref().map(|row| row.version) != expected {
            return Err(SetError::Conflict { current: found.map(Box::new) });
        }
        rows.version += 1;
        let version = Version(rows.version);
        match new {
            Some(record) => drop(rows.rows.insert(key, Versioned { version, record: record.clone() })),
            None => drop(rows.rows.remove(&key)),
        }
        Ok(version)
    }

    fn watch(&self, _watcher: Watcher) {}
}
