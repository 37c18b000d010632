//! Writes, unmaps and mends (P1, P5, P6, P7, P9).
//!
//! What has to be there before the data is submitted, in this order: the region's mark, durable (P5); a slot
//! that no committed entry refers to (P3); an entry in L (P6). What follows completion: the written bits, the
//! checksums among the dirty ones, the answer. A crash between any two of these steps leaves the block old or new:
//! before the entry in L nothing was touched; after it, recovery compares the block with what L says of it.

use dyad_contract::image::{ImageError, Reply, Space, Token, Unmap, Write, Written};
use dyad_units::{Extent, Piece, Stamp};

use crate::disk::{DiskDone, DiskError, DiskOp};
use crate::engine::Pool;
use crate::engine::ops::{Completion, Op, OpAt, Waiting, WriteOp};
use crate::entry::LOST;
use crate::format::recent::{RecentHead, RecentKind};
use crate::format::state::PageOwner;
use crate::map::LeafIndex;

/// On whose behalf blocks change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A host's write, in the owner's order.
    Host,
    /// Making the image equal to another (P8, P14).
    Mend,
}

/// A write or unmap that cannot go on yet.
pub(super) struct Held {
    pub(super) at: usize,
    pub(super) token: Token,
    pub(super) what: Waiting,
    pub(super) kind: Kind,
}

impl Pool {
    pub(super) fn write(&mut self, at: usize, token: Token, write: Write, kind: Kind) {
        assert_eq!(write.data.len(), write.piece.len(), "a write has its piece's bytes");
        assert_eq!(write.sums.len(), usize::from(write.piece.count()), "a write has one sum per block");
        if let Err(error) = self.admit_change(at, write.stamp) {
            return self.fail(at, token, error);
        }
        self.image_mut(at).requests += 1;
        self.change(Held { at, token, what: Waiting::Write(write), kind });
    }

    pub(super) fn unmap(&mut self, at: usize, token: Token, unmap: Unmap, kind: Kind) {
        if let Err(error) = self.admit_change(at, unmap.stamp) {
            return self.fail(at, token, error);
        }
        self.image_mut(at).requests += 1;
        self.change(Held { at, token, what: Waiting::Unmap(unmap), kind });
    }

    fn admit_change(&self, at: usize, stamp: Stamp) -> Result<(), ImageError> {
        let newest = self.image(at).meta.epoch;
        if self.poison.is_poisoned() {
            Err(ImageError::Poisoned)
        } else if stamp.epoch < newest {
            Err(ImageError::Superseded { newest })
        } else if self.ops.is_full() {
            Err(ImageError::Overloaded)
        } else {
            Ok(())
        }
    }

    /// Carries a change as far as it goes now: it may have to wait for a mark or for room in L.
    pub(super) fn change(&mut self, held: Held) {
        if self.poison.is_poisoned() {
            return self.finish_change(held.at, held.token, Reply::Failed(ImageError::Poisoned));
        }
        let piece = match &held.what {
            Waiting::Write(write) => write.piece,
            Waiting::Unmap(unmap) => {
                // Nothing was ever here on any image that this one is equal to: nothing to mark, stamp or keep.
                if self.image(held.at).map.entry(unmap.piece.extent).is_absent() {
                    return self.finish_change(held.at, held.token, Reply::Written(Written { used_slot: false }));
                }
                unmap.piece
            }
        };
        let Some(held) = self.wait_for_mark(piece.extent.region(), held) else { return };
        match held.what {
            Waiting::Write(write) => self.place(held.at, held.token, write, held.kind),
            Waiting::Unmap(unmap) => self.clear(held.at, held.token, unmap, held.kind),
        }
    }

    fn place(&mut self, at: usize, token: Token, write: Write, kind: Kind) {
        let extent = write.piece.extent;
        let entry = self.image(at).map.entry(extent);
        let (slot, alloc, used_slot) = match entry.slot() {
            Some(slot) => (slot, entry.alloc(), false),
            None => match self.space.allocate() {
                Some((slot, alloc)) => (slot, alloc, true),
                None => {
                    self.space.settle(at, extent, write.space, false);
                    return self.finish_change(at, token, Reply::Failed(ImageError::Full));
                }
            },
        };
        let head = RecentHead {
            kind: if kind == Kind::Mend { RecentKind::Mend } else { RecentKind::Write },
            image: self.image(at).no,
            layer: self.image(at).layer,
            piece: write.piece,
            slot: Some(slot),
            alloc,
            stamp: write.stamp,
            number: write.number,
            settled: write.settled,
        };
        let Ok(recent_at) = self.recent.append(&head, Some(&write.sums)) else {
            if used_slot {
                self.space.give_back(slot);
            }
            return self.wait_for_recent(Held { at, token, what: Waiting::Write(write), kind });
        };
        if used_slot {
            self.note_allocations();
            self.change_entry(at, extent, |entry| entry.place(slot, alloc));
        }
        self.space.settle(at, extent, write.space, used_slot);
        self.raise_stamp(at, extent, write.stamp);
        let offset = self.superblock.layout.slot_offset(slot) + block_offset(write.piece);
        let data = write.data.clone();
        let op = WriteOp { at, write, token, slot, recent_at, used_slot, mend: kind == Kind::Mend };
        let op = self.ops.insert(Op::Write(op));
        self.disk_ops.push(DiskOp::Write { token: Completion::Data(op).token(), offset, data });
    }

    /// The data of a read or a write crossed the disk.
    pub(super) fn data_done(&mut self, op: OpAt, result: Result<DiskDone, DiskError>) {
        if matches!(self.ops.get_mut(op), Op::Read(_)) {
            return self.read_done(op, result);
        }
        let Op::Write(done) = self.ops.remove(op) else { unreachable!("a completion is of an op in flight") };
        if result.is_err() {
            self.lose(done.at, done.write.piece.extent);
            self.poison_now();
            return self.finish_change(done.at, done.token, Reply::Failed(ImageError::Poisoned));
        }
        self.believe(&done);
        self.finish_change(done.at, done.token, Reply::Written(Written { used_slot: done.used_slot }));
        self.retry_frees();
    }

    /// The blocks hold what was written: from now on the live map says so (P2: only completed writes do).
    fn believe(&mut self, done: &WriteOp) {
        let (at, piece) = (done.at, done.write.piece);
        let entry = self.image(at).map.entry(piece.extent);
        assert_eq!(entry.slot(), Some(done.slot), "an extent keeps its slot while a write to it is in flight");
        let bits = entry.written() | piece.mask();
        // A whole extent that is new heals what was lost of it; a part does not (P12).
        let heals = entry.has(LOST) && piece.is_whole_extent();
        if bits != entry.written() || heals {
            self.change_entry(at, piece.extent, |entry| {
                entry.set_written(bits);
                if heals {
                    entry.clear(LOST);
                }
            });
        }
        self.flusher.note_unsynced();
        let layer = self.image(at).meta.layer;
        let dirty = self.sums.dirty_slot(done.slot, at, piece.extent);
        for (nth, sum) in done.write.sums.iter().enumerate() {
            let block = piece.first() + nth as u8;
            dirty.put(block, crate::format::table::mix(sum, layer, piece.extent, block, entry.alloc()));
        }
        if done.mend {
            self.counters.blocks_mended += u64::from(piece.count());
        }
        if self.sums.is_over_bound() {
            self.start_flush_for_housekeeping();
        }
    }

    fn clear(&mut self, at: usize, token: Token, unmap: Unmap, kind: Kind) {
        let extent = unmap.piece.extent;
        let entry = self.image(at).map.entry(extent);
        let head = RecentHead {
            kind: if kind == Kind::Mend { RecentKind::MendUnmap } else { RecentKind::Unmap },
            image: self.image(at).no,
            layer: self.image(at).layer,
            piece: unmap.piece,
            slot: entry.slot(),
            alloc: entry.alloc(),
            stamp: unmap.stamp,
            number: unmap.number,
            settled: unmap.settled,
        };
        if self.recent.append(&head, None).is_err() {
            return self.wait_for_recent(Held { at, token, what: Waiting::Unmap(unmap), kind });
        }
        let left = entry.written() & !unmap.piece.mask();
        let forgets_loss = entry.has(LOST) && unmap.piece.is_whole_extent();
        if left != entry.written() || (left == 0 && entry.slot().is_some()) || forgets_loss {
            // A lost extent keeps its flag until it is unmapped or written as a whole (P12).
            let gives_up = left == 0 && (!entry.has(LOST) || forgets_loss) && !self.has_write_in_flight(at, extent);
            self.change_entry(at, extent, |entry| {
                entry.set_written(left);
                if forgets_loss {
                    entry.clear(LOST);
                }
                if gives_up {
                    entry.unplace();
                }
            });
            if let (true, Some(slot)) = (gives_up, entry.slot()) {
                self.sums.forget(slot);
                self.space.free_after_commit(slot);
            }
        }
        self.raise_stamp(at, extent, unmap.stamp);
        self.finish_change(at, token, Reply::Written(Written { used_slot: false }));
    }

    /// A write to other blocks of the extent may be on its way to its slot: then the slot stays.
    fn has_write_in_flight(&self, at: usize, extent: Extent) -> bool {
        self.ops.written_extents().any(|written| written == (at, extent))
    }

    pub(super) fn finish_change(&mut self, at: usize, token: Token, reply: Reply) {
        self.image_mut(at).requests -= 1;
        self.reply(at, token, reply);
    }

    /// L has no room: the change waits until a flush has cut it (P6 needs the entry first).
    fn wait_for_recent(&mut self, held: Held) {
        self.flusher.hold(held);
        self.start_flush_for_housekeeping();
    }

    /// Whoever waited for room in L goes on, in order.
    pub(super) fn resume_held(&mut self) {
        for held in self.flusher.take_held() {
            self.change(held);
        }
    }

    /// Credits and reservations are promises of free slots (P15).
    pub(super) fn grant(&mut self, at: usize, token: Token, credits: u32) {
        let pages_free = self.pages.free();
        let granted = self.space.grant(at, credits, pages_free);
        if granted < credits && self.space.has_uncommitted_frees() {
            // Low space forces a commit, which frees slots; the owner asks again (P3).
            self.start_flush_for_housekeeping();
        }
        self.reply(at, token, Reply::Granted(granted));
    }

    fn has_map_page(&self, at: usize, extent: Extent) -> bool {
        let owner = PageOwner::Map { layer: self.image(at).layer, index: LeafIndex::of(extent).0 };
        self.pages.has(owner)
    }

    pub(super) fn reserve(&mut self, at: usize, token: Token, piece: Piece) {
        let mapped = self.image(at).map.entry(piece.extent).slot().is_some();
        let page_known = self.has_map_page(at, piece.extent);
        let pages_free = self.pages.free();
        if mapped || self.space.reserve(at, piece.extent, page_known, pages_free) {
            return self.reply(at, token, Reply::Done);
        }
        if self.space.has_uncommitted_frees() {
            self.start_flush_for_housekeeping();
        }
        self.fail(at, token, ImageError::Full);
    }

    pub(super) fn release(&mut self, at: usize, token: Token, piece: Piece) {
        self.space.settle(at, piece.extent, Space::Reserved, false);
        self.reply(at, token, Reply::Done);
    }
}

fn block_offset(piece: Piece) -> u64 {
    u64::from(piece.first()) * u64::from(dyad_units::BLOCK_BYTES)
}
