//! What a part says about itself: why the segment is not served, or not redundant, in one sentence.

use dyad_cluster::ImageState;
use dyad_units::{Epoch, ImageId, Moment, NodeId};

use crate::image::Image;
use crate::owner::MirrorStatus;
use crate::part::part::{Life, Part};

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
    /// The image that could catch up, but has to wait until those of other segments have (resyncs at once).
    pub waiting: Option<ImageId>,
    /// Operations of hosts and of other nodes that are not answered yet.
    pub in_flight: usize,
    /// Before this moment this node does not take over (M5, M6).
    pub promised_until: Moment,
    /// Another node is the owner, and connected.
    pub is_owner_near: bool,
    /// Why this node does not take the segment over, although it could, as far as it found out.
    pub why_not: Option<String>,
    /// Why the segment is not served, or not redundant, or that all is well.
    pub sentence: String,
    /// Counts.
    pub counters: PartCounters,
}

impl Part {
    /// What it says about itself. Allocates; for people, not per command.
    pub fn status(&self) -> PartStatus {
        let mirror = self.reign.as_ref().map(|reign| reign.mirror.status());
        let images = self.images.iter().map(|image| PartImage {
            id: image.id(),
            state: self.record.image(image.id()).map_or(ImageState::Detached, |image| image.state),
            is_up: image.is_up(),
            adopted: image.adopted(),
            obeys: image.obeys(),
        });
        let discarded = self.images.iter().map(Image::discarded).sum::<u64>();
        PartStatus {
            role: self.role(),
            epoch: self.record.epoch,
            owner: self.record.owner,
            images: images.collect(),
            is_owner_near: self.record.owner.is_some_and(|owner| owner != self.me() && self.peers.is_up(owner)),
            why_not: self.claim.as_ref().and_then(|claim| claim.why.clone()),
            sentence: self.sentence(mirror.as_ref()),
            mirror,
            waiting: self.returns.waiting,
            in_flight: self.front.len(),
            promised_until: self.promised_until,
            counters: PartCounters { discarded: self.counters.discarded + discarded, ..*self.counters },
        }
    }

    fn role(&self) -> PartRole {
        match self.life {
            Life::Deleted => PartRole::Deleted,
            Life::Stopped => PartRole::Stopped,
            Life::Live | Life::Stopping => match &self.reign {
                Some(reign) if reign.has_begun_to_serve() => PartRole::Owner,
                Some(_) => PartRole::Claiming,
                None => PartRole::Follower,
            },
        }
    }

    /// The one sentence that answers "is my data redundant, and is it served?", as far as this node knows.
    fn sentence(&self, mirror: Option<&MirrorStatus>) -> String {
        match self.role() {
            PartRole::Deleted => return "deleted".to_owned(),
            PartRole::Stopped => return "stopped".to_owned(),
            _ => {}
        }
        if let Some(mirror) = mirror {
            return mirror.sentence();
        }
        if self.store.is_behind {
            return "not taken over: the config store knows less than this node has seen; restore the newer store"
                .to_owned();
        }
        if let Some(why) = self.claim.as_ref().and_then(|claim| claim.why.as_deref()) {
            return format!("not served from here: {why}");
        }
        match self.record.owner {
            Some(owner) if owner == self.setup.node => "not served yet: this node is about to".to_owned(),
            Some(owner) if self.peers.is_up(owner) => format!("served by node {owner}"),
            Some(owner) => format!("node {owner}, the owner, cannot be reached from here"),
            None => "not served yet: no node has been owner".to_owned(),
        }
    }
}
