//! What a forced promotion loses (M10), as plain data for people and tools.

use dyad_mirror::{LossForecast, LossList, LossRanges};
use dyad_units::{Bytes, ImageId, NodeId};
use serde::{Deserialize, Serialize};

/// Ranges of a volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RangesInfo {
    /// Offset and length in bytes, the first few thousand of them.
    pub ranges: Vec<(u64, u64)>,
    /// Bytes of all of them.
    pub bytes: Bytes,
    /// There are more than are named.
    pub is_cut: bool,
}

/// An image that may have what the one to be promoted lacks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OtherInfo {
    /// Which image.
    pub image: ImageId,
    /// On which node.
    pub node: NodeId,
    /// What was written there later; `None`: it cannot be asked.
    pub newer: Option<RangesInfo>,
}

/// What would be lost, or what only a left image has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LossInfo {
    /// Before a promotion.
    Forecast {
        /// The image to be promoted.
        image: ImageId,
        /// Everything up to this stamp is on it.
        complete: String,
        /// It was catching up: parts of it are newer than others, as the volume never was.
        is_half_copied: bool,
        /// Where its machine may have forgotten unflushed writes (M11).
        forgotten: RangesInfo,
        /// What its own disk lost (P12).
        lost: RangesInfo,
        /// The images that may have more.
        others: Vec<OtherInfo>,
        /// No more than this is missing.
        bytes_max: Bytes,
    },
    /// After it, of an image that was left behind.
    List {
        /// Which image.
        image: ImageId,
        /// Blocks that are different there.
        only_here: RangesInfo,
        /// Blocks of which nobody knows: they are damaged there too.
        unreadable: RangesInfo,
    },
}

impl From<LossRanges> for RangesInfo {
    fn from(loss: LossRanges) -> Self {
        let ranges = loss.ranges.iter().map(|span| (span.offset(), span.len())).collect();
        Self { ranges, bytes: loss.bytes, is_cut: loss.is_cut }
    }
}

impl From<LossForecast> for LossInfo {
    fn from(forecast: LossForecast) -> Self {
        let other = |other: dyad_mirror::OtherImage| OtherInfo {
            image: other.image,
            node: other.node,
            newer: other.newer.map(RangesInfo::from),
        };
        Self::Forecast {
            image: forecast.image,
            complete: forecast.complete.to_string(),
            is_half_copied: forecast.is_half_copied,
            forgotten: forecast.forgotten.into(),
            lost: forecast.lost.into(),
            others: forecast.others.into_iter().map(other).collect(),
            bytes_max: forecast.bytes_max,
        }
    }
}

impl From<LossList> for LossInfo {
    fn from(list: LossList) -> Self {
        Self::List { image: list.image, only_here: list.only_here.into(), unreadable: list.unreadable.into() }
    }
}
