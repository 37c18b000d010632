//! Blocks that are unwritten here after a crash of the process, though L names a write of them that other images may have
//! (P6): it never came, or was never done. An image that has it is right.

use std::collections::BTreeMap;

use dyad_units::{Extent, Piece};

/// By the image's place and the extent: a bit per block. As many as L can name, until they are compared or written anew.
#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<(usize, Extent), u64>);

impl Doubts {
    pub(super) fn add(&mut self, at: usize, extent: Extent, blocks: u64) {
        if blocks != 0 {
            *self.0.entry((at, extent)).or_default() |= blocks;
        }
    }

    pub(super) fn of(&self, at: usize, extent: Extent) -> u64 {
        self.0.get(&(at, extent)).copied().unwrap_or_default()
    }

    /// The blocks hold something known again.
    pub(super) fn over(&mut self, at: usize, piece: Piece) {
        if let Some(blocks) = self.0.get_mut(&(at, piece.extent)) {
            *blocks &= !piece.mask();
            if *blocks == 0 {
                self.0.remove(&(at, piece.extent));
            }
        }
    }

    /// The image is no more.
    pub(super) fn forget_image(&mut self, at: usize) {
        self.0.retain(|&(owner, _), _| owner != at);
    }
}
