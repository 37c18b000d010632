//! Records as bytes: one version byte, then the record (postcard).

use dyad_units::{NodeId, PoolId, SegmentId, VolumeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::node::NodeRecord;
use crate::pool::PoolRecord;
use crate::segment::SegmentRecord;
use crate::volume::VolumeRecord;

/// Version of the encoding that this software writes. It reads this one only; there is no older one.
pub const RECORD_VERSION: u8 = 1;
/// Bound of an encoded record in a store: a volume with all initiators and a pool with many disks fit.
pub const STORED_BYTES_MAX: usize = 64 * 1024;

/// Kinds of records.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// [`VolumeRecord`].
    Volume,
    /// [`SegmentRecord`].
    Segment,
    /// [`PoolRecord`].
    Pool,
    /// [`NodeRecord`].
    Node,
}

/// Names one record.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// A volume.
    Volume(VolumeId),
    /// A segment.
    Segment(SegmentId),
    /// A pool.
    Pool(PoolId),
    /// A node.
    Node(NodeId),
}

impl Key {
    /// The kind of the record that it names.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Volume(_) => Kind::Volume,
            Self::Segment(_) => Kind::Segment,
            Self::Pool(_) => Kind::Pool,
            Self::Node(_) => Kind::Node,
        }
    }

    /// The 16 bytes of the id.
    pub const fn id_bytes(self) -> [u8; 16] {
        match self {
            Self::Volume(id) => id.to_bytes(),
            Self::Segment(id) => id.to_bytes(),
            Self::Pool(id) => id.to_bytes(),
            Self::Node(id) => id.to_bytes(),
        }
    }

    /// The key of this kind and id.
    pub const fn new(kind: Kind, id: [u8; 16]) -> Self {
        match kind {
            Kind::Volume => Self::Volume(VolumeId::from_bytes(id)),
            Kind::Segment => Self::Segment(SegmentId::from_bytes(id)),
            Kind::Pool => Self::Pool(PoolId::from_bytes(id)),
            Kind::Node => Self::Node(NodeId::from_bytes(id)),
        }
    }
}

/// Any record.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A volume.
    Volume(VolumeRecord),
    /// A segment.
    Segment(SegmentRecord),
    /// A pool.
    Pool(PoolRecord),
    /// A node.
    Node(NodeRecord),
}

/// The bytes are not a record that this software can use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Written by newer software.
    #[error("the record has version {0}; this software knows {RECORD_VERSION}: use the newer one")]
    Newer(u8),
    /// Nothing that any version wrote.
    #[error("the record is damaged")]
    Damaged,
}

impl Record {
    /// The name under which it is kept.
    pub const fn key(&self) -> Key {
        match self {
            Self::Volume(record) => Key::Volume(record.id),
            Self::Segment(record) => Key::Segment(record.id),
            Self::Pool(record) => Key::Pool(record.id),
            Self::Node(record) => Key::Node(record.id),
        }
    }

    /// The record as bytes. Whoever stores them checks [`STORED_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The record from bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl SegmentRecord {
    /// The record as an image keeps it (M3): at most `contract::image::RECORD_BYTES_MAX` bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The record from an image's bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    // Serializing plain data into a growing vector cannot fail.
    postcard::to_extend(record, vec![RECORD_VERSION]).expect("plain data")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((record, [])) => Ok(record),
            Ok(_) | Err(_) => Err(DecodeError::Damaged),
        },
        Some((&version, _)) if version > RECORD_VERSION => Err(DecodeError::Newer(version)),
        Some(_) | None => Err(DecodeError::Damaged),
    }
}
