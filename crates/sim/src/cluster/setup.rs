//! Disks as every run finds them: formatted, with empty images. Made once, copied for each run.

use std::collections::BTreeMap;

use dyad_payload::Slab;
use dyad_pool::{AdminReply, AdminToken, ImageMeta, ImagePhase, Pool};
use dyad_units::{Bytes, DiskId, Epoch, ImageId, LayerId, REGION_BYTES, SegmentId, Stamp, VolumeId};

use super::machine::{node_id, pool_id};
use super::plan::Plan;
use super::world::{image_id, segment_id};
use crate::disk::SimDisk;
use crate::log::SimLog;

/// Node, its images, regions, unit, size.
type Shape = (usize, Vec<(usize, usize)>, u64, usize, u64);

/// Disks made so far.
#[derive(Debug, Default)]
pub struct Templates {
    disks: BTreeMap<Shape, SimDisk>,
}

/// Images of the segments on this node: (segment, image).
pub(super) fn images_of(plan: &Plan, node: usize) -> Vec<(usize, usize)> {
    let all = (0..plan.segments).flat_map(|segment| (0..plan.images).map(move |image| (segment, image)));
    all.filter(|(segment, image)| (segment + image) % plan.nodes == node).collect()
}

/// What a new image is told.
pub(super) fn meta(id: ImageId, segment: usize, size: Bytes) -> ImageMeta {
    ImageMeta {
        id,
        segment: SegmentId::from_bytes(segment_id(segment).to_bytes()),
        volume: VolumeId::from_bytes([0x70 + segment as u8; 16]),
        layer: LayerId::from_bytes([0x60 + segment as u8; 16]),
        parent: None,
        size,
        phase: ImagePhase::Ready,
        closed: Stamp::NEVER,
        epoch: Epoch::new(0),
        record: Vec::new(),
        cursor: None,
        complete: Stamp::NEVER,
    }
}

impl Templates {
    /// The disk of this node at the start of the run.
    pub fn disk(&mut self, plan: &Plan, node: usize, slab: &Slab) -> SimDisk {
        let shape = (node, images_of(plan, node), plan.regions, plan.unit, plan.disk_bytes);
        let disk = self.disks.entry(shape.clone()).or_insert_with(|| make(&shape, slab));
        disk.copy()
    }
}

/// # Panics
/// If a healthy disk cannot be formatted: there is nothing to test then.
fn make((node, images, regions, unit, bytes): &Shape, slab: &Slab) -> SimDisk {
    let mut disk = SimDisk::new(*bytes, *unit, 1);
    let id = DiskId::from_bytes([0xd0 + *node as u8; 16]);
    let config = dyad_pool::FormatConfig { pool: pool_id(*node), disk: id, node: node_id(*node), overwrite: false };
    Pool::format(&mut disk, &config).expect("an empty disk can be formatted");
    let open = dyad_pool::OpenConfig { pool: Some(pool_id(*node)), slab: slab.clone() };
    let log = Box::new(SimLog::new(64 << 10));
    let (mut pool, _) = Pool::open(&mut disk, log, &open).expect("a fresh pool can be opened");
    for &(segment, image) in images {
        let size = Bytes::new(regions * u64::from(REGION_BYTES));
        pool.create_image(AdminToken(1), meta(image_id(segment, image), segment, size));
        settle(&mut pool, &mut disk);
    }
    pool.stop(AdminToken(2));
    settle(&mut pool, &mut disk);
    disk
}

fn settle(pool: &mut Pool, disk: &mut SimDisk) {
    let (mut ops, mut replies) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        pool.take_disk_ops(&mut ops);
        ops.drain(..).for_each(|op| disk.submit(op));
        pool.take_admin_replies(&mut replies);
        if let Some((_, reply)) = replies.pop() {
            assert!(matches!(reply, AdminReply::Created(_) | AdminReply::Stopped), "a fresh pool refuses: {reply:?}");
            while disk.in_flight() > 0 {
                if let Some((_, token, result)) = disk.step() {
                    pool.complete(token, result);
                }
            }
            return;
        }
        match disk.step() {
            Some((_, token, result)) => pool.complete(token, result),
            None if disk.in_flight() == 0 => pool.housekeeping(),
            None => {}
        }
    }
    panic!("a fresh pool never answers");
}
