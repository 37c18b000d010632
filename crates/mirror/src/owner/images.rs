//! Sets of images, one bit each.

use std::fmt;

use dyad_cluster::IMAGES_MAX;

use crate::owner::event::ImageIndex;

const _: () = assert!(IMAGES_MAX <= 8, "a set of images is a byte");

/// A set of images of the segment.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub(crate) struct Images(u8);

impl Images {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn one(image: ImageIndex) -> Self {
        Self(1 << image.0)
    }

    pub(crate) const fn contains(self, image: ImageIndex) -> bool {
        self.0 & 1 << image.0 != 0
    }

    pub(crate) const fn insert(&mut self, image: ImageIndex) {
        self.0 |= 1 << image.0;
    }

    pub(crate) const fn remove(&mut self, image: ImageIndex) {
        self.0 &= !(1 << image.0);
    }

    #[must_use]
    pub(crate) const fn with(self, image: ImageIndex) -> Self {
        Self(self.0 | 1 << image.0)
    }

    #[must_use]
    pub(crate) const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The first in the record's order, which is the order of reads (M17).
    pub(crate) const fn first(self) -> Option<ImageIndex> {
        if self.0 == 0 { None } else { Some(ImageIndex(self.0.trailing_zeros() as u8)) }
    }
}

impl FromIterator<ImageIndex> for Images {
    fn from_iter<T: IntoIterator<Item = ImageIndex>>(images: T) -> Self {
        images.into_iter().fold(Self::NONE, Self::with)
    }
}

impl IntoIterator for Images {
    type Item = ImageIndex;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        Iter(self)
    }
}

/// The images of a set, in the record's order.
pub(crate) struct Iter(Images);

impl Iterator for Iter {
    type Item = ImageIndex;

    fn next(&mut self) -> Option<ImageIndex> {
        let first = self.0.first()?;
        self.0.remove(first);
        Some(first)
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.into_iter().map(|image| image.0)).finish()
    }
}
