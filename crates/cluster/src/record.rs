//! Records as bytes: one version byte, then the record (postcard).

use dyad_units::{NodeId, PoolId, SegmentId, VolumeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::earlier::{RecordV1, VolumeV1};
use crate::node::NodeRecord;
use crate::pool::PoolRecord;
use crate::segment::SegmentRecord;
use crate::volume::VolumeRecord;

/// Newest version of the encoding that this software knows. It reads the older one as well, and writes that where it can
/// say everything.
pub const RECORD_VERSION: u8 = 2;
/// Version of what has not changed since: segments' records, as images keep them too.
const FIRST_VERSION: u8 = 1;
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
        match self {
            Self::Volume(record) => match VolumeV1::of(record) {
                Some(record) => encode(FIRST_VERSION, &RecordV1::Volume(record)),
                None => encode(RECORD_VERSION, self),
            },
            // All others are in version 1 as they are today: the same bytes.
            Self::Segment(_) | Self::Pool(_) | Self::Node(_) => encode(FIRST_VERSION, self),
        }
    }

    /// The record from bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            Some((&FIRST_VERSION, rest)) => decode::<RecordV1>(rest).map(Self::from),
            Some((&RECORD_VERSION, rest)) => decode(rest),
            other => Err(unknown(other)),
        }
    }
}

impl SegmentRecord {
    /// The record as an image keeps it (M3): at most `contract::image::RECORD_BYTES_MAX` bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(FIRST_VERSION, self)
    }

    /// The record from an image's bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            Some((&FIRST_VERSION, rest)) => decode(rest),
            other => Err(unknown(other)),
        }
    }
}

fn encode<T: Serialize>(version: u8, record: &T) -> Vec<u8> {
    // Serializing plain data into a growing vector cannot fail.
    postcard::to_extend(record, vec![version]).expect("plain data")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(DecodeError::Damaged),
    }
}

/// What is wrong with a version that is not read.
fn unknown(bytes: Option<(&u8, &[u8])>) -> DecodeError {
    match bytes {
        Some((&version, _)) if version > FIRST_VERSION => DecodeError::Newer(version),
        Some(_) | None => DecodeError::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{DiskId, Epoch, ImageId, Interval, NodeId, PoolId, Stamp, StoreId};

    use super::{DecodeError, Record};
    use crate::access::{Access, Chap, ChapPair, Hosts, INITIATORS_MAX, InitiatorName, Right, Whom};
    use crate::forks::{FORKS_MAX, Fork};
    use crate::limits::Limits;
    use crate::node::{Incarnation, NodeRecord, NodeState};
    use crate::pool::{DiskRecord, PoolRecord};
    use crate::segment::{IMAGES_MAX, SegmentRecord};
    use crate::state::OutReason;
    use crate::testing::{HERE, segment, volume};
    use crate::volume::{PreferredOwner, VolumeState};

    /// Bound of what an image keeps: `contract::image::RECORD_BYTES_MAX`, which this crate does not see.
    const IMAGE_KEEPS_MAX: usize = 3072;

    fn largest_segment() -> SegmentRecord {
        let mut record = segment(IMAGES_MAX as u8);
        let boot = "ffffffff-ffff-ffff-ffff-ffffffffffff".parse().unwrap();
        for image in &mut record.images {
            (image.id, image.node) = (ImageId::from_bytes([255; 16]), NodeId::from_bytes([255; 16]));
            (image.pool, image.reason) = (PoolId::from_bytes([255; 16]), Some(OutReason::Asked));
            image.incarnation = Some(Incarnation { boot, start: u64::MAX });
        }
        let closed = Stamp::new(Epoch::new(u32::MAX), Interval::new(u32::MAX));
        record.forks = vec![Fork { epoch: Epoch::new(u32::MAX), closed }; FORKS_MAX];
        (record.epoch, record.owner) = (Epoch::new(u32::MAX), Some(HERE));
        record.store = Some(StoreId::from_bytes([255; 16]));
        record
    }

    fn examples() -> Vec<Record> {
        let mut volume = volume(VolumeState::Creating);
        let host = Chap::new("host", "a long enough secret").unwrap();
        let mutual = Some(Chap::new("dyad", "another long secret").unwrap());
        let initiators = (0..INITIATORS_MAX).map(|at| InitiatorName::new(&format!("iqn.x:{at:0210}")).unwrap());
        volume.access = Access::of(initiators.collect(), Some(ChapPair { host, mutual }));
        let mut limited = volume.clone();
        limited.limits = Limits::new(u32::MAX, u64::MAX, 3600).unwrap();
        limited.access.allow(Whom::Host(InitiatorName::new("iqn.x").unwrap()), Right::ReadOnly);
        let mut closed = volume.clone();
        closed.access.hosts = Hosts::Listed(vec![]);
        let incarnation = Incarnation { boot: "ffffffff-ffff-ffff-ffff-ffffffffffff".parse().unwrap(), start: 7 };
        let (name, site) = ("a".parse().unwrap(), "room-1".parse().unwrap());
        let disk = DiskRecord { id: DiskId::from_bytes([8; 16]), path: "/dev/sda".to_owned() };
        let pool = PoolRecord { id: PoolId::from_bytes([9; 16]), name, node: HERE, disks: vec![disk] };
        vec![
            Record::Volume(volume),
            Record::Volume(limited),
            Record::Volume(closed),
            Record::Segment(largest_segment()),
            Record::Node(NodeRecord {
                id: HERE,
                name: "n".parse().unwrap(),
                site,
                incarnation,
                peers: vec!["[2001:db8::1]:3261".to_owned(), "192.0.2.1:3261".to_owned()],
                portals: vec!["192.0.2.1:3260".to_owned()],
                admin: vec!["http://192.0.2.1:8400".to_owned()],
                state: NodeState::Draining,
            }),
            Record::Pool(pool),
        ]
    }

    #[test]
    fn every_record_reads_back_and_fits() {
        for record in examples() {
            let bytes = record.encode();
            assert!(bytes.len() <= super::STORED_BYTES_MAX, "{}", bytes.len());
            assert_eq!(Record::decode(&bytes), Ok(record));
        }
        let bytes = largest_segment().encode();
        assert!(bytes.len() <= IMAGE_KEEPS_MAX, "{}", bytes.len());
        assert_eq!(SegmentRecord::decode(&bytes), Ok(largest_segment()));
    }

    /// A volume as it was written before there were limits and rights. These bytes never change.
    const OLD: &str = "01002430333033303330332d303330332d303330332d303330332d30333033303330333033303304766d2d31808080800400\
         012430343034303430342d303430342d303430342d303430342d303430343034303430343034010001010769716e2e783a61\
         0104686f73741461206c6f6e6720656e6f756768207365637265740001012430313031303130312d303130312d303130312d\
         303130312d30313031303130313031303101ac02";

    #[test]
    fn an_old_record_is_read_and_what_it_could_say_is_still_written_so() {
        let bytes: Vec<u8> =
            (0..OLD.len()).step_by(2).map(|at| u8::from_str_radix(&OLD[at..at + 2], 16).unwrap()).collect();
        let mut volume = volume(VolumeState::Ready);
        let host = Chap::new("host", "a long enough secret").unwrap();
        let chap = Some(ChapPair { host, mutual: None });
        volume.access = Access::of(vec![InitiatorName::new("iqn.x:a").unwrap()], chap);
        volume.preferred = Some(PreferredOwner { node: HERE, automatic_after_secs: Some(300) });
        assert_eq!(Record::decode(&bytes), Ok(Record::Volume(volume.clone())));
        assert_eq!(Record::Volume(volume.clone()).encode(), bytes);
        volume.limits = Limits::new(100, 0, 0).unwrap();
        assert_eq!(Record::Volume(volume).encode()[0], 2, "what it could not say, an old node refuses to guess");
    }

    #[test]
    fn what_is_not_a_record_is_refused_without_a_panic() {
        assert_eq!(Record::decode(&[]), Err(DecodeError::Damaged));
        assert_eq!(Record::decode(&[3, 0, 0]), Err(DecodeError::Newer(3)));
        assert_eq!(SegmentRecord::decode(&[2, 0, 0]), Err(DecodeError::Newer(2)));
        assert_eq!(Record::decode(&[0]), Err(DecodeError::Damaged));
        for record in examples() {
            let bytes = record.encode();
            for len in 0..bytes.len() {
                assert!(Record::decode(&bytes[..len]).is_err(), "cut to {len}");
            }
            let longer = [bytes.clone(), vec![0]].concat();
            assert_eq!(Record::decode(&longer), Err(DecodeError::Damaged));
            for at in 1..bytes.len().min(400) {
                let mut turned = bytes.clone();
                turned[at] = turned[at].wrapping_add(0x55);
                let _ = Record::decode(&turned);
            }
        }
    }
}
