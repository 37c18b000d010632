//! The frame: a header of fixed length, a control part, a payload.
//!
//! ```text
//!  0      4     5      6      8         12          16          20          24           32           40         48
//!  | DyPr | ver | kind | zero | segment | control n | payload n | sequence | payload sum | control sum | header sum |
//! ```

use crc_fast::{CrcAlgorithm, Digest, checksum};
use dyad_payload::Payload;

use crate::error::WireError;
use crate::incoming::SegmentNumber;

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"DyPr";
/// Length of a header, in bytes.
pub const HEADER_BYTES: usize = 48;
/// Longest control part of a frame, in bytes; a longer one comes in several ([`Kind::More`]), so that nobody has to
/// hold much before a sum is checked.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;
/// Longest payload of a frame, in bytes: the largest command that a host may send, MAXIMUM TRANSFER LENGTH.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// Where the sum of the header stands.
const HEADER_SUM_AT: usize = 40;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $code,)*
        }

        impl Kind {
            /// All of them, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The kind with this code.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// The dialing side's first word.
    Hello = 0x01,
    /// The accepting side's consent.
    Welcome = 0x02,
    /// The accepting side's refusal.
    Refusal = 0x03,
    /// Last word before a connection is closed.
    Bye = 0x04,
    /// A part of the control part of the frame that follows.
    More = 0x08,
    /// [`Beat`](dyad_mirror::Beat).
    Beat = 0x10,
    /// [`BeatAnswer`](dyad_mirror::BeatAnswer).
    BeatAnswer = 0x11,
    /// What an administrator's node asks another one.
    Question = 0x18,
    /// What it answers.
    Answer = 0x19,
    /// A number begins to stand for a segment.
    Announce = 0x20,
    /// A number stands for no segment any more.
    Withdraw = 0x21,
    /// `PeerMessage::Record`.
    Record = 0x30,
    /// `PeerMessage::ImageUp`.
    ImageUp = 0x31,
    /// `PeerMessage::ImageDown`.
    ImageDown = 0x32,
    /// `PeerMessage::Open`.
    Open = 0x33,
    /// `PeerMessage::Opened`.
    Opened = 0x34,
    /// `PeerMessage::Refused`.
    Refused = 0x35,
    /// `PeerMessage::Survey`.
    Survey = 0x36,
    /// `PeerMessage::Shown`.
    Shown = 0x37,
    /// `PeerMessage::Released`.
    Released = 0x38,
    /// `PeerMessage::List`.
    List = 0x39,
    /// `PeerMessage::Listed`.
    Listed = 0x3a,
    /// `PeerMessage::Ask` with `Request::Read`.
    AskRead = 0x40,
    /// `PeerMessage::Ask` with `Request::Write`.
    AskWrite = 0x41,
    /// One or more `PeerMessage::Ask` with `Request::Mend`.
    AskMend = 0x42,
    /// `PeerMessage::Ask` with any other request.
    Ask = 0x43,
    /// `PeerMessage::Told` with `Reply::Data`.
    ToldData = 0x50,
    /// `PeerMessage::Told` with `Reply::Written`.
    ToldWritten = 0x51,
    /// `PeerMessage::Told` with any other reply.
    Told = 0x52,
    /// `PeerMessage::Forward`.
    Forward = 0x60,
    /// `PeerMessage::ForwardAbort`.
    ForwardAbort = 0x61,
    /// `PeerMessage::Forwarded`.
    Forwarded = 0x62,
    /// Owner to front: an operation is not executed, for what it was checked against is not the newest SCSI state (M20).
    Stale = 0x63,
    /// Owner to front: the SCSI state is another one now.
    StateChanged = 0x64,
}

impl Kind {
    /// The code in the header.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Longest payload that a frame of this kind may have.
    pub(crate) const fn payload_bytes_max(self) -> usize {
        match self {
            Self::AskWrite | Self::AskMend | Self::ToldData => dyad_units::EXTENT_BYTES as usize,
            Self::Ask => dyad_contract::image::RECORD_BYTES_MAX,
            Self::Forward | Self::Forwarded => PAYLOAD_BYTES_MAX,
            _ => 0,
        }
    }

    /// Whether each block of the payload has a sum in the control part, so that the payload as a whole has none (P7).
    pub(crate) const fn has_block_sums(self) -> bool {
        matches!(self, Self::AskWrite)
    }

    /// Whether its control part may be longer than [`CONTROL_BYTES_MAX`].
    pub(crate) const fn may_be_long(self) -> bool {
        matches!(self, Self::Beat | Self::BeatAnswer | Self::Question | Self::Answer | Self::Shown | Self::Told)
    }

    /// Whether it says something of a segment.
    pub(crate) const fn is_of_segment(self) -> bool {
        self.code() >= Self::Announce.code()
    }
}

/// A header that was checked by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub version: u8,
    pub kind: Kind,
    /// Zero where the frame is of no segment.
    pub segment: u32,
    pub control_len: u32,
    pub payload_len: u32,
    pub sequence: u32,
    /// Zero where there is no payload, or its blocks have sums.
    pub payload_sum: u64,
    /// Zero where there is no control part.
    pub control_sum: u64,
}

impl Header {
    /// The bytes before the control part.
    pub fn emit(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        (bytes[4], bytes[5]) = (self.version, self.kind.code());
        bytes[8..12].copy_from_slice(&self.segment.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.control_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.payload_sum.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.control_sum.to_le_bytes());
        let sum = sum_of(&bytes[..HEADER_SUM_AT]);
        bytes[HEADER_SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header; `sequence` is the number due.
    pub fn parse(bytes: &[u8; HEADER_BYTES], sequence: u32) -> Result<Self, WireError> {
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|nth| bytes[at + nth]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|nth| bytes[at + nth]));
        if bytes[..4] != MAGIC {
            return Err(match sequence {
                0 => WireError::NotThisProtocol(std::array::from_fn(|nth| bytes[nth])),
                _ => WireError::DamagedHeader { sequence },
            });
        }
        if sum_of(&bytes[..HEADER_SUM_AT]) != u64_at(HEADER_SUM_AT) {
            return Err(WireError::DamagedHeader { sequence });
        }
        let header = Self {
            version: bytes[4],
            kind: Kind::from_code(bytes[5]).ok_or(WireError::UnknownKind(bytes[5]))?,
            segment: u32_at(8),
            control_len: u32_at(12),
            payload_len: u32_at(16),
            sequence: u32_at(20),
            payload_sum: u64_at(24),
            control_sum: u64_at(32),
        };
        if header.sequence != sequence {
            return Err(WireError::OutOfSequence { expected: sequence, found: header.sequence });
        }
        header.check()?;
        Ok(header)
    }

    /// What must hold in every version.
    fn check(&self) -> Result<(), WireError> {
        let (control, payload) = (self.control_len as usize, self.payload_len as usize);
        if control > CONTROL_BYTES_MAX || payload > self.kind.payload_bytes_max() {
            let control = u64::from(self.control_len);
            return Err(WireError::TooLong { kind: self.kind, control, payload: self.payload_len });
        }
        if self.kind != Kind::More && self.kind.is_of_segment() != (self.segment != 0) {
            return Err(WireError::SegmentNumber(self.segment));
        }
        Ok(())
    }

    pub fn number(&self) -> SegmentNumber {
        SegmentNumber(self.segment)
    }

    /// Length of header and control part.
    pub fn head_len(&self) -> usize {
        HEADER_BYTES + self.control_len as usize
    }
}

/// CRC-64/NVME, zero for no bytes.
pub(crate) fn sum_of(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { checksum(CrcAlgorithm::Crc64Nvme, bytes) }
}

/// As [`sum_of`], over the slices of payloads one after the other.
pub(crate) fn sum_of_payloads<'a>(payloads: impl Iterator<Item = &'a Payload>) -> u64 {
    let mut digest = None;
    for slice in payloads.flat_map(Payload::slices) {
        digest.get_or_insert_with(|| Digest::new(CrcAlgorithm::Crc64Nvme)).update(slice);
    }
    digest.map_or(0, |digest| digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, Header, Kind};

    #[test]
    fn a_header_reads_back_and_no_bit_of_it_may_flip() {
        let header = Header {
            version: 1,
            kind: Kind::AskWrite,
            segment: 7,
            control_len: 72,
            payload_len: 4096,
            sequence: 9,
            payload_sum: 0,
            control_sum: u64::MAX - 5,
        };
        let bytes = header.emit();
        assert_eq!(Header::parse(&bytes, 9), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&flipped, 9).is_err(), "bit {bit}");
        }
        assert!(Header::parse(&bytes, 8).is_err(), "a frame is missing");
    }

    #[test]
    fn every_kind_has_its_own_code() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert!(Kind::ALL.is_sorted());
    }
}
