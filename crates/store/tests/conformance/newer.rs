//! A record of newer software, or one that rotted, stands beside others: they are given, it is said to be there, and nobody
//! takes it for deleted.

use std::sync::Arc;

use dyad_cluster::{DecodeError, Key, Kind, Record, SetError, Store, StoreError};
use dyad_store::{ArbiterStore, LocalStore};

use super::arbiter::{Arbiter, STORE};
use super::history::Heard;
use super::raw::{NEWER, rewrite, rot};
use super::records::{eventually, pool, put, set};

/// As bytes in the file: the kind, then the id.
fn key_of(record: &Record) -> Vec<u8> {
    [&[3], &record.key().id_bytes()[..]].concat()
}

/// What all stores promise while the second of three pools cannot be read.
fn assert_goes_on(store: &dyn Store, why: DecodeError) {
    let newer = pool(2, "b").key();
    let listed = eventually("the store answers", || store.list_readable(Kind::Pool).ok());
    let keys: Vec<Key> = listed.records.iter().map(|found| found.record.key()).collect();
    assert_eq!(keys, [pool(1, "a").key(), pool(3, "c").key()]);
    assert_eq!(listed.unreadable, [(newer, why)]);
    let is_it = |error: &StoreError| matches!(error, StoreError::Record { key, .. } if *key == newer);
    assert!(store.list(Kind::Pool).is_err_and(|error| is_it(&error)), "absence must not be concluded from");
    assert!(store.get(newer).is_err_and(|error| is_it(&error)));
    let refused = set(store, None, &pool(2, "mine"));
    assert!(matches!(&refused, Err(SetError::Store(error)) if is_it(error)), "{refused:?}");
    put(store, &pool(1, "changed"));
}

/// Three pools that a client has put there, and what it hears from then on. The arbiter is stopped.
fn three_pools_at(arbiter: &Arbiter) -> (Arc<ArbiterStore>, Heard) {
    let store = arbiter.open();
    for record in [pool(1, "a"), pool(2, "b"), pool(3, "c")] {
        put(&*store, &record);
    }
    let heard = Heard::of(&*store);
    arbiter.stop();
    (store, heard)
}

#[test]
fn the_store_in_a_file_goes_on_beside_a_record_of_newer_software() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("config.redb");
    let open = || LocalStore::open(&path, || STORE).unwrap();
    for record in [pool(1, "a"), pool(2, "b"), pool(3, "c")] {
        set(&open(), None, &record).unwrap();
    }
    assert_eq!(rewrite(&path, &key_of(&pool(2, "b")), NEWER), 1);
    assert_goes_on(&open(), DecodeError::Newer(NEWER));
    rewrite(&path, &key_of(&pool(2, "b")), 1);
    assert_eq!(open().list(Kind::Pool).unwrap().len(), 3);
}

#[test]
fn the_store_at_the_arbiter_goes_on_and_tells_nobody_that_the_record_is_gone() {
    let arbiter = Arbiter::new();
    let (store, heard) = three_pools_at(&arbiter);
    rewrite(&arbiter.file(), &key_of(&pool(2, "b")), NEWER);
    arbiter.start();
    assert_goes_on(&*store, DecodeError::Newer(NEWER));
    assert_goes_on(&*arbiter.open(), DecodeError::Newer(NEWER));
    arbiter.stop();
    rewrite(&arbiter.file(), &key_of(&pool(2, "b")), 1);
    arbiter.start();
    assert_eq!(eventually("all are read", || store.list(Kind::Pool).ok()).len(), 3);
    let heard = heard.until(put(&*store, &pool(3, "last")));
    assert!(heard.iter().all(|changed| changed.now.is_some()), "{heard:?}");
    assert!(heard.iter().any(|changed| changed.key == pool(2, "b").key()), "it is told when it can be read");
}

/// Broke once: one record that had rotted in the arbiter's file made every list of its kind fail, and a new watcher was told
/// nothing at all.
#[test]
fn a_record_that_rotted_stops_only_what_it_tells_of() {
    let arbiter = Arbiter::new();
    let (store, heard) = three_pools_at(&arbiter);
    rot(&arbiter.file(), &key_of(&pool(2, "b")));
    assert_goes_on(&LocalStore::open(&arbiter.file(), || STORE).unwrap(), DecodeError::Damaged);
    arbiter.start();
    assert_goes_on(&*store, DecodeError::Damaged);
    let anew = arbiter.open();
    let heard_anew = Heard::of(&*anew);
    let last = put(&*store, &pool(3, "last"));
    assert!(heard.until(last).iter().all(|changed| changed.now.is_some()), "nobody takes it for deleted");
    assert!(heard_anew.until(last).iter().any(|changed| changed.key == pool(3, "c").key()));
}
