//! Names of the records in etcd: for people to read, in the order of ids.

use dyad_cluster::{Key, Kind};
use dyad_units::{NodeId, PoolId, SegmentId, StoreId, VolumeId};

const KINDS: [(Kind, &str); 4] =
    [(Kind::Volume, "volume"), (Kind::Segment, "segment"), (Kind::Pool, "pool"), (Kind::Node, "node")];

/// The keys below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// Of the store's identity.
    pub(super) fn store(&self) -> Vec<u8> {
        format!("{}/store", self.prefix).into_bytes()
    }

    pub(super) fn record(&self, key: Key) -> Vec<u8> {
        let id = match key {
            Key::Volume(id) => id.to_string(),
            Key::Segment(id) => id.to_string(),
            Key::Pool(id) => id.to_string(),
            Key::Node(id) => id.to_string(),
        };
        [self.kind(key.kind()), id.into_bytes()].concat()
    }

    /// What all keys of a kind start with.
    pub(super) fn kind(&self, kind: Kind) -> Vec<u8> {
        let (_, name) = KINDS.iter().find(|(known, _)| *known == kind).expect("every kind has its name");
        format!("{}/{name}/", self.prefix).into_bytes()
    }

    /// What all keys start with.
    pub(super) fn all(&self) -> Vec<u8> {
        format!("{}/", self.prefix).into_bytes()
    }

    /// The record's key; none: not a record.
    pub(super) fn parse(&self, key: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(key).ok()?;
        let (kind, id) = text.strip_prefix(&self.prefix)?.strip_prefix('/')?.split_once('/')?;
        let (kind, _) = KINDS.iter().find(|(_, name)| *name == kind)?;
        Some(match kind {
            Kind::Volume => Key::Volume(id.parse::<VolumeId>().ok()?),
            Kind::Segment => Key::Segment(id.parse::<SegmentId>().ok()?),
            Kind::Pool => Key::Pool(id.parse::<PoolId>().ok()?),
            Kind::Node => Key::Node(id.parse::<NodeId>().ok()?),
        })
    }
}

/// The first key that does not start with `prefix`, which ends in a slash.
pub(super) fn beyond(prefix: &[u8]) -> Vec<u8> {
    let mut beyond = prefix.to_vec();
    if let Some(last) = beyond.last_mut() {
        *last += 1;
    }
    beyond
}

/// The identity of the store that wrote `seed` under its key, in the cluster of etcd with this id. A cluster that
/// was restored from a copy has another id, as etcd's manual asks for, and so is another store (section 8).
pub(super) fn identity(seed: StoreId, cluster: u64) -> StoreId {
    let mut bytes = seed.to_bytes();
    for (byte, mixed) in bytes[8..].iter_mut().zip(cluster.to_be_bytes()) {
        *byte ^= mixed;
    }
    StoreId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use dyad_cluster::{Key, Kind};
    use dyad_units::{SegmentId, StoreId, VolumeId};

    use super::{Keys, beyond, identity};

    #[test]
    fn keys_are_readable_and_read_back() {
        let keys = Keys::new("/dyad/");
        let key = Key::Segment(SegmentId::from_bytes([0x1a; 16]));
        let name = keys.record(key);
        assert_eq!(name, b"/dyad/segment/1a1a1a1a-1a1a-1a1a-1a1a-1a1a1a1a1a1a");
        assert_eq!(keys.parse(&name), Some(key));
        assert!(name > keys.kind(Kind::Segment) && name < beyond(&keys.kind(Kind::Segment)));
        let volume = Key::Volume(VolumeId::from_bytes([0xff; 16]));
        assert!(keys.record(volume) < beyond(&keys.kind(Kind::Volume)));
    }

    #[test]
    fn other_keys_are_no_records() {
        let keys = Keys::new("/dyad");
        for other in [&b"/dyad/store"[..], b"/dyad/segment/", b"/dyadic/segment/x", b"/dyad/disk/x", b"\xff", b""] {
            assert_eq!(keys.parse(other), None);
        }
    }

    #[test]
    fn a_restored_cluster_is_another_store() {
        let seed = StoreId::from_bytes([7; 16]);
        assert_ne!(identity(seed, 1), identity(seed, 2));
        assert_eq!(identity(identity(seed, 9), 9), seed);
    }
}
