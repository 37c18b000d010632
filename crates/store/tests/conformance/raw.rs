//! Rows of a local store's file (also the arbiter's), changed behind its back, as only other software would.

use std::path::Path;

use crc_fast::{CrcAlgorithm, Digest};
use redb::{Database, ReadableTable, TableDefinition};

pub const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Of no software yet.
pub const NEWER: u8 = 99;

/// Gives the record with this key the version byte; returns the one that it had. The store must not be in use.
pub fn rewrite(store: &Path, key: &[u8], to: u8) -> u8 {
    let database = Database::create(store).unwrap();
    let change = database.begin_write().unwrap();
    let mut numbers = change.open_table(NUMBERS).unwrap();
    let version = numbers.get("version").unwrap().unwrap().value() + 1;
    numbers.insert("version", version).unwrap();
    drop(numbers);
    let mut records = change.open_table(RECORDS).unwrap();
    let mut record = records.get(key).unwrap().unwrap().value()[16..].to_vec();
    let before = std::mem::replace(&mut record[0], to);
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    [key, &version.to_le_bytes(), &record].into_iter().for_each(|part| digest.update(part));
    let row = [&version.to_le_bytes()[..], &digest.finalize().to_le_bytes(), &record].concat();
    records.insert(key, row.as_slice()).unwrap();
    drop(records);
    change.commit().unwrap();
    before
}

/// Changes a bit of the record with this key, as a disk may. The store must not be in use.
#[allow(dead_code, reason = "not every test that uses this file lets records rot")]
pub fn rot(store: &Path, key: &[u8]) {
    let database = Database::create(store).unwrap();
    let change = database.begin_write().unwrap();
    let mut records = change.open_table(RECORDS).unwrap();
    let mut row = records.get(key).unwrap().unwrap().value().to_vec();
    *row.last_mut().unwrap() ^= 4;
    records.insert(key, row.as_slice()).unwrap();
    drop(records);
    change.commit().unwrap();
}
