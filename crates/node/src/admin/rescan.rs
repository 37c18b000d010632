//! What other nodes did to the records, followed here: nodes that came, volumes that were made or deleted, and this
//! node's part in both.
//!
//! A node makes and deletes the images in its own pools, and says so in the segment's record: of a volume that is made,
//! the image has an incarnation then; of one that is deleted, it is not listed any more. So whoever sees the records
//! knows what is left to do, whichever nodes stopped in between.

use std::time::Instant;

use dyad_cluster::{
    Change, ImageRecord, Key, Kind, Listed, NodeRecord, NodeState, PoolRecord, Presence, Record, SegmentRecord,
    SetError, StoreError, VolumeRecord, VolumeState,
};
use dyad_units::VolumeId;

use super::Admin;
use super::volumes::Halt;
use crate::catalog::KnownVolume;
use crate::reactor::{Message, Way};

impl Admin {
    /// Learns of the nodes of the cluster and their pools.
    pub(super) fn meet_nodes(&self) {
        if self.news.is_alone() {
            return;
        }
        if let Err(error) = self.try_meet_nodes() {
            tracing::warn!(%error, "the other nodes are not known yet");
        }
    }

    /// As [`Self::meet_nodes`]; the pools of this node, as recorded.
    fn try_meet_nodes(&self) -> Result<Vec<PoolRecord>, StoreError> {
        let Listed { records, unreadable } = self.look(Kind::Node)?;
        let mut nodes: Vec<NodeRecord> = (records.into_iter())
            .filter_map(|found| match found.record {
                Record::Node(node) => Some(node),
                _ => None,
            })
            .collect();
        // Of one whose record cannot be read any more stays what was known.
        let is_unread = |node: &&NodeRecord| unreadable.iter().any(|(key, _)| *key == Key::Node(node.id));
        nodes.extend(self.catalog.lock().nodes.iter().filter(is_unread).cloned());
        let pools = (self.look(Kind::Pool)?.records.into_iter()).filter_map(|found| match found.record {
            Record::Pool(pool) => Some(pool),
            _ => None,
        });
        let (own, mut pools): (Vec<PoolRecord>, Vec<_>) = pools.partition(|pool| pool.node == self.node);
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        pools.sort_by(|one, other| one.name.cmp(&other.name));
        for node in &nodes {
            self.peers.learn(node);
        }
        if nodes.iter().any(|node| node.id == self.node && node.state == NodeState::Removed) {
            tracing::error!("this node was removed from the cluster: stop it");
        }
        self.mailbox.post(Message::Ways(nodes.iter().map(way_to).collect()));
        nodes.retain(|node| node.state != NodeState::Removed);
        let mut ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
        ids.sort_unstable();
        self.mailbox.post(Message::Nodes(ids));
        let mut known = self.catalog.lock();
        (known.nodes, known.pools_elsewhere) = (nodes, pools);
        Ok(own)
    }

    /// Follows what changed. Without the store nothing is known to have changed.
    pub(super) fn rescan(&self) {
        self.news.taken();
        if self.news.is_alone() {
            return;
        }
        if let Err(error) = self.try_rescan() {
            tracing::debug!(%error, "the config store cannot be looked at");
        }
    }

    fn try_rescan(&self) -> Result<(), StoreError> {
        let pools = self.try_meet_nodes()?;
        self.record_life()?;
        self.open_new_pools(pools);
        self.hand_away();
        let Listed { records, unreadable } = self.listed(Kind::Volume)?;
        let mut there: Vec<VolumeId> = (unreadable.iter())
            .filter_map(|(key, _)| match key {
                Key::Volume(id) => Some(*id),
                _ => None,
            })
            .collect();
        for found in records {
            let Record::Volume(volume) = found.record else { continue };
            there.push(volume.id);
            self.follow(volume);
        }
        let is_gone = |known: &&KnownVolume| !there.contains(&known.record.id);
        let gone: Vec<VolumeId> =
            self.catalog.lock().volumes.iter().filter(is_gone).map(|known| known.record.id).collect();
        for id in gone {
            // Created after the list was made?
            if matches!(self.store.get(Key::Volume(id)), Ok(None)) {
                let _ = self.ask(|reply| Message::RemoveVolume { volume: id, reply });
                self.catalog.lock().forget_volume(id);
            }
        }
        Ok(())
    }

    /// Pools of this node whose records could not be read when it started.
    fn open_new_pools(&self, pools: Vec<PoolRecord>) {
        for pool in pools {
            let id = pool.id;
            if self.catalog.lock().pools.iter().all(|known| known.record.id != id) {
                self.open_known_pool(pool);
                self.bring_back_volumes(id);
            }
        }
    }

    fn follow(&self, volume: VolumeRecord) {
        let id = volume.id;
        let known = self.catalog.lock().volumes.iter().find(|known| known.record.id == id).cloned();
        let is_done = known.as_ref().is_some_and(|known| {
            known.record.state == VolumeState::Ready && volume.state == VolumeState::Ready && known.fault.is_none()
        });
        if is_done {
            self.refresh(&volume);
            return;
        }
        match volume.state {
            VolumeState::Ready => {}
            // Whoever makes it has not come to the segments' records, or stopped before: it is undone where it was begun.
            VolumeState::Creating if self.segments_of(&volume).len() != volume.segments.len() => return,
            VolumeState::Creating => {}
            VolumeState::Deleting => {
                if self.ask(|reply| Message::RemoveVolume { volume: id, reply }).is_err() {
                    return;
                }
            }
        }
        let outcome = self.carry(id);
        if let Some(start) = self.enter(id, outcome.err().map(|halt| super::chain(&halt))) {
            // It goes on starting by itself.
            self.await_start(start, Instant::now());
        }
    }

    /// Says in the segments' records what became of this node's images, as far as others wait for it. `true` if a record
    /// changed.
    pub(super) fn report_images(&self, volume: &VolumeRecord, segments: &[SegmentRecord]) -> Result<bool, Halt> {
        let mut changed = false;
        for segment in segments {
            let is_mine = |image: &&ImageRecord| image.node == self.node;
            if segment.images.iter().all(|image| is_mine(&image)) {
                continue;
            }
            let presence = |image: &ImageRecord| self.presence_of(volume, image);
            let mine = || segment.images.iter().filter(is_mine);
            match volume.state {
                VolumeState::Creating => {
                    for image in mine() {
                        if image.incarnation.is_none() && presence(image) == Presence::There {
                            self.prove(segment, image)?;
                            changed = true;
                        }
                    }
                }
                VolumeState::Deleting
                    if mine().next().is_some() && mine().all(|it| presence(it) == Presence::NotThere) =>
                {
                    self.leave(segment)?;
                    changed = true;
                }
                VolumeState::Deleting | VolumeState::Ready => {}
            }
        }
        Ok(changed)
    }

    /// This node's image is there: its record says of which life (M11).
    fn prove(&self, segment: &SegmentRecord, image: &ImageRecord) -> Result<(), SetError> {
        let prove = Change::Prove { image: image.id, incarnation: self.incarnation };
        self.change(Key::Segment(segment.id), |record| match record {
            Record::Segment(found) => Some(Record::Segment(found.changed(&[prove]).unwrap_or(found))),
            other => Some(other),
        })
    }

    /// This node's images are gone: they are not listed any more.
    fn leave(&self, segment: &SegmentRecord) -> Result<(), SetError> {
        self.change(Key::Segment(segment.id), |record| match record {
            Record::Segment(mut found) => {
                found.images.retain(|image| image.node != self.node);
                found.owner = found.owner.filter(|&owner| owner != self.node);
                found.epoch = found.epoch.next();
                Some(Record::Segment(found))
            }
            other => Some(other),
        })
    }
}

/// Addresses that nobody can write as a number are left out: hosts are sent to none of them.
fn way_to(node: &NodeRecord) -> Way {
    let portals = node.portals.iter().filter_map(|portal| portal.parse().ok()).collect();
    Way { node: node.id, state: node.state, portals }
}
