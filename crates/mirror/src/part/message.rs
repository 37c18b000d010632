//! What the parts of one segment on different nodes tell each other.

use dyad_cluster::{Incarnation, OutReason, SegmentRecord};
use dyad_contract::image::{Changed, Reply, Request, Survey, Token};
use dyad_contract::volume::{VolumeOp, VolumeResult};
use dyad_units::{Epoch, Extent, ImageId, Period, Stamp};

/// A message between two parts of the same segment. Messages of one connection come in order, none missing; when the
/// connection breaks, those under way may be lost, and none of them comes after `PeerDown`.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    /// Whoever receives this may have missed a record. Sent when a connection begins, and to whom it concerns.
    Record {
        /// The newest record that the sender knows to be stored.
        record: Box<SegmentRecord>,
    },
    /// The sender's image can be asked: its pool is open. Sent for every image when a connection begins. The sender's record
    /// goes first, always: whoever does not know the image would not hear this.
    ImageUp {
        /// Which image.
        image: ImageId,
        /// Nothing that it ever replied to is missing: it lived through, or nothing was written since it closed (M11).
        has_everything: bool,
    },
    /// The sender's image cannot be asked (any more). Streams to it have ended.
    ImageDown {
        /// Which image.
        image: ImageId,
        /// Why.
        reason: OutReason,
    },
    /// Owner to an image's node: begin a stream, in the place of any older one (M3). The sender is the record's owner.
    Open {
        /// Which image.
        image: ImageId,
        /// The record that names the sender owner; its epoch is the stream's.
        record: Box<SegmentRecord>,
    },
    /// The image adopted the record's epoch durably, everything older is finished: the stream is open (M3).
    Opened {
        /// Which image.
        image: ImageId,
        /// The epoch adopted.
        epoch: Epoch,
        /// The stream's number: never given before by this image's node.
        link: u64,
    },
    /// The image has seen a newer owner (M3).
    Refused {
        /// Which image.
        image: ImageId,
        /// The newest record that it keeps.
        record: Box<SegmentRecord>,
    },
    /// Owner to image, on an open stream.
    Ask {
        /// Which image.
        image: ImageId,
        /// The stream's number.
        link: u64,
        /// Comes back with the reply.
        token: Token,
        /// What the image shall do.
        request: Request,
    },
    /// Image to owner.
    Told {
        /// Which image.
        image: ImageId,
        /// The stream's number.
        link: u64,
        /// Of the request.
        token: Token,
        /// What it came to.
        reply: Reply,
    },
    /// Whoever thinks of taking over, or of resyncing, asks an image what it knows. Fences nothing (M11).
    Survey {
        /// Which image.
        image: ImageId,
        /// Comes back with the answer.
        token: Token,
    },
    /// The answer to [`PeerMessage::Survey`]; none: the image cannot be asked.
    Shown {
        /// Which image.
        image: ImageId,
        /// Of the question.
        token: Token,
        /// What the image knows.
        survey: Option<Box<Survey>>,
        /// The life of the image's node.
        incarnation: Incarnation,
    },
    /// Whoever weighs a forced promotion asks what was written to an image after a stamp; changes nothing (M10).
    List {
        /// Which image.
        image: ImageId,
        /// Comes back with the answer.
        token: Token,
        /// After which stamp.
        after: Stamp,
        /// Where to begin.
        from: Extent,
    },
    /// The answer to [`PeerMessage::List`]; none: the image cannot be asked.
    Listed {
        /// Which image.
        image: ImageId,
        /// Of the question.
        token: Token,
        /// A page of the list.
        changed: Option<Box<Changed>>,
    },
    /// Front to owner: an operation of a host (M18).
    Forward {
        /// Names it on this connection until it is answered.
        id: u64,
        /// Epoch of the newest record that the front knows: an owner of later may not execute it.
        epoch: Epoch,
        /// Time since the host's command arrived at the front, by the front's clock (M19).
        age: Period,
        /// Number of the owner's newest beat that the front's node had received when it sent this: whatever the
        /// connection held it up, it is not older than that beat and `age` (M19).
        beat: u64,
        /// What the host wants.
        op: VolumeOp,
    },
    /// The host gave the operation up; it is answered all the same, in its own time.
    ForwardAbort {
        /// Which one.
        id: u64,
    },
    /// Owner to front: how the operation ended.
    Forwarded {
        /// Which one.
        id: u64,
        /// Its result.
        result: VolumeResult,
    },
    /// The sender, which was the owner, will never answer in the epochs up to this one again (M12).
    Released {
        /// That of the newest record that names it as owner, or of the one by which it handed over; of no newer one that it heard
        /// of: whoever that names may have a lease of the receiver.
        epoch: Epoch,
    },
}
