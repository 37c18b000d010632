//! Where the images of a new volume go when nobody says: two, on two nodes, at two sites where there are two, by space and
//! load (`dyad_cluster::placement`).

use dyad_cluster::placement::{PoolView, Wanted, place};
use dyad_cluster::{NewSegment, NodeState, SegmentRecord};
use dyad_units::{Bytes, ImageId, LayerId, NodeId, PoolId, SegmentId, VolumeId};

use super::{NodeHandle, NodeStatus, PoolPhase, QueryError};
use crate::catalog::Known;

/// Images of a volume by default.
const IMAGES: usize = 2;

impl NodeHandle {
    /// The pools for the images of a new volume of this size; fewer than two if there are not two that can take one.
    pub(super) fn usual_pools(&self, size: Bytes) -> Result<Vec<String>, QueryError> {
        let now = self.status()?;
        let views = views(&now, &self.catalog.lock());
        let chosen = choose(now.node.id, size, &views);
        Ok(chosen.into_iter().map(|(_, pool)| pool.to_string()).collect())
    }
}

fn views(now: &NodeStatus, known: &Known) -> Vec<PoolView> {
    let view = |pool: &super::PoolInfo| {
        let node = known.nodes.iter().find(|node| node.id == pool.node)?;
        let owned = now.volumes.iter().filter(|volume| volume.owner == Some(pool.node)).count();
        Some(PoolView {
            pool: pool.id,
            node: pool.node,
            site: node.site.clone(),
            total: pool.total,
            free: pool.free,
            provisioned: pool.provisioned,
            owned: owned as u32,
            is_usable: pool.phase == PoolPhase::Open && node.state == NodeState::Active,
        })
    };
    now.pools.iter().filter_map(view).collect()
}

/// The first image, which is read first and whose node owns the volume, is on the node that is asked unless that owns more
/// than another one already.
fn choose(me: NodeId, size: Bytes, views: &[PoolView]) -> Vec<(NodeId, PoolId)> {
    let mut segment = SegmentRecord::new(NewSegment {
        id: SegmentId::from_bytes([0; 16]),
        volume: VolumeId::from_bytes([0; 16]),
        layer: LayerId::from_bytes([0; 16]),
        size,
        images: vec![(ImageId::from_bytes([0; 16]), me, PoolId::from_bytes([0; 16]))],
    });
    segment.images.clear();
    let mut chosen = Vec::new();
    let usable = || views.iter().filter(|view| view.is_usable);
    let least = usable().map(|view| view.owned).min().unwrap_or(0);
    let own: Vec<PoolView> = usable().filter(|view| view.node == me && view.owned <= least + 1).cloned().collect();
    for at in 0..IMAGES {
        let wanted = Wanted { segment: &segment, used: Bytes::ZERO };
        let first = if at == 0 { place(&wanted, &own).ok() } else { None };
        let Some(next) = first.or_else(|| place(&wanted, views).ok()) else { break };
        chosen.push(next);
        let images =
            chosen.iter().enumerate().map(|(at, &(node, pool))| (ImageId::from_bytes([at as u8; 16]), node, pool));
        let new =
            NewSegment { id: segment.id, volume: segment.volume, layer: segment.layer, size, images: images.collect() };
        segment = SegmentRecord::new(new);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(node: u8, pool: u8, site: &str, free: u64, owned: u32) -> PoolView {
        PoolView {
            pool: PoolId::from_bytes([pool; 16]),
            node: NodeId::from_bytes([node; 16]),
            site: site.parse().unwrap(),
            total: Bytes::gib(100),
            free: Bytes::gib(free),
            provisioned: Bytes::gib(100 - free),
            owned,
            is_usable: true,
        }
    }

    fn pools(me: u8, views: &[PoolView]) -> Vec<u8> {
        let chosen = choose(NodeId::from_bytes([me; 16]), Bytes::gib(1), views);
        chosen.into_iter().map(|(_, pool)| pool.to_bytes()[0]).collect()
    }

    #[test]
    fn two_images_on_two_nodes_and_sites_the_first_here_unless_this_node_owns_more() {
        let mut views =
            vec![view(1, 10, "a", 50, 0), view(1, 11, "a", 90, 0), view(2, 20, "a", 95, 0), view(3, 30, "b", 60, 0)];
        assert_eq!(pools(1, &views), [11, 30], "the emptier pool here, then the other site");
        for view in &mut views[..2] {
            view.owned = 5;
        }
        assert_eq!(pools(1, &views), [20, 30]);
        views[3].is_usable = false;
        assert_eq!(pools(1, &views), [20, 11], "another node where there is no other site");
        assert_eq!(pools(1, &views[..1]), [10], "there is no second pool");
    }
}
