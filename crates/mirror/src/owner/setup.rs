//! What a mirror has to know besides its record, and its adjustable bounds.

use dyad_cluster::{AckPolicy, Incarnation};
use dyad_units::{Bytes, NodeId, Period};

/// What a mirror has to know besides the segment's record.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// This node: the owner to be.
    pub node: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// When a write may be acknowledged (A4).
    pub policy: AckPolicy,
    /// Times and bounds.
    pub tuning: Tuning,
}

/// Times and bounds of a mirror. The defaults are right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// T (M19): longest wait for a lock; below hosts' path timeouts (5 s and more).
    pub lock_wait: Period,
    /// Length of an interval (M4).
    pub interval: Period,
    /// An image that leaves a request unanswered for longer, while another one answers, is taken out (M8).
    /// Below hosts' command timeouts (30 s), far above a sync behind a full cache, which is no failure.
    pub silence: Period,
    /// A write that only one image has not done for longer: that image is too slow and is taken out (M8). Reads
    /// and flushes may take longer: a sync behind a full cache is no failure.
    pub slow: Period,
    /// How long an image's lease may be out before the image is taken out (M5): short, for its node may take the
    /// segment over about when the lease ends.
    pub lease_grace: Period,
    /// The same for the first lease of an epoch: the next beat must find out about the epoch first.
    pub lease_first: Period,
    /// Longest time that hosts wait for an image that catches up (M14); then its run ends.
    pub resync_wait: Period,
    /// Longest time for a planned hand-over until its record is proposed (M12).
    pub hand_over: Period,
    /// Pause before a request is repeated that an image had no room for, or a proposal whose outcome is
    /// unknown (M7).
    pub retry: Period,
    /// Slots asked for ahead per image, at first; more where they were short (P15). No other volume of the
    /// pool can have them meanwhile.
    pub credits: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            lock_wait: Period::from_secs(3),
            interval: Period::from_secs(10),
            silence: Period::from_secs(20),
            slow: Period::from_secs(1),
            lease_grace: Period::from_millis(50),
            lease_first: Period::from_millis(600),
            resync_wait: Period::from_secs(1),
            hand_over: Period::from_secs(1),
            retry: Period::from_millis(1),
            credits: 32,
        }
    }
}

/// The record cannot be served at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SetupError {
    /// The record names too many images or none.
    #[error("the record names {0} images; a segment has 1 to {max}", max = dyad_cluster::IMAGES_MAX)]
    Images(usize),
    /// Nothing may be served automatically (M9): only a forced promotion helps (M10).
    #[error("the record names no image in sync on this node; it can be served only by an administrator's decision")]
    NothingInSync,
    /// Not a size that a segment can have.
    #[error("{0} is not the size of a segment")]
    Size(Bytes),
}
