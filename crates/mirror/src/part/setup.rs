//! What a part has to know besides its record, and its adjustable bounds.

use dyad_cluster::{AckPolicy, Incarnation};
use dyad_units::NodeId;

use crate::owner::Tuning;

/// What a part has to know besides the segment's record.
#[derive(Clone, Copy, Debug)]
pub struct PartSetup {
    /// This node.
    pub node: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// When a write may be acknowledged (A4).
    pub policy: AckPolicy,
    /// Times and bounds.
    pub tuning: PartTuning,
}

/// Times and bounds of a part. The defaults are right but for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartTuning {
    /// Of the owner's side.
    pub owner: Tuning,
}
