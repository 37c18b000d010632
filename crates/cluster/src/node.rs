//! The record of a node, and its lives.

use dyad_units::{BootId, NodeId};
use serde::{Deserialize, Serialize};

use crate::name::Name;

/// One life of a node's memory (M11): did memory survive, and which life is newer?
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Start of the machine: with another boot id the page cache is gone.
    pub boot: BootId,
    /// Durable count of the node's starts.
    pub start: u64,
}

/// A node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Identity.
    pub id: NodeId,
    /// Unique among nodes.
    pub name: Name,
    /// Failure domain: a room, a building.
    pub site: Name,
    /// Its newest life. The counter is durable before the node does anything else.
    pub incarnation: Incarnation,
    /// Where the other nodes reach it, `address:port`, in the order in which they try; none: it has no neighbours.
    pub peers: Vec<String>,
    /// Where hosts reach it: its portals, as it listens.
    pub portals: Vec<String>,
    /// Where administrators reach it over the network; none: on its own machine only.
    pub admin: Vec<String>,
    /// What the administrator wants of it.
    pub state: NodeState,
}

/// What the administrator wants of a node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum NodeState {
    /// It serves.
    #[default]
    Active,
    /// It gives its segments to other nodes and takes none, as long as another in-sync image is there.
    Draining,
    /// It is of this cluster no more. The record stays: nobody with this id is let in again.
    Removed,
}

/// Most addresses at which other nodes try a node: a few networks, each with both families.
pub const PEERS_MAX: usize = 8;

impl NodeRecord {
    /// The record at the node's next start on the machine's start `boot`.
    #[must_use]
    pub fn started(mut self, boot: BootId) -> Self {
        self.incarnation = Incarnation { boot, start: self.incarnation.start.saturating_add(1) };
        self
    }
}
