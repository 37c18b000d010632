//! A small honest image in memory. It keeps the contract of `dyad_contract::image`, asserts that the owner
//! keeps its side, and fails on request.

#[path = "image/faults.rs"]
mod faults;
#[path = "image/name.rs"]
mod name;

pub use name::name;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dyad_contract::image::{
    BlockState, Changed, Examined, ImageError, Reply, Request, Space, Survey, Token, Unmap, Write, Written,
};
use dyad_payload::{BlockSum, Payload, Slab};
use dyad_units::{BLOCK_BYTES, Epoch, Extent, Piece, Region, Stamp};

/// Extents in one page of a list: few, so that lists have pages.
const PAGE: usize = 3;

pub const BLOCK: usize = BLOCK_BYTES as usize;

/// A block: its bytes and the sum that the map vouches for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cell {
    pub bytes: Vec<u8>,
    pub sum: BlockSum,
}

impl Cell {
    pub fn is_good(&self) -> bool {
        BlockSum::of(&self.bytes) == self.sum
    }
}

/// What survives a loss of power.
#[derive(Clone, Default)]
struct Durable {
    cells: BTreeMap<u64, Cell>,
    record: Vec<u8>,
    epoch: Epoch,
    closed: Stamp,
}

/// A request from its arrival to its reply.
pub struct Pending {
    pub token: Token,
    pub request: Request,
    pub reply: Option<Reply>,
}

pub struct Image {
    pub cells: BTreeMap<u64, Cell>,
    durable: Durable,
    pub record: Vec<u8>,
    pub epoch: Epoch,
    pub closed: Stamp,
    /// When each extent was last written.
    pub stamps: BTreeMap<u32, Stamp>,
    /// Resync: cursor and k.
    pub progress: Option<(Extent, Stamp)>,
    /// Regions that may have been written since closed, and when.
    pub marks: BTreeMap<Region, Stamp>,
    /// Writes in L: number, stamp and place; and the highest settled heard of.
    written: Vec<(u64, Stamp, Piece)>,
    settled: u64,
    /// What other images might not have, from earlier crashes, with its number: kept until it was compared, or the owner
    /// says that all have it.
    unsettled: Vec<(u64, Piece)>,
    /// Highest number heard of, now and when the newest record came.
    numbers_heard: u64,
    /// Numbers of writes that were carried out: one that is sent again is paid for already.
    applied: BTreeSet<u64>,
    numbers_before: u64,
    pub lived_through: bool,
    suspects: BTreeSet<u32>,
    examined: BTreeSet<u32>,
    pub lost: BTreeSet<u32>,
    /// Were lost, until they were written as a whole; that is not durable yet.
    healed: BTreeSet<u32>,
    pub unreadable: BTreeSet<u64>,
    /// Extents that find a slot; none: no bound.
    pub slots: Option<usize>,
    pub granted: usize,
    reserved: Vec<Piece>,
    pub pending: VecDeque<Pending>,
    /// The next requests of this name fail so.
    pub failures: Vec<(&'static str, ImageError)>,
    pub poisoned: bool,
    /// Every request of every kind that was handed over, by name.
    pub heard: Vec<&'static str>,
    pub flushes: usize,
    slab: Slab,
}

impl Image {
    pub fn new(slab: Slab) -> Self {
        Self {
            cells: BTreeMap::new(),
            durable: Durable::default(),
            record: Vec::new(),
            epoch: Epoch::new(0),
            closed: Stamp::NEVER,
            stamps: BTreeMap::new(),
            progress: None,
            marks: BTreeMap::new(),
            written: Vec::new(),
            settled: 0,
            unsettled: Vec::new(),
            numbers_heard: 0,
            applied: BTreeSet::new(),
            numbers_before: 0,
            lived_through: true,
            suspects: BTreeSet::new(),
            examined: BTreeSet::new(),
            lost: BTreeSet::new(),
            healed: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            slots: None,
            granted: 0,
            reserved: Vec::new(),
            pending: VecDeque::new(),
            failures: Vec::new(),
            poisoned: false,
            heard: Vec::new(),
            flushes: 0,
            slab,
        }
    }

    /// A request arrives. Asserts M2 and the uniqueness of tokens.
    pub fn receive(&mut self, token: Token, request: Request) {
        self.heard.push(name(&request));
        if let Request::Write(write) = &request {
            self.numbers_heard = self.numbers_heard.max(write.number.value());
        }
        if let Some((piece, is_write)) = touched(&request) {
            for other in &self.pending {
                assert_ne!(other.token, token, "a token in flight twice");
                let Some((taken, other_writes)) = touched(&other.request) else { continue };
                let overlaps = taken.extent == piece.extent && taken.mask() & piece.mask() != 0;
                assert!(!overlaps || !(is_write || other_writes), "M2: {request:?} while {:?}", other.request);
            }
        }
        self.pending.push_back(Pending { token, request, reply: None });
    }

    /// Carries out one pending request; its reply waits.
    pub fn execute(&mut self, at: usize) {
        // M3: before it adopts a higher epoch it finishes all of the lower, and what comes after waits for it.
        let is_record =
            |pending: &Pending| matches!(pending.request, Request::Record { .. }) && pending.reply.is_none();
        if let Some(record) = self.pending.iter().take(at + 1).position(is_record) {
            (0..record).for_each(|earlier| self.execute_alone(earlier));
            self.execute_alone(record);
        }
        self.execute_alone(at);
    }

    fn execute_alone(&mut self, at: usize) {
        if self.pending[at].reply.is_none() {
            let request = self.pending[at].request.clone();
            self.pending[at].reply = Some(self.carry_out(&request));
        }
    }

    fn carry_out(&mut self, request: &Request) -> Reply {
        if let Some(at) = self.failures.iter().position(|(kind, _)| *kind == name(request)) {
            return Reply::Failed(self.failures.remove(at).1);
        }
        if self.poisoned && is_change(request) {
            return Reply::Failed(ImageError::Poisoned);
        }
        match request {
            Request::Read { piece } => self.read(*piece),
            Request::Write(Write { piece, .. }) | Request::Unmap(Unmap { piece, .. })
                if self.suspects.contains(&piece.extent.0) =>
            {
                panic!("P8: {piece:?} written before it was compared")
            }
            Request::Write(write) => {
                assert!(has_right_sums(write), "P7");
                self.write(write)
            }
            // Blocks that nobody has are mended so that they match no sum (M15).
            Request::Mend(write) => {
                assert!(write.data.is_zero() || has_right_sums(write), "P7");
                self.write(write)
            }
            Request::Unmap(unmap) | Request::MendUnmap(unmap) => self.unmap(unmap),
            Request::Flush | Request::Close { .. } => {
                self.flushes += 1;
                self.harden();
                Reply::Done
            }
            Request::Closed { stamp } => {
                // One that is sent again after a broken link may be late: it changes nothing then.
                self.closed = self.closed.max(*stamp);
                self.marks.retain(|_, written| *written >= *stamp);
                // What was written since belongs to a later interval, and other images might lack it still (M3).
                self.written.retain(|(_, written, _)| *written > *stamp);
                Reply::Done
            }
            Request::Grant { .. } | Request::GiveBack { .. } | Request::Reserve { .. } | Request::Release { .. } => {
                self.promise(request)
            }
            Request::Record { epoch, record } => self.keep(*epoch, record),
            Request::Survey | Request::Show => Reply::Survey(Box::new(self.survey())),
            Request::Changed { .. } | Request::Copied { .. } | Request::Progress { .. } => self.resync(request),
            Request::Examine { extent } => {
                self.examined.insert(extent.0);
                self.examine(*extent)
            }
            Request::Adopt { piece } => {
                for block in blocks(*piece) {
                    if let Some(cell) = self.cells.get_mut(&block) {
                        cell.sum = BlockSum::of(&cell.bytes);
                    }
                }
                Reply::Done
            }
            Request::Settled { extent, .. } => {
                self.suspects.remove(&extent.0);
                self.unsettled.retain(|(_, piece)| piece.extent != *extent);
                self.written.retain(|(.., piece)| piece.extent != *extent);
                Reply::Done
            }
        }
    }

    /// What a resync asks (M13 to M15).
    fn resync(&mut self, request: &Request) -> Reply {
        match request {
            Request::Changed { after, from } => {
                let is_asked = |extent: u32, stamp: Stamp| stamp > *after || self.lost.contains(&extent);
                let later = self.stamps.range(from.0..).filter(|(extent, stamp)| is_asked(**extent, **stamp));
                let mut extents: Vec<_> = later.map(|(extent, stamp)| (Extent(*extent), *stamp)).collect();
                let next = (extents.len() > PAGE).then(|| extents[PAGE].0);
                extents.truncate(PAGE);
                Reply::Changed(Box::new(Changed { extents, next }))
            }
            Request::Copied { extent, stamp } => {
                self.stamps.insert(extent.0, *stamp);
                self.lost.remove(&extent.0);
                self.suspects.remove(&extent.0);
                self.unsettled.retain(|(_, piece)| piece.extent != *extent);
                self.written.retain(|(.., piece)| piece.extent != *extent);
                Reply::Done
            }
            Request::Progress { cursor, complete } => {
                self.harden();
                self.progress = cursor.map(|cursor| (cursor, *complete));
                Reply::Done
            }
            _ => unreachable!("only resyncs ask here"),
        }
    }

    fn keep(&mut self, epoch: Epoch, record: &Payload) -> Reply {
        assert!(epoch >= self.epoch, "epochs only rise");
        if epoch > self.epoch {
            // Credits are of an epoch; a fresh stream in the same one leaves them (P15).
            (self.granted, self.numbers_before) = (0, self.numbers_heard);
        }
        (self.epoch, self.record) = (epoch, record.to_vec());
        (self.durable.epoch, self.durable.record) = (self.epoch, self.record.clone());
        Reply::Done
    }

    /// P15: slots promised ahead.
    fn promise(&mut self, request: &Request) -> Reply {
        match request {
            Request::Grant { credits } => {
                let room = self.slots.map_or(usize::MAX, |_| self.room());
                let count = (*credits as usize).min(room);
                self.granted += count;
                Reply::Granted(count as u32)
            }
            Request::GiveBack { epoch } => {
                self.granted = if *epoch >= self.epoch { 0 } else { self.granted };
                self.reserved.retain(|_| *epoch <= self.epoch); // a later one: the image is out of the set
                Reply::Done
            }
            Request::Reserve { piece } => {
                if self.has_slot(piece.extent) || self.room() > 0 {
                    self.reserved.push(*piece);
                    return Reply::Done;
                }
                Reply::Failed(ImageError::Full)
            }
            Request::Release { piece } => {
                // One that is sent again after a broken link was undone already, perhaps.
                if let Some(at) = self.reserved.iter().position(|known| known == piece) {
                    self.reserved.remove(at);
                }
                Reply::Done
            }
            _ => unreachable!("not about space"),
        }
    }

    fn read(&self, piece: Piece) -> Reply {
        let is_suspect = self.suspects.contains(&piece.extent.0);
        assert!(!is_suspect || self.examined.contains(&piece.extent.0), "P8: read before it was compared");
        if self.lost.contains(&piece.extent.0) {
            return Reply::Failed(ImageError::Lost { extent: piece.extent });
        }
        if blocks(piece).any(|block| self.unreadable.contains(&block)) {
            return Reply::Failed(ImageError::Unreadable);
        }
        let mut bad = 0_u64;
        let mut bytes = vec![0; piece.len()];
        for (at, block) in blocks(piece).enumerate() {
            let Some(cell) = self.cells.get(&block) else { continue };
            if BlockSum::of(&cell.bytes) != cell.sum {
                bad |= 1 << (block % 64);
            }
            bytes[at * BLOCK..(at + 1) * BLOCK].copy_from_slice(&cell.bytes);
        }
        if bad != 0 {
            return Reply::Failed(ImageError::Damaged { extent: piece.extent, blocks: bad });
        }
        let mut data = Payload::new();
        data.push(self.slab.copy_of(&bytes).unwrap());
        Reply::Data(data)
    }

    fn write(&mut self, write: &Write) -> Reply {
        assert_eq!(write.data.len(), write.piece.len());
        if write.stamp.epoch < self.epoch {
            return Reply::Failed(ImageError::Superseded { newest: self.epoch });
        }
        let used_slot = !self.has_slot(write.piece.extent);
        let is_again = !self.applied.insert(write.number.value());
        match write.space {
            _ if is_again => {}
            Space::Reserved => {
                // A copy, which is of one extent, reserves one slot for all of its writes, and they come in any order.
                let is_own = |known: &Piece| *known == write.piece;
                let is_of_extent = |known: &Piece| known.extent == write.piece.extent;
                let reserved = &self.reserved;
                let at = reserved.iter().position(is_own);
                let at = at.or_else(|| reserved.iter().position(is_of_extent).filter(|_| used_slot));
                assert!(at.is_some() || !used_slot, "P15: neither reserved nor placed before");
                at.map(|at| self.reserved.remove(at));
            }
            Space::Credit => {
                // Credits are void at a new epoch: a write of before it that is sent again may find no slot.
                let is_paid = self.granted > 0;
                assert!(is_paid || write.number.value() <= self.numbers_before, "P15: a credit that was not granted");
                if used_slot && !is_paid && self.room() == 0 {
                    return Reply::Failed(ImageError::Full);
                }
                self.granted -= usize::from(used_slot && is_paid);
            }
        }
        self.note(write.piece, write.stamp, write.number.value(), write.settled.value());
        // A part of what was lost heals nothing (P12).
        if write.piece.is_whole_extent() && self.lost.remove(&write.piece.extent.0) {
            self.healed.insert(write.piece.extent.0);
        }
        let bytes = write.data.to_vec();
        for (at, block) in blocks(write.piece).enumerate() {
            let bytes = bytes[at * BLOCK..(at + 1) * BLOCK].to_vec();
            self.unreadable.remove(&block);
            self.cells.insert(block, Cell { sum: write.sums.at(at), bytes });
        }
        Reply::Written(Written { used_slot })
    }

    fn unmap(&mut self, unmap: &Unmap) -> Reply {
        if unmap.stamp.epoch < self.epoch {
            return Reply::Failed(ImageError::Superseded { newest: self.epoch });
        }
        self.note(unmap.piece, unmap.stamp, unmap.number.value(), unmap.settled.value());
        for block in blocks(unmap.piece) {
            self.cells.remove(&block);
        }
        Reply::Written(Written { used_slot: false })
    }

    fn note(&mut self, piece: Piece, stamp: Stamp, number: u64, settled: u64) {
        assert!(number > settled, "M3: a write cannot be settled before it is sent");
        let mark = self.marks.entry(piece.extent.region()).or_default();
        *mark = stamp.max(*mark);
        let written = self.stamps.entry(piece.extent.0).or_default();
        *written = stamp.max(*written); // M1
        self.written.push((number, stamp, piece));
        self.settled = self.settled.max(settled);
        self.unsettled.retain(|(number, _)| *number > settled);
    }

    fn examine(&self, extent: Extent) -> Reply {
        let state = |block: u64| match self.cells.get(&block) {
            _ if self.unreadable.contains(&block) || self.lost.contains(&extent.0) => BlockState::Unreadable,
            None => BlockState::Unwritten,
            Some(cell) if BlockSum::of(&cell.bytes) == cell.sum => BlockState::Verified(cell.sum),
            Some(cell) => BlockState::Unverified(BlockSum::of(&cell.bytes)),
        };
        let first = Piece::whole(extent).block().0;
        let blocks = std::array::from_fn(|at| state(first + at as u64));
        let stamp = self.stamps.get(&extent.0).copied().unwrap_or_default();
        Reply::Examined(Box::new(Examined { stamp, blocks }))
    }

    fn survey(&self) -> Survey {
        let marked = self.marks.keys().filter(|region| (0..16).any(|at| self.suspects.contains(&(region.0 * 16 + at))));
        Survey {
            closed: self.closed,
            epoch: self.epoch,
            record: self.record.clone(),
            lived_through: self.lived_through,
            unsettled: if self.lived_through { self.all_unsettled() } else { Vec::new() },
            marked: if self.lived_through { Vec::new() } else { marked.copied().collect() },
            lost: self.lost.iter().map(|&extent| Extent(extent)).collect(),
            progress: self.progress,
        }
    }

    /// Those of earlier crashes, and of the owner of now, which may have stopped just now (M9).
    fn all_unsettled(&self) -> Vec<Piece> {
        let recent = self.written.iter().filter(|(number, ..)| *number > self.settled).map(|(.., piece)| *piece);
        self.unsettled.iter().map(|(_, piece)| *piece).chain(recent).collect()
    }

    fn harden(&mut self) {
        self.durable.cells = self.cells.clone();
        self.healed.clear();
        self.durable.closed = self.closed;
    }

    fn has_slot(&self, extent: Extent) -> bool {
        blocks(Piece::whole(extent)).any(|block| self.cells.contains_key(&block))
    }

    /// Extents that have a slot.
    pub fn slots_used(&self) -> usize {
        self.cells.keys().map(|block| block / 64).collect::<BTreeSet<_>>().len()
    }

    fn room(&self) -> usize {
        let promised = self.granted + self.reserved.iter().filter(|piece| !self.has_slot(piece.extent)).count();
        self.slots.map_or(usize::MAX / 2, |slots| slots.saturating_sub(self.slots_used() + promised))
    }

    /// Turns a byte of a block, so that its sum no longer matches.
    pub fn rot(&mut self, block: u64) {
        self.cells.get_mut(&block).expect("written").bytes[17] ^= 0x10;
    }

    /// Whether every block matches its sum, and would after a loss of power, and can be read.
    pub fn is_good(&self) -> bool {
        let is_sound = !self.failures.iter().any(|(_, error)| *error == ImageError::Unreadable);
        is_sound && self.cells.values().chain(self.durable.cells.values()).all(Cell::is_good)
    }

    /// The first byte of a block, zero if unwritten.
    pub fn value(&self, block: u64) -> u8 {
        self.cells.get(&block).map_or(0, |cell| cell.bytes[0])
    }

    /// How many requests of this name were handed over.
    pub fn count(&self, kind: &str) -> usize {
        self.heard.iter().filter(|heard| **heard == kind).count()
    }
}

fn blocks(piece: Piece) -> impl Iterator<Item = u64> {
    let first = piece.block().0;
    first..first + u64::from(piece.count())
}

fn touched(request: &Request) -> Option<(Piece, bool)> {
    match request {
        Request::Read { piece } => Some((*piece, false)),
        Request::Write(write) | Request::Mend(write) => Some((write.piece, true)),
        Request::Unmap(unmap) | Request::MendUnmap(unmap) => Some((unmap.piece, true)),
        Request::Adopt { piece } => Some((*piece, true)),
        Request::Examine { extent } => Some((Piece::whole(*extent), false)),
        _ => None,
    }
}

fn has_right_sums(write: &Write) -> bool {
    write.data.block_sums().eq(write.sums.iter())
}

fn is_change(request: &Request) -> bool {
    !matches!(
        request,
        Request::Read { .. }
            | Request::Show
            | Request::Survey
            | Request::Changed { .. }
            | Request::Examine { .. }
            | Request::Release { .. }
    )
}
