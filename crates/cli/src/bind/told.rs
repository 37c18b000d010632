//! What the node says about itself, in the API's words.

use std::num::NonZero;

use dyad_api::model::{
    Access, Activity, Disk, DiskAccess, DiskKind, Grant, Health, Image, ImageState, Limits, Loss, Node, NodeState,
    Orphan, Pool, PoolCounters, PreferredOwner, Progress, Range, Redundancy, Right, Session, Volume, VolumeState,
};
use dyad_node::control::{
    BackendInfo, DiskInfo, ImageInfo, IoCounters, LossInfo, NeighbourInfo, NodeInfo, NodePhase, PoolInfo, PoolPhase,
    SessionInfo, VolumeInfo, VolumePhase,
};
use dyad_units::{Bytes, Period};

/// Sentences of the API end without full stop.
pub(super) fn sentence(text: &str) -> String {
    text.trim_end().trim_end_matches('.').to_owned()
}

fn seconds(period: Period) -> u64 {
    period.to_duration().as_secs()
}

fn micros(period: Period) -> u64 {
    period.as_nanos() / 1000
}

pub(super) fn node(node: &NodeInfo) -> Node {
    let (disk_access, reason) = match &node.backend {
        BackendInfo::IoUring => (DiskAccess::IoUring, String::new()),
        BackendInfo::Threads { reason } => (DiskAccess::Threads, sentence(reason)),
    };
    Node {
        id: node.id,
        name: node.name.clone(),
        version: node.version.clone(),
        site: node.site.clone(),
        state: match node.phase {
            NodePhase::Starting => NodeState::Starting,
            NodePhase::Running => NodeState::Serving,
            NodePhase::Stopping => NodeState::Stopping,
        },
        draining: node.wanted == dyad_cluster::NodeState::Draining,
        trouble: sentence(node.store_trouble.as_deref().unwrap_or_default()),
        peer_encryption: node.is_encrypted,
        admin: Vec::new(),
        uptime_seconds: seconds(node.uptime),
        start_counter: node.starts,
        portals: node.portals.iter().map(ToString::to_string).collect(),
        disk_access,
        disk_access_reason: reason,
        data_dir: node.data_dir.display().to_string(),
        connections: node.connections,
        half_open: node.half_open,
        refused_connections: node.refused,
        buffer_bytes: node.buffers_held.value(),
        buffer_bytes_max: node.buffers_max.value(),
        faults: node.faults,
    }
}

/// Another node: what it says about itself, or as far as the one that answers knows.
pub(super) fn neighbour(node: &NeighbourInfo) -> Node {
    if let Some(told) = &node.told {
        let shown = self::node(told);
        let trouble = node.trouble.as_deref().map_or_else(|| shown.trouble.clone(), sentence);
        return Node { trouble, ..shown };
    }
    Node {
        id: node.id,
        name: node.name.clone(),
        version: String::new(),
        site: node.site.clone(),
        state: if node.is_connected { NodeState::Connected } else { NodeState::Unreachable },
        draining: node.wanted == dyad_cluster::NodeState::Draining,
        trouble: sentence(node.trouble.as_deref().unwrap_or_default()),
        peer_encryption: None,
        admin: node.admin.clone(),
        uptime_seconds: 0,
        start_counter: node.starts,
        portals: node.portals.clone(),
        disk_access: DiskAccess::IoUring,
        disk_access_reason: String::new(),
        data_dir: String::new(),
        connections: 0,
        half_open: 0,
        refused_connections: 0,
        buffer_bytes: 0,
        buffer_bytes_max: 0,
        faults: 0,
    }
}

pub(super) fn pool(pool: &PoolInfo) -> Pool {
    let (health, reason) = match &pool.phase {
        PoolPhase::Failed { reason } => {
            let poisoned = pool.disks.iter().any(|disk| disk.is_poisoned);
            (if poisoned { Health::Failed } else { Health::Missing }, sentence(reason))
        }
        PoolPhase::Open if pool.disks.iter().any(|disk| disk.is_poisoned) => {
            (Health::Failed, "its disk failed a write or a sync and is out of use until the node is restarted".into())
        }
        PoolPhase::Open if pool.damaged_now > 0 || pool.lost > 0 => {
            (Health::Damaged, "it holds blocks that have no good copy here".into())
        }
        PoolPhase::Open => (Health::Online, String::new()),
    };
    Pool {
        id: pool.id,
        name: pool.name.clone(),
        node: pool.node_name.clone(),
        health,
        reason,
        capacity_bytes: pool.total.value(),
        free_bytes: pool.free.value(),
        images: pool.images,
        marked_regions: pool.marked_regions,
        recent_log: pool.log.as_ref().map(|log| log.path.display().to_string()).unwrap_or_default(),
        counters: PoolCounters {
            damaged_blocks: pool.damaged,
            healed_blocks: pool.healed,
            adopted_blocks: pool.adopted,
            torn_blocks: pool.torn,
            lost_extents: pool.lost,
        },
        orphans: (pool.orphans.iter())
            .map(|orphan| Orphan { id: orphan.id, allocated_bytes: orphan.allocated.value() })
            .collect(),
    }
}

pub(super) fn disk(disk: &DiskInfo) -> Disk {
    Disk {
        id: disk.id,
        pool: disk.pool_name.clone(),
        pool_id: disk.pool,
        path: disk.path.display().to_string(),
        kind: match disk.kind {
            dyad_node::control::DiskKind::File => DiskKind::File,
            dyad_node::control::DiskKind::BlockDevice => DiskKind::BlockDevice,
        },
        health: match (disk.is_poisoned, disk.id, disk.errors) {
            (true, ..) => Health::Failed,
            (false, None, _) => Health::Missing,
            (false, Some(_), 0) => Health::Online,
            (false, Some(_), _) => Health::Damaged,
        },
        size_bytes: disk.size.value(),
        physical_block_bytes: disk.physical_block,
        direct_io: disk.is_direct,
        errors: disk.errors,
        syncs: disk.syncs,
        activity: activity(&disk.io),
    }
}

pub(super) fn volume(volume: &VolumeInfo) -> Volume {
    let (state, reason, comparing) = match &volume.phase {
        VolumePhase::Creating => (VolumeState::Creating, String::new(), 0),
        // Nearly every command needs to know who reserved the volume.
        VolumePhase::Serving { comparing } => match &volume.unread {
            Some(why) => (VolumeState::Unavailable, sentence(why), *comparing),
            None => (VolumeState::Serving, String::new(), *comparing),
        },
        VolumePhase::Failed { reason } => (VolumeState::Unavailable, sentence(reason), 0),
        VolumePhase::Deleting => (VolumeState::Deleting, String::new(), 0),
    };
    let images: Vec<_> = volume.images.iter().map(image).collect();
    let access = &volume.access;
    let judged = Redundancy::judge(state, &reason, &images, comparing);
    Volume {
        id: volume.id,
        name: volume.name.clone(),
        target: volume.target.clone(),
        state,
        redundancy: match volume.silent.as_deref() {
            Some(why) => judged.doubted(why),
            None => judged,
        },
        owner: volume.owner_name.clone(),
        preferred_owner: volume
            .preferred_name
            .clone()
            .map(|(node, automatic_after_seconds)| PreferredOwner { node: Some(node), automatic_after_seconds }),
        reason,
        size_bytes: volume.size.value(),
        block_bytes: volume.block_bytes,
        write_cache: volume.cache,
        min_in_sync: volume.min_in_sync,
        access: Access {
            everybody: access.everybody.map(right),
            initiators: (access.initiators.iter())
                .map(|(initiator, its)| Grant { initiator: initiator.clone(), right: right(*its) })
                .collect(),
            chap_user: access.chap_user.clone(),
            mutual_chap_user: access.mutual_chap_user.clone(),
        },
        limits: Limits {
            iops: volume.limits.iops.map_or(0, NonZero::get),
            bytes_per_second: volume.limits.bandwidth.map_or(0, NonZero::get),
            burst_seconds: volume.limits.burst_secs,
        },
        images,
        comparing_extents: comparing,
        sessions: volume.sessions,
        in_flight: volume.in_flight,
        activity: activity(&volume.io),
    }
}

fn right(right: dyad_cluster::Right) -> Right {
    match right {
        dyad_cluster::Right::ReadWrite => Right::ReadWrite,
        dyad_cluster::Right::ReadOnly => Right::ReadOnly,
    }
}

pub(super) fn image(image: &ImageInfo) -> Image {
    let turn = if image.is_waiting { "; it waits for its turn, for other images catch up now" } else { "" };
    Image {
        id: image.id,
        volume: image.volume_name.clone(),
        volume_id: image.volume,
        node: image.node,
        node_name: image.node_name.clone(),
        pool: image.pool_name.clone(),
        pool_id: image.pool,
        state: match image.state.as_str() {
            "in-sync" => ImageState::InSync,
            "syncing" => ImageState::Syncing,
            "detached" => ImageState::Detached,
            _ => ImageState::Stale,
        },
        reason: image.reason.as_ref().map(|reason| sentence(&format!("{reason}{turn}"))).unwrap_or_default(),
        allocated_bytes: image.allocated.map(|bytes| bytes.value()),
        out_seconds: image.out_seconds,
        progress: image.progress.as_ref().map(|progress| Progress {
            stage: progress.stage.clone(),
            done_bytes: progress.done.value(),
            left_bytes: progress.left.value(),
            sent_bytes: progress.sent.value(),
            bytes_per_second: progress.rate.value(),
            seconds_left: progress.seconds_left,
        }),
        replaces: image.replaces,
        export: image.export.clone(),
    }
}

/// What is lost, first in one sentence.
pub(super) fn loss(loss: &LossInfo) -> Loss {
    let range = |&(offset, bytes): &(u64, u64)| Range { offset, bytes };
    match loss {
        LossInfo::Forecast { complete, is_half_copied, forgotten, lost, others, bytes_max, .. } => {
            let mut ranges: Vec<Range> = forgotten.ranges.iter().chain(&lost.ranges).map(range).collect();
            ranges
                .extend(others.iter().flat_map(|other| &other.newer).flat_map(|newer| newer.ranges.iter().map(range)));
            let silent = others.iter().filter(|other| other.newer.is_none()).count();
            let mut sentence = match bytes_max.value() {
                0 => "no acknowledged write is missing on it".to_owned(),
                _ => format!("at most {bytes_max} of acknowledged writes are missing: those after {complete}"),
            };
            if silent > 0 {
                sentence.push_str(&format!("; {silent} other images cannot be asked and may have more"));
            }
            if *is_half_copied {
                sentence.push_str("; it was catching up, so that parts of it are newer than others: INCONSISTENT");
            }
            let is_cut = forgotten.is_cut || others.iter().flat_map(|other| &other.newer).any(|newer| newer.is_cut);
            Loss { sentence, bytes_max: bytes_max.value(), is_exact: false, ranges, is_cut }
        }
        LossInfo::List { only_here, unreadable, .. } => {
            let bytes = Bytes::new(only_here.bytes.value() + unreadable.bytes.value());
            let mut sentence = format!("{} are on this image only", only_here.bytes);
            if unreadable.bytes != Bytes::ZERO {
                sentence.push_str(&format!("; of {} nobody knows, they are damaged here", unreadable.bytes));
            }
            let ranges = only_here.ranges.iter().chain(&unreadable.ranges).map(range).collect();
            let is_cut = only_here.is_cut || unreadable.is_cut;
            Loss { sentence, bytes_max: bytes.value(), is_exact: unreadable.bytes == Bytes::ZERO, ranges, is_cut }
        }
    }
}

pub(super) fn session(session: &SessionInfo) -> Session {
    Session {
        id: session.id,
        node: session.node_name.clone(),
        volume: session.volume.clone(),
        target: session.target.clone(),
        initiator: session.initiator.clone(),
        host: session.peer.to_string(),
        portal: session.portal.to_string(),
        age_seconds: seconds(session.age),
        in_flight: session.in_flight,
        activity: activity(&session.io),
    }
}

fn activity(io: &IoCounters) -> Activity {
    Activity {
        reads: io.reads,
        read_bytes: io.read_bytes,
        read_micros: micros(io.read_time),
        writes: io.writes,
        written_bytes: io.write_bytes,
        write_micros: micros(io.write_time),
        others: io.others,
        other_micros: micros(io.other_time),
        micros_max: micros(io.time_max),
        errors: io.errors,
    }
}
