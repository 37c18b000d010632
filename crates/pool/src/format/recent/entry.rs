//! Entries of L as bytes.

use dyad_payload::BlockSum;
use dyad_units::{BLOCKS_PER_EXTENT, DiskId, Epoch, Extent, Interval, Piece, Stamp, WriteNumber};

use crate::entry::{NO_SLOT, Slot};
use crate::format::bytes::{Reader, Writer, crc};
use crate::format::state::{ImageNo, LayerNo};

/// crc u64 | len u16 | done u8 | 0 u8 | kind u8 | first u8 | count u8 | sums u8 | image u32 | layer u32 | extent u32 | slot u32 |
/// allocation u64 | epoch u32 | interval u32 | number u64 | settled u64 | sums [u64].
pub(super) const ENTRY_BYTES: usize = 64;
pub(super) const ENTRY_BYTES_MAX: usize = ENTRY_BYTES + BLOCKS_PER_EXTENT as usize * 8;
const _: () = assert!(ENTRY_BYTES_MAX <= u16::MAX as usize);

/// Where an entry says that what it wrote is there: stored later than the rest, by itself, so the checksum does not cover it.
pub(super) const DONE_AT: usize = 10;
/// It is there.
pub(super) const DONE: u8 = 1;

/// What an entry tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RecentKind {
    /// A host's write.
    Write,
    /// A host's unmap.
    Unmap,
    /// Blocks made equal to another image's, or believed as they are.
    Mend,
    /// Blocks made unwritten like another image's.
    MendUnmap,
    /// Blocks that other images might lack (M3); nothing else of the entry is needed any more.
    Range,
    /// Nothing follows up to the ring's end.
    Pad,
}

impl RecentKind {
    /// Whether it brings a checksum per block.
    fn has_sums(self) -> bool {
        matches!(self, Self::Write | Self::Mend)
    }
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
    pub(crate) position: u64,
    /// Blocks, checksums and bits are durable; only the stamp may not be.
    pub(crate) flushed: bool,
    /// What it wrote had reached the page cache.
    pub(crate) done: bool,
}

/// Where and for whom an entry is stored: disk, life of L, position.
pub(super) type Place = (DiskId, u64, u64);

pub(super) fn encode(to: &mut Vec<u8>, head: &RecentHead, sums: impl ExactSizeIterator<Item = BlockSum>, place: Place) {
    let count = sums.len();
    let len = ENTRY_BYTES + count * 8;
    to.clear();
    to.resize(len, 0);
    let mut fields = Writer::new(to);
    fields.u64(0);
    fields.bytes(&(len as u16).to_le_bytes());
    fields.bytes(&[0, 0]);
    fields.bytes(&[kind_byte(head.kind), head.piece.first(), head.piece.count(), count as u8]);
    fields.u32(head.image.0);
    fields.u32(head.layer.0);
    fields.u32(head.piece.extent.0);
    fields.u32(head.slot.map_or(NO_SLOT, |slot| slot.0));
    fields.u64(head.alloc);
    fields.u32(head.stamp.epoch.value());
    fields.u32(head.stamp.interval.value());
    fields.u64(head.number.value());
    fields.u64(head.settled.value());
    for sum in sums {
        fields.u64(sum.0);
    }
    let sum = entry_crc(place, to);
    to[..8].copy_from_slice(&sum.to_le_bytes());
}

/// The length that the first [`ENTRY_BYTES`] of an entry claim, if an entry can have it.
pub(super) fn claimed_len(fixed: &[u8; ENTRY_BYTES]) -> Option<usize> {
    let mut from = Reader::new(fixed);
    let _sum = from.u64()?;
    let len = usize::from(u16::from_le_bytes(from.array()?));
    (ENTRY_BYTES..=ENTRY_BYTES_MAX).contains(&len).then_some(len)
}

/// Whether the entry in `bytes` was done; leaves it as it was when it was stored.
pub(super) fn take_done(bytes: &mut [u8]) -> bool {
    bytes.get_mut(DONE_AT).is_some_and(|done| std::mem::take(done) == DONE)
}

/// The entry in `bytes`, if it was stored at this place.
pub(super) fn decode(bytes: &[u8], place: Place) -> Option<(RecentHead, Vec<BlockSum>)> {
    let mut from = Reader::new(bytes);
    let (sum, len) = (from.u64()?, usize::from(u16::from_le_bytes(from.array()?)));
    let _done: [u8; 2] = from.array()?;
    if len != bytes.len() || sum != entry_crc(place, bytes) {
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
    let sums = (0..sums).map(|_| from.u64().map(BlockSum)).collect::<Option<Vec<_>>>()?;
    let wanted = if head.kind.has_sums() { usize::from(count) } else { 0 };
    let has_place = head.slot.is_some() || !head.kind.has_sums();
    (sums.len() == wanted && has_place).then_some((head, sums))
}

/// Covers everything behind the checksum itself, and the place.
fn entry_crc((disk, life, position): Place, bytes: &[u8]) -> u64 {
    crc(disk.to_bytes(), &[&life.to_le_bytes(), &position.to_le_bytes(), &bytes[8..]])
}

const KINDS: [RecentKind; 6] =
    [RecentKind::Write, RecentKind::Unmap, RecentKind::Mend, RecentKind::MendUnmap, RecentKind::Range, RecentKind::Pad];

fn kind_byte(kind: RecentKind) -> u8 {
    1 + KINDS.iter().position(|&other| other == kind).expect("every kind is listed") as u8
}

fn kind_of(byte: u8) -> Option<RecentKind> {
    KINDS.get(usize::from(byte).checked_sub(1)?).copied()
}
