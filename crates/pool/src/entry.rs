//! What the map knows of one extent (P1, P9, P12).

use dyad_units::{Epoch, Interval, Stamp};

/// Place of one extent on a disk.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Slot(pub(crate) u32);

/// On disk and in memory: no slot.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// Lost (P12): the disk failed to keep what was written here; durable.
pub(crate) const LOST: u16 = 1 << 0;
/// Flags that stand on disk.
pub(crate) const DURABLE_FLAGS: u16 = LOST;
/// After a crash without L in a marked region, until settled (P8): in memory only.
pub(crate) const SUSPECT: u16 = 1 << 4;
/// Slot, bits or flags differ from the committed entry: in memory only.
pub(crate) const MAP_DIRTY: u16 = 1 << 5;
/// Only the stamp is newer than the committed one: in memory only.
pub(crate) const STAMP_DIRTY: u16 = 1 << 6;
/// The upper byte of the flags counts the writes in flight to the extent, of which its range lock allows one per
/// block: in memory only.
const WRITE_ONE: u16 = 1 << 8;

const _: () = assert!(dyad_units::BLOCKS_PER_EXTENT < (u16::MAX / WRITE_ONE) as u32);

/// One extent's entry. 28 bytes, so that a mapped TiB costs 112 MiB; 64-bit numbers are kept in halves
/// because alignment would round the size up to 32.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub(crate) struct Entry {
    slot: u32,
    alloc_low: u32,
    alloc_high: u16,
    flags: u16,
    epoch: u32,
    interval: u32,
    written_low: u32,
    written_high: u32,
}

const _: () = assert!(size_of::<Entry>() == 28);

/// Allocation numbers have 48 bits: one for every slot of an exabyte, sixty-four times over.
pub(crate) const ALLOC_MAX: u64 = (1 << 48) - 1;

impl Entry {
    /// Never written: no slot, no stamp.
    pub(crate) const ABSENT: Self = Self {
        slot: NO_SLOT,
        alloc_low: 0,
        alloc_high: 0,
        flags: 0,
        epoch: 0,
        interval: 0,
        written_low: 0,
        written_high: 0,
    };

    pub(crate) fn is_absent(&self) -> bool {
        *self == Self::ABSENT
    }

    pub(crate) fn slot(&self) -> Option<Slot> {
        (self.slot != NO_SLOT).then_some(Slot(self.slot))
    }

    /// Number of the slot's allocation; meaningless without a slot.
    pub(crate) fn alloc(&self) -> u64 {
        u64::from(self.alloc_high) << 32 | u64::from(self.alloc_low)
    }

    pub(crate) fn place(&mut self, slot: Slot, alloc: u64) {
        assert!(alloc <= ALLOC_MAX && slot.0 != NO_SLOT, "slot or allocation number out of range");
        self.slot = slot.0;
        self.alloc_low = alloc as u32;
        self.alloc_high = (alloc >> 32) as u16;
    }

    /// Gives the slot up; the stamp stays (tombstone, P9).
    pub(crate) fn unplace(&mut self) {
        self.slot = NO_SLOT;
        self.alloc_low = 0;
        self.alloc_high = 0;
        self.set_written(0);
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::new(Epoch::new(self.epoch), Interval::new(self.interval))
    }

    pub(crate) fn set_stamp(&mut self, stamp: Stamp) {
        self.epoch = stamp.epoch.value();
        self.interval = stamp.interval.value();
    }

    /// One bit per block that was ever written and not unmapped since (P1).
    pub(crate) fn written(&self) -> u64 {
        u64::from(self.written_high) << 32 | u64::from(self.written_low)
    }

    pub(crate) fn set_written(&mut self, bits: u64) {
        self.written_low = bits as u32;
        self.written_high = (bits >> 32) as u32;
    }

    pub(crate) fn flags(&self) -> u16 {
        self.flags
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u16) {
        self.flags &= !flag;
    }

    /// Counts a write in flight.
    pub(crate) fn begin_write(&mut self) {
        self.flags = self.flags.checked_add(WRITE_ONE).expect("one write in flight per block");
    }

    /// One write less.
    pub(crate) fn end_write(&mut self) {
        self.flags = self.flags.checked_sub(WRITE_ONE).expect("a write ends once");
    }

    /// Whether a write is on its way to the extent's slot.
    pub(crate) fn has_write_in_flight(&self) -> bool {
        self.flags >= WRITE_ONE
    }

    /// As it stands on disk: without what is only in memory.
    pub(crate) fn durable(mut self) -> Self {
        self.flags &= DURABLE_FLAGS;
        self
    }
}

/// Bytes of an entry on disk.
pub(crate) const ENTRY_BYTES: usize = 32;

impl Entry {
    /// slot u32 | flags u32 | allocation u64 | epoch u32 | interval u32 | written u64, little endian.
    pub(crate) fn encode(&self, to: &mut [u8; ENTRY_BYTES]) {
        let durable = self.durable();
        to[0..4].copy_from_slice(&durable.slot.to_le_bytes());
        to[4..8].copy_from_slice(&u32::from(durable.flags).to_le_bytes());
        to[8..16].copy_from_slice(&durable.alloc().to_le_bytes());
        to[16..20].copy_from_slice(&durable.epoch.to_le_bytes());
        to[20..24].copy_from_slice(&durable.interval.to_le_bytes());
        to[24..32].copy_from_slice(&durable.written().to_le_bytes());
    }

    /// `None` if no entry looks like this: an unknown flag, bits without a slot, an allocation out of range.
    pub(crate) fn decode(from: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at + 4)) << 32 | u64::from(u32_at(at));
        let (slot, flags, alloc, written) = (u32_at(0), u32_at(4), u64_at(8), u64_at(24));
        let has_slot = slot != NO_SLOT;
        if flags & !u32::from(DURABLE_FLAGS) != 0 || alloc > ALLOC_MAX || (!has_slot && (written != 0 || alloc != 0)) {
            return None;
        }
        let mut entry = Self { slot, flags: flags as u16, epoch: u32_at(16), interval: u32_at(20), ..Self::ABSENT };
        entry.alloc_low = alloc as u32;
        entry.alloc_high = (alloc >> 32) as u16;
        entry.set_written(written);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_without_what_is_only_in_memory() {
        let mut entry = Entry::ABSENT;
        entry.place(Slot(7), 0x1234_5678_9abc);
        entry.set_stamp(Stamp::new(Epoch::new(3), Interval::new(9)));
        entry.set_written(1 << 63 | 5);
        entry.set(LOST | SUSPECT | MAP_DIRTY);
        entry.begin_write();
        entry.begin_write();
        entry.end_write();
        assert!(entry.has_write_in_flight() && entry.has(SUSPECT) && !entry.has(STAMP_DIRTY));
        let mut bytes = [0; ENTRY_BYTES];
        entry.encode(&mut bytes);
        let back = Entry::decode(&bytes).unwrap();
        assert_eq!(back, entry.durable());
        assert_eq!((back.alloc(), back.written(), back.flags()), (0x1234_5678_9abc, 1 << 63 | 5, LOST));
    }

    #[test]
    fn what_no_pool_wrote_is_refused() {
        let mut bytes = [0; ENTRY_BYTES];
        Entry::ABSENT.encode(&mut bytes);
        assert_eq!(Entry::decode(&bytes), Some(Entry::ABSENT));
        for at in [5, 24] {
            let mut bad = bytes;
            bad[at] = 0x80;
            assert_eq!(Entry::decode(&bad), None);
        }
    }
}
