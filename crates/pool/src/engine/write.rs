//! Writes and mends (P1, P5, P6, P7), and how any change comes in.
//!
//! What has to be there before the data is submitted, in this order: the region's mark, durable (P5); a slot
//! that no committed entry refers to (P3); an entry in L (P6). What follows completion: the written bits, the
//! checksums among the dirty ones, the answer. A crash between any two of these steps leaves the block old or new:
//! before the entry in L nothing was touched; after it, recovery compares the block with what L says of it.

use dyad_contract::image::{ImageError, Reply, Space, Token, Unmap, Write, Written};
use dyad_units::{Extent, Piece, Stamp, WriteNumber};

use crate::disk::{DiskDone, DiskError, DiskOp};
use crate::engine::Pool;
use crate::engine::ops::{Completion, Op, OpAt, WriteOp};
use crate::engine::shortage::NeedsSlot;
use crate::engine::unsettled::{UNSETTLED_MAX, Unsettled};
use crate::entry::LOST;
use crate::format::recent::{RecentHead, RecentKind};
use crate::format::state::PageOwner;
use crate::format::table;
use crate::map::LeafIndex;

/// On whose behalf blocks change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A host's write, in the owner's order.
    Host,
    /// Making the image equal to another (P8, P14).
    Mend,
}

/// A change that waits for its region's mark or for room.
pub(super) enum Waiting {
    Write(Write),
    Unmap(Unmap),
}

impl Waiting {
    pub(super) fn piece(&self) -> Piece {
        match self {
            Self::Write(write) => write.piece,
            Self::Unmap(unmap) => unmap.piece,
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        match self {
            Self::Write(write) => write.stamp,
            Self::Unmap(unmap) => unmap.stamp,
        }
    }

    fn settled(&self) -> WriteNumber {
        match self {
            Self::Write(write) => write.settled,
            Self::Unmap(unmap) => unmap.settled,
        }
    }
}

/// A write or unmap that cannot go on yet.
pub(super) struct Held {
    pub(super) at: usize,
    pub(super) token: Token,
    pub(super) what: Waiting,
    pub(super) kind: Kind,
    /// What it was promised, from the moment it came: a new epoch takes nothing of that away (P15).
    pub(super) paid_by: Option<Space>,
}

impl Pool {
    pub(super) fn write(&mut self, at: usize, token: Token, write: Write, kind: Kind) {
        assert_eq!(write.data.len(), write.piece.len(), "a write has its piece's bytes");
        assert_eq!(write.sums.len(), usize::from(write.piece.count()), "a write has one sum per block");
        let paid_by = Some(write.space);
        self.admit(Held { at, token, what: Waiting::Write(write), kind, paid_by });
    }

    pub(super) fn unmap(&mut self, at: usize, token: Token, unmap: Unmap, kind: Kind) {
        self.admit(Held { at, token, what: Waiting::Unmap(unmap), kind, paid_by: None });
    }

    fn admit(&mut self, mut held: Held) {
        let (at, token) = (held.at, held.token);
        self.settle_up_to(at, held.what.settled());
        let image = self.image(at);
        let refused = if self.poison.is_poisoned() {
            ImageError::Poisoned
        } else if held.what.stamp().epoch < image.meta.epoch {
            ImageError::Superseded { newest: image.meta.epoch }
        } else if self.is_full_of_requests() || self.carries_too_much() || image.unsettled.len() >= UNSETTLED_MAX {
            ImageError::Overloaded
        } else {
            self.image_mut(at).requests += 1;
            if held.paid_by == Some(Space::Credit) && !self.space.use_credit(at) {
                held.paid_by = None;
            }
            return self.change(held);
        };
        self.fail(at, token, refused);
    }

    /// Carries a change as far as it goes now: it may have to wait for a mark or for room.
    pub(super) fn change(&mut self, held: Held) {
        if self.poison.is_poisoned() {
            return self.finish_change(held.at, held.token, Reply::Failed(ImageError::Poisoned));
        }
        let extent = held.what.piece().extent;
        let is_unmap = matches!(held.what, Waiting::Unmap(_));
        if is_unmap && self.image(held.at).map.entry(extent).is_absent() {
            // Nothing was ever here on any image that this one is equal to: nothing to mark, stamp or keep.
            return self.finish_change(held.at, held.token, Reply::Written(Written { used_slot: false }));
        }
        if self.has_too_many_uncommitted() {
            return self.wait_for_room(held);
        }
        let Some(held) = self.wait_for_mark(held) else { return };
        match held.what {
            Waiting::Write(write) => self.place((held.at, held.token), write, held.kind, held.paid_by),
            Waiting::Unmap(unmap) => self.clear(held.at, held.token, unmap, held.kind),
        }
    }

    fn place(&mut self, (at, token): (usize, Token), write: Write, kind: Kind, paid_by: Option<Space>) {
        let extent = write.piece.extent;
        let entry = self.image(at).map.entry(extent);
        let paid_by = paid_by.filter(|by| *by == Space::Credit || self.space.is_reserved(at, extent));
        let is_current = write.stamp.epoch >= self.image(at).meta.epoch;
        let found = match entry.slot() {
            Some(slot) => Some((slot, entry.alloc(), false)),
            None if paid_by.is_none() && !self.has_unpromised_space(at, extent) => None,
            None if self.ensure_map_page(at, extent) => self.space.allocate().map(|(slot, alloc)| (slot, alloc, true)),
            None => None,
        };
        let Some((slot, alloc, used_slot)) = found else {
            self.space.settle((at, write.piece), paid_by, false, is_current);
            return self.wait_for_slot(NeedsSlot::Change(Held {
                at,
                token,
                what: Waiting::Write(write),
                kind,
                paid_by: None,
            }));
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
        let sums = (0..write.sums.len()).map(|block| write.sums.at(block));
        let Ok(recent_at) = self.recent.append(&head, sums, self.carried) else {
            if used_slot {
                self.space.give_back(slot);
            }
            return self.wait_for_room(Held { at, token, what: Waiting::Write(write), kind, paid_by });
        };
        if used_slot {
            self.note_allocations();
            self.change_entry(at, extent, |entry| entry.place(slot, alloc));
        }
        self.space.settle((at, write.piece), paid_by, used_slot, is_current);
        self.note_change(at, &head, recent_at);
        self.image_mut(at).map.entry_mut(extent).begin_write();
        let offset = self.superblock.layout.slot_offset(slot) + block_offset(write.piece);
        let data = write.data.clone();
        let op = WriteOp { at, write, token, slot, recent_at, used_slot, mend: kind == Kind::Mend };
        let op = self.ops.insert(Op::Write(op));
        self.disk_ops.push(DiskOp::Write { token: Completion::Data(op).token(), offset, data });
        if self.recent_is_filling() {
            self.start_flush_for_housekeeping();
        }
    }

    /// Whether there is a slot for the extent, and a map page should it need one, that nobody was promised.
    fn has_unpromised_space(&self, at: usize, extent: Extent) -> bool {
        let promised = self.space.promised();
        self.space.slots_free() > promised && (self.has_map_page(at, extent) || self.pages.free() > promised)
    }

    /// What follows from an entry in L: the stamp, and that other images might lack it.
    pub(super) fn note_change(&mut self, at: usize, head: &RecentHead, recent_at: u64) {
        self.raise_stamp(at, head.piece.extent, head.stamp);
        let (number, stamp, piece) = (head.number, head.stamp, head.piece);
        self.with_unsettled(at, |writes| writes.push(Unsettled { recent_at, number, stamp, piece }));
    }

    /// The data of a read or a write crossed the disk.
    pub(super) fn data_done(&mut self, op: OpAt, result: Result<DiskDone, DiskError>) {
        if matches!(self.ops.get(op), Op::Read(_)) {
            return self.read_done(op, result);
        }
        if result.is_err() {
            // While it still counts as in flight, so that its extent is among the lost.
            self.poison_now();
        }
        let Op::Write(done) = self.ops.remove(op) else { unreachable!("a completion is of an op in flight") };
        self.image_mut(done.at).map.entry_mut(done.write.piece.extent).end_write();
        let reply = if self.poison.is_poisoned() {
            Reply::Failed(ImageError::Poisoned)
        } else {
            self.believe(&done);
            self.recent.note_done(done.recent_at);
            Reply::Written(Written { used_slot: done.used_slot })
        };
        self.space.drained(done.slot);
        self.finish_change(done.at, done.token, reply);
        self.make_room();
        if self.sums.is_over_bound() {
            self.start_flush_for_housekeeping();
        }
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
        let (layer, extent, alloc) = (self.image(at).meta.layer, piece.extent, entry.alloc());
        let sums = (piece.first()..).zip(done.write.sums.iter());
        let mixed = sums.map(|(block, sum)| table::mix(sum, layer, extent, block, alloc));
        self.sums.put(done.slot, (at, extent), piece.first(), mixed);
        let were_damaged = self.damage.over(at, piece);
        self.doubts.over(at, piece);
        if done.mend {
            self.counters.blocks_mended += u64::from(piece.count());
            self.counters.blocks_healed += were_damaged;
        }
    }

    /// The map page that the extent's entry will be committed to: an extent is not placed without one (P15).
    pub(super) fn ensure_map_page(&mut self, at: usize, extent: Extent) -> bool {
        let layer = self.image(at).layer;
        self.ensure_page(PageOwner::Map { layer, index: LeafIndex::of(extent).0 })
    }

    pub(super) fn finish_change(&mut self, at: usize, token: Token, reply: Reply) {
        self.image_mut(at).requests -= 1;
        self.reply(at, token, reply);
    }

    /// The change waits until a flush has made room (P6 needs the entry in L first).
    pub(super) fn wait_for_room(&mut self, held: Held) {
        self.room.count += 1;
        self.room.hold(held);
        self.make_room();
    }
}

fn block_offset(piece: Piece) -> u64 {
    u64::from(piece.first()) * u64::from(dyad_units::BLOCK_BYTES)
}
