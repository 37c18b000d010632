//! Records for the tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dyad_units::{Bytes, ImageId, LayerId, NodeId, PoolId, SegmentId, StoreId, VolumeId};

use crate::record::{Key, Kind, Record};
use crate::segment::{NewSegment, SegmentRecord};
use crate::store::{Listed, SetError, Store, StoreError, Version, Versioned, Watcher};
use crate::volume::{AckPolicy, LogicalBlock, VolumeRecord, VolumeState};
use crate::{Access, Name};

pub(crate) const HERE: NodeId = NodeId::from_bytes([1; 16]);
pub(crate) const THERE: NodeId = NodeId::from_bytes([2; 16]);
pub(crate) const VOLUME: VolumeId = VolumeId::from_bytes([3; 16]);
pub(crate) const SEGMENT: SegmentId = SegmentId::from_bytes([4; 16]);

pub(crate) fn image(at: u8) -> ImageId {
    ImageId::from_bytes([10 + at; 16])
}

pub(crate) fn segment(images: u8) -> SegmentRecord {
    SegmentRecord::new(NewSegment {
        id: SEGMENT,
        volume: VOLUME,
        layer: LayerId::from_bytes([5; 16]),
        size: Bytes::gib(1),
        images: (0..images).map(|at| (image(at), HERE, PoolId::from_bytes([20 + at; 16]))).collect(),
    })
}

pub(crate) fn volume(state: VolumeState) -> VolumeRecord {
    VolumeRecord {
        id: VOLUME,
        name: "vm-1".parse::<Name>().expect("a name"),
        size: Bytes::gib(1),
        block: LogicalBlock::Sector,
        segments: vec![SEGMENT],
        policy: AckPolicy::default(),
        cache: true,
        access: Access::default(),
        state,
        preferred: None,
        limits: crate::Limits::default(),
    }
}

/// What the next calls of a [`FakeStore`] do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mood {
    Works,
    /// Stores, and says that it does not know.
    Forgets,
    Away,
}

/// A store in memory.
pub(crate) struct FakeStore {
    rows: Mutex<BTreeMap<Key, Versioned>>,
    pub(crate) mood: Mood,
}

impl FakeStore {
    pub(crate) fn with(record: Record) -> Self {
        let row = (record.key(), Versioned { version: Version(1), record });
        Self { rows: Mutex::new(BTreeMap::from([row])), mood: Mood::Works }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<Key, Versioned>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), StoreError> {
        let away = StoreError::Unavailable { reason: "it is away".to_owned() };
        if self.mood == Mood::Away { Err(away) } else { Ok(()) }
    }
}

impl Store for FakeStore {
    fn identity(&self) -> StoreId {
        StoreId::from_bytes([7; 16])
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        self.check()?;
        Ok(self.rows().get(&key).cloned())
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        self.check()?;
        let rows = self.rows();
        let records = rows.values().filter(|row| row.record.key().kind() == kind).cloned().collect();
        Ok(Listed { records, ..Listed::default() })
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        self.check().map_err(SetError::Store)?;
        let mut rows = self.rows();
        let found = rows.get(&key).cloned();
        if found.as_ref().map(|row| row.version) != expected {
            return Err(SetError::Conflict { current: found.map(Box::new) });
        }
        let version = Version(found.map_or(1, |row| row.version.0 + 1));
        match new {
            Some(record) => drop(rows.insert(key, Versioned { version, record: record.clone() })),
            None => drop(rows.remove(&key)),
        }
        match self.mood {
            Mood::Forgets => Err(SetError::Unknown(StoreError::Unavailable { reason: "it forgot".to_owned() })),
            Mood::Works | Mood::Away => Ok(version),
        }
    }

    fn watch(&self, _watcher: Watcher) {}
}
