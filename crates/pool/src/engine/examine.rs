//! Comparing images after a crash: what blocks are, what is believed, what is settled (P8).

use dyad_contract::image::{BlockState, Examined, ImageError, Reply, Token};
use dyad_payload::{BlockSum, BufMut};
use dyad_units::{BLOCK_BYTES, Extent, Piece, Stamp};

use crate::engine::Pool;
use crate::engine::ops::{Read, ReadFor};
use crate::entry::{LOST, SUSPECT};

impl Pool {
    pub(super) fn examine(&mut self, at: usize, token: Token, extent: Extent) {
        self.image_mut(at).requests += 1;
        let entry = self.image(at).map.entry(extent);
        if entry.has(LOST) {
            let blocks = [BlockState::Unreadable; 64];
            let stamp = self.shown_stamp(at, extent);
            return self.finish_read(at, token, Reply::Examined(Box::new(Examined { stamp, blocks })));
        }
        if entry.written() == 0 {
            let blocks = [BlockState::Unwritten; 64];
            let stamp = self.shown_stamp(at, extent);
            return self.finish_read(at, token, Reply::Examined(Box::new(Examined { stamp, blocks })));
        }
        self.read_blocks(at, token, Piece::whole(extent), &entry, ReadFor::Examine);
    }

    /// A suspect extent counts as newer than everything (M1).
    pub(super) fn shown_stamp(&self, at: usize, extent: Extent) -> Stamp {
        let entry = self.image(at).map.entry(extent);
        if entry.has(SUSPECT) { Stamp::NEWEST } else { entry.stamp() }
    }

    /// Believes what the blocks hold: their checksums are made to match. What is there came from the disk, or was
    /// synced when the pool was opened, so the data is durable before its new checksum.
    pub(super) fn adopt(&mut self, at: usize, token: Token, piece: Piece) {
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        self.image_mut(at).requests += 1;
        let entry = self.image(at).map.entry(piece.extent);
        if entry.has(LOST) {
            return self.finish_read(at, token, Reply::Failed(ImageError::Lost { extent: piece.extent }));
        }
        if entry.written() & piece.mask() == 0 {
            return self.finish_read(at, token, Reply::Done);
        }
        self.read_blocks(at, token, piece, &entry, ReadFor::Adopt);
    }

    pub(super) fn adopted(&mut self, read: &Read, written: u64, buf: &BufMut) -> Reply {
        let first = read.piece.first();
        for (nth, data) in buf.chunks_exact(BLOCK_BYTES as usize).enumerate() {
            let block = first + nth as u8;
            if written >> block & 1 == 0 {
                continue;
            }
            let mixed = self.mixed(read, block, BlockSum::of(data));
            if self.sums.known(read.slot, block) != super::sums::Known::Sum(mixed) {
                self.sums.dirty_slot(read.slot, read.at, read.piece.extent).put(block, mixed);
                self.counters.blocks_adopted += 1;
            }
        }
        Reply::Done
    }

    /// The extent's images are equal. It takes a real stamp in place of "newest"; its mark stays until an interval closes.
    pub(super) fn settled(&mut self, at: usize, token: Token, extent: Extent, stamp: Stamp) {
        let entry = self.image(at).map.entry(extent);
        if !entry.is_absent() {
            self.image_mut(at).map.entry_mut(extent).clear(SUSPECT);
            self.raise_stamp(at, extent, stamp);
        }
        self.image_mut(at).unsettled.retain(|piece| piece.extent != extent);
        self.reply(at, token, Reply::Done);
    }
}
