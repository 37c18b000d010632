//! Reads, verified (P1, P7). Only the written bitmap says what was ever written; a clear bit reads as zeros and touches no
//! disk.

use dyad_contract::image::{BlockState, Examined, ImageError, Reply, Token};
use dyad_payload::{Buf, BufMut, Payload};
use dyad_units::{BLOCK_BYTES, Piece};

use crate::disk::{DiskDone, DiskError, DiskOp};
use crate::engine::Pool;
use crate::engine::ops::{Completion, Op, OpAt, Read, ReadFor};
use crate::engine::sums::Known;
use crate::entry::{Entry, LOST};
use crate::format::table::{self, TablePage};

const BLOCK: usize = BLOCK_BYTES as usize;

/// A table page that was read and pushed out of memory again this often: there is no memory for the read.
const FETCHES_MAX: u8 = 4;

/// What the blocks of a read turned out to be.
struct Verified {
    /// Written blocks that match their checksum.
    good: u64,
    /// Written blocks that do not.
    bad: u64,
}

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
        let buf = if self.ops.is_full() { None } else { self.slab.take(piece.len()).ok() };
        let Some(buf) = buf else {
            return self.finish_read(at, token, Reply::Failed(ImageError::Overloaded));
        };
        let read = Read { at, token, piece, slot, purpose, buf: None, failed: false, fetches: 0 };
        let op = self.ops.insert(Op::Read(read));
        let offset = self.superblock.layout.slot_offset(slot) + u64::from(piece.first()) * BLOCK as u64;
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
        let Op::Read(read) = self.ops.get_mut(op) else { return };
        if read.buf.is_none() && !read.failed {
            return;
        }
        let (slot, piece, at) = (read.slot, read.piece, read.at);
        let written = self.image(at).map.entry(piece.extent).written() & piece.mask();
        let blocks = (piece.first()..piece.first() + piece.count()).filter(|block| written >> block & 1 == 1);
        if blocks.into_iter().any(|block| self.sums.known(slot, block) == Known::NotHere) {
            return self.fetch_for(op, TablePage::of(slot));
        }
        let Op::Read(read) = self.ops.remove(op) else { unreachable!("looked at above") };
        self.answer_read(read, written);
        self.retry_frees();
    }

    fn fetch_for(&mut self, op: OpAt, page: TablePage) {
        let Op::Read(read) = self.ops.get_mut(op) else { unreachable!("the caller looked") };
        read.fetches += 1;
        if read.fetches <= FETCHES_MAX {
            return self.fetch_table(page, Some(op));
        }
        let Op::Read(read) = self.ops.remove(op) else { unreachable!("looked at above") };
        self.finish_read(read.at, read.token, Reply::Failed(ImageError::Overloaded));
    }

    fn answer_read(&mut self, mut read: Read, written: u64) {
        let Some(mut buf) = read.buf.take() else {
            let reply = match read.purpose {
                ReadFor::Examine => self.examined(&read, written, None),
                ReadFor::Data | ReadFor::Adopt => Reply::Failed(ImageError::Unreadable),
            };
            return self.finish_read(read.at, read.token, reply);
        };
        let reply = match read.purpose {
            ReadFor::Data => {
                let verified = self.check(&read, written, &buf);
                if verified.bad != 0 {
                    self.counters.blocks_damaged += u64::from(verified.bad.count_ones());
                    Reply::Failed(ImageError::Damaged { extent: read.piece.extent, blocks: verified.bad })
                } else {
                    zero_unwritten(&mut buf, read.piece, written);
                    Reply::Data(Payload::from(buf.freeze()))
                }
            }
            ReadFor::Examine => self.examined(&read, written, Some(&buf)),
            ReadFor::Adopt => self.adopted(&read, written, &buf),
        };
        self.finish_read(read.at, read.token, reply);
    }

    fn check(&self, read: &Read, written: u64, buf: &BufMut) -> Verified {
        let mut verified = Verified { good: 0, bad: 0 };
        for (nth, block) in (read.piece.first()..).take(usize::from(read.piece.count())).enumerate() {
            if written >> block & 1 == 1 {
                let matches = self.matches(read, block, &buf[nth * BLOCK..][..BLOCK]);
                *(if matches { &mut verified.good } else { &mut verified.bad }) |= 1 << block;
            }
        }
        verified
    }

    fn matches(&self, read: &Read, block: u8, data: &[u8]) -> bool {
        let sum = dyad_payload::BlockSum::of(data);
        self.sums.known(read.slot, block) == Known::Sum(self.mixed(read, block, sum))
    }

    pub(super) fn mixed(&self, read: &Read, block: u8, sum: dyad_payload::BlockSum) -> u64 {
        let image = self.image(read.at);
        let alloc = image.map.entry(read.piece.extent).alloc();
        table::mix(sum, image.meta.layer, read.piece.extent, block, alloc)
    }

    fn examined(&self, read: &Read, written: u64, buf: Option<&BufMut>) -> Reply {
        let mut blocks = [BlockState::Unwritten; 64];
        for (block, state) in blocks.iter_mut().enumerate().filter(|(block, _)| written >> block & 1 == 1) {
            *state = match buf {
                None => BlockState::Unreadable,
                Some(buf) => {
                    let data = &buf[block * BLOCK..][..BLOCK];
                    let sum = dyad_payload::BlockSum::of(data);
                    let matches =
                        self.sums.known(read.slot, block as u8) == Known::Sum(self.mixed(read, block as u8, sum));
                    if matches { BlockState::Verified(sum) } else { BlockState::Unverified(sum) }
                }
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

/// Zeros kept for unwritten blocks: one extent, the largest piece.
const ZEROS: usize = dyad_units::EXTENT_BYTES as usize;

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
