//! Healing (P14): damaged blocks of one image are rewritten from another, under the range lock.
//!
//! A read that met them was answered from the other image already; the heal is an operation of its own, so
//! that reads share their locks and hosts do not wait for it.

use dyad_payload::Sums;
use dyad_units::{Extent, Piece};

use crate::core::Core;
use crate::event::{Action, ImageIndex, Note};
use crate::images::Images;
use crate::op::{Heal, Op, Step, Task};
use crate::status::MirrorState;

/// Heals waiting or under way at once; damage beyond is found again by the next read or scrub.
const HEALS_MAX: usize = 16;

impl Core {
    /// Blocks of an image were found damaged: rewrite them if another image can give them.
    pub(crate) fn want_heal(&mut self, image: ImageIndex, extent: Extent, blocks: u64) {
        let others = self.members.readable().minus(Images::one(image)).minus(self.members.gone);
        let is_serving = self.state == MirrorState::Serving;
        if !is_serving || blocks == 0 || others.is_empty() || self.suspects.contains(extent) {
            return;
        }
        for heal in &mut self.heals {
            if (heal.image, heal.extent) == (image, extent) {
                heal.blocks |= blocks;
                return;
            }
        }
        if self.heals.len() < HEALS_MAX {
            let heal = Heal { image, extent, blocks };
            self.heals.push(heal);
            self.wanted.push_back(Task::Heal(heal));
        }
    }

    /// The lock is granted: read the blocks from the other images, one by one.
    pub(crate) fn start_heal(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Task::Heal(heal) = &mut op.task else { return };
        // What was found damaged since it was wanted is healed in one go.
        let known = self.heals.iter().position(|known| (known.image, known.extent) == (heal.image, heal.extent));
        if let Some(known) = known {
            *heal = self.heals.swap_remove(known);
        }
        let heal = *heal;
        let sources = self.members.readable().minus(Images::one(heal.image));
        if self.state != MirrorState::Serving || !self.members.readable().contains(heal.image) || sources.is_empty() {
            return self.end_own(op);
        }
        for at in (0..64).filter(|at| heal.blocks & 1 << at != 0) {
            let piece = Piece::new(heal.extent, at, 1).expect("a block of the extent");
            op.steps.push(Step::new(piece, sources));
        }
        self.start_reads(op, out);
    }

    /// What could be read is written to the image that had it damaged.
    pub(crate) fn on_heal_read(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Task::Heal(Heal { image, .. }) = op.task else { return };
        op.failure = None;
        if !self.members.readable().contains(image) {
            return self.end_own(op);
        }
        op.steps.retain(|step| !step.data.is_empty());
        for step in &mut op.steps {
            step.targets = Images::one(image);
            match Sums::of(&step.data, &self.slab) {
                Ok(sums) => step.sums = Some(sums),
                Err(_) => return self.end_own(op),
            }
        }
        if op.steps.is_empty() {
            self.end_own(op);
        } else {
            self.start_reserving(op, out);
        }
    }

    /// The blocks are good again, unless the image failed them.
    pub(crate) fn on_healed(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let Task::Heal(Heal { image, .. }) = op.task else { return };
        if op.failure.is_none() && self.members.readable().contains(image) {
            let blocks = op.steps.len() as u32;
            self.counters.healed += u64::from(blocks);
            out.push(Action::Note(Note::Healed { image, blocks }));
        }
        self.end_own(op);
    }
}
