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
use dyad_cluster::{ImageRecord, ImageState, Kind, OutReason, Presence, Record, SegmentRecord, StepOrder, VolumeState};
use dyad_units::{ImageId, Moment, Period, VolumeId};

use super::Admin;
use crate::catalog::KnownVolume;
use crate::clock;
use crate::moves::{Step, step_of_move};
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
        let Some(Step::Do(order)) = step_of_move(segment, known.record.policy, self.node) else { return };
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
