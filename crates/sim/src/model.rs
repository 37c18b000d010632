//! What one image may hold: the reference that every recovery is compared with (A1, A2, A5).
//!
//! Per block a list of values in the owner's order. The first is what a power cut leaves at worst; each later
//! one is a write or unmap that no flush has covered:
//!
//! ```text
//!   base ── flushed                    after a power cut: any of them (A5)
//!   w7   ── answered                   after a crash of the process: the last answered one, or a later
//!   w9   ── answered   <- last         one that was still in flight (A1, P6)
//!   w12  ── in flight                  once read: that one, until somebody writes again
//! ```

use std::collections::BTreeMap;
use std::fmt;

use dyad_units::{BLOCKS_PER_EXTENT, Extent, Piece, Stamp};

use crate::pattern::{BLOCK, Value, identify};

/// A moment in the order of what the host sees.
pub type Instant = u64;

/// Something that the rules exclude, in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a crash takes away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// The process: memory, page cache and L stay.
    Process,
    /// The machine: only what was synced stays for certain.
    Power,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: Value,
    stamp: Stamp,
    /// `None` while in flight, or failed with unknown effect.
    answered: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Cell {
    entries: Vec<Entry>,
    /// The power failed when there were so many entries, and nobody has looked since.
    open: Option<usize>,
    /// So many entries are from before a power cut, and nobody has looked since: any of them may be what is there,
    /// until something newer is flushed. A write on top hides them, it does not choose among them.
    undecided: usize,
    /// A power cut decided on the only content, and no flush has covered what was made of it since: its checksum
    /// may have to be adopted again.
    is_unvouched: bool,
    /// Something other than zeros was here once and was flushed: an unmap leaves a tombstone (P9).
    had_data: bool,
}

impl Cell {
    fn new() -> Self {
        Self {
            entries: vec![Entry { value: Value::ZERO, stamp: Stamp::NEVER, answered: Some(0) }],
            open: None,
            undecided: 0,
            is_unvouched: false,
            had_data: false,
        }
    }

    /// Index of the first entry that a read may show now.
    fn live_from(&self) -> usize {
        match self.open {
            Some(_) => 0,
            None => self.entries.iter().rposition(|entry| entry.answered.is_some()).unwrap_or(0),
        }
    }

    /// Entry `found` was seen: it stays until somebody writes again.
    fn collapse(&mut self, found: usize, now: Instant) {
        self.entries[found].answered.get_or_insert(now);
        match self.open.take() {
            // What a power cut left is durable, so nothing older may come back either.
            Some(at_cut) if found < at_cut => {
                let newer = self.entries.split_off(at_cut);
                self.had_data |= self.entries[found].value != Value::ZERO;
                self.is_unvouched = true;
                self.entries = vec![self.entries[found]];
                self.entries.extend(newer);
                self.undecided = 0;
            }
            _ => self.entries.truncate(found + 1),
        }
    }

    fn is_certain(&self) -> bool {
        self.entries.iter().all(|entry| entry.value == self.entries[0].value) && !self.is_unvouched
    }
}

/// The allowed contents of one image.
#[derive(Clone, Debug)]
pub struct Model {
    image: u64,
    /// Bytes that the disk writes untorn (A5).
    unit: usize,
    now: Instant,
    cells: BTreeMap<u64, Cell>,
    /// Extents that a failed disk may report as lost (P12).
    lost: BTreeMap<Extent, ()>,
    torn: u64,
}

impl Model {
    /// A new image: all zeros, never written. `image` goes into the patterns; `unit` is the physical block.
    pub fn new(image: u64, unit: usize) -> Self {
        Self { image, unit, now: 1, cells: BTreeMap::new(), lost: BTreeMap::new(), torn: 0 }
    }

    /// The image's number in the patterns.
    pub fn image(&self) -> u64 {
        self.image
    }

    /// Torn blocks that were seen after power cuts.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn tick(&mut self) -> Instant {
        self.now += 1;
        self.now
    }

    /// A write or an unmap goes out.
    pub fn begin(&mut self, piece: Piece, value: Value, stamp: Stamp) {
        blocks(piece).for_each(|block| self.begin_block(block, value, stamp));
    }

    /// One block of it, where each has a value of its own.
    pub fn begin_block(&mut self, block: u64, value: Value, stamp: Stamp) {
        let cell = self.cells.entry(block).or_insert_with(Cell::new);
        cell.entries.push(Entry { value, stamp, answered: None });
    }

    /// It was answered as done.
    pub fn answer(&mut self, piece: Piece) {
        blocks(piece).for_each(|block| self.answer_block(block));
    }

    /// One block of it.
    pub fn answer_block(&mut self, block: u64) {
        let now = self.tick();
        let cell = self.cells.get_mut(&block).expect("it was begun");
        cell.entries.last_mut().expect("never empty").answered = Some(now);
        cell.open = None;
    }

    /// It was refused without any effect.
    pub fn refuse(&mut self, piece: Piece) {
        blocks(piece).for_each(|block| self.refuse_block(block));
    }

    /// One block of it.
    pub fn refuse_block(&mut self, block: u64) {
        self.cells.get_mut(&block).expect("it was begun").entries.pop();
    }

    /// The last write to the block was answered as durable (A2).
    pub fn harden_block(&mut self, block: u64) {
        let cell = self.cells.get_mut(&block).expect("it was begun");
        let last = cell.entries.len() - 1;
        cell.had_data |= cell.entries[last].value != Value::ZERO;
        cell.entries.drain(..last);
        (cell.open, cell.undecided, cell.is_unvouched) = (None, 0, false);
    }

    /// The only content that a read may show now, if there is only one.
    pub fn certain_value(&self, block: u64) -> Option<Value> {
        match self.candidates(block).as_slice() {
            [value] => Some(*value),
            _ => None,
        }
    }

    /// A flush goes out; to be handed to [`Self::flushed`] when it is answered.
    pub fn flush(&mut self) -> Instant {
        self.tick()
    }

    /// The flush of that moment was answered: nothing older than what was answered before it may come back.
    pub fn flushed(&mut self, begun: Instant) {
        for cell in self.cells.values_mut() {
            let from = cell.undecided;
            let covered = |entry: &Entry| entry.answered.is_some_and(|answered| answered < begun);
            if let Some(base) = cell.entries[from..].iter().rposition(covered) {
                cell.is_unvouched = false;
                cell.had_data |= cell.entries[from..=from + base].iter().any(|entry| entry.value != Value::ZERO);
                cell.entries.drain(..from + base);
                (cell.open, cell.undecided) = (None, 0);
            }
        }
    }

    /// The disk failed a write or a sync: what no flush covered may be gone, and must then be told (P11, P12).
    pub fn poison(&mut self) {
        for (block, cell) in &self.cells {
            if !cell.is_certain() {
                self.lost.insert(extent_of(*block), ());
            }
        }
    }

    /// Whether an error is a right answer for this extent (P12).
    pub fn may_be_lost(&self, extent: Extent) -> bool {
        self.lost.contains_key(&extent)
    }

    /// Everything stopped; what was in flight will not be answered any more.
    pub fn crash(&mut self, crash: Crash) {
        if crash == Crash::Power {
            for cell in self.cells.values_mut().filter(|cell| !cell.is_certain()) {
                (cell.open, cell.undecided) = (Some(cell.entries.len()), cell.entries.len());
            }
        }
    }

    /// After a power cut, in a region that is not marked: no write since the last flush can have reached the
    /// extent, or its images would differ without anybody knowing (P5).
    pub fn expect_unchanged(&mut self, extent: Extent) {
        let first = u64::from(extent.0) * u64::from(BLOCKS_PER_EXTENT);
        for (_, cell) in self.cells.range_mut(first..first + u64::from(BLOCKS_PER_EXTENT)) {
            if cell.open.take().is_some() {
                cell.entries.truncate(1);
                cell.undecided = 0;
            }
        }
    }

    /// A read was answered with `bytes`: they must be allowed, and what is seen stays (A5).
    pub fn observe(&mut self, piece: Piece, bytes: &[u8]) -> Result<(), Violation> {
        assert_eq!(bytes.len(), piece.len(), "a read returns what was asked for");
        for (block, bytes) in blocks(piece).zip(bytes.chunks_exact(BLOCK)) {
            self.observe_block(block, bytes)?;
        }
        Ok(())
    }

    /// One block of it.
    pub fn observe_block(&mut self, block: u64, bytes: &[u8]) -> Result<(), Violation> {
        let now = self.tick();
        let place = format!("block {block} (extent {}) of image {}", extent_of(block).0, self.image);
        let value = identify(bytes, self.image, block)
            .map_err(|wrong| Violation(format!("{place} holds {wrong}; allowed: {}", self.allowed(block))))?;
        let Some(cell) = self.cells.get_mut(&block) else {
            if value == Value::ZERO {
                return Ok(());
            }
            return Err(Violation(format!("{place} holds {value}, but was never written")));
        };
        let from = cell.live_from();
        let live = cell.entries[from..].iter().map(|entry| entry.value);
        if let Some(found) = live.clone().position(|allowed| allowed == value) {
            cell.collapse(from + found, now);
            return Ok(());
        }
        if self.unit < BLOCK && cell.open.is_some() && value.is_torn() && value.is_made_of(live) {
            // Cut off in the middle, on a disk whose physical block is smaller than ours (A5).
            cell.entries.truncate(1);
            cell.entries[0] = Entry { value, stamp: Stamp::NEVER, answered: Some(now) };
            (cell.open, cell.undecided) = (None, 0);
            cell.is_unvouched = true;
            self.torn += 1;
            return Ok(());
        }
        Err(Violation(format!("{place} holds {value}; allowed: {}", self.allowed(block))))
    }

    /// The contents that the block may show now.
    pub fn candidates(&self, block: u64) -> Vec<Value> {
        let Some(cell) = self.cells.get(&block) else { return vec![Value::ZERO] };
        cell.entries[cell.live_from()..].iter().map(|entry| entry.value).collect()
    }

    /// Whether the power failed on the block and nobody has looked since: then it may be torn, if the disk tears.
    pub fn may_be_torn(&self, block: u64) -> bool {
        self.unit < BLOCK && self.cells.get(&block).is_some_and(|cell| cell.open.is_some())
    }

    /// What the block may show now, in words.
    pub fn allowed(&self, block: u64) -> String {
        let Some(cell) = self.cells.get(&block) else { return "zeros (never written)".into() };
        let from = cell.live_from();
        let listed = cell.entries.iter().enumerate().map(|(at, entry)| {
            let state = if entry.answered.is_some() { "answered" } else { "in flight" };
            let note = if at < from { " (too old)" } else { "" };
            format!("{} {state} at {}{note}", entry.value, entry.stamp)
        });
        listed.collect::<Vec<_>>().join(", ")
    }

    /// Whether only one content is possible: then its checksum must be known as well (P8).
    pub fn is_certain(&self, block: u64) -> bool {
        self.cells.get(&block).is_none_or(Cell::is_certain)
    }

    /// Whether a write of anything but zeros to the extent was ever answered, as far as is remembered.
    pub fn ever_written(&self, extent: Extent) -> bool {
        let is_data = |entry: &Entry| entry.value != Value::ZERO && entry.answered.is_some();
        self.cells_of(extent).any(|(_, cell)| cell.had_data || cell.entries.iter().any(is_data))
    }

    fn cells_of(&self, extent: Extent) -> impl Iterator<Item = (&u64, &Cell)> {
        let first = u64::from(extent.0) * u64::from(BLOCKS_PER_EXTENT);
        self.cells.range(first..first + u64::from(BLOCKS_PER_EXTENT))
    }

    /// The extent's stamp was asked for after everything in it was seen: it must not be below that of any
    /// content that is there, or a resync would miss it (M1, M13). An unmap of what was never there needs no
    /// stamp; one of what was flushed leaves a tombstone until the image closed past it (P9).
    pub fn check_stamp(&self, extent: Extent, stamp: Stamp, closed: Stamp) -> Result<(), Violation> {
        for (block, cell) in self.cells_of(extent) {
            let held = cell.entries[cell.live_from()];
            let needs_none = held.value == Value::ZERO && (!cell.had_data || held.stamp <= closed);
            if stamp < held.stamp && !needs_none {
                let image = self.image;
                let text = format!("extent {} of image {image} has stamp {stamp}", extent.0);
                return Err(Violation(format!("{text}, but its block {block} holds {} of {}", held.value, held.stamp)));
            }
        }
        Ok(())
    }

    /// Extents that something was ever written to or unmapped in, ascending.
    pub fn extents(&self) -> Vec<Extent> {
        let mut extents: Vec<_> = self.cells.keys().map(|&block| extent_of(block)).collect();
        extents.dedup();
        extents
    }
}

fn extent_of(block: u64) -> Extent {
    Extent((block / u64::from(BLOCKS_PER_EXTENT)) as u32)
}

fn blocks(piece: Piece) -> impl Iterator<Item = u64> {
    let first = piece.block().0;
    first..first + u64::from(piece.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::fill;
    use dyad_units::{Epoch, Interval};

    const IMAGE: u64 = 1;

    fn model(unit: usize) -> (Model, Piece, Stamp) {
        let stamp = Stamp::new(Epoch::new(1), Interval::new(1));
        (Model::new(IMAGE, unit), Piece::new(Extent(0), 3, 1).unwrap(), stamp)
    }

    fn holds(model: &Model, piece: Piece, value: Value) -> bool {
        let mut bytes = vec![0; piece.len()];
        fill(&mut bytes, IMAGE, piece.block().0, value);
        model.clone().observe(piece, &bytes).is_ok()
    }

    /// A1: a crash of every process loses nothing that was acknowledged.
    #[test]
    fn after_a_crash_of_the_process_the_last_answered_or_a_later_write_is_there() {
        let (mut model, piece, stamp) = model(512);
        model.begin(piece, Value::of(1), stamp);
        model.answer(piece);
        model.begin(piece, Value::of(2), stamp);
        model.crash(Crash::Process);
        assert!(!holds(&model, piece, Value::ZERO));
        assert!(holds(&model, piece, Value::of(1)) && holds(&model, piece, Value::of(2)));
    }

    /// A2, A5: a power cut takes at most what no flush covered, and what is seen then stays.
    #[test]
    fn after_a_power_cut_anything_since_the_flush_may_be_there_and_then_stays() {
        let (mut model, piece, stamp) = model(4096);
        for version in 1..=3 {
            model.begin(piece, Value::of(version), stamp);
            model.answer(piece);
            if version == 2 {
                let flush = model.flush();
                model.flushed(flush);
            }
        }
        assert!(holds(&model, piece, Value::of(3)) && !holds(&model, piece, Value::of(2)));
        model.crash(Crash::Power);
        assert!(holds(&model, piece, Value::of(2)) && holds(&model, piece, Value::of(3)));
        assert!(!holds(&model, piece, Value::of(1)) && !holds(&model, piece, Value::ZERO));

        let mut bytes = vec![0; piece.len()];
        fill(&mut bytes, IMAGE, piece.block().0, Value::of(2));
        model.observe(piece, &bytes).unwrap();
        model.crash(Crash::Power);
        assert!(!holds(&model, piece, Value::of(3)));
    }

    /// Once a false alarm of the mirrored runs: the power failed on write 1, nobody looked, write 2 was answered, and a
    /// flush that began before write 2 was. That flush covers neither: 1 was gone, as it may be. When the power failed
    /// again, zeros were taken for a loss of flushed data.
    #[test]
    fn a_flush_does_not_vouch_for_what_a_power_cut_may_have_taken() {
        let (mut model, piece, stamp) = model(4096);
        model.begin(piece, Value::of(1), stamp);
        model.answer(piece);
        model.crash(Crash::Power);
        let flush = model.flush();
        model.begin(piece, Value::of(2), stamp);
        model.answer(piece);
        model.flushed(flush);
        assert!(holds(&model, piece, Value::of(2)), "the newest is there while nothing fails");
        assert!(!holds(&model, piece, Value::of(1)) && !holds(&model, piece, Value::ZERO));
        let mut cut = model.clone();
        cut.crash(Crash::Power);
        assert!((1..=2).all(|version| holds(&cut, piece, Value::of(version))) && holds(&cut, piece, Value::ZERO));

        let flush = model.flush();
        model.flushed(flush);
        model.crash(Crash::Power);
        assert!(holds(&model, piece, Value::of(2)), "a flush after its answer covers write 2");
        assert!(!holds(&model, piece, Value::of(1)) && !holds(&model, piece, Value::ZERO));
    }

    /// A flush covers what was answered before it began, not what was answered before it ended.
    #[test]
    fn a_flush_covers_only_what_was_answered_before_it_began() {
        let (mut model, piece, stamp) = model(4096);
        model.begin(piece, Value::of(1), stamp);
        let flush = model.flush();
        model.answer(piece);
        model.flushed(flush);
        model.crash(Crash::Power);
        assert!(holds(&model, piece, Value::ZERO) && holds(&model, piece, Value::of(1)));
    }

    /// A5: sectors may mix only where the disk's physical block is a sector, and only after a power cut.
    #[test]
    fn a_torn_block_is_allowed_only_below_the_physical_block() {
        for (unit, allowed) in [(512, true), (4096, false)] {
            let (mut model, piece, stamp) = model(unit);
            model.begin(piece, Value::of(1), stamp);
            let mut bytes = vec![0; BLOCK];
            fill(&mut bytes, IMAGE, piece.block().0, Value::of(1));
            bytes[512..1024].fill(0);
            assert!(model.clone().observe(piece, &bytes).is_err());
            model.crash(Crash::Power);
            assert_eq!(model.clone().observe(piece, &bytes).is_ok(), allowed);
        }
    }

    /// M1, M13: an extent's stamp is at least that of what it holds.
    #[test]
    fn a_stamp_below_the_content_is_a_violation() {
        let (mut model, piece, stamp) = model(4096);
        model.begin(piece, Value::of(1), stamp);
        model.answer(piece);
        assert!(model.check_stamp(piece.extent, stamp, Stamp::NEVER).is_ok());
        assert!(model.check_stamp(piece.extent, Stamp::NEVER, Stamp::NEVER).is_err());
    }
}
