//! Records that this software cannot read: of newer software, or damaged.
//!
//! What they tell of is not served, and nothing is concluded from their absence: nobody deletes what one of them may name.
//! All else goes on.

use dyad_cluster::{DecodeError, Key, Kind, Listed, Record, SegmentRecord, StoreError, VolumeRecord};

use super::Admin;
use crate::catalog::Known;
use crate::control::UnreadableInfo;

impl Admin {
    /// The records of a kind that can be read, and which cannot; while the store is away, as they were last seen. Whatever is
    /// changed by them goes by compare-and-set, which sees that they are old.
    pub(super) fn look(&self, kind: Kind) -> Result<Listed, StoreError> {
        match (self.patiently(|| self.listed(kind)), &self.cache) {
            (Err(StoreError::Unavailable { .. }), Some(cache)) => {
                // Its cache has them as they were before, if at all.
                let unreadable = self.catalog.lock().unreadable.clone();
                let unreadable = unreadable.into_iter().filter(|(key, _)| key.kind() == kind).collect();
                Ok(Listed { records: cache.list(kind), unreadable })
            }
            (answer, _) => answer,
        }
    }

    /// The records of a kind as the store has them now; what cannot be read is told once.
    pub(super) fn listed(&self, kind: Kind) -> Result<Listed, StoreError> {
        let listed = self.store.list_readable(kind)?;
        self.note_unreadable(kind, &listed.unreadable);
        Ok(listed)
    }

    fn note_unreadable(&self, kind: Kind, found: &[(Key, DecodeError)]) {
        let mut known = self.catalog.lock();
        let is_over = |key: &Key| key.kind() == kind && found.iter().all(|(unreadable, _)| unreadable != key);
        for key in known.unreadable.keys().filter(|key| is_over(key)) {
            tracing::info!(record = object(&known, *key), "the record can be read again, or is gone");
        }
        known.unreadable.retain(|key, _| !is_over(key));
        for (key, error) in found {
            if known.unreadable.insert(*key, *error) != Some(*error) {
                let record = object(&known, *key);
                tracing::error!(record, %error, "a record of the config store cannot be read: what it tells of is not served");
            }
        }
    }

    /// The segments' records of a volume, for whoever concludes from one that is missing: it is not there.
    pub(super) fn all_segments_of(&self, volume: &VolumeRecord) -> Result<Vec<SegmentRecord>, StoreError> {
        let find = |id| match self.find(Key::Segment(id)) {
            Ok(Some((_, Record::Segment(segment)))) => Some(Ok(segment)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        volume.segments.iter().filter_map(|id| find(*id)).collect()
    }
}

/// All that cannot be read, for people.
pub(crate) fn told(known: &Known) -> Vec<UnreadableInfo> {
    let told = |(key, error): (&Key, &DecodeError)| UnreadableInfo {
        object: object(known, *key),
        newer: match error {
            DecodeError::Newer(version) => Some(*version),
            DecodeError::Damaged => None,
        },
    };
    known.unreadable.iter().map(told).collect()
}

/// What a record is of, as people know it.
fn object(known: &Known, key: Key) -> String {
    let named = |kind: &str, name: Option<String>, id: String| format!("{kind} {}", name.unwrap_or(id));
    match key {
        Key::Volume(id) => {
            let found = known.volumes.iter().find(|volume| volume.record.id == id);
            named("volume", found.map(|volume| volume.record.name.to_string()), id.to_string())
        }
        Key::Segment(id) => {
            let found = known.volumes.iter().find(|volume| volume.record.segments.contains(&id));
            let of = found.map(|volume| format!("of volume {}", volume.record.name));
            named("segment", of, id.to_string())
        }
        Key::Pool(id) => {
            let found = known.pools.iter().map(|pool| &pool.record).chain(&known.pools_elsewhere);
            named(
                "pool",
                found.into_iter().find(|pool| pool.id == id).map(|pool| pool.name.to_string()),
                id.to_string(),
            )
        }
        Key::Node(id) => {
            let found = known.nodes.iter().find(|node| node.id == id);
            named("node", found.map(|node| node.name.to_string()), id.to_string())
        }
    }
}
