//! L: what changed lately, in memory that outlives the process (P6).
//!
//! ```text
//!  header, twice | ring of entries:  … | 17 | 18 | 19 (being stored) |
//!                                        tail   flushed   next
//! ```
//!
//! An entry is stored before its data is submitted. Entries from the tail on are needed after a crash of the process; those
//! before `flushed` only for their stamps, because their blocks, checksums and written bits are durable. Positions rise for
//! ever and are part of each entry's checksum, together with disk and mount number: nothing of an earlier lap, mount or
//! disk is taken for an entry.

use dyad_payload::{BlockSum, Sums};
use dyad_units::{BLOCKS_PER_EXTENT, DiskId, Epoch, Extent, Interval, Piece, Stamp, WriteNumber};

use crate::entry::{NO_SLOT, Slot};
use crate::format::bytes::{Reader, Writer, crc};
use crate::format::state::{ImageNo, LayerNo};
use crate::log::RecentLog;

/// magic u32 | version u32 | disk [16] | mount u64 | turn u64 | tail u64 | flushed u64 | crc u64.
const HEADER_BYTES: usize = 64;
/// Written by turns, so that one is whole whenever the process dies.
const HEADERS: usize = 2;
const RING_AT: usize = HEADERS * HEADER_BYTES;
const MAGIC: u32 = u32::from_le_bytes(*b"DyRe");
const VERSION: u32 = 1;

/// crc u64 | len u32 | kind u8 | first u8 | count u8 | sums u8 | image u32 | layer u32 | extent u32 | slot u32 |
/// allocation u64 | epoch u32 | interval u32 | number u64 | settled u64 | sums [u64].
const ENTRY_BYTES: usize = 64;
const ENTRY_BYTES_MAX: usize = ENTRY_BYTES + BLOCKS_PER_EXTENT as usize * 8;
/// Smallest L that is of use: a few entries of the largest kind.
const CAPACITY_MIN: usize = RING_AT + 16 * ENTRY_BYTES_MAX;

/// What an entry tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RecentKind {
    /// A host's write.
    Write,
    /// A host's unmap.
    Unmap,
    /// Blocks made equal to another image's.
    Mend,
    /// Blocks made unwritten like another image's.
    MendUnmap,
    /// The disk failed (P11).
    Poison,
    /// Nothing follows up to the ring's end.
    Pad,
}

/// An entry without its checksums.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RecentHead {
    pub(crate) kind: RecentKind,
    pub(crate) image: ImageNo,
    pub(crate) layer: LayerNo,
    pub(crate) piece: Piece,
    pub(crate) slot: Option<Slot>,
    pub(crate) alloc: u64,
    pub(crate) stamp: Stamp,
    pub(crate) number: WriteNumber,
    pub(crate) settled: WriteNumber,
}

/// An entry read back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RecentEntry {
    pub(crate) head: RecentHead,
    pub(crate) sums: Vec<BlockSum>,
    /// Blocks, checksums and bits are durable; only the stamp may not be.
    pub(crate) flushed: bool,
}

/// L has no room until a flush cuts it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RecentFull;

/// L while the pool is open.
pub(crate) struct Recent {
    log: Box<dyn RecentLog>,
    disk: DiskId,
    mount: u64,
    turn: u64,
    tail: u64,
    flushed: u64,
    next: u64,
    scratch: Vec<u8>,
}

impl Recent {
    /// Empties L and makes it that of this mount of the disk.
    pub(crate) fn begin(log: Box<dyn RecentLog>, disk: DiskId, mount: u64) -> Self {
        let scratch = Vec::with_capacity(ENTRY_BYTES_MAX);
        let mut recent = Self { log, disk, mount, turn: 0, tail: 0, flushed: 0, next: 0, scratch };
        for _ in 0..HEADERS {
            recent.store_header();
        }
        recent
    }

    /// Whether there is an L at all; without, every restart counts as one of the machine.
    pub(crate) fn is_present(&self) -> bool {
        self.log.capacity() >= CAPACITY_MIN
    }

    fn ring(&self) -> u64 {
        ((self.log.capacity() - RING_AT) / 8 * 8) as u64
    }

    /// Bytes that entries may take.
    pub(crate) fn capacity(&self) -> usize {
        if self.is_present() { self.ring() as usize } else { 0 }
    }

    /// Bytes that entries take.
    pub(crate) fn used(&self) -> usize {
        (self.next - self.tail) as usize
    }

    /// Where the next entry goes.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// Stores an entry; its position.
    pub(crate) fn append(&mut self, head: &RecentHead, sums: Option<&Sums>) -> Result<u64, RecentFull> {
        if !self.is_present() {
            return Ok(self.next);
        }
        let len = (ENTRY_BYTES + sums.map_or(0, |sums| sums.len() * 8)) as u64;
        let to_end = self.ring() - self.next % self.ring();
        let skipped = if to_end < len { to_end } else { 0 };
        if self.next + skipped + len > self.tail + self.ring() {
            return Err(RecentFull);
        }
        if skipped > 0 {
            if skipped >= ENTRY_BYTES as u64 {
                let pad = RecentHead { kind: RecentKind::Pad, ..*head };
                self.store_entry(&pad, None);
            }
            self.next += skipped;
        }
        let position = self.next;
        self.store_entry(head, sums);
        self.next += len;
        Ok(position)
    }

    fn store_entry(&mut self, head: &RecentHead, sums: Option<&Sums>) {
        let count = sums.map_or(0, Sums::len);
        let len = ENTRY_BYTES + count * 8;
        self.scratch.clear();
        self.scratch.resize(len, 0);
        let mut to = Writer::new(&mut self.scratch);
        to.u64(0);
        to.u32(len as u32);
        to.bytes(&[kind_byte(head.kind), head.piece.first(), head.piece.count(), count as u8]);
        to.u32(head.image.0);
        to.u32(head.layer.0);
        to.u32(head.piece.extent.0);
        to.u32(head.slot.map_or(NO_SLOT, |slot| slot.0));
        to.u64(head.alloc);
        to.u32(head.stamp.epoch.value());
        to.u32(head.stamp.interval.value());
        to.u64(head.number.value());
        to.u64(head.settled.value());
        for sum in sums.iter().flat_map(|sums| sums.iter()) {
            to.u64(sum.0);
        }
        let sum = entry_crc(self.disk, self.mount, self.next, &self.scratch);
        self.scratch[..8].copy_from_slice(&sum.to_le_bytes());
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

    /// Of entries before `to` only the stamps are needed.
    pub(crate) fn note_flushed(&mut self, to: u64) {
        if to > self.flushed {
            self.flushed = to;
            self.store_header();
        }
    }

    fn store_header(&mut self) {
        if !self.is_present() {
            return;
        }
        self.turn += 1;
        let mut bytes = [0; HEADER_BYTES];
        let mut to = Writer::new(&mut bytes);
        to.u32(MAGIC);
        to.u32(VERSION);
        to.bytes(&self.disk.to_bytes());
        to.u64(self.mount);
        to.u64(self.turn);
        to.u64(self.tail);
        to.u64(self.flushed);
        let sum = crc(self.disk.to_bytes(), &[&bytes[..HEADER_BYTES - 8]]);
        bytes[HEADER_BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
        self.log.store((self.turn as usize % HEADERS) * HEADER_BYTES, &bytes);
    }
}

/// The entries in L, oldest first, if it is of this mount of the disk. The last may be missing: the process died while
/// storing it, and its data was not submitted.
pub(crate) fn read_back(log: &dyn RecentLog, disk: DiskId, mount: u64) -> Option<Vec<RecentEntry>> {
    if log.capacity() < CAPACITY_MIN {
        return None;
    }
    let headers = (0..HEADERS).filter_map(|nth| read_header(log, nth, disk, mount));
    let (_, tail, flushed) = headers.max_by_key(|(turn, ..)| *turn)?;
    let ring = ((log.capacity() - RING_AT) / 8 * 8) as u64;
    let (mut entries, mut at) = (Vec::new(), tail);
    while at < tail.saturating_add(ring) {
        let to_end = ring - at % ring;
        if to_end < ENTRY_BYTES as u64 {
            at += to_end;
            continue;
        }
        let Some((head, sums, len)) = read_entry(log, ring, at, disk, mount) else { break };
        if head.kind == RecentKind::Pad {
            at += to_end;
            continue;
        }
        entries.push(RecentEntry { head, sums, flushed: at < flushed });
        at += len;
    }
    Some(entries)
}

fn read_header(log: &dyn RecentLog, nth: usize, disk: DiskId, mount: u64) -> Option<(u64, u64, u64)> {
    let mut bytes = [0; HEADER_BYTES];
    log.load(nth * HEADER_BYTES, &mut bytes);
    let mut from = Reader::new(&bytes);
    if from.u32()? != MAGIC || from.u32()? != VERSION || from.array()? != disk.to_bytes() || from.u64()? != mount {
        return None;
    }
    let (turn, tail, flushed, sum) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
    (sum == crc(disk.to_bytes(), &[&bytes[..HEADER_BYTES - 8]])).then_some((turn, tail, flushed))
}

fn read_entry(
    log: &dyn RecentLog,
    ring: u64,
    position: u64,
    disk: DiskId,
    mount: u64,
) -> Option<(RecentHead, Vec<BlockSum>, u64)> {
    let at = RING_AT + (position % ring) as usize;
    let mut fixed = [0; ENTRY_BYTES];
    log.load(at, &mut fixed);
    let mut from = Reader::new(&fixed);
    let (sum, len) = (from.u64()?, from.u32()? as usize);
    if !(ENTRY_BYTES..=ENTRY_BYTES_MAX).contains(&len) || len as u64 > ring - position % ring {
        return None;
    }
    let mut bytes = vec![0; len];
    log.load(at, &mut bytes);
    if sum != entry_crc(disk, mount, position, &bytes) {
        return None;
    }
    let [kind, first, count, sums] = from.array()?;
    let (image, layer, extent, slot) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
    let alloc = from.u64()?;
    let stamp = Stamp::new(Epoch::new(from.u32()?), Interval::new(from.u32()?));
    let (number, settled) = (WriteNumber::new(from.u64()?), WriteNumber::new(from.u64()?));
    let head = RecentHead {
        kind: kind_of(kind)?,
        image: ImageNo(image),
        layer: LayerNo(layer),
        piece: Piece::new(Extent(extent), first, count)?,
        slot: (slot != NO_SLOT).then_some(Slot(slot)),
        alloc,
        stamp,
        number,
        settled,
    };
    let mut from = Reader::new(&bytes[ENTRY_BYTES..]);
    let sums = (0..sums).map(|_| from.u64().map(BlockSum)).collect::<Option<Vec<_>>>()?;
    let carries_data = matches!(head.kind, RecentKind::Write | RecentKind::Mend);
    (!carries_data || sums.len() == usize::from(count)).then_some((head, sums, len as u64))
}

/// Covers everything behind the checksum itself, and where and for whom it was stored.
fn entry_crc(disk: DiskId, mount: u64, position: u64, bytes: &[u8]) -> u64 {
    crc(disk.to_bytes(), &[&mount.to_le_bytes(), &position.to_le_bytes(), &bytes[8..]])
}

const KINDS: [RecentKind; 6] = [
    RecentKind::Write,
    RecentKind::Unmap,
    RecentKind::Mend,
    RecentKind::MendUnmap,
    RecentKind::Poison,
    RecentKind::Pad,
];

fn kind_byte(kind: RecentKind) -> u8 {
    1 + KINDS.iter().position(|&other| other == kind).expect("every kind is listed") as u8
}

fn kind_of(byte: u8) -> Option<RecentKind> {
    KINDS.get(usize::from(byte).checked_sub(1)?).copied()
}
