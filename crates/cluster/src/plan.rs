//! Creating and deleting a volume, one durable step after the other.
//!
//! Order of creating: volume record `creating` → a record per segment → the images in their pools → `ready`.
//! Order of deleting: volume record `deleting` → the images → the segments' records → the volume's record.
//! Every image is named by a record for as long as it exists, so whoever starts after a crash finds it:
//! [`next_step`] looks at what is there and says what comes next. A volume whose segments' records are all
//! there is finished; one that lacks some is undone, for nobody knows where its images should have been.

use dyad_units::{ImageId, NodeId, PoolId, SegmentId};

use crate::segment::SegmentRecord;
use crate::volume::{VolumeRecord, VolumeState};

/// What is known about an image that a record names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// Its pool has it.
    There,
    /// Its pool is open and does not have it.
    NotThere,
    /// Its pool cannot be asked now.
    Unknown,
}

/// What to do next for one image or record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StepOrder {
    /// Which segment.
    pub segment: SegmentId,
    /// Which of its images.
    pub image: ImageId,
    /// On which node.
    pub node: NodeId,
    /// In which pool.
    pub pool: PoolId,
}

/// The next step of a volume on its way. Each is durable before the next is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Create this image in its pool.
    CreateImage(StepOrder),
    /// Remove this image from its pool.
    DeleteImage(StepOrder),
    /// Remove the record of this segment.
    DeleteSegment(SegmentId),
    /// Give the volume's record this state.
    SetState(VolumeState),
    /// Remove the volume's record; nothing of it is left then.
    DeleteVolume,
    /// The pool of this image cannot be asked now; try again when it can. The volume stays in its state.
    Wait(StepOrder),
    /// Nothing is left to do.
    Finished,
}

/// The next step for `volume`, given those of its segments' records that exist, and what is known about
/// their images.
pub fn next_step(volume: &VolumeRecord, segments: &[SegmentRecord], presence: impl Fn(&StepOrder) -> Presence) -> Step {
    let found = |id: &SegmentId| segments.iter().find(|segment| segment.id == *id);
    let orders = || volume.segments.iter().filter_map(found).flat_map(orders);
    match volume.state {
        VolumeState::Ready => Step::Finished,
        VolumeState::Creating if !volume.segments.iter().all(|id| found(id).is_some()) => {
            Step::SetState(VolumeState::Deleting)
        }
        VolumeState::Creating => {
            let missing = orders().find(|order| presence(order) != Presence::There);
            missing.map_or(Step::SetState(VolumeState::Ready), |order| match presence(&order) {
                Presence::Unknown => Step::Wait(order),
                Presence::NotThere | Presence::There => Step::CreateImage(order),
            })
        }
        VolumeState::Deleting => {
            // All that can go goes first; a pool that is away holds up only its own image and the records.
            if let Some(order) = orders().find(|order| presence(order) == Presence::There) {
                return Step::DeleteImage(order);
            }
            if let Some(order) = orders().find(|order| presence(order) == Presence::Unknown) {
                return Step::Wait(order);
            }
            volume.segments.iter().filter_map(found).next().map_or(Step::DeleteVolume, |s| Step::DeleteSegment(s.id))
        }
    }
}

fn orders(segment: &SegmentRecord) -> impl Iterator<Item = StepOrder> + '_ {
    let order = |image: &crate::ImageRecord| StepOrder {
        segment: segment.id,
        image: image.id,
        node: image.node,
        pool: image.pool,
    };
    segment.images.iter().map(order)
}
