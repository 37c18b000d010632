//! A record of newer software stands beside others: they are given, it is said to be there, and nobody takes it for deleted.

use std::path::Path;

use crc_fast::{CrcAlgorithm, Digest};
use dyad_cluster::{DecodeError, Key, Kind, Record, SetError, Store, StoreError};
use dyad_store::LocalStore;
use redb::{Database, ReadableTable, TableDefinition};

use super::arbiter::{Arbiter, STORE};
use super::history::Heard;
use super::records::{eventually, pool, put, set};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Of no software yet.
const NEWER: u8 = 99;

/// Gives the pool's record the version byte. The store must not be in use.
fn rewrite(store: &Path, record: &Record, to: u8) {
    let key = [&[3], &record.key().id_bytes()[..]].concat();
    let database = Database::create(store).unwrap();
    let change = database.begin_write().unwrap();
    let mut numbers = change.open_table(NUMBERS).unwrap();
    let version = numbers.get("version").unwrap().unwrap().value() + 1;
    numbers.insert("version", version).unwrap();
    drop(numbers);
    let mut records = change.open_table(RECORDS).unwrap();
    let mut encoded = records.get(key.as_slice()).unwrap().unwrap().value()[16..].to_vec();
    encoded[0] = to;
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    [&key[..], &version.to_le_bytes(), &encoded].into_iter().for_each(|part| digest.update(part));
    let row = [&version.to_le_bytes()[..], &digest.finalize().to_le_bytes(), &encoded].concat();
    records.insert(key.as_slice(), row.as_slice()).unwrap();
    drop(records);
    change.commit().unwrap();
}

/// What all stores promise while the second of three pools is of newer software.
fn assert_goes_on(store: &dyn Store) {
    let newer = pool(2, "b").key();
    let listed = eventually("the store answers", || store.list_readable(Kind::Pool).ok());
    let keys: Vec<Key> = listed.records.iter().map(|found| found.record.key()).collect();
    assert_eq!(keys, [pool(1, "a").key(), pool(3, "c").key()]);
    assert_eq!(listed.unreadable, [(newer, DecodeError::Newer(NEWER))]);
    let is_it = |error: &StoreError| matches!(error, StoreError::Record { key, .. } if *key == newer);
    assert!(store.list(Kind::Pool).is_err_and(|error| is_it(&error)), "absence must not be concluded from");
    assert!(store.get(newer).is_err_and(|error| is_it(&error)));
    let refused = set(store, None, &pool(2, "mine"));
    assert!(matches!(&refused, Err(SetError::Store(error)) if is_it(error)), "{refused:?}");
    put(store, &pool(1, "changed"));
}

#[test]
fn the_store_in_a_file_goes_on_beside_a_record_of_newer_software() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("config.redb");
    let open = || LocalStore::open(&path, || STORE).unwrap();
    for record in [pool(1, "a"), pool(2, "b"), pool(3, "c")] {
        set(&open(), None, &record).unwrap();
    }
    rewrite(&path, &pool(2, "b"), NEWER);
    assert_goes_on(&open());
    rewrite(&path, &pool(2, "b"), 1);
    assert_eq!(open().list(Kind::Pool).unwrap().len(), 3);
}

#[test]
fn the_store_at_the_arbiter_goes_on_and_tells_nobody_that_the_record_is_gone() {
    let arbiter = Arbiter::new();
    let store = arbiter.open();
    for record in [pool(1, "a"), pool(2, "b"), pool(3, "c")] {
        put(&*store, &record);
    }
    let heard = Heard::of(&*store);
    arbiter.stop();
    rewrite(&arbiter.file(), &pool(2, "b"), NEWER);
    arbiter.start();
    assert_goes_on(&*store);
    assert_goes_on(&*arbiter.open());
    arbiter.stop();
    rewrite(&arbiter.file(), &pool(2, "b"), 1);
    arbiter.start();
    assert_eq!(eventually("all are read", || store.list(Kind::Pool).ok()).len(), 3);
    let heard = heard.until(put(&*store, &pool(3, "last")));
    assert!(heard.iter().all(|changed| changed.now.is_some()), "{heard:?}");
    assert!(heard.iter().any(|changed| changed.key == pool(2, "b").key()), "it is told when it can be read");
}
