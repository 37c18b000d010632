//! Looking at an image from outside, without a request: for whoever holds images against each other while they are in use.

use dyad_units::{Extent, Stamp};

use crate::engine::Pool;
use crate::engine::image::ImageHandle;
use crate::entry::LOST;

/// An extent as reads see it at this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peek {
    /// Where its slot begins on the disk; none: it has none.
    pub offset: Option<u64>,
    /// One bit per block that was ever written (P1); the others read as zeros.
    pub written: u64,
    /// When it was last written (M1); of a suspect one: newest.
    pub stamp: Stamp,
    /// The disk lost something of it (P12).
    pub is_lost: bool,
}

impl Pool {
    /// What the image has of an extent, as far as writes that were answered say it; none: there is no such image.
    pub fn peek(&self, image: ImageHandle, extent: Extent) -> Option<Peek> {
        let at = self.image_at(image)?;
        let entry = self.image(at).map.entry(extent);
        Some(Peek {
            offset: entry.slot().map(|slot| self.superblock.layout.slot_offset(slot)),
            written: entry.written(),
            stamp: self.shown_stamp(at, extent),
            is_lost: entry.has(LOST),
        })
    }
}
