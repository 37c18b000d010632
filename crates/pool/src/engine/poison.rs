//! The first failed write or sync ends belief in the disk (P11); what it held unflushed is lost (P12).

use std::collections::BTreeSet;

use dyad_contract::image::{Reply, Token};
use dyad_units::{Extent, Piece, Stamp, WriteNumber};

use crate::disk::DiskOp;
use crate::engine::Pool;
use crate::engine::ops::Completion;
use crate::entry::LOST;
use crate::format::recent::{RecentHead, RecentKind};
use crate::format::state::{Change, ImageNo, LayerNo};

#[derive(Default)]
pub(super) struct Poison {
    poisoned: bool,
    /// Flags to be made durable once no record is in flight.
    losses: Vec<Change>,
}

impl Poison {
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl Pool {
    /// The extent's unflushed data is lost: it is no longer read.
    pub(super) fn lose(&mut self, at: usize, extent: Extent) {
        if let Some(Some(image)) = self.images.get_mut(at) {
            image.map.entry_mut(extent).set(LOST);
        }
    }

    /// Ends belief in the disk, before any flush is answered.
    pub(super) fn poison_now(&mut self) {
        if self.poison.poisoned {
            return;
        }
        self.poison.poisoned = true;
        self.note_poison_in_recent();
        let lost: BTreeSet<(usize, Extent)> = self.sums.unflushed().chain(self.ops.written_extents()).collect();
        for &(at, extent) in &lost {
            self.lose(at, extent);
        }
        self.commit_losses(&lost);
        self.fail_flushes();
        self.fail_marking();
        self.fail_admin();
    }

    /// A process that starts after this one must know (P11).
    fn note_poison_in_recent(&mut self) {
        let nowhere = Piece::whole(Extent(0));
        let head = RecentHead {
            kind: RecentKind::Poison,
            image: ImageNo(0),
            layer: LayerNo(0),
            piece: nowhere,
            slot: None,
            alloc: 0,
            stamp: Stamp::NEVER,
            number: WriteNumber::default(),
            settled: WriteNumber::default(),
        };
        // A full L is no harm: its entries say themselves what was not flushed, and recovery syncs first.
        let _full = self.recent.append(&head, None);
    }

    /// Tries once to make the flags durable. Where the disk does not even take that, the segment's record must say that the
    /// image is stale (P12): the owner learns from the failed requests.
    fn commit_losses(&mut self, lost: &BTreeSet<(usize, Extent)>) {
        let mut changes = Vec::new();
        for &(at, extent) in lost {
            // The committed entry, so that nothing of what was not flushed comes with it (P2).
            let live = self.image(at).map.entry(extent);
            let mut entry = self.shadow.get(&(at as u32, extent)).copied().unwrap_or_else(|| live.durable());
            if !entry.is_absent() {
                entry.set(LOST);
                changes.push(Change::Map { layer: self.image(at).layer, extent, entry });
            }
        }
        self.poison.losses = changes;
        self.append_losses();
    }

    /// One try: whatever becomes of it, nothing more is written to this disk.
    pub(super) fn append_losses(&mut self) {
        if self.commits.has_record_in_flight() || self.poison.losses.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.poison.losses);
        if let Some(appended) = self.commits.ring.append(&changes, 0, &self.slab) {
            let token = Completion::Journal.token();
            self.disk_ops.push(DiskOp::WriteDurable { token, offset: appended.offset, data: appended.bytes });
        }
    }

    pub(super) fn fail_committed(&mut self, at: usize, token: Token) {
        self.finish_change(at, token, Reply::Failed(dyad_contract::image::ImageError::Poisoned));
    }
}
