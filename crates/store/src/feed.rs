//! What those who watch a store over a network were told, and what is news to them.
//!
//! ```text
//!   connection ──change, snapshot──▶ Feed ──Changed, each once, in order of versions──▶ watchers
//! ```
//!
//! A stream of changes breaks with its connection. The feed knows up to which version everything was told
//! (`position`), where the next stream goes on; if the store has forgotten the changes since, it is given the
//! whole content and tells the difference. It keeps keys and versions only, no records.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dyad_cluster::{Changed, Key, Record, Version, Versioned, Watcher};

/// How long a new watcher waits for the first contact with the store, and for the stream to be as far as the store.
/// Longer, and whoever starts while the store is away would wait in vain.
const BASE_WAIT: Duration = Duration::from_secs(2);

/// A row as it came: of a record that cannot be read only the version is known.
pub(crate) struct Seen {
    pub(crate) key: Key,
    pub(crate) version: Version,
    pub(crate) record: Option<Record>,
}

/// Where watchers are told.
pub(crate) struct Feed {
    inner: Mutex<Inner>,
    based: Condvar,
}

struct Inner {
    /// Everything up to here was told; none: no contact yet.
    position: Option<Version>,
    /// The version of each record at `position`.
    known: BTreeMap<Key, Version>,
    watchers: Vec<Follower>,
    /// Why there is no contact.
    fault: Option<String>,
}

struct Follower {
    /// What came up to here is no news to it.
    after: Version,
    tell: Watcher,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let fault = Some("it was not reached yet".to_owned());
        let inner = Inner { position: None, known: BTreeMap::new(), watchers: Vec::new(), fault };
        Self { inner: Mutex::new(inner), based: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A watcher that panicked was told; the rest is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next stream goes on: after this version.
    pub(crate) fn position(&self) -> Option<Version> {
        self.lock().position
    }

    /// Why the store is not followed now.
    pub(crate) fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    /// The stream runs, or why not.
    pub(crate) fn set_fault(&self, fault: Option<String>) {
        self.lock().fault = fault;
    }

    /// Waits, for a bounded time, until there was a first contact.
    pub(crate) fn wait_for_base(&self) -> bool {
        let waited = self.based.wait_timeout_while(self.lock(), BASE_WAIT, |inner| inner.position.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.position.is_some()
    }

    /// Waits, for a bounded time, until everything up to `version` was told. Of a record that is made and deleted while
    /// the stream is behind and breaks, nobody would hear that it is gone, although a watcher may have read it.
    pub(crate) fn wait_for(&self, version: Version) {
        let is_behind = |inner: &mut Inner| inner.position < Some(version);
        drop(self.based.wait_timeout_while(self.lock(), BASE_WAIT, is_behind));
    }

    /// Adds a watcher of everything after `after`; none: the store's version is not known.
    pub(crate) fn add(&self, tell: Watcher, after: Option<Version>) {
        let mut inner = self.lock();
        let after = match (inner.position, after) {
            (None, _) => Version(0),
            (Some(position), None) => position,
            (Some(_), Some(after)) => after,
        };
        inner.watchers.push(Follower { after, tell });
    }

    /// One change, in the order of the store's versions.
    pub(crate) fn change(&self, key: Key, version: Version, record: Option<Option<Record>>) {
        let mut inner = self.lock();
        if inner.position.is_some_and(|position| version <= position) {
            return;
        }
        match record {
            // A stream that goes on within a version repeats what stood in it before.
            Some(_) if inner.known.get(&key).is_some_and(|known| version <= *known) => {}
            Some(record) => {
                inner.known.insert(key, version);
                inner.tell(key, version, record);
            }
            None => {
                if inner.known.remove(&key).is_some() {
                    inner.tell_gone(key, version);
                }
            }
        }
    }

    /// Everything up to `version` was given.
    pub(crate) fn advance(&self, version: Version) {
        let mut inner = self.lock();
        inner.position = inner.position.max(Some(version));
        self.based.notify_all();
    }

    /// The whole content at `version`: the difference is told, and changes follow from there.
    pub(crate) fn snapshot(&self, version: Version, mut rows: Vec<Seen>) {
        let mut inner = self.lock();
        rows.sort_by_key(|row| row.version);
        let content: BTreeMap<Key, Version> = rows.iter().map(|row| (row.key, row.version)).collect();
        let known = std::mem::replace(&mut inner.known, content);
        for row in rows {
            if known.get(&row.key).is_none_or(|known| *known < row.version) {
                inner.tell(row.key, row.version, row.record);
            }
        }
        let gone: Vec<_> = known.into_keys().filter(|key| !inner.known.contains_key(key)).collect();
        for key in gone {
            inner.tell_gone(key, version);
        }
        inner.position = inner.position.max(Some(version));
        self.based.notify_all();
    }
}

impl Inner {
    /// A record that cannot be read here is not told: whoever needs it asks for it, and is told why not.
    fn tell(&mut self, key: Key, version: Version, record: Option<Record>) {
        if let Some(record) = record {
            self.tell_all(&Changed { key, version, now: Some(Versioned { version, record }) });
        }
    }

    fn tell_gone(&mut self, key: Key, version: Version) {
        self.tell_all(&Changed { key, version, now: None });
    }

    fn tell_all(&mut self, changed: &Changed) {
        for follower in self.watchers.iter_mut().filter(|follower| follower.after < changed.version) {
            (follower.tell)(changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use dyad_cluster::{Key, NodeRecord, NodeState, Record, Version};
    use dyad_units::{BootId, NodeId};

    use super::{Feed, Seen};

    type Heard = Arc<Mutex<Vec<(u8, u64, bool)>>>;

    fn key(id: u8) -> Key {
        Key::Node(NodeId::from_bytes([id; 16]))
    }

    fn record(id: u8) -> Record {
        let incarnation = dyad_cluster::Incarnation { boot: BootId::from_bytes([1; 16]), start: 1 };
        let (name, site) = ("n".parse().unwrap(), "s".parse().unwrap());
        let (peers, portals, admin) = (Vec::new(), Vec::new(), Vec::new());
        let (id, state) = (NodeId::from_bytes([id; 16]), NodeState::Active);
        Record::Node(NodeRecord { id, name, site, incarnation, peers, portals, admin, state })
    }

    fn seen(id: u8, version: u64) -> Seen {
        Seen { key: key(id), version: Version(version), record: Some(record(id)) }
    }

    fn feed() -> (Feed, Heard) {
        let (feed, heard) = (Feed::new(), Heard::default());
        let log = Arc::clone(&heard);
        let tell = move |changed: &dyad_cluster::Changed| {
            let id = changed.key.id_bytes()[0];
            log.lock().unwrap().push((id, changed.version.0, changed.now.is_some()));
        };
        feed.add(Box::new(tell), None);
        (feed, heard)
    }

    fn heard(heard: &Heard) -> Vec<(u8, u64, bool)> {
        std::mem::take(&mut *heard.lock().unwrap())
    }

    #[test]
    fn a_snapshot_tells_only_what_is_news_and_deletions_last() {
        let (feed, log) = feed();
        feed.snapshot(Version(5), vec![seen(2, 5), seen(1, 3)]);
        assert_eq!(heard(&log), [(1, 3, true), (2, 5, true)]);
        feed.snapshot(Version(9), vec![seen(2, 5), seen(3, 8)]);
        assert_eq!(heard(&log), [(3, 8, true), (1, 9, false)]);
        assert_eq!(feed.position(), Some(Version(9)));
    }

    #[test]
    fn what_a_broken_stream_repeats_is_told_once() {
        let (feed, log) = feed();
        feed.snapshot(Version(1), Vec::new());
        for _ in 0..2 {
            feed.change(key(1), Version(4), Some(Some(record(1))));
        }
        feed.advance(Version(4));
        feed.change(key(1), Version(5), None);
        feed.advance(Version(5));
        feed.change(key(1), Version(4), Some(Some(record(1))));
        feed.change(key(1), Version(5), None);
        assert_eq!(heard(&log), [(1, 4, true), (1, 5, false)]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_taken_for_a_deletion() {
        let (feed, log) = feed();
        feed.snapshot(Version(2), vec![seen(1, 2)]);
        feed.snapshot(Version(3), vec![Seen { key: key(1), version: Version(3), record: None }]);
        assert_eq!(heard(&log), [(1, 2, true)]);
    }

    /// A record that a watcher could have read was deleted while the stream, which had not told it yet, was broken: the
    /// watcher never heard of the deletion, and a cache would have kept the record.
    #[test]
    fn a_watcher_begins_when_the_stream_is_as_far_as_the_store() {
        let (feed, _) = feed();
        feed.snapshot(Version(2), vec![seen(1, 2)]);
        let (feed, log) = (Arc::new(feed), Heard::default());
        let streaming = Arc::clone(&feed);
        let stream = std::thread::spawn(move || {
            streaming.change(key(3), Version(3), Some(Some(record(3))));
            streaming.advance(Version(3));
        });
        feed.wait_for(Version(3));
        let late = Arc::clone(&log);
        let tell = move |changed: &dyad_cluster::Changed| {
            late.lock().unwrap().push((changed.key.id_bytes()[0], changed.version.0, changed.now.is_some()));
        };
        feed.add(Box::new(tell), Some(Version(3)));
        stream.join().unwrap();
        feed.snapshot(Version(9), vec![seen(1, 2)]);
        assert_eq!(heard(&log), [(3, 9, false)]);
    }

    #[test]
    fn a_watcher_hears_nothing_from_before_its_time() {
        let (feed, _) = feed();
        feed.snapshot(Version(2), vec![seen(1, 2)]);
        let log = Heard::default();
        let late = Arc::clone(&log);
        feed.add(
            Box::new(move |changed| late.lock().unwrap().push((0, changed.version.0, changed.now.is_some()))),
            Some(Version(3)),
        );
        feed.change(key(2), Version(3), Some(Some(record(2))));
        feed.change(key(2), Version(4), Some(Some(record(2))));
        assert_eq!(heard(&log), [(0, 4, true)]);
    }
}
