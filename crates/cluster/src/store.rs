//! The trait of a config store (design section 8).

use std::fmt;

use dyad_units::{Epoch, StoreId};

use crate::record::{DecodeError, Key, Kind, Record};

/// Version of one stored record; it differs after every change of any record of the store.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.0)
    }
}

/// A record and the version at which it was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Versioned {
    /// For the next compare-and-set.
    pub version: Version,
    /// The record.
    pub record: Record,
}

/// The records of a kind, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Those that this software can read.
    pub records: Vec<Versioned>,
    /// The others: of newer software, or damaged. They are there, so nothing may be concluded from their absence above.
    pub unreadable: Vec<(Key, DecodeError)>,
}

impl Listed {
    /// Adds a record, or what is wrong with it.
    pub fn add(&mut self, key: Key, found: Result<Versioned, DecodeError>) {
        match found {
            Ok(found) => self.records.push(found),
            Err(error) => self.unreadable.push((key, error)),
        }
    }
}

/// A record changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// Which one.
    pub key: Key,
    /// Of the change: the record's new version; of a deletion the version of the deletion, or where the
    /// deletion was only found out after an outage, of the store at that time.
    pub version: Version,
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
    /// Another store stands at its address: a new or re-seeded one, or one of another cluster (section 8).
    #[error("the config store is {found}, not {expected}: adopt it by command if it was re-seeded on purpose")]
    Other {
        /// The one that was agreed upon.
        expected: StoreId,
        /// The one that answered.
        found: StoreId,
    },
    /// The store knows less than it once answered: an old copy of it was put in its place.
    #[error("the config store was put back from {seen} to {found}: re-seed it from what the nodes know")]
    WentBack {
        /// The newest version that was seen.
        seen: Version,
        /// Its version now.
        found: Version,
    },
    /// The answer is older than what was seen of this record before, in the store or at an image.
    #[error("the config store's answer on {key:?} is older than what is known already: it was put back")]
    Older {
        /// Which record.
        key: Key,
    },
    /// Equal epochs with different content: two stores accepted changes (section 8).
    #[error("{key:?} has epoch {epoch} in the config store with another content than is known already")]
    Differs {
        /// Which record.
        key: Key,
        /// The epoch that both have.
        epoch: Epoch,
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

    /// All records of a kind that can be read, and which cannot: for whoever goes on with the others, so that one record of
    /// newer software does not stop what has nothing to do with it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError>;

    /// All records of a kind, in the order of their ids: for whoever concludes something from what is not there.
    ///
    /// # Errors
    /// [`StoreError`], also if one of them cannot be read.
    fn list(&self, kind: Kind) -> Result<Vec<Versioned>, StoreError> {
        let listed = self.list_readable(kind)?;
        match listed.unreadable.into_iter().next() {
            Some((key, source)) => Err(StoreError::Record { key, source }),
            None => Ok(listed.records),
        }
    }

    /// Puts `new` (none: deletes) in the place of what stands at version `expected` (none: nothing stands).
    /// Returns the new version; of a deletion, the version of the deletion.
    ///
    /// # Errors
    /// [`SetError`].
    ///
    /// # Panics
    /// If `new` has another key: a fault of the caller.
    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError>;

    /// Calls `watcher` for every later change, for as long as the store lives, in the order of versions and
    /// also over outages of the store. After an outage longer than the store's memory of changes it hears the
    /// newest content of each record that changed, the deleted ones last. What stands there already is asked
    /// for after the call; a watcher of a store that was never reached yet hears all of it once it is.
    fn watch(&self, watcher: Watcher);
}
