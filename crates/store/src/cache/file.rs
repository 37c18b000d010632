//! The cache's file.

use std::fs;
use std::path::Path;

use dyad_cluster::{Key, Version, Versioned};
use dyad_units::StoreId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use crate::error::OpenError;
use crate::local::{damaged, guarded, open_checked};
use crate::row;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("cached");
const STORE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cached-of");
const STORE_ROW: &str = "store";
const AT_ROW: &str = "at";

/// The file, open.
pub(crate) struct CacheFile {
    database: Database,
}

/// What is in it.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) store: Option<StoreId>,
    pub(crate) at: Version,
    pub(crate) records: Vec<Versioned>,
}

impl CacheFile {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<(Self, Content), OpenError> {
        let is_new = !path.try_exists().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let database = open_checked(path, is_new)?;
        let file = Self { database };
        if is_new {
            return Ok((file, Content::default()));
        }
        let content = guarded(path, || file.read())?.map_err(|error| damaged(path, &error.to_string()))?;
        Ok((file, content))
    }

    /// What is in the cache at `path`, which nobody uses; none: it is no cache.
    pub(crate) fn look(path: &Path) -> Result<Option<Content>, OpenError> {
        let file = Self { database: open_checked(path, false)? };
        let read = || -> Result<Option<Content>, redb::Error> {
            let view = file.database.begin_read()?;
            if view.list_tables()?.any(|table| table.name() == STORE.name()) { file.read().map(Some) } else { Ok(None) }
        };
        guarded(path, read)?.map_err(|error| damaged(path, &error.to_string()))
    }

    /// Puts a file that cannot be used out of the way.
    pub(super) fn set_aside(path: &Path) -> Result<(), OpenError> {
        fs::rename(path, path.with_extension("damaged"))
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })
    }

    fn read(&self) -> Result<Content, redb::Error> {
        let view = self.database.begin_read()?;
        let of = match view.open_table(STORE) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Content::default()),
            of => of?,
        };
        let store = of.get(STORE_ROW)?.and_then(|row| row.value().try_into().ok()).map(StoreId::from_bytes);
        let at = of.get(AT_ROW)?.and_then(|row| row.value().try_into().ok()).map_or(0, u64::from_le_bytes);
        let (mut records, mut is_whole) = (Vec::new(), true);
        for found in view.open_table(RECORDS)?.iter()? {
            let (key, value) = found?;
            // One that rotted, or of a kind or version that only other software knows, is not known.
            let read = row::key_of(key.value()).and_then(|key| row::decode(key, value.value()).ok()?.decode(key).ok());
            is_whole &= read.is_some();
            records.extend(read);
        }
        // With one missing it must not be said that all is known: for a re-seed the record would be a deleted one.
        let at = if is_whole { Version(at) } else { Version(0) };
        Ok(Content { store, at, records })
    }

    /// Writes what changed, at once or not at all.
    pub(super) fn write(
        &self,
        store: Option<StoreId>,
        at: Version,
        changed: &[(Key, Option<Versioned>)],
    ) -> Result<(), redb::Error> {
        let change = self.database.begin_write()?;
        {
            let mut of = change.open_table(STORE)?;
            if let Some(store) = store {
                of.insert(STORE_ROW, store.to_bytes().as_slice())?;
            }
            of.insert(AT_ROW, at.0.to_le_bytes().as_slice())?;
            let mut records = change.open_table(RECORDS)?;
            for (key, now) in changed {
                let name = row::key_bytes(*key);
                match now {
                    Some(now) => {
                        let value = row::encode(*key, now.version, &now.record.encode());
                        records.insert(name.as_slice(), value.as_slice())?;
                    }
                    None => drop(records.remove(name.as_slice())?),
                }
            }
        }
        change.commit()?;
        Ok(())
    }
}
