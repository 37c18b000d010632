//! Control parts: fixed little-endian fields, written and read by hand. Whatever is read is judged.

mod ask;
mod beat;
mod fields;
mod forward;
mod peer;
mod survey;
mod talk;
mod told;

use dyad_payload::{Exhausted, Payload};

use crate::error::Malformed;

pub(crate) use ask::{decode_mends, encode_mends};
pub(crate) use beat::{decode_answer, decode_beat, encode_answer, encode_beat};
pub(crate) use fields::{Put, Take};
pub(crate) use forward::{put_edition, take_changed, take_stale};
pub(crate) use peer::{decode, encode};
pub(crate) use talk::{decode_talk, encode_talk};

/// What travels behind the control part, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attached<'a>(pub [Option<&'a Payload>; 2]);

impl<'a> Attached<'a> {
    pub fn one(payload: &'a Payload) -> Self {
        Self([Some(payload), None])
    }

    pub fn iter(self) -> impl Iterator<Item = &'a Payload> {
        self.0.into_iter().flatten()
    }

    pub fn len(self) -> usize {
        self.iter().map(Payload::len).sum()
    }
}

/// Why a control part and its payload did not become a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// It makes no sense.
    Malformed(Malformed),
    /// A block of the payload does not match its sum (P7).
    DamagedPayload,
    /// No memory now; nothing is wrong with it.
    NoMemory,
}

impl From<Malformed> for Fault {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

impl From<Exhausted> for Fault {
    fn from(_: Exhausted) -> Self {
        Self::NoMemory
    }
}

/// Refuses a payload of another length than the fields say.
fn check_len(payload: &Payload, len: usize) -> Result<(), Malformed> {
    if payload.len() == len { Ok(()) } else { Err(Malformed::PayloadLength) }
}
