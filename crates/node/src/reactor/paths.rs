//! What hosts learn of the ways to a volume (ALUA, M18), and of the space behind it.
//!
//! Each node is a target port group of one port. How they stand to a volume is looked at when something happened that
//! can change it, never per command.

use dyad_scsi::{AccessState, PortGroup, Provisioning};
use dyad_units::{Bytes, EXTENT_BYTES, Epoch, NodeId};
use smallvec::SmallVec;

use super::run::Reactor;
use super::service::Service;

/// Space is low below this part of a pool's slots: time to add a disk before writes fail (P15), and no alarm about a
/// pool that is only well used.
const LOW_PERCENT: u64 = 10;

/// What a volume's unit was told.
pub(super) struct Paths {
    /// Something happened since that can have changed it.
    pub(super) is_stale: bool,
    /// Epoch of the record that it was told of.
    epoch: Option<Epoch>,
}

impl Paths {
    pub(super) const UNTOLD: Self = Self { is_stale: true, epoch: None };
}

/// Number of a node's only target port: portal group tag, target port group and relative target port identifier, never
/// zero. Made from the node's id, so that it is the same for ever and on every node without being recorded. Two nodes of
/// one cluster have the same with a probability of 1 in 65,535: hosts would take the two for one group then, and both
/// for as good as the better one.
pub(super) fn port_number(node: NodeId) -> u16 {
    // FNV-1a, 64 bits.
    let hash = node
        .to_bytes()
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % u64::from(u16::MAX)) as u16 + 1
}

impl Reactor {
    /// The nodes of the cluster, as the config store has them.
    pub(super) fn learn_nodes(&mut self, nodes: Vec<NodeId>) {
        self.has_neighbours |= nodes.len() > 1;
        if self.nodes == nodes {
            return;
        }
        let mut numbers: Vec<u16> = nodes.iter().map(|&node| port_number(node)).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|two| two[0] == two[1]) {
            tracing::warn!(
                "two nodes have the same port number: hosts cannot tell their paths apart; make one of them anew"
            );
        }
        self.nodes = nodes;
        self.doubt_all_paths();
    }

    /// Something happened that can have changed how any volume can be reached.
    pub(super) fn doubt_all_paths(&mut self) {
        for index in 0..self.volumes.len() as u32 {
            self.doubt_paths(index);
        }
    }

    /// Something happened that can have changed how a volume can be reached: looked at before the turn ends.
    pub(super) fn doubt_paths(&mut self, index: u32) {
        let Some(volume) = self.volumes.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        volume.paths.is_stale = true;
        if !volume.is_dirty {
            volume.is_dirty = true;
            self.dirty_volumes.push(index);
        }
    }

    /// Tells a volume's unit how it can be reached, if that may have changed.
    pub(super) fn tell_paths(&mut self, index: u32) {
        let Some(volume) = self.volume(index) else { return };
        let record = volume.part.record();
        let (epoch, preferred) = (Some(record.epoch), volume.record.preferred.map(|preferred| preferred.node));
        if !volume.paths.is_stale && volume.paths.epoch == epoch {
            return;
        }
        let service = Service::of(&volume.part.status(), &volume.places);
        let images = record.images.iter().map(|image| image.node);
        let mut nodes: SmallVec<[NodeId; 8]> =
            self.nodes.iter().copied().chain(images).chain(record.owner).chain([self.node]).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut groups: SmallVec<[PortGroup; 8]> = nodes
            .into_iter()
            .map(|node| {
                let number = port_number(node);
                let state = self.access_through(node, record.owner, &service);
                PortGroup { group: number, port: number, state, is_preferred: preferred == Some(node) }
            })
            .collect();
        groups.sort_unstable_by_key(|group| group.group);
        if let Some(volume) = self.volume_mut(index) {
            volume.paths = Paths { is_stale: false, epoch };
            volume.unit.set_port_groups(&groups);
        }
    }

    /// How a volume can be reached through a node, as far as this one knows.
    fn access_through(&self, node: NodeId, owner: Option<NodeId>, service: &Service) -> AccessState {
        let is_here = node == self.node;
        if !is_here && self.peer_of(node).is_none() {
            return AccessState::Unavailable;
        }
        match service {
            Service::Here { .. } if is_here => AccessState::Optimized,
            Service::Elsewhere if Some(node) == owner => AccessState::Optimized,
            Service::Here { .. } | Service::Elsewhere => AccessState::NonOptimized,
            Service::Starting => AccessState::Transitioning,
            // It may be served by a node that cannot be reached from here.
            Service::Not(_) if is_here => AccessState::Unavailable,
            Service::Not(_) => AccessState::Transitioning,
        }
    }

    /// Tells the units of all volumes with an image in a pool how much space is left there. A node without an image of a
    /// volume knows nothing of its space, and its hosts are told nothing.
    pub(super) fn tell_space(&mut self, pool: u32) {
        let Some(room) = self.pools.get(pool as usize).and_then(Option::as_deref) else { return };
        let usage = room.pool.usage();
        let bytes = |slots: u64| Bytes::new(slots.saturating_mul(u64::from(EXTENT_BYTES)));
        let used = bytes(usage.slots_total.saturating_sub(usage.slots_free));
        let is_low = usage.slots_free.saturating_mul(100) < usage.slots_total.saturating_mul(LOW_PERCENT);
        let space = Provisioning { used, available: bytes(usage.slots_free), is_low };
        for volume in self.volumes.iter_mut().flatten() {
            if volume.places.iter().any(|place| place.pool == pool) {
                volume.unit.set_provisioning(space);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts remember these numbers: they never change.
    #[test]
    fn a_node_keeps_its_port_number_for_ever() {
        let number = |byte| port_number(NodeId::from_bytes([byte; 16]));
        assert_eq!([number(0), number(1), number(0xff)], [27967, 31541, 10594]);
    }

    #[test]
    fn no_node_has_the_number_zero() {
        let mut random = 1_u128;
        for _ in 0..200_000 {
            random = random.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            assert_ne!(port_number(NodeId::from_bytes(random.to_be_bytes())), 0);
        }
    }
}
