//! The trait of a config store (design section 8).

use dyad_units::StoreId;

use crate::record::{DecodeError, Key, Kind, Record};

/// Version of one stored record; it differs after every change of any record of the store.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

/// A record and the version at which it was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Versioned {
    /// For the next compare-and-set.
    pub version: Version,
    /// The record.
    pub record: Record,
}

/// A record changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// Which one.
    pub key: Key,
    /// Its new content; none: it was deleted.
    pub now: Option<Versioned>,
}

/// Called after each change, in the order of changes. Must return at once and not call the store: hand the
/// news to a queue.
pub type Watcher = Box<dyn FnMut(&Changed) + Send>;

/// The store could not be asked or could not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A stored record cannot be used.
    #[error("{key:?} in the config store cannot be read")]
    Record {
        /// Which one.
        key: Key,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The store cannot be reached, or its disk failed.
    #[error("the config store cannot be used: {reason}")]
    Unavailable {
        /// What it said.
        reason: String,
    },
}

/// A compare-and-set did not happen, or nobody knows.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// The record is not at the expected version; nothing changed.
    #[error("the record was changed by somebody else; look at it again")]
    Conflict {
        /// What is there now; none: nothing.
        current: Option<Box<Versioned>>,
    },
    /// The request cannot be carried out by any store; nothing changed.
    #[error("the record has {len} bytes encoded, more than the {max} that a store keeps")]
    TooLarge {
        /// Encoded size.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// It may have happened, or may happen yet (M7): ask again until it is known.
    #[error("it is not known whether the change was stored")]
    Unknown(#[source] StoreError),
    /// The store did not try; nothing changed.
    #[error(transparent)]
    Store(StoreError),
}

/// Keeps all records. Blocking: called from a thread of the control plane, never from a reactor.
///
/// Reads are linearizable, and a compare-and-set is answered after it is durable (design section 8).
pub trait Store: Send + Sync {
    /// Which store this is; after a restore or a re-seed it is another one.
    fn identity(&self) -> StoreId;

    /// The record, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError>;

    /// All records of a kind, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(&self, kind: Kind) -> Result<Vec<Versioned>, StoreError>;

    /// Puts `new` (none: deletes) in the place of what stands at version `expected` (none: nothing stands).
    /// Returns the new version; of a deletion, the version of the deletion.
    ///
    /// # Errors
    /// [`SetError`].
    ///
    /// # Panics
    /// If `new` has another key: a fault of the caller.
    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError>;

    /// Calls `watcher` for every later change, for as long as the store lives.
    fn watch(&self, watcher: Watcher);
}
