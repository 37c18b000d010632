//! What a part says about itself: why the segment is not served, or not redundant, in one sentence.

use dyad_cluster::ImageState;
use dyad_units::{Epoch, ImageId, Moment, NodeId};

use crate::owner::MirrorStatus;

/// What this node is to the segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartRole {
    /// It forwards to the owner, and its images obey.
    Follower,
    /// It is about to become owner.
    Claiming,
    /// It is the owner and serves.
    Owner,
    /// It has ended in good order.
    Stopped,
    /// The segment was deleted.
    Deleted,
}

/// An image of this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartImage {
    /// Which image.
    pub id: ImageId,
    /// As recorded.
    pub state: ImageState,
    /// Whether its pool is open.
    pub is_up: bool,
    /// The epoch that it adopted (M3).
    pub adopted: Option<Epoch>,
    /// The node whose stream it obeys.
    pub obeys: Option<NodeId>,
}

/// Counts since the part was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PartCounters {
    /// Claims begun (M9).
    pub claims: u64,
    /// Claims that ended in serving.
    pub claims_won: u64,
    /// Claims that served with writes of the last owner under way (M9).
    pub claims_unsettled: u64,
    /// Streams that an image of ours adopted (M3).
    pub adopted: u64,
    /// Older owners or streams that an image of ours refused (M3).
    pub refused: u64,
    /// Requests of an older stream that were thrown away (M3).
    pub discarded: u64,
    /// Operations forwarded to the owner (M18).
    pub forwarded: u64,
    /// Forwarded operations executed here for other nodes (M18).
    pub executed: u64,
    /// Forwarded operations refused because they were of before (M19).
    pub refused_forwards: u64,
    /// Operations answered busy here because no owner could take them (M19).
    pub busy: u64,
    /// Hand-overs completed (M12).
    pub handed_over: u64,
    /// Resync runs begun (M13).
    pub resyncs: u64,
    /// Pauses of the process noticed (M6, M19).
    pub pauses: u64,
}

/// What a part says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartStatus {
    /// What the node is to the segment.
    pub role: PartRole,
    /// Newest epoch known.
    pub epoch: Epoch,
    /// Owner of the newest record known.
    pub owner: Option<NodeId>,
    /// Images of this node.
    pub images: Vec<PartImage>,
    /// The owner's side, while there is one.
    pub mirror: Option<MirrorStatus>,
    /// Operations of hosts and of other nodes that are not answered yet.
    pub in_flight: usize,
    /// Before this moment this node does not take over (M5, M6).
    pub promised_until: Moment,
    /// Why the segment is not served, or not redundant, or that all is well.
    pub sentence: String,
    /// Counts.
    pub counters: PartCounters,
}
