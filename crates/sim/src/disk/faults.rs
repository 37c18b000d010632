//! What a simulated disk is told to do wrong, and the count of what it did.

use std::fmt;

/// A kind of disk operation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Reads, through the page cache or past it.
    Read,
    /// Writes into the page cache.
    Write,
    /// Writes of the journal, durable when answered.
    Durable,
    /// Syncs.
    Sync,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Durable, Self::Sync];

    /// Whether the operation changes what would survive something.
    pub fn changes(self) -> bool {
        self != Self::Read
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Durable => "durable write",
            Self::Sync => "sync",
        })
    }
}

/// How many operations of each kind a disk has begun.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts([u64; Kind::ALL.len()]);

impl Counts {
    /// Operations of this kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Operations that change something.
    pub fn changes(&self) -> u64 {
        Kind::ALL.into_iter().filter(|kind| kind.changes()).map(|kind| self.of(kind)).sum()
    }

    pub(super) fn count(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }
}

/// One order to fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Operations of which kind fail.
    pub kind: Kind,
    /// Let so many of them pass first, counted from when the order is given.
    pub after: u64,
    /// So many fail; then the kind works again, as far as the disk is concerned.
    pub times: u64,
}

/// All orders, and the places that can no longer be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    orders: Vec<Fault>,
    unreadable: Vec<(u64, u64)>,
}

impl Faults {
    pub(super) fn order(&mut self, fault: Fault) {
        self.orders.push(fault);
    }

    pub(super) fn spoil(&mut self, offset: u64, len: u64) {
        self.unreadable.push((offset, offset + len));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether this operation is to fail. A write makes its place readable again, as drives do.
    pub(super) fn strikes(&mut self, kind: Kind, offset: u64, len: u64) -> bool {
        let overlaps = |&(from, until): &(u64, u64)| from < offset + len && offset < until;
        if kind == Kind::Read && self.unreadable.iter().any(overlaps) {
            return true;
        }
        if matches!(kind, Kind::Write | Kind::Durable) {
            self.unreadable.retain(|bad| !overlaps(bad));
        }
        let Some(order) = self.orders.iter_mut().find(|order| order.kind == kind && order.times > 0) else {
            return false;
        };
        if order.after > 0 {
            order.after -= 1;
            return false;
        }
        order.times -= 1;
        true
    }
}
