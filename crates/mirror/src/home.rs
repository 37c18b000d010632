//! What the two homes of the SCSI state hold (M20), and what they say of an atomic write that may be half done (M21).
//!
//! The state extent has two homes, written in turn: whatever a crash leaves of the one that was being written, the
//! other still holds what was there before.
//!
//! ```text
//!  home = 16 blocks:  magic │ turn │ length │ sum of everything else │ state … zeros │ atomic write: first, blocks, three sums
//! ```
//!
//! All numbers are little-endian, of eight bytes. The data of the atomic write lie in the hidden extents, from their first
//! block on. Where it has no blocks, `first` says whether one was taken back.

use dyad_contract::volume::{ATOMIC_BLOCKS_MAX, STATE_BYTES_MAX};
use dyad_payload::{BlockSum, Exhausted, Payload, Slab, Sums};
use dyad_units::{BLOCK_BYTES, Bytes, FIRST_HIDDEN, Piece, STATE_EXTENT};

use crate::owner::first_piece;

pub(crate) const HOME_BLOCKS: u8 = 16;
pub(crate) const HOME_BYTES: usize = HOME_BLOCKS as usize * BLOCK_BYTES as usize;
const HOMES: [u8; 2] = [0, HOME_BLOCKS];

/// "DyadStat": what is not written yet begins with zeros, so it is no home.
const MAGIC: u64 = 0x4479_6164_5374_6174;
pub(crate) const HEAD_BYTES: usize = 32;
/// Where a home says what an atomic write is about to do; zeros: there is none.
const NOTED_AT: usize = HOME_BYTES - 40;
const SUM_AT: usize = 24;
/// In the place of an atomic write's first block: one was taken back.
const TAKEN_BACK: u64 = 1;
/// Turns rise by one or two, or to a write's number: none is so high that it could not rise any more.
const TURN_MAX: u64 = u64::MAX - (1 << 32);

const _: () = assert!(HEAD_BYTES + STATE_BYTES_MAX <= NOTED_AT, "the state fits a home");
const _: () = assert!(ATOMIC_BLOCKS_MAX * 8 <= BLOCK_BYTES as u64, "the sums of all blocks fit one");

/// What a home says of an atomic write that may be half done. Whoever shows an image by itself, past its owner, puts what was
/// to be written over what he reads; an owner carries it out before anybody sees the range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Noted {
    /// First block of its range in the volume.
    pub first: u64,
    /// How many.
    pub blocks: u64,
    /// Of the data in the hidden extents: those of another write, or a part of them, are no intent.
    pub(crate) sum: BlockSum,
    /// Of their first block, where others cannot be read.
    pub(crate) head: BlockSum,
    /// Of what was in the range before: as long as it is, nothing was changed there.
    pub(crate) was: BlockSum,
}

/// What a home says of atomic writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mark {
    Nothing,
    /// One was taken back, and must not come again (M19): before this counts it is made durable.
    TakenBack,
    /// This one may be half done.
    Intent(Noted),
}

impl Noted {
    /// Where the two homes lie.
    pub fn homes() -> [Piece; 2] {
        HOMES.map(|first| Piece::new(STATE_EXTENT, first, HOME_BLOCKS).expect("within the extent"))
    }

    /// What the homes of an image say, as they were read; what cannot be read is empty: then nothing is known, as it may be the
    /// newer one. `size` is that of the volume.
    pub fn of(homes: [&Payload; 2], size: Bytes) -> Option<Self> {
        let homes = homes.map(judge);
        if homes.contains(&Home::Unreadable) {
            return None;
        }
        let Home::Kept { mark: Mark::Intent(noted), .. } = homes[newest(homes)] else { return None };
        noted.is_valid(size.value()).then_some(noted)
    }

    /// Whether its range lies within the volume.
    pub(crate) fn is_valid(&self, size: u64) -> bool {
        let end = self.first.checked_add(self.blocks).and_then(|end| end.checked_mul(u64::from(BLOCK_BYTES)));
        let fits = self.blocks > 0 && self.blocks <= ATOMIC_BLOCKS_MAX;
        fits && end.is_some_and(|end| end <= size.next_multiple_of(u64::from(BLOCK_BYTES)))
    }

    /// Where what was to be written lies, in order.
    pub fn hidden(&self) -> impl Iterator<Item = Piece> + use<> {
        let mut next = Piece::whole(FIRST_HIDDEN).block().0;
        let end = next + self.blocks;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let piece = first_piece(next, end - 1);
                next += u64::from(piece.count());
                piece
            })
        })
    }

    /// What a home says of these data, whose blocks have these sums, where the range has that one now.
    pub(crate) fn new(first: u64, data: &Payload, sums: &Sums, was: BlockSum) -> Self {
        let blocks = data.len() as u64 / u64::from(BLOCK_BYTES);
        Self { first, blocks, sum: one_sum(sums.iter()), head: sums.iter().next().unwrap_or_default(), was }
    }

    /// Whether this, read from the first hidden block on, is of something else for certain, although the rest cannot be read.
    pub fn is_foreign(&self, data: &Payload) -> bool {
        let first = data.slice(0, data.len().min(BLOCK_BYTES as usize)).to_vec();
        first.len() == BLOCK_BYTES as usize && BlockSum::of(&first) != self.head
    }

    /// Whether this is what was to be written. If not, power was lost before all of it was there, and nothing of the range was
    /// changed.
    ///
    /// # Errors
    ///
    /// [`Exhausted`]: no buffer for the sums just now.
    pub fn is_of(&self, data: &Payload, slab: &Slab) -> Result<bool, Exhausted> {
        Ok(data.len() as u64 == self.blocks * u64::from(BLOCK_BYTES)
            && one_sum(Sums::of(data, slab)?.iter()) == self.sum)
    }
}

/// One sum for all of them.
pub(crate) fn one_sum(sums: impl Iterator<Item = BlockSum>) -> BlockSum {
    let mut block = [0; BLOCK_BYTES as usize];
    for (to, sum) in block.chunks_exact_mut(8).zip(sums) {
        to.copy_from_slice(&sum.0.to_le_bytes());
    }
    BlockSum::of(&block)
}

/// What a home holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Home {
    /// Never written.
    Empty,
    /// Written with this turn, so many bytes of state, and what it says of an atomic write.
    Kept { turn: u64, len: usize, mark: Mark },
    /// A crash tore it while it was written, or no owner wrote it.
    Torn,
    /// No image in sync can read it.
    Unreadable,
}

impl Home {
    pub(crate) fn turn(self) -> u64 {
        if let Self::Kept { turn, .. } = self { turn } else { 0 }
    }
}

/// Which of the two was written last.
pub(crate) fn newest(homes: [Home; 2]) -> usize {
    usize::from(homes[1].turn() > homes[0].turn())
}

/// Makes a home of a buffer.
pub(crate) fn fill(home: &mut [u8], turn: u64, state: &Payload, mark: Mark) {
    home.fill(0);
    home[..8].copy_from_slice(&MAGIC.to_le_bytes());
    home[8..16].copy_from_slice(&turn.to_le_bytes());
    home[16..24].copy_from_slice(&(state.len() as u64).to_le_bytes());
    state.copy_to(&mut home[HEAD_BYTES..HEAD_BYTES + state.len()]);
    let words = match mark {
        Mark::Nothing => [0; 5],
        Mark::TakenBack => [TAKEN_BACK, 0, 0, 0, 0],
        Mark::Intent(Noted { first, blocks, sum, head, was }) => [first, blocks, sum.0, head.0, was.0],
    };
    home[NOTED_AT..].copy_from_slice(words.map(u64::to_le_bytes).as_flattened());
    let sum = sum_of(home);
    home[SUM_AT..HEAD_BYTES].copy_from_slice(&sum.0.to_le_bytes());
}

/// One sum for all blocks of a home: that of their sums.
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
    let is_possible = magic == MAGIC && turn < TURN_MAX && len <= STATE_BYTES_MAX as u64;
    if !is_possible || sum_of(&bytes) != BlockSum(sum) {
        return Home::Torn;
    }
    let [first, blocks, sum, head, was] = [0, 8, 16, 24, 32].map(|at| word(&bytes, NOTED_AT + at));
    let [sum, head, was] = [sum, head, was].map(BlockSum);
    let mark = match (blocks, first) {
        (0, TAKEN_BACK) => Mark::TakenBack,
        (0, _) => Mark::Nothing,
        _ => Mark::Intent(Noted { first, blocks, sum, head, was }),
    };
    Home::Kept { turn, len: len as usize, mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(turn: u64, mark: Mark) -> Payload {
        let mut bytes = Slab::new(HOME_BYTES).take(HOME_BYTES).unwrap();
        fill(&mut bytes, turn, &Payload::new(), mark);
        bytes.freeze().into()
    }

    const NOTED: Noted = Noted { first: 7, blocks: 3, sum: BlockSum(1), head: BlockSum(2), was: BlockSum(3) };

    #[test]
    fn what_a_home_says_reads_back() {
        for mark in [Mark::Nothing, Mark::TakenBack, Mark::Intent(NOTED)] {
            assert_eq!(judge(&home(5, mark)), Home::Kept { turn: 5, len: 0, mark });
        }
        assert_eq!(judge(&home(TURN_MAX, Mark::Nothing)), Home::Torn, "no next turn would be newer");
    }

    #[test]
    fn a_range_beyond_the_volume_is_no_intent() {
        let is_valid = |first, blocks, size| Noted { first, blocks, ..NOTED }.is_valid(size);
        let block = u64::from(BLOCK_BYTES);
        assert!(is_valid(7, 3, 10 * block) && is_valid(7, 3, 10 * block - 512));
        assert!(!is_valid(7, 3, 9 * block) && !is_valid(7, 0, 10 * block));
        assert!(!is_valid(0, ATOMIC_BLOCKS_MAX + 1, 1 << 40));
        assert!(!is_valid(u64::MAX, 3, 1 << 40) && !is_valid(u64::MAX / block, 2, u64::MAX - block));
    }
}
