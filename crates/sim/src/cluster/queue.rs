//! What happens next: events in the order of true time, and of their making where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// True time in nanoseconds since the run began. No node can read it: each has a clock of its own.
pub type Time = u64;

/// One millisecond of true time.
pub const MILLIS: Time = 1_000_000;
/// One second of true time.
pub const SECONDS: Time = 1_000_000_000;

/// Events to come. Two runs that push the same pop the same.
#[derive(Debug)]
pub struct Queue<E> {
    /// (when, order of making, place in `events`): small, so that the heap moves little.
    heap: BinaryHeap<Reverse<(Time, u64, u32)>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
    made: u64,
    now: Time,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), made: 0, now: 0 }
    }
}

impl<E> Queue<E> {
    /// Time of the event that was popped last.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Events pushed so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Lets `event` happen at `at`, or now if that is past.
    pub fn push(&mut self, at: Time, event: E) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place as usize] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() as u32 - 1
            }
        };
        self.made += 1;
        self.heap.push(Reverse((at.max(self.now), self.made, place)));
    }

    /// What is to come, in no order.
    pub fn events(&self) -> impl Iterator<Item = &E> {
        self.events.iter().flatten()
    }

    /// The next event; time moves on to it.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.now = at;
        self.free.push(place);
        self.events[place as usize].take()
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_their_making() {
        let mut queue = Queue::default();
        for (at, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.push(at, event);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!((order.as_str(), queue.now()), ("abcd", 5));
        queue.push(1, 'e');
        assert_eq!((queue.next_at(), queue.pop()), (Some(5), Some('e')), "the past is now");
    }
}
