//! Bits change on disks, where that is not what no checksum can tell from a torn block (P8).

use dyad_mirror::Noted;

use super::net::NodeNo;
use super::world::World;
use crate::rng::Rng;

/// Bits that change where one image is left: a third of what hosts write to, so that a few reads meet some.
const OF_LAST: u64 = 1000;

impl World {
    /// In the last two thirds of the disk, where slots are. Only where another image is in sync, and what a loss of power
    /// left was compared; and once: bits that change in what is not compared yet, or was bad on all images before, are what no
    /// checksum can tell from a torn block (seeds 7600012206 and 7600021739).
    pub(super) fn rot(&mut self, node: NodeNo, rng: &mut Rng) {
        let holders: u32 = (0..self.segments.len()).map(|at| self.holders(at).count_ones()).min().unwrap_or(0);
        if holders < 2 || self.book.has_rotted(1 << node) || !self.is_compared() {
            return;
        }
        let count = 1 + rng.below(200);
        self.flip(node, count, rng);
    }

    /// The same where this node's is the only image in sync: what is bad then stays bad (M15).
    pub(super) fn rot_last(&mut self, node: NodeNo, rng: &mut Rng) {
        if self.is_last(node) {
            self.flip(node, OF_LAST, rng);
            self.book.left_with(1 << node);
        }
    }

    /// The same in one of the homes of its SCSI state (M20): a bit.
    pub(super) fn rot_state(&mut self, node: NodeNo, rng: &mut Rng) {
        if !self.is_last(node) {
            return;
        }
        let homes: usize = Noted::homes().iter().map(|home| home.len()).sum();
        let at = rng.below(homes as u64);
        if let Some(state) = self.offset_of_state(node) {
            self.excuses.medium = true;
            self.book.rots(1 << node);
            self.machines[node].disk.flip(state + at, 1 << rng.below(8));
        }
        self.book.left_with(1 << node);
    }

    fn is_last(&self, node: NodeNo) -> bool {
        (0..self.segments.len()).all(|segment| self.holders(segment) == 1 << node)
    }

    fn flip(&mut self, node: NodeNo, count: u64, rng: &mut Rng) {
        self.excuses.medium = true;
        self.book.rots(1 << node);
        let machine = &mut self.machines[node];
        let size = machine.disk.len_bytes();
        for _ in 0..count {
            machine.disk.flip(size / 3 + rng.below(size - size / 3), 1 << rng.below(8));
        }
    }
}
