//! Images in a pool that no record names: left by a deletion that was cut short, a node that was removed, a pool that was away.
//!
//! They are shown, and deleted by word only: what no record names here may be the only copy of something whose record was lost.

use std::collections::BTreeSet;

use dyad_cluster::{Kind, Listed, Record, SegmentRecord, VolumeRecord};
use dyad_units::{Bytes, ImageId, PoolId};

use super::Admin;
use super::volumes::Halt;
use crate::catalog::KnownVolume;
use crate::control::{DeleteOrphanError, OrphanInfo, QueryError};
use crate::reactor::Message;

impl Admin {
    /// Notes which images the records name. As long as one cannot be read nobody knows.
    pub(super) fn note_named(&self, found: &Listed) {
        let named = found.unreadable.is_empty().then(|| {
            let segments = found.records.iter().filter_map(|found| match &found.record {
                Record::Segment(segment) => Some(segment),
                _ => None,
            });
            segments.flat_map(images_of).collect()
        });
        self.catalog.lock().named = named;
    }

    /// Deletes an image that no record names, as the store says now.
    pub(super) fn delete_orphan(&self, which: &str, image: ImageId) -> Result<(), DeleteOrphanError> {
        let unknown = |kind, name: &str| QueryError::Unknown { kind, name: name.into() };
        let pool = self.catalog.lock().pool(which).map(|pool| pool.record.id);
        let pool = pool.ok_or_else(|| unknown("pool", which))?;
        if !self.is_in(pool, image)? {
            return Err(unknown("image", &image.to_string()).into());
        }
        // Records come before images: what none names now none will name. One that cannot be read may.
        let volumes = self.store.list(Kind::Volume).map_err(DeleteOrphanError::Store)?;
        for found in self.store.list(Kind::Segment).map_err(DeleteOrphanError::Store)? {
            let Record::Segment(segment) = found.record else { continue };
            if images_of(&segment).any(|named| named == image) {
                let name = volumes.iter().find_map(|found| match &found.record {
                    Record::Volume(VolumeRecord { id, name, .. }) if *id == segment.volume => Some(name.to_string()),
                    _ => None,
                });
                let volume = name.unwrap_or_else(|| segment.volume.to_string());
                return Err(DeleteOrphanError::Named { image, volume });
            }
        }
        self.delete_image(pool, image).map_err(|halt| match halt {
            Halt::Query(error) => error.into(),
            other => DeleteOrphanError::Pool { image, reason: super::chain(&other) },
        })?;
        tracing::info!(%image, pool = which, "an image that no record names was deleted");
        Ok(())
    }

    fn is_in(&self, pool: PoolId, image: ImageId) -> Result<bool, QueryError> {
        let there = self.ask(|reply| Message::HasImage { pool, image, reply })?;
        Ok(there == Some(true))
    }
}

fn images_of(segment: &SegmentRecord) -> impl Iterator<Item = ImageId> {
    segment.images.iter().map(|image| image.id)
}

/// Those of these images that no record names, as far as the records are known here.
pub(crate) fn unnamed(
    named: Option<&BTreeSet<ImageId>>,
    known: &[KnownVolume],
    images: &[(ImageId, Bytes)],
) -> Vec<OrphanInfo> {
    let Some(named) = named else { return Vec::new() };
    // One that was made since the last look.
    let is_new = |id: &ImageId| known.iter().flat_map(|volume| &volume.segment).any(|of| of.image(*id).is_some());
    let unnamed = images.iter().filter(|(id, _)| !named.contains(id) && !is_new(id));
    unnamed.map(|&(id, allocated)| OrphanInfo { id, allocated }).collect()
}
