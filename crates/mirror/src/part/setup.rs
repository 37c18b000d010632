//! What a part has to know besides its record, and its adjustable bounds.

use dyad_cluster::{AckPolicy, Incarnation, RESYNCS_AT_ONCE};
use dyad_units::{NodeId, Period, StoreId};

use crate::owner::Tuning;

/// What a part has to know besides the segment's record.
#[derive(Clone, Copy, Debug)]
pub struct PartSetup {
    /// This node.
    pub node: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// The config store in which the record was found (§8).
    pub store: StoreId,
    /// When a write may be acknowledged (A4).
    pub policy: AckPolicy,
    /// Times and bounds.
    pub tuning: PartTuning,
}

/// Times and bounds of a part. The defaults are right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct PartTuning {
    /// Of the owner's side.
    pub owner: Tuning,
    /// A broken connection to an image's node has this long to come back, before the image counts as gone (M8): a few
    /// round trips of a new connection.
    pub link_grace: Period,
    /// An image that does not open a stream for so long counts as silent (M8).
    pub open_wait: Period,
    /// Whoever thinks of taking over waits this long for what the others know (M11), then decides without.
    pub show_wait: Period,
    /// A segment that nobody ever owned is claimed only when all its images can be asked, or after this: its nodes are just
    /// being told of it, and it should not begin with a resync of nothing.
    pub fresh_wait: Period,
    /// Whoever may not take over now looks again after this, unless there are news.
    pub claim_pause: Period,
    /// A claim that does not come to serving for so long does not keep others from claiming (M9).
    pub claim_max: Period,
    /// First pause before an image that was too slow comes back (M8), and before a resync that ended early is tried
    /// again; it doubles.
    pub return_pause: Period,
    /// Longest such pause.
    pub return_pause_max: Period,
    /// After so long in sync the pause starts small again.
    pub return_quiet: Period,
    /// Images of this node's segments that come back at a time, and beside them as many new ones that are filled.
    pub resyncs_at_once: usize,
}

impl Default for PartTuning {
    fn default() -> Self {
        Self {
            owner: Tuning::default(),
            link_grace: Period::from_millis(150),
            open_wait: Period::from_secs(1),
            show_wait: Period::from_millis(150),
            fresh_wait: Period::from_millis(1500),
            claim_pause: Period::from_millis(500),
            claim_max: Period::from_secs(10),
            return_pause: Period::from_secs(5),
            return_pause_max: Period::from_secs(300),
            return_quiet: Period::from_secs(3600),
            resyncs_at_once: RESYNCS_AT_ONCE,
        }
    }
}
