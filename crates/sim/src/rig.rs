//! A pool on a simulated disk with a simulated L, and the small loop that a reactor would be.

use dyad_contract::image::{Reply, Request, Token};
use dyad_payload::Slab;
use dyad_pool::{
    AdminError, AdminReply, AdminToken, DiskOp, FormatConfig, FormatError, ImageHandle, ImageMeta, ImagePhase,
    OpenConfig, OpenError, OpenReport, Pool,
};
use dyad_units::{Bytes, DiskId, Epoch, ImageId, LayerId, NodeId, PoolId, SegmentId, Stamp, VolumeId};

use crate::disk::{Kind, SimDisk};
use crate::log::SimLog;

/// Buffers of one run: far more than its requests need, so that running out means a leak.
const SLAB_BYTES: usize = 64 << 20;

/// Steps that one administrator's change may take: deleting the largest image of a run takes hundreds.
const STEPS_PER_CHANGE: u32 = 100_000;

const ADMIN: AdminToken = AdminToken(1);

/// The ids of every simulated pool.
pub const POOL: PoolId = PoolId::from_bytes(*b"simulated pool 1");
/// Its only disk.
pub const DISK: DiskId = DiskId::from_bytes(*b"simulated disk 1");

/// A pool and everything around it.
pub struct Rig {
    /// The pool under test.
    pub pool: Pool,
    /// Its disk.
    pub disk: SimDisk,
    /// Its L.
    pub log: SimLog,
    /// Where all buffers come from.
    pub slab: Slab,
    waiting: Vec<DiskOp>,
    ops: Vec<DiskOp>,
    replies: Vec<(ImageHandle, Token, Reply)>,
    /// Kind of the first change that the disk failed.
    failed: Option<Kind>,
}

/// Makes a pool on the disk.
pub fn format(disk: &mut SimDisk) -> Result<(), FormatError> {
    let node = NodeId::from_bytes(*b"simulated node 1");
    Pool::format(disk, &FormatConfig { pool: POOL, disk: DISK, node, overwrite: false })
}

/// The id of the image with this number.
pub fn image_id(image: u64) -> ImageId {
    ImageId::from_bytes((u128::from(image) + 1).to_be_bytes())
}

impl Rig {
    /// Opens the pool; the disk comes back if that fails.
    pub fn open(mut disk: SimDisk, log: SimLog) -> Result<(Self, OpenReport), (Box<SimDisk>, OpenError)> {
        let slab = Slab::new(SLAB_BYTES);
        let config = OpenConfig { pool: Some(POOL), slab: slab.clone() };
        let end = Box::new(log.until(disk.off_switch()));
        match Pool::open(&mut disk, end, &config) {
            Ok((pool, report)) => {
                log.mark();
                let (waiting, ops, replies) = (Vec::new(), Vec::new(), Vec::new());
                Ok((Self { pool, disk, log, slab, waiting, ops, replies, failed: None }, report))
            }
            Err(error) => Err((Box::new(disk), error)),
        }
    }

    /// The image with this number in its patterns, if the pool has it.
    pub fn find(&self, image: u64) -> Option<ImageHandle> {
        self.pool.find(image_id(image))
    }

    /// Makes an image.
    pub fn create(&mut self, image: u64, size: Bytes) -> Result<ImageHandle, AdminError> {
        let meta = ImageMeta {
            id: image_id(image),
            segment: SegmentId::from_bytes([1; 16]),
            volume: VolumeId::from_bytes([2; 16]),
            layer: LayerId::from_bytes(image_id(image).to_bytes()),
            parent: None,
            size,
            phase: ImagePhase::Ready,
            closed: Stamp::NEVER,
            epoch: Epoch::new(0),
            record: Vec::new(),
            cursor: None,
            complete: Stamp::NEVER,
        };
        match self.administer(|pool| pool.create_image(ADMIN, meta)) {
            AdminReply::Created(handle) => Ok(handle),
            AdminReply::Failed(error) => Err(error),
            reply => panic!("the making of an image was answered by {reply:?}"),
        }
    }

    /// Deletes an image.
    pub fn delete(&mut self, handle: ImageHandle, image: u64) -> Result<(), AdminError> {
        match self.administer(|pool| pool.delete_image(ADMIN, handle, image_id(image))) {
            AdminReply::Deleted => Ok(()),
            AdminReply::Failed(error) => Err(error),
            reply => panic!("the deletion of an image was answered by {reply:?}"),
        }
    }

    /// Ends the pool's work cleanly; only dropping it is left.
    pub fn stop(&mut self) -> Result<(), AdminError> {
        match self.administer(|pool| pool.stop(ADMIN)) {
            AdminReply::Stopped => Ok(()),
            AdminReply::Failed(error) => Err(error),
            reply => panic!("a stop was answered by {reply:?}"),
        }
    }

    /// One administrator's change, alone, until it is answered.
    fn administer(&mut self, change: impl FnOnce(&mut Pool)) -> AdminReply {
        change(&mut self.pool);
        self.pool.take_disk_ops(&mut self.waiting);
        let mut replies = Vec::new();
        for _ in 0..STEPS_PER_CHANGE {
            self.hand_over();
            self.pool.take_admin_replies(&mut replies);
            if let Some((_, reply)) = replies.pop() {
                return reply;
            }
            if self.is_quiet() {
                self.housekeeping();
                self.hand_over();
                assert!(!self.is_quiet(), "an administrator's change is never answered");
            }
            self.step();
        }
        panic!("an administrator's change takes more than {STEPS_PER_CHANGE} steps");
    }

    /// What a reactor calls every 100 ms.
    pub fn housekeeping(&mut self) {
        self.log.mark();
        self.pool.housekeeping();
        self.pool.take_disk_ops(&mut self.waiting);
    }

    /// Lets everything that the pool has begun come to its end, and seals its journal.
    pub fn come_to_rest(&mut self) {
        for _ in 0..3 {
            self.housekeeping();
            self.hand_over();
            while !self.is_quiet() {
                self.step();
                self.hand_over();
            }
        }
    }

    /// Hands a request over. What the pool wants of the disk waits for [`Self::hand_over`].
    pub fn submit(&mut self, image: ImageHandle, token: Token, request: Request) {
        self.log.mark();
        self.pool.submit(image, token, request);
        self.pool.take_disk_ops(&mut self.waiting);
    }

    /// Lets the disk do one thing and tells the pool, if that answered an operation.
    pub fn step(&mut self) {
        self.log.mark();
        let Some((kind, token, result)) = self.disk.step() else { return };
        if result.is_err() && matches!(kind, Kind::Write | Kind::Durable | Kind::Sync) {
            self.failed.get_or_insert(kind);
        }
        self.pool.complete(token, result);
        self.pool.take_disk_ops(&mut self.waiting);
    }

    /// The disk takes over what the pool asked for in the last call. Until then a crash of the process finds
    /// none of it.
    pub fn hand_over(&mut self) {
        self.ops.append(&mut self.waiting);
        for op in self.ops.drain(..) {
            self.disk.submit(op);
        }
        self.log.mark();
    }

    /// Replies since the last call.
    pub fn replies(&mut self) -> Vec<(ImageHandle, Token, Reply)> {
        self.pool.take_replies(&mut self.replies);
        std::mem::take(&mut self.replies)
    }

    /// Whether the last call wants something of the disk.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the disk has nothing to do.
    pub fn is_quiet(&self) -> bool {
        self.disk.in_flight() == 0 && self.waiting.is_empty()
    }

    /// The kind of the first change that the disk failed, if any did (P11).
    pub fn failed(&self) -> Option<Kind> {
        self.failed
    }
}
