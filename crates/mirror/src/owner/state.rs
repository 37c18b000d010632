//! SCSI state (M20): a few KiB of every image, written as a whole, in the volume's order, durably.
//!
//! The state extent has two homes, written in turn: whatever a crash leaves of the one that was being written, the
//! other still holds what was there before.
//!
//! ```text
//!  home = 16 blocks:  magic │ turn │ length │ sum of everything else │ state … zeros │ atomic write: first, blocks, sum, 0
//! ```

use dyad_contract::volume::{STATE_BYTES_MAX, VolumeDone, VolumeError, VolumeOp};
use dyad_payload::{BlockSum, Exhausted, Payload, Sums};
use dyad_units::{BLOCK_BYTES, Piece, STATE_EXTENT};

use crate::owner::atomic::Noted;
use crate::owner::core::Core;
use crate::owner::event::Action;
use crate::owner::op::{Op, Phase, Step};

const HOME_BLOCKS: u8 = 16;
const HOME_BYTES: usize = HOME_BLOCKS as usize * BLOCK_BYTES as usize;
const HOMES: [u8; 2] = [0, HOME_BLOCKS];

/// "DyadStat": what is not written yet begins with zeros, so it is no home.
const MAGIC: u64 = 0x4479_6164_5374_6174;
pub(crate) const HEAD_BYTES: usize = 32;
/// Where a home says what an atomic write is about to do (M21); zeros: there is none.
const NOTED_AT: usize = HOME_BYTES - 32;
const SUM_AT: usize = 24;

const _: () = assert!(HEAD_BYTES + STATE_BYTES_MAX <= NOTED_AT, "the state fits a home");

/// What a home holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Home {
    /// Never written.
    Empty,
    /// Written with this turn, so many bytes of state, and what it says of an atomic write.
    Kept { turn: u64, len: usize, noted: Option<Noted> },
    /// A crash tore it while it was written.
    Torn,
    /// No image in sync can read it.
    Unreadable,
}

impl Home {
    pub(crate) fn turn(self) -> u64 {
        if let Self::Kept { turn, .. } = self { turn } else { 0 }
    }
}

impl Core {
    /// The lock of the state is granted: reads both homes.
    pub(crate) fn start_state(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.steps.clear();
        for first in HOMES {
            op.steps.push(Step::new(home_piece(first), self.members.in_sync));
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
        let newest = usize::from(homes[1].turn() > homes[0].turn());
        let other = 1 - newest;
        if let Some(VolumeOp::WriteState { data }) = op.volume_op() {
            // What cannot be read is what is written anew; else what is older.
            let to = if homes[newest] == Home::Unreadable { newest } else { other };
            // Turns rise as numbers do, over all epochs: one that cannot be read just now may be there again later.
            let above = homes[newest].turn() + if unreadable.is_some() { 2 } else { 1 };
            let turn = above.max(self.numbers.last().value() + 1);
            let state = data.clone();
            return match self.home_step(to, turn, &state, None) {
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
            (None, _) => Err(VolumeError::Medium { offset: home_piece(HOMES[newest]).offset() }),
        };
        self.finish(op, result, out);
    }

    /// The write of one home, and of what it says of an atomic write.
    pub(crate) fn home_step(
        &mut self,
        to: usize,
        turn: u64,
        state: &Payload,
        noted: Option<Noted>,
    ) -> Result<Step, Exhausted> {
        let mut home = self.slab.take(HOME_BYTES)?;
        home.fill(0);
        home[..8].copy_from_slice(&MAGIC.to_le_bytes());
        home[8..16].copy_from_slice(&turn.to_le_bytes());
        home[16..24].copy_from_slice(&(state.len() as u64).to_le_bytes());
        state.copy_to(&mut home[HEAD_BYTES..HEAD_BYTES + state.len()]);
        if let Some(Noted { first, blocks, sum }) = noted {
            let words = [first, blocks, sum.0].map(u64::to_le_bytes);
            home[NOTED_AT..NOTED_AT + 24].copy_from_slice(words.as_flattened());
        }
        let sum = sum_of(&home);
        home[SUM_AT..HEAD_BYTES].copy_from_slice(&sum.0.to_le_bytes());
        let mut step = Step::new(home_piece(HOMES[to]), self.targets_of(STATE_EXTENT));
        step.data.push(home.freeze());
        step.sums = Some(Sums::of(&step.data, &self.slab)?);
        Ok(step)
    }
}

fn home_piece(first: u8) -> Piece {
    Piece::new(STATE_EXTENT, first, HOME_BLOCKS).expect("within the extent")
}

/// One sum for all blocks: that of their sums.
fn sum_of(home: &[u8]) -> BlockSum {
    let mut sums = [0; BLOCK_BYTES as usize];
    for (to, block) in sums.chunks_exact_mut(8).zip(home.chunks_exact(BLOCK_BYTES as usize)) {
        to.copy_from_slice(&BlockSum::of(block).0.to_le_bytes());
    }
    BlockSum::of(&sums)
}

/// What was read of a home.
pub(crate) fn judge(data: &Payload) -> Home {
    if data.len() != HOME_BYTES {
        return Home::Unreadable;
    }
    if data.is_zero() {
        return Home::Empty;
    }
    let mut bytes = data.to_vec();
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let (magic, turn, len, sum) = (word(&bytes, 0), word(&bytes, 8), word(&bytes, 16), word(&bytes, SUM_AT));
    bytes[SUM_AT..HEAD_BYTES].fill(0);
    let is_whole = magic == MAGIC && len <= STATE_BYTES_MAX as u64 && sum_of(&bytes) == BlockSum(sum);
    let (first, blocks) = (word(&bytes, NOTED_AT), word(&bytes, NOTED_AT + 8));
    let noted = Noted { first, blocks, sum: BlockSum(word(&bytes, NOTED_AT + 16)) };
    let noted = (blocks > 0).then_some(noted);
    if is_whole { Home::Kept { turn, len: len as usize, noted } } else { Home::Torn }
}
