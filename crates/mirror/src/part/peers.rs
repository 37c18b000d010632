//! The other nodes, as far as this segment is concerned.

use dyad_cluster::{Incarnation, OutReason};
use dyad_units::{ImageId, NodeId};

/// Whether a node's image can be asked, as that node says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Says {
    Up {
        /// Nothing that it ever replied to is missing (M11).
        has_everything: bool,
    },
    Down(OutReason),
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) is_up: bool,
    pub(crate) incarnation: Incarnation,
    pub(crate) images: Vec<(ImageId, Says)>,
}

/// Bound of images of one node that are remembered: a segment has at most four images; those dropped are forgotten with
/// the connection, or when there are that many.
const SAYS_MAX: usize = 16;

/// All other nodes that were ever connected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers(Vec<Peer>);

impl Peers {
    pub(crate) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.0.iter().find(|peer| peer.node == node)
    }

    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|peer| peer.is_up)
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = NodeId> {
        self.0.iter().filter(|peer| peer.is_up).map(|peer| peer.node)
    }

    pub(crate) fn begin(&mut self, node: NodeId, incarnation: Incarnation) {
        self.0.retain(|peer| peer.node != node);
        self.0.push(Peer { node, is_up: true, incarnation, images: Vec::new() });
    }

    pub(crate) fn end(&mut self, node: NodeId) {
        if let Some(peer) = self.0.iter_mut().find(|peer| peer.node == node) {
            peer.is_up = false;
            peer.images.clear();
        }
    }

    /// The node says this of an image that the record names; `is_named` tells which others it does.
    pub(crate) fn says(&mut self, node: NodeId, image: ImageId, says: Says, is_named: impl Fn(ImageId) -> bool) {
        let Some(peer) = self.0.iter_mut().find(|peer| peer.node == node && peer.is_up) else { return };
        if let Some(known) = peer.images.iter_mut().find(|(id, _)| *id == image) {
            known.1 = says;
            return;
        }
        if peer.images.len() >= SAYS_MAX {
            peer.images.retain(|(id, _)| is_named(*id));
        }
        peer.images.push((image, says));
    }

    /// What the node says of its image; none: nothing, or it is not connected.
    pub(crate) fn said(&self, node: NodeId, image: ImageId) -> Option<Says> {
        let peer = self.get(node).filter(|peer| peer.is_up)?;
        peer.images.iter().find(|(id, _)| *id == image).map(|(_, says)| *says)
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::BootId;

    use super::*;

    /// A volume that moves between two nodes again and again has a new image there each time, and their connection may last
    /// for months. What was said of the seventeenth was not heard: it stayed out for ever.
    #[test]
    fn an_image_after_many_others_on_one_node_is_heard_of() {
        let node = NodeId::from_bytes([1; 16]);
        let image = |at: u8| ImageId::from_bytes([at; 16]);
        let mut peers = Peers::default();
        peers.begin(node, Incarnation { boot: BootId::from_bytes([2; 16]), start: 1 });
        for at in 0..100 {
            let is_named = |id| id == image(0) || id == image(at);
            peers.says(node, image(at), Says::Up { has_everything: true }, is_named);
            assert_eq!(peers.said(node, image(at)), Some(Says::Up { has_everything: true }), "image {at}");
            assert!(peers.said(node, image(0)).is_some(), "one that stays is not forgotten");
            assert!(peers.get(node).is_some_and(|peer| peer.images.len() <= SAYS_MAX));
        }
    }
}
