//! While a run goes on: whenever the owner has nothing under way,
//!
//! - the images in sync hold the same, byte for byte (A1, M2, M9, M14, M16): a difference is found while it is there,
//!   though the next write would hide it;
//! - where an image that is out holds something else, a resync that began now would find that (M1, M4, M10, M13, M15):
//!   stamps and closed values are judged before they matter.
//!
//! Nothing is asked of anybody, so that a run is the same with and without it.

use dyad_cluster::ImageState;
use dyad_mirror::{MirrorState, MirrorStatus};
use dyad_pool::{ImageMeta, Peek};
use dyad_units::{Extent, ImageId, STATE_EXTENT};

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

/// An image that is held against others.
#[derive(Clone, Copy, Debug)]
struct Copy {
    node: NodeNo,
    image: ImageId,
    /// It is not in sync.
    is_behind: bool,
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

    /// The images that obey the owner, one in sync first; none: something is under way.
    fn calm_images(&self, owner: NodeNo, segment: usize) -> Option<Vec<Copy>> {
        // A disk that fails may lose what was answered, and its node need not have noticed.
        if self.excuses.medium || self.excuses.disk {
            return None;
        }
        let record = &self.segments[segment].stored;
        let mirror = self.slot(owner, segment)?.part.status().mirror?;
        let is_idle = mirror.in_flight == 0 && mirror.suspect == 0 && !mirror.is_replaying;
        let is_calm = mirror.state == MirrorState::Serving && is_idle;
        if !is_calm || mirror.epoch != record.epoch {
            return None;
        }
        let mut found: Vec<Copy> = Vec::new();
        for image in &record.images {
            let is_behind = image.state != ImageState::InSync;
            let Some(node) = self.place(image.node).filter(|_| image.state != ImageState::Detached) else { continue };
            if self.follows(owner, &mirror, (node, segment), image.id) {
                found.push(Copy { node, image: image.id, is_behind });
            }
        }
        found.sort_by_key(|copy| (copy.is_behind, copy.node != owner));
        let has_source = found.first().is_some_and(|source| !source.is_behind);
        Some(found).filter(|found| has_source && found.len() > 1)
    }

    /// Whether nothing has to be compared any more, or may have to.
    pub(super) fn is_compared(&self) -> bool {
        (0..self.segments.len()).all(|segment| {
            let mirror = self.owner(segment).and_then(|owner| self.slot(owner, segment)?.part.status().mirror);
            let is_of_now = |mirror: &MirrorStatus| mirror.epoch == self.segments[segment].stored.epoch;
            mirror
                .is_some_and(|mirror| mirror.state == MirrorState::Serving && mirror.suspect == 0 && is_of_now(&mirror))
        })
    }

    /// Where the SCSI state of the first segment lies on a node's disk.
    pub(super) fn offset_of_state(&self, node: NodeNo) -> Option<u64> {
        let image = self.slot(node, 0)?.images.first()?.0;
        let copy = Copy { node, image, is_behind: false };
        self.found(copy, 0, u64::from(STATE_EXTENT.0) * 64)?.1.offset
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

    fn compare_some(&mut self, segment: usize, copies: &[Copy]) -> Run {
        let touched = self.book.touched(segment);
        let epoch = self.segments[segment].stored.epoch.value();
        let calm = &self.segments[segment].calm;
        let is_whole = calm.epoch != epoch;
        let (from, count) = if is_whole { (0, touched.len()) } else { (calm.next, SOME.min(touched.len())) };
        let next = (from + count).checked_rem(touched.len()).unwrap_or(0);
        self.segments[segment].calm = Calm { at: self.queue.now() + PAUSE, epoch, next };
        let [mut one, mut other] = [[0; BLOCK]; 2];
        let (source, rest) = (copies[0], &copies[1..]);
        for at in from..from + count {
            let block = touched[at % touched.len()];
            self.peek(source, segment, block, &mut one);
            for &copy in rest {
                self.peek(copy, segment, block, &mut other);
                if one != other && !(copy.is_behind && self.is_needed(segment, source, copy, block)) {
                    return self.differs(segment, source, copy, block);
                }
            }
        }
        self.coverage.count_by("blocks compared while a run went on", count as u64);
        Ok(())
    }

    fn differs(&mut self, segment: usize, source: Copy, copy: Copy, block: u64) -> Run {
        let (first, node) = (source.node, copy.node);
        let what =
            if copy.is_behind { "and no resync would find that" } else { "both in sync, with nothing under way" };
        let known = self.book.tell(segment, block);
        violation(format!("block {block} of segment {segment} differs between nodes {first} and {node}, {what}{known}"))
    }

    /// M13, M15: whether a resync that began now would copy the block.
    fn is_needed(&self, segment: usize, source: Copy, behind: Copy, block: u64) -> bool {
        let (Some((_, has)), Some((meta, lacks))) =
            (self.found(source, segment, block), self.found(behind, segment, block))
        else {
            return true;
        };
        let is_below = meta.cursor.is_some_and(|cursor| block / 64 < u64::from(cursor.0));
        let worth = if is_below { meta.complete } else { meta.closed };
        let worth = self.segments[segment].stored.closed_after_forks(worth);
        has.stamp > worth || lacks.stamp > worth || lacks.is_lost
    }

    fn found(&self, copy: Copy, segment: usize, block: u64) -> Option<(&ImageMeta, Peek)> {
        let images = &self.slot(copy.node, segment)?.images;
        let handle = images.iter().find(|(id, _)| *id == copy.image).map(|(_, handle)| *handle)?;
        let pool = self.machines[copy.node].process.as_ref()?.pool.as_ref()?;
        let (_, meta) = pool.images().find(|(known, _)| *known == handle)?;
        Some((meta, pool.peek(handle, Extent((block / 64) as u32))?))
    }

    /// What the image would show of a block.
    fn peek(&self, copy: Copy, segment: usize, block: u64, to: &mut [u8; BLOCK]) {
        to.fill(0);
        let Some((_, found)) = self.found(copy, segment, block) else { return };
        if let Some(offset) = found.offset.filter(|_| found.written >> (block % 64) & 1 == 1) {
            self.machines[copy.node].disk.peek(offset + block % 64 * BLOCK as u64, to);
        }
    }
}
