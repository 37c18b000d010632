//! Nodes that give everything away, or leave the cluster.

use std::time::{Duration, Instant};

use dyad_cluster::{Key, Kind, Listed, NodeRecord, NodeState, Record, SegmentRecord, StoreError, VolumeState};
use dyad_units::NodeId;

use super::Admin;
use super::volumes::OTHERS_MAX;
use crate::control::{DrainReport, NodeChangeError};
use crate::reactor::Message;
use crate::talk::Order;

/// How long a drain is waited for: a hand-over takes milliseconds, and is tried again by its node every few seconds.
const DRAIN_WAIT: Duration = Duration::from_secs(10);
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// How long a node is waited for that is not connected: it may be about to be, else it takes as long as it takes.
const AWAY_MAX: Duration = Duration::from_secs(2);

impl Admin {
    /// Lets a node give its volumes away, or serve again; says what is still there.
    pub(super) fn drain_node(&self, which: &str, is_wanted: bool) -> Result<DrainReport, NodeChangeError> {
        let node = self.node_called(which)?;
        let state = if is_wanted { NodeState::Draining } else { NodeState::Active };
        self.set_state(node.id, state)?;
        self.meet_nodes();
        let deadline = Instant::now() + DRAIN_WAIT;
        loop {
            if is_wanted && node.id == self.node {
                self.hand_away();
            }
            let report = self.whats_at(node.id)?;
            if !is_wanted || report.owned.is_empty() || Instant::now() >= deadline {
                return Ok(report);
            }
            std::thread::sleep(DRAIN_LOOK);
        }
    }

    /// Takes a node out of the cluster that holds nothing any more.
    pub(super) fn remove_node(&self, which: &str) -> Result<(), NodeChangeError> {
        let node = self.node_called(which)?;
        if node.id == self.node {
            return Err(NodeChangeError::Itself);
        }
        let left = self.whats_at(node.id)?;
        if !left.images.is_empty() || !left.owned.is_empty() {
            let volumes = if left.images.is_empty() { left.owned } else { left.images };
            return Err(NodeChangeError::InUse { name: node.name.to_string(), volumes });
        }
        let pools = self.store.list(Kind::Pool)?;
        // First, so that nobody puts an image there meanwhile; an image that somebody did is seen once more.
        self.set_state(node.id, NodeState::Removed)?;
        let late = self.whats_at(node.id)?;
        if !late.images.is_empty() {
            self.set_state(node.id, node.state)?;
            return Err(NodeChangeError::InUse { name: node.name.to_string(), volumes: late.images });
        }
        for found in pools {
            if matches!(&found.record, Record::Pool(pool) if pool.node == node.id) {
                self.change(found.record.key(), |_| None)?;
            }
        }
        self.meet_nodes();
        self.finish_deletions();
        Ok(())
    }

    /// Gives the segments that this node owns to others, if an administrator wants it drained.
    pub(super) fn hand_away(&self) {
        let (nodes, volumes) = {
            let known = self.catalog.lock();
            let is_draining = |node: &NodeRecord| node.id == self.node && node.state == NodeState::Draining;
            if !known.nodes.iter().any(is_draining) {
                return;
            }
            let volumes = known.volumes.iter().map(|volume| volume.record.clone());
            (known.nodes.clone(), volumes.filter(|volume| volume.state == VolumeState::Ready).collect::<Vec<_>>())
        };
        let takes = |id: NodeId| nodes.iter().any(|node| node.id == id && node.state == NodeState::Active);
        for volume in volumes {
            for segment in self.segments_of(&volume).iter().filter(|segment| segment.owner == Some(self.node)) {
                if let Some(image) = segment.in_sync().find(|image| image.node != self.node && takes(image.node)) {
                    // What becomes of it is seen in the record.
                    let _ = self.orders().here(volume.id, Order::HandOver { to: image.node });
                }
            }
        }
    }

    /// Whether a node's part in a volume that is made or deleted is waited for on.
    pub(super) fn is_worth_waiting(&self, node: NodeId, waited: Duration) -> bool {
        let is_connected = || self.ask(Message::Look).is_ok_and(|look| look.connected.contains(&node));
        waited < AWAY_MAX || waited < OTHERS_MAX && is_connected()
    }

    /// Whether an administrator wants the node drained, as far as is known here.
    pub(super) fn is_draining(&self, node: NodeId) -> bool {
        let known = self.catalog.lock();
        known.nodes.iter().any(|known| known.id == node && known.state == NodeState::Draining)
    }

    fn node_called(&self, which: &str) -> Result<NodeRecord, NodeChangeError> {
        let Listed { records, unreadable } = self.listed(Kind::Node)?;
        let mut nodes = records.into_iter().filter_map(|found| match found.record {
            Record::Node(node) if node.state != NodeState::Removed => Some(node),
            _ => None,
        });
        match (nodes.find(|node| node.name.as_str() == which || node.id.to_string() == which), unreadable.first()) {
            (Some(node), _) => Ok(node),
            // It may be the one that is meant.
            (None, Some(&(key, source))) => Err(StoreError::Record { key, source }.into()),
            (None, None) => Err(NodeChangeError::Unknown { name: which.to_owned() }),
        }
    }

    fn set_state(&self, node: NodeId, state: NodeState) -> Result<(), NodeChangeError> {
        self.change(Key::Node(node), |record| match record {
            Record::Node(found) => Some(Record::Node(NodeRecord { state, ..found })),
            other => Some(other),
        })?;
        Ok(())
    }

    /// The volumes of which the node owns a part, and those of which it has an image, as the records say now.
    fn whats_at(&self, node: NodeId) -> Result<DrainReport, StoreError> {
        let mut report = DrainReport::default();
        let mut segments: Vec<SegmentRecord> = Vec::new();
        for found in self.store.list(Kind::Segment)? {
            if let Record::Segment(segment) = found.record {
                segments.push(segment);
            }
        }
        for found in self.store.list(Kind::Volume)? {
            let Record::Volume(volume) = found.record else { continue };
            if volume.state == VolumeState::Deleting {
                // It never comes back, and may wait for the node to go.
                continue;
            }
            let of_it = || segments.iter().filter(|segment| segment.volume == volume.id);
            if of_it().any(|segment| segment.owner == Some(node)) {
                report.owned.push(volume.name.to_string());
            }
            if of_it().any(|segment| segment.images.iter().any(|image| image.node == node)) {
                report.images.push(volume.name.to_string());
            }
        }
        report.owned.sort();
        report.images.sort();
        Ok(report)
    }
}
