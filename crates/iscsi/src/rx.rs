//! Takes PDUs out of a stream of buffers, wherever they break (RFC 7143 §11.1, §11.2).
//!
//! ```text
//!  BHS 48 | AHS | header digest | data segment | padding | data digest
//!  ───────────────────────────▶ Header          ─▶ Data…            ─▶ End
//! ```
//!
//! Data goes on as slices of the buffers, piece by piece: what is kept of an unfinished PDU is its header.

use std::collections::VecDeque;

use crc_fast::{CrcAlgorithm, Digest};
use dyad_payload::Buf;

use crate::pdu::{BHS_BYTES, Bhs, DIGEST_BYTES, pad_len};

/// CRC32C as iSCSI sends it: least significant byte first (RFC 7143 §13.1, Appendix A.4).
pub(crate) fn crc32c(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    (crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_le_bytes()
}

/// CRC32C of bytes that come in pieces.
pub(crate) struct RunningCrc(Digest);

impl RunningCrc {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; DIGEST_BYTES] {
        (self.0.finalize() as u32).to_le_bytes()
    }
}

/// Buffers received and not yet parsed. The node adds one at a time, and only while the connection wants input, so
/// there are never more than two.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bufs: VecDeque<Buf>,
    at: usize,
}

impl Input {
    pub fn push(&mut self, buf: Buf) {
        if !buf.is_empty() {
            self.bufs.push_back(buf);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bufs.is_empty()
    }

    pub fn clear(&mut self) {
        self.bufs = VecDeque::new();
        self.at = 0;
    }

    /// Bytes that lie in one piece; empty only if there are none.
    fn front(&self) -> &[u8] {
        self.bufs.front().map_or(&[], |buf| &buf[self.at..])
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
        if self.bufs.front().is_some_and(|buf| self.at == buf.len()) {
            self.bufs.pop_front();
            self.at = 0;
        }
    }

    /// Moves bytes into `to` until it is full (`true`) or there are no more.
    fn fill(&mut self, to: &mut [u8], filled: &mut u8) -> bool {
        while usize::from(*filled) < to.len() && !self.is_empty() {
            let rest = &mut to[usize::from(*filled)..];
            let take = rest.len().min(self.front().len());
            rest[..take].copy_from_slice(&self.front()[..take]);
            *filled += take as u8;
            self.consume(take);
        }
        usize::from(*filled) == to.len()
    }

    /// Takes up to `len` bytes that lie in one piece, shared.
    fn share(&mut self, len: usize) -> Option<Buf> {
        let buf = self.bufs.front()?;
        let take = len.min(buf.len() - self.at);
        let part = buf.slice(self.at, take);
        self.consume(take);
        Some(part)
    }
}

/// What came next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A header, its digest right. Additional segments follow it if the flag is set; they are skipped.
    Header(Bhs, bool),
    /// The next bytes of its data segment, not empty.
    Data(Buf),
    /// The PDU is complete; whether its data digest is right (or there is none).
    End(bool),
}

/// The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RxError {
    /// The data segment is longer than was agreed.
    SegmentTooLong(Bhs),
    /// The header digest is wrong, so not even the length of the PDU is known.
    HeaderDigest,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Bhs,
    Ahs {
        left: u16,
    },
    HeaderDigest,
    Announce,
    Data {
        left: u32,
    },
    /// Padding and data digest.
    Tail,
}

/// The parser's place within a PDU.
pub(crate) struct Receiver {
    state: State,
    header: [u8; BHS_BYTES],
    /// Of a digest, with the padding before it.
    tail: [u8; 3 + DIGEST_BYTES],
    filled: u8,
    crc: Option<RunningCrc>,
    header_digest: bool,
    data_digest: bool,
    segment_bytes_max: u32,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Receiver {
    /// A parser without digests, as login begins.
    pub fn new(segment_bytes_max: u32) -> Self {
        Self {
            state: State::Bhs,
            header: [0; BHS_BYTES],
            tail: [0; 3 + DIGEST_BYTES],
            filled: 0,
            crc: None,
            header_digest: false,
            data_digest: false,
            segment_bytes_max,
        }
    }

    /// Full feature phase: from the next PDU on.
    pub fn configure(&mut self, header_digest: bool, data_digest: bool, segment_bytes_max: u32) {
        (self.header_digest, self.data_digest) = (header_digest, data_digest);
        self.segment_bytes_max = segment_bytes_max;
    }

    /// Whether it stands in a data segment.
    pub fn is_in_data(&self) -> bool {
        matches!(self.state, State::Data { .. })
    }

    /// The next step, or `None` if more input is needed.
    pub fn next(&mut self, input: &mut Input) -> Result<Option<Step>, RxError> {
        loop {
            match self.state {
                State::Bhs => {
                    if !input.fill(&mut self.header, &mut self.filled) {
                        return Ok(None);
                    }
                    self.begin();
                }
                State::Ahs { left } => {
                    let Some(part) = input.share(usize::from(left)) else { return Ok(None) };
                    if let Some(crc) = &mut self.crc {
                        crc.update(&part);
                    }
                    let left = left - part.len() as u16;
                    match left {
                        0 if self.header_digest => self.enter(State::HeaderDigest),
                        0 => self.enter_data(),
                        left => self.state = State::Ahs { left },
                    }
                }
                State::HeaderDigest => {
                    if !input.fill(&mut self.tail[..DIGEST_BYTES], &mut self.filled) {
                        return Ok(None);
                    }
                    let crc = self.crc.take().expect("begun with the header").finish();
                    if crc != self.tail[..DIGEST_BYTES] {
                        return Err(RxError::HeaderDigest);
                    }
                    self.enter(State::Announce);
                }
                State::Announce => {
                    let bhs = Bhs::from_bytes(self.header);
                    if bhs.data_len() > self.segment_bytes_max {
                        return Err(RxError::SegmentTooLong(bhs));
                    }
                    match bhs.ahs_len() as u16 {
                        left if left > 0 && !self.header_digest => self.enter(State::Ahs { left }),
                        _ => self.enter_data(),
                    }
                    return Ok(Some(Step::Header(bhs, bhs.ahs_len() > 0)));
                }
                State::Data { left: 0 } => self.enter(State::Tail),
                State::Data { left } => {
                    let Some(part) = input.share(left as usize) else { return Ok(None) };
                    if let Some(crc) = &mut self.crc {
                        crc.update(&part);
                    }
                    self.state = State::Data { left: left - part.len() as u32 };
                    return Ok(Some(Step::Data(part)));
                }
                State::Tail => return Ok(self.end(input)),
            }
        }
    }

    /// A whole basic header is there. It is believed at once, or after its digest, which covers what follows it.
    fn begin(&mut self) {
        if !self.header_digest {
            return self.enter(State::Announce);
        }
        let mut crc = RunningCrc::new();
        crc.update(&self.header);
        self.crc = Some(crc);
        match Bhs::from_bytes(self.header).ahs_len() as u16 {
            0 => self.enter(State::HeaderDigest),
            left => self.enter(State::Ahs { left }),
        }
    }

    fn enter_data(&mut self) {
        let left = Bhs::from_bytes(self.header).data_len();
        self.crc = (self.data_digest && left > 0).then(RunningCrc::new);
        self.enter(State::Data { left });
    }

    fn enter(&mut self, state: State) {
        self.filled = 0;
        self.state = state;
    }

    fn end(&mut self, input: &mut Input) -> Option<Step> {
        let len = Bhs::from_bytes(self.header).data_len() as usize;
        let pad = pad_len(len);
        let digest = if self.crc.is_some() { DIGEST_BYTES } else { 0 };
        if !input.fill(&mut self.tail[..pad + digest], &mut self.filled) {
            return None;
        }
        let mut is_right = true;
        if let Some(mut crc) = self.crc.take() {
            crc.update(&self.tail[..pad]);
            is_right = crc.finish() == self.tail[pad..pad + DIGEST_BYTES];
        }
        self.enter(State::Bhs);
        Some(Step::End(is_right))
    }
}

#[cfg(test)]
mod tests {
    use dyad_payload::Slab;

    use super::{Input, Receiver, RunningCrc, RxError, Step, crc32c};
    use crate::pdu::{Bhs, Opcode};

    #[test]
    fn the_vectors_of_rfc_7143_appendix_a_4_come_out() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        assert_eq!(crc32c(&ascending), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(crc32c(&descending), [0x5c, 0xdb, 0x3f, 0x11]);
        let mut running = RunningCrc::new();
        running.update(&ascending[..7]);
        running.update(&ascending[7..]);
        assert_eq!(running.finish(), crc32c(&ascending));
    }

    /// A PDU with additional segments and both digests, cut in two at every byte.
    #[test]
    fn a_pdu_may_break_anywhere() {
        let slab = Slab::new(1 << 20);
        let mut bhs = Bhs::new(Opcode::DataOut);
        bhs.set_data_len(5);
        bhs.set_ahs_len(8);
        let mut header = bhs.as_bytes().to_vec();
        header.extend([7; 8]);
        let data = b"hello\0\0\0";
        let wire = [&header[..], &crc32c(&header), data, &crc32c(data)].concat();
        for at in 0..=wire.len() {
            let (mut receiver, mut input) = (Receiver::new(0), Input::default());
            receiver.configure(true, true, 8);
            let (mut headers, mut bytes, mut ends) = (0, Vec::new(), 0);
            for part in [&wire[..at], &wire[at..]] {
                input.push(slab.copy_of(part).unwrap());
                while let Some(step) = receiver.next(&mut input).unwrap() {
                    match step {
                        Step::Header(found, has_ahs) => {
                            assert_eq!((found, has_ahs), (bhs, true));
                            headers += 1;
                        }
                        Step::Data(part) => bytes.extend_from_slice(&part),
                        Step::End(is_right) => ends += usize::from(is_right),
                    }
                }
            }
            assert_eq!((headers, &bytes[..], ends), (1, &data[..5], 1), "cut at {at}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_wrong_header_digest_ends_it_and_a_wrong_data_digest_is_told() {
        let slab = Slab::new(1 << 20);
        let mut bhs = Bhs::new(Opcode::DataOut);
        bhs.set_data_len(4);
        let good = [&bhs.as_bytes()[..], &crc32c(bhs.as_bytes()), b"abcd", &crc32c(b"abcd")].concat();
        for flipped in 0..good.len() {
            let mut bad = good.clone();
            bad[flipped] ^= 0x10;
            let (mut receiver, mut input) = (Receiver::new(0), Input::default());
            receiver.configure(true, true, 1 << 16);
            input.push(slab.copy_of(&bad).unwrap());
            let first = receiver.next(&mut input);
            if flipped < 52 {
                // A longer AHS swallows the rest; then more input is wanted, and the digest fails later.
                assert!(matches!(first, Err(RxError::HeaderDigest) | Ok(None)), "{flipped}");
                continue;
            }
            assert!(matches!(first, Ok(Some(Step::Header(..)))));
            assert!(matches!(receiver.next(&mut input), Ok(Some(Step::Data(_)))));
            assert!(matches!(receiver.next(&mut input), Ok(Some(Step::End(false)))), "{flipped}");
        }
    }

    #[test]
    fn a_segment_longer_than_agreed_is_refused_at_its_header() {
        let slab = Slab::new(1 << 20);
        let (mut receiver, mut input) = (Receiver::new(8192), Input::default());
        let mut bhs = Bhs::new(Opcode::LoginRequest);
        bhs.set_data_len(8193);
        input.push(slab.copy_of(bhs.as_bytes()).unwrap());
        assert!(matches!(receiver.next(&mut input), Err(RxError::SegmentTooLong(found)) if found == bhs));
    }
}
