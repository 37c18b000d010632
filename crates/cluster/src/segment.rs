//! The record of a segment: who owns it, which images it has, and which of them are in sync.

use dyad_units::{Bytes, Epoch, ImageId, LayerId, NodeId, PoolId, SegmentId, StoreId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::forks::Fork;
use crate::node::Incarnation;
use crate::state::{ImageState, OutReason};

/// Most images of a segment: two sites with two each. The mirror keeps sets of images in a byte.
pub const IMAGES_MAX: usize = 4;

/// One image of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Identity.
    pub id: ImageId,
    /// Where it is.
    pub node: NodeId,
    /// In which pool there.
    pub pool: PoolId,
    /// Whether it holds every acknowledged write.
    pub state: ImageState,
    /// Why not, unless it is in sync.
    pub reason: Option<OutReason>,
    /// The node's life that last proved the image in sync (M11); none before the first owner.
    pub incarnation: Option<Incarnation>,
    /// The image that is removed once this one is in sync: this one was added to take its place.
    pub replaces: Option<ImageId>,
}

/// A segment. Changes only by [`SegmentRecord::changed`], each time with the next epoch.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Identity.
    pub id: SegmentId,
    /// Whose part it is.
    pub volume: VolumeId,
    /// The live layer: what the volume itself writes.
    pub layer: LayerId,
    /// Length; a volume's segments lie one after the other.
    pub size: Bytes,
    /// Version of the record.
    pub epoch: Epoch,
    /// The node that orders the writes; none before the first start.
    pub owner: Option<NodeId>,
    /// Oldest first, at most [`FORKS_MAX`](crate::FORKS_MAX).
    pub forks: Vec<Fork>,
    /// The only in-sync image was flushed after the last other one was taken out (M8).
    pub flushed_alone: bool,
    /// Its images in the volume's order of reads (M17), at most [`IMAGES_MAX`].
    pub images: Vec<ImageRecord>,
    /// The config store in which the segment was last claimed (§8); none before it ever was.
    pub store: Option<StoreId>,
}

/// What a new segment is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewSegment {
    /// Identity.
    pub id: SegmentId,
    /// Whose part it is.
    pub volume: VolumeId,
    /// The live layer.
    pub layer: LayerId,
    /// Length.
    pub size: Bytes,
    /// Its images: identity, node, pool.
    pub images: Vec<(ImageId, NodeId, PoolId)>,
}

impl SegmentRecord {
    /// The first record: all images are empty and equal, hence in sync.
    ///
    /// # Panics
    /// With no image or more than [`IMAGES_MAX`]: placement chose wrongly.
    pub fn new(new: NewSegment) -> Self {
        assert!((1..=IMAGES_MAX).contains(&new.images.len()), "a segment has 1 to {IMAGES_MAX} images");
        let image = |(id, node, pool)| ImageRecord {
            id,
            node,
            pool,
            state: ImageState::InSync,
            reason: None,
            incarnation: None,
            replaces: None,
        };
        Self {
            id: new.id,
            volume: new.volume,
            layer: new.layer,
            size: new.size,
            epoch: Epoch::new(1),
            owner: None,
            forks: Vec::new(),
            flushed_alone: new.images.len() == 1,
            images: new.images.into_iter().map(image).collect(),
            store: None,
        }
    }

    /// The images that hold every acknowledged write.
    pub fn in_sync(&self) -> impl Iterator<Item = &ImageRecord> {
        self.images.iter().filter(|image| image.state == ImageState::InSync)
    }

    /// The image with this identity.
    pub fn image(&self, id: ImageId) -> Option<&ImageRecord> {
        self.images.iter().find(|image| image.id == id)
    }
}
