//! The config store of one machine, as a node meets it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use dyad_cluster::{Key, Kind, Name, PoolRecord, Record, STORED_BYTES_MAX, SetError, Store, Version};
use dyad_store::{LocalStore, OpenError};
use dyad_units::{NodeId, PoolId, StoreId};
use tempfile::TempDir;

const STORE: StoreId = StoreId::from_bytes([9; 16]);

/// In memory: what syncs do on a disk is not what is tested here.
fn dir() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("config.redb");
    (dir, path)
}

fn open(path: &Path) -> LocalStore {
    LocalStore::open(path, || STORE).unwrap()
}

fn pool(id: u8, name: &str) -> Record {
    let name: Name = name.parse().unwrap();
    let (id, node) = (PoolId::from_bytes([id; 16]), NodeId::from_bytes([1; 16]));
    Record::Pool(PoolRecord { id, name, node, disks: Vec::new() })
}

fn set(store: &LocalStore, expected: Option<Version>, record: &Record) -> Result<Version, SetError> {
    store.compare_and_set(record.key(), expected, Some(record))
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let (_dir, path) = dir();
    let version = set(&open(&path), None, &pool(1, "a")).unwrap();

    let store = LocalStore::open(&path, || panic!("it exists")).unwrap();
    assert_eq!(store.identity(), STORE);
    let found = store.get(pool(1, "a").key()).unwrap().unwrap();
    assert_eq!((found.version, found.record), (version, pool(1, "a")));
    assert_eq!(store.get(pool(2, "a").key()).unwrap(), None);
}

#[test]
fn only_the_expected_version_is_replaced() {
    let (_dir, path) = dir();
    let store = open(&path);
    let first = set(&store, None, &pool(1, "a")).unwrap();
    let conflict = set(&store, None, &pool(1, "b")).unwrap_err();
    let SetError::Conflict { current: Some(current) } = conflict else { panic!("{conflict:?}") };
    assert_eq!((current.version, &current.record), (first, &pool(1, "a")));

    let second = set(&store, Some(first), &pool(1, "b")).unwrap();
    assert!(second > first);
    assert!(matches!(set(&store, Some(first), &pool(1, "c")), Err(SetError::Conflict { .. })));
    assert!(matches!(set(&store, Some(first), &pool(2, "c")), Err(SetError::Conflict { current: None })));
    assert_eq!(store.get(pool(1, "a").key()).unwrap().unwrap().record, pool(1, "b"));
}

/// A deleted and re-created record must not be taken for the one before.
#[test]
fn versions_are_never_used_again() {
    let (_dir, path) = dir();
    let store = open(&path);
    let first = set(&store, None, &pool(1, "a")).unwrap();
    let gone = store.compare_and_set(pool(1, "a").key(), Some(first), None).unwrap();
    assert_eq!(store.get(pool(1, "a").key()).unwrap(), None);
    let again = set(&store, None, &pool(1, "a")).unwrap();
    assert!(first < gone && gone < again);
}

#[test]
fn of_many_who_race_for_a_version_one_wins() {
    let (_dir, path) = dir();
    let store = open(&path);
    let version = set(&store, None, &pool(1, "a")).unwrap();
    let wins = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for name in ["b", "c", "d", "e"] {
            let (store, wins) = (&store, &wins);
            scope.spawn(move || match set(store, Some(version), &pool(1, name)) {
                Ok(_) => drop(wins.fetch_add(1, Ordering::Relaxed)),
                Err(SetError::Conflict { .. }) => {}
                Err(other) => panic!("{other}"),
            });
        }
    });
    assert_eq!(wins.into_inner(), 1);
}

#[test]
fn a_list_holds_one_kind_in_the_order_of_ids() {
    let (_dir, path) = dir();
    let store = open(&path);
    for id in [3, 1, 255, 0] {
        set(&store, None, &pool(id, "a")).unwrap();
    }
    let ids: Vec<_> = store.list(Kind::Pool).unwrap().into_iter().map(|found| found.record.key()).collect();
    assert_eq!(ids, [0, 1, 3, 255].map(|id| Key::Pool(PoolId::from_bytes([id; 16]))));
    for kind in [Kind::Volume, Kind::Segment, Kind::Node] {
        assert_eq!(store.list(kind).unwrap(), []);
    }
}

#[test]
fn a_watcher_hears_every_change_in_order() {
    let (_dir, path) = dir();
    let store = open(&path);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    store.watch(Box::new(move |changed| log.lock().unwrap().push(changed.now.clone())));
    let first = set(&store, None, &pool(1, "a")).unwrap();
    let _ = set(&store, None, &pool(1, "b")).unwrap_err();
    store.compare_and_set(pool(1, "a").key(), Some(first), None).unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0].as_ref().map(|now| (&now.record, now.version)), Some((&pool(1, "a"), first)));
    assert_eq!(heard[1], None);
}

#[test]
fn a_record_beyond_the_bound_is_refused_and_changes_nothing() {
    let (_dir, path) = dir();
    let store = open(&path);
    let Record::Pool(mut large) = pool(1, "a") else { unreachable!() };
    let id = dyad_units::DiskId::from_bytes([1; 16]);
    large.disks.push(dyad_cluster::DiskRecord { id, path: "x".repeat(STORED_BYTES_MAX) });
    let refused = set(&store, None, &Record::Pool(large)).unwrap_err();
    assert!(matches!(refused, SetError::TooLarge { max: STORED_BYTES_MAX, .. }), "{refused}");
    assert_eq!(store.get(pool(1, "a").key()).unwrap(), None);
}

#[test]
fn a_second_opener_is_refused() {
    let (_dir, path) = dir();
    let _store = open(&path);
    let refused = LocalStore::open(&path, || STORE).err().unwrap();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
}

#[test]
fn only_the_owner_of_the_file_may_read_the_secrets() {
    let (dir, path) = dir();
    drop(open(&path));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half made is left");
}

#[test]
fn a_crash_while_the_store_is_made_leaves_nothing_that_looks_like_one() {
    let (_dir, path) = dir();
    fs::write(path.with_extension("new"), b"half made").unwrap();
    assert_eq!(open(&path).identity(), STORE);
}

#[test]
fn foreign_empty_and_cut_files_are_called_damaged() {
    let (_dir, path) = dir();
    for bytes in [&b""[..], b"x", &[0; 5000], &[0xFF; 100_000]] {
        fs::write(&path, bytes).unwrap();
        let refused = LocalStore::open(&path, || STORE).err().unwrap();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{} bytes: {refused}", bytes.len());
    }
    fs::remove_file(&path).unwrap();
    set(&open(&path), None, &pool(1, "a")).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let refused = LocalStore::open(&path, || STORE).err().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

/// Whatever byte rots: the right record, or a refusal; never a wrong record, never a panic that gets out.
#[test]
fn a_flipped_byte_never_gives_a_wrong_record() {
    let (_dir, path) = dir();
    set(&open(&path), None, &pool(1, "a")).unwrap();
    let whole = fs::read(&path).unwrap();
    let interesting: Vec<_> = (0..whole.len()).filter(|&at| at < 512 || whole[at] != 0).step_by(41).collect();
    let mut refused = 0;
    for at in interesting {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        match LocalStore::open(&path, || STORE) {
            Ok(store) => match store.get(pool(1, "a").key()) {
                Ok(found) => assert_eq!(found.map(|found| found.record), Some(pool(1, "a")), "byte {at}"),
                Err(_) => refused += 1,
            },
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}
