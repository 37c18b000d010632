//! Bits that changed on a disk where no checksum can tell (P7, P8).
//!
//! All images of the block lost their memory, and what was written last was not flushed. On one image it is there without
//! its checksum; on another one, bits of the block had changed before. Neither verifies, no disk knows which of them is
//! what a host wrote, and one is adopted: counted and reported, and what was seen of it stays so. The same where bits had
//! changed on two disks before, in a region in which something was being written, or on one, and the other images were out,
//! or had been made bad by a copy from it (M15); or the image was promoted by force, and nobody knows what it had (M10).
//! Everywhere else a host never sees a changed bit.

use super::{Block, Nodes, Order};
use crate::pattern::{Value, identify_rotten, stated};

/// When bits changed on disks; `Order::MAX`: never.
#[derive(Clone, Copy, Debug)]
pub struct Rotted {
    /// On one.
    pub first: Order,
    /// On a second one, or on all that was left in sync.
    pub second: Order,
    nodes: Nodes,
}

impl Default for Rotted {
    fn default() -> Self {
        Self { first: Order::MAX, second: Order::MAX, nodes: 0 }
    }
}

impl Rotted {
    /// Whether they did on one of these.
    pub fn has(&self, nodes: Nodes) -> bool {
        self.nodes & nodes != 0
    }

    /// Bits change on the disks of these nodes.
    pub fn add(&mut self, nodes: Nodes, now: Order) {
        self.nodes |= nodes;
        self.first = self.first.min(now);
        if self.nodes.count_ones() > 1 {
            self.second = self.second.min(now);
        }
    }

    /// Only these nodes' images are in sync from now on, or have the block.
    pub fn left_with(&mut self, nodes: Nodes, now: Order) {
        if self.nodes != 0 && nodes & !self.nodes == 0 {
            self.second = self.second.min(now);
        }
    }
}

impl Block {
    /// Whether what it holds may be there with changed bits only: nobody has read it since all memory was lost, and bits had
    /// changed on two disks before. Hosts do not count on it, nor write a part of it.
    pub fn is_doubtful(&self, rotted: Rotted) -> bool {
        let certain = self.writes.iter().filter(|write| write.is_certain());
        let Some(last) = certain.max_by_key(|write| write.s()) else { return false };
        let is_unread = last.seen.is_none_or(|(_, asked)| asked < self.lost_at);
        rotted.second < self.lost_at && last.begun < self.lost_at && last.holders == 0 && is_unread
    }

    /// The SCSI state: a home with changed bits that was adopted counts as one that a crash tore (M20), so what was there before
    /// it, or nothing at all, may be shown, where no checksum can tell (P8). What is seen first stays so.
    pub fn forget_if_doubtful(&mut self, rotted: Rotted, now: Order) {
        if self.is_doubtful(rotted) {
            self.forked(now);
        }
    }

    /// When a node last lost its memory.
    pub fn lost_at(&self) -> Order {
        self.lost_at
    }

    /// What a read asked at `asked` shows, if it is what a loss of memory may have left but for a few bits that changed
    /// before it.
    pub fn rotten(&self, bytes: &[u8], (image, block): (u64, u64), asked: Order, rotted: Rotted) -> Option<Value> {
        let seen = self.writes.iter().map(|write| write.value).filter(|value| value.is_rotten());
        let last = self.last(asked);
        let was_lost = |write: &super::Write| write.begun <= self.lost_at && self.is_open(write, last);
        let is_open = rotted.first < self.lost_at && self.writes.iter().any(was_lost);
        // Whoever has it in memory knows what it has to be.
        let is_forgotten = |write: &super::Write| rotted.second < self.lost_at && write.holders == 0;
        let parts = self.parts(asked).filter(|write| is_open || is_forgotten(write)).map(|write| write.value);
        // What the image of a forced promotion has is nobody's to know (M10): its own words say whose it was.
        let promoted = (self.is_forked && rotted.second < self.lost_at).then(|| stated(bytes));
        identify_rotten(bytes, image, block, seen.chain(parts).chain(promoted)).ok()
    }
}
