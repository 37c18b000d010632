//! The messages of the arbiter's protocol, version 1: postcard, one message a frame.
//!
//! A frame is its length (u32, little endian) and that many bytes. Variants are numbered in the order in which they
//! stand here: new ones go to the end, with a new version of the protocol.

use dyad_cluster::{Key, Kind, STORED_BYTES_MAX, StoreError, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::local::tables::Change;
use crate::row::{self, KEY_BYTES, Raw};

/// Bound of a frame: a list's frame is sent when it has [`LIST_BYTES`], and one more record may be in it.
pub(super) const FRAME_MAX: usize = LIST_BYTES + STORED_BYTES_MAX + 1024;
/// A frame of a list is sent when it has so much: large enough that frames cost little.
pub(super) const LIST_BYTES: usize = 32 * 1024;
/// Bound of a whole list or content at a client: a hundred thousand records of usual size.
pub(super) const CONTENT_BYTES_MAX: usize = 64 << 20;

/// A record and its version; the record is not looked into.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) version: u64,
    pub(super) record: Vec<u8>,
}

/// A row of a list.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) key: [u8; KEY_BYTES],
    pub(super) row: Row,
}

/// What a client asks. One request is answered before the next is read.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Answered with [`Answer::At`]: are you there, and how far is the store?
    Ping,
    /// Answered with [`Answer::Found`].
    Get { key: [u8; KEY_BYTES] },
    /// Answered with [`Answer::Items`], several of them.
    List { kind: u8 },
    /// Answered with [`Answer::Set`] or [`Answer::Conflict`].
    Set { key: [u8; KEY_BYTES], expected: Option<u64>, record: Option<Vec<u8>> },
    /// The connection is for changes from now on: [`Answer::Changed`], [`Answer::At`] when there are none; before
    /// them [`Answer::Items`] with the whole content, if the changes since `after` are not all known.
    Watch { after: Option<u64> },
}

/// What the server says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The store's version; on a connection for changes: everything up to here was sent.
    At {
        version: u64,
    },
    Found {
        row: Option<Row>,
    },
    /// Part of a list, as it was at `version`.
    Items {
        version: u64,
        items: Vec<Item>,
        last: bool,
    },
    Set {
        version: u64,
    },
    Conflict {
        current: Option<Row>,
    },
    /// A change; no record: deleted.
    Changed {
        key: [u8; KEY_BYTES],
        version: u64,
        record: Option<Vec<u8>>,
    },
    /// It did not happen.
    Failed {
        reason: String,
    },
    /// Nobody knows whether it happened.
    Unknown {
        reason: String,
    },
    /// The request cannot be carried out by any arbiter of this version.
    Refused {
        reason: String,
    },
}

pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serializing plain data into a growing vector cannot fail.
    postcard::to_extend(message, Vec::new()).expect("plain data")
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// Allocates no more than the bytes that are there.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(Malformed),
    }
}

impl From<Raw> for Row {
    fn from(raw: Raw) -> Self {
        Self { version: raw.version.0, record: raw.record }
    }
}

impl From<Row> for Raw {
    fn from(row: Row) -> Self {
        Self { version: Version(row.version), record: row.record }
    }
}

impl Item {
    pub(super) fn new(key: Key, raw: Raw) -> Self {
        Self { key: row::key_bytes(key), row: raw.into() }
    }

    /// Bytes that it takes in a frame, about.
    pub(super) fn bytes(&self) -> usize {
        KEY_BYTES + 16 + self.row.record.len()
    }

    pub(super) fn open(self) -> Result<(Key, Raw), Malformed> {
        Ok((row::key_of(&self.key).ok_or(Malformed)?, self.row.into()))
    }
}

impl From<Change> for Answer {
    fn from(change: Change) -> Self {
        Self::Changed { key: row::key_bytes(change.key), version: change.version.0, record: change.record }
    }
}

pub(super) fn kind_of(byte: u8) -> Option<Kind> {
    row::kind_of(byte)
}

pub(super) fn unavailable(reason: impl ToString) -> StoreError {
    StoreError::Unavailable { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{Answer, FRAME_MAX, Item, Malformed, Request, Row, decode, encode};
    use dyad_cluster::STORED_BYTES_MAX;

    fn requests() -> Vec<(Request, &'static [u8])> {
        let key = [7; 17];
        vec![
            (Request::Ping, &[0]),
            (Request::Get { key }, &[1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]),
            (Request::List { kind: 2 }, &[2, 2]),
            (
                Request::Set { key, expected: Some(300), record: Some(vec![1, 9]) },
                &[3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 1, 172, 2, 1, 2, 1, 9],
            ),
            (Request::Watch { after: None }, &[4, 0]),
        ]
    }

    fn answers() -> Vec<(Answer, &'static [u8])> {
        let row = || Row { version: 3, record: vec![5] };
        vec![
            (Answer::At { version: 1 }, &[0, 1]),
            (Answer::Found { row: Some(row()) }, &[1, 1, 3, 1, 5]),
            (
                Answer::Items { version: 4, items: vec![Item { key: [0; 17], row: row() }], last: true },
                &[2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 5, 1],
            ),
            (Answer::Set { version: 2 }, &[3, 2]),
            (Answer::Conflict { current: None }, &[4, 0]),
            (
                Answer::Changed { key: [0; 17], version: 6, record: None },
                &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0],
            ),
            (Answer::Failed { reason: "a".to_owned() }, &[6, 1, 97]),
            (Answer::Unknown { reason: String::new() }, &[7, 0]),
            (Answer::Refused { reason: String::new() }, &[8, 0]),
        ]
    }

    /// What version 1 says never changes.
    #[test]
    fn the_messages_of_version_1_have_these_bytes() {
        for (request, bytes) in requests() {
            assert_eq!(encode(&request), bytes);
            assert_eq!(decode(bytes), Ok(request));
        }
        for (answer, bytes) in answers() {
            assert_eq!(encode(&answer), bytes);
            assert_eq!(decode(bytes), Ok(answer));
        }
    }

    #[test]
    fn cut_and_longer_messages_are_refused() {
        for (_, bytes) in requests() {
            for len in 0..bytes.len() {
                assert_eq!(decode::<Request>(&bytes[..len]), Err(Malformed));
            }
            assert_eq!(decode::<Request>(&[bytes, &[0]].concat()), Err(Malformed));
        }
    }

    #[test]
    fn the_largest_record_fits_a_frame() {
        let record = vec![0; STORED_BYTES_MAX];
        let set = Request::Set { key: [0; 17], expected: Some(u64::MAX), record: Some(record.clone()) };
        assert!(encode(&set).len() <= FRAME_MAX);
        let row = Row { version: u64::MAX, record };
        assert!(encode(&Answer::Conflict { current: Some(row) }).len() <= FRAME_MAX);
    }
}
