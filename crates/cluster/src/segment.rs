//! The record of a segment: who owns it, which images it has, and which of them are in sync.

use dyad_units::{Bytes, Epoch, ImageId, LayerId, NodeId, PoolId, SegmentId, Stamp, VolumeId};
use serde::{Deserialize, Serialize};

use crate::node::Incarnation;

/// Most images of a segment: two sites with two each. The mirror keeps sets of images in a byte.
pub const IMAGES_MAX: usize = 4;
/// Most forks kept: each is an administrator's deliberate act, and the record must stay small (M10).
pub const FORKS_MAX: usize = 32;

/// Whether an image holds every acknowledged write. Why it does not is an [`OutReason`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// It holds every acknowledged write; every write needs its acknowledgement (A3).
    InSync,
    /// It is being caught up and holds only part.
    Syncing,
    /// It was taken out and is behind.
    Stale,
    /// It is not part of the volume any more; kept until somebody drops it.
    Detached,
}

impl ImageState {
    /// The table of transitions. What leaves in-sync comes back only through syncing (M16).
    pub const fn may_become(self, next: Self) -> bool {
        use ImageState::{Detached, InSync, Stale, Syncing};
        match (self, next) {
            (InSync, Stale) => true,             // M8: taken out
            (Stale, Syncing) => true,            // M13: resync begins
            (Syncing, InSync | Stale) => true,   // M16: joined; or the run ended early
            (Stale | Syncing, Detached) => true, // M10: kept as it is; by an administrator
            (InSync | Detached, _) | (Syncing | Stale, _) => false,
        }
    }
}

/// Why an image is not in sync.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutReason {
    /// Its disk failed a write, a sync or a close (P11).
    WriteFailed,
    /// It did not answer for too long (M8).
    Silent,
    /// Its pool or node is not there.
    Absent,
    /// Its machine lost recent writes that another image still has (M11).
    Forgot,
    /// Its disk lost extents (P12).
    LostExtents,
    /// Its pool had no space although space was promised (P15).
    NoSpace,
    /// An administrator's word.
    Asked,
}

impl OutReason {
    /// Half a sentence for people: "image X is stale: …".
    pub const fn text(self) -> &'static str {
        match self {
            Self::WriteFailed => "its disk failed a write or a sync",
            Self::Silent => "it did not answer",
            Self::Absent => "its pool is missing or cannot be opened",
            Self::Forgot => "it lost recent writes that another image has",
            Self::LostExtents => "its disk lost extents",
            Self::NoSpace => "its pool is full",
            Self::Asked => "an administrator took it out",
        }
    }
}

/// One image of a segment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
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
}

/// An image that was behind became owner by an administrator's decision (M10).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// Epoch of the promotion.
    pub epoch: Epoch,
    /// The promoted image's closed: older images' closed counts at most up to it.
    pub closed: Stamp,
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
    /// Oldest first, at most [`FORKS_MAX`].
    pub forks: Vec<Fork>,
    /// The only in-sync image was flushed after the last other one was taken out (M8).
    pub flushed_alone: bool,
    /// Its images in the volume's order of reads (M17), at most [`IMAGES_MAX`].
    pub images: Vec<ImageRecord>,
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
