//! What is to be sent: headers kept here, data as slices of other people's buffers, gathered without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use dyad_payload::{Buf, Payload};

use crate::pdu::{BHS_BYTES, Bhs, DIGEST_BYTES, pad_len};
use crate::rx::{RunningCrc, crc32c};

/// Beyond this many places the queue gives memory back once it is empty: more than a queue's depth of small reads,
/// or 32 large ones in the smallest segments that hosts usually take (8 KiB).
const CHUNKS_KEPT: usize = 2048;

/// What a PDU costs beside its data, in bytes: its chunks in the queue. Counted, so that very small segments
/// cannot make the queue large behind the back of its bound.
pub(crate) const PDU_COST: u64 = (3 * size_of::<Chunk>()) as u64;

#[derive(Debug)]
enum Chunk {
    /// Header with its digest.
    Head { bytes: [u8; BHS_BYTES + DIGEST_BYTES], len: u8 },
    /// Read data or an echo, and what it pins beyond its own bytes.
    Data(Buf, u32),
    /// Text, sense, a rejected header.
    Small(Box<[u8]>),
    /// Padding and data digest.
    Tail { bytes: [u8; 3 + DIGEST_BYTES], len: u8 },
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Head { bytes, len } => &bytes[..usize::from(*len)],
            Self::Data(buf, _) => buf,
            Self::Small(bytes) => bytes,
            Self::Tail { bytes, len } => &bytes[..usize::from(*len)],
        }
    }
}

/// The queue. Its bound is kept by the session, which stops reading commands (see `Session::is_full`).
#[derive(Debug, Default)]
pub(crate) struct Output {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that were sent.
    sent: usize,
    bytes: u64,
    /// What queued data pins beyond its own bytes: the rest of its buffers.
    pinned: u64,
    header_digest: bool,
    data_digest: bool,
}

impl Output {
    /// Full feature phase: from the next PDU on.
    pub fn configure(&mut self, header_digest: bool, data_digest: bool) {
        (self.header_digest, self.data_digest) = (header_digest, data_digest);
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Memory that is held until the host has taken what is queued: bytes to be sent, the rest of the buffers that they
    /// are in, and the queue itself.
    pub fn cost(&self) -> u64 {
        self.bytes + self.pinned + (self.chunks.len() * size_of::<Chunk>()) as u64
    }

    /// Queues a PDU without data.
    pub fn push(&mut self, bhs: Bhs) {
        let mut bytes = [0; BHS_BYTES + DIGEST_BYTES];
        bytes[..BHS_BYTES].copy_from_slice(bhs.as_bytes());
        let mut len = BHS_BYTES;
        if self.header_digest {
            bytes[BHS_BYTES..].copy_from_slice(&crc32c(bhs.as_bytes()));
            len += DIGEST_BYTES;
        }
        self.add(Chunk::Head { bytes, len: len as u8 });
    }

    /// Queues a PDU with data; its length is put into the header.
    pub fn push_data(&mut self, mut bhs: Bhs, data: &Payload) {
        bhs.set_data_len(data.len());
        self.push(bhs);
        if data.is_empty() {
            return;
        }
        let mut crc = self.data_digest.then(RunningCrc::new);
        for buf in data.slices() {
            if let Some(crc) = &mut crc {
                crc.update(buf);
            }
            self.add(Chunk::Data(buf.clone(), 0));
        }
        self.push_tail(data.len(), crc);
    }

    /// The data queued last pins so many bytes more than it has, until its end is sent.
    pub fn pin(&mut self, bytes: u32) {
        let last = self.chunks.iter_mut().rev().find_map(|chunk| match chunk {
            Chunk::Data(_, pinned) => Some(pinned),
            _ => None,
        });
        if let Some(pinned) = last {
            *pinned += bytes;
            self.pinned += u64::from(bytes);
        }
    }

    /// As [`Self::push_data`], for a few bytes of our own making.
    pub fn push_small(&mut self, mut bhs: Bhs, data: &[u8]) {
        bhs.set_data_len(data.len());
        self.push(bhs);
        if data.is_empty() {
            return;
        }
        let mut crc = self.data_digest.then(RunningCrc::new);
        if let Some(crc) = &mut crc {
            crc.update(data);
        }
        self.add(Chunk::Small(data.into()));
        self.push_tail(data.len(), crc);
    }

    fn push_tail(&mut self, len: usize, crc: Option<RunningCrc>) {
        let pad = pad_len(len);
        let mut bytes = [0; 3 + DIGEST_BYTES];
        let mut len = pad;
        if let Some(mut crc) = crc {
            crc.update(&bytes[..pad]);
            bytes[pad..pad + DIGEST_BYTES].copy_from_slice(&crc.finish());
            len += DIGEST_BYTES;
        }
        if len > 0 {
            self.add(Chunk::Tail { bytes, len: len as u8 });
        }
    }

    fn add(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes().len() as u64;
        self.chunks.push_back(chunk);
    }

    /// Fills `slices` from the start of the queue; says how many.
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut skip = self.sent;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(&chunk.bytes()[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// The first `bytes` were sent.
    pub fn transmitted(&mut self, bytes: usize) {
        assert!(bytes as u64 <= self.bytes, "more was sent than was queued");
        self.bytes -= bytes as u64;
        self.sent += bytes;
        while let Some(first) = self.chunks.front() {
            let len = first.bytes().len();
            if self.sent < len {
                break;
            }
            self.sent -= len;
            if let Some(Chunk::Data(_, pinned)) = self.chunks.pop_front() {
                self.pinned -= u64::from(pinned);
            }
        }
        if self.chunks.is_empty() && self.chunks.capacity() > CHUNKS_KEPT {
            self.chunks.shrink_to(CHUNKS_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use dyad_payload::{Payload, Slab};

    use super::Output;
    use crate::pdu::{Bhs, Opcode};
    use crate::rx::crc32c;

    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = output.gather(&mut slices);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let take = step.min(bytes.len());
            all.extend_from_slice(&bytes[..take]);
            output.transmitted(take);
        }
        assert_eq!(output.cost(), 0);
        all
    }

    #[test]
    fn the_same_bytes_go_out_however_little_the_socket_takes() {
        let slab = Slab::new(1 << 20);
        let mut data = Payload::from(slab.copy_of(b"abc").unwrap());
        data.push(slab.copy_of(b"de").unwrap());
        let build = || {
            let mut output = Output::default();
            output.push_data(Bhs::new(Opcode::DataIn), &data);
            let before = output.cost();
            output.pin(4096);
            assert_eq!(output.cost(), before + 4096);
            output.configure(true, true);
            output.push_small(Bhs::new(Opcode::TextResponse), b"a=b\0");
            output.push(Bhs::new(Opcode::NopIn));
            output
        };
        let whole = drain(&mut build(), usize::MAX);
        assert_eq!(whole.len(), 48 + 8 + 48 + 4 + 4 + 4 + 48 + 4);
        assert_eq!(&whole[48..56], b"abcde\0\0\0");
        assert_eq!(whole[104..108], crc32c(&whole[56..104]));
        assert_eq!(whole[112..116], crc32c(b"a=b\0"));
        for step in 1..60 {
            assert_eq!(drain(&mut build(), step), whole, "{step} bytes at a time");
        }
    }
}
