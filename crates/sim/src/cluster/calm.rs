//! While a run goes on: whenever the owner has nothing under way, the images in sync hold the same, byte for byte (A1, M2,
//! M9, M14, M16). A difference is found while it is there, though the next write would hide it.
//!
//! Nothing is asked of anybody, so that a run is the same with and without it.

use dyad_mirror::{MirrorState, MirrorStatus};
use dyad_units::{Extent, ImageId};

use super::machine::{PartSlot, node_id};
use super::net::NodeNo;
use super::queue::{MILLIS, Time};
use super::world::{Run, World, violation};
use crate::pattern::BLOCK;

/// A look that found the owner busy is taken again after this.
const AGAIN: Time = 10 * MILLIS;
/// Between two looks at some of the blocks.
const PAUSE: Time = 500 * MILLIS;
/// So many blocks, in turn. All are looked at after each change of the record.
const SOME: usize = 48;

/// What was looked at so far.
#[derive(Debug, Default)]
pub struct Calm {
    /// Not before.
    at: Time,
    /// Epoch in which all blocks were looked at.
    epoch: u32,
    /// Where to go on.
    next: usize,
}

impl Calm {
    /// The record changed: the next calm moment counts.
    pub fn hurry(&mut self) {
        self.at = 0;
    }
}

impl World {
    /// The node has done what there was to do: looks at what it owns, if it is time and nothing is under way.
    pub(super) fn look_when_calm(&mut self, node: NodeNo) -> Run {
        for segment in 0..self.segments.len() {
            if self.owner(segment) == Some(node) && self.segments[segment].calm.at <= self.queue.now() {
                let Some(images) = self.calm_images(node, segment) else {
                    self.segments[segment].calm.at = self.queue.now() + AGAIN;
                    continue;
                };
                self.compare_some(segment, &images)?;
            }
        }
        Ok(())
    }

    /// The images that have to be equal now, and where they are; none: something is under way.
    fn calm_images(&self, owner: NodeNo, segment: usize) -> Option<Vec<(NodeNo, ImageId)>> {
        // A disk that fails may lose what was answered, and its node need not have noticed.
        if self.excuses.medium || self.excuses.disk {
            return None;
        }
        let record = &self.segments[segment].stored;
        let mirror = self.slot(owner, segment)?.part.status().mirror?;
        let is_calm = mirror.state == MirrorState::Serving && mirror.in_flight == 0 && mirror.suspect == 0;
        if !is_calm || mirror.epoch != record.epoch {
            return None;
        }
        let all = record.in_sync().filter_map(|image| Some((self.place(image.node)?, image.id)));
        let followed = all.filter(|&(node, image)| self.follows(owner, &mirror, (node, segment), image));
        Some(followed.collect()).filter(|images: &Vec<_>| images.len() > 1)
    }

    fn slot(&self, node: NodeNo, segment: usize) -> Option<&PartSlot> {
        self.machines[node].process.as_ref()?.parts[segment].as_ref()
    }

    /// Whether the image obeys the owner in its epoch, and is not about to leave.
    fn follows(&self, owner: NodeNo, mirror: &MirrorStatus, (node, segment): (NodeNo, usize), image: ImageId) -> bool {
        let is_failing = mirror.images.iter().any(|known| known.id == image && known.is_failing);
        let Some(slot) = self.slot(node, segment).filter(|_| !is_failing) else { return false };
        let status = slot.part.status();
        let obeys = status.images.iter().find(|known| known.id == image).is_some_and(|known| {
            known.is_up && known.adopted == Some(mirror.epoch) && known.obeys == Some(node_id(owner))
        });
        let pool = self.machines[node].process.as_ref().and_then(|process| process.pool.as_ref());
        obeys && pool.is_some_and(|pool| !pool.usage().poisoned)
    }

    fn compare_some(&mut self, segment: usize, images: &[(NodeNo, ImageId)]) -> Run {
        let touched = self.book.touched(segment);
        let epoch = self.segments[segment].stored.epoch.value();
        let calm = &self.segments[segment].calm;
        let is_whole = calm.epoch != epoch;
        let (from, count) = if is_whole { (0, touched.len()) } else { (calm.next, SOME.min(touched.len())) };
        let [mut one, mut other] = [[0; BLOCK]; 2];
        for at in from..from + count {
            let block = touched[at % touched.len()];
            let ((first, image), rest) = (images[0], &images[1..]);
            self.peek(first, segment, image, block, &mut one);
            for &(node, image) in rest {
                self.peek(node, segment, image, block, &mut other);
                if one != other {
                    let known = self.book.tell(segment, block);
                    return violation(format!(
                        "block {block} of segment {segment} differs between nodes {first} and {node}, both in sync, with \
                         nothing under way{known}"
                    ));
                }
            }
        }
        self.coverage.count_by("blocks compared while a run went on", count as u64);
        let at = self.queue.now() + PAUSE;
        self.segments[segment].calm =
            Calm { at, epoch, next: if touched.is_empty() { 0 } else { (from + count) % touched.len() } };
        Ok(())
    }

    /// What the image would show of a block.
    fn peek(&self, node: NodeNo, segment: usize, image: ImageId, block: u64, to: &mut [u8; BLOCK]) {
        to.fill(0);
        let machine = &self.machines[node];
        let handle = self.slot(node, segment).and_then(|slot| slot.images.iter().find(|(id, _)| *id == image));
        let pool = machine.process.as_ref().and_then(|process| process.pool.as_ref());
        let (Some((_, handle)), Some(pool)) = (handle, pool) else { return };
        let Some(found) = pool.peek(*handle, Extent((block / 64) as u32)) else { return };
        if let Some(offset) = found.offset.filter(|_| found.written >> (block % 64) & 1 == 1) {
            machine.disk.peek(offset + block % 64 * BLOCK as u64, to);
        }
    }
}
