//! Looking at a segment at rest: what the host reads, and whether its images are equal.

use dyad_cluster::ImageState;
use dyad_contract::image::{BlockState, Reply, Request, Token};
use dyad_contract::volume::VolumeOp;
use dyad_payload::BlockSum;
use dyad_units::{BLOCKS_PER_EXTENT, Extent, Span};

use super::{HAPPENINGS_TO_REST, Mirrored};
use crate::mirrored::host::HostOp;
use crate::model::Violation;
use crate::pattern::BLOCK;
use crate::player::Stop;

/// Far above every token that the mirror chooses.
const INSPECTION: Token = Token(u64::MAX);
/// Blocks read at a time.
const STRIDE: u64 = 128;

impl Mirrored {
    /// Comes to rest, reads all that the host may have touched, and compares the in-sync images.
    pub fn inspect(&mut self) -> Result<(), Stop> {
        self.rest()?;
        self.read_everything()?;
        self.compare_images()
    }

    /// Reads everything two times: what the first reading found damaged, it had healed for the second (P14).
    pub fn read_twice(&mut self) -> Result<(), Stop> {
        self.read_everything()?;
        self.read_everything()
    }

    fn read_everything(&mut self) -> Result<(), Stop> {
        for first in (0..self.cast.blocks).step_by(STRIDE as usize) {
            let count = STRIDE.min(self.cast.blocks - first);
            let span = Span::new(first * BLOCK as u64, count * BLOCK as u64).expect("within the segment");
            let abort = std::mem::take(&mut self.cast.habits.abort);
            self.ask(HostOp::Read { first, count }, VolumeOp::Read { span });
            self.cast.habits.abort = abort;
            self.rest()?;
        }
        Ok(())
    }

    /// M9, P8: at rest the images that the record names in sync hold the same.
    fn compare_images(&mut self) -> Result<(), Stop> {
        let in_sync: Vec<usize> =
            (0..self.sides.len()).filter(|&at| self.stored.images[at].state == ImageState::InSync).collect();
        for extent in (0..self.cast.blocks / u64::from(BLOCKS_PER_EXTENT)).map(|extent| Extent(extent as u32)) {
            let mut seen = Vec::new();
            for &at in &in_sync {
                seen.push(self.contents(at, extent)?);
            }
            if let Some(at) = (1..seen.len()).find(|&at| seen[at] != seen[0]) {
                let block = (0..64).find(|&block| seen[at][block] != seen[0][block]).unwrap_or_default();
                let (one, other) = (in_sync[0], in_sync[at]);
                let text = format!("images {one} and {other} differ in block {block} of extent {}", extent.0);
                return Err(Violation(text).into());
            }
        }
        Ok(())
    }

    fn contents(&mut self, at: usize, extent: Extent) -> Result<Vec<Option<BlockSum>>, Stop> {
        let zeros = BlockSum::of(&[0; BLOCK]);
        let side = &mut self.sides[at];
        side.rig.submit(side.handle, INSPECTION, Request::Examine { extent });
        for _ in 0..HAPPENINGS_TO_REST {
            let mut examined = None;
            for (_, token, reply) in side.rig.replies() {
                match reply {
                    Reply::Examined(found) if token == INSPECTION => examined = Some(found),
                    reply => return Err(Violation(format!("{token:?} was answered by {reply:?} at rest")).into()),
                }
            }
            side.rig.hand_over();
            if let Some(examined) = examined {
                let sum = |state: &BlockState| match state {
                    BlockState::Unwritten | BlockState::Missing => Some(zeros),
                    BlockState::Verified(sum) => Some(*sum),
                    BlockState::Unverified(_) | BlockState::Unreadable => None,
                };
                let sums: Vec<_> = examined.blocks.iter().map(sum).collect();
                if self.excuses.medium || !sums.contains(&None) {
                    return Ok(sums);
                }
                let text = format!("image {at} in sync has bad blocks in extent {}: {:?}", extent.0, examined.blocks);
                return Err(Violation(text).into());
            }
            side.rig.step();
        }
        Err(Violation("an examination at rest is never answered".into()).into())
    }
}
