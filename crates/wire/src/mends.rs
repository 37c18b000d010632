//! Mends that are sent together. The blocks of an extent that differ after an absence often lie scattered, and each run of
//! them is a mend of its own: one frame for all of them costs a fraction of a frame each (M14).

use dyad_contract::image::{Request, Token, Write};
use dyad_mirror::PeerMessage;
use dyad_payload::Payload;
use dyad_units::{ImageId, Stamp, WriteNumber};

use crate::frame::Kind;

/// What mends of one frame have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Common {
    pub image: ImageId,
    pub link: u64,
    pub stamp: Stamp,
    pub settled: WriteNumber,
}

/// Mends that wait for more of their kind until anything else is sent, or bytes are wanted.
#[derive(Debug, Default)]
pub(crate) struct Mends {
    /// Number of the segment, and what is common; `None`: nothing waits.
    of: Option<(u32, Common)>,
    each: Vec<(Token, Write)>,
    bytes: usize,
}

impl Mends {
    pub const fn is_empty(&self) -> bool {
        self.of.is_none()
    }

    /// Length of their payloads.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the mend may wait with those that do.
    pub fn takes(&self, segment: u32, common: &Common, write: &Write) -> bool {
        self.of.is_none_or(|of| of == (segment, *common))
            && self.bytes + write.data.len() <= Kind::AskMend.payload_bytes_max()
    }

    /// It waits. Only what it [takes](Self::takes).
    pub fn add(&mut self, segment: u32, common: Common, token: Token, write: &Write) {
        self.of = Some((segment, common));
        self.bytes += write.data.len();
        self.each.push((token, write.clone()));
    }

    /// Number of the segment, and what is common.
    pub const fn of(&self) -> Option<(u32, Common)> {
        self.of
    }

    /// Each, in their order.
    pub fn each(&self) -> &[(Token, Write)] {
        &self.each
    }

    /// The payloads of all, one after the other.
    pub fn payload(&self) -> Payload {
        let mut payload = Payload::new();
        let slices = self.each.iter().flat_map(|(_, write)| write.data.slices());
        slices.for_each(|slice| payload.push(slice.clone()));
        payload
    }

    pub fn clear(&mut self) {
        self.of = None;
        self.each.clear();
        self.bytes = 0;
    }
}

/// A message that may wait with its like.
pub(crate) fn of_message(message: &PeerMessage) -> Option<(Common, Token, &Write)> {
    match message {
        PeerMessage::Ask { image, link, token, request: Request::Mend(write) } => {
            let common = Common { image: *image, link: *link, stamp: write.stamp, settled: write.settled };
            Some((common, *token, write))
        }
        _ => None,
    }
}
