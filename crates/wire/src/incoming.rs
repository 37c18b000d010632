//! What comes out of a connection.

use dyad_contract::volume::Edition;
use dyad_mirror::{Beat, BeatAnswer, PeerMessage};
use dyad_units::SegmentId;

use crate::greeting::{Bye, Hello, Refusal, Welcome};

/// Stands for a segment's id in the frames of one direction of one connection, so that hot frames stay small. Given by
/// [`Sender::announce`](crate::Sender::announce).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SegmentNumber(pub(crate) u32);

impl SegmentNumber {
    /// From 1 on, dense: good as an index.
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// A whole message of the other side.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "messages of parts are nearly all there is; a box for each is what this avoids"
)]
pub enum Incoming {
    /// The dialing side's first word. Nothing more is read before [`Receiver::begin`](crate::Receiver::begin).
    Hello(Box<Hello>),
    /// The accepting side's consent. Nothing more is read before [`Receiver::begin`](crate::Receiver::begin).
    Welcome(Box<Welcome>),
    /// The accepting side's refusal, its last word.
    Refusal(Refusal),
    /// The other side is about to close the connection: its last word.
    Bye(Bye),
    /// On a connection for beats.
    Beat(Beat),
    /// On a connection for beats.
    BeatAnswer(BeatAnswer),
    /// The other side's administration asks something; what, is between the nodes' programs.
    Question {
        /// Comes back with the answer.
        id: u64,
        /// At most [`TALK_BYTES_MAX`](crate::TALK_BYTES_MAX) bytes.
        body: Vec<u8>,
    },
    /// The answer to a question of this side.
    Answer {
        /// Of the question.
        id: u64,
        /// At most [`TALK_BYTES_MAX`](crate::TALK_BYTES_MAX) bytes.
        body: Vec<u8>,
    },
    /// From now on the other side calls the segment by this number.
    Announced {
        /// Its number.
        number: SegmentNumber,
        /// Which one.
        segment: SegmentId,
    },
    /// The other side says nothing more of the segment; the number may be announced for another one.
    Withdrawn {
        /// The number.
        number: SegmentNumber,
        /// The segment that it stood for.
        segment: SegmentId,
    },
    /// A message for the part of a segment.
    Message {
        /// As announced by the other side.
        number: SegmentNumber,
        /// Which segment.
        segment: SegmentId,
        /// What it says.
        message: PeerMessage,
        /// Of an operation of a host: the SCSI state that it was checked against.
        edition: Option<Edition>,
    },
    /// The owner does not execute an operation that was checked against another SCSI state than the newest (M20).
    Stale {
        /// Which segment.
        segment: SegmentId,
        /// Which operation, as in `PeerMessage::Forward`.
        id: u64,
        /// The newest.
        edition: Edition,
    },
    /// The SCSI state is another one now.
    StateChanged {
        /// Which segment.
        segment: SegmentId,
        /// The newest.
        edition: Edition,
    },
}
