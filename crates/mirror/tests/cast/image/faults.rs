//! What goes wrong with an image.

use std::collections::BTreeSet;

use dyad_contract::image::Request;
use dyad_payload::BlockSum;
use dyad_units::{Extent, Stamp};

use super::{BLOCK, Cell, Image, blocks};

impl Image {
    /// The process ends: what was carried out stays, of the rest nothing is known but what `torn` leaves.
    pub fn crash(&mut self, torn: impl Fn(u64) -> bool) {
        for pending in std::mem::take(&mut self.pending) {
            let (Request::Write(write) | Request::Mend(write), None) = (pending.request, pending.reply) else {
                continue;
            };
            self.note(write.piece, write.stamp, write.number.value(), write.settled.value());
            for block in blocks(write.piece).filter(|&block| torn(block)) {
                let sum = self.cells.get(&block).map_or(BlockSum(0), |cell| cell.sum);
                self.cells.insert(block, Cell { bytes: vec![0xEE; BLOCK], sum });
            }
        }
        let unsettled = self.written.iter().filter(|(number, ..)| *number > self.settled);
        self.unsettled.extend(unsettled.map(|(number, _, piece)| (*number, *piece)));
        self.written.clear();
        self.restart();
        // What a loss of power left suspect stays so through crashes of the process.
        self.lived_through |= self.suspects.is_empty();
        self.suspects.extend(self.unsettled.iter().map(|(_, piece)| piece.extent.0));
    }

    /// The connection breaks: what was asked and not answered may have arrived or not.
    pub fn cut_off(&mut self, arrived: impl Fn(usize) -> bool) {
        for at in (0..self.pending.len()).filter(|&at| arrived(at)) {
            self.execute(at);
        }
        self.pending.clear();
    }

    /// The machine ends: of what was not flushed, `kept` says which blocks stay.
    pub fn lose_power(&mut self, kept: impl Fn(u64) -> bool) {
        self.pending.clear();
        let new = std::mem::replace(&mut self.cells, self.durable.cells.clone());
        let blocks: BTreeSet<u64> = new.keys().chain(self.cells.keys()).copied().collect();
        for block in blocks.into_iter().filter(|&block| kept(block)) {
            match new.get(&block) {
                Some(cell) => drop(self.cells.insert(block, cell.clone())),
                None => drop(self.cells.remove(&block)),
            }
        }
        self.closed = self.durable.closed;
        self.lost.append(&mut self.healed);
        self.harden();
        self.written.clear();
        self.unsettled.clear();
        self.restart();
        self.lived_through = false;
        self.suspects = self.marks.keys().flat_map(|region| region.0 * 16..=region.0 * 16 + 15).collect();
        for (extent, stamp) in &mut self.stamps {
            if self.suspects.contains(extent) {
                *stamp = Stamp::NEWEST; // M1
            }
        }
    }

    /// After a loss of power, checksums of some blocks are as old as their data is new, or the other way round.
    pub fn spoil_sums(&mut self, spoilt: impl Fn(u64) -> bool) {
        let marked = |block: u64| self.marks.contains_key(&Extent((block / 64) as u32).region());
        for (block, cell) in self.cells.iter_mut().filter(|(block, _)| marked(**block) && spoilt(**block)) {
            cell.sum = BlockSum(*block);
        }
        self.harden();
    }

    /// As [`Self::rot`], on the disk.
    pub fn rot_durably(&mut self, block: u64) {
        self.rot(block);
        self.durable.cells.insert(block, self.cells[&block].clone());
    }

    fn restart(&mut self) {
        self.granted = 0;
        self.reserved.clear();
        self.failures.clear();
        self.examined.clear();
    }
}
