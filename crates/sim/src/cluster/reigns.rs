//! Owners, judged while a run goes on: nobody answers a read after the next one did, nor hands over amid what is under way.

use dyad_cluster::{ImageState, SegmentRecord};
use dyad_contract::volume::{VolumeDone, VolumeResult};
use dyad_mirror::MirrorState;

use super::machine::{PartSlot, Process, node_id};
use super::net::NodeNo;
use super::world::{Run, Segment, World, in_sync, violation};
use crate::model::Violation;

impl World {
    /// M5: whoever answers a read as owner must not be one whom another owner has followed.
    pub(super) fn judge_reign(&mut self, node: NodeNo, segment: usize, result: &VolumeResult) -> Run {
        if !matches!(result, Ok(VolumeDone::Data(_))) || self.is_loose {
            return Ok(());
        }
        let known = &mut self.segments[segment];
        let reign = known.reigns[node];
        if reign < known.answered {
            let newer = known.answered;
            return violation(format!(
                "node {node}, owner of segment {segment} in epoch {reign}, answers a read after the owner of epoch {newer} did"
            ));
        }
        known.answered = reign;
        Ok(())
    }

    /// An owner that names another one of its own will has let all that was under way end before (M12). Whether it is one.
    pub(super) fn judge_hand_over(
        &self,
        node: NodeNo,
        process: &Process,
        segment: usize,
        record: &SegmentRecord,
    ) -> Result<bool, Violation> {
        let slot = process.parts[segment].as_ref();
        let is_amid = slot.is_some_and(|slot| !slot.asked.is_empty());
        let mirror = slot.and_then(|slot| slot.part.status().mirror);
        let is_planned = mirror.is_some_and(|mirror| mirror.state == MirrorState::HandingOver);
        let me = node_id(node);
        // An image that failed is taken out with what it never answered (M8).
        let is_kept = in_sync(record).any(|image| image.node == me);
        match is_planned && is_kept && record.owner != Some(me) {
            true if is_amid => {
                violation(format!("node {node} hands segment {segment} over amid reads or writes of its image (M12)"))
            }
            hands_over => Ok(hands_over),
        }
    }

    /// Whether an owner serves and has suspect extents left (M9).
    pub(super) fn is_comparing(&self) -> bool {
        let compares = |part: &PartSlot| {
            let mirror = part.part.status().mirror;
            mirror.is_some_and(|mirror| mirror.state == MirrorState::Serving && mirror.suspect > 0)
        };
        self.machines
            .iter()
            .filter_map(|machine| machine.process.as_ref())
            .any(|process| process.parts.iter().flatten().any(compares))
    }

    /// Whether an image is being caught up.
    pub(super) fn is_resyncing(&self) -> bool {
        let is_syncing =
            |segment: &Segment| segment.stored.images.iter().any(|image| image.state == ImageState::Syncing);
        self.segments.iter().any(is_syncing)
    }
}
