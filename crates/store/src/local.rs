//! The config store of one machine: a redb file, opened by one process at a time.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dyad_cluster::{
    Changed, Key, Kind, Record, STORED_BYTES_MAX, SetError, Store, StoreError, Version, Versioned, Watcher,
};
use dyad_units::StoreId;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use crate::error::OpenError;
use crate::row;

/// Version of the tables below.
const FORMAT: u64 = 1;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const IDENTITY: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("identity");
const FORMAT_ROW: &str = "format";
const VERSION_ROW: &str = "version";
const STORE_ROW: &str = "store";

/// redb's page cache: all records of a large installation, not its default of a gigabyte.
const CACHE_BYTES: usize = 8 << 20;

/// A config store in a file.
pub struct LocalStore {
    identity: StoreId,
    database: Database,
    /// Held over each change, so that watchers hear of changes in their order.
    watchers: Mutex<Vec<Watcher>>,
}

impl LocalStore {
    /// Opens the store at `path`. If there is none, makes one with the identity that `fresh` gives.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, fresh: impl FnOnce() -> StoreId) -> Result<Self, OpenError> {
        if !path.try_exists().map_err(|source| io_error(path, source))? {
            create(path, fresh())?;
        }
        let mut database = open_checked(path, false)?;
        // redb checks its checksums only after an unclean end; the file is small, so check them always.
        match guarded(path, || database.check_integrity())? {
            Ok(_) => {}
            Err(error) => return Err(open_error(path, error)),
        }
        let identity = guarded(path, || identify(path, &database))??;
        Ok(Self { identity, database, watchers: Mutex::new(Vec::new()) })
    }

    fn read_row(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        let records = self.database.begin_read().map_err(unavailable)?.open_table(RECORDS).map_err(unavailable)?;
        let row = records.get(row::key_bytes(key).as_slice()).map_err(unavailable)?;
        row.map(|row| decode(key, row.value())).transpose()
    }

    fn set(&self, key: Key, expected: Option<Version>, new: Option<&[u8]>) -> Result<Version, SetError> {
        let mut change = self.database.begin_write().map_err(untried)?;
        change.set_durability(Durability::Immediate).map_err(untried)?;
        let version = {
            let mut records = change.open_table(RECORDS).map_err(untried)?;
            let bytes = row::key_bytes(key);
            let found = records.get(bytes.as_slice()).map_err(untried)?;
            let current = found.map(|row| decode(key, row.value())).transpose().map_err(SetError::Store)?;
            if current.as_ref().map(|current| current.version) != expected {
                return Err(SetError::Conflict { current: current.map(Box::new) });
            }
            let mut numbers = change.open_table(NUMBERS).map_err(untried)?;
            let last = numbers.get(VERSION_ROW).map_err(untried)?;
            let version = Version(last.map_or(0, |row| row.value()) + 1);
            numbers.insert(VERSION_ROW, version.0).map_err(untried)?;
            match new {
                Some(record) => {
                    let row = row::encode(key, version, record);
                    records.insert(bytes.as_slice(), row.as_slice()).map_err(untried)?;
                }
                None => {
                    records.remove(bytes.as_slice()).map_err(untried)?;
                }
            }
            version
        };
        // A commit that fails may have reached the disk all the same (M7).
        change.commit().map_err(|error| SetError::Unknown(unavailable(error)))?;
        Ok(version)
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        // A watcher that panicked leaves the list whole.
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for LocalStore {
    fn identity(&self) -> StoreId {
        self.identity
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        self.read_row(key)
    }

    fn list(&self, kind: Kind) -> Result<Vec<Versioned>, StoreError> {
        let records = self.database.begin_read().map_err(unavailable)?.open_table(RECORDS).map_err(unavailable)?;
        let first = [row::kind_byte(kind)];
        let beyond = [row::kind_byte(kind) + 1];
        let rows = records.range(first.as_slice()..beyond.as_slice()).map_err(unavailable)?;
        let mut all = Vec::new();
        for found in rows {
            let (key, row) = found.map_err(unavailable)?;
            let key = row::key_of(key.value())
                .ok_or_else(|| StoreError::Unavailable { reason: "it holds a key that is not one".to_owned() })?;
            all.push(decode(key, row.value())?);
        }
        Ok(all)
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        assert!(new.is_none_or(|record| record.key() == key), "a record under another's key");
        let encoded = new.map(Record::encode);
        if let Some(len) = encoded.as_ref().map(Vec::len).filter(|&len| len > STORED_BYTES_MAX) {
            return Err(SetError::TooLarge { len, max: STORED_BYTES_MAX });
        }
        let mut watchers = self.watchers();
        let version = self.set(key, expected, encoded.as_deref())?;
        let changed = Changed { key, now: new.map(|record| Versioned { version, record: record.clone() }) };
        for watcher in watchers.iter_mut() {
            watcher(&changed);
        }
        Ok(version)
    }

    fn watch(&self, watcher: Watcher) {
        self.watchers().push(watcher);
    }
}

fn decode(key: Key, bytes: &[u8]) -> Result<Versioned, StoreError> {
    row::decode(key, bytes).map_err(|source| StoreError::Record { key, source })
}

fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Unavailable { reason: error.into().to_string() }
}

fn untried(error: impl Into<redb::Error>) -> SetError {
    SetError::Store(unavailable(error))
}

/// Makes the file under another name and gives it its name when it is whole: a crash in between leaves
/// nothing that a later start would take for a store.
fn create(path: &Path, identity: StoreId) -> Result<(), OpenError> {
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(path, error)),
        Ok(()) | Err(_) => {}
    }
    let database = open_checked(&unfinished, true)?;
    let filled = (|| -> Result<(), redb::Error> {
        let change = database.begin_write()?;
        change.open_table(RECORDS)?;
        {
            let mut numbers = change.open_table(NUMBERS)?;
            numbers.insert(FORMAT_ROW, FORMAT)?;
            numbers.insert(VERSION_ROW, 0)?;
        }
        change.open_table(IDENTITY)?.insert(STORE_ROW, identity.to_bytes().as_slice())?;
        change.commit()?;
        Ok(())
    })();
    filled.map_err(|error| io_error(path, io::Error::other(error)))?;
    drop(database);
    // Not over a store that somebody else finished meanwhile.
    match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(path, error)),
        Ok(()) | Err(_) => {}
    }
    let renamed = fs::remove_file(&unfinished).and_then(|()| sync_parent(path));
    renamed.map_err(|source| io_error(path, source))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn open_checked(path: &Path, is_new: bool) -> Result<Database, OpenError> {
    // Owner only: the records hold CHAP secrets.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(is_new).mode(0o600);
    let file = options.open(path).map_err(|source| io_error(path, source))?;
    let is_empty = file.metadata().map_err(|source| io_error(path, source))?.len() == 0;
    if is_empty && !is_new {
        return Err(damaged(path, "the file is empty"));
    }
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    guarded(path, || builder.create_file(file))?.map_err(|error| open_error(path, error))
}

/// redb asserts what its checksums should have caught; a damaged file must not end the process.
fn guarded<T>(path: &Path, open: impl FnOnce() -> T) -> Result<T, OpenError> {
    panic::catch_unwind(AssertUnwindSafe(open)).map_err(|_| damaged(path, "its structure is broken"))
}

fn identify(path: &Path, database: &Database) -> Result<StoreId, OpenError> {
    let read = || -> Result<(Option<u64>, Option<[u8; 16]>), redb::Error> {
        let view = database.begin_read()?;
        let format = view.open_table(NUMBERS)?.get(FORMAT_ROW)?.map(|row| row.value());
        let id = view.open_table(IDENTITY)?.get(STORE_ROW)?.and_then(|row| row.value().try_into().ok());
        Ok((format, id))
    };
    match read() {
        Ok((Some(found), _)) if found > FORMAT => Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT }),
        Ok((Some(FORMAT), Some(id))) => Ok(StoreId::from_bytes(id)),
        Ok(_) => Err(damaged(path, "it does not say which store it is")),
        Err(error) => Err(damaged(path, &error.to_string())),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            io_error(path, source)
        }
        other => damaged(path, &other.to_string()),
    }
}

fn damaged(path: &Path, reason: &str) -> OpenError {
    OpenError::Damaged { path: PathBuf::from(path), reason: reason.to_owned() }
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
