//! What is to be sent: heads of frames kept here, payloads as slices of other people's buffers, gathered without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use dyad_contract::image::{Token, Write};
use dyad_contract::volume::Edition;
use dyad_mirror::{Beat, BeatAnswer, PeerMessage};
use dyad_payload::Buf;
use dyad_units::SegmentId;

use crate::codec::{self, Attached, Put};
use crate::error::SendError;
use crate::frame::{CONTROL_BYTES_MAX, HEADER_BYTES, Header, Kind, sum_of, sum_of_payloads};
use crate::greeting::{Bye, Hello, Refusal, Welcome};
use crate::incoming::SegmentNumber;
use crate::mends::{self, Common, Mends};
use crate::receiver::{ANNOUNCED_MAX, BEAT_BYTES_MAX, MESSAGE_BYTES_MAX, TALK_BYTES_MAX};

/// Beyond this, nothing more is queued: what the sender itself keeps, heads of frames and places in the queue, of some
/// hundred thousand messages. One more fits, so that a long survey is no overrun by itself. Data does not count: it is slices
/// of buffers that there are only so many of, and that the mirror holds until they are acknowledged all the same; a WRITE SAME
/// is hundreds of slices of one. How long a peer may leave it unread is a matter of time (M8, and of the socket), not of bytes:
/// the volumes of two nodes together have more under way than any bound that would tell a peer that stopped reading.
pub const OWNED_BYTES_MAX: u64 = 64 << 20;

/// Heads kept allocated while nothing is queued: those of some hundred small frames.
const HEADS_KEPT: usize = 64 << 10;
/// Places in the queue kept allocated while nothing is queued.
const CHUNKS_KEPT: usize = 1024;

#[derive(Debug)]
enum Chunk {
    /// So many bytes of `heads`; those of frames without payload between them are one chunk.
    Head(usize),
    /// Data.
    Data(Buf),
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Head(len) => *len,
            Self::Data(buf) => buf.len(),
        }
    }
}

/// The sending half of a connection: messages in, bytes out.
#[derive(Debug, Default)]
pub struct Sender {
    version: u8,
    sequence: u32,
    /// Heads of the frames queued, one behind the other; what lies before `heads_start` was sent.
    heads: Vec<u8>,
    heads_start: usize,
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that were sent.
    sent: usize,
    queued: u64,
    /// Mends that wait for more of their kind.
    mends: Mends,
    /// The control part being written.
    control: Vec<u8>,
    /// Segments by their numbers, less one.
    segments: Vec<Option<SegmentId>>,
    free_numbers: Vec<u32>,
}

impl Sender {
    /// The sending half of a new connection, before its greeting.
    pub fn new() -> Self {
        Self::default()
    }

    // --- the greeting --------------------------------------------------------------------------------------------

    /// The dialing side's first word.
    pub fn hello(&mut self, hello: &Hello) {
        hello.encode(&mut Put(&mut self.control));
        self.push(Kind::Hello, 0, Attached::default());
    }

    /// The accepting side's consent: from now on its version is spoken.
    ///
    /// # Panics
    /// If the version is not one that [`Local::answer`](crate::Local::answer) gives: a fault of the caller.
    pub fn welcome(&mut self, welcome: &Welcome) {
        welcome.encode(&mut Put(&mut self.control));
        self.push(Kind::Welcome, 0, Attached::default());
        self.begin(welcome.version);
    }

    /// The accepting side's refusal; close the connection when it is sent.
    pub fn refuse(&mut self, refusal: &Refusal) {
        refusal.encode(&mut Put(&mut self.control));
        self.push(Kind::Refusal, 0, Attached::default());
    }

    /// The dialing side was welcomed: from now on the chosen version is spoken.
    ///
    /// # Panics
    /// If the version was not checked by [`Local::check`](crate::Local::check): a fault of the caller.
    pub fn begin(&mut self, version: u16) {
        self.version = u8::try_from(version).ok().filter(|version| *version > 0).expect("a version that was agreed");
    }

    /// Last word after the greeting; close the connection when it is sent.
    pub fn bye(&mut self, bye: &Bye) {
        self.push_mends();
        bye.encode(&mut Put(&mut self.control));
        self.push_open(Kind::Bye, 0, Attached::default());
    }

    // --- beats ---------------------------------------------------------------------------------------------------

    /// A beat.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn beat(&mut self, beat: &Beat) -> Result<(), SendError> {
        self.check_room()?;
        let encoded = codec::encode_beat(&mut Put(&mut self.control), beat);
        self.push_checked(encoded.map(|()| (Kind::Beat, Attached::default())), 0, BEAT_BYTES_MAX)
    }

    /// The answer to a beat.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn beat_answer(&mut self, answer: &BeatAnswer) -> Result<(), SendError> {
        self.check_room()?;
        let encoded = codec::encode_answer(&mut Put(&mut self.control), answer);
        self.push_checked(encoded.map(|()| (Kind::BeatAnswer, Attached::default())), 0, BEAT_BYTES_MAX)
    }

    // --- administration ------------------------------------------------------------------------------------------

    /// A question of this node's administration; the answer has the same id.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn question(&mut self, id: u64, body: &[u8]) -> Result<(), SendError> {
        self.talk(Kind::Question, id, body)
    }

    /// The answer to a question of the other side.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn answer(&mut self, id: u64, body: &[u8]) -> Result<(), SendError> {
        self.talk(Kind::Answer, id, body)
    }

    fn talk(&mut self, kind: Kind, id: u64, body: &[u8]) -> Result<(), SendError> {
        self.check_room()?;
        codec::encode_talk(&mut Put(&mut self.control), id, body);
        self.push_checked(Ok((kind, Attached::default())), 0, TALK_BYTES_MAX)
    }

    // --- segments ------------------------------------------------------------------------------------------------

    /// Gives the segment a number on this connection, and tells it. Announce a segment once.
    ///
    /// # Errors
    /// [`SendError::TooManySegments`], [`SendError::Overrun`].
    pub fn announce(&mut self, segment: SegmentId) -> Result<SegmentNumber, SendError> {
        self.check_room()?;
        let number = match self.free_numbers.pop() {
            Some(number) => number,
            None if self.segments.len() < ANNOUNCED_MAX => {
                self.segments.push(None);
                self.segments.len() as u32
            }
            None => return Err(SendError::TooManySegments(segment)),
        };
        self.segments[number as usize - 1] = Some(segment);
        self.control.extend_from_slice(&segment.to_bytes());
        self.push_open(Kind::Announce, number, Attached::default());
        Ok(SegmentNumber(number))
    }

    /// Nothing more is said of the segment; its number may come back for another one.
    ///
    /// # Errors
    /// [`SendError::Overrun`].
    ///
    /// # Panics
    /// If the number is not in use: a fault of the caller.
    pub fn withdraw(&mut self, number: SegmentNumber) -> Result<(), SendError> {
        self.check_room()?;
        self.check_number(number);
        self.segments[number.0 as usize - 1] = None;
        self.free_numbers.push(number.0);
        self.push_open(Kind::Withdraw, number.0, Attached::default());
        Ok(())
    }

    /// A message for the other side's part of the segment. Shares the message's buffers until they are sent.
    ///
    /// # Errors
    /// [`SendError`]. After [`SendError::Overrun`] the connection must be closed, for a message is missing.
    ///
    /// # Panics
    /// If the number is not in use, or the data of a write has another length or other sums than its piece has blocks:
    /// a fault of the caller.
    pub fn send(&mut self, number: SegmentNumber, message: &PeerMessage) -> Result<(), SendError> {
        self.send_checked(number, message, None)
    }

    /// As [`Self::send`]; an operation of a host with the SCSI state that it was checked against (M20).
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// As [`Self::send`].
    pub fn send_checked(
        &mut self,
        number: SegmentNumber,
        message: &PeerMessage,
        edition: Option<Edition>,
    ) -> Result<(), SendError> {
        if let Some((common, token, write)) = mends::of_message(message) {
            return self.add_mend(number, common, token, write);
        }
        self.check_room()?;
        self.check_number(number);
        let encoded = codec::encode(&mut Put(&mut self.control), message, edition);
        self.push_checked(encoded, number.0, MESSAGE_BYTES_MAX)
    }

    /// An operation of the other side is not executed: what it was checked against is not the newest SCSI state.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// If the number is not in use: a fault of the caller.
    pub fn stale(&mut self, number: SegmentNumber, id: u64, newest: Edition) -> Result<(), SendError> {
        self.check_room()?;
        self.check_number(number);
        let put = &mut Put(&mut self.control);
        put.u64(id);
        codec::put_edition(put, newest);
        self.push_checked(Ok((Kind::Stale, Attached::default())), number.0, MESSAGE_BYTES_MAX)
    }

    /// The SCSI state is another one now.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// If the number is not in use: a fault of the caller.
    pub fn state_changed(&mut self, number: SegmentNumber, newest: Edition) -> Result<(), SendError> {
        self.check_room()?;
        self.check_number(number);
        codec::put_edition(&mut Put(&mut self.control), newest);
        self.push_checked(Ok((Kind::StateChanged, Attached::default())), number.0, MESSAGE_BYTES_MAX)
    }

    fn check_number(&self, number: SegmentNumber) {
        let segment = self.segments.get(number.0 as usize - 1);
        assert!(segment.is_some_and(Option::is_some), "a message of segment number {} that is not announced", number.0);
    }

    /// What waits goes first: the order of messages stays.
    fn check_room(&mut self) -> Result<(), SendError> {
        self.push_mends();
        self.check_queued()
    }

    fn check_queued(&self) -> Result<(), SendError> {
        let owned = self.owned();
        if owned >= OWNED_BYTES_MAX { Err(SendError::Overrun { owned }) } else { Ok(()) }
    }

    fn add_mend(
        &mut self,
        number: SegmentNumber,
        common: Common,
        token: Token,
        write: &Write,
    ) -> Result<(), SendError> {
        self.check_queued()?;
        self.check_number(number);
        let (len, max) = (write.data.len(), Kind::AskMend.payload_bytes_max());
        if len > max {
            return Err(SendError::TooLong { len: len as u64, max: max as u64 });
        }
        if !self.mends.takes(number.0, &common, write) {
            self.push_mends();
        }
        self.mends.add(number.0, common, token, write);
        Ok(())
    }

    /// Queues the frame of the mends that wait.
    fn push_mends(&mut self) {
        let Some((segment, common)) = self.mends.of() else { return };
        let payload = self.mends.payload();
        codec::encode_mends(&mut Put(&mut self.control), &common, self.mends.each());
        self.mends.clear();
        self.push_open(Kind::AskMend, segment, Attached::one(&payload));
    }

    // --- frames --------------------------------------------------------------------------------------------------

    fn push_checked(
        &mut self,
        encoded: Result<(Kind, Attached<'_>), SendError>,
        segment: u32,
        max: usize,
    ) -> Result<(), SendError> {
        let len = self.control.len();
        let checked = encoded.and_then(|(kind, attached)| {
            let (payload, payload_max) = (attached.len(), kind.payload_bytes_max());
            if payload > payload_max {
                return Err(SendError::TooLong { len: payload as u64, max: payload_max as u64 });
            }
            let max = if kind.may_be_long() { max } else { CONTROL_BYTES_MAX };
            if len > max { Err(SendError::TooLong { len: len as u64, max: max as u64 }) } else { Ok((kind, attached)) }
        });
        match checked {
            Ok((kind, attached)) => {
                self.push_open(kind, segment, attached);
                Ok(())
            }
            Err(error) => {
                self.control.clear();
                Err(error)
            }
        }
    }

    /// Queues a frame after the greeting, its control part in as many as it takes.
    fn push_open(&mut self, kind: Kind, segment: u32, attached: Attached<'_>) {
        assert!(self.version > 0, "{kind:?} before the greeting is over");
        if self.control.len() <= CONTROL_BYTES_MAX {
            return self.push(kind, segment, attached);
        }
        let whole = std::mem::take(&mut self.control);
        let mut parts = whole.chunks(CONTROL_BYTES_MAX).peekable();
        while let Some(part) = parts.next() {
            self.control.extend_from_slice(part);
            let is_last = parts.peek().is_none();
            self.push(if is_last { kind } else { Kind::More }, segment, Attached::default());
        }
        debug_assert_eq!(attached.len(), 0, "what may be long has no payload");
    }

    /// Queues a frame with the control part that was written.
    fn push(&mut self, kind: Kind, segment: u32, attached: Attached<'_>) {
        let is_greeting = matches!(kind, Kind::Hello | Kind::Welcome | Kind::Refusal);
        let has_sum = !kind.has_block_sums();
        let header = Header {
            version: if is_greeting { 0 } else { self.version },
            kind,
            segment,
            control_len: self.control.len() as u32,
            payload_len: attached.len() as u32,
            sequence: self.sequence,
            payload_sum: if has_sum { sum_of_payloads(attached.iter()) } else { 0 },
            control_sum: sum_of(&self.control),
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.heads.extend_from_slice(&header.emit());
        self.heads.extend_from_slice(&self.control);
        let len = HEADER_BYTES + self.control.len();
        self.queued += (len + attached.len()) as u64;
        match self.chunks.back_mut() {
            Some(Chunk::Head(before)) => *before += len,
            _ => self.chunks.push_back(Chunk::Head(len)),
        }
        let slices = attached.iter().flat_map(|payload| payload.slices());
        self.chunks.extend(slices.map(|slice| Chunk::Data(slice.clone())));
        self.control.clear();
        self.control.shrink_to(HEADS_KEPT);
    }

    // --- bytes ---------------------------------------------------------------------------------------------------

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.mends.is_empty()
    }

    /// Bytes that wait to be sent, data included.
    pub const fn queued(&self) -> u64 {
        self.queued + self.mends.bytes() as u64
    }

    /// Bytes that are kept here for what waits, data not included; at [`OWNED_BYTES_MAX`] nothing more is queued.
    pub fn owned(&self) -> u64 {
        let (heads, places) = (self.heads.len() - self.heads_start, size_of::<Chunk>() * self.chunks.len());
        (heads + places + size_of_val(self.mends.each())) as u64
    }

    /// Fills `slices` from the start of the queue; says how many.
    pub fn gather<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.push_mends();
        let (mut count, mut skip, mut head) = (0, self.sent, self.heads_start);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            let bytes = match chunk {
                Chunk::Head(len) => {
                    head += len;
                    &self.heads[head - len..head]
                }
                Chunk::Data(buf) => buf,
            };
            *slice = IoSlice::new(&bytes[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// The first `bytes` of the queue were sent.
    ///
    /// # Panics
    /// If there were not so many: a fault of the caller.
    pub fn transmitted(&mut self, bytes: usize) {
        assert!(bytes as u64 <= self.queued, "more was sent than was queued");
        self.queued -= bytes as u64;
        self.sent += bytes;
        while let Some(first) = self.chunks.front() {
            let len = first.len();
            if self.sent < len {
                break;
            }
            self.sent -= len;
            if let Some(Chunk::Head(len)) = self.chunks.pop_front() {
                self.heads_start += len;
            }
        }
        if self.chunks.is_empty() {
            self.heads.clear();
            self.heads_start = 0;
            self.heads.shrink_to(HEADS_KEPT);
            if self.chunks.capacity() > CHUNKS_KEPT {
                self.chunks.shrink_to(CHUNKS_KEPT);
            }
        } else if self.heads_start > HEADS_KEPT && self.heads_start > self.heads.len() / 2 {
            // A queue that never empties: as many bytes are moved at most as were sent since the last time.
            self.heads.drain(..self.heads_start);
            self.heads_start = 0;
        }
    }
}
