//! Checksum tables: the stored sum of every block of every slot (P7).
//!
//! A table page has two homes, written by turns with a rising sequence, at most one per sync: the other one
//! is always the last that was synced.

use dyad_payload::BlockSum;
use dyad_units::{BLOCKS_PER_EXTENT, DiskId, Extent, LayerId};

use crate::entry::Slot;
use crate::format::bytes::{Reader, Writer, crc};
use crate::format::page::PAGE_BYTES;

/// Slots whose sums one table page holds.
pub(crate) const SLOTS_PER_TABLE_PAGE: usize = 7;
/// Sums of one table page.
pub(crate) const SUMS_PER_TABLE_PAGE: usize = SLOTS_PER_TABLE_PAGE * BLOCKS_PER_EXTENT as usize;

const HEADER_BYTES: usize = PAGE_BYTES - SUMS_PER_TABLE_PAGE * SUM_BYTES;
const SUM_BYTES: usize = 8;
const MAGIC: u32 = u32::from_le_bytes(*b"DyTb");
/// magic u32 | page u32 | seq u64 | crc u64 | 0 up to 512.
const CRC_AT: usize = 16;
const CRC_END: usize = CRC_AT + 8;

const _: () = assert!(HEADER_BYTES == 512);

/// A page of checksums: one number, two homes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct TablePage(pub(crate) u32);

impl TablePage {
    /// The page with the sums of `slot`.
    pub(crate) const fn of(slot: Slot) -> Self {
        Self(slot.0 / SLOTS_PER_TABLE_PAGE as u32)
    }

    /// Which of this page's slots `slot` is.
    pub(crate) const fn at(self, slot: Slot) -> usize {
        slot.0 as usize % SLOTS_PER_TABLE_PAGE
    }

    /// The page's slot `at`; it may lie beyond the disk's last.
    pub(crate) const fn slot(self, at: usize) -> Slot {
        Slot(self.0 * SLOTS_PER_TABLE_PAGE as u32 + at as u32)
    }
}

/// Fills `to`, of [`PAGE_BYTES`].
pub(crate) fn encode(to: &mut [u8], disk: DiskId, page: TablePage, seq: u64, sums: &[u64; SUMS_PER_TABLE_PAGE]) {
    for (sum, bytes) in sums.iter().zip(to[HEADER_BYTES..].chunks_exact_mut(SUM_BYTES)) {
        bytes.copy_from_slice(&sum.to_le_bytes());
    }
    seal(to, disk, page, seq);
}

/// Makes a page of bytes whose sums were put already: header and checksum.
pub(crate) fn seal(to: &mut [u8], disk: DiskId, page: TablePage, seq: u64) {
    let to = to.first_chunk_mut::<PAGE_BYTES>().expect("a page");
    let mut header = Writer::new(&mut to[..HEADER_BYTES]);
    header.u32(MAGIC);
    header.u32(page.0);
    header.u64(seq);
    header.zero_rest();
    let sum = crc(disk.to_bytes(), &[&to[..CRC_AT], &to[CRC_END..]]);
    to[CRC_AT..CRC_END].copy_from_slice(&sum.to_le_bytes());
}

/// The sequence of a whole page; `None` if it is not whole, of another disk, or not number `page`.
pub(crate) fn decode(from: &[u8], disk: DiskId, page: TablePage) -> Option<u64> {
    let from: &[u8; PAGE_BYTES] = from.try_into().ok()?;
    let mut header = Reader::new(from);
    if header.u32()? != MAGIC || header.u32()? != page.0 {
        return None;
    }
    let (seq, sum) = (header.u64()?, header.u64()?);
    (sum == crc(disk.to_bytes(), &[&from[..CRC_AT], &from[CRC_END..]])).then_some(seq)
}

/// The stored sum of a block of the page's slot `at` (see [`TablePage::at`]).
pub(crate) fn sum_at(page: &[u8], at: usize, block: u8) -> u64 {
    let start = sum_offset(at, block);
    u64::from_le_bytes(*page[start..].first_chunk().expect("within the page"))
}

/// Stores sums of the page's slot `at`, from `first` on. [`seal`] must follow before the page is written.
pub(crate) fn put_sums(page: &mut [u8], at: usize, first: u8, sums: &[u64]) {
    assert!(usize::from(first) + sums.len() <= BLOCKS_PER_EXTENT as usize, "sums beyond the slot");
    let bytes = page[sum_offset(at, first)..].chunks_exact_mut(SUM_BYTES);
    for (sum, bytes) in sums.iter().zip(bytes) {
        bytes.copy_from_slice(&sum.to_le_bytes());
    }
}

fn sum_offset(at: usize, block: u8) -> usize {
    assert!(at < SLOTS_PER_TABLE_PAGE && u32::from(block) < BLOCKS_PER_EXTENT, "sum beyond the page");
    HEADER_BYTES + (at * BLOCKS_PER_EXTENT as usize + usize::from(block)) * SUM_BYTES
}

/// The sum that is stored for a block: its checksum and its place, so that a block fails that lies in the
/// wrong place, belongs to another layer, or is left from an earlier life of its slot. Never zero, which is
/// what a table holds where nothing was written.
pub(crate) fn mix(sum: BlockSum, layer: LayerId, extent: Extent, block: u8, alloc: u64) -> u64 {
    let layer = u128::from_be_bytes(layer.to_bytes());
    // The checksum is linear, so that bytes that differ in few bits give sums that do; each part of the place
    // is therefore scattered over all 64 bits before it is joined with the next.
    let place = [(layer >> 64) as u64, layer as u64, alloc, u64::from(extent.0) << 8 | u64::from(block)]
        .into_iter()
        .fold(0, |hash: u64, part| scatter(hash.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ part));
    let stored = sum.0 ^ place;
    if stored == 0 { u64::MAX } else { stored }
}

/// The finalizer of SplitMix64: a bijection in which every bit depends on every other.
const fn scatter(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::*;

    const DISK: DiskId = DiskId::from_bytes([7; 16]);
    const PAGE: TablePage = TablePage(3);

    fn sealed() -> [u8; PAGE_BYTES] {
        let mut bytes = [0xee; PAGE_BYTES];
        encode(&mut bytes, DISK, PAGE, 12, &std::array::from_fn(|at| at as u64 * 77));
        bytes
    }

    #[test]
    fn a_page_reads_back_and_can_be_patched() {
        let mut bytes = sealed();
        assert_eq!(decode(&bytes, DISK, PAGE), Some(12));
        assert_eq!(sum_at(&bytes, 6, 63), 447 * 77);
        let page = TablePage(3);
        for at in 0..SUMS_PER_TABLE_PAGE {
            let (slot, block) = (at / BLOCKS_PER_EXTENT as usize, (at % BLOCKS_PER_EXTENT as usize) as u8);
            assert_eq!(sum_at(&bytes, page.at(page.slot(slot)), block), at as u64 * 77);
        }
        put_sums(&mut bytes, 6, 62, &[5, 6]);
        assert_eq!(decode(&bytes, DISK, PAGE), None, "not sealed yet");
        seal(&mut bytes, DISK, PAGE, 13);
        assert_eq!(decode(&bytes, DISK, PAGE), Some(13));
        assert_eq!([61, 62, 63].map(|block| sum_at(&bytes, 6, block)), [445 * 77, 5, 6]);
    }

    #[test]
    fn slots_find_their_page() {
        for (slot, page, at) in
            [(6, 0, 6), (7, 1, 0), (20, 2, 6)].map(|(slot, page, at)| (Slot(slot), TablePage(page), at))
        {
            assert_eq!((TablePage::of(slot), page.at(slot), page.slot(at)), (page, at, slot));
        }
    }

    #[test]
    fn a_page_that_is_not_whole_or_not_ours_is_no_page() {
        let bytes = sealed();
        assert_eq!(decode(&bytes, DiskId::from_bytes([8; 16]), PAGE), None);
        assert_eq!(decode(&bytes, DISK, TablePage(4)), None);
        assert_eq!(decode(&[0; PAGE_BYTES], DISK, TablePage(0)), None);
        for at in 0..PAGE_BYTES {
            let mut bad = bytes;
            bad[at] ^= 1 << (at % 8);
            assert_eq!(decode(&bad, DISK, PAGE), None, "byte {at}");
        }
    }

    /// P7: the same bytes give another stored sum in every other place and life.
    #[test]
    fn a_block_from_another_place_or_life_does_not_match() {
        let sum = BlockSum::of(&[0; 4096]);
        let mut seen = BTreeSet::from([0]);
        for layer in [0, 1, 1 << 64, u128::MAX].map(|id: u128| LayerId::from_bytes(id.to_be_bytes())) {
            for extent in [0, 1, 2, 255, 256, u32::MAX] {
                for block in 0..64 {
                    for alloc in [0, 1, 2, 1 << 32, (1 << 48) - 1] {
                        assert!(seen.insert(mix(sum, layer, Extent(extent), block, alloc)));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_matches_a_sum_that_was_never_stored() {
        let layer = LayerId::from_bytes([1; 16]);
        let place = mix(BlockSum(0), layer, Extent(1), 2, 3);
        assert_ne!(mix(BlockSum(place), layer, Extent(1), 2, 3), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn arbitrary_bytes_are_no_page(bytes in proptest::collection::vec(any::<u8>(), 0..PAGE_BYTES + 2)) {
            prop_assert_eq!(decode(&bytes, DISK, PAGE), None);
        }
    }
}
