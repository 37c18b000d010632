//! What can be wrong with bytes received, and with what is to be sent.

use dyad_cluster::DecodeError;
use dyad_units::SegmentId;

use crate::frame::Kind;

/// The stream of a connection cannot be followed any further: close it. Nothing of the frame took effect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes are not of this protocol.
    #[error("the other side does not speak the peer protocol: its bytes begin with {0:02x?}")]
    NotThisProtocol([u8; 4]),
    /// The header's sum does not match.
    #[error("frame {sequence} came with a damaged header: the connection flipped bits")]
    DamagedHeader {
        /// Frames received before it.
        sequence: u32,
    },
    /// The control part's sum does not match.
    #[error("frame {sequence} ({kind:?}) came with a damaged control part: the connection flipped bits")]
    DamagedControl {
        /// Frames received before it.
        sequence: u32,
        /// Its kind.
        kind: Kind,
    },
    /// The payload does not match its sum, or a block of it the sum that it has had since it entered the cluster (P7).
    #[error("frame {sequence} ({kind:?}) came with damaged data: the connection or a node flipped bits")]
    DamagedPayload {
        /// Frames received before it.
        sequence: u32,
        /// Its kind.
        kind: Kind,
    },
    /// A frame is missing or came twice.
    #[error("frame {found} came where frame {expected} was due")]
    OutOfSequence {
        /// The number due.
        expected: u32,
        /// The number found.
        found: u32,
    },
    /// A frame of another version than was agreed.
    #[error("a frame of protocol version {found} came, agreed was {agreed}")]
    OtherVersion {
        /// In its header.
        found: u8,
        /// In the greeting; zero before.
        agreed: u8,
    },
    /// No kind of this version.
    #[error("a frame of the unknown kind {0:#04x} came")]
    UnknownKind(u8),
    /// A kind that has no place on this connection, or not now.
    #[error("a frame of kind {0:?} came where it has no place")]
    Unexpected(Kind),
    /// Longer than any frame of its kind may be here.
    #[error("a frame of kind {kind:?} with {control} bytes of control and {payload} of payload is longer than allowed")]
    TooLong {
        /// Its kind.
        kind: Kind,
        /// Bytes announced, with parts that came before.
        control: u64,
        /// Bytes announced.
        payload: u32,
    },
    /// A segment's number that was not announced, or withdrawn, or is announced twice or out of turn.
    #[error("segment number {0} is not in use as the frame says")]
    SegmentNumber(u32),
    /// The control part says something that makes no sense.
    #[error("a frame of kind {kind:?} makes no sense: {fault}")]
    Malformed {
        /// Its kind.
        kind: Kind,
        /// What.
        fault: Malformed,
    },
}

/// What makes no sense in a control part.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends too early.
    #[error("it ends within its fields")]
    Short,
    /// There is something behind the last field.
    #[error("there is something behind its last field")]
    Long,
    /// A field has a value that it cannot have.
    #[error("its field `{0}` cannot have this value")]
    Field(&'static str),
    /// The payload has another length than the fields say.
    #[error("its payload has another length than its fields say")]
    PayloadLength,
    /// A segment's record cannot be read.
    #[error("its record cannot be used: {0}")]
    Record(DecodeError),
}

/// A message cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The other side does not take what is queued: close the connection, as if it had broken.
    #[error("messages of {owned} bytes wait to be sent and the other side does not take them")]
    Overrun {
        /// Bytes that they take, data not included.
        owned: u64,
    },
    /// The message has more entries than one message may have. Nothing was queued.
    #[error("the message has {len} bytes, more than the {max} that one may have: nothing was sent")]
    TooLong {
        /// Its bytes.
        len: u64,
        /// The bound.
        max: u64,
    },
    /// As many segments are announced as may be. Nothing was queued.
    #[error("segment {0} cannot be announced: too many segments on one connection")]
    TooManySegments(SegmentId),
}
