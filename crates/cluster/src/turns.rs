//! Whose turn it is to catch up: a node is the source of a few resyncs at a time, so that its return after a blip, or that
//! of its neighbour, is no storm that hosts feel in every volume at once.
//!
//! ```text
//!   wish (repeated while it lasts) ──▶ waiting ──ask: among the first, and a place is free──▶ running ──end──▶ ·
//!                                         └── not repeated for WISH_MAX: forgotten
//! ```
//!
//! Two lines ([`Line`]): whoever only missed something is not kept waiting behind copies of whole volumes. In each, segments
//! with the fewest images in sync come first, then those that a person asked for, then who waited longest.
//!
//! Only the source counts: a node to which several others return images takes in so many from each of them. What keeps hosts'
//! latency there is the pace of each run.

use dyad_units::{Moment, Period, SegmentId};

/// Resyncs of a line that a node is the source of at a time, unless set otherwise: one that waits for an answer leaves the
/// disks to the other, more only share them.
pub const RESYNCS_AT_ONCE: usize = 2;
/// A wish is repeated about twice a second; one that was not for so long is not wished any more.
const WISH_MAX: Period = Period::from_secs(2);

/// What kind of a resync it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line {
    /// The image was in the set, and gets what it missed.
    Return,
    /// The image is new, and gets everything.
    Fill,
}

/// An image that could begin to catch up.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whose image it is; one image of a segment catches up at a time.
    pub segment: SegmentId,
    /// Where it lines up.
    pub line: Line,
    /// Images of the segment that are in sync.
    pub in_sync: usize,
    /// A person asked for it.
    pub is_asked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    wish: Wish,
    since: Moment,
    repeated: Moment,
}

/// The lines of one node. Pure: whoever may begin learns it from the answer to its wish.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    running: Vec<(SegmentId, Line)>,
    waiting: Vec<Waiting>,
}

impl Turns {
    /// The wish is made, or repeated. Whether its turn has come, with at most so many `at_once` in its line; it lasts until
    /// [`Self::end`].
    pub fn ask(&mut self, wish: &Wish, at_once: usize, now: Moment) -> bool {
        if self.running.iter().any(|(segment, _)| *segment == wish.segment) {
            return true;
        }
        self.waiting.retain(|waiting| now.since(waiting.repeated) <= WISH_MAX);
        let is_it = |waiting: &Waiting| (waiting.wish.segment, waiting.wish.line) == (wish.segment, wish.line);
        let known = self.waiting.iter().position(is_it);
        let at = known.unwrap_or(self.waiting.len());
        let since = known.map_or(now, |at| self.waiting[at].since);
        let mine = Waiting { wish: *wish, since, repeated: now };
        match self.waiting.get_mut(at) {
            Some(waiting) => *waiting = mine,
            None => self.waiting.push(mine),
        }
        let rank = |waiting: &Waiting| {
            let wish = &waiting.wish;
            (wish.in_sync, !wish.is_asked, waiting.since, wish.segment)
        };
        let in_line = self.waiting.iter().filter(|other| other.wish.line == wish.line);
        let before = in_line.filter(|other| rank(other) < rank(&mine)).count();
        let has_turn = self.running(wish.line) + before < at_once.max(1);
        if has_turn {
            self.waiting.retain(|waiting| waiting.wish.segment != wish.segment);
            self.running.push((wish.segment, wish.line));
        }
        has_turn
    }

    /// The segment's resync has ended, or will not be: the place is free.
    pub fn end(&mut self, segment: SegmentId) {
        self.running.retain(|(running, _)| *running != segment);
        self.waiting.retain(|waiting| waiting.wish.segment != segment);
    }

    /// Resyncs of the line under way.
    pub fn running(&self, line: Line) -> usize {
        self.running.iter().filter(|(_, running)| *running == line).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Moment = |millis| Moment::from_nanos(millis * 1_000_000);

    fn segment(at: u8) -> SegmentId {
        SegmentId::from_bytes([at; 16])
    }

    fn wish(of: u8, in_sync: usize) -> Wish {
        Wish { segment: segment(of), line: Line::Return, in_sync, is_asked: false }
    }

    /// Which of them get a turn when all ask, in this order.
    fn ask_all(turns: &mut Turns, wishes: &[Wish], now: Moment) -> Vec<u8> {
        let granted = wishes.iter().filter(|wish| turns.ask(wish, 2, now));
        granted.map(|wish| wish.segment.to_bytes()[0]).collect()
    }

    /// Broke once (review): every volume of a node that came back caught up at the same time.
    #[test]
    fn few_catch_up_at_a_time_and_the_next_when_one_has_ended() {
        let mut turns = Turns::default();
        let wishes: Vec<Wish> = (1..=5).map(|of| wish(of, 1)).collect();
        assert_eq!(ask_all(&mut turns, &wishes, MS(0)), [1, 2]);
        assert_eq!(ask_all(&mut turns, &wishes[2..], MS(500)), [], "the others wait");
        assert!(turns.ask(&wishes[0], 2, MS(600)), "whoever runs may be told so again");
        turns.end(segment(1));
        assert_eq!(ask_all(&mut turns, &wishes[2..], MS(1000)), [3]);
        (2..=3).for_each(|of| turns.end(segment(of)));
        assert_eq!(ask_all(&mut turns, &wishes[3..], MS(1500)), [4, 5]);
        (4..=5).for_each(|of| turns.end(segment(of)));
        assert_eq!((turns.running(Line::Return), turns.waiting.len()), (0, 0));
    }

    #[test]
    fn least_redundancy_comes_first_then_whom_a_person_wants_then_who_waited() {
        let mut turns = Turns::default();
        assert_eq!(ask_all(&mut turns, &[wish(1, 1), wish(2, 1)], MS(0)), [1, 2]);
        let asked = Wish { is_asked: true, ..wish(6, 2) };
        let late = [wish(3, 2), wish(4, 2), wish(5, 1), asked];
        for (at, wish) in late.iter().enumerate() {
            assert!(!turns.ask(wish, 2, MS(10 + at as u64)));
        }
        let mut order = vec![1, 2];
        for round in 1..=4 {
            turns.end(segment(order[round - 1]));
            let left: Vec<Wish> =
                late.into_iter().filter(|wish| !order.contains(&wish.segment.to_bytes()[0])).collect();
            order.extend(ask_all(&mut turns, &left, MS(500 * round as u64)));
        }
        assert_eq!(order, [1, 2, 5, 6, 3, 4]);
    }

    #[test]
    fn whoever_does_not_ask_again_is_not_waited_for() {
        let mut turns = Turns::default();
        assert_eq!(ask_all(&mut turns, &[wish(1, 1), wish(2, 1), wish(3, 1), wish(4, 2)], MS(0)), [1, 2]);
        turns.end(segment(1));
        assert!(!turns.ask(&wish(4, 2), 2, MS(1900)), "the third one is first");
        assert!(turns.ask(&wish(4, 2), 2, MS(2100)), "but it is gone");
    }

    #[test]
    fn a_return_does_not_wait_for_copies_of_whole_volumes() {
        let mut turns = Turns::default();
        let fill = |of| Wish { line: Line::Fill, ..wish(of, 1) };
        assert_eq!(ask_all(&mut turns, &[fill(1), fill(2), fill(3), wish(4, 2)], MS(0)), [1, 2, 4]);
        assert_eq!((turns.running(Line::Fill), turns.running(Line::Return)), (2, 1));
    }
}
