//! A status: what the catalog and the reactor know, put together.

use dyad_cluster::{Hosts, ImageRecord, ImageState, NodeRecord, OutReason, PoolRecord, VolumeState};
use dyad_mirror::{MirrorStatus, ResyncStage};
use dyad_units::{Bytes, EXTENT_BYTES, ImageId, NodeId, PoolId};

use super::{
    AccessInfo, DiskInfo, DiskKind, ImageInfo, IoCounters, NeighbourInfo, NodeHandle, NodeInfo, NodePhase, NodeStatus,
    PoolInfo, PoolPhase, ProgressInfo, Redundancy, VolumeInfo, VolumePhase,
};
use crate::admin::{unnamed, unreadable_records};
use crate::catalog::{Known, KnownPool, KnownVolume};
use crate::clock;
use crate::moves::{Step, step_of_move};
use crate::reactor::{PoolLook, Service, Snapshot, VolumeLook};

/// Of an image whose node or pool was away for a while.
const BEHIND: &str = "it was away, and catches up";

pub(super) fn merge(handle: &NodeHandle, known: &Known, snapshot: Snapshot) -> NodeStatus {
    let pools = known.pools.iter().map(|pool| pool_info(known, pool, &snapshot)).collect();
    let volumes = known.volumes.iter().map(|volume| volume_info(handle, known, volume, &snapshot)).collect();
    let neighbours = known.nodes.iter().filter(|node| node.id != known.node.id);
    let neighbours = neighbours.map(|node| neighbour_info(handle, node, &snapshot)).collect();
    let mut sessions = snapshot.sessions.clone();
    sessions.iter_mut().for_each(|session| session.node_name = known.node.name.to_string());
    NodeStatus { node: node_info(handle, known, &snapshot), neighbours, pools, volumes, sessions }
}

fn node_info(handle: &NodeHandle, known: &Known, snapshot: &Snapshot) -> NodeInfo {
    NodeInfo {
        id: known.node.id,
        name: known.node.name.to_string(),
        site: known.node.site.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        phase: if snapshot.is_stopping { NodePhase::Stopping } else { known.phase },
        starts: known.node.incarnation.start,
        uptime: clock::now().since(known.started),
        portals: handle.portals.clone(),
        data_dir: handle.settings.data_dir.clone(),
        backend: snapshot.backend.clone(),
        connections: snapshot.connections,
        half_open: snapshot.half_open,
        refused: snapshot.refused,
        wanted: known.nodes.iter().find(|node| node.id == known.node.id).map_or(known.node.state, |node| node.state),
        is_encrypted: handle.settings.peer.listen.map(|_| handle.peers.is_encrypted()),
        buffers_held: snapshot.buffers_held,
        buffers_max: handle.settings.buffers,
        faults: snapshot.faults,
        store_trouble: handle.health.trouble(),
        store: Some(handle.peers.store()),
        unreadable: unreadable_records(known),
    }
}

fn neighbour_info(handle: &NodeHandle, node: &NodeRecord, snapshot: &Snapshot) -> NeighbourInfo {
    let is_connected = snapshot.connected.contains(&node.id);
    NeighbourInfo {
        id: node.id,
        name: node.name.to_string(),
        site: node.site.to_string(),
        starts: node.incarnation.start,
        is_connected,
        trouble: handle.peers.trouble_of(node.id).filter(|_| !is_connected),
        portals: node.portals.clone(),
        admin: node.admin.clone(),
        wanted: node.state,
        told: None,
    }
}

fn pool_info(all: &Known, known: &KnownPool, snapshot: &Snapshot) -> PoolInfo {
    let record = &known.record;
    let look = snapshot.pools.iter().find(|pool| pool.id == record.id);
    let later = snapshot.failed_pools.iter().find(|(id, _)| *id == record.id);
    let fault = known.fault.clone().or_else(|| later.map(|(_, fault)| format!("a fault of this program: {fault}")));
    let phase = match (look, fault) {
        (Some(look), None) if look.usage.poisoned => PoolPhase::Failed {
            reason: "its disk failed a write or a sync and is not believed any more; replace it or restart the node"
                .into(),
        },
        (Some(_), None) => PoolPhase::Open,
        (_, fault) => PoolPhase::Failed { reason: fault.unwrap_or_else(|| "it is closed".into()) },
    };
    let (usage, counters) = look.map(|look| (look.usage, look.counters)).unwrap_or_default();
    let slots = |count: u64| Bytes::new(count * u64::from(EXTENT_BYTES));
    PoolInfo {
        id: record.id,
        name: record.name.to_string(),
        node: record.node,
        node_name: all.node.name.to_string(),
        phase,
        disks: disks_of(record, look),
        total: slots(usage.slots_total),
        free: slots(usage.slots_free),
        provisioned: provisioned(all, record.id),
        images: look.map_or(0, |look| look.images.len() as u32),
        marked_regions: usage.regions_marked,
        damaged: counters.blocks_damaged,
        healed: counters.blocks_healed,
        damaged_now: usage.blocks_damaged,
        adopted: counters.blocks_adopted,
        torn: counters.blocks_torn,
        lost: usage.extents_lost,
        log: known.log.clone(),
        orphans: look.map(|look| unnamed(all.named.as_ref(), &all.volumes, &look.images)).unwrap_or_default(),
    }
}

fn disks_of(record: &PoolRecord, look: Option<&PoolLook>) -> Vec<DiskInfo> {
    if let Some(look) = look {
        return vec![DiskInfo { pool_name: record.name.to_string(), ..look.disk.clone() }];
    }
    let unknown = |disk: &dyad_cluster::DiskRecord| DiskInfo {
        id: Some(disk.id),
        pool: record.id,
        pool_name: record.name.to_string(),
        path: disk.path.clone().into(),
        kind: if disk.path.starts_with("/dev/") { DiskKind::BlockDevice } else { DiskKind::File },
        size: Bytes::ZERO,
        physical_block: 0,
        is_direct: false,
        is_poisoned: false,
        io: IoCounters::default(),
        syncs: 0,
        errors: 0,
    };
    record.disks.iter().map(unknown).collect()
}

fn volume_info(handle: &NodeHandle, known: &Known, volume: &KnownVolume, snapshot: &Snapshot) -> VolumeInfo {
    let record = &volume.record;
    let look = snapshot.volumes.iter().find(|look| look.id == record.id);
    let images: Vec<_> =
        images_of(volume, look).map(|image| image_info(known, volume, image, look, snapshot)).collect();
    let (chap, grants) = (record.access.chap.as_ref(), record.access.grants());
    VolumeInfo {
        id: record.id,
        name: record.name.to_string(),
        target: handle.settings.iscsi.target_of(record.name.as_str()),
        size: record.size,
        block_bytes: record.block.bytes(),
        cache: record.cache,
        min_in_sync: u32::from(record.policy.min_in_sync),
        access: AccessInfo {
            everybody: match record.access.hosts {
                Hosts::All(right) => Some(right),
                Hosts::Listed(_) => None,
            },
            initiators: grants.iter().map(|grant| (grant.initiator.as_str().to_owned(), grant.right)).collect(),
            chap_user: chap.map(|pair| pair.host.name.clone()),
            mutual_chap_user: chap.and_then(|pair| pair.mutual.as_ref()).map(|mutual| mutual.name.clone()),
        },
        limits: record.limits,
        phase: phase_of(volume, look, snapshot),
        owner: owner_of(volume, look),
        owner_name: owner_of(volume, look).map(|owner| node_name(known, owner)),
        preferred_name: (record.preferred)
            .map(|preferred| (node_name(known, preferred.node), preferred.automatic_after_secs)),
        silent: None,
        unread: look.and_then(|look| look.unread).map(|unread| unread.sentence(record.name.as_str())),
        redundancy: redundancy_of(known, volume, look),
        images,
        sessions: look.map_or(0, |look| look.sessions),
        in_flight: look.map_or(0, |look| look.in_flight),
        io: look.map(|look| look.io).unwrap_or_default(),
    }
}

fn phase_of(volume: &KnownVolume, look: Option<&VolumeLook>, snapshot: &Snapshot) -> VolumePhase {
    match volume.record.state {
        VolumeState::Creating => return VolumePhase::Creating,
        VolumeState::Deleting => return VolumePhase::Deleting,
        VolumeState::Ready => {}
    }
    let later = snapshot.failed_volumes.iter().find(|(id, _)| *id == volume.record.id);
    let Some(look) = look else {
        let fault = later.map(|(_, fault)| format!("a fault of this program: {fault}; restart the node"));
        let reason = fault.or_else(|| volume.fault.clone()).unwrap_or_else(|| "it is not started yet".into());
        return VolumePhase::Failed { reason };
    };
    match &look.service {
        Service::Here { comparing } => VolumePhase::Serving { comparing: *comparing },
        Service::Elsewhere | Service::Starting => VolumePhase::Serving { comparing: 0 },
        Service::Not(reason) => VolumePhase::Failed { reason: reason.clone() },
    }
}

fn redundancy_of(known: &Known, volume: &KnownVolume, look: Option<&VolumeLook>) -> Redundancy {
    let wanted = images_of(volume, look).filter(|image| image.state != ImageState::Detached).count() as u32;
    match look {
        Some(look) => {
            // Of a volume that another node serves, the record says it.
            let recorded = || look.record.in_sync().count();
            let good = look.part.mirror.as_ref().map_or_else(recorded, MirrorStatus::good_images);
            let mut sentence = look.part.sentence.clone();
            if let Some(Step::Wait { old, why }) = step_of_move(&look.record, volume.record.policy, known.node.id) {
                sentence = format!("{sentence}; another image has come in the place of {old}: {why}");
            }
            Redundancy { in_sync: good as u32, wanted, sentence }
        }
        None => Redundancy { in_sync: 0, wanted, sentence: "not served".into() },
    }
}

/// As the newest record that is known here says.
fn images_of<'a>(volume: &'a KnownVolume, look: Option<&'a VolumeLook>) -> impl Iterator<Item = &'a ImageRecord> {
    let segment = look.map(|look| &look.record).or(volume.segment.as_ref());
    segment.into_iter().flat_map(|segment| &segment.images)
}

fn image_info(
    known: &Known,
    volume: &KnownVolume,
    image: &ImageRecord,
    look: Option<&VolumeLook>,
    snapshot: &Snapshot,
) -> ImageInfo {
    let live = look.and_then(|look| status_of(look.part.mirror.as_ref()?, image.id));
    let (state, reason) = live.map_or((image.state, image.reason), |live| (live.state, live.reason));
    let pool = known.pools.iter().find(|pool| pool.record.id == image.pool);
    let is_open = snapshot.pools.iter().any(|look| look.id == image.pool);
    let reason = reason.or_else(|| pool.filter(|_| !is_open).map(|_| OutReason::Absent));
    ImageInfo {
        id: image.id,
        volume: volume.record.id,
        volume_name: volume.record.name.to_string(),
        node: image.node,
        node_name: node_name(known, image.node),
        pool: image.pool,
        pool_name: pool.map_or_else(|| name_elsewhere(known, image), |pool| pool.record.name.to_string()),
        state: state_text(state).to_owned(),
        reason: reason.map(|reason| reason_text(reason, is_open)),
        is_waiting: look.is_some_and(|look| look.part.waiting == Some(image.id)),
        allocated: allocated(snapshot, image.pool, image.id),
        out_seconds: known.outs.get(&image.id).map(|since| clock::now().since(*since).to_duration().as_secs()),
        progress: look.and_then(|look| progress_of(look.part.mirror.as_ref()?, image.id)),
        replaces: image.replaces,
        export: snapshot.exports.iter().find(|export| export.image == image.id).map(|export| export.target.clone()),
    }
}

/// The name of a node, or its id where it is not known.
pub(super) fn node_name(known: &Known, id: NodeId) -> String {
    let found = known.nodes.iter().find(|node| node.id == id);
    found.map_or_else(|| id.to_string(), |node| node.name.to_string())
}

/// The owner that the newest record known here names.
fn owner_of(volume: &KnownVolume, look: Option<&VolumeLook>) -> Option<NodeId> {
    look.map(|look| &look.record).or(volume.segment.as_ref())?.owner
}

/// What the images in a pool would take if all of it were written.
fn provisioned(known: &Known, pool: PoolId) -> Bytes {
    let in_pool = |volume: &&KnownVolume| {
        let images = volume.segment.iter().flat_map(|segment| &segment.images);
        images.filter(|image| image.pool == pool).count() > 0
    };
    Bytes::new(known.volumes.iter().filter(in_pool).map(|volume| volume.record.size.value()).sum())
}

fn progress_of(mirror: &MirrorStatus, image: ImageId) -> Option<ProgressInfo> {
    let run = mirror.resync.as_ref().filter(|run| run.image == image)?;
    let extents = |count: u64| Bytes::new(count.saturating_mul(u64::from(EXTENT_BYTES)));
    Some(ProgressInfo {
        stage: match run.stage {
            ResyncStage::Beginning => "beginning",
            ResyncStage::Listing => "listing",
            ResyncStage::Copying => "copying",
            ResyncStage::Joining => "joining",
        }
        .into(),
        done: extents(run.done),
        left: extents(run.needed),
        sent: run.sent,
        rate: extents(run.rate),
        seconds_left: run.time_left.map(|left| left.to_duration().as_secs()),
    })
}

/// The name of a pool on another node.
fn name_elsewhere(known: &Known, image: &ImageRecord) -> String {
    let node = known.nodes.iter().find(|node| node.id == image.node);
    let pool = known.pools_elsewhere.iter().find(|pool| pool.id == image.pool);
    match (node, pool) {
        (Some(node), Some(pool)) => format!("{}/{}", node.name, pool.name),
        _ => image.pool.to_string(),
    }
}

/// What keeps an image out of sync, in words.
fn reason_text(reason: OutReason, is_pool_open: bool) -> String {
    match reason {
        OutReason::Absent if is_pool_open => BEHIND.to_owned(),
        reason => reason.text().to_owned(),
    }
}

fn status_of(mirror: &MirrorStatus, image: ImageId) -> Option<&dyad_mirror::ImageStatus> {
    mirror.images.iter().find(|status| status.id == image)
}

fn state_text(state: ImageState) -> &'static str {
    match state {
        ImageState::InSync => "in-sync",
        ImageState::Syncing => "syncing",
        ImageState::Stale => "stale",
        ImageState::Detached => "detached",
    }
}

fn allocated(snapshot: &Snapshot, pool: PoolId, image: ImageId) -> Option<Bytes> {
    let pool = snapshot.pools.iter().find(|look| look.id == pool)?;
    pool.images.iter().find(|(id, _)| *id == image).map(|(_, bytes)| *bytes)
}
