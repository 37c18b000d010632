//! The record of a volume: what a host sees as a LUN.

use dyad_units::{Bytes, NodeId, SECTOR_BYTES, SegmentId, Span, VolumeId};
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::limits::Limits;
use crate::name::Name;

/// Logical block size that hosts see.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum LogicalBlock {
    /// 512-byte logical blocks on 4 KiB physical ones (512e).
    #[default]
    #[serde(rename = "512")]
    Sector,
    /// 4096-byte logical blocks (4Kn).
    #[serde(rename = "4096")]
    Native,
}

impl LogicalBlock {
    /// Bytes of a logical block.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Sector => SECTOR_BYTES,
            Self::Native => dyad_units::BLOCK_BYTES,
        }
    }
}

/// What happens to a write while fewer images than [`AckPolicy::min_in_sync`] are in sync (A4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFew {
    /// It is answered with an error.
    #[default]
    Error,
    /// It waits until there are enough.
    Wait,
}

/// How many images an acknowledged write needs (A4).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct AckPolicy {
    /// Fewest in-sync images with which a write is acknowledged; at least 1.
    pub min_in_sync: u8,
    /// What happens with fewer.
    pub on_few: OnFew,
}

impl Default for AckPolicy {
    fn default() -> Self {
        Self { min_in_sync: 1, on_few: OnFew::Error }
    }
}

/// How far the volume is (section 6: creating and deleting go through states).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Its segments' records and images are being made; hosts do not see it yet.
    Creating,
    /// Hosts may use it.
    Ready,
    /// Its images and records are being removed; hosts do not see it any more.
    Deleting,
}

/// A volume.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Identity; part of the SCSI device identification.
    pub id: VolumeId,
    /// Unique among volumes; part of the iSCSI target name.
    pub name: Name,
    /// What hosts see.
    pub size: Bytes,
    /// Logical block size.
    pub block: LogicalBlock,
    /// Its segments in order; most volumes have one.
    pub segments: Vec<SegmentId>,
    /// When a write may be acknowledged.
    pub policy: AckPolicy,
    /// Write cache on (A1) or off (A2).
    pub cache: bool,
    /// Who may use it.
    pub access: Access,
    /// How far it is.
    pub state: VolumeState,
    /// The node that should own it, if the administrator has a wish.
    pub preferred: Option<PreferredOwner>,
    /// How much its hosts may ask of it.
    pub limits: Limits,
}

/// Which node should own a volume, and how it comes back to it (design section 7).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PreferredOwner {
    /// The node.
    pub node: NodeId,
    /// It gets the volume back by itself when it has been well for so many seconds; none: by hand.
    pub automatic_after_secs: Option<u32>,
}

/// Size or policy cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// Not a multiple of the logical block, empty, or beyond what can be addressed.
    #[error("{size} is not a volume's size (use a multiple of {block} bytes, at most {max})", max = Bytes::new(Span::END_MAX))]
    Size {
        /// The size asked for.
        size: Bytes,
        /// The logical block size.
        block: u32,
    },
    /// More images wanted than there are.
    #[error("{min_in_sync} in-sync images cannot be asked for: the volume has {images}")]
    Policy {
        /// What was asked for.
        min_in_sync: u8,
        /// Images of the volume.
        images: usize,
    },
}

impl VolumeRecord {
    /// Checks size and policy for a volume of `images` images.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn check(&self, images: usize) -> Result<(), ShapeError> {
        let (size, block) = (self.size, self.block.bytes());
        if size == Bytes::ZERO || !size.value().is_multiple_of(u64::from(block)) || size.value() > Span::END_MAX {
            return Err(ShapeError::Size { size, block });
        }
        let min_in_sync = self.policy.min_in_sync;
        if min_in_sync == 0 || usize::from(min_in_sync) > images {
            return Err(ShapeError::Policy { min_in_sync, images });
        }
        Ok(())
    }
}
