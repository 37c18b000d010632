//! Recovery with L (P6): after a crash of the process everything it had submitted is still in the page cache.
//!
//! Entries are replayed in order over the committed state. A write claims its slot for its extent; a later claim of the same
//! slot voids earlier ones. What the claims leave is then compared with what the disk holds: a block is believed if it
//! matches any entry for it in its extent's present slot. Entries before `flushed` changed nothing that is not committed
//! but the stamp.

use std::collections::{BTreeMap, BTreeSet};

use dyad_payload::BlockSum;
use dyad_units::{BLOCK_BYTES, Extent, Piece, WriteNumber};

use crate::disk::BlockingDisk;
use crate::engine::Pool;
use crate::entry::{LOST, SUSPECT, Slot};
use crate::error::OpenError;
use crate::format::recent::{RecentEntry, RecentHead, RecentKind};
use crate::format::table;
use crate::open::OpenReport;

const BLOCK: usize = BLOCK_BYTES as usize;

/// An extent of an open image.
type Place = (usize, Extent);

#[derive(Default)]
struct Replay {
    /// For each block that L has data for: every sum that it may rightly have in its extent's present slot.
    candidates: BTreeMap<Place, BTreeMap<u8, Vec<BlockSum>>>,
    /// Who claims a slot that L names.
    claims: BTreeMap<Slot, Place>,
}

impl Pool {
    pub(super) fn replay(
        &mut self,
        disk: &mut dyn BlockingDisk,
        entries: &[RecentEntry],
        report: &mut OpenReport,
    ) -> Result<(), OpenError> {
        let mut replay = Replay::default();
        for entry in entries {
            let Some(at) = self.image_numbered(entry.head.image) else { continue };
            let extent = entry.head.piece.extent;
            report.entries_replayed += 1;
            if !entry.flushed {
                match entry.head.kind {
                    RecentKind::Write | RecentKind::Mend => {
                        self.replay_write(&mut replay, at, &entry.head, &entry.sums)
                    }
                    RecentKind::Unmap | RecentKind::MendUnmap => self.replay_unmap(&mut replay, at, entry.head.piece),
                    RecentKind::Poison | RecentKind::Pad => continue,
                }
                if report.was_poisoned {
                    self.change_entry(at, extent, |entry| entry.set(LOST));
                }
            }
            self.raise_stamp(at, extent, entry.head.stamp);
        }
        for (place, blocks) in std::mem::take(&mut replay.candidates) {
            report.blocks_torn += self.verify_replayed(disk, place, &blocks, report.was_poisoned)?;
        }
        self.note_unsettled(entries);
        Ok(())
    }

    fn replay_write(&mut self, replay: &mut Replay, at: usize, head: &RecentHead, sums: &[BlockSum]) {
        let extent = head.piece.extent;
        let Some(slot) = head.slot else { return };
        let entry = self.live_entry(at, extent);
        if (entry.slot(), entry.alloc()) != (Some(slot), head.alloc) {
            let before = replay.claims.get(&slot).copied().or_else(|| self.holder_of(slot));
            if let Some(other) = before.filter(|&other| other != (at, extent)) {
                self.unplace_replayed(replay, other);
            }
            self.claim_slot(at, extent, slot, head.alloc);
            replay.candidates.remove(&(at, extent));
        }
        replay.claims.insert(slot, (at, extent));
        let blocks = replay.candidates.entry((at, extent)).or_default();
        for (nth, &sum) in sums.iter().enumerate() {
            blocks.entry(head.piece.first() + nth as u8).or_default().push(sum);
        }
    }

    fn replay_unmap(&mut self, replay: &mut Replay, at: usize, piece: Piece) {
        let extent = piece.extent;
        let entry = self.live_entry(at, extent);
        let blocks = replay.candidates.entry((at, extent)).or_default();
        blocks.retain(|&block, _| piece.mask() >> block & 1 == 0);
        let left = entry.written() & !piece.mask();
        let is_empty = left == 0 && blocks.is_empty();
        let forgets_loss = entry.has(LOST) && piece.is_whole_extent();
        self.change_entry(at, extent, |entry| {
            entry.set_written(left);
            if forgets_loss {
                entry.clear(LOST);
            }
        });
        if is_empty && (!entry.has(LOST) || forgets_loss) && entry.slot().is_some() {
            self.unplace_replayed(replay, (at, extent));
        }
    }

    fn unplace_replayed(&mut self, replay: &mut Replay, (at, extent): Place) {
        replay.candidates.remove(&(at, extent));
        self.release_slot(at, extent);
    }

    /// Compares the blocks that L names with what the disk itself holds (P11); how many match nothing.
    fn verify_replayed(
        &mut self,
        disk: &mut dyn BlockingDisk,
        (at, extent): Place,
        blocks: &BTreeMap<u8, Vec<BlockSum>>,
        was_poisoned: bool,
    ) -> Result<u64, OpenError> {
        let entry = self.live_entry(at, extent);
        let Some(slot) = entry.slot() else { return Ok(0) };
        let (Some((&first, _)), Some((&last, _))) = (blocks.first_key_value(), blocks.last_key_value()) else {
            return Ok(0);
        };
        let mut data = vec![0; usize::from(last - first + 1) * BLOCK];
        let offset = self.slot_offset(slot) + u64::from(first) * BLOCK as u64;
        disk.read_direct_at(&mut data, offset).map_err(OpenError::Disk)?;
        let (mut torn, mut believed) = (0, 0_u64);
        let layer = self.layer_id(at);
        for (&block, candidates) in blocks {
            let found = BlockSum::of(&data[usize::from(block - first) * BLOCK..][..BLOCK]);
            if candidates.contains(&found) {
                believed |= 1 << block;
                self.put_sum(at, extent, slot, block, table::mix(found, layer, extent, block, entry.alloc()));
            } else if entry.written() >> block & 1 == 0
                || !self.matches_table(disk, slot, block, found, (at, extent))?
            {
                torn += 1;
            }
        }
        // An extent that was written anew as a whole is no longer lost (P12).
        let heals = believed == u64::MAX && entry.has(LOST) && !was_poisoned;
        if entry.written() | believed != entry.written() || heals {
            self.change_entry(at, extent, |entry| {
                entry.set_written(entry.written() | believed);
                if heals {
                    entry.clear(LOST);
                }
            });
        }
        Ok(torn)
    }

    /// Pieces that other images may lack: numbers above the highest settled, of the newest epoch (M3).
    fn note_unsettled(&mut self, entries: &[RecentEntry]) {
        let hosts = |entry: &&RecentEntry| matches!(entry.head.kind, RecentKind::Write | RecentKind::Unmap);
        let images: BTreeSet<_> = entries.iter().filter(hosts).map(|entry| entry.head.image).collect();
        for image in images {
            let Some(at) = self.image_numbered(image) else { continue };
            let of_image: Vec<_> = entries.iter().filter(hosts).filter(|entry| entry.head.image == image).collect();
            let epoch = of_image.iter().map(|entry| entry.head.stamp.epoch).max().unwrap_or_default();
            let newest = of_image.iter().filter(|entry| entry.head.stamp.epoch == epoch);
            let settled = newest.clone().map(|entry| entry.head.settled).max().unwrap_or(WriteNumber::default());
            let pieces = newest.filter(|entry| entry.head.number > settled).map(|entry| entry.head.piece).collect();
            self.set_unsettled(at, pieces);
        }
    }

    /// Recovery without L (P8): whatever lies in a marked region may be old, new or torn.
    pub(super) fn suspect_marked(&mut self) -> u64 {
        let mut suspects = 0;
        for at in self.open_images() {
            for extent in self.marked_extents(at) {
                if !self.live_entry(at, extent).is_absent() {
                    self.flag_in_memory(at, extent, SUSPECT);
                    suspects += 1;
                }
            }
        }
        suspects
    }
}
