//! Healing (P14): damaged blocks of one image are rewritten from another, under the range lock.
//!
//! A read that met them was answered from the other image already; the heal is an operation of its own, so
//! that reads share their locks and hosts do not wait for it. It looks at the extent afresh once it has the
//! lock, for the damage may have been overwritten or unmapped meanwhile, and then goes the way of equalising:
//! only blocks that are bad now take another image's certain ones, and nothing is believed.

use dyad_units::Extent;

use crate::owner::core::Core;
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;
use crate::owner::op::{Equalise, Kind, Op, Task};
use crate::owner::status::MirrorState;

/// Heals waiting at once; damage beyond is found again by the next read or scrub.
const HEALS_MAX: usize = 16;

impl Core {
    /// Blocks of an extent were found damaged on an image: have them healed if another image may give them.
    pub(crate) fn want_heal(&mut self, image: ImageIndex, extent: Extent) {
        let others = self.members.readable().minus(Images::one(image)).minus(self.members.gone);
        let is_wanted = self.state == MirrorState::Serving && !others.is_empty() && !self.suspects.contains(extent);
        if is_wanted && !self.heals.contains(&extent) && self.heals.len() < HEALS_MAX {
            self.heals.push(extent);
            self.wanted.push_back(Task::Equalise(Box::new(Equalise::new(extent, Kind::Heal))));
        }
    }

    /// The lock is granted; damage found from now on wants a heal of its own.
    pub(crate) fn begin_heal(&mut self, extent: Extent) {
        self.heals.retain(|&known| known != extent);
    }

    /// The bad blocks are good again, unless an image failed them.
    pub(crate) fn on_healed(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if op.failure.is_none() {
            for image in self.members.readable() {
                let mended = op.steps.iter().filter(|step| step.targets.contains(image));
                let blocks = mended.map(|step| u32::from(step.piece.count())).sum();
                if blocks > 0 {
                    self.counters.healed += u64::from(blocks);
                    out.push(Action::Note(Note::Healed { image, blocks }));
                }
            }
        }
        self.end_own(op);
    }
}
