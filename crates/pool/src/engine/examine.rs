//! Comparing images after a crash: what blocks are, what is believed, what is settled (P8).

use dyad_contract::image::{BlockState, Examined, ImageError, Reply, Token};
use dyad_payload::{BlockSum, BufMut};
use dyad_units::{BLOCK_BYTES, Extent, Piece, Stamp, WriteNumber};

use crate::engine::Pool;
use crate::engine::admin::Change as AdminChange;
use crate::engine::flush::{Depth, Waiter};
use crate::engine::ops::{Read, ReadFor};
use crate::engine::resync;
use crate::entry::{LOST, SUSPECT};
use crate::format::recent::{RecentHead, RecentKind};
use crate::format::state::Change;
use crate::format::table;

const BLOCK: usize = BLOCK_BYTES as usize;

impl Pool {
    pub(super) fn examine(&mut self, at: usize, token: Token, extent: Extent) {
        self.image_mut(at).requests += 1;
        let entry = self.image(at).map.entry(extent);
        let blocks = if entry.has(LOST) {
            [BlockState::Unreadable; 64]
        } else if entry.written() == 0 {
            self.unwritten(at, extent)
        } else {
            return self.read_blocks(at, token, Piece::whole(extent), &entry, ReadFor::Examine);
        };
        let stamp = self.shown_stamp(at, extent);
        self.finish_read(at, token, Reply::Examined(Box::new(Examined { stamp, blocks })));
    }

    /// What is said of the extent's blocks that no bit says to be written.
    pub(super) fn unwritten(&self, at: usize, extent: Extent) -> [BlockState; 64] {
        let doubts = self.doubts.of(at, extent);
        let state = |block| if doubts >> block & 1 == 1 { BlockState::Missing } else { BlockState::Unwritten };
        std::array::from_fn(state)
    }

    pub(super) fn shown_stamp(&self, at: usize, extent: Extent) -> Stamp {
        resync::shown_stamp(&self.image(at).map.entry(extent))
    }

    /// Believes what the blocks hold: their checksums are made to match, where a crash may have left them behind. What is there came from the disk, or was
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
        // Only what a crash may have left is believed: elsewhere the checksums are right, and what differs is damage (P7).
        if entry.written() & piece.mask() == 0 || !entry.has(SUSPECT) {
            return self.finish_read(at, token, Reply::Done);
        }
        self.read_blocks(at, token, piece, &entry, ReadFor::Adopt);
    }

    /// `None` if L has no room to say so: what was adopted must survive a crash of the process like a write (P6), because
    /// the extent is settled next and nobody compares it again.
    pub(super) fn adopted(&mut self, read: &Read, written: u64, data: &BufMut) -> Option<Reply> {
        if self.poison.is_poisoned() {
            return Some(Reply::Failed(ImageError::Poisoned));
        }
        let (extent, first) = (read.piece.extent, read.piece.first());
        let bad = self.unmatched(read, written, data);
        let layer = self.image(read.at).meta.layer;
        let mut block = first;
        while block < first + read.piece.count() {
            let run = (bad >> block).trailing_ones().min(64 - u32::from(block)) as u8;
            let Some(piece) = Piece::new(extent, block, run) else {
                block += 1;
                continue;
            };
            let data = &data[usize::from(block - first) * BLOCK..][..piece.len()];
            let sums = data.chunks_exact(BLOCK).map(BlockSum::of);
            let head = self.adoption(read, piece);
            let position = self.recent.append(&head, sums.clone(), self.carried).ok()?;
            self.recent.note_done(position);
            let mixed = (block..).zip(sums).map(|(block, sum)| table::mix(sum, layer, extent, block, read.alloc));
            self.sums.put(read.slot, (read.at, extent), block, mixed);
            self.counters.blocks_adopted += u64::from(run);
            block += run;
        }
        Some(Reply::Done)
    }

    /// Like a mend with what is there already; no other image lacks it.
    fn adoption(&self, read: &Read, piece: Piece) -> RecentHead {
        let image = self.image(read.at);
        RecentHead {
            kind: RecentKind::Mend,
            image: image.no,
            layer: image.layer,
            piece,
            slot: Some(read.slot),
            alloc: read.alloc,
            stamp: Stamp::NEVER,
            number: WriteNumber::default(),
            settled: image.unsettled.settled(),
        }
    }

    /// The extent's images are equal. It takes a real stamp in place of "newest"; its mark stays until an interval closes.
    pub(super) fn settled(&mut self, at: usize, token: Token, extent: Extent, stamp: Stamp) {
        if self.poison.is_poisoned() {
            return self.fail(at, token, ImageError::Poisoned);
        }
        if !self.image(at).map.entry(extent).is_absent() {
            self.image_mut(at).map.entry_mut(extent).clear(SUSPECT);
            self.raise_stamp(at, extent, stamp);
        }
        self.with_unsettled(at, |writes| writes.forget(extent));
        self.doubts.over(at, Piece::whole(extent));
        self.give_up_if_empty(at, extent);
        let is_last = self.image_mut(at).compared(extent);
        if is_last && self.image(at).suspect {
            // Were the process to die now, everything would be compared once more. So that it need not be, the stamps
            // are made durable, then that nothing is suspect any more, then this is answered.
            self.image_mut(at).requests += 1;
            return self.flush_for(Waiter::Compared { at, token }, Depth::Stamps);
        }
        self.reply(at, token, Reply::Done);
    }

    /// Every extent was compared, and that is durable but for the word of it.
    pub(super) fn proved(&mut self, at: usize, token: Token) {
        let image = self.image(at).no;
        let durable_at = self.enqueue(Change::Suspect { image, suspect: false });
        self.wait_for_commit(durable_at, AdminChange::Proved { at, token });
    }
}
