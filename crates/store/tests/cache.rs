//! What a node knows when it cannot ask, and a new store from it (design section 8).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dyad_cluster::{
    DecodeError, Key, Kind, Listed, NewSegment, PoolRecord, Record, SegmentRecord, SetError, Store, StoreError,
    Version, Versioned, Watcher,
};
use dyad_store::{Cache, CachedStore, Known, LocalStore, PlantError, Seed, SeedError, fill, plant};
use dyad_units::{Bytes, Epoch, ImageId, LayerId, NodeId, PoolId, SegmentId, StoreId, VolumeId};
use tempfile::TempDir;

const STORE: StoreId = StoreId::from_bytes([9; 16]);
const OTHER: StoreId = StoreId::from_bytes([8; 16]);
const PATIENCE: Duration = Duration::from_secs(40);

fn dir() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("cache.redb");
    (dir, path)
}

fn pool(id: u8, name: &str) -> Record {
    let (id, node) = (PoolId::from_bytes([id; 16]), NodeId::from_bytes([1; 16]));
    Record::Pool(PoolRecord { id, name: name.parse().unwrap(), node, disks: Vec::new() })
}

fn segment(epoch: u32) -> SegmentRecord {
    let mut record = SegmentRecord::new(NewSegment {
        id: SegmentId::from_bytes([4; 16]),
        volume: VolumeId::from_bytes([3; 16]),
        layer: LayerId::from_bytes([5; 16]),
        size: Bytes::gib(1),
        images: vec![(ImageId::from_bytes([6; 16]), NodeId::from_bytes([1; 16]), PoolId::from_bytes([1; 16]))],
    });
    record.epoch = Epoch::new(epoch);
    record
}

fn at(version: u64, record: Record) -> Versioned {
    Versioned { version: Version(version), record }
}

/// A store that says what it is told to say.
#[derive(Default)]
struct Puppet {
    rows: Mutex<Vec<Versioned>>,
    is_away: Mutex<bool>,
    /// A record that cannot be read.
    newer: Mutex<Option<Key>>,
    watchers: Mutex<Vec<Watcher>>,
}

impl Puppet {
    fn says(&self, rows: &[Versioned]) {
        *self.rows.lock().unwrap() = rows.to_vec();
    }

    fn check(&self) -> Result<(), StoreError> {
        let away = StoreError::Unavailable { reason: "it is away".to_owned() };
        if *self.is_away.lock().unwrap() { Err(away) } else { Ok(()) }
    }

    fn tell(&self, key: Key, version: u64, record: Option<Record>) {
        let version = Version(version);
        let now = record.map(|record| Versioned { version, record });
        let changed = dyad_cluster::Changed { key, version, now };
        self.watchers.lock().unwrap().iter_mut().for_each(|watcher| watcher(&changed));
    }
}

impl Store for Puppet {
    fn identity(&self) -> StoreId {
        STORE
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        self.check()?;
        Ok(self.rows.lock().unwrap().iter().find(|found| found.record.key() == key).cloned())
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        self.check()?;
        let rows = self.rows.lock().unwrap();
        let mut listed = Listed::default();
        for found in rows.iter().filter(|found| found.record.key().kind() == kind) {
            let key = found.record.key();
            let is_newer = *self.newer.lock().unwrap() == Some(key);
            listed.add(key, if is_newer { Err(DecodeError::Newer(9)) } else { Ok(found.clone()) });
        }
        Ok(listed)
    }

    fn compare_and_set(&self, key: Key, _: Option<Version>, _: Option<&Record>) -> Result<Version, SetError> {
        Err(SetError::Conflict { current: self.get(key).map_err(SetError::Store)?.map(Box::new) })
    }

    fn watch(&self, watcher: Watcher) {
        self.watchers.lock().unwrap().push(watcher);
    }
}

fn cached(path: &Path, store: &Arc<Puppet>) -> CachedStore {
    let (cache, damage) = Cache::open(path).unwrap();
    assert!(damage.is_none());
    let inner: Arc<dyn Store> = Arc::<Puppet>::clone(store);
    CachedStore::new(inner, Arc::new(cache)).unwrap()
}

/// "An answer older than an epoch already seen is refused."
#[test]
fn an_answer_older_than_what_is_known_is_refused() {
    let (_dir, path) = dir();
    let store = Arc::new(Puppet::default());
    let key = Key::Segment(segment(0).id);
    store.says(&[at(7, Record::Segment(segment(3)))]);
    let cached = cached(&path, &store);
    assert!(cached.wait_until_synced(PATIENCE));
    let known = cached.cache().get(key).unwrap();

    for older in [at(6, Record::Segment(segment(3))), at(8, Record::Segment(segment(2)))] {
        store.says(std::slice::from_ref(&older));
        assert!(matches!(cached.get(key), Err(StoreError::Older { .. })));
        assert!(matches!(cached.list(Kind::Segment), Err(StoreError::Older { .. })));
        let refused = cached.compare_and_set(key, None, Some(&Record::Segment(segment(4))));
        assert!(matches!(refused, Err(SetError::Store(StoreError::Older { .. }))), "{refused:?}");
        assert_eq!(cached.cache().get(key).unwrap(), known);
    }
    let mut other = segment(3);
    other.size = Bytes::gib(2);
    store.says(&[at(8, Record::Segment(other))]);
    assert!(matches!(cached.get(key), Err(StoreError::Differs { .. })));

    // An image showed a higher epoch.
    cached.cache().saw_epoch(segment(0).id, Epoch::new(5));
    store.says(&[at(9, Record::Segment(segment(4)))]);
    assert!(matches!(cached.get(key), Err(StoreError::Older { .. })));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    cached.watch(Box::new(move |changed| log.lock().unwrap().push(changed.version)));
    store.tell(key, 9, Some(Record::Segment(segment(4))));
    store.tell(key, 10, Some(Record::Segment(segment(5))));
    assert_eq!(*heard.lock().unwrap(), [Version(10)]);
    assert_eq!(cached.cache().get(key).unwrap().version, Version(10));
}

#[test]
fn while_the_store_is_away_all_that_was_known_can_be_read_after_a_restart_too() {
    let (_dir, path) = dir();
    let store = Arc::new(Puppet::default());
    store.says(&[at(1, pool(1, "a")), at(2, pool(2, "b"))]);
    {
        let cached = cached(&path, &store);
        assert!(cached.wait_until_synced(PATIENCE));
        store.tell(pool(1, "a").key(), 3, None);
        store.tell(pool(3, "c").key(), 4, Some(pool(3, "c")));
        assert_eq!(cached.cache().at(), Version(4));
        assert!(cached.cache().flush(PATIENCE));
    }
    // A store's watchers live as long as it does.
    drop(store);
    let store = Arc::new(Puppet::default());
    *store.is_away.lock().unwrap() = true;
    let cached = cached(&path, &store);
    assert!(!cached.wait_until_synced(Duration::ZERO));
    assert!(cached.get(pool(2, "b").key()).is_err());
    let known = cached.cache().list(Kind::Pool);
    assert_eq!(known, [at(2, pool(2, "b")), at(4, pool(3, "c"))]);
    assert_eq!((cached.cache().store(), cached.cache().at()), (Some(STORE), Version(4)));

    // What was deleted while the node was down is gone once the store was asked.
    store.says(&[at(4, pool(3, "c"))]);
    *store.is_away.lock().unwrap() = false;
    assert!(cached.wait_until_synced(PATIENCE));
    assert_eq!(cached.cache().get(pool(2, "b").key()), None);
}

/// Broke once (review): changes of a record of newer software are not told, so the cache said that it knew all up to the next
/// change of another one. Re-seeded from it and a second node's, the record was taken for a deleted one.
#[test]
fn a_cache_that_could_not_read_a_record_does_not_say_that_it_knows_all() {
    let (_dir, path) = dir();
    let store = Arc::new(Puppet::default());
    store.says(&[at(1, pool(1, "a")), at(2, pool(2, "b"))]);
    let cached = cached(&path, &store);
    assert!(cached.wait_until_synced(PATIENCE));
    assert_eq!(cached.cache().at(), Version(2));
    // Each kind, as a node does that looks around.
    let look = || [Kind::Node, Kind::Pool, Kind::Segment, Kind::Volume].map(|kind| cached.list_readable(kind).unwrap());
    look();
    let rows = [at(3, pool(2, "newer")), at(4, pool(1, "c")), at(5, pool(3, "d"))];
    store.says(&rows);
    *store.newer.lock().unwrap() = Some(pool(2, "b").key());
    store.tell(pool(1, "c").key(), 4, Some(pool(1, "c")));
    store.tell(pool(3, "d").key(), 5, Some(pool(3, "d")));
    assert_eq!(look()[1].unreadable.len(), 1);
    assert!(cached.cache().at() < Version(3), "{:?}", cached.cache().at());
    assert_eq!(*cached.cache().get(pool(2, "b").key()).unwrap(), at(2, pool(2, "b")), "it is not deleted");
    store.tell(pool(3, "e").key(), 6, Some(pool(3, "e")));
    store.says(&[rows[0].clone(), rows[1].clone(), at(6, pool(3, "e"))]);
    assert!(cached.cache().at() < Version(3), "{:?}", cached.cache().at());

    let mine = Known { store: STORE, at: cached.cache().at(), records: Vec::new() };
    let theirs = Known { store: STORE, at: Version(3), records: vec![rows[0].clone()] };
    let seed = Seed::gather(STORE, vec![mine, theirs], Vec::new()).unwrap();
    assert_eq!(seed.records, [pool(2, "newer")]);

    // A node of newer software wrote it so that this one reads it.
    *store.newer.lock().unwrap() = None;
    look();
    // It may be less than what was heard: what was listed first may have changed while others were in doubt.
    assert!(cached.cache().at() >= Version(5), "{:?}", cached.cache().at());
    store.tell(pool(3, "f").key(), 7, Some(pool(3, "f")));
    assert_eq!(cached.cache().at(), Version(7));
    assert_eq!(*cached.cache().get(pool(2, "b").key()).unwrap(), rows[0]);
}

/// A cache that lost one record said that it knew all up to its version: re-seeded from it and a second node's, the
/// record was taken for a deleted one.
#[test]
fn a_cache_with_a_record_that_rotted_does_not_say_that_it_knows_all() {
    let (_dir, path) = dir();
    let store = Arc::new(Puppet::default());
    // So many that they are in several pages: the file's own checksums are looked at at the root only.
    let others: Vec<_> = (2..=250).map(|id| at(id.into(), pool(id, &format!("{id}-{}", "x".repeat(58))))).collect();
    store.says(&[&[at(1, pool(1, "the-name-that-rots"))][..], &others].concat());
    {
        let cached = cached(&path, &store);
        assert!(cached.wait_until_synced(PATIENCE));
        // It said version 0: that of the newest node's record, which was asked for first, and there is none.
        assert_eq!(cached.cache().at(), Version(250));
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let is_name = |window: &[u8]| window == b"the-name-that-rots";
    let places: Vec<_> = (0..whole.len() - 18).filter(|&place| is_name(&whole[place..place + 18])).collect();
    assert!(!places.is_empty());
    let mut bytes = whole;
    places.iter().for_each(|&place| bytes[place] = b'T');
    std::fs::write(&path, bytes).unwrap();
    let (cache, damage) = Cache::open(&path).unwrap();
    assert!(damage.is_none(), "it was to be found in the record");
    drop(cache);
    let known = Known::read(&path).unwrap();
    assert_eq!(known.records, others);
    assert_eq!(known.at, Version(0));
    let second = Known { store: STORE, at: Version(1), records: vec![at(1, pool(1, "the-name-that-rots"))] };
    let seed = Seed::gather(STORE, vec![known, second], Vec::new()).unwrap();
    assert_eq!(seed.records.len(), 250);
}

#[test]
fn a_damaged_cache_is_put_aside_and_begun_anew() {
    let (dir, path) = dir();
    std::fs::write(&path, b"no cache").unwrap();
    let (cache, damage) = Cache::open(&path).unwrap();
    assert!(damage.is_some());
    assert_eq!((cache.store(), cache.list(Kind::Pool)), (None, Vec::new()));
    assert!(dir.path().join("cache.damaged").exists());
}

/// The new store's versions begin anew; the epochs do not.
#[test]
fn with_another_store_versions_begin_anew_and_epochs_go_on() {
    let (_dir, path) = dir();
    let (cache, _) = Cache::open(&path).unwrap();
    let local = |id: StoreId, name: &str| Arc::new(LocalStore::open(&path.with_file_name(name), || id).unwrap());
    let cache = Arc::new(cache);
    let old = local(STORE, "old");
    let mut version = None;
    for epoch in 1..=5 {
        let record = Record::Segment(segment(epoch));
        version = Some(old.compare_and_set(record.key(), version, Some(&record)).unwrap());
    }
    let old = CachedStore::new(old, Arc::clone(&cache)).unwrap();
    assert!(old.wait_until_synced(PATIENCE));
    drop(old);

    let new = local(OTHER, "new");
    let put = |record: Record| new.compare_and_set(record.key(), None, Some(&record)).unwrap();
    put(Record::Segment(segment(4)));
    let inner: Arc<dyn Store> = Arc::<LocalStore>::clone(&new);
    let cached = CachedStore::new(inner, Arc::clone(&cache)).unwrap();
    let key = Key::Segment(segment(0).id);
    assert!(matches!(cached.get(key), Err(StoreError::Older { .. })));
    let found = new.get(key).unwrap().unwrap().version;
    new.compare_and_set(key, Some(found), Some(&Record::Segment(segment(5)))).unwrap();
    assert_eq!(cached.get(key).unwrap().unwrap().version, Version(2));
    assert_eq!(cache.store(), Some(OTHER));
}

#[test]
fn a_seed_has_the_newest_of_all_that_is_known() {
    let furthest = Known { store: STORE, at: Version(9), records: vec![at(3, pool(1, "old")), at(9, pool(2, "b"))] };
    let behind = Known {
        store: STORE,
        at: Version(4),
        // Seen newer although not all before it; deleted since; unheard of there.
        records: vec![at(10, pool(1, "new")), at(4, pool(3, "gone")), at(11, pool(4, "made"))],
    };
    let foreign = Known { store: OTHER, at: Version(99), records: vec![at(99, pool(5, "foreign"))] };
    let seed = Seed::gather(STORE, vec![behind.clone(), foreign, furthest.clone()], Vec::new()).unwrap();
    assert_eq!(seed.records, [pool(1, "new"), pool(2, "b"), pool(4, "made")]);

    let differs = Known { records: vec![at(9, pool(2, "other"))], ..behind };
    let refused = Seed::gather(STORE, vec![differs, furthest], Vec::new()).unwrap_err();
    assert!(matches!(refused, SeedError::Differs { .. }), "{refused}");
    let refused = Seed::gather(OTHER, Vec::new(), Vec::new()).unwrap_err();
    assert!(matches!(refused, SeedError::Nothing { store: OTHER }), "{refused}");
}

#[test]
fn an_image_that_is_further_than_all_caches_is_right() {
    let cache = |epoch| Known { store: STORE, at: Version(1), records: vec![at(1, Record::Segment(segment(epoch)))] };
    for (kept, seen, newest) in [(5, 3, 5), (3, 5, 5), (4, 4, 4)] {
        let seed = Seed::gather(STORE, vec![cache(kept)], vec![segment(seen)]).unwrap();
        assert_eq!(seed.records, [Record::Segment(segment(newest))]);
        assert_eq!(seed.orphans, []);
    }
    let mut differs = segment(4);
    differs.size = Bytes::gib(2);
    let refused = Seed::gather(STORE, vec![cache(4)], vec![differs]).unwrap_err();
    assert!(matches!(refused, SeedError::Differs { .. }), "{refused}");
    let empty = Known { store: STORE, at: Version(1), records: Vec::new() };
    let seed = Seed::gather(STORE, vec![empty], vec![segment(2), segment(4), segment(3)]).unwrap();
    assert_eq!((seed.records, seed.orphans), (Vec::new(), vec![segment(4)]));
}

#[test]
fn a_new_store_is_filled_once_however_often_it_is_tried() {
    let (_dir, path) = dir();
    let store = LocalStore::open(&path, || OTHER).unwrap();
    let records = vec![Record::Segment(segment(4)), pool(1, "a"), pool(2, "b")];
    let seed = Seed { records: records.clone(), orphans: Vec::new() };
    // A first attempt that ended half way.
    store.compare_and_set(pool(1, "a").key(), None, Some(&pool(1, "a"))).unwrap();
    for _ in 0..2 {
        fill(&store, &seed).unwrap();
        let mut found: Vec<_> = store.list(Kind::Segment).unwrap();
        found.extend(store.list(Kind::Pool).unwrap());
        let found: Vec<_> = found.into_iter().map(|found| found.record).collect();
        assert_eq!(found, records);
    }
    for foreign in [pool(1, "changed"), pool(7, "foreign")] {
        let key = foreign.key();
        let now = store.get(key).unwrap().map(|found| found.version);
        store.compare_and_set(key, now, Some(&foreign)).unwrap();
        let refused = fill(&store, &seed).unwrap_err();
        assert!(matches!(refused, SeedError::NotEmpty { key: at } if at == key), "{refused}");
        let now = store.get(key).unwrap().map(|found| found.version);
        let back = records.iter().find(|record| record.key() == key);
        store.compare_and_set(key, now, back).unwrap();
    }
}

/// A node's cache, its own store, and an export say the same in three ways.
#[test]
fn records_are_read_from_whatever_a_node_has_and_planted_whole_or_not_at_all() {
    let (dir, path) = dir();
    let local = dir.path().join("config.redb");
    let store = Arc::new(LocalStore::open(&local, || STORE).unwrap());
    for record in [pool(1, "a"), Record::Segment(segment(4))] {
        store.compare_and_set(record.key(), None, Some(&record)).unwrap();
    }
    let refused = Known::read(&local).unwrap_err();
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    let (cache, _) = Cache::open(&path).unwrap();
    let cached = CachedStore::new(store, Arc::new(cache)).unwrap();
    assert!(cached.wait_until_synced(PATIENCE) && cached.cache().flush(PATIENCE));
    // As an administrator copies it, while the node runs and writes nothing. Here a last write may still be under way, so that
    // a copy is of no use: another one is made.
    let copy = dir.path().join("copy.redb");
    let is_whole = || {
        std::fs::copy(&path, &copy).unwrap();
        Known::read(&copy).is_ok_and(|known| known.records.len() == 2)
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_whole() {
        assert!(Instant::now() < deadline, "no copy is whole");
    }
    drop(cached);

    let (of_store, of_cache) = (Known::read(&local).unwrap(), Known::read(&path).unwrap());
    let sorted = |mut known: Known| {
        known.records.sort_by_key(|found| found.record.key());
        known
    };
    assert_eq!(sorted(of_store.clone()), sorted(of_cache));
    assert_eq!(sorted(of_store.clone()), sorted(Known::read(&copy).unwrap()));
    let export = dir.path().join("export");
    of_store.export(&export).unwrap();
    assert!(of_store.export(&export).is_err(), "not over another one");
    assert_eq!(Known::read(&export).unwrap(), of_store);
    std::fs::write(dir.path().join("text"), "no records").unwrap();
    assert!(Known::read(&dir.path().join("text")).is_err());
    assert!(Known::read(&dir.path().join("missing")).is_err());

    let new = dir.path().join("arbiter.redb");
    // An attempt before that ended half way.
    std::fs::write(new.with_extension("seed"), b"half").unwrap();
    let seed = Seed::gather(STORE, vec![of_store], Vec::new()).unwrap();
    plant(&new, OTHER, &seed).unwrap();
    assert!(matches!(plant(&new, OTHER, &seed), Err(PlantError::Exists { .. })));
    let planted = LocalStore::open(&new, || STORE).unwrap();
    assert_eq!(planted.identity(), OTHER);
    assert_eq!(planted.get(pool(1, "a").key()).unwrap().unwrap().record, pool(1, "a"));
    assert!(!new.with_extension("seed").exists());
}
