//! Writes that other images might lack (M3): those above the number up to which the owner said that all have them.
//!
//! Kept so that the next owner, or this node after a crash of its process, can compare those ranges and nothing else.
//! After a crash they are known from L alone, so L keeps an entry of each however it is cut.

use std::collections::VecDeque;

use dyad_units::{Extent, Piece, Stamp, WriteNumber};

/// Of one image beyond which it answers Overloaded: an owner has less in flight, and what settles is forgotten.
pub(super) const UNSETTLED_MAX: usize = 8192;

/// One write, unmap or mend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unsettled {
    /// Where its entry lies in L.
    pub(super) recent_at: u64,
    pub(super) number: WriteNumber,
    pub(super) stamp: Stamp,
    pub(super) piece: Piece,
}

/// Those of one image, in the order of their entries in L.
#[derive(Default)]
pub(super) struct UnsettledWrites {
    writes: VecDeque<Unsettled>,
    settled: WriteNumber,
}

impl UnsettledWrites {
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// All images have every write up to this.
    pub(super) fn settled(&self) -> WriteNumber {
        self.settled
    }

    /// A write was stored in L.
    pub(super) fn push(&mut self, write: Unsettled) {
        if write.number > self.settled {
            self.writes.push_back(write);
        }
    }

    /// The owner says that all images have every write up to `settled`. What does not lie in front, because it was held
    /// and came late, is forgotten when it gets there.
    pub(super) fn settle(&mut self, settled: WriteNumber) {
        self.settled = self.settled.max(settled);
        while self.writes.front().is_some_and(|write| write.number <= self.settled) {
            self.writes.pop_front();
        }
    }

    /// All in-sync images have everything up to this stamp (M4).
    pub(super) fn close(&mut self, closed: Stamp) {
        self.writes.retain(|write| write.stamp > closed);
    }

    /// The extent was compared.
    pub(super) fn forget(&mut self, extent: Extent) {
        self.writes.retain(|write| write.piece.extent != extent);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unsettled> {
        self.writes.iter().filter(|write| write.number > self.settled)
    }

    /// Takes the oldest if its entry lies before `cut`.
    pub(super) fn pop_before(&mut self, cut: u64) -> Option<Unsettled> {
        self.writes.pop_front_if(|write| write.recent_at < cut)
    }

    /// How many entries before `cut` would have to be carried on.
    pub(super) fn count_before(&self, cut: u64) -> usize {
        self.writes.iter().take_while(|write| write.recent_at < cut).count()
    }

    pub(super) fn put_back(&mut self, write: Unsettled) {
        self.writes.push_front(write);
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::{Epoch, Interval};

    use super::*;

    fn write(number: u64, interval: u32) -> Unsettled {
        Unsettled {
            recent_at: number * 64,
            number: WriteNumber::new(number),
            stamp: Stamp::new(Epoch::new(1), Interval::new(interval)),
            piece: Piece::whole(Extent(number as u32)),
        }
    }

    #[test]
    fn what_is_settled_compared_or_closed_is_forgotten() {
        let mut writes = UnsettledWrites::default();
        [write(3, 1), write(1, 1), write(2, 1), write(4, 2), write(5, 2)].into_iter().for_each(|one| writes.push(one));
        writes.settle(WriteNumber::new(2));
        assert_eq!(writes.iter().map(|write| write.number.value()).collect::<Vec<_>>(), [3, 4, 5]);
        writes.forget(Extent(4));
        writes.close(Stamp::new(Epoch::new(1), Interval::new(1)));
        assert_eq!(writes.iter().map(|write| write.number.value()).collect::<Vec<_>>(), [5]);
        writes.push(write(1, 3));
        assert_eq!(writes.len(), 1, "settled before it came");
    }
}
