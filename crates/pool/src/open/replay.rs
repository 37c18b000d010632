//! Recovery with L (P6): after a crash of the process everything it had submitted is still in the page cache.
//!
//! Entries are replayed in order over the committed state. A write claims its slot for its extent; a later claim of the same
//! slot voids earlier ones. What the claims leave is then compared with what the disk holds: a block is believed if it
//! matches any entry for it in its extent's present slot. Entries before `flushed` changed nothing that is not committed
//! but the stamp, and what other images might lack.

use std::collections::BTreeMap;

use dyad_payload::BlockSum;
use dyad_units::{BLOCK_BYTES, Extent, Piece, WriteNumber};

use crate::disk::BlockingDisk;
use crate::engine::Pool;
use crate::entry::{LOST, Slot};
use crate::error::OpenError;
use crate::format::recent::{ReadBack, RecentEntry, RecentKind};
use crate::format::state::ImageNo;
use crate::format::table;
use crate::open::OpenReport;

const BLOCK: usize = BLOCK_BYTES as usize;

/// An extent of an open image.
type Place = (usize, Extent);

/// What L says of an extent in its present slot.
#[derive(Default)]
struct Named {
    /// For each block that L has data for: every sum that it may rightly have, oldest first.
    blocks: BTreeMap<u8, Vec<NamedSum>>,
    /// The extent was lost and written anew as a whole: from which sum of each block on it is that write's or later. It is
    /// lost no more if nothing older is found (P12).
    healed_from: Option<[u32; BLOCKS]>,
}

const BLOCKS: usize = dyad_units::BLOCKS_PER_EXTENT as usize;

/// What a write in L left of a block, if it got so far.
#[derive(Clone, Copy)]
struct NamedSum {
    sum: BlockSum,
    /// It did.
    done: bool,
}

/// How far the disk is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Belief {
    /// It failed nothing.
    Whole,
    /// It had failed something under the process before, but a sync succeeded since: what L names last for a block and
    /// what the disk itself holds must agree, or the extent is lost (P11, P12).
    OnSight,
    /// The first sync failed: whatever L names is lost.
    None,
}

struct Replay {
    named: BTreeMap<Place, Named>,
    /// Who lay last in a slot that L names; stale where that extent's entry says otherwise.
    holders: BTreeMap<Slot, Place>,
    belief: Belief,
}

impl Pool {
    pub(super) fn replay(
        &mut self,
        disk: &mut dyn BlockingDisk,
        found: &ReadBack,
        belief: Belief,
        report: &mut OpenReport,
    ) -> Result<(), OpenError> {
        let mut slots: Vec<Slot> = found.entries.iter().filter_map(|entry| entry.head.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        let mut replay = Replay { named: BTreeMap::new(), holders: self.holders_of(&slots), belief };
        for entry in &found.entries {
            let Some(at) = self.image_numbered(entry.head.image) else { continue };
            if self.has_extent(at, entry.head.piece.extent) {
                report.entries_replayed += 1;
                self.replay_entry(&mut replay, at, entry)?;
            }
        }
        for (place, named) in std::mem::take(&mut replay.named) {
            report.blocks_torn += self.verify_replayed(disk, place, &named, belief);
        }
        self.replay_unsettled(&found.entries);
        Ok(())
    }

    fn replay_entry(&mut self, replay: &mut Replay, at: usize, entry: &RecentEntry) -> Result<(), OpenError> {
        let extent = entry.head.piece.extent;
        if !entry.flushed {
            match entry.head.kind {
                RecentKind::Write | RecentKind::Mend => self.replay_write(replay, at, entry)?,
                RecentKind::Unmap | RecentKind::MendUnmap => self.replay_unmap(replay, at, entry.head.piece),
                RecentKind::Range | RecentKind::Pad => {}
            }
            // A range is what an earlier cut carried: its data was durable by then, whatever it is not on other images.
            let has_data = !matches!(entry.head.kind, RecentKind::Range | RecentKind::Pad);
            if replay.belief == Belief::None && has_data && !self.live_entry(at, extent).is_absent() {
                self.change_entry(at, extent, |entry| entry.set(LOST));
            }
        }
        if !self.live_entry(at, extent).is_absent() {
            self.raise_stamp(at, extent, entry.head.stamp);
        }
        Ok(())
    }

    fn replay_write(&mut self, replay: &mut Replay, at: usize, written: &RecentEntry) -> Result<(), OpenError> {
        let RecentEntry { head, sums, done, .. } = written;
        let place = (at, head.piece.extent);
        let Some(slot) = head.slot.filter(|slot| self.has_slot(*slot)) else {
            return Err(OpenError::Inconsistent { what: "the recent log names a slot beyond the disk" });
        };
        let entry = self.live_entry(at, place.1);
        if (entry.slot(), entry.alloc()) != (Some(slot), head.alloc) {
            // Whoever lay there before has moved on since, or gave it up.
            let before = replay.holders.get(&slot).copied();
            let before = before.filter(|&(at, extent)| self.live_entry(at, extent).slot() == Some(slot));
            if let Some(other) = before.filter(|&other| other != place) {
                self.unplace_replayed(replay, other);
            }
            if !self.claim_slot(at, place.1, slot, head.alloc) {
                return Err(OpenError::Inconsistent {
                    what: "an extent of the recent log has neither slot nor map page",
                });
            }
            replay.named.remove(&place);
        }
        replay.holders.insert(slot, place);
        let is_healing = head.piece.is_whole_extent() && self.live_entry(at, place.1).has(LOST);
        let named = replay.named.entry(place).or_default();
        if is_healing {
            let older = |block: usize| named.blocks.get(&(block as u8)).map_or(0, |sums| sums.len() as u32);
            named.healed_from = Some(std::array::from_fn(older));
        }
        for (block, &sum) in (head.piece.first()..).zip(sums) {
            named.blocks.entry(block).or_default().push(NamedSum { sum, done: *done });
        }
        Ok(())
    }

    fn replay_unmap(&mut self, replay: &mut Replay, at: usize, piece: Piece) {
        let extent = piece.extent;
        let entry = self.live_entry(at, extent);
        if entry.is_absent() {
            return;
        }
        let Named { blocks, healed_from } = replay.named.entry((at, extent)).or_default();
        blocks.retain(|&block, _| piece.mask() >> block & 1 == 0);
        if let Some(from) = healed_from {
            from.iter_mut().skip(piece.first().into()).take(piece.count().into()).for_each(|first| *first = 0);
        }
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
        replay.named.remove(&(at, extent));
        self.release_slot(at, extent);
    }

    /// Compares the blocks that L names with what the disk itself holds (P11); how many match nothing. An extent that the
    /// disk cannot read is lost; the others are not refused for that.
    fn verify_replayed(
        &mut self,
        disk: &mut dyn BlockingDisk,
        (at, extent): Place,
        named: &Named,
        belief: Belief,
    ) -> u64 {
        let entry = self.live_entry(at, extent);
        let Some(slot) = entry.slot() else { return 0 };
        let ends = named.blocks.first_key_value().zip(named.blocks.last_key_value());
        let (first, last) = ends.map_or((0, 0), |((&first, _), (&last, _))| (first, last));
        let mut data = vec![0; usize::from(last - first + 1) * BLOCK];
        let offset = self.slot_offset(slot) + u64::from(first) * BLOCK as u64;
        if !named.blocks.is_empty() && disk.read_direct_at(&mut data, offset).is_err() {
            self.change_entry(at, extent, |entry| entry.set(LOST));
            return 0;
        }
        let (mut torn, mut believed, mut is_lost) = (0, 0_u64, belief == Belief::None);
        let mut heals = entry.has(LOST) && named.healed_from.is_some();
        let layer = self.layer_id(at);
        for (&block, sums) in &named.blocks {
            let found = BlockSum::of(&data[usize::from(block - first) * BLOCK..][..BLOCK]);
            // What a resync left bad on purpose is there as it was sent, and stays bad (M15).
            let is_shown = |named: &&NamedSum| named.sum == found || named.sum == found.of_bad();
            // What lies there is that of the newest write that was done, or of one that was under way since.
            let done = sums.iter().rposition(|named| named.done);
            let shown = sums[done.unwrap_or(0)..].iter().rev().find(is_shown).map(|named| named.sum);
            is_lost |= belief != Belief::Whole && sums.last().map(|named| named.sum) != shown;
            let newer = named.healed_from.map_or(0, |from| from[usize::from(block)] as usize);
            heals &= sums[newer.min(sums.len())..].iter().any(|named| is_shown(&named));
            if shown.is_none() {
                let is_written = entry.written() >> block & 1 == 1;
                let may_be_old = done.is_none() && is_written;
                let is_old = may_be_old && self.matches_table(disk, (slot, block), found, (at, extent));
                torn += u64::from(!is_old);
            }
            // Else it is damaged, and stays so (P7, P14), whatever a crash after this one makes suspect. Taken for a write that
            // never came, it would read as zeros here, as what was acknowledged elsewhere, and nobody would compare.
            if let Some(sum) = shown.or(done.map(|_| BlockSum::bad())) {
                believed |= 1 << block;
                self.put_sum(at, extent, slot, block, table::mix(sum, layer, extent, block, entry.alloc()));
            }
        }
        if entry.written() | believed != entry.written() || heals || is_lost {
            self.change_entry(at, extent, |entry| {
                entry.set_written(entry.written() | believed);
                if heals {
                    entry.clear(LOST);
                }
                if is_lost {
                    entry.set(LOST);
                }
            });
        }
        torn
    }

    /// Pieces that other images may lack: numbers above the highest settled (M3). Numbers rise over epochs too. Blocks of them
    /// that are not written here are in doubt, also those of writes that an opening before this one looked for (P6).
    fn replay_unsettled(&mut self, entries: &[RecentEntry]) {
        let mut settled: BTreeMap<ImageNo, WriteNumber> = BTreeMap::new();
        for entry in entries {
            let highest = settled.entry(entry.head.image).or_default();
            *highest = entry.head.settled.max(*highest);
        }
        for (image, settled) in settled {
            let Some(at) = self.image_numbered(image) else { continue };
            let of_image = entries.iter().filter(|entry| entry.head.image == image);
            let writes = of_image.map(|entry| {
                let head = &entry.head;
                (entry.position, head.number, head.stamp, head.piece)
            });
            self.note_unsettled(at, settled, writes);
            for head in entries.iter().map(|entry| &entry.head).filter(|head| head.image == image) {
                match head.kind {
                    RecentKind::Write | RecentKind::Mend if head.number > settled => self.doubt(at, head.piece),
                    RecentKind::Unmap | RecentKind::MendUnmap => self.doubt_no_more(at, head.piece),
                    _ => {}
                }
            }
        }
    }
}
