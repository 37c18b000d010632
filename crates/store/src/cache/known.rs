//! The newest records that a node saw, in memory and in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dyad_cluster::{Changed, Key, Kind, Record, SegmentRecord, StoreError, Version, Versioned};
use dyad_units::{Epoch, SegmentId, StoreId};

use super::KINDS;
use super::file::{CacheFile, Content};
use crate::error::OpenError;

/// After the file could not be written: its disk may come back.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// The newest records that this node saw. Reading it waits for nobody.
pub struct Cache {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Mutex<Inner>,
    written: Condvar,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    store: Option<StoreId>,
    /// Every change of the store up to here is in it.
    at: Version,
    /// The newest change that was heard of. All changes are, but only since the start: what came before has to be
    /// asked for.
    heard: Version,
    /// It was asked for, and nothing is in doubt.
    is_complete: bool,
    /// All changes are heard from here on.
    is_hearing: bool,
    /// Up to where everything of a kind is known: the last list of it could be read as a whole.
    sure: BTreeMap<Kind, Version>,
    /// Kinds of which a record cannot be read: nobody hears of its changes.
    in_doubt: BTreeSet<Kind>,
    records: BTreeMap<Key, Arc<Versioned>>,
    /// The highest epoch that was seen of a segment, in the store or at an image.
    epochs: BTreeMap<SegmentId, Epoch>,
    /// What the file does not have yet.
    dirty: BTreeSet<Key>,
    is_written: bool,
    is_closing: bool,
    fault: Option<String>,
}

/// What was known before the store was asked; what comes meanwhile may be newer than its answer.
pub(super) struct Before {
    record: Option<Arc<Versioned>>,
    epoch: Option<Epoch>,
}

/// The same of all records of a kind.
pub(super) struct BeforeAll {
    /// Everything up to here was heard of.
    heard: Version,
    records: BTreeMap<Key, Arc<Versioned>>,
    epochs: BTreeMap<SegmentId, Epoch>,
}

impl Cache {
    /// Opens the cache in a file, or makes it. A damaged one is put aside, with the reason returned: what it knew is
    /// learned again from the store.
    ///
    /// # Errors
    /// [`OpenError`] where no file can be made.
    pub fn open(path: &Path) -> Result<(Self, Option<OpenError>), OpenError> {
        let ((file, content), reason) = match CacheFile::open(path) {
            Ok(opened) => (opened, None),
            Err(error @ OpenError::Damaged { .. }) => {
                CacheFile::set_aside(path)?;
                (CacheFile::open(path)?, Some(error))
            }
            Err(error) => return Err(error),
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner::from(content)),
            written: Condvar::new(),
            changed: Condvar::new(),
        });
        let writing = Arc::clone(&shared);
        let writer = thread::Builder::new().name("store-cache".to_owned()).spawn(move || writing.write_all(&file));
        let writer = writer.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok((Self { shared, writer: Some(writer) }, reason))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.lock()
    }

    /// The store that the records are of; none: it was never reached.
    pub fn store(&self) -> Option<StoreId> {
        self.lock().store
    }

    /// Every change of the store up to here is known. The newest version that was seen may be higher.
    pub fn at(&self) -> Version {
        self.lock().at
    }

    /// The newest version that any record here has: less in the store means that it went back.
    pub fn seen(&self) -> Version {
        let inner = self.lock();
        inner.records.values().map(|found| found.version).max().max(Some(inner.at)).unwrap_or(Version(0))
    }

    /// The record, as it was last seen.
    pub fn get(&self, key: Key) -> Option<Arc<Versioned>> {
        self.lock().records.get(&key).cloned()
    }

    /// All records of a kind, as they were last seen, in the order of ids.
    pub fn list(&self, kind: Kind) -> Vec<Versioned> {
        let inner = self.lock();
        inner.records.iter().filter(|(key, _)| key.kind() == kind).map(|(_, found)| (**found).clone()).collect()
    }

    /// An image keeps this record of its segment, or heard of this epoch: the store may not answer with an older one.
    pub fn saw_epoch(&self, segment: SegmentId, epoch: Epoch) {
        self.lock().saw_epoch(segment, epoch);
    }

    /// Why the file is not written; none: all is well.
    pub fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    /// Waits until the file has everything, at most so long; false if it does not.
    pub fn flush(&self, longest: Duration) -> bool {
        let wait = self.shared.written.wait_timeout_while(self.lock(), longest, |inner| !inner.is_written);
        wait.unwrap_or_else(PoisonError::into_inner).0.is_written
    }

    /// From now on the records are those of `store`. Of another store before, the records stay until they are
    /// replaced; their versions mean nothing any more.
    pub(super) fn begin(&self, store: StoreId) {
        let mut inner = self.lock();
        (inner.heard, inner.is_complete, inner.is_hearing) = (Version(0), false, false);
        inner.sure.clear();
        inner.in_doubt.clear();
        if inner.store == Some(store) {
            return;
        }
        inner.store = Some(store);
        inner.at = Version(0);
        let old = std::mem::take(&mut inner.records);
        let unversioned = |found: &Versioned| Arc::new(Versioned { version: Version(0), record: found.record.clone() });
        inner.records = old.into_iter().map(|(key, found)| (key, unversioned(&found))).collect();
        inner.dirty = inner.records.keys().copied().collect();
        self.shared.soil(&mut inner);
    }

    pub(super) fn before(&self, key: Key) -> Before {
        let inner = self.lock();
        let epoch = if let Key::Segment(id) = key { inner.epochs.get(&id).copied() } else { None };
        Before { record: inner.records.get(&key).cloned(), epoch }
    }

    /// All of a kind, before the store is asked for a list.
    pub(super) fn before_all(&self, kind: Kind) -> BeforeAll {
        let inner = self.lock();
        let records = inner.records.iter().filter(|(key, _)| key.kind() == kind);
        let records = records.map(|(key, record)| (*key, Arc::clone(record))).collect();
        let heard = if inner.is_complete { inner.at } else { inner.heard };
        BeforeAll { heard, records, epochs: if kind == Kind::Segment { inner.epochs.clone() } else { BTreeMap::new() } }
    }

    /// The store has this record.
    pub(super) fn learn(&self, found: &Versioned) {
        let mut inner = self.lock();
        if inner.put(found.record.key(), found) {
            self.shared.soil(&mut inner);
        }
    }

    /// The store did not have the record that stood here before it was asked.
    pub(super) fn learn_gone(&self, key: Key, before: &Before) {
        let mut inner = self.lock();
        let is_same = match (&before.record, inner.records.get(&key)) {
            (Some(before), Some(now)) => before.version == now.version,
            _ => false,
        };
        if is_same {
            inner.remove(key);
            self.shared.soil(&mut inner);
        }
    }

    /// The store says that this changed; it says so of everything, in order.
    pub(super) fn hear(&self, changed: &Changed) {
        let mut inner = self.lock();
        match &changed.now {
            Some(now) => drop(inner.put(changed.key, now)),
            None => {
                if inner.records.get(&changed.key).is_some_and(|known| known.version <= changed.version) {
                    inner.remove(changed.key);
                }
            }
        }
        inner.heard = inner.heard.max(changed.version);
        if inner.is_complete {
            inner.at = inner.at.max(inner.heard);
        }
        self.shared.soil(&mut inner);
    }

    /// From now on the store says of each change that can be read.
    pub(super) fn begin_hearing(&self) {
        self.lock().is_hearing = true;
    }

    /// The records of a kind were listed, and all could be read, or not. As long as one cannot, this cache does not say that it
    /// knows all: what is seeded from it and from others would lack that record, or hold an old one, as if it were so.
    pub(super) fn listed(&self, kind: Kind, heard_before: Version, is_whole: bool) {
        let mut inner = self.lock();
        if !is_whole {
            if inner.in_doubt.insert(kind) {
                let sure = inner.sure.get(&kind).copied().unwrap_or(inner.at);
                (inner.is_complete, inner.at) = (false, inner.at.min(sure));
                self.shared.soil(&mut inner);
            }
            return;
        }
        if !inner.is_hearing {
            return;
        }
        inner.sure.insert(kind, heard_before);
        if inner.in_doubt.remove(&kind) && inner.in_doubt.is_empty() && inner.sure.len() == KINDS.len() {
            let sure = inner.sure.values().copied().min().unwrap_or_default();
            (inner.is_complete, inner.at) = (true, inner.at.max(sure));
            self.shared.soil(&mut inner);
        }
    }

    /// Everything up to `at` was asked for, all later changes are heard. While a kind is in doubt it is not complete; once the
    /// last one is read, [`Self::listed`] says so.
    pub(super) fn complete(&self, at: Version) {
        let mut inner = self.lock();
        if !inner.in_doubt.is_empty() {
            return;
        }
        inner.is_complete = true;
        inner.at = inner.at.max(at).max(inner.heard);
        self.shared.soil(&mut inner);
    }

    /// Whether a change is older than what is known of the segment's epochs.
    pub(super) fn is_outdated(&self, changed: &Changed) -> bool {
        let Some(segment) = changed.now.as_ref().and_then(segment) else { return false };
        self.lock().epochs.get(&segment.id).is_some_and(|seen| segment.epoch < *seen)
    }
}

impl Before {
    fn version(&self) -> Option<Version> {
        self.record.as_ref().map(|record| record.version)
    }

    /// Refuses an answer that is older than what was known before the store was asked (section 8).
    pub(super) fn check(&self, found: &Versioned) -> Result<(), StoreError> {
        let key = found.record.key();
        if self.version().is_some_and(|known| found.version < known) {
            return Err(StoreError::Older { key });
        }
        let Some(now) = segment(found) else { return Ok(()) };
        if self.epoch.is_some_and(|seen| now.epoch < seen) {
            return Err(StoreError::Older { key });
        }
        let known = self.record.as_deref().and_then(segment);
        match known {
            Some(known) if known.epoch == now.epoch && known != now => {
                Err(StoreError::Differs { key, epoch: now.epoch })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl BeforeAll {
    /// Up to where everything was heard of.
    pub(super) fn heard(&self) -> Version {
        self.heard
    }

    /// What was known of one.
    pub(super) fn take(&mut self, key: Key) -> Before {
        let epoch = if let Key::Segment(id) = key { self.epochs.get(&id).copied() } else { None };
        Before { record: self.records.remove(&key), epoch }
    }

    /// What is left after all were taken that the store still has.
    pub(super) fn rest(self) -> impl Iterator<Item = (Key, Before)> {
        self.records.into_iter().map(|(key, record)| (key, Before { record: Some(record), epoch: None }))
    }
}

fn segment(found: &Versioned) -> Option<&SegmentRecord> {
    if let Record::Segment(record) = &found.record { Some(record) } else { None }
}

impl Inner {
    fn saw_epoch(&mut self, segment: SegmentId, epoch: Epoch) {
        let seen = self.epochs.entry(segment).or_insert(epoch);
        *seen = epoch.max(*seen);
    }

    fn put(&mut self, key: Key, found: &Versioned) -> bool {
        if let Some(now) = segment(found) {
            if self.epochs.get(&now.id).is_some_and(|seen| now.epoch < *seen) {
                return false;
            }
            self.saw_epoch(now.id, now.epoch);
        }
        if self.records.get(&key).is_some_and(|known| known.version >= found.version) {
            return false;
        }
        self.records.insert(key, Arc::new(found.clone()));
        self.dirty.insert(key);
        true
    }

    fn remove(&mut self, key: Key) {
        self.records.remove(&key);
        self.dirty.insert(key);
        // Ids are never used again.
        if let Key::Segment(id) = key {
            self.epochs.remove(&id);
        }
    }
}

impl From<Content> for Inner {
    fn from(content: Content) -> Self {
        let mut inner = Self { store: content.store, at: content.at, is_written: true, ..Self::default() };
        for found in content.records {
            inner.put(found.record.key(), &found);
        }
        inner.dirty.clear();
        inner
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change of the maps is whole; nothing in between can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file has to be written.
    fn soil(&self, inner: &mut Inner) {
        inner.is_written = false;
        self.changed.notify_one();
    }

    fn write_all(&self, file: &CacheFile) {
        loop {
            let wait = self.changed.wait_while(self.lock(), |inner| inner.is_written && !inner.is_closing);
            let mut inner = wait.unwrap_or_else(PoisonError::into_inner);
            if inner.is_written {
                return;
            }
            inner.is_written = true;
            let dirty = std::mem::take(&mut inner.dirty);
            let now = |key: &Key| inner.records.get(key).map(|found| Versioned::clone(found));
            let changed: Vec<_> = dirty.iter().map(|key| (*key, now(key))).collect();
            let (store, at) = (inner.store, inner.at);
            drop(inner);
            let written = file.write(store, at, &changed);
            let mut inner = self.lock();
            inner.fault = written.as_ref().err().map(ToString::to_string);
            if written.is_err() {
                inner.is_written = false;
                inner.dirty.extend(dirty);
                if inner.is_closing {
                    return;
                }
                drop(self.changed.wait_timeout_while(inner, WRITE_PAUSE, |inner| !inner.is_closing));
                continue;
            }
            if inner.is_written {
                self.written.notify_all();
            }
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.lock().is_closing = true;
        self.shared.changed.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
