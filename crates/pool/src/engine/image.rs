//! One open image: its map, its region log, what is known of how it stopped.

use std::collections::BTreeMap;

use dyad_units::{EXTENT_BYTES, Extent, ImageId, Region, Stamp};

use crate::engine::Pool;
use crate::engine::regions::{Regions, extents_of};
use crate::engine::unsettled::UnsettledWrites;
use crate::entry::{Entry, LOST, MAP_DIRTY, STAMP_DIRTY, SUSPECT};
use crate::format::state::{Committed, ImageMeta, ImageNo, ImagePhase, ImageState, LayerNo};
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
    /// Writes that other images might lack (M3).
    pub(super) unsettled: UnsettledWrites,
    /// Whether L was there at opening, or everything was compared since (M11).
    pub(super) lived_through: bool,
    /// As the journal has it: opened without L, and not everything was compared since.
    pub(super) suspect: bool,
    /// The newest stamp of a write or of an interval that began to close.
    pub(super) newest: Stamp,
    /// Regions to be compared since an opening without L, with one bit per extent that is not settled yet.
    pub(super) uncompared: BTreeMap<Region, u16>,
    /// Extents whose map entry has to be committed with the next flush.
    pub(super) map_dirty: Vec<Extent>,
    /// Extents whose stamp has to be committed when the interval closes.
    pub(super) stamp_dirty: Vec<Extent>,
}

/// The images that were loaded, at the places that their handles name.
pub(super) fn from_committed(committed: Committed, has_recent: bool) -> Vec<Option<Image>> {
    let mut layers = committed.layers;
    let open = |state: ImageState| {
        let layer = layers.iter_mut().find(|layer| layer.no == state.layer);
        let map = layer.map(|layer| std::mem::take(&mut layer.map)).unwrap_or_default();
        let regions = Regions::new(state.meta.size, &state.marks, state.state_mark);
        let lived_through = has_recent && !state.suspect;
        let (suspect, image) = (state.suspect, Image::new(state.no, state.layer, state.meta, map, regions));
        Some(Image { lived_through, suspect, ..image })
    };
    committed.images.into_iter().map(open).collect()
}

impl Image {
    pub(super) fn new(no: ImageNo, layer: LayerNo, meta: ImageMeta, map: ExtentMap, regions: Regions) -> Self {
        Self {
            no,
            layer,
            newest: meta.closed.max(meta.complete),
            meta,
            map,
            regions,
            requests: 0,
            unsettled: UnsettledWrites::default(),
            lived_through: true,
            suspect: false,
            uncompared: BTreeMap::new(),
            map_dirty: Vec::new(),
            stamp_dirty: Vec::new(),
        }
    }

    /// Extents that the disk lost (P12).
    pub(super) fn lost(&self) -> impl Iterator<Item = Extent> {
        self.map.entries().filter(|(_, entry)| entry.has(LOST)).map(|(extent, _)| extent)
    }

    /// Whether the image has such an extent.
    pub(super) fn has_extent(&self, extent: Extent) -> bool {
        let extents = self.meta.size.value().div_ceil(u64::from(EXTENT_BYTES));
        u64::from(extent.0) < extents || extent.is_hidden()
    }

    /// All marked regions have to be compared before the image may say that it lived through (M11).
    pub(super) fn suspect_marked(&mut self) {
        let marked: Vec<Region> = self.regions.iter_marked().collect();
        for region in marked {
            let there = extents_of(region).enumerate().filter(|(_, extent)| self.has_extent(*extent));
            let bits = there.fold(0_u16, |bits, (at, _)| bits | 1 << at);
            self.uncompared.insert(region, bits);
        }
    }

    /// The extent was compared; whether it was the last one.
    pub(super) fn compared(&mut self, extent: Extent) -> bool {
        let region = extent.region();
        let Some(bits) = self.uncompared.get_mut(&region) else { return false };
        *bits &= !(1 << (extent.0 % dyad_units::EXTENTS_PER_REGION));
        if *bits == 0 {
            self.uncompared.remove(&region);
        }
        self.uncompared.is_empty()
    }

    /// While an image is being resynced, what of it is needed is told by stamps: the source's of what vanished here, this
    /// image's own of what is suspect. Only the latter still hold their region's mark.
    pub(super) fn keep_suspects(&mut self) {
        let map = &self.map;
        self.uncompared.retain(|region, bits| {
            let suspect = extents_of(*region).enumerate().filter(|(_, extent)| map.entry(*extent).has(SUSPECT));
            *bits &= suspect.fold(0, |bits, (at, _)| bits | 1 << at);
            *bits != 0
        });
    }
}

impl Pool {
    pub(super) fn image_at(&self, handle: ImageHandle) -> Option<usize> {
        let at = handle.0 as usize;
        self.images.get(at)?.as_ref().map(|_| at)
    }

    /// The image, if it may be asked for something: not while it is being deleted.
    pub(super) fn usable_at(&self, handle: ImageHandle) -> Option<usize> {
        self.image_at(handle).filter(|&at| self.image(at).meta.phase == ImagePhase::Ready)
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
        dyad_units::Bytes::new(slots as u64 * u64::from(EXTENT_BYTES))
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
        let was_lost = entry.has(LOST);
        change(entry);
        self.extents_lost = self.extents_lost - u64::from(was_lost) + u64::from(entry.has(LOST));
    }

    /// Raises an extent's stamp (M1); committed when the interval closes (M4), or earlier with the entry.
    pub(crate) fn raise_stamp(&mut self, at: usize, extent: Extent, stamp: Stamp) {
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
