//! The status of the whole cluster: what this node knows, and what the others say when they are asked.

use std::time::Instant;

use dyad_units::{NodeId, Period};

use super::{DeleteVolumeError, IoCounters, NodeHandle, NodeInfo, NodeStatus, QueryError, VolumeInfo, VolumePhase};
use crate::orders::Orders;
use crate::talk::{Ask, STATUS_MAX, Told};

impl NodeHandle {
    /// Asks all nodes at once.
    pub(super) fn with_others(&self, mut own: NodeStatus) -> NodeStatus {
        let orders = self.orders();
        let connected: Vec<NodeId> =
            own.neighbours.iter().filter(|node| node.is_connected).map(|node| node.id).collect();
        let asked: Vec<_> = connected.into_iter().map(|node| (node, orders.ask(node, &Ask::Status))).collect();
        let deadline = Instant::now() + STATUS_MAX;
        let mut answers = Vec::new();
        for (node, answer) in asked {
            let left = deadline.saturating_duration_since(Instant::now());
            let body = answer.and_then(|answer| answer.wait(left).ok());
            if let Some(Told::Status(status)) = body.and_then(|body| serde_json::from_slice(&body).ok()) {
                answers.push((node, *status));
            }
        }
        for volume in &mut own.volumes {
            note_silence(volume, own.node.id, &answers);
        }
        for (node, status) in answers {
            take_in(&mut own, node, status);
        }
        own
    }

    /// Whether no host uses the volume through any node.
    pub(super) fn check_unused(&self, which: &str) -> Result<(), DeleteVolumeError> {
        let status = self.status()?;
        let found = status.volumes.iter().find(|volume| volume.name == which || volume.id.to_string() == which);
        let volume = found.ok_or_else(|| QueryError::Unknown { kind: "volume", name: which.into() })?;
        if volume.sessions > 0 {
            return Err(DeleteVolumeError::InUse { volume: volume.name.clone(), sessions: volume.sessions });
        }
        if let Some(unread) = self.catalog.lock().nodes_unknown().next() {
            return Err(DeleteVolumeError::Silent { volume: volume.name.clone(), node: unread.to_string() });
        }
        match status.neighbours.into_iter().find(|node| node.told.is_none()) {
            Some(node) => Err(DeleteVolumeError::Silent { volume: volume.name.clone(), node: node.name }),
            None => Ok(()),
        }
    }

    /// Gives orders to parts.
    pub(crate) fn orders(&self) -> Orders {
        let me = self.catalog.lock().node.id;
        Orders::new(self.mailbox.clone(), self.health.clone(), me)
    }
}

/// Where the owner did not answer, what is said is what is recorded.
fn note_silence(volume: &mut VolumeInfo, me: NodeId, answers: &[(NodeId, NodeStatus)]) {
    let Some(owner) = volume.owner.filter(|owner| *owner != me) else { return };
    if !answers.iter().any(|(node, _)| *node == owner) {
        let name = volume.owner_name.clone().unwrap_or_else(|| owner.to_string());
        // The part knows nodes by their ids; people by their names.
        if let VolumePhase::Failed { reason } = &mut volume.phase {
            *reason = reason.replace(&owner.to_string(), &name);
        }
        volume.redundancy.sentence = volume.redundancy.sentence.replace(&owner.to_string(), &name);
        volume.silent = Some(format!("node {name}, which owned it last, does not answer"));
    }
}

/// What hosts did at several nodes.
fn sum(one: IoCounters, other: IoCounters) -> IoCounters {
    let time = |one: Period, other: Period| Period::from_nanos(one.as_nanos().saturating_add(other.as_nanos()));
    IoCounters {
        reads: one.reads + other.reads,
        read_bytes: one.read_bytes + other.read_bytes,
        read_time: time(one.read_time, other.read_time),
        writes: one.writes + other.writes,
        write_bytes: one.write_bytes + other.write_bytes,
        write_time: time(one.write_time, other.write_time),
        others: one.others + other.others,
        other_time: time(one.other_time, other.other_time),
        time_max: one.time_max.max(other.time_max),
        errors: one.errors + other.errors,
    }
}

/// What is to be said of a node that uses another config store than this one, as each does until it was told of a new one. They
/// stay connected, for the hosts' sake; what they know of each other's records shows which is newer (design section 8).
fn other_store(own: &NodeInfo, theirs: &NodeInfo) -> Option<String> {
    let (own, theirs) = (own.store?, theirs.store?);
    (own != theirs).then(|| format!("it uses the config store {theirs}, and this node {own}"))
}

/// What a node says of itself, of the volumes that it owns and of its images counts.
fn take_in(own: &mut NodeStatus, node: NodeId, status: NodeStatus) {
    for theirs in status.volumes {
        let Some(mine) = own.volumes.iter_mut().find(|mine| mine.id == theirs.id) else { continue };
        mine.sessions += theirs.sessions;
        mine.in_flight += theirs.in_flight;
        // Whoever could not read them has hosts that get errors.
        mine.unread = mine.unread.take().or(theirs.unread);
        mine.io = sum(mine.io, theirs.io);
        let is_owner = mine.owner == Some(node) && theirs.owner == Some(node);
        for image in &mut mine.images {
            let Some(said) = theirs.images.iter().find(|said| said.id == image.id) else { continue };
            if image.node == node {
                (image.allocated, image.export) = (said.allocated, said.export.clone());
            }
            if is_owner {
                (image.state, image.reason) = (said.state.clone(), said.reason.clone());
                image.is_waiting = said.is_waiting;
                (image.out_seconds, image.progress) = (said.out_seconds, said.progress.clone());
            }
        }
        if is_owner {
            (mine.phase, mine.redundancy) = (theirs.phase, theirs.redundancy);
        }
    }
    own.pools.extend(status.pools);
    own.sessions.extend(status.sessions);
    if let Some(neighbour) = own.neighbours.iter_mut().find(|neighbour| neighbour.id == node) {
        neighbour.trouble = other_store(&own.node, &status.node);
        neighbour.told = Some(Box::new(status.node));
    }
}
