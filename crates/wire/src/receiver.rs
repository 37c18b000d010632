//! Takes messages out of the bytes of a connection.
//!
//! The payload of a frame is received at the start of page-aligned buffers. What follows a head in the same read is
//! copied there: less than [`ROOM`] bytes, or a page where a frame was not what the one before made likely. After a
//! frame with a payload of one block the next one is expected to be alike, so that one read takes it whole.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use dyad_payload::{BufMut, PAGE, Payload, Slab};
use dyad_units::SegmentId;
use smallvec::SmallVec;

use crate::codec::{self, Fault, Take};
use crate::error::WireError;
use crate::frame::{HEADER_BYTES, Header, Kind, sum_of, sum_of_payloads};
use crate::greeting::{ConnectionKind, decode_bye, decode_hello, decode_refusal, decode_welcome};
use crate::incoming::{Incoming, SegmentNumber};

/// Longest control part of a beat, all frames of it together: 32,768 segments of 20 bytes.
pub const BEAT_BYTES_MAX: usize = 1 << 20;
/// Longest control part of any other message, all frames of it together: a survey that lists every extent of 4 TiB.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Longest question or answer of administration, in bytes: a node with some thousand volumes describes itself in it.
pub const TALK_BYTES_MAX: usize = 8 << 20;
/// Most segments announced at a time in one direction: more than a node has; 2 MiB of memory.
pub const ANNOUNCED_MAX: usize = 65_536;
/// Longest control part of a greeting.
const GREETING_BYTES_MAX: usize = 4096;
/// Bytes to read where small frames are expected: a dozen of them.
const ROOM: usize = 1024;
/// Memory kept for heads beyond the longest control part seen lately.
const HEAD_KEPT: usize = 8192;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Greeting,
    /// A word of the greeting, or the last word, was said.
    Paused,
    Open(u8, ConnectionKind),
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Header,
    Control(Header),
    Payload(Header),
}

/// What [`Receiver::poll`] came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box per message would be an allocation per message")]
pub enum Polled {
    /// A message; poll again.
    Incoming(Incoming),
    /// Nothing more until more bytes are received.
    NeedsBytes,
    /// The slab is exhausted: read nothing, and poll again when buffers were given back.
    NeedsMemory,
}

/// The receiving half of a connection: bytes in, messages out.
#[derive(Debug)]
pub struct Receiver {
    slab: Slab,
    phase: Phase,
    stage: Stage,
    sequence: u32,
    /// Bytes `at .. filled` were received: the head of the present frame, from its payload's stage on followed by those
    /// after the frame.
    head: Vec<u8>,
    at: usize,
    filled: usize,
    /// Buffers of the payload that is received: how much of them is filled in all.
    buffers: SmallVec<[BufMut; 2]>,
    buffered: usize,
    payload: Option<Payload>,
    /// A page for the payload of the frame whose head is expected, and how much of it is filled.
    ahead: Option<BufMut>,
    ahead_filled: usize,
    /// Lengths of head and payload of the frame before.
    before: (usize, usize),
    /// What [`Receiver::room`] offered.
    offered: [usize; 2],
    gathered: Vec<u8>,
    gathered_for: u32,
    segments: Vec<Option<SegmentId>>,
    /// Messages behind the first of a frame that had several.
    more: VecDeque<Incoming>,
    error: Option<WireError>,
}

impl Receiver {
    /// The receiving half of a new connection. Payloads take buffers of the slab.
    pub fn new(slab: Slab) -> Self {
        Self {
            slab,
            phase: Phase::Greeting,
            stage: Stage::Header,
            sequence: 0,
            head: vec![0; ROOM],
            at: 0,
            filled: 0,
            buffers: SmallVec::new(),
            buffered: 0,
            payload: None,
            ahead: None,
            ahead_filled: 0,
            before: (0, 0),
            offered: [0; 2],
            gathered: Vec::new(),
            gathered_for: 0,
            segments: Vec::new(),
            more: VecDeque::new(),
            error: None,
        }
    }

    /// The greeting is over: from now on frames are of this version, and of kinds that belong on such a connection.
    ///
    /// # Panics
    /// Without a greeting, or with a version that was not agreed: a fault of the caller.
    pub fn begin(&mut self, version: u16, kind: ConnectionKind) {
        assert!(self.phase == Phase::Paused, "the greeting is not over");
        self.phase = Phase::Open(u8::try_from(version).expect("a version that was agreed"), kind);
    }

    /// Where the next bytes go, in this order; says how many slices. Only after [`Polled::NeedsBytes`].
    pub fn room<'a>(&'a mut self, slices: &mut [IoSliceMut<'a>; 2]) -> usize {
        if self.at > 0 {
            self.head.copy_within(self.at..self.filled, 0);
            (self.at, self.filled) = (0, self.filled - self.at);
        }
        let (head_before, payload_before) = self.before;
        let next_head = if payload_before > 0 { head_before } else { ROOM };
        if let Stage::Payload(header) = self.stage {
            let (index, start) = self.place();
            // Behind the last buffer, the next frame's head: likely as long as this one's.
            let is_last = index + 1 == self.buffers.len();
            let room = if is_last { header.head_len() } else { 0 };
            self.offer_head(room);
            let buffer = &mut self.buffers[index][start..];
            self.offered = [buffer.len(), room];
            slices[0] = IoSliceMut::new(buffer);
            slices[1] = IoSliceMut::new(&mut self.head[self.filled..self.filled + room]);
            return if is_last { 2 } else { 1 };
        }
        let want = match self.stage {
            Stage::Control(header) if header.payload_len > 0 => header.head_len(),
            Stage::Control(header) => header.head_len() + ROOM,
            _ if self.filled < next_head => next_head,
            _ => HEADER_BYTES.max(self.filled + 1),
        };
        let room = want - self.filled;
        self.offer_head(room);
        let is_likely = want == head_before && (1..=PAGE).contains(&payload_before);
        if is_likely && self.ahead.is_none() {
            self.ahead = self.slab.take(PAGE).ok();
        }
        let ahead = self.ahead.as_mut().filter(|_| is_likely);
        self.offered = [room, ahead.as_ref().map_or(0, |page| page.len())];
        slices[0] = IoSliceMut::new(&mut self.head[self.filled..self.filled + room]);
        match ahead {
            Some(page) => {
                slices[1] = IoSliceMut::new(page);
                2
            }
            None => 1,
        }
    }

    fn offer_head(&mut self, room: usize) {
        if self.head.len() < self.filled + room {
            self.head.resize(self.filled + room, 0);
        }
    }

    /// Buffer of the payload that is filled next, and from where on.
    fn place(&self) -> (usize, usize) {
        let mut start = self.buffered;
        for (index, buffer) in self.buffers.iter().enumerate() {
            if start < buffer.len() {
                return (index, start);
            }
            start -= buffer.len();
        }
        unreachable!("a payload that is complete is taken")
    }

    /// So many bytes were put where [`Self::room`] said.
    ///
    /// # Panics
    /// If there was no room for them: a fault of the caller.
    pub fn received(&mut self, bytes: usize) {
        let [first, second] = std::mem::take(&mut self.offered);
        assert!(bytes <= first + second, "more was received than there was room for");
        let (front, back) = (bytes.min(first), bytes.saturating_sub(first));
        match self.stage {
            Stage::Payload(_) => {
                self.buffered += front;
                self.filled += back;
            }
            _ => {
                self.filled += front;
                self.ahead_filled = back;
            }
        }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// [`WireError`], the same from then on: close the connection.
    pub fn poll(&mut self) -> Result<Polled, WireError> {
        if let Some(incoming) = self.more.pop_front() {
            return Ok(Polled::Incoming(incoming));
        }
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| self.error = Some(error.clone()))
    }

    fn advance(&mut self) -> Result<Polled, WireError> {
        while self.phase != Phase::Paused {
            match self.stage {
                Stage::Header => {
                    let Some(bytes) = self.head[self.at..self.filled].first_chunk() else {
                        if self.spill() {
                            continue;
                        }
                        return Ok(Polled::NeedsBytes);
                    };
                    let header = Header::parse(bytes, self.sequence)?;
                    self.check(&header)?;
                    self.stage = Stage::Control(header);
                }
                Stage::Control(header) => {
                    let head_len = header.head_len();
                    if self.filled - self.at < head_len {
                        if self.spill() {
                            continue;
                        }
                        return Ok(Polled::NeedsBytes);
                    }
                    let control = &self.head[self.at + HEADER_BYTES..self.at + head_len];
                    if sum_of(control) != header.control_sum {
                        return Err(WireError::DamagedControl { sequence: self.sequence, kind: header.kind });
                    }
                    if !self.begin_payload(header) {
                        return Ok(Polled::NeedsMemory);
                    }
                    self.stage = Stage::Payload(header);
                }
                Stage::Payload(header) => {
                    if self.buffered < header.payload_len as usize {
                        return Ok(Polled::NeedsBytes);
                    }
                    match self.finish(header) {
                        Ok(Some(incoming)) => return Ok(Polled::Incoming(incoming)),
                        Ok(None) => {}
                        Err(Fault::NoMemory) => return Ok(Polled::NeedsMemory),
                        Err(Fault::Malformed(fault)) => return Err(WireError::Malformed { kind: header.kind, fault }),
                        Err(Fault::DamagedPayload) => {
                            return Err(WireError::DamagedPayload { sequence: self.sequence, kind: header.kind });
                        }
                    }
                }
            }
        }
        Ok(Polled::NeedsBytes)
    }

    /// Moves what was received ahead behind the head, because it is not the payload; says whether there was any.
    fn spill(&mut self) -> bool {
        let len = std::mem::take(&mut self.ahead_filled);
        let Some(page) = self.ahead.take_if(|_| len > 0) else { return false };
        self.offer_head(len);
        self.head[self.filled..self.filled + len].copy_from_slice(&page[..len]);
        self.filled += len;
        true
    }

    /// Whether the frame has a place here and now.
    fn check(&self, header: &Header) -> Result<(), WireError> {
        let kind = header.kind;
        let agreed = match self.phase {
            Phase::Open(version, _) => version,
            Phase::Greeting | Phase::Paused => 0,
        };
        let is_greeting = matches!(kind, Kind::Hello | Kind::Welcome | Kind::Refusal);
        let has_place = match self.phase {
            Phase::Greeting | Phase::Paused => is_greeting,
            Phase::Open(_, ConnectionKind::Beats) => {
                matches!(kind, Kind::Beat | Kind::BeatAnswer | Kind::More | Kind::Bye)
            }
            Phase::Open(_, ConnectionKind::Segments { .. }) => {
                kind.is_of_segment() || matches!(kind, Kind::More | Kind::Bye | Kind::Question | Kind::Answer)
            }
        };
        if !has_place {
            return Err(WireError::Unexpected(kind));
        }
        if header.version != agreed {
            return Err(WireError::OtherVersion { found: header.version, agreed });
        }
        let max = match self.phase {
            Phase::Greeting | Phase::Paused => GREETING_BYTES_MAX,
            Phase::Open(_, ConnectionKind::Beats) => BEAT_BYTES_MAX,
            Phase::Open(..) => MESSAGE_BYTES_MAX,
        };
        let control = self.gathered.len() as u64 + u64::from(header.control_len);
        if control > max as u64 {
            return Err(WireError::TooLong { kind, control, payload: header.payload_len });
        }
        if !self.gathered.is_empty() {
            let goes_on = kind == Kind::More || kind.may_be_long();
            if !goes_on || header.segment != self.gathered_for {
                return Err(WireError::Unexpected(kind));
            }
        }
        // Announced before anything of it is kept.
        let is_known = matches!(kind, Kind::Announce) || header.segment == 0 || self.segment(header.segment).is_some();
        if is_known { Ok(()) } else { Err(WireError::SegmentNumber(header.segment)) }
    }

    fn segment(&self, number: u32) -> Option<SegmentId> {
        *self.segments.get((number as usize).checked_sub(1)?)?
    }

    /// Takes the buffers of the payload, all or none, and moves there what came with the head.
    fn begin_payload(&mut self, header: Header) -> bool {
        let len = header.payload_len as usize;
        let behind = self.at + header.head_len();
        if self.ahead_filled > 0 && (behind != self.filled || len < self.ahead_filled) {
            self.spill();
        }
        let mut buffers: SmallVec<[BufMut; 2]> = SmallVec::new();
        let in_place = if self.ahead_filled > 0 { len.min(PAGE) } else { 0 };
        let mut left = len - in_place;
        while left > 0 {
            let take = left.min(Slab::LEN_MAX);
            let Ok(buffer) = self.slab.take(take) else { return false };
            buffers.push(buffer);
            left -= take;
        }
        self.buffered = 0;
        if let Some(mut page) = self.ahead.take_if(|_| in_place > 0) {
            page.truncate(in_place);
            self.buffered = std::mem::take(&mut self.ahead_filled);
            buffers.insert(0, page);
        }
        self.buffers = buffers;
        let came = len.saturating_sub(self.buffered).min(self.filled - behind);
        for _ in 0..2 {
            // At most two buffers, for it is less than the smallest large one.
            let done = self.buffered.min(came);
            if in_place == 0 && done < came {
                let (index, start) = self.place();
                let part = (came - done).min(self.buffers[index].len() - start);
                self.buffers[index][start..start + part].copy_from_slice(&self.head[behind + done..][..part]);
                self.buffered += part;
            }
        }
        if in_place == 0 && came > 0 {
            self.head.copy_within(behind + came..self.filled, behind);
            self.filled -= came;
        }
        true
    }

    /// The frame is complete.
    fn finish(&mut self, header: Header) -> Result<Option<Incoming>, Fault> {
        if self.payload.is_none() {
            let mut payload = Payload::new();
            self.buffers.drain(..).for_each(|buffer| payload.push(buffer.freeze()));
            if !header.kind.has_block_sums() && sum_of_payloads([&payload].into_iter()) != header.payload_sum {
                return Err(Fault::DamagedPayload);
            }
            self.payload = Some(payload);
        }
        let payload = self.payload.take().unwrap_or_default();
        let incoming = self.decode(header, &payload);
        if matches!(incoming, Err(Fault::NoMemory)) {
            self.payload = Some(payload);
            return incoming;
        }
        self.before = (header.head_len(), payload.len());
        self.sequence = self.sequence.wrapping_add(1);
        self.at += header.head_len();
        self.stage = Stage::Header;
        self.buffered = 0;
        if header.kind != Kind::More {
            self.gathered = Vec::new();
        }
        if self.at == self.filled {
            (self.at, self.filled) = (0, 0);
            self.head.truncate(HEAD_KEPT);
            self.head.shrink_to(HEAD_KEPT);
        }
        incoming
    }

    fn decode(&mut self, header: Header, payload: &Payload) -> Result<Option<Incoming>, Fault> {
        let control = &self.head[self.at + HEADER_BYTES..self.at + header.head_len()];
        let number = header.number();
        let whole = match self.gathered.is_empty() && header.kind != Kind::More {
            true => control,
            false => {
                self.gathered.extend_from_slice(control);
                self.gathered_for = header.segment;
                &self.gathered
            }
        };
        let take = Take(whole);
        let incoming = match header.kind {
            Kind::More => return Ok(None),
            Kind::Hello => Incoming::Hello(Box::new(decode_hello(take)?)),
            Kind::Welcome => Incoming::Welcome(Box::new(decode_welcome(take)?)),
            Kind::Refusal => Incoming::Refusal(decode_refusal(take)?),
            Kind::Bye => Incoming::Bye(decode_bye(take)?),
            Kind::Beat => Incoming::Beat(codec::decode_beat(take)?),
            Kind::BeatAnswer => Incoming::BeatAnswer(codec::decode_answer(take)?),
            Kind::Question => {
                let (id, body) = codec::decode_talk(take)?;
                Incoming::Question { id, body }
            }
            Kind::Answer => {
                let (id, body) = codec::decode_talk(take)?;
                Incoming::Answer { id, body }
            }
            Kind::Announce => {
                let mut take = take;
                let segment = SegmentId::from_bytes(take.array()?);
                take.end()?;
                self.announce(number, segment)?;
                Incoming::Announced { number, segment }
            }
            Kind::Withdraw => {
                take.end()?;
                let segment = self.segments[number.0 as usize - 1].take().expect("checked with the header");
                Incoming::Withdrawn { number, segment }
            }
            Kind::Stale => {
                let (id, edition) = codec::take_stale(take)?;
                let segment = self.segment(number.0).expect("checked with the header");
                Incoming::Stale { segment, id, edition }
            }
            Kind::StateChanged => {
                let edition = codec::take_changed(take)?;
                let segment = self.segment(number.0).expect("checked with the header");
                Incoming::StateChanged { segment, edition }
            }
            Kind::AskMend => {
                let segment = self.segment(number.0).expect("checked with the header");
                let mends = codec::decode_mends(take, payload, &self.slab)?.into_iter();
                let mut mends = mends.map(|message| Incoming::Message { number, segment, message, edition: None });
                let first = mends.next();
                self.more.extend(mends);
                return Ok(first);
            }
            kind => {
                let segment = self.segment(number.0).expect("checked with the header");
                let (message, edition) = codec::decode(kind, whole, payload, &self.slab)?;
                Incoming::Message { number, segment, message, edition }
            }
        };
        if matches!(header.kind, Kind::Hello | Kind::Welcome | Kind::Refusal | Kind::Bye) {
            self.phase = Phase::Paused;
        }
        Ok(Some(incoming))
    }

    /// Numbers are given one after the other, so that the table is never larger than what was announced.
    fn announce(&mut self, number: SegmentNumber, segment: SegmentId) -> Result<(), Fault> {
        let index = number.0 as usize - 1;
        if index == self.segments.len() && index < ANNOUNCED_MAX {
            self.segments.push(None);
        }
        match self.segments.get_mut(index) {
            Some(place @ None) => {
                *place = Some(segment);
                Ok(())
            }
            _ => Err(Fault::Malformed(crate::error::Malformed::Field("segment number"))),
        }
    }
}
