//! Images of volumes in use: this node makes those that the records place in its pools, deletes those that were given up,
//! and as owner lets the new image take the place of the old one, and the preferred owner have the volume back.
//!
//! ```text
//!  Add (stale, new) ─▶ its node makes it ─▶ it catches up ─▶ in sync ─▶ the owner gives up the one that it replaces
//!  Remove (detached, removed) ─▶ its node deletes it ─▶ the owner drops it from the record
//! ```
//!
//! Everything follows from the records, so that whoever stops in between goes on after its next start.

use std::collections::BTreeMap;
use std::time::Duration;

use dyad_cluster::placement::{Away, Failback, failback};
use dyad_cluster::{
    AckPolicy, ImageRecord, ImageState, Kind, OutReason, Presence, Record, SegmentRecord, StepOrder, VolumeState,
};
use dyad_units::{ImageId, Moment, NodeId, Period, VolumeId};

use super::Admin;
use crate::catalog::KnownVolume;
use crate::clock;
use crate::orders::Orders;
use crate::talk::{Order, Told};

/// How long one order may hold up this thread; it is given again at the next look.
const PATIENCE: Duration = Duration::from_secs(3);
/// Changes of owner that count against an automatic failback: those of the last hour.
const MOVES_REMEMBERED: Period = Period::from_secs(3600);

/// What is remembered between two looks.
#[derive(Default)]
pub(super) struct Tending {
    /// Since when the preferred owner of a volume has had an image in sync.
    well: BTreeMap<VolumeId, Moment>,
    /// Volumes that were given back by themselves, and when.
    moves: Vec<(VolumeId, Moment)>,
}

impl Admin {
    /// Does this node's part for the images of all volumes in use.
    pub(super) fn tend_images(&self, tending: &mut Tending) {
        // Without the store nothing is known to have changed.
        let Ok(found) = self.listed(Kind::Segment) else { return };
        self.note_named(&found);
        let segments: Vec<SegmentRecord> = (found.records.into_iter())
            .filter_map(|found| match found.record {
                Record::Segment(segment) => Some(segment),
                _ => None,
            })
            .collect();
        self.note_outs(&segments);
        let volumes = self.catalog.lock().volumes.clone();
        tending.well.retain(|id, _| volumes.iter().any(|known| known.record.id == *id));
        for segment in &segments {
            let known = volumes.iter().find(|known| known.record.id == segment.volume);
            let Some(known) = known.filter(|known| known.record.state == VolumeState::Ready) else { continue };
            for image in segment.images.iter().filter(|image| image.node == self.node) {
                self.tend_own(known, segment, image);
            }
            if segment.owner == Some(self.node) {
                self.replace(known, segment);
                self.give_back(known, segment, tending);
            } else {
                tending.well.remove(&segment.volume);
            }
        }
    }

    pub(super) fn orders(&self) -> Orders {
        Orders::new(self.mailbox.clone(), self.health.clone(), self.node).hasty(PATIENCE)
    }

    /// Since when which image is not in sync, for people.
    fn note_outs(&self, segments: &[SegmentRecord]) {
        let now = clock::now();
        let images = || segments.iter().flat_map(|segment| &segment.images);
        let out = |id: &ImageId| images().any(|image| image.id == *id && image.state != ImageState::InSync);
        let mut known = self.catalog.lock();
        for volume in &mut known.volumes {
            let newest = segments.iter().find(|segment| segment.volume == volume.record.id);
            volume.segment = newest.cloned().or(volume.segment.take());
        }
        known.outs.retain(|id, _| out(id));
        for image in images().filter(|image| image.state != ImageState::InSync) {
            known.outs.entry(image.id).or_insert(now);
        }
    }

    /// Makes or deletes an image of this node, as the record says.
    fn tend_own(&self, known: &KnownVolume, segment: &SegmentRecord, image: &ImageRecord) {
        let is_new = image.reason == Some(OutReason::New) && image.state != ImageState::InSync;
        let is_removed = image.reason == Some(OutReason::Removed);
        if !is_new && !is_removed {
            return;
        }
        let order = StepOrder { segment: segment.id, image: image.id, node: image.node, pool: image.pool };
        let done = match (self.presence_of(&known.record, image), is_removed) {
            (Presence::NotThere, false) => self.create_image(&known.record, std::slice::from_ref(segment), &order),
            (Presence::There, true) => self.delete_image(order.pool, order.image),
            (Presence::NotThere, true) => {
                let order = Order::Drop { image: image.id };
                self.is_done(segment, &self.orders().to_owner(segment.owner, segment.volume, order));
                return;
            }
            _ => return,
        };
        match done {
            Ok(()) if is_removed => self.again(),
            Ok(()) => tracing::info!(volume = %known.record.name, image = %image.id, "image made"),
            Err(error) => {
                let error = super::chain(&error);
                tracing::warn!(volume = %known.record.name, image = %image.id, error, "image not made or deleted yet");
            }
        }
    }

    /// Looks once more soon: the next step follows from this one.
    fn again(&self) {
        self.news.want_look();
    }

    /// The image that another one has taken the place of is given up, one step per look.
    fn replace(&self, known: &KnownVolume, segment: &SegmentRecord) {
        let Some(order) = next_of_move(segment, known.record.policy, self.node) else { return };
        tracing::info!(segment = %segment.id, ?order, "an image has come in the place of another one");
        if self.is_done(segment, &self.orders().here(segment.volume, order)) {
            self.again();
        }
    }

    /// Gives the volume back to its preferred owner, if that is wanted and well (design section 7).
    fn give_back(&self, known: &KnownVolume, segment: &SegmentRecord, tending: &mut Tending) {
        let id = segment.volume;
        let now = clock::now();
        let Some(preferred) =
            known.record.preferred.filter(|preferred| preferred.node != self.node && !self.is_draining(preferred.node))
        else {
            tending.well.remove(&id);
            return;
        };
        if segment.in_sync().any(|image| image.node == preferred.node) {
            tending.well.entry(id).or_insert(now);
        } else {
            tending.well.remove(&id);
        }
        tending.moves.retain(|(_, at)| now.since(*at) < MOVES_REMEMBERED);
        let away = Away {
            is_automatic: preferred.automatic_after_secs.is_some(),
            delay: Period::from_secs(u64::from(preferred.automatic_after_secs.unwrap_or_default())),
            well_since: tending.well.get(&id).copied(),
            moves: tending.moves.iter().filter(|(volume, _)| *volume == id).count() as u32,
            is_resyncing: segment.images.iter().any(|image| image.state == ImageState::Syncing),
        };
        if failback(&away, now) == Failback::HandOver {
            tracing::info!(volume = %known.record.name, to = %preferred.node, "the volume goes back to its preferred owner");
            tending.well.remove(&id);
            tending.moves.push((id, now));
            self.is_done(segment, &self.orders().here(id, Order::HandOver { to: preferred.node }));
        }
    }

    fn is_done(&self, segment: &SegmentRecord, told: &Told) -> bool {
        if let Told::Refused(refused) = told {
            tracing::debug!(segment = %segment.id, why = refused.why, "not done yet; tried again");
        }
        matches!(told, Told::Done)
    }
}

/// What the owner has to do next for an image that another one, in sync by now, was added to replace.
///
/// A move never costs redundancy: as long as another image is out, or the volume would have fewer than it wants to take writes
/// (A4), the old one stays. One that is detached is let alone: somebody keeps it, as a copy or for what a forced promotion left
/// on it (M10); only what was given up here is removed.
fn next_of_move(segment: &SegmentRecord, policy: AckPolicy, here: NodeId) -> Option<Order> {
    let mut moves = segment.in_sync().filter_map(|next| Some((next, segment.image(next.replaces?)?)));
    let (next, old) = moves.find(|(_, old)| old.state != ImageState::Detached)?;
    let others = || segment.images.iter().filter(|image| image.id != old.id && image.state != ImageState::Detached);
    if others().any(|image| image.state != ImageState::InSync) || others().count() < usize::from(policy.min_in_sync) {
        return None;
    }
    Some(match old.state {
        ImageState::InSync if old.node == here && others().all(|image| image.node != here) => {
            Order::HandOver { to: next.node }
        }
        ImageState::InSync | ImageState::Syncing => Order::TakeOut { image: old.id },
        ImageState::Stale | ImageState::Detached => Order::Remove { image: old.id },
    })
}

#[cfg(test)]
mod tests {
    use dyad_cluster::NewSegment;
    use dyad_units::{Bytes, LayerId, PoolId, SegmentId};

    use super::*;

    const HERE: NodeId = NodeId::from_bytes([0; 16]);

    fn image(no: u8) -> ImageId {
        ImageId::from_bytes([no; 16])
    }

    fn node(no: u8) -> NodeId {
        NodeId::from_bytes([no; 16])
    }

    /// Images 0 (here, of the owner), 1 and 2, each on the node of its number; 2 was added to replace 1.
    fn moving() -> SegmentRecord {
        let place = |no: u8| (image(no), node(no), PoolId::from_bytes([no; 16]));
        let mut segment = SegmentRecord::new(NewSegment {
            id: SegmentId::from_bytes([9; 16]),
            volume: VolumeId::from_bytes([9; 16]),
            layer: LayerId::from_bytes([9; 16]),
            size: Bytes::new(1 << 30),
            images: vec![place(0), place(1), place(2)],
        });
        segment.owner = Some(HERE);
        segment.images[2].replaces = Some(image(1));
        segment
    }

    fn put(segment: &mut SegmentRecord, no: usize, state: ImageState, reason: OutReason) {
        (segment.images[no].state, segment.images[no].reason) = (state, Some(reason));
    }

    fn next(segment: &SegmentRecord, min_in_sync: u8) -> Option<String> {
        let policy = AckPolicy { min_in_sync, ..AckPolicy::default() };
        next_of_move(segment, policy, HERE).map(|order| format!("{order:?}"))
    }

    #[test]
    fn a_move_takes_the_old_image_out_and_then_removes_it() {
        let mut segment = moving();
        assert_eq!(next(&segment, 2), Some(format!("{:?}", Order::TakeOut { image: image(1) })));
        put(&mut segment, 1, ImageState::Stale, OutReason::Asked);
        assert_eq!(next(&segment, 2), Some(format!("{:?}", Order::Remove { image: image(1) })));
        put(&mut segment, 1, ImageState::Detached, OutReason::Removed);
        assert_eq!(next(&segment, 2), None);
        put(&mut segment, 2, ImageState::Syncing, OutReason::New);
        put(&mut segment, 1, ImageState::Stale, OutReason::Silent);
        assert_eq!(next(&segment, 2), None, "it has not come yet");
    }

    #[test]
    fn the_only_image_of_a_volume_moves_with_its_owner() {
        let mut segment = moving();
        segment.images.remove(0);
        segment.images[0].node = HERE;
        assert_eq!(next(&segment, 1), Some(format!("{:?}", Order::HandOver { to: node(2) })));
    }

    /// An administrator detached the image that was being moved, to keep it as a copy; or a forced promotion left writes on it
    /// that nothing else has (M10). When the new one had come, the node deleted it.
    #[test]
    fn an_image_that_somebody_detached_is_never_deleted_by_a_move() {
        for reason in [OutReason::Asked, OutReason::Lost] {
            let mut segment = moving();
            put(&mut segment, 1, ImageState::Detached, reason);
            assert_eq!(next(&segment, 1), None);
        }
    }

    /// The owner's node died during a move; the image that came and the one that it replaced had everything, and the latter
    /// was taken out and deleted: one copy left.
    #[test]
    fn a_move_waits_until_the_other_images_are_in_sync() {
        let mut segment = moving();
        for (state, reason) in [(ImageState::Stale, OutReason::Absent), (ImageState::Syncing, OutReason::Absent)] {
            put(&mut segment, 0, state, reason);
            assert_eq!(next(&segment, 1), None);
        }
        put(&mut segment, 0, ImageState::Detached, OutReason::Asked);
        assert_eq!(next(&segment, 2), None, "two are wanted for writes, and one would be left");
        assert_eq!(next(&segment, 1), Some(format!("{:?}", Order::TakeOut { image: image(1) })));
    }
}
