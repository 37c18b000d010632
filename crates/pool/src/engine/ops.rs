//! Requests on their way through the disk, in a slab that is reused.

use dyad_contract::image::{Token, Write};
use dyad_payload::BufMut;
use dyad_units::{Extent, Piece};

use crate::disk::DiskToken;
use crate::entry::Slot;

/// Requests in flight in one pool, beyond which it answers Overloaded: several times what the volumes of a node
/// keep in flight, so that only a fault of an owner meets it.
pub(super) const OPS_MAX: usize = 8192;

/// A place in [`Ops`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OpAt(pub(super) u32);

/// Why blocks are being read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReadFor {
    /// For the owner.
    Data,
    /// To tell the owner their state (P8).
    Examine,
    /// To believe what is there (P8).
    Adopt,
}

pub(super) struct Read {
    pub(super) at: usize,
    pub(super) token: Token,
    pub(super) piece: Piece,
    pub(super) slot: Slot,
    /// The slot's allocation.
    pub(super) alloc: u64,
    pub(super) purpose: ReadFor,
    /// The data, once it is here.
    pub(super) buf: Option<BufMut>,
    /// The disk could not read the data.
    pub(super) failed: bool,
    /// How often its table page was fetched.
    pub(super) fetches: u8,
}

pub(super) struct WriteOp {
    pub(super) at: usize,
    pub(super) write: Write,
    pub(super) token: Token,
    pub(super) slot: Slot,
    /// Where its entry lies in L: L is not cut beyond it before the write is complete.
    pub(super) recent_at: u64,
    pub(super) used_slot: bool,
    pub(super) mend: bool,
}

pub(super) enum Op {
    Free,
    Read(Read),
    Write(WriteOp),
}

impl Op {
    fn slot(&self) -> Option<Slot> {
        match self {
            Self::Free => None,
            Self::Read(read) => Some(read.slot),
            Self::Write(write) => Some(write.slot),
        }
    }
}

const NONE: u32 = u32::MAX;

/// A place, and its neighbours in the list of writes; of a free place, `next` is the next free one.
struct Place {
    op: Op,
    before: u32,
    next: u32,
}

/// Writes are strung in the order of their entries in L, so that the oldest is known at once.
pub(super) struct Ops {
    places: Vec<Place>,
    free: u32,
    used: usize,
    oldest: u32,
    newest: u32,
}

impl Default for Ops {
    fn default() -> Self {
        Self { places: Vec::new(), free: NONE, used: 0, oldest: NONE, newest: NONE }
    }
}

impl Ops {
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn insert(&mut self, op: Op) -> OpAt {
        self.used += 1;
        let is_write = matches!(op, Op::Write(_));
        let at = match self.places.get_mut(self.free as usize) {
            Some(place) => {
                let at = self.free;
                self.free = place.next;
                *place = Place { op, before: NONE, next: NONE };
                at
            }
            None => {
                self.places.push(Place { op, before: NONE, next: NONE });
                self.places.len() as u32 - 1
            }
        };
        if is_write {
            self.places[at as usize].before = self.newest;
            match self.places.get_mut(self.newest as usize) {
                Some(newest) => newest.next = at,
                None => self.oldest = at,
            }
            self.newest = at;
        }
        OpAt(at)
    }

    pub(super) fn remove(&mut self, at: OpAt) -> Op {
        let freed = Place { op: Op::Free, before: NONE, next: self.free };
        let Place { op, before, next } = std::mem::replace(&mut self.places[at.0 as usize], freed);
        self.free = at.0;
        self.used -= 1;
        if matches!(op, Op::Write(_)) {
            match self.places.get_mut(before as usize) {
                Some(place) => place.next = next,
                None => self.oldest = next,
            }
            match self.places.get_mut(next as usize) {
                Some(place) => place.before = before,
                None => self.newest = before,
            }
        }
        op
    }

    pub(super) fn get(&self, at: OpAt) -> &Op {
        &self.places[at.0 as usize].op
    }

    pub(super) fn get_mut(&mut self, at: OpAt) -> &mut Op {
        &mut self.places[at.0 as usize].op
    }

    /// Writes in flight, in the order of their entries in L.
    pub(super) fn writes(&self) -> impl Iterator<Item = &WriteOp> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let place = self.places.get(at as usize)?;
            at = place.next;
            match &place.op {
                Op::Write(write) => Some(write),
                _ => None,
            }
        })
    }

    /// Where L may be cut: before the entry of the oldest write in flight.
    pub(super) fn oldest_recent(&self) -> Option<u64> {
        self.writes().next().map(|write| write.recent_at)
    }

    /// The slots of all reads and writes in flight, ascending, as often as they are used (P3).
    pub(super) fn slots(&self) -> Vec<Slot> {
        if self.used == 0 {
            return Vec::new();
        }
        let mut slots: Vec<Slot> = self.places.iter().filter_map(|place| place.op.slot()).collect();
        slots.sort_unstable();
        slots
    }

    /// Extents with a write in flight.
    pub(super) fn written_extents(&self) -> impl Iterator<Item = (usize, Extent)> {
        self.writes().map(|write| (write.at, write.write.piece.extent))
    }
}

/// What a [`DiskToken`] stands for: its kind in the top byte.
pub(super) enum Completion {
    Data(OpAt),
    TableRead {
        page: u32,
        home: usize,
    },
    /// Of one page at most one write is in flight.
    TableWrite {
        page: u32,
    },
    /// The number only keeps tokens apart.
    PageWrite(u64),
    Sync,
    Journal,
}

const KIND_SHIFT: u32 = 56;

impl Completion {
    pub(super) fn token(&self) -> DiskToken {
        let (kind, value) = match self {
            Self::Data(at) => (0, u64::from(at.0)),
            Self::TableRead { page, home } => (1, u64::from(*page) << 1 | *home as u64),
            Self::TableWrite { page } => (2, u64::from(*page)),
            Self::PageWrite(number) => (3, *number),
            Self::Sync => (4, 0),
            Self::Journal => (5, 0),
        };
        DiskToken(kind << KIND_SHIFT | value)
    }

    pub(super) fn of(token: DiskToken) -> Self {
        let value = token.0 & ((1 << KIND_SHIFT) - 1);
        match token.0 >> KIND_SHIFT {
            0 => Self::Data(OpAt(value as u32)),
            1 => Self::TableRead { page: (value >> 1) as u32, home: (value & 1) as usize },
            2 => Self::TableWrite { page: value as u32 },
            3 => Self::PageWrite(value),
            4 => Self::Sync,
            _ => Self::Journal,
        }
    }
}
