//! Numbers of writes, and "all have up to s" (M3).

use std::collections::VecDeque;

use dyad_units::{Epoch, WriteNumber};

/// Gives numbers to writes in the owner's order and knows up to which one every image has them all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// Every target has each write up to this one.
    settled: u64,
    /// Whether each later one, in order, is settled.
    after: VecDeque<bool>,
}

/// Room for 2^40 writes in an epoch, more than a year at 30,000 per second, and 2^24 epochs.
const EPOCH_SHIFT: u32 = 40;

impl Numbers {
    /// Begins a life as owner above every number of earlier ones, so that whoever compares numbers of two
    /// epochs, as an image does with what its log kept, compares them rightly.
    pub(crate) fn begin(&mut self, epoch: Epoch) {
        assert!(self.after.is_empty(), "nothing was written before the segment was claimed");
        self.settled = u64::from(epoch.value()) << EPOCH_SHIFT;
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> WriteNumber {
        self.after.push_back(false);
        self.last()
    }

    /// The newest number given.
    pub(crate) fn last(&self) -> WriteNumber {
        WriteNumber::new(self.settled + self.after.len() as u64)
    }

    /// All images have every write up to this.
    pub(crate) const fn settled(&self) -> WriteNumber {
        WriteNumber::new(self.settled)
    }

    /// Every target has this write, or is out of the set.
    pub(crate) fn settle(&mut self, number: WriteNumber) {
        let at = number.value() - self.settled - 1;
        self.after[at as usize] = true;
        while self.after.front() == Some(&true) {
            self.after.pop_front();
            self.settled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn settled_stops_before_the_first_write_under_way() {
        let mut numbers = Numbers::default();
        let [a, b, c] = [(); 3].map(|()| numbers.next());
        numbers.settle(b);
        assert_eq!(numbers.settled().value(), 0);
        numbers.settle(a);
        assert_eq!(numbers.settled(), b);
        numbers.settle(c);
        assert_eq!((numbers.settled(), numbers.last()), (c, c));
    }
}
