//! Reads, verified (P1, P7). Only the written bitmap says what was ever written; a clear bit reads as zeros and touches no
//! disk.

use dyad_contract::image::{BlockState, Examined, ImageError, Reply, Token};
use dyad_payload::{BlockSum, Buf, BufMut, Payload};
use dyad_units::{BLOCK_BYTES, Piece};

use crate::disk::{DiskDone, DiskError, DiskOp};
use crate::engine::Pool;
use crate::engine::ops::{Completion, Op, OpAt, Read, ReadFor};
use crate::entry::{Entry, LOST, SUSPECT};
use crate::format::table::{self, TablePage};

const BLOCK: usize = BLOCK_BYTES as usize;

/// A table page that was read and pushed out of memory again this often: there is no memory for the read.
const FETCHES_MAX: u8 = 4;

/// Zeros kept for unwritten blocks: one extent, the largest piece.
const ZEROS: usize = dyad_units::EXTENT_BYTES as usize;

impl Pool {
    pub(super) fn read(&mut self, at: usize, token: Token, piece: Piece) {
        self.image_mut(at).requests += 1;
        let entry = self.image(at).map.entry(piece.extent);
        if entry.has(LOST) {
            return self.finish_read(at, token, Reply::Failed(ImageError::Lost { extent: piece.extent }));
        }
        if entry.written() & piece.mask() == 0 {
            let reply = match self.zeros(piece.len()) {
                Some(zeros) => Reply::Data(zeros),
                None => Reply::Failed(ImageError::Overloaded),
            };
            return self.finish_read(at, token, reply);
        }
        self.read_blocks(at, token, piece, &entry, ReadFor::Data);
    }

    /// Reads the piece from its slot, and its checksums if they are not here.
    pub(super) fn read_blocks(&mut self, at: usize, token: Token, piece: Piece, entry: &Entry, purpose: ReadFor) {
        let slot = entry.slot().expect("written blocks have a slot");
        let buf = if self.is_full_of_requests() { None } else { self.slab.take(piece.len()).ok() };
        let Some(buf) = buf else {
            return self.finish_read(at, token, Reply::Failed(ImageError::Overloaded));
        };
        let (alloc, failed, fetches) = (entry.alloc(), false, 0);
        let op = self.ops.insert(Op::Read(Read { at, token, piece, slot, alloc, purpose, buf: None, failed, fetches }));
        let offset = self.superblock.layout.slot_offset(slot) + u64::from(piece.first()) * u64::from(BLOCK_BYTES);
        self.disk_ops.push(DiskOp::Read { token: Completion::Data(op).token(), offset, buf });
    }

    pub(super) fn read_done(&mut self, op: OpAt, result: Result<DiskDone, DiskError>) {
        let Op::Read(read) = self.ops.get_mut(op) else { unreachable!("the caller looked") };
        match result {
            Ok(DiskDone::Read(buf)) => read.buf = Some(buf),
            _ => read.failed = true,
        }
        self.verify(op);
    }

    /// Goes on with a read whose data is here, once the checksums are.
    pub(super) fn verify(&mut self, op: OpAt) {
        let Op::Read(read) = self.ops.get(op) else { return };
        if read.buf.is_none() && !read.failed {
            return;
        }
        let slot = read.slot;
        let written = self.image(read.at).map.entry(read.piece.extent).written() & read.piece.mask();
        if read.buf.is_some() && self.sums.slot(slot).lacks(written) {
            return self.fetch_for(op, TablePage::of(slot));
        }
        let Op::Read(mut read) = self.ops.remove(op) else { unreachable!("looked at above") };
        let reply = match (read.purpose, read.buf.take()) {
            (ReadFor::Examine, buf) => self.examined(&read, written, buf.as_ref()),
            (_, None) => Reply::Failed(ImageError::Unreadable),
            (ReadFor::Data, Some(buf)) => self.data(&read, written, buf),
            (ReadFor::Adopt, Some(buf)) => match self.adopted(&read, written, &buf) {
                Some(reply) => reply,
                None => {
                    read.buf = Some(buf);
                    let op = self.ops.insert(Op::Read(read));
                    self.room.hold_adoption(op);
                    return self.make_room();
                }
            },
        };
        self.space.drained(slot);
        self.finish_read(read.at, read.token, reply);
    }

    fn fetch_for(&mut self, op: OpAt, page: TablePage) {
        let Op::Read(read) = self.ops.get_mut(op) else { unreachable!("the caller looked") };
        read.fetches += 1;
        if read.fetches <= FETCHES_MAX {
            return self.fetch_table(page, Some(op));
        }
        self.give_up_read(op);
    }

    /// There is no memory for what the read still needs.
    pub(super) fn give_up_read(&mut self, op: OpAt) {
        let Op::Read(read) = self.ops.remove(op) else { unreachable!("only reads wait for table pages") };
        self.space.drained(read.slot);
        self.finish_read(read.at, read.token, Reply::Failed(ImageError::Overloaded));
    }

    fn data(&mut self, read: &Read, written: u64, mut buf: BufMut) -> Reply {
        let piece = read.piece;
        let bad = self.unmatched(read, written, &buf);
        if bad != 0 {
            self.counters.blocks_damaged += self.damage.found(read.at, piece.extent, bad);
            return Reply::Failed(ImageError::Damaged { extent: piece.extent, blocks: bad });
        }
        zero_unwritten(&mut buf, piece, written);
        Reply::Data(Payload::from(buf.freeze()))
    }

    /// Written blocks that do not match their checksum (P7).
    pub(super) fn unmatched(&self, read: &Read, written: u64, data: &[u8]) -> u64 {
        let (layer, sums) = (self.image(read.at).meta.layer, self.sums.slot(read.slot));
        let mut bad = 0;
        for (block, data) in (read.piece.first()..).zip(data.chunks_exact(BLOCK)) {
            if written >> block & 1 == 1 {
                let found = table::mix(BlockSum::of(data), layer, read.piece.extent, block, read.alloc);
                bad |= u64::from(sums.of(block) != Some(found)) << block;
            }
        }
        bad
    }

    /// Whether the block was left bad on purpose, because no image had it (M15): as it is, or as the zeros that are written there
    /// then, which a write that a crash tore may have changed in part. What it left of them is no better than before.
    pub(super) fn is_known_bad(&self, read: &Read, block: u8, found: BlockSum) -> bool {
        let layer = self.image(read.at).meta.layer;
        let kept = self.sums.slot(read.slot).of(block);
        let is_for = |sum: BlockSum| Some(table::mix(sum, layer, read.piece.extent, block, read.alloc)) == kept;
        is_for(found.of_bad()) || is_for(BlockSum::bad())
    }

    fn examined(&self, read: &Read, written: u64, buf: Option<&BufMut>) -> Reply {
        let mut blocks = self.unwritten(read.at, read.piece.extent);
        let bad = buf.map_or(0, |buf| self.unmatched(read, written, buf));
        let may_be_torn = self.image(read.at).map.entry(read.piece.extent).has(SUSPECT);
        for (block, state) in blocks.iter_mut().enumerate().filter(|(block, _)| written >> block & 1 == 1) {
            *state = match buf.map(|buf| BlockSum::of(&buf[block * BLOCK..][..BLOCK])) {
                None => BlockState::Unreadable,
                Some(sum) if bad >> block & 1 == 0 => BlockState::Verified(sum),
                // Nobody may adopt what is not there to be believed (M15), nor what no crash can have left: where nothing was
                // forgotten, the sum is that of what was written last, and what differs is damage (P7).
                Some(sum) if !may_be_torn || self.is_known_bad(read, block as u8, sum) => BlockState::Unreadable,
                Some(sum) => BlockState::Unverified(sum),
            };
        }
        let stamp = self.shown_stamp(read.at, read.piece.extent);
        Reply::Examined(Box::new(Examined { stamp, blocks }))
    }

    pub(super) fn finish_read(&mut self, at: usize, token: Token, reply: Reply) {
        self.image_mut(at).requests -= 1;
        self.reply(at, token, reply);
    }

    /// As many zeros, all slices of one shared block of memory.
    fn zeros(&mut self, len: usize) -> Option<Payload> {
        let zeros = match &self.zeros_kept {
            Some(zeros) => zeros.clone(),
            None => {
                let mut buf = self.slab.take(ZEROS).ok()?;
                buf.fill(0);
                let zeros: Buf = buf.freeze();
                self.zeros_kept = Some(zeros.clone());
                zeros
            }
        };
        let mut payload = Payload::new();
        payload.push(zeros.slice(0, len));
        Some(payload)
    }
}

/// Blocks that were never written hold whatever the slot held before (A5): the host sees zeros.
fn zero_unwritten(buf: &mut BufMut, piece: Piece, written: u64) {
    if written == piece.mask() {
        return;
    }
    for (nth, block) in (piece.first()..).take(usize::from(piece.count())).enumerate() {
        if written >> block & 1 == 0 {
            buf[nth * BLOCK..][..BLOCK].fill(0);
        }
    }
}
