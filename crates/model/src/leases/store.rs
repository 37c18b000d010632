//! A config store of one record, whose compare-and-sets can go wrong in every way that the trait allows.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dyad_cluster::{
    ImageState, Key, Kind, Listed, Outcome, Record, SegmentRecord, SetError, Store, StoreError, Version, Versioned,
    Watcher, propose,
};
use dyad_units::{Epoch, StoreId};

/// The store's identity.
pub(crate) const STORE: StoreId = StoreId::from_bytes([0x55; 16]);

/// A record, shared; shows what may differ between two records of the model.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Known(pub(crate) Arc<SegmentRecord>);

impl Known {
    pub(crate) fn new(record: SegmentRecord) -> Self {
        Self(Arc::new(record))
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.0.epoch
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = &*self.0;
        let owner = record.owner.map_or(0, |owner| owner.to_bytes()[0]);
        write!(f, "{}:{owner}{}", record.epoch, if record.flushed_alone { "f" } else { "" })?;
        if record.store.is_some() {
            write!(f, "s")?;
        }
        for image in &record.images {
            let state = match image.state {
                ImageState::InSync => 'I',
                ImageState::Syncing => 'Y',
                ImageState::Stale => 'S',
                ImageState::Detached => 'D',
            };
            write!(f, " {state}")?;
            if let Some(reason) = image.reason {
                write!(f, "({reason:?})")?;
            }
            if let Some(life) = image.incarnation {
                write!(f, "@{}", life.start)?;
            }
        }
        Ok(())
    }
}

/// How a proposal fares. One that the store never hears of changes nothing and so is none of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It comes to the store, and its answer comes back.
    Answered,
    /// It is stored if it can be, and the answer is lost.
    AnswerLost,
    /// Its sender is told that nobody knows; it comes to the store at any time later.
    Late,
}

struct Held {
    record: SegmentRecord,
    fate: Fate,
}

/// The store for the time of one call.
struct OneCall(Mutex<Held>);

impl OneCall {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn away() -> StoreError {
    StoreError::Unavailable { reason: "away".to_owned() }
}

/// Version of a record: its epoch, which every change raises.
fn versioned(record: &SegmentRecord) -> Versioned {
    Versioned { version: Version(u64::from(record.epoch.value())), record: Record::Segment(record.clone()) }
}

impl Store for OneCall {
    fn identity(&self) -> StoreId {
        STORE
    }

    fn get(&self, _: Key) -> Result<Option<Versioned>, StoreError> {
        Ok(Some(versioned(&self.held().record)))
    }

    fn list_readable(&self, _: Kind) -> Result<Listed, StoreError> {
        Err(away())
    }

    fn compare_and_set(&self, _: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        let mut held = self.held();
        let current = versioned(&held.record);
        if expected != Some(current.version) {
            return Err(SetError::Conflict { current: Some(Box::new(current)) });
        }
        let Some(Record::Segment(new)) = new else { return Err(SetError::Store(away())) };
        match held.fate {
            Fate::Late => Err(SetError::Unknown(away())),
            Fate::AnswerLost => {
                held.record = new.clone();
                Err(SetError::Unknown(away()))
            }
            Fate::Answered => {
                held.record = new.clone();
                Ok(versioned(new).version)
            }
        }
    }

    fn watch(&self, _: Watcher) {}
}

/// Proposes to the store that holds `stored`; what it holds then, and what the proposer is told.
pub(crate) fn put(stored: &Known, record: &Known, expected: Epoch, fate: Fate) -> (Known, Outcome) {
    let store = OneCall(Mutex::new(Held { record: (*stored.0).clone(), fate }));
    let outcome = propose(&store, &record.0, expected);
    let held = store.0.into_inner().unwrap_or_else(PoisonError::into_inner).record;
    let after = if held == *stored.0 { stored.clone() } else { Known::new(held) };
    (after, outcome)
}
