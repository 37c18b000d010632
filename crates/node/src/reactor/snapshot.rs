//! What the reactor knows about everything, taken at one moment.

use dyad_cluster::SegmentRecord;
use dyad_mirror::PartStatus;
use dyad_pool::{Counters, PoolUse};
use dyad_units::{Bytes, ImageId, NodeId, PoolId, VolumeId};

use super::exports::ExportLook;
use super::forget::Unread;
use super::run::Reactor;
use super::service::Service;
use crate::control::{BackendInfo, DiskInfo, IoCounters, SessionInfo};
use crate::disk::LiveCounters;

/// The answer to "look".
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) pools: Vec<PoolLook>,
    pub(crate) volumes: Vec<VolumeLook>,
    pub(crate) sessions: Vec<SessionInfo>,
    pub(crate) exports: Vec<ExportLook>,
    pub(crate) failed_volumes: Vec<(VolumeId, String)>,
    pub(crate) failed_pools: Vec<(PoolId, String)>,
    pub(crate) backend: BackendInfo,
    /// Other nodes that are connected.
    pub(crate) connected: Vec<NodeId>,
    pub(crate) connections: u32,
    pub(crate) half_open: u32,
    pub(crate) refused: u64,
    pub(crate) faults: u64,
    pub(crate) buffers_held: Bytes,
    pub(crate) is_stopping: bool,
}

/// A pool in use.
#[derive(Debug)]
pub(crate) struct PoolLook {
    pub(crate) id: PoolId,
    pub(crate) usage: PoolUse,
    pub(crate) counters: Counters,
    pub(crate) disk: DiskInfo,
    pub(crate) images: Vec<(ImageId, Bytes)>,
}

/// A volume in service.
#[derive(Debug)]
pub(crate) struct VolumeLook {
    pub(crate) id: VolumeId,
    /// The newest record known.
    pub(crate) record: SegmentRecord,
    pub(crate) part: PartStatus,
    pub(crate) service: Service,
    /// Why the SCSI state could not be read, if so.
    pub(crate) unread: Option<Unread>,
    pub(crate) sessions: u32,
    pub(crate) in_flight: u32,
    pub(crate) io: IoCounters,
}

impl Reactor {
    pub(super) fn look(&self) -> Snapshot {
        Snapshot {
            pools: self.look_at_pools(),
            volumes: self.look_at_volumes(),
            sessions: self.look_at_sessions(),
            exports: self.look_at_all_exports(),
            failed_volumes: self.failed_volumes.clone(),
            failed_pools: self.failed_pools.clone(),
            backend: self.disks.backend().clone(),
            connected: self.connected().collect(),
            connections: self.conns.len() as u32,
            half_open: self.half_open as u32,
            refused: self.refused,
            faults: self.faults,
            buffers_held: Bytes::new(self.slab.usage().bytes_total as u64),
            is_stopping: self.stopping.is_some(),
        }
    }

    fn look_at_pools(&self) -> Vec<PoolLook> {
        let look = |room: &super::pools::PoolRoom| {
            let (file, counters) = self.disks.look(room.disk)?;
            let usage = room.pool.usage();
            let disk = DiskInfo {
                id: Some(room.pool.disk_id()),
                pool: room.id,
                pool_name: String::new(),
                path: file.path().to_owned(),
                kind: file.kind(),
                size: Bytes::new(file.size_bytes()),
                physical_block: file.physical_block_bytes(),
                is_direct: file.is_direct(),
                is_poisoned: usage.poisoned,
                io: io_of(&counters),
                syncs: counters.syncs,
                errors: counters.errors,
            };
            let images = room.pool.images().map(|(handle, meta)| (meta.id, room.pool.image_bytes(handle))).collect();
            Some(PoolLook { id: room.id, usage, counters: room.pool.counters(), disk, images })
        };
        self.pools.iter().flatten().filter_map(|room| look(room)).collect()
    }

    fn look_at_volumes(&self) -> Vec<VolumeLook> {
        let look = |volume: &super::volumes::Volume| {
            let part = volume.part.status();
            VolumeLook {
                id: volume.record.id,
                record: volume.part.record().clone(),
                service: Service::of(&part, &volume.places),
                part,
                unread: volume.shared.unread,
                sessions: volume.sessions.len() as u32,
                in_flight: volume.ops.len() as u32,
                io: volume.io,
            }
        };
        self.volumes.iter().flatten().map(|volume| look(volume)).collect()
    }

    fn look_at_sessions(&self) -> Vec<SessionInfo> {
        let mut sessions: Vec<_> = (self.conns.iter())
            .filter_map(|(_, conn)| conn.session.as_deref().map(|session| (conn, session)))
            .map(|(conn, session)| {
                let volume = session.use_of.and_then(|(index, _)| self.volume(index));
                let volume = volume.map(|volume| volume.record.name.to_string());
                SessionInfo {
                    id: session.id,
                    node_name: String::new(),
                    initiator: session.initiator.to_string(),
                    target: session.key.target.clone(),
                    volume: volume.or_else(|| self.volume_exported(session.export?.0)),
                    peer: conn.peer,
                    portal: conn.portal,
                    age: self.now.since(session.since),
                    in_flight: session.in_flight,
                    io: session.io,
                }
            })
            .collect();
        sessions.sort_by_key(|session| session.id);
        sessions
    }
}

fn io_of(counters: &LiveCounters) -> IoCounters {
    IoCounters {
        reads: counters.reads,
        read_bytes: counters.read_bytes,
        read_time: counters.read_time,
        writes: counters.writes,
        write_bytes: counters.write_bytes,
        write_time: counters.write_time,
        others: counters.syncs,
        other_time: counters.sync_time,
        time_max: counters.time_max,
        errors: counters.errors,
    }
}
