//! Pools: opening at the start, making, deleting.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dyad_cluster::{DiskRecord, Key, Kind, Name, PoolRecord, Record, SetError, VolumeState};
use dyad_pool::{FormatConfig, OpenConfig, Pool};
use dyad_units::{Bytes, DiskId, Period, PoolId};

use super::{Admin, chain};
use crate::catalog::KnownPool;
use crate::clock;
use crate::control::{CreatePool, CreatePoolError, DeletePoolError, LogInfo, QueryError};
use crate::disk::{CreateDiskError, DiskFile};
use crate::reactor::{Message, guarded};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Admin {
    /// Opens all pools of the node, side by side: one that is missing or slow does not hold up the others.
    pub(super) fn open_pools(&self) {
        let records: Vec<_> = (self.list(Kind::Pool).into_iter())
            .filter_map(|record| match record {
                Record::Pool(pool) if pool.node == self.node => Some(pool),
                _ => None,
            })
            .collect();
        std::thread::scope(|scope| {
            for record in records {
                scope.spawn(|| self.open_known_pool(record));
            }
        });
    }

    pub(super) fn open_known_pool(&self, record: PoolRecord) {
        let opened = self.open_pool(&record, self.settings.disk.lock_timeout);
        let (fault, log) = match opened {
            Ok(log) => (None, Some(log)),
            Err(error) => {
                let reason = chain(&*error);
                tracing::error!(pool = %record.name, reason, "pool not in use");
                (Some(reason), None)
            }
        };
        self.catalog.lock().put_pool(KnownPool { record, fault, log });
    }

    pub(super) fn open_pool(&self, record: &PoolRecord, lock_timeout: Period) -> Result<LogInfo, AnyError> {
        let disk = match &record.disks[..] {
            [disk] => disk,
            disks => return Err(format!("it has {} disks; this version knows pools of one disk", disks.len()).into()),
        };
        let file = DiskFile::open(Path::new(&disk.path), lock_timeout)?;
        self.take_in(record, disk.id, file)
    }

    /// Opens the pool on a locked disk and hands it to the reactor.
    fn take_in(&self, record: &PoolRecord, disk: DiskId, mut file: DiskFile) -> Result<LogInfo, AnyError> {
        let memory = self.shm.map(disk, self.settings.recent_log)?;
        let log = LogInfo { path: memory.path().to_owned(), size: Bytes::new(memory.bytes().len() as u64) };
        let config = OpenConfig { pool: Some(record.id), slab: self.slab.clone() };
        let begun = clock::now();
        let (pool, report) = opened(|| Pool::open(&mut file, Box::new(memory), &config))?;
        let took = clock::now().since(begun);
        tracing::info!(pool = %record.name, path = %file.path().display(), %took, ?report, "pool open");
        if !file.is_direct() {
            tracing::warn!(pool = %record.name, "the file system knows no O_DIRECT: flushes are slower");
        }
        let file = Arc::new(file);
        self.ask(|reply| Message::AddPool { pool: Box::new(pool), file, reply })??;
        Ok(log)
    }

    pub(super) fn create_pool(&self, request: &CreatePool) -> Result<(), CreatePoolError> {
        let name: Name = request.name.parse().map_err(|_| CreatePoolError::BadName { name: request.name.clone() })?;
        let path = absolute(&request.path);
        let unread = |error| CreatePoolError::Store(Box::new(SetError::Store(error)));
        // One that cannot be read may have this name, or this disk.
        self.store.list(Kind::Pool).map_err(unread)?;
        self.check_pool_is_new(&name, &path)?;
        let fault = |source: AnyError| CreatePoolError::Disk { path: path.clone(), source };
        let (mut file, is_new) = self.pool_disk(&path, request)?;
        if request.assume_atomic_4k {
            file.assume_atomic_4k();
        }
        let undo = |error: CreatePoolError| {
            // Ours since a moment ago, and of no use to anybody.
            if is_new && let Err(left) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %left, "a new pool file could not be removed");
            }
            error
        };
        if let Some(at) = file.first_used_byte().map_err(|error| undo(fault(error.into())))? {
            let what = format!("there is data at byte {at}");
            return Err(undo(CreatePoolError::NotEmpty { path: path.clone(), what }));
        }
        if !is_new {
            file.reserve().map_err(|error| fault(error.into()))?;
        }
        let pool = PoolId::from_bytes(clock::random_id());
        let disk = DiskId::from_bytes(clock::random_id());
        let config = FormatConfig { pool, disk, node: self.node, overwrite: false };
        Pool::format(&mut file, &config)
            .map_err(|source| undo(CreatePoolError::Format { path: path.clone(), source: source.into() }))?;
        let disks = vec![DiskRecord { id: disk, path: path.to_string_lossy().into_owned() }];
        let record = PoolRecord { id: pool, name, node: self.node, disks };
        self.insert(&Record::Pool(record.clone())).map_err(|error| undo(CreatePoolError::Store(Box::new(error))))?;
        // From here on the pool exists, whatever comes: the record says so.
        let opened = self.take_in(&record, disk, file);
        let (known, result) = match opened {
            Ok(log) => (KnownPool { record, fault: None, log: Some(log) }, Ok(())),
            Err(error) => (KnownPool { record, fault: Some(chain(&*error)), log: None }, Err(fault(error))),
        };
        self.catalog.lock().put_pool(known);
        result
    }

    fn check_pool_is_new(&self, name: &Name, path: &Path) -> Result<(), CreatePoolError> {
        let known = self.catalog.lock();
        if known.pools.iter().any(|pool| pool.record.name == *name) {
            return Err(CreatePoolError::NameTaken { name: name.to_string() });
        }
        let is_there = |pool: &&KnownPool| pool.record.disks.iter().any(|disk| Path::new(&disk.path) == path);
        match known.pools.iter().find(is_there) {
            Some(pool) => {
                let pool = pool.record.name.to_string();
                Err(CreatePoolError::PathTaken { path: path.to_owned(), pool })
            }
            None if path.to_str().is_none() => {
                let source = "the path is not valid UTF-8".into();
                Err(CreatePoolError::Disk { path: path.to_owned(), source })
            }
            None => Ok(()),
        }
    }

    /// The disk for a new pool, opened or made, and whether it was made.
    fn pool_disk(&self, path: &Path, request: &CreatePool) -> Result<(DiskFile, bool), CreatePoolError> {
        let fault = |source: AnyError| CreatePoolError::Disk { path: path.to_owned(), source };
        let timeout = self.settings.disk.lock_timeout;
        if path.try_exists().map_err(|error| fault(error.into()))? {
            let file = DiskFile::open(path, timeout).map_err(|error| fault(error.into()))?;
            let actual = Bytes::new(file.size_bytes());
            return match request.size {
                Some(wanted) if wanted != actual => {
                    Err(CreatePoolError::SizeDiffers { path: path.to_owned(), actual, wanted })
                }
                _ => Ok((file, false)),
            };
        }
        let size = request.size.ok_or_else(|| CreatePoolError::SizeMissing { path: path.to_owned() })?;
        let size = Bytes::new(size.value() - size.value() % u64::from(dyad_units::BLOCK_BYTES));
        let made = DiskFile::create(path, size, timeout);
        made.map(|file| (file, true)).map_err(|error: CreateDiskError| fault(error.into()))
    }

    pub(super) fn delete_pool(&self, which: &str, force: bool) -> Result<(), DeletePoolError> {
        let known = {
            let catalog = self.catalog.lock();
            let found = catalog.pool(which).cloned();
            let known = found.ok_or_else(|| QueryError::Unknown { kind: "pool", name: which.into() })?;
            let id = known.record.id;
            // What is being deleted never comes back, and may have waited for this pool to go.
            let uses = |volume: &&crate::catalog::KnownVolume| {
                volume.record.state != VolumeState::Deleting
                    && volume.segment.iter().flat_map(|segment| &segment.images).any(|image| image.pool == id)
            };
            let volumes: Vec<_> =
                catalog.volumes.iter().filter(uses).map(|volume| volume.record.name.to_string()).collect();
            if !volumes.is_empty() {
                return Err(DeletePoolError::InUse { pool: known.record.name.to_string(), volumes });
            }
            known
        };
        let record = known.record;
        // One that cannot be read may name an image here.
        for kind in [Kind::Volume, Kind::Segment] {
            let unread = |error| DeletePoolError::Store(Box::new(SetError::Store(error)));
            self.store.list(kind).map_err(unread)?;
        }
        // The records are not the data: one that cannot be read here must not cost the images that it tells of.
        let snapshot = self.ask(Message::Look)?;
        let images = snapshot.pools.iter().find(|pool| pool.id == record.id).map_or(0, |pool| pool.images.len());
        if images > 0 && !force {
            return Err(DeletePoolError::Leftovers { pool: record.name.to_string(), images });
        }
        self.ask(|reply| Message::ClosePool { pool: record.id, reply })?;
        // Before the record, which is the only one to know the disk's id: a log that nobody knows would hold its memory
        // until the machine restarts. Whatever ends the process here, the pool holds no image that could need it.
        self.forget_logs(&record)?;
        self.change(Key::Pool(record.id), |_| None).map_err(|error| DeletePoolError::Store(Box::new(error)))?;
        self.catalog.lock().forget_pool(record.id);
        self.finish_deletions();
        for disk in &record.disks {
            let path = PathBuf::from(&disk.path);
            self.clear_disk(disk).map_err(|source| DeletePoolError::Disk { path, source })?;
        }
        tracing::info!(pool = %record.name, "pool deleted");
        Ok(())
    }

    fn forget_logs(&self, record: &PoolRecord) -> Result<(), DeletePoolError> {
        let forget = |disk: &DiskRecord| {
            let fault = |source: std::io::Error| DeletePoolError::Log { pool: record.name.to_string(), source };
            self.shm.remove(disk.id).map_err(fault)
        };
        record.disks.iter().try_for_each(forget)
    }

    /// Makes the disk of a deleted pool look empty, so that it can be used again.
    fn clear_disk(&self, disk: &DiskRecord) -> Result<(), AnyError> {
        let path = Path::new(&disk.path);
        if path.try_exists()? {
            DiskFile::open(path, self.settings.disk.lock_timeout)?.clear_ends()?;
        }
        Ok(())
    }
}

/// What came of opening a pool. A fault of ours there is that pool's, as everywhere (design §3): the bytes of its disk may be
/// anybody's, and no other pool, and no request to this node, has to wait for them.
fn opened<T, E: Into<AnyError>>(open: impl FnOnce() -> Result<T, E>) -> Result<T, AnyError> {
    match guarded(open) {
        Ok(result) => result.map_err(Into::into),
        Err(fault) => Err(format!("a fault of this program: {}", fault.0).into()),
    }
}

/// The path as it is found from anywhere, links resolved as far as they exist.
fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parent = whole.parent().and_then(|parent| parent.canonicalize().ok());
    match (whole.canonicalize(), parent, whole.file_name()) {
        // A device is known by the name it was given: /dev/disk/by-id stays, /dev/sdb does not.
        _ if whole.starts_with("/dev") => whole,
        (Ok(found), _, _) => found,
        (Err(_), Some(parent), Some(name)) => parent.join(name),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::opened;

    /// What broke: a panic in opening one pool ended the thread that opens all of them, and answers all requests.
    #[test]
    fn a_fault_in_opening_a_pool_is_that_pools() {
        let fault = opened(|| -> Result<(), std::io::Error> { panic!("nobody expected {}", 7) });
        assert_eq!(fault.unwrap_err().to_string(), "a fault of this program: nobody expected 7");
        let refused = opened(|| Err::<(), _>(std::io::Error::other("not a pool")));
        assert_eq!(refused.unwrap_err().to_string(), "not a pool");
        assert_eq!(opened(|| Ok::<_, std::io::Error>(7)).unwrap(), 7);
    }
}
