//! Bits that changed on a disk where no checksum can tell (P7, P8).
//!
//! All images of the block lost their memory, and what was written last was not flushed. On one image it is there without
//! its checksum; on another one, bits of the block had changed before. Neither verifies, no disk knows which of them is
//! what a host wrote, and one is adopted: counted and reported, and what was seen of it stays so. Everywhere else a
//! host never sees a changed bit.

use super::{Block, Order};
use crate::pattern::{Value, identify_rotten};

impl Block {
    /// What a read asked at `asked` shows, if it is what a loss of memory may have left but for a few bits that changed
    /// before it: at `rotted` at the earliest.
    pub fn rotten(&self, bytes: &[u8], (image, block): (u64, u64), asked: Order, rotted: Order) -> Option<Value> {
        let seen = self.writes.iter().map(|write| write.value).filter(|value| value.is_rotten());
        let last = self.last(asked);
        let was_lost = |write: &super::Write| write.begun <= self.lost_at && self.is_open(write, last);
        let is_unknown = rotted < self.lost_at && self.writes.iter().any(was_lost);
        let parts = self.parts(asked).map(|write| write.value).filter(move |_| is_unknown);
        identify_rotten(bytes, image, block, seen.chain(parts)).ok()
    }
}
