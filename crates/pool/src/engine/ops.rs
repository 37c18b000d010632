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

/// A change that waits for its region's mark or for room in L.
pub(super) enum Waiting {
    Write(Write),
    Unmap(dyad_contract::image::Unmap),
}

pub(super) enum Op {
    Free(Option<OpAt>),
    Read(Read),
    Write(WriteOp),
}

#[derive(Default)]
pub(super) struct Ops {
    ops: Vec<Op>,
    free: Option<OpAt>,
    used: usize,
}

impl Ops {
    pub(super) fn is_full(&self) -> bool {
        self.used >= OPS_MAX
    }

    pub(super) fn insert(&mut self, op: Op) -> OpAt {
        self.used += 1;
        match self.free {
            Some(at) => {
                let place = &mut self.ops[at.0 as usize];
                let Op::Free(next) = *place else { unreachable!("the free list holds only free places") };
                self.free = next;
                *place = op;
                at
            }
            None => {
                self.ops.push(op);
                OpAt(self.ops.len() as u32 - 1)
            }
        }
    }

    pub(super) fn remove(&mut self, at: OpAt) -> Op {
        let op = std::mem::replace(&mut self.ops[at.0 as usize], Op::Free(self.free));
        self.free = Some(at);
        self.used -= 1;
        op
    }

    pub(super) fn get_mut(&mut self, at: OpAt) -> &mut Op {
        &mut self.ops[at.0 as usize]
    }

    fn writes(&self) -> impl Iterator<Item = &WriteOp> {
        self.ops.iter().filter_map(|op| match op {
            Op::Write(write) => Some(write),
            _ => None,
        })
    }

    /// Where L may be cut: before the entry of the oldest write in flight.
    pub(super) fn oldest_recent(&self) -> Option<u64> {
        self.writes().map(|write| write.recent_at).min()
    }

    /// Whether a read or a write of the slot is in flight (P3).
    pub(super) fn uses_slot(&self, slot: Slot) -> bool {
        self.ops.iter().any(|op| match op {
            Op::Free(_) => false,
            Op::Read(read) => read.slot == slot,
            Op::Write(write) => write.slot == slot,
        })
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
    /// The number only keeps tokens apart.
    TableWrite(u64),
    /// As [`Completion::TableWrite`].
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
            Self::TableWrite(number) => (2, *number),
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
            2 => Self::TableWrite(value),
            3 => Self::PageWrite(value),
            4 => Self::Sync,
            _ => Self::Journal,
        }
    }
}
