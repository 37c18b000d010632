//! What every sector may hold.

use std::collections::BTreeMap;

use super::pattern::Value;

/// Sectors that one write covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// First sector.
    pub first: u64,
    /// How many.
    pub count: u32,
}

impl Span {
    /// Sectors from the first to the last.
    pub fn sectors(self) -> std::ops::Range<u64> {
        self.first..self.first + u64::from(self.count)
    }

    /// Whether two spans touch a common block of `grain` sectors.
    pub fn overlaps(self, other: Self, grain: u64) -> bool {
        let blocks = |span: Self| (span.first / grain, (span.first + u64::from(span.count) - 1) / grain);
        let ((a, b), (c, d)) = (blocks(self), blocks(other));
        a <= d && c <= b
    }
}

/// Per sector: the value last acknowledged, and values of later writes that were never answered.
#[derive(Clone, Debug)]
pub struct Book {
    acked: Vec<Value>,
    maybe: BTreeMap<u64, Vec<Value>>,
    open: Vec<(Span, Value)>,
}

impl Book {
    /// A book of a unit that holds zeros.
    pub fn new(sectors: u64) -> Self {
        let sectors = usize::try_from(sectors).expect("a book that does not fit the memory");
        Self { acked: vec![0; sectors], maybe: BTreeMap::new(), open: Vec::new() }
    }

    /// Number of sectors.
    pub fn len(&self) -> u64 {
        self.acked.len() as u64
    }

    /// True for a book without sectors.
    pub fn is_empty(&self) -> bool {
        self.acked.is_empty()
    }

    /// The value last acknowledged.
    pub fn acked(&self, sector: u64) -> Value {
        self.acked[sector as usize]
    }

    /// Values that may be there instead.
    pub fn maybe(&self, sector: u64) -> &[Value] {
        self.maybe.get(&sector).map_or(&[], Vec::as_slice)
    }

    /// Writes that never were answered, since the last [`Book::settle`].
    pub fn open(&self) -> &[(Span, Value)] {
        &self.open
    }

    /// A write was answered with GOOD: it counts from now on.
    pub fn acknowledge(&mut self, span: Span, value: Value) {
        for sector in span.sectors() {
            self.acked[sector as usize] = value;
            if !self.maybe.is_empty() {
                self.maybe.remove(&sector);
            }
        }
    }

    /// A write got no answer, or an error: it may be there or not.
    pub fn leave_open(&mut self, span: Span, value: Value) {
        for sector in span.sectors() {
            self.maybe.entry(sector).or_default().push(value);
        }
        self.open.push((span, value));
    }

    /// A sector was read back: what was seen stays so (A5). False if it may not hold this.
    pub fn see(&mut self, sector: u64, seen: Option<Value>) -> bool {
        let Some(value) = seen else { return false };
        if self.acked(sector) != value && !self.maybe(sector).contains(&value) {
            return false;
        }
        self.acked[sector as usize] = value;
        self.maybe.remove(&sector);
        true
    }

    /// Everything was read back; nothing is open any more.
    pub fn settle(&mut self) {
        self.maybe.clear();
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Book, Span};

    const SPAN: Span = Span { first: 2, count: 2 };

    #[test]
    fn an_acknowledged_write_must_be_there() {
        let mut book = Book::new(8);
        book.acknowledge(SPAN, 5);
        assert!(book.see(2, Some(5)));
        assert!(!book.see(3, Some(0)), "an acknowledged write is missing");
        assert!(!book.see(1, Some(5)), "a write is where it was not sent");
    }

    #[test]
    fn an_unanswered_write_may_be_there_or_not_but_what_was_seen_sticks() {
        let mut book = Book::new(8);
        book.acknowledge(SPAN, 5);
        book.leave_open(SPAN, 6);
        assert!(book.see(2, Some(6)));
        assert!(!book.see(2, Some(5)), "new was seen, old came back (A5)");
        assert!(book.see(3, Some(5)));
        assert!(!book.see(3, Some(6)), "old was seen, new came later without a write");
    }

    #[test]
    fn a_later_acknowledged_write_ends_the_doubt() {
        let mut book = Book::new(8);
        book.leave_open(SPAN, 6);
        book.acknowledge(SPAN, 7);
        assert!(!book.see(2, Some(6)));
        assert!(book.see(2, Some(7)));
    }

    #[test]
    fn spans_overlap_by_whole_blocks() {
        let near = Span { first: 4, count: 1 };
        assert!(!SPAN.overlaps(near, 1));
        assert!(SPAN.overlaps(near, 8));
    }
}
