//! One open image: its map, its region log, what is known of how it stopped.

use dyad_units::{Extent, ImageId, Piece};

use crate::engine::Pool;
use crate::engine::marks::Regions;
use crate::entry::{Entry, MAP_DIRTY, STAMP_DIRTY, SUSPECT};
use crate::format::state::{Committed, ImageMeta, ImageNo, ImageState, LayerNo};
use crate::map::ExtentMap;

/// Names an open image of this pool. Valid until the image is deleted or the pool is closed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ImageHandle(u32);

impl ImageHandle {
    pub(super) fn new(at: usize) -> Self {
        Self(at as u32)
    }
}

pub(super) struct Image {
    pub(super) no: ImageNo,
    pub(super) layer: LayerNo,
    pub(super) meta: ImageMeta,
    /// Live: what has been written, durable or not.
    pub(super) map: ExtentMap,
    pub(super) regions: Regions,
    /// Requests that have not been replied to.
    pub(super) requests: u32,
    /// Pieces that other images might not have (M3), from L; empty once they are settled.
    pub(super) unsettled: Vec<Piece>,
    /// Whether L was there at opening (M11).
    pub(super) lived_through: bool,
    /// Extents whose map entry has to be committed with the next flush.
    pub(super) map_dirty: Vec<Extent>,
    /// Extents whose stamp has to be committed when the interval closes.
    pub(super) stamp_dirty: Vec<Extent>,
}

/// The images that were loaded, at the places that their handles name.
pub(super) fn from_committed(committed: Committed, lived_through: bool) -> Vec<Option<Image>> {
    let mut layers = committed.layers;
    let open = |state: ImageState| {
        let layer = layers.iter_mut().find(|layer| layer.no == state.layer);
        let map = layer.map(|layer| std::mem::take(&mut layer.map)).unwrap_or_default();
        let regions = Regions::new(state.meta.size, &state.marks, state.state_mark);
        Some(Image {
            no: state.no,
            layer: state.layer,
            meta: state.meta,
            map,
            regions,
            requests: 0,
            unsettled: Vec::new(),
            lived_through,
            map_dirty: Vec::new(),
            stamp_dirty: Vec::new(),
        })
    };
    committed.images.into_iter().map(open).collect()
}

impl Image {
    pub(super) fn has_suspect_in(&self, extents: impl Iterator<Item = Extent>) -> bool {
        extents.into_iter().any(|extent| self.map.entry(extent).has(SUSPECT))
    }
}

impl Pool {
    pub(super) fn image_at(&self, handle: ImageHandle) -> Option<usize> {
        let at = handle.0 as usize;
        self.images.get(at)?.as_ref().map(|_| at)
    }

    pub(super) fn image(&self, at: usize) -> &Image {
        self.images[at].as_ref().expect("an image in use is not deleted")
    }

    pub(super) fn image_mut(&mut self, at: usize) -> &mut Image {
        self.images[at].as_mut().expect("an image in use is not deleted")
    }

    /// The open image with this id.
    pub fn find(&self, id: ImageId) -> Option<ImageHandle> {
        let at = self.images.iter().position(|image| image.as_ref().is_some_and(|image| image.meta.id == id))?;
        Some(ImageHandle::new(at))
    }

    /// All open images.
    pub fn images(&self) -> impl Iterator<Item = (ImageHandle, &ImageMeta)> {
        let open = self.images.iter().enumerate();
        open.filter_map(|(at, image)| image.as_ref().map(|image| (ImageHandle::new(at), &image.meta)))
    }

    /// Bytes of slots that the image's extents occupy.
    pub fn image_bytes(&self, handle: ImageHandle) -> dyad_units::Bytes {
        let at = self.image_at(handle);
        let slots = at.map_or(0, |at| self.image(at).map.entries().filter(|(_, entry)| entry.slot().is_some()).count());
        dyad_units::Bytes::new(slots as u64 * u64::from(dyad_units::EXTENT_BYTES))
    }

    /// Changes an extent's live entry in a way that has to be committed. The committed entry is kept aside.
    pub(crate) fn change_entry(&mut self, at: usize, extent: Extent, change: impl FnOnce(&mut Entry)) {
        let image = self.images[at].as_mut().expect("an image in use is not deleted");
        let entry = image.map.entry_mut(extent);
        if !entry.has(MAP_DIRTY) {
            self.shadow.entry((at as u32, extent)).or_insert_with(|| entry.durable());
            entry.set(MAP_DIRTY);
            image.map_dirty.push(extent);
        }
        change(entry);
    }

    /// Raises an extent's stamp (M1); committed when the interval closes (M4), or earlier with the entry.
    pub(crate) fn raise_stamp(&mut self, at: usize, extent: Extent, stamp: dyad_units::Stamp) {
        let image = self.images[at].as_mut().expect("an image in use is not deleted");
        let entry = image.map.entry_mut(extent);
        if entry.stamp() >= stamp {
            return;
        }
        entry.set_stamp(stamp);
        if !entry.has(MAP_DIRTY | STAMP_DIRTY) {
            entry.set(STAMP_DIRTY);
            image.stamp_dirty.push(extent);
        }
    }
}
