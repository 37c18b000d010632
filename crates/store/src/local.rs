//! The config store of one machine: a redb file, opened by one process at a time.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dyad_cluster::{
    Changed, DecodeError, Key, Kind, Listed, Record, STORED_BYTES_MAX, SetError, Store, StoreError, Version, Versioned,
    Watcher,
};
use dyad_units::StoreId;
use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};

use crate::error::OpenError;
use crate::local::latest::Latest;
use crate::local::tables::{NUMBERS, NotSet, RECORDS, VERSION_ROW};
use crate::row::Raw;

pub(crate) mod latest;
pub(crate) mod tables;

/// Version of the tables below.
const FORMAT: u64 = 1;

const IDENTITY: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("identity");
const FORMAT_ROW: &str = "format";
const STORE_ROW: &str = "store";

/// redb's page cache: all records of a large installation, not its default of a gigabyte.
const CACHE_BYTES: usize = 8 << 20;

/// A config store in a file.
pub struct LocalStore {
    identity: StoreId,
    database: Database,
    /// Held over each change, so that watchers hear of changes in their order.
    watchers: Mutex<Vec<Watcher>>,
    latest: Latest,
    /// A commit failed: nobody knows what the file holds until it is opened again.
    is_doubtful: AtomicBool,
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
        let (watchers, latest, is_doubtful) = (Mutex::default(), Latest::new(), AtomicBool::new(false));
        Ok(Self { identity, database, watchers, latest, is_doubtful })
    }

    /// Puts the encoded record there, and tells whoever watches.
    pub(crate) fn set_raw(&self, key: Key, expected: Option<Version>, new: Option<&[u8]>) -> Result<Version, NotSet> {
        let mut watchers = self.watchers();
        let set = tables::set(self.database().map_err(NotSet::Untried)?, key, expected, new);
        if let Err(NotSet::Unknown(_)) = set {
            self.is_doubtful.store(true, Ordering::Release);
        }
        let version = set?;
        if !watchers.is_empty() {
            let now = new.map(|record| Raw { version, record: record.to_vec() }.decode(key)).transpose();
            // A record that cannot be read here is told to nobody here.
            if let Ok(now) = now {
                let changed = Changed { key, version, now };
                watchers.iter_mut().for_each(|watcher| watcher(&changed));
            }
        }
        drop(watchers);
        self.latest.set(version);
        Ok(version)
    }

    /// The file, as long as it can be believed: what a failed commit left in memory is not what a restart may find.
    pub(crate) fn database(&self) -> Result<&Database, StoreError> {
        if self.is_doubtful.load(Ordering::Acquire) {
            let reason = "its disk failed; mend the disk, then start it again".to_owned();
            return Err(StoreError::Unavailable { reason });
        }
        Ok(&self.database)
    }

    /// Raised after each change; whoever serves the store waits on it.
    pub(crate) fn latest(&self) -> &Latest {
        &self.latest
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
        let row = tables::get(self.database()?, key)?;
        row.map(|raw| readable(key, raw.decode(key))).transpose()
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        let mut listed = Listed::default();
        tables::each(self.database()?, Some(kind), |key, raw| {
            listed.add(key, raw.decode(key));
            ControlFlow::Continue(())
        })?;
        Ok(listed)
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        let encoded = encoded(key, new)?;
        self.set_raw(key, expected, encoded.as_deref()).map_err(|error| error.explain(key))
    }

    fn watch(&self, watcher: Watcher) {
        self.watchers().push(watcher);
    }
}

/// The record as bytes, if a store may keep it.
///
/// # Panics
/// If it has another key.
pub(crate) fn encoded(key: Key, new: Option<&Record>) -> Result<Option<Vec<u8>>, SetError> {
    assert!(new.is_none_or(|record| record.key() == key), "a record under another's key");
    let encoded = new.map(Record::encode);
    match encoded.as_ref().map(Vec::len).filter(|&len| len > STORED_BYTES_MAX) {
        Some(len) => Err(SetError::TooLarge { len, max: STORED_BYTES_MAX }),
        None => Ok(encoded),
    }
}

pub(crate) fn readable<T>(key: Key, decoded: Result<T, DecodeError>) -> Result<T, StoreError> {
    decoded.map_err(|source| StoreError::Record { key, source })
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

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

pub(crate) fn open_checked(path: &Path, is_new: bool) -> Result<Database, OpenError> {
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
pub(crate) fn guarded<T>(path: &Path, open: impl FnOnce() -> T) -> Result<T, OpenError> {
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

pub(crate) fn damaged(path: &Path, reason: &str) -> OpenError {
    OpenError::Damaged { path: PathBuf::from(path), reason: reason.to_owned() }
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
