//! What a forced promotion loses, said exactly (M10). Nothing here changes anything: questions and reads only.
//!
//! ```text
//!  before: Show on the image to be promoted ─▶ complete up to stamp X ─▶ List(after X) on every other image that can be asked
//!  after:  Show on the image left behind ─▶ Changed(after X) ─▶ those of its stamps that the forks left behind
//!             └─▶ per extent: Examine here, read the volume as a host would ─▶ blocks that differ
//! ```
//!
//! Before, the answer is an upper bound in extents: an image says when an extent was written, not what was written to it.
//! After, it is exact in blocks: what the image left behind holds, and the volume, as it is now, does not.

mod forecast;
mod inquiry;
mod list;

pub(super) use inquiry::Losses;

use dyad_cluster::ImageState;
use dyad_units::{Bytes, ImageId, NodeId, Span, Stamp};

/// Most ranges that a report names; the count of bytes is exact beyond them. 64 KiB, and more than anybody reads.
pub const LOSS_RANGES_MAX: usize = 4096;

/// Ranges of a segment, in order, neighbours joined.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LossRanges {
    /// The first [`LOSS_RANGES_MAX`] of them.
    pub ranges: Vec<Span>,
    /// Bytes of all of them, those not named too.
    pub bytes: Bytes,
    /// There are more than are named.
    pub is_cut: bool,
}

impl LossRanges {
    /// One more range; not before those that are there.
    fn push(&mut self, span: Span) {
        self.bytes = Bytes::new(self.bytes.value() + span.len());
        let joined = self.ranges.last().filter(|last| !self.is_cut && last.end() == span.offset());
        if let Some(joined) = joined.and_then(|last| Span::new(last.offset(), last.len() + span.len()).ok()) {
            let at = self.ranges.len() - 1;
            self.ranges[at] = joined;
        } else if self.ranges.len() < LOSS_RANGES_MAX {
            self.ranges.push(span);
        } else {
            self.is_cut = true;
        }
    }
}

/// What a forced promotion of an image would give up, as exactly as can be known before it (M10).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LossForecast {
    /// The image to be promoted.
    pub image: ImageId,
    /// Everything that was acknowledged up to this stamp is on the image; what was written after it may be missing.
    pub complete: Stamp,
    /// The image was catching up: below some extent it is newer than above, as the volume never was.
    pub is_half_copied: bool,
    /// Regions in which an image that the record names in sync may have forgotten unflushed writes (M11): nothing else of
    /// what was acknowledged is missing on it.
    pub forgotten: LossRanges,
    /// Extents that the image's own disk lost: they cannot be read (P12).
    pub lost: LossRanges,
    /// The images that may have what this one lacks.
    pub others: Vec<OtherImage>,
    /// No more than this is missing: all that the others have newer, or all of the segment where one cannot be asked.
    pub bytes_max: Bytes,
}

/// An image that may have what the one to be promoted lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OtherImage {
    /// Which image.
    pub image: ImageId,
    /// On which node.
    pub node: NodeId,
    /// As recorded.
    pub state: ImageState,
    /// Extents that were written there after the stamp; none: it cannot be asked.
    pub newer: Option<LossRanges>,
}

/// What only an image that a forced promotion left behind has (M10).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LossList {
    /// The image left behind.
    pub image: ImageId,
    /// What was written there after this stamp was compared with the volume.
    pub since: Stamp,
    /// Blocks that are different here, or that the volume cannot read; what the image has of them is whole.
    pub only_here: LossRanges,
    /// Blocks that were written here after the stamp, and are damaged or lost here too: nobody knows whether they differ.
    pub unreadable: LossRanges,
}

/// The answer to [`Command::ForecastLoss`](crate::Command::ForecastLoss) or
/// [`Command::ListLoss`](crate::Command::ListLoss).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LossReport {
    /// Before the promotion.
    Forecast(Box<LossForecast>),
    /// After it.
    List(Box<LossList>),
}

#[cfg(test)]
mod tests;
