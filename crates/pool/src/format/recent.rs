//! L: what changed lately, in memory that outlives the process (P6).
//!
//! ```text
//!  header, twice | ring of entries:  … | 17 | 18 | 19 (being stored) |
//!                                        tail   flushed   next
//! ```
//!
//! An entry is stored before its data is submitted. Entries from the tail on are needed after a crash of the process;
//! those before `flushed` only for their stamps and numbers, because their blocks, checksums and written bits are
//! durable. What one that is *done* wrote has reached the page cache: no write is answered before its entry says so.
//! Positions rise for ever within a *life* of L and are part of each entry's checksum, together with disk and life:
//! nothing of an earlier lap, life or disk is taken for an entry. A process that takes L over from one that died
//! goes on behind its entries, because writes that other images may lack (M3) are known nowhere else.

use dyad_payload::BlockSum;
use dyad_units::DiskId;

use crate::format::recent::entry::{ENTRY_BYTES, ENTRY_BYTES_MAX};
use crate::format::recent::read_back::Header;
use crate::log::RecentLog;

mod entry;
mod read_back;
#[cfg(test)]
mod tests;

pub(crate) use entry::{RecentEntry, RecentHead, RecentKind};
pub(crate) use read_back::{ReadBack, read_back};

/// magic u32 | version u32 | disk [16] | mount u64 | taken over from mount u64 | life u64 | turn u64 | tail u64 |
/// flushed u64 | flags u32 | 0 [4] | crc u64.
const HEADER_BYTES: usize = 88;
/// Written by turns, so that one is whole whenever the process dies.
const HEADERS: usize = 2;
const RING_AT: usize = 192;
const MAGIC: u32 = u32::from_le_bytes(*b"DyRe");
const VERSION: u32 = 2;
/// The disk failed (P11).
const POISONED: u32 = 1 << 0;
/// No process before: L began anew.
const FROM_NONE: u64 = u64::MAX;

const _: () = assert!(HEADERS * HEADER_BYTES <= RING_AT);

/// Smallest L that is of use: a few entries of the largest kind.
const CAPACITY_MIN: usize = RING_AT + 16 * ENTRY_BYTES_MAX;
/// Kept free beyond one [`ENTRY_BYTES`] per carried entry: what is skipped at the ring's end, twice.
const SLACK: u64 = 2 * ENTRY_BYTES_MAX as u64;

/// L has no room until a flush cuts it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RecentFull;

/// L while the pool is open.
pub(crate) struct Recent {
    log: Box<dyn RecentLog>,
    disk: DiskId,
    mount: u64,
    from: u64,
    life: u64,
    turn: u64,
    tail: u64,
    flushed: u64,
    next: u64,
    flags: u32,
    scratch: Vec<u8>,
}

impl Recent {
    /// Empties L and makes it that of this mount of the disk.
    pub(crate) fn begin(log: Box<dyn RecentLog>, disk: DiskId, mount: u64) -> Self {
        let scratch = Vec::with_capacity(ENTRY_BYTES_MAX);
        let (from, life) = (FROM_NONE, mount);
        let (turn, tail, flushed, next, flags) = (0, 0, 0, 0, 0);
        let mut recent = Self { log, disk, mount, from, life, turn, tail, flushed, next, flags, scratch };
        for _ in 0..HEADERS {
            recent.store_header();
        }
        recent
    }

    /// Takes L over from a process that died: everything in it is durable now, and entries before `tail` are not
    /// needed any more. The header counts for the disk's present mount number and for the next one, so that it does
    /// not matter where between here and the superblock's next version this process dies too.
    pub(crate) fn take_over(log: Box<dyn RecentLog>, disk: DiskId, mount: u64, found: &ReadBack, tail: u64) -> Self {
        let mut recent = Self {
            log,
            disk,
            mount,
            from: found.superblock_mount,
            life: found.header.life,
            turn: found.header.turn,
            tail,
            flushed: found.next,
            next: found.next,
            flags: 0,
            scratch: Vec::with_capacity(ENTRY_BYTES_MAX),
        };
        recent.store_header();
        recent
    }

    /// Whether there is an L at all; without, every restart counts as one of the machine.
    pub(crate) fn is_present(&self) -> bool {
        self.log.capacity() >= CAPACITY_MIN
    }

    fn ring(&self) -> u64 {
        ring_bytes(self.log.capacity())
    }

    /// Bytes that entries may take.
    pub(crate) fn capacity(&self) -> u64 {
        if self.is_present() { self.ring() } else { 0 }
    }

    /// Where the oldest entry that is needed lies.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Where the next entry goes.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// Stores an entry; its position. There is always room left to carry `carried` entries, and this one.
    pub(crate) fn append(
        &mut self,
        head: &RecentHead,
        sums: impl ExactSizeIterator<Item = BlockSum>,
        carried: usize,
    ) -> Result<u64, RecentFull> {
        self.append_beyond(head, sums, (carried as u64 + 1) * ENTRY_BYTES as u64 + SLACK)
    }

    /// Stores again, without its checksums, what is still needed of an entry that is about to be cut.
    pub(crate) fn carry(&mut self, head: &RecentHead) -> Result<u64, RecentFull> {
        self.append_beyond(head, std::iter::empty(), 0)
    }

    fn append_beyond(
        &mut self,
        head: &RecentHead,
        sums: impl ExactSizeIterator<Item = BlockSum>,
        spare: u64,
    ) -> Result<u64, RecentFull> {
        if !self.is_present() {
            return Ok(self.next);
        }
        let len = (ENTRY_BYTES + sums.len() * 8) as u64;
        let to_end = self.ring() - self.next % self.ring();
        let skipped = if to_end < len { to_end } else { 0 };
        if self.next + skipped + len + spare > self.tail + self.ring() {
            return Err(RecentFull);
        }
        if skipped > 0 {
            if skipped >= ENTRY_BYTES as u64 {
                let pad = RecentHead { kind: RecentKind::Pad, ..*head };
                self.store_entry(&pad, std::iter::empty());
            }
            self.next += skipped;
        }
        let position = self.next;
        self.store_entry(head, sums);
        self.next += len;
        Ok(position)
    }

    fn store_entry(&mut self, head: &RecentHead, sums: impl ExactSizeIterator<Item = BlockSum>) {
        entry::encode(&mut self.scratch, head, sums, (self.disk, self.life, self.next));
        let at = RING_AT + (self.next % self.ring()) as usize;
        self.log.store(at, &self.scratch);
    }

    /// Entries before `to` are not needed any more.
    pub(crate) fn trim(&mut self, to: u64) {
        if to > self.tail {
            self.tail = to;
            self.flushed = self.flushed.max(to);
            self.store_header();
        }
    }

    /// Of entries before `to` only the stamps and numbers are needed.
    pub(crate) fn note_flushed(&mut self, to: u64) {
        if to > self.flushed {
            self.flushed = to;
            self.store_header();
        }
    }

    /// What the entry at this position wrote has reached the page cache, and is about to be answered (P6).
    pub(crate) fn note_done(&mut self, position: u64) {
        if self.is_present() {
            let at = RING_AT + (position % self.ring()) as usize;
            self.log.store(at + entry::DONE_AT, &[entry::DONE]);
        }
    }

    /// The disk failed: a process that starts after this one must know (P11).
    pub(crate) fn note_poison(&mut self) {
        self.flags |= POISONED;
        self.store_header();
    }

    fn store_header(&mut self) {
        if !self.is_present() {
            return;
        }
        self.turn += 1;
        let &mut Self { mount, from, life, turn, tail, flushed, flags, .. } = self;
        Header { mount, from, life, turn, tail, flushed, flags }.store(&mut *self.log, self.disk);
    }
}

/// Bytes of the ring in a log of this size.
fn ring_bytes(capacity: usize) -> u64 {
    ((capacity - RING_AT) / 8 * 8) as u64
}
