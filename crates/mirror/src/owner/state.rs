//! SCSI state (M20): a few KiB of every image, written as a whole, in the volume's order, durably. How it lies there is
//! [`home`]'s to say.

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_payload::{Exhausted, Payload, Sums};
use dyad_units::{BLOCK_BYTES, Piece, STATE_EXTENT};

use crate::home::{self, HEAD_BYTES, HOME_BYTES, Home, Mark, Noted, judge, newest};
use crate::owner::core::Core;
use crate::owner::event::Action;
use crate::owner::op::{Op, Phase, Step};

impl Core {
    /// The lock of the state is granted: reads both homes.
    pub(crate) fn start_state(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.steps.clear();
        for home in Noted::homes() {
            op.steps.push(Step::new(home, self.members.in_sync));
        }
        self.start_reads(op, out);
    }

    /// Both homes were read, or cannot be.
    pub(crate) fn on_state_read(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if let Some(error) = op.failure.take_if(|error| !matches!(error, VolumeError::Medium { .. })) {
            return self.finish(op, Err(error), out);
        }
        let unreadable = op.failure.take();
        let homes = [0, 1].map(|at| judge(&op.steps[at].data));
        let newest = newest(homes);
        let other = 1 - newest;
        if let Some(VolumeOp::WriteState { data }) = op.volume_op() {
            // What cannot be read is what is written anew; else what is older.
            let to = if homes[newest] == Home::Unreadable { newest } else { other };
            // Turns rise as numbers do, over all epochs: one that cannot be read just now may be there again later.
            let above = homes[newest].turn() + if unreadable.is_some() { 2 } else { 1 };
            let turn = above.max(self.numbers.last().value() + 1);
            let state = data.clone();
            let step = match homes {
                [Home::Unreadable, Home::Unreadable] => self.both_homes_step(turn, &state),
                _ => self.home_step(to, turn, &state, Mark::Nothing),
            };
            return match step {
                Ok(step) => {
                    op.steps.clear();
                    op.steps.push(step);
                    self.start_space(op, Phase::Applying, out);
                }
                Err(Exhausted { .. }) => self.finish(op, Err(VolumeError::Busy), out),
            };
        }
        let result = match (unreadable, homes[newest]) {
            // The one that cannot be read may be the newer one: nobody is told what was true before it.
            (Some(error), _) => Err(error),
            (None, Home::Kept { len, .. }) => {
                Ok(VolumeDone::Data(std::mem::take(&mut op.steps[newest].data).slice(HEAD_BYTES, len)))
            }
            // Of the first write ever nothing was answered yet.
            (None, _) if homes.contains(&Home::Empty) => Ok(VolumeDone::Data(Payload::new())),
            (None, _) => Err(VolumeError::Medium { offset: Noted::homes()[newest].offset() }),
        };
        self.finish(op, result, out);
    }

    /// The write of one home, and of what it says of an atomic write.
    pub(crate) fn home_step(&mut self, to: usize, turn: u64, state: &Payload, mark: Mark) -> Result<Step, Exhausted> {
        let mut bytes = self.slab.take(HOME_BYTES)?;
        home::fill(&mut bytes, turn, state, mark);
        let mut step = Step::new(Noted::homes()[to], self.targets_of(STATE_EXTENT));
        step.data.push(bytes.freeze());
        step.sums = Some(Sums::of(&step.data, &self.slab)?);
        Ok(step)
    }

    /// The write of both homes, of which none can be read: of all of the extent, as only that heals one that the disk lost
    /// (P12), and both the same, as one that was left would go on hiding what is newer. The second has the higher turn, so it
    /// is the first that is written over next.
    fn both_homes_step(&mut self, turn: u64, state: &Payload) -> Result<Step, Exhausted> {
        let piece = Piece::whole(STATE_EXTENT);
        let mut bytes = self.slab.take(piece.len())?;
        bytes.fill(0);
        for (home, turn) in Noted::homes().into_iter().zip(turn..) {
            let at = usize::from(home.first()) * BLOCK_BYTES as usize;
            home::fill(&mut bytes[at..at + HOME_BYTES], turn, state, Mark::Nothing);
        }
        let mut step = Step::new(piece, self.targets_of(STATE_EXTENT));
        step.data.push(bytes.freeze());
        step.sums = Some(Sums::of(&step.data, &self.slab)?);
        Ok(step)
    }
}
