//! Bytes on their way between a socket and a disk, never copied in user space.
//!
//! ```text
//!  Slab --take--> BufMut --(socket or disk fills it)--freeze--> Buf --slice, clone--> Payload
//!    ^                                                            |
//!    +--------------------- last owner drops ---------------------+
//! ```
//!
//! A [`BufMut`] is the only owner of its memory and may be filled; frozen into a [`Buf`] it is shared and
//! can no longer change. Its front can be frozen while the rest is still being filled. A [`Payload`] strings several of them together, because one PDU may straddle two
//! receive buffers. When the last owner goes, the memory returns to its [`Slab`]: in the steady state a
//! command allocates nothing. Everything is `Send`, so that a disk may be served by another thread.

mod slab;
mod sum;
mod sums;

pub use slab::{Buf, BufMut, Exhausted, PAGE, Slab, SlabUse};
pub use sum::BlockSum;
pub use sums::Sums;

use smallvec::SmallVec;

/// Slices kept in place. A large write to receive buffers that grow with it, from 4 KiB fourfold each, breaks three
/// times at most; one that comes in segments of 64 KiB is four slices per extent.
const INLINE: usize = 4;

/// A string of shared byte slices: the data of one command or of one piece of it.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    slices: SmallVec<[Buf; INLINE]>,
    len: usize,
}

impl Payload {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Count of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes at the end; what lies right behind the last slice in the same memory makes that one longer.
    pub fn push(&mut self, buf: Buf) {
        if buf.is_empty() {
            return;
        }
        self.len += buf.len();
        let left = match self.slices.last_mut() {
            Some(last) => last.join(buf).err(),
            None => Some(buf),
        };
        self.slices.extend(left);
    }

    /// Adds another payload at the end.
    pub fn append(&mut self, other: Payload) {
        if self.slices.is_empty() {
            *self = other;
            return;
        }
        other.slices.into_iter().for_each(|buf| self.push(buf));
    }

    /// The slices in order; none is empty.
    pub fn slices(&self) -> &[Buf] {
        &self.slices
    }

    /// The bytes `start .. start + len`, sharing the memory.
    ///
    /// # Panics
    /// If the range is not within the payload: a fault of the caller.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "slice beyond the payload");
        let (mut skip, mut want) = (start, len);
        let mut part = Self::new();
        for buf in &self.slices {
            if want == 0 {
                break;
            }
            if skip >= buf.len() {
                skip -= buf.len();
                continue;
            }
            let take = want.min(buf.len() - skip);
            part.push(buf.slice(skip, take));
            skip = 0;
            want -= take;
        }
        part
    }

    /// Copies everything to `to`, which must have exactly this length. For headers, parameter lists and
    /// merged blocks; bulk data is not copied.
    pub fn copy_to(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "copy of another length");
        let mut at = 0;
        for buf in &self.slices {
            to[at..at + buf.len()].copy_from_slice(buf);
            at += buf.len();
        }
    }

    /// All bytes in a new vector. For parameter lists and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.len];
        self.copy_to(&mut all);
        all
    }

    /// The checksum of each whole 4 KiB block, in order (P7).
    ///
    /// # Panics
    /// If the length is not a multiple of the block.
    pub fn block_sums(&self) -> impl Iterator<Item = BlockSum> + '_ {
        assert!(self.len.is_multiple_of(sum::BLOCK), "checksums of a broken block");
        sum::Sums::new(&self.slices, self.len / sum::BLOCK)
    }

    /// Whether every byte is zero.
    pub fn is_zero(&self) -> bool {
        self.slices.iter().all(|buf| buf.iter().all(|&byte| byte == 0))
    }
}

impl From<Buf> for Payload {
    fn from(buf: Buf) -> Self {
        let mut payload = Self::new();
        payload.push(buf);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(slab: &Slab, parts: &[&[u8]]) -> Payload {
        let mut payload = Payload::new();
        for part in parts {
            payload.push(slab.copy_of(part).unwrap());
        }
        payload
    }

    #[test]
    fn a_slice_may_straddle_buffers() {
        let slab = Slab::new(1 << 20);
        let whole = payload(&slab, &[b"abc", b"", b"defg", b"h"]);
        assert_eq!(whole.len(), 8);
        assert_eq!(whole.slice(2, 5).to_vec(), b"cdefg");
        assert_eq!(whole.slice(7, 1).to_vec(), b"h");
        assert_eq!(whole.slice(3, 0).to_vec(), b"");
    }

    /// A large write that came in many packets had its list of slices on the heap.
    #[test]
    fn what_lies_side_by_side_becomes_one_slice() {
        let slab = Slab::new(1 << 20);
        let mut buf = slab.take(9).unwrap();
        buf.copy_from_slice(b"abcdefghi");
        let mut whole = Payload::new();
        for len in [2, 3, 1] {
            whole.push(buf.freeze_front(len));
        }
        let rest = Payload::from(buf.freeze());
        assert_eq!(whole.slices().len(), 1);
        whole.append(rest.clone());
        assert_eq!((whole.slices().len(), whole.to_vec()), (1, b"abcdefghi".to_vec()));
        whole.append(rest);
        assert_eq!((whole.slices().len(), whole.len()), (2, 12), "the same memory again is not behind it");
    }

    #[test]
    fn block_sums_do_not_depend_on_where_the_buffers_break() {
        let slab = Slab::new(1 << 20);
        let bytes: Vec<u8> = (0..3 * 4096).map(|i| (i * 7 % 251) as u8).collect();
        let one = payload(&slab, &[&bytes]);
        let many = payload(&slab, &[&bytes[..5], &bytes[5..4096], &bytes[4096..9000], &bytes[9000..]]);
        let sums: Vec<_> = one.block_sums().collect();
        assert_eq!(sums.len(), 3);
        assert_eq!(sums, many.block_sums().collect::<Vec<_>>());
        assert_eq!(sums[1], BlockSum::of(&bytes[4096..8192]));
    }
}
