//! Blocks that were found damaged and are not good again: so that damage is counted once however often it is read, and a
//! block that is rewritten for another reason, such as a resync, is not taken for one that was healed (P7, P14).

use std::collections::BTreeMap;

use dyad_units::{Extent, Piece};

/// Extents whose damage is remembered. A disk with more than that is not worth counting exactly: further damage is
/// counted each time it is read, and never as healed.
const EXTENTS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Damage {
    /// By the image's place and the extent: a bit per block.
    blocks: BTreeMap<(usize, Extent), u64>,
}

impl Damage {
    /// Blocks were read that do not match their checksums; how many of them are news.
    pub(super) fn found(&mut self, at: usize, extent: Extent, blocks: u64) -> u64 {
        let has_room = self.blocks.len() < EXTENTS_MAX;
        match self.blocks.get_mut(&(at, extent)) {
            Some(known) => {
                let news = blocks & !*known;
                *known |= blocks;
                u64::from(news.count_ones())
            }
            None => {
                if has_room {
                    self.blocks.insert((at, extent), blocks);
                }
                u64::from(blocks.count_ones())
            }
        }
    }

    /// Blocks hold something new; how many of them were damaged.
    pub(super) fn over(&mut self, at: usize, piece: Piece) -> u64 {
        if self.blocks.is_empty() {
            return 0;
        }
        let Some(known) = self.blocks.get_mut(&(at, piece.extent)) else { return 0 };
        let were = *known & piece.mask();
        *known &= !were;
        if *known == 0 {
            self.blocks.remove(&(at, piece.extent));
        }
        u64::from(were.count_ones())
    }

    /// The image is no more.
    pub(super) fn forget_image(&mut self, at: usize) {
        self.blocks.retain(|&(owner, _), _| owner != at);
    }

    /// Blocks known to be damaged now.
    pub(super) fn blocks_now(&self) -> u64 {
        self.blocks.values().map(|blocks| u64::from(blocks.count_ones())).sum()
    }
}
