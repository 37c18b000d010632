//! How a record stands in the file: version, checksum, record.
//!
//! redb checks its pages when it opens the file, not at each read; the checksum here finds what rots later, and
//! a value under the wrong key.

use crc_fast::{CrcAlgorithm, Digest};
use dyad_cluster::{DecodeError, Key, Kind, Record, Version, Versioned};

const HEAD: usize = 16;

/// Length of a key: one byte for the kind, 16 for the id.
pub(crate) const KEY_BYTES: usize = 17;

const KINDS: [(Kind, u8); 4] = [(Kind::Volume, 1), (Kind::Segment, 2), (Kind::Pool, 3), (Kind::Node, 4)];

/// The first byte of the keys of a kind; it never changes for a kind.
pub(crate) fn kind_byte(kind: Kind) -> u8 {
    KINDS.iter().find(|(known, _)| *known == kind).expect("every kind has its byte").1
}

/// The kind whose keys start with this byte.
pub(crate) fn kind_of(byte: u8) -> Option<Kind> {
    KINDS.iter().find(|(_, known)| *known == byte).map(|(kind, _)| *kind)
}

/// A key as bytes.
pub(crate) fn key_bytes(key: Key) -> [u8; KEY_BYTES] {
    let mut bytes = [kind_byte(key.kind()); KEY_BYTES];
    bytes[1..].copy_from_slice(&key.id_bytes());
    bytes
}

/// The key from bytes; none: not one of ours.
pub(crate) fn key_of(bytes: &[u8]) -> Option<Key> {
    let (&kind, id) = bytes.split_first()?;
    Some(Key::new(kind_of(kind)?, id.try_into().ok()?))
}

/// A record as it is kept, not looked into: the arbiter serves records of newer software too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Raw {
    pub(crate) version: Version,
    pub(crate) record: Vec<u8>,
}

impl Raw {
    /// What stands for a row that rotted, so that the others can be told all the same: it is there, and decodes as damaged.
    pub(crate) const fn damaged() -> Self {
        Self { version: Version(0), record: Vec::new() }
    }

    pub(crate) fn decode(&self, key: Key) -> Result<Versioned, DecodeError> {
        let record = Record::decode(&self.record)?;
        if record.key() != key {
            return Err(DecodeError::Damaged);
        }
        Ok(Versioned { version: self.version, record })
    }
}

/// A row as bytes, from the encoded record.
pub(crate) fn encode(key: Key, version: Version, record: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD + record.len());
    row.extend_from_slice(&version.0.to_le_bytes());
    row.extend_from_slice(&sum(key, version, record).to_le_bytes());
    row.extend_from_slice(record);
    row
}

/// The record and its version from a row's bytes.
pub(crate) fn decode(key: Key, row: &[u8]) -> Result<Raw, DecodeError> {
    let (version, rest) = row.split_first_chunk().ok_or(DecodeError::Damaged)?;
    let (kept, encoded) = rest.split_first_chunk().ok_or(DecodeError::Damaged)?;
    let version = Version(u64::from_le_bytes(*version));
    if u64::from_le_bytes(*kept) != sum(key, version, encoded) {
        return Err(DecodeError::Damaged);
    }
    Ok(Raw { version, record: encoded.to_vec() })
}

fn sum(key: Key, version: Version, record: &[u8]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(&key_bytes(key));
    digest.update(&version.0.to_le_bytes());
    digest.update(record);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::{Raw, decode, encode};
    use dyad_cluster::{DecodeError, Key, Version};
    use dyad_units::PoolId;

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic() {
        let key = Key::Pool(PoolId::from_bytes([7; 16]));
        for len in 0..64 {
            assert!(decode(key, &vec![0xA5; len]).is_err());
        }
        assert!(decode(key, &encode(key, Version(1), &[1, 2, 250, 250])).unwrap().decode(key).is_err());
        assert_eq!(Raw::damaged().decode(key), Err(DecodeError::Damaged));
    }
}
