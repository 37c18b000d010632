//! The tables of a store's file: records, the counter of versions, and the newest changes.

use std::ops::ControlFlow;

use dyad_cluster::{Key, Kind, SetError, StoreError, Version};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use crate::row::{self, KEY_BYTES, Raw};

pub(crate) const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
pub(crate) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Version → key, then the record's row unless it was deleted.
const CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("changes");
pub(crate) const VERSION_ROW: &str = "version";

/// Changes that are remembered for watchers who were away: hours of a busy cluster. Who was away longer is given
/// everything.
const CHANGES_MAX: u64 = 1024;

/// A compare-and-set did not happen, or nobody knows.
#[derive(Debug)]
pub(crate) enum NotSet {
    Conflict(Option<Raw>),
    Unknown(StoreError),
    Untried(StoreError),
}

impl NotSet {
    pub(crate) fn explain(self, key: Key) -> SetError {
        match self {
            Self::Conflict(current) => match current.map(|raw| raw.decode(key)).transpose() {
                Ok(current) => SetError::Conflict { current: current.map(Box::new) },
                Err(source) => SetError::Store(StoreError::Record { key, source }),
            },
            Self::Unknown(error) => SetError::Unknown(error),
            Self::Untried(error) => SetError::Store(error),
        }
    }
}

/// One change as it is remembered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) version: Version,
    /// None: deleted.
    pub(crate) record: Option<Vec<u8>>,
}

/// What came after a version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Since {
    /// All changes, or the first of them, in order.
    Changes(Vec<Change>),
    /// The changes are not all remembered.
    Forgotten,
}

pub(crate) fn get(database: &Database, key: Key) -> Result<Option<Raw>, StoreError> {
    let records = database.begin_read().map_err(unavailable)?.open_table(RECORDS).map_err(unavailable)?;
    let row = records.get(row::key_bytes(key).as_slice()).map_err(unavailable)?;
    Ok(row.map(|row| shown(key, row.value())))
}

/// The version of the whole store.
pub(crate) fn version(database: &Database) -> Result<Version, StoreError> {
    version_in(&database.begin_read().map_err(unavailable)?)
}

fn version_in(view: &ReadTransaction) -> Result<Version, StoreError> {
    let numbers = view.open_table(NUMBERS).map_err(unavailable)?;
    let last = numbers.get(VERSION_ROW).map_err(unavailable)?;
    Ok(Version(last.map_or(0, |row| row.value())))
}

/// Shows the records of a kind, or all, as they were at one moment, in the order of keys, until `show` has
/// enough. Returns the store's version at that moment.
pub(crate) fn each(
    database: &Database,
    kind: Option<Kind>,
    mut show: impl FnMut(Key, Raw) -> ControlFlow<()>,
) -> Result<Version, StoreError> {
    let view = database.begin_read().map_err(unavailable)?;
    let records = view.open_table(RECORDS).map_err(unavailable)?;
    let (first, beyond) = match kind {
        Some(kind) => ([row::kind_byte(kind)], [row::kind_byte(kind) + 1]),
        None => ([0], [u8::MAX]),
    };
    for found in records.range(first.as_slice()..beyond.as_slice()).map_err(unavailable)? {
        let (key, row) = found.map_err(unavailable)?;
        let key = row::key_of(key.value())
            .ok_or_else(|| StoreError::Unavailable { reason: "it holds a key that is not one".to_owned() })?;
        if show(key, shown(key, row.value())).is_break() {
            break;
        }
    }
    version_in(&view)
}

/// At most `max` changes after `after`.
pub(crate) fn since(database: &Database, after: Version, max: usize) -> Result<Since, StoreError> {
    let view = database.begin_read().map_err(unavailable)?;
    let newest = version_in(&view)?;
    if after >= newest {
        return Ok(if after == newest { Since::Changes(Vec::new()) } else { Since::Forgotten });
    }
    let changes = match view.open_table(CHANGES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Since::Forgotten),
        changes => changes.map_err(unavailable)?,
    };
    let mut all = Vec::new();
    for found in changes.range(after.0 + 1..).map_err(unavailable)?.take(max) {
        let (version, value) = found.map_err(unavailable)?;
        let expected = after.0 + 1 + all.len() as u64;
        match decode_change(Version(version.value()), value.value()) {
            Some(change) if version.value() == expected => all.push(change),
            // Software that knew no changes wrote in between, or it rotted: the records tell.
            Some(_) | None => return Ok(Since::Forgotten),
        }
    }
    Ok(if all.is_empty() { Since::Forgotten } else { Since::Changes(all) })
}

pub(crate) fn set(
    database: &Database,
    key: Key,
    expected: Option<Version>,
    new: Option<&[u8]>,
) -> Result<Version, NotSet> {
    let mut change = database.begin_write().map_err(untried)?;
    change.set_durability(Durability::Immediate).map_err(untried)?;
    let version = put(&change, key, expected, new)?;
    // A commit that fails may have reached the disk all the same (M7).
    change.commit().map_err(|error| NotSet::Unknown(unavailable(error)))?;
    Ok(version)
}

fn put(change: &WriteTransaction, key: Key, expected: Option<Version>, new: Option<&[u8]>) -> Result<Version, NotSet> {
    let mut records = change.open_table(RECORDS).map_err(untried)?;
    let bytes = row::key_bytes(key);
    let found = records.get(bytes.as_slice()).map_err(untried)?;
    let current = found.map(|row| shown(key, row.value()));
    if current.as_ref().map(|current| current.version) != expected {
        return Err(NotSet::Conflict(current));
    }
    let mut numbers = change.open_table(NUMBERS).map_err(untried)?;
    let last = numbers.get(VERSION_ROW).map_err(untried)?.map_or(0, |row| row.value());
    let version = Version(last + 1);
    numbers.insert(VERSION_ROW, version.0).map_err(untried)?;
    let mut remembered = bytes.to_vec();
    match new {
        Some(record) => {
            let row = row::encode(key, version, record);
            remembered.extend_from_slice(&row);
            records.insert(bytes.as_slice(), row.as_slice()).map_err(untried)?;
        }
        None => {
            records.remove(bytes.as_slice()).map_err(untried)?;
        }
    }
    let mut changes = change.open_table(CHANGES).map_err(untried)?;
    changes.insert(version.0, remembered.as_slice()).map_err(untried)?;
    if let Some(forgotten) = version.0.checked_sub(CHANGES_MAX) {
        changes.remove(forgotten).map_err(untried)?;
    }
    Ok(version)
}

fn decode_change(version: Version, bytes: &[u8]) -> Option<Change> {
    let (key, row) = bytes.split_at_checked(KEY_BYTES)?;
    let key = row::key_of(key)?;
    let record = match row {
        [] => None,
        row => Some(row::decode(key, row).ok().filter(|raw| raw.version == version)?.record),
    };
    Some(Change { key, version, record })
}

/// One that rotted is there all the same, and stops only what it tells of.
fn shown(key: Key, bytes: &[u8]) -> Raw {
    row::decode(key, bytes).unwrap_or_else(|_| Raw::damaged())
}

pub(crate) fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Unavailable { reason: error.into().to_string() }
}

fn untried(error: impl Into<redb::Error>) -> NotSet {
    NotSet::Untried(unavailable(error))
}
