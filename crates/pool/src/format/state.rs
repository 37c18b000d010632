//! What a pool's metadata says: the state that pages and journal add up to, and the changes of it.

use std::collections::BTreeMap;

use dyad_units::{Bytes, Epoch, Extent, ImageId, LayerId, Region, SegmentId, Stamp, VolumeId};

use crate::entry::Entry;
use crate::map::ExtentMap;

/// Short number of an image within its pool; never used again while anything on disk names it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ImageNo(pub(crate) u32);

/// Short number of a layer within its pool; never used again, like an image's.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct LayerNo(pub(crate) u32);

/// A metadata page: one number, two homes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct PageNo(pub(crate) u32);

/// What a metadata page holds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum PageOwner {
    /// Owners of pages `index * DIRECTORY_ENTRIES ..`. Lies at page number `index`.
    Directory { index: u32 },
    /// The [`ImageMeta`] of an image.
    Image { image: ImageNo },
    /// Part `index` of an image's region log.
    Marks { image: ImageNo, index: u32 },
    /// Entries `index * LEAF_ENTRIES ..` of a layer's map.
    Map { layer: LayerNo, index: u32 },
}

/// Whether an image is whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImagePhase {
    /// It may be used.
    Ready,
    /// It is being deleted; opening the pool goes on with that.
    Deleting,
}

/// What a pool keeps about an image besides its extents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageMeta {
    /// The image.
    pub id: ImageId,
    /// The segment that it is a copy of.
    pub segment: SegmentId,
    /// The volume that the segment is part of.
    pub volume: VolumeId,
    /// The layer that the image's writes go to.
    pub layer: LayerId,
    /// The layer that it reads through to; for snapshots and clones, none so far.
    pub parent: Option<LayerId>,
    /// Size of the segment.
    pub size: Bytes,
    /// Whether it is whole.
    pub phase: ImagePhase,
    /// The last stamp up to which all in-sync images were complete on disk (M4).
    pub closed: Stamp,
    /// Highest epoch adopted (M3).
    pub epoch: Epoch,
    /// The newest segment record seen, as the cluster encodes it; at most RECORD_BYTES_MAX.
    pub record: Vec<u8>,
    /// Resync: up to where the image was copied (M15); `None` while it is not being resynced.
    pub cursor: Option<Extent>,
    /// Resync: the last stamp up to which it is complete below the cursor (M15).
    pub complete: Stamp,
}

impl ImageMeta {
    /// Stands in while pages are read in any order; never leaves loading.
    pub(crate) fn unknown() -> Self {
        Self {
            id: ImageId::from_bytes([0; 16]),
            segment: SegmentId::from_bytes([0; 16]),
            volume: VolumeId::from_bytes([0; 16]),
            layer: LayerId::from_bytes([0; 16]),
            parent: None,
            size: Bytes::ZERO,
            phase: ImagePhase::Deleting,
            closed: Stamp::NEVER,
            epoch: Epoch::new(0),
            record: Vec::new(),
            cursor: None,
            complete: Stamp::NEVER,
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        *self == Self::unknown()
    }
}

/// One image as loaded.
#[derive(Debug)]
pub(crate) struct ImageState {
    pub(crate) no: ImageNo,
    pub(crate) meta: ImageMeta,
    pub(crate) layer: LayerNo,
    /// One bit per region (P5); as many words as the size needs.
    pub(crate) marks: Vec<u64>,
    /// The mark of the state extent's region, which lies beyond the size.
    pub(crate) state_mark: bool,
    /// Marked regions are still to be compared since an opening without L (P8, M11).
    pub(crate) suspect: bool,
}

/// One layer as loaded.
#[derive(Debug)]
pub(crate) struct LayerState {
    pub(crate) no: LayerNo,
    pub(crate) id: LayerId,
    pub(crate) map: ExtentMap,
}

/// Everything that metadata pages and journal say.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    pub(crate) images: Vec<ImageState>,
    pub(crate) layers: Vec<LayerState>,
    /// Who owns each page in use; every other page below the layout's count is free.
    pub(crate) directory: BTreeMap<PageNo, PageOwner>,
    /// Every allocation number handed out so far is below this (P7).
    pub(crate) alloc_next: u64,
    /// Every image and layer number handed out so far is below this.
    pub(crate) image_next: u32,
}

/// One change of the committed state. Absolute: applying it twice is applying it once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// The entry of an extent.
    Map { layer: LayerNo, extent: Extent, entry: Entry },
    /// A region's mark was set or cleared (P5).
    Mark { image: ImageNo, region: Region, marked: bool },
    /// An image was made, or what is kept about it changed (closed, record, phase, cursor).
    Image { image: ImageNo, layer: LayerNo, meta: Box<ImageMeta> },
    /// Only closed changed (M4).
    Closed { image: ImageNo, stamp: Stamp },
    /// The image is gone, with its layer, its marks and all their pages.
    ImageGone { image: ImageNo },
    /// The page belongs to `owner` from now on.
    Page { page: PageNo, owner: PageOwner },
    /// Allocation numbers below `next` may have been handed out.
    Allocations { next: u64 },
    /// Whether the image was opened without L and not all of its marked regions were compared since (P8, M11).
    Suspect { image: ImageNo, suspect: bool },
}
