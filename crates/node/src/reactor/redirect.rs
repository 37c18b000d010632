//! Logins that another node should take: a host that comes to a node which is being drained is sent on (RFC 7143 §6.3.1,
//! status 0101), so that the node can be stopped without its hosts waiting for a timeout.
//!
//! A host is sent only where it can come for sure: to a node that is connected and not drained itself, at an address of its
//! own (not "all addresses": which of them the host can reach nobody knows here) and of the kind that the host used. If there
//! is none, this node takes the session, and forwards its commands (M18). Discovery goes on everywhere.

use std::net::SocketAddr;

use dyad_cluster::NodeState;
use dyad_iscsi::{LoginRefusal, PortalAddress};
use dyad_units::NodeId;

use super::run::Reactor;

/// What the config store says of how hosts come to a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    pub(crate) node: NodeId,
    pub(crate) state: NodeState,
    /// Addresses that it listens on.
    pub(crate) portals: Vec<SocketAddr>,
}

impl Reactor {
    /// The ways to all nodes of the cluster, this one included.
    pub(super) fn learn_ways(&mut self, ways: Vec<Way>) {
        self.ways = ways;
    }

    /// Where a host that came to `here` for this volume should go instead, if it should.
    pub(super) fn redirection(&self, index: u32, here: SocketAddr) -> Option<LoginRefusal> {
        let mine = self.ways.iter().find(|way| way.node == self.node)?;
        if mine.state == NodeState::Active {
            return None;
        }
        let owner = self.volume(index).and_then(|volume| volume.part.record().owner);
        let portal_of = |way: &Way| {
            let may = way.state == NodeState::Active && way.node != self.node && self.peer_of(way.node).is_some();
            let fits = |portal: &&SocketAddr| {
                let (ip, came) = (portal.ip(), here.ip());
                !ip.is_unspecified() && ip.is_loopback() == came.is_loopback() && ip.is_ipv4() == came.is_ipv4()
            };
            way.portals.iter().find(fits).copied().filter(|_| may)
        };
        // The owner's path is the short one.
        let owners = self.ways.iter().find(|way| Some(way.node) == owner).and_then(portal_of);
        let socket = owners.or_else(|| self.ways.iter().find_map(portal_of))?;
        let address = PortalAddress { socket };
        Some(match mine.state {
            NodeState::Removed => LoginRefusal::MovedPermanently(address),
            NodeState::Active | NodeState::Draining => LoginRefusal::MovedTemporarily(address),
        })
    }
}
