//! What a node knows of the records, as bytes that can be carried to where a new store is made.
//!
//! ```text
//!   magic and format (8) · CRC-64/NVME of the rest (8) · postcard: store, version, rows of key and row
//! ```
//!
//! It holds the secrets of hosts, as the store itself does.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, checksum};
use dyad_cluster::{Kind, Store, StoreError, Version};
use dyad_units::StoreId;
use serde::{Deserialize, Serialize};

use crate::cache::CacheFile;
use crate::error::OpenError;
use crate::local::LocalStore;
use crate::local::tables;
use crate::row::{self, KEY_BYTES};
use crate::seed::Known;

/// Starts an export; the last byte is its format.
const MAGIC: [u8; 8] = *b"dyadrec\x01";
/// Bound of an export: a hundred thousand records of usual size.
const EXPORT_BYTES_MAX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Body {
    store: [u8; 16],
    at: u64,
    rows: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: [u8; KEY_BYTES],
    row: Vec<u8>,
}

/// The bytes are no export, or not whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// They do not start as one.
    #[error("it is no export of records")]
    Foreign,
    /// Written by newer software.
    #[error("it was exported by newer software, in format {0}: use that")]
    Newer(u8),
    /// They are not what was written.
    #[error("the export is damaged or cut: make it again")]
    Damaged,
}

/// A file gives no records.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is an export, but not a good one.
    #[error("{} cannot be used", .path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ExportError,
    },
    /// A record in it cannot be read.
    #[error("{} cannot be used", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// It belongs to a node that never reached a config store.
    #[error("{} holds no records: that node never reached its config store", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Known {
    /// As an export.
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.records.iter().map(|found| {
            let key = found.record.key();
            Entry { key: row::key_bytes(key), row: row::encode(key, found.version, &found.record.encode()) }
        });
        let body = Body { store: self.store.to_bytes(), at: self.at.0, rows: rows.collect() };
        // Serializing plain data into a growing vector cannot fail.
        let body = postcard::to_extend(&body, Vec::new()).expect("plain data");
        [&MAGIC[..], &sum(&body).to_le_bytes(), &body].concat()
    }

    /// From an export.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ExportError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(ExportError::Foreign)?;
        if magic[..7] != MAGIC[..7] {
            return Err(ExportError::Foreign);
        }
        if magic[7] != MAGIC[7] {
            return Err(if magic[7] > MAGIC[7] { ExportError::Newer(magic[7]) } else { ExportError::Foreign });
        }
        let (kept, body) = rest.split_first_chunk().ok_or(ExportError::Damaged)?;
        if u64::from_le_bytes(*kept) != sum(body) {
            return Err(ExportError::Damaged);
        }
        let (body, []) = postcard::take_from_bytes::<Body>(body).map_err(|_| ExportError::Damaged)? else {
            return Err(ExportError::Damaged);
        };
        let read = |entry: Entry| {
            let key = row::key_of(&entry.key)?;
            row::decode(key, &entry.row).ok()?.decode(key).ok()
        };
        let records: Option<Vec<_>> = body.rows.into_iter().map(read).collect();
        let (store, at) = (StoreId::from_bytes(body.store), Version(body.at));
        Ok(Self { store, at, records: records.ok_or(ExportError::Damaged)? })
    }

    /// Writes the export to a new file that only its owner can read.
    ///
    /// # Errors
    /// Of the file system; what was written half is removed.
    pub fn export(&self, to: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        let written = file.write_all(&self.encode()).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(to);
        }
        written
    }

    /// Whatever a node has of records, in a file that no process uses: an export, the cache of a node, or a store of
    /// its own.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(8).read_to_end(&mut bytes)).map_err(io)?;
        if bytes.get(..7) == Some(&MAGIC[..7]) {
            bytes.clear();
            File::open(path).and_then(|file| file.take(EXPORT_BYTES_MAX).read_to_end(&mut bytes)).map_err(io)?;
            return Self::decode(&bytes).map_err(|source| ReadError::Export { path: path.to_owned(), source });
        }
        if let Some(content) = CacheFile::look(path)? {
            let store = content.store.ok_or_else(|| ReadError::Empty { path: path.to_owned() })?;
            return Ok(Self { store, at: content.at, records: content.records });
        }
        // The file is there, so no identity is asked for.
        let store = LocalStore::open(path, || StoreId::from_bytes([0; 16]))?;
        Self::of(&store).map_err(|source| ReadError::Store { path: path.to_owned(), source })
    }

    /// All that a store of this process has.
    fn of(store: &LocalStore) -> Result<Self, StoreError> {
        let at = tables::version(store.database()?)?;
        let mut records = Vec::new();
        for kind in [Kind::Node, Kind::Pool, Kind::Segment, Kind::Volume] {
            records.extend(store.list(kind)?);
        }
        Ok(Self { store: store.identity(), at, records })
    }
}

fn sum(body: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc64Nvme, body)
}

#[cfg(test)]
mod tests {
    use dyad_cluster::{Name, PoolRecord, Record, Version, Versioned};
    use dyad_units::{NodeId, PoolId, StoreId};

    use super::ExportError;
    use crate::seed::Known;

    fn known() -> Known {
        let (id, node) = (PoolId::from_bytes([2; 16]), NodeId::from_bytes([1; 16]));
        let name: Name = "a".parse().unwrap();
        let record = Record::Pool(PoolRecord { id, name, node, disks: Vec::new() });
        let records = vec![Versioned { version: Version(3), record }];
        Known { store: StoreId::from_bytes([9; 16]), at: Version(7), records }
    }

    #[test]
    fn what_was_exported_is_read_back() {
        assert_eq!(Known::decode(&known().encode()), Ok(known()));
    }

    #[test]
    fn cut_changed_and_foreign_bytes_are_refused() {
        let bytes = known().encode();
        for len in 0..bytes.len() {
            assert!(Known::decode(&bytes[..len]).is_err());
            let mut flipped = bytes.clone();
            flipped[len] ^= 0x20;
            assert!(Known::decode(&flipped).is_err(), "byte {len}");
        }
        let mut newer = bytes;
        newer[7] = 2;
        assert_eq!(Known::decode(&newer), Err(ExportError::Newer(2)));
        assert_eq!(Known::decode(b"#!/bin/sh"), Err(ExportError::Foreign));
    }
}
