//! The images of the segment and what is known about each.

use dyad_cluster::{IMAGES_MAX, ImageRecord, ImageState, OutReason, SegmentRecord};
use dyad_payload::Payload;
use dyad_units::{Epoch, ImageId, Moment, NodeId};

use crate::owner::event::ImageIndex;
use crate::owner::images::Images;
use crate::records::RecordBuffers;

/// The images and what is known about them.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    record: SegmentRecord,
    encoded: Payload,
    buffers: RecordBuffers,
    node: NodeId,
    /// Which image has which place. A place is kept while the record names the image.
    places: [Option<ImageId>; IMAGES_MAX],
    /// Those of the own node.
    pub(crate) local: Images,
    /// As recorded.
    pub(crate) in_sync: Images,
    /// The image whose run of resync is under way: writes to what it has already need it too (M14).
    pub(crate) syncing: Images,
    /// Of those in sync, who failed and is to be taken out; never all of them.
    pub(crate) failing: Images,
    /// Who cannot be reached.
    pub(crate) gone: Images,
    /// Whose connection broke; nobody knows yet for how long.
    pub(crate) lost: Images,
    /// When each image last replied to anything.
    heard: [Moment; IMAGES_MAX],
    /// Why an image fails, or is bad but the last one.
    pub(crate) reasons: [Option<OutReason>; IMAGES_MAX],
    /// The images are being told the newest record; answers wait (M9).
    pub(crate) is_adopting: bool,
    /// The only image is flushed and the record shall say so (M8).
    pub(crate) wants_flushed_alone: bool,
}

impl Members {
    pub(crate) fn new(record: SegmentRecord, node: NodeId) -> Self {
        let mut places = [None; IMAGES_MAX];
        for (place, image) in places.iter_mut().zip(&record.images) {
            *place = Some(image.id);
        }
        let mut members = Self {
            record,
            encoded: Payload::new(),
            buffers: RecordBuffers::new(),
            node,
            places,
            local: Images::NONE,
            in_sync: Images::NONE,
            syncing: Images::NONE,
            failing: Images::NONE,
            gone: Images::NONE,
            lost: Images::NONE,
            heard: [Moment::START; IMAGES_MAX],
            reasons: [None; IMAGES_MAX],
            is_adopting: false,
            wants_flushed_alone: false,
        };
        members.look();
        members
    }

    /// The record is stored. Who left the set by it.
    pub(crate) fn adopt(&mut self, record: SegmentRecord) -> Images {
        let before = self.in_sync;
        self.record = record;
        self.look();
        let left = before.minus(self.in_sync);
        self.failing = self.failing.and(self.in_sync);
        left
    }

    /// What follows from the record.
    fn look(&mut self) {
        for at in 0..IMAGES_MAX {
            if self.places[at].is_some_and(|id| self.record.image(id).is_none()) {
                let place = ImageIndex(at as u8);
                (self.places[at], self.reasons[at]) = (None, None);
                self.gone.remove(place);
                self.lost.remove(place);
            }
        }
        for image in &self.record.images {
            let is_new = !self.places.contains(&Some(image.id));
            if is_new && let Some(at) = self.places.iter().position(Option::is_none) {
                self.places[at] = Some(image.id);
                // Nobody said yet that it can be reached.
                self.gone.insert(ImageIndex(at as u8));
            }
        }
        self.in_sync = self.which(|image| image.state == ImageState::InSync);
        let node = self.node;
        self.local = self.which(|image| image.node == node);
        self.encoded = self.buffers.encode(&self.record);
    }

    fn which(&self, is_it: impl Fn(&ImageRecord) -> bool) -> Images {
        let images = self.record.images.iter().filter(|image| is_it(image));
        images.filter_map(|image| self.place_of(image.id)).collect()
    }

    pub(crate) const fn record(&self) -> &SegmentRecord {
        &self.record
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.record.epoch
    }

    /// Whether the record names this node owner.
    pub(crate) fn is_own(&self) -> bool {
        self.record.owner == Some(self.node)
    }

    /// The newest record as bytes, for the images to keep.
    pub(crate) fn encoded(&self) -> Payload {
        self.encoded.clone()
    }

    /// The place of an image.
    pub(crate) fn place_of(&self, id: ImageId) -> Option<ImageIndex> {
        self.places.iter().position(|place| *place == Some(id)).map(|at| ImageIndex(at as u8))
    }

    /// Which image has this place.
    pub(crate) fn id_at(&self, image: ImageIndex) -> Option<ImageId> {
        *self.places.get(usize::from(image.0))?
    }

    /// The record of the image at this place.
    pub(crate) fn image_at(&self, image: ImageIndex) -> Option<&ImageRecord> {
        self.record.image(self.id_at(image)?)
    }

    /// Why the image at this place fails or failed.
    pub(crate) fn reason_at(&self, image: ImageIndex) -> OutReason {
        let recorded = self.image_at(image).and_then(|image| image.reason);
        self.reasons[usize::from(image.0)].or(recorded).unwrap_or(OutReason::WriteFailed)
    }

    /// Those that may be read from.
    pub(crate) fn readable(&self) -> Images {
        self.in_sync.minus(self.failing)
    }

    /// Those that may be read from, and will be in sync by this record too.
    pub(crate) fn staying(&self, record: &SegmentRecord) -> Images {
        let stays = |image: &ImageRecord| image.state == ImageState::InSync;
        let staying = record.images.iter().filter(|image| stays(image));
        self.readable().and(staying.filter_map(|image| self.place_of(image.id)).collect())
    }

    /// Those that are asked to write: the set, and the image that catches up.
    pub(crate) fn writable(&self) -> Images {
        self.in_sync.or(self.syncing)
    }

    /// Who is read first: an image of the own node, else the first in the volume's order (M17).
    pub(crate) fn nearest(&self, images: Images) -> Option<ImageIndex> {
        images.and(self.local).first().or_else(|| images.first())
    }

    /// The image replied to something.
    pub(crate) fn hear(&mut self, image: ImageIndex, now: Moment) {
        self.heard[usize::from(image.0)] = now;
    }

    /// When the image last replied to anything.
    pub(crate) fn heard(&self, image: ImageIndex) -> Moment {
        self.heard[usize::from(image.0)]
    }

    /// Whether an image that may be read, other than this one, replied to something since.
    pub(crate) fn heard_another(&self, image: ImageIndex, since: Moment) -> bool {
        let others = self.readable().minus(Images::one(image));
        others.into_iter().any(|other| self.heard[usize::from(other.0)] > since)
    }
}
