//! What a host wishes for, and how it says so.

use dyad_contract::volume::VolumeOp;
use dyad_units::Span;
use smallvec::smallvec;

use super::{Host, Op, Stage, TURN, Wish, block_of, data_of};
use crate::cluster::book::{Book, STATE, STATE_BLOCKS_MAX};
use crate::cluster::queue::Time;
use crate::pattern::{BLOCK, SECTOR, Value};

/// Sectors of a block.
pub(super) const SECTORS: u64 = (BLOCK / SECTOR) as u64;
/// Extents that hosts like: some in each of three regions.
const LIKED: [u64; 9] = [0, 1, 2, 16, 17, 18, 32, 33, 47];
/// Extents of the first region that some write to as well: enough that catching up takes a while, and few enough for a
/// pool.
const ROAMED: u64 = 16;
const BLOCKS_PER_EXTENT: u64 = 64;

impl Host {
    /// Thinks of something; nothing if what came to mind cannot be asked now.
    pub(in crate::cluster) fn wish(&mut self, now: Time, book: &mut Book) -> Option<Wish> {
        if self.rng.chance(self.habits.state, 1000) {
            return Some(self.wish_state(book));
        }
        let weights = self.habits.weights;
        let mut draw = self.rng.below(weights.iter().sum());
        let kind = weights.iter().position(|&weight| {
            let hit = draw < weight;
            draw = draw.wrapping_sub(weight);
            hit
        })?;
        let (first, count) = match self.habits.moves {
            true => self.draw_moved(kind, now < TURN, book.blocks()),
            false => self.draw_blocks(book.blocks()),
        };
        let durable = self.rng.chance(self.habits.durable, 100);
        let volume = self.volume;
        match kind {
            0 if self.rng.chance(self.habits.atomic, 100) => {
                let is_calm = count > 1 && count < BLOCKS_PER_EXTENT && book.is_calm(volume, first, count);
                is_calm.then(|| {
                    let values = vec![Value::of(book.version()); count as usize];
                    book.begin_atomic(volume, first, &values);
                    Wish::Write { first, values, sectors: None, durable: true, is_atomic: true }
                })
            }
            0 if book.may_write(volume, first, count) => {
                let values = vec![Value::of(book.version()); count as usize];
                book.begin(volume, first, &values, false);
                Some(Wish::Write { first, values, sectors: None, durable, is_atomic: false })
            }
            1 => self.wish_sectors(book, first, durable),
            2 if book.may_clear(volume, first, count) => {
                book.begin(volume, first, &vec![Value::ZERO; count as usize], false);
                Some(Wish::Clear { first, count, is_fill: self.rng.chance(1, 3), durable })
            }
            3 => {
                let (first, count) = match book.a_whole(volume, &mut self.rng) {
                    Some(whole) if self.habits.atomic > 0 => whole,
                    _ => (first, count),
                };
                book.begin_read(volume, first, count);
                Some(Wish::Read { first, count })
            }
            4 => Some(Wish::Flush),
            5 => {
                let expected = book.certain(volume, first, 1)?[0];
                let value = Value::of(book.version());
                book.begin(volume, first, &[value], true);
                Some(Wish::CompareAndWrite { block: first, expected, value })
            }
            6 if self.habits.recalls => {
                let (block, expected) = *self.memory.get(self.rng.index(self.memory.len().max(1)))?;
                book.begin_read(volume, block, 1);
                Some(Wish::Guess { block, expected })
            }
            6 if self.rng.chance(1, 2) => {
                let expected = book.certain(volume, first, 1)?[0];
                book.take(volume, first, 1);
                Some(Wish::Compare { block: first, expected })
            }
            6 => Some(Wish::Verify { first, count }),
            _ => None,
        }
    }

    fn wish_state(&mut self, book: &mut Book) -> Wish {
        if self.rng.chance(1, 2) {
            return Wish::ReadState;
        }
        let value = Value::of(book.version());
        book.begin_state(self.volume, value);
        // Of any size, so that a tear anywhere in it shows.
        Wish::WriteState { value, count: 1 + self.rng.index(STATE_BLOCKS_MAX) }
    }

    /// Some sectors of one or two blocks whose content is known (P7: the owner merges).
    fn wish_sectors(&mut self, book: &mut Book, first: u64, durable: bool) -> Option<Wish> {
        let sector = self.rng.below(SECTORS);
        let sectors = 1 + self.rng.below(2 * SECTORS - sector - 1);
        let count = (sector + sectors).div_ceil(SECTORS);
        if first + count > book.blocks() {
            return None;
        }
        let mut values = book.certain(self.volume, first, count)?;
        let version = book.version();
        put_version(&mut values, sector, sectors, version);
        book.begin(self.volume, first, &values, true);
        Some(Wish::Write { first, values, sectors: Some((sector, sectors)), durable, is_atomic: false })
    }

    fn draw_blocks(&mut self, blocks: u64) -> (u64, u64) {
        let extents = LIKED.iter().filter(|extent| (**extent + 1) * BLOCKS_PER_EXTENT <= blocks).count();
        let is_away = self.habits.roams && self.rng.chance(1, 3);
        let extent = if is_away { self.rng.below(ROAMED) } else { LIKED[self.rng.index(extents)] };
        let count = if self.habits.runs {
            2 + self.rng.below(3)
        } else if self.rng.chance(self.habits.long, 100) {
            60 + self.rng.below(70)
        } else if self.rng.chance(1, 4) {
            1 + self.rng.below(6)
        } else {
            1
        };
        if count > 1 && self.habits.straddles > 0 && self.rng.chance(self.habits.straddles, 100) {
            let first = (extent + 1) * BLOCKS_PER_EXTENT - 1 - self.rng.below(count - 1);
            return (first.min(blocks - count), count);
        }
        let within = self.rng.below(self.habits.spread);
        // Some of what it likes lies at the end of an extent, so that pieces fall into two.
        let within = if self.rng.chance(1, 4) { BLOCKS_PER_EXTENT - 1 - within } else { within };
        ((extent * BLOCKS_PER_EXTENT + within).min(blocks - count), count)
    }

    /// What whoever moves writes or clears: of the first region, or of the others.
    fn draw_moved(&mut self, kind: usize, fills_last: bool, blocks: u64) -> (u64, u64) {
        let last = ROAMED + self.rng.below(blocks / BLOCKS_PER_EXTENT - ROAMED);
        match (kind, fills_last) {
            (2, false) => (last * BLOCKS_PER_EXTENT, BLOCKS_PER_EXTENT),
            (0, true) => (last * BLOCKS_PER_EXTENT, BLOCKS_PER_EXTENT), // only what was written is cleared
            _ => (self.rng.below(ROAMED * BLOCKS_PER_EXTENT), 1),
        }
    }

    /// Begins an operation.
    pub(in crate::cluster) fn begin(&mut self, wish: Wish, now: Time, book: &mut Book, is_inspection: bool) {
        self.next_op += 1;
        let begun = book.order();
        let is_impatient = !is_inspection && self.rng.chance(self.habits.abort, 1000);
        let patience = is_impatient.then(|| now + self.rng.below(3_000_000));
        let hurry = self.habits.hurry.filter(|_| !is_inspection).map(|hurry| now + self.rng.below(hurry));
        let patience = patience.or(hurry);
        let stage = Stage::Waits(now);
        let id = self.next_op;
        self.ops.push(Op {
            id,
            wish,
            stage,
            attempt: 0,
            begun,
            asked: begun,
            patience,
            is_inspection,
            is_orphaned: false,
        });
    }

    /// The command for a wish.
    pub(in crate::cluster) fn command(&self, wish: &Wish, slab: &dyad_payload::Slab) -> Option<VolumeOp> {
        let volume = self.volume;
        Some(match wish {
            Wish::Write { first, values, sectors, durable, is_atomic } => {
                let data = data_of(slab, volume, *first, values)?;
                let whole = (0, values.len() as u64 * SECTORS);
                let (from, count) = sectors.unwrap_or(whole);
                let data = data.slice(from as usize * SECTOR, count as usize * SECTOR);
                let offset = first * BLOCK as u64 + from * SECTOR as u64;
                let span = Span::new(offset, count * SECTOR as u64).ok()?;
                match is_atomic {
                    true => VolumeOp::WriteAtomic { span, data },
                    false => VolumeOp::Write { span, data, durable: *durable },
                }
            }
            Wish::Clear { first, count, is_fill: true, durable } => {
                let pattern = block_of(slab, volume, *first, Value::ZERO)?.slice(0, SECTOR).into();
                VolumeOp::Fill { span: span(*first, *count)?, pattern, durable: *durable }
            }
            Wish::Clear { first, count, is_fill: false, durable } => {
                // As hosts send them: several ranges in one command.
                let mut spans = smallvec![span(*first, (*count).div_ceil(2))?];
                spans.extend(span(first + count.div_ceil(2), count / 2).filter(|_| *count > 1));
                VolumeOp::Unmap { spans, durable: *durable }
            }
            Wish::CompareAndWrite { block, expected, value } => VolumeOp::CompareAndWrite {
                span: span(*block, 1)?,
                expected: data_of(slab, volume, *block, &[*expected])?,
                data: data_of(slab, volume, *block, &[*value])?,
                durable: false,
            },
            Wish::Compare { block, expected } | Wish::Guess { block, expected } => {
                VolumeOp::Compare { span: span(*block, 1)?, expected: data_of(slab, volume, *block, &[*expected])? }
            }
            Wish::Verify { first, count } => VolumeOp::Verify { span: span(*first, *count)? },
            Wish::Read { first, count } => VolumeOp::Read { span: span(*first, *count)? },
            Wish::Flush => VolumeOp::Flush,
            Wish::ReadState => VolumeOp::ReadState,
            Wish::WriteState { value, count } => {
                VolumeOp::WriteState { data: data_of(slab, volume, STATE, &vec![*value; *count])? }
            }
        })
    }
}

/// So many sectors, counted from the first value's first, come from write `version`.
pub(super) fn put_version(values: &mut [Value], sector: u64, sectors: u64, version: u32) {
    for at in sector..sector + sectors {
        let value = &mut values[(at / SECTORS) as usize];
        *value = value.with_sectors((at % SECTORS) as usize, 1, version);
    }
}

fn span(first: u64, count: u64) -> Option<Span> {
    Span::new(first * BLOCK as u64, count * BLOCK as u64).ok()
}
