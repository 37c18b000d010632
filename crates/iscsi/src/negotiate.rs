//! Negotiation of parameters: every key of RFC 7143 §13 that a target answers, with its rule.
//!
//! An initiator offers, the target answers with the result; both then hold the same value. Offers are collected
//! while the text arrives and answered when the request is complete, because some answers depend on others
//! (FirstBurstLength on InitialR2T, ImmediateData and MaxBurstLength).

use crate::settings::{DigestPolicy, Settings};
use crate::text::{self, TextWriter};

/// What both sides hold once full feature phase begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parameters {
    /// Headers carry CRC32C.
    pub header_digest: bool,
    /// Data segments carry CRC32C.
    pub data_digest: bool,
    /// Largest data segment that the initiator may send, in bytes.
    pub receive_segment_bytes_max: u32,
    /// Largest data segment that it takes, in bytes.
    pub send_segment_bytes_max: u32,
    /// MaxBurstLength.
    pub burst_bytes_max: u32,
    /// FirstBurstLength.
    pub first_burst_bytes_max: u32,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// MaxOutstandingR2T.
    pub outstanding_r2ts_max: u16,
    /// DefaultTime2Wait, in seconds.
    pub time2wait: u16,
    /// DefaultTime2Retain, in seconds.
    pub time2retain: u16,
}

impl Default for Parameters {
    /// What holds if nothing is negotiated (RFC 7143 §13).
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            receive_segment_bytes_max: 8192,
            send_segment_bytes_max: 8192,
            burst_bytes_max: 262_144,
            first_burst_bytes_max: 65_536,
            initial_r2t: true,
            immediate_data: true,
            outstanding_r2ts_max: 1,
            time2wait: 2,
            time2retain: 20,
        }
    }
}

/// An operational key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2t,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2t,
    DataPduInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    IfMarker,
    OfMarker,
    IfMarkInt,
    OfMarkInt,
    TaskReporting,
    ProtocolLevel,
}

/// What a value of the key must look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Boolean,
    Number(u32, u32),
    Digests,
    /// Any text.
    Text,
}

/// One row per key: name, form, and whether it means anything in a discovery session (§13, "Irrelevant when").
struct Row {
    key: Key,
    name: &'static str,
    form: Form,
    in_discovery: bool,
}

const fn row(key: Key, name: &'static str, form: Form, in_discovery: bool) -> Row {
    Row { key, name, form, in_discovery }
}

const SEGMENT: Form = Form::Number(512, (1 << 24) - 1);

/// In the order in which answers are worked out; the row of a key is at its number.
const ROWS: [Row; 20] = [
    row(Key::HeaderDigest, "HeaderDigest", Form::Digests, true),
    row(Key::DataDigest, "DataDigest", Form::Digests, true),
    row(Key::MaxConnections, "MaxConnections", Form::Number(1, 65535), false),
    row(Key::InitialR2t, "InitialR2T", Form::Boolean, false),
    row(Key::ImmediateData, "ImmediateData", Form::Boolean, false),
    row(Key::MaxRecvDataSegmentLength, "MaxRecvDataSegmentLength", SEGMENT, true),
    row(Key::MaxBurstLength, "MaxBurstLength", SEGMENT, false),
    row(Key::FirstBurstLength, "FirstBurstLength", SEGMENT, false),
    row(Key::DefaultTime2Wait, "DefaultTime2Wait", Form::Number(0, 3600), true),
    row(Key::DefaultTime2Retain, "DefaultTime2Retain", Form::Number(0, 3600), true),
    row(Key::MaxOutstandingR2t, "MaxOutstandingR2T", Form::Number(1, 65535), false),
    row(Key::DataPduInOrder, "DataPDUInOrder", Form::Boolean, false),
    row(Key::DataSequenceInOrder, "DataSequenceInOrder", Form::Boolean, false),
    row(Key::ErrorRecoveryLevel, "ErrorRecoveryLevel", Form::Number(0, 2), true),
    row(Key::IfMarker, "IFMarker", Form::Text, true),
    row(Key::OfMarker, "OFMarker", Form::Text, true),
    row(Key::IfMarkInt, "IFMarkInt", Form::Text, true),
    row(Key::OfMarkInt, "OFMarkInt", Form::Text, true),
    row(Key::TaskReporting, "TaskReporting", Form::Text, false),
    row(Key::ProtocolLevel, "iSCSIProtocolLevel", Form::Number(0, 31), true),
];

/// The level of RFC 7143 itself (RFC 7144 §7.1); 2 would promise the functions of RFC 7144.
const PROTOCOL_LEVEL: u32 = 1;

/// Seconds that a host should wait before it comes back after a lost connection. Its own wish, if longer, holds.
const TIME2WAIT: u32 = 2;

/// The offered list of digests: which one comes first among those that we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Digests {
    first_is_crc32c: bool,
    crc32c: bool,
    none: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Offer {
    Boolean(bool),
    Number(u32),
    Digests(Digests),
    /// Of a key whose answer does not depend on the value.
    Any,
    /// Not a value of this key.
    Invalid,
}

/// A key may be offered once in a negotiation (RFC 7143 §6.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OfferedTwice;

/// Offers not yet answered.
#[derive(Debug, Default)]
pub struct Offers {
    offers: [Option<Offer>; ROWS.len()],
    /// Bit per key, over the whole login.
    seen: u32,
}

/// The negotiation ends without a result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NegotiationError {
    /// The digests that the initiator accepts and those that the settings allow have nothing in common.
    #[error("no digest suits both sides")]
    Digest,
    /// A declaration has a value that cannot be used.
    #[error("the initiator declares an impossible {0}")]
    Declaration(&'static str),
}

impl Offers {
    /// Notes an offer. `Ok(false)` if this is not an operational key.
    ///
    /// # Errors
    /// If the key was offered before.
    pub fn note(&mut self, name: &str, value: &str) -> Result<bool, OfferedTwice> {
        let Some(at) = ROWS.iter().position(|row| row.name == name) else { return Ok(false) };
        if self.seen & 1 << at != 0 {
            return Err(OfferedTwice);
        }
        self.seen |= 1 << at;
        self.offers[at] = Some(parse_offer(ROWS[at].form, value));
        Ok(true)
    }

    /// Answers what was noted since the last call and puts the results into `agreed`.
    ///
    /// # Errors
    /// See [`NegotiationError`].
    pub fn answer(
        &mut self,
        ours: &Settings,
        is_discovery: bool,
        agreed: &mut Parameters,
        reply: &mut TextWriter,
    ) -> Result<(), NegotiationError> {
        for (row, offer) in ROWS.iter().zip(&mut self.offers) {
            let Some(offer) = offer.take() else { continue };
            if is_discovery && !row.in_discovery {
                reply.push(row.name, "Irrelevant");
            } else if offer == Offer::Invalid && row.key == Key::MaxRecvDataSegmentLength {
                return Err(NegotiationError::Declaration(row.name));
            } else if offer == Offer::Invalid {
                reply.push(row.name, "Reject");
            } else {
                answer_one(row, offer, ours, agreed, reply)?;
            }
        }
        Ok(())
    }

    /// Answers every offer with `Reject` but the declaration of MaxRecvDataSegmentLength: in full feature phase
    /// nothing else may change (RFC 7143 §13, "Use").
    ///
    /// # Errors
    /// See [`NegotiationError`].
    pub fn answer_in_full_feature(
        &mut self,
        agreed: &mut Parameters,
        reply: &mut TextWriter,
    ) -> Result<(), NegotiationError> {
        for (row, offer) in ROWS.iter().zip(&mut self.offers) {
            match (row.key, offer.take()) {
                (_, None) => {}
                (Key::MaxRecvDataSegmentLength, Some(Offer::Number(bytes))) => agreed.send_segment_bytes_max = bytes,
                (Key::MaxRecvDataSegmentLength, _) => return Err(NegotiationError::Declaration(row.name)),
                _ => reply.push(row.name, "Reject"),
            }
        }
        Ok(())
    }
}

/// What must hold when login ends although the initiator did not offer it.
///
/// # Errors
/// If the settings require digests that were not agreed.
pub fn check_agreed(ours: &Settings, agreed: &Parameters) -> Result<(), NegotiationError> {
    let is_missing = |policy, agreed: bool| policy == DigestPolicy::Required && !agreed;
    if is_missing(ours.header_digest, agreed.header_digest) || is_missing(ours.data_digest, agreed.data_digest) {
        return Err(NegotiationError::Digest);
    }
    Ok(())
}

fn parse_offer(form: Form, value: &str) -> Offer {
    match form {
        Form::Boolean => text::boolean(value).map_or(Offer::Invalid, Offer::Boolean),
        Form::Number(min, max) => match text::number(value) {
            Some(number) if (min..=max).contains(&number) => Offer::Number(number),
            _ => Offer::Invalid,
        },
        Form::Digests => {
            let mut known = value.split(',').filter(|name| ["CRC32C", "None"].contains(name)).peekable();
            let first_is_crc32c = known.peek() == Some(&"CRC32C");
            let (mut crc32c, mut none) = (false, false);
            for name in known {
                crc32c |= name == "CRC32C";
                none |= name == "None";
            }
            if crc32c || none { Offer::Digests(Digests { first_is_crc32c, crc32c, none }) } else { Offer::Invalid }
        }
        Form::Text => Offer::Any,
    }
}

fn answer_one(
    row: &Row,
    offer: Offer,
    ours: &Settings,
    agreed: &mut Parameters,
    reply: &mut TextWriter,
) -> Result<(), NegotiationError> {
    match offer {
        Offer::Boolean(value) => reply.push(row.name, text::yes_no(agree_boolean(row.key, value, ours, agreed))),
        Offer::Number(value) => agree_number(row, value, ours, agreed, reply),
        Offer::Digests(list) => {
            let (policy, result) = match row.key {
                Key::HeaderDigest => (ours.header_digest, &mut agreed.header_digest),
                _ => (ours.data_digest, &mut agreed.data_digest),
            };
            *result = pick_digest(policy, list).ok_or(NegotiationError::Digest)?;
            reply.push(row.name, if *result { "CRC32C" } else { "None" });
        }
        // Markers are gone (§13.25): "Reject" would be right, "No" is allowed for the first two, and is what
        // initiators that still ask compare with.
        Offer::Any if matches!(row.key, Key::IfMarker | Key::OfMarker) => reply.push(row.name, "No"),
        Offer::Any if row.key == Key::TaskReporting => reply.push(row.name, "RFC3720"),
        Offer::Any | Offer::Invalid => reply.push(row.name, "Reject"),
    }
    Ok(())
}

fn agree_boolean(key: Key, theirs: bool, ours: &Settings, agreed: &mut Parameters) -> bool {
    match key {
        // OR (§13.10).
        Key::InitialR2t => {
            agreed.initial_r2t = theirs || ours.initial_r2t;
            agreed.initial_r2t
        }
        // AND (§13.11).
        Key::ImmediateData => {
            agreed.immediate_data = theirs && ours.immediate_data;
            agreed.immediate_data
        }
        // OR (§13.18, §13.19): data always comes in order.
        _ => true,
    }
}

fn agree_number(row: &Row, theirs: u32, ours: &Settings, agreed: &mut Parameters, reply: &mut TextWriter) {
    let result = match row.key {
        Key::MaxRecvDataSegmentLength => {
            agreed.send_segment_bytes_max = theirs;
            return; // declared, not answered; ours is declared on its own
        }
        Key::MaxBurstLength => {
            agreed.burst_bytes_max = theirs.min(ours.burst_bytes_max);
            // FirstBurstLength must not exceed it, whether it was offered or not (§13.14).
            agreed.first_burst_bytes_max = agreed.first_burst_bytes_max.min(agreed.burst_bytes_max);
            agreed.burst_bytes_max
        }
        Key::FirstBurstLength if agreed.initial_r2t && !agreed.immediate_data => {
            reply.push(row.name, "Irrelevant"); // §13.14
            return;
        }
        Key::FirstBurstLength => {
            agreed.first_burst_bytes_max = theirs.min(ours.first_burst_bytes_max).min(agreed.burst_bytes_max);
            agreed.first_burst_bytes_max
        }
        Key::DefaultTime2Wait => {
            agreed.time2wait = theirs.max(TIME2WAIT) as u16; // maximum (§13.15), at most 3600
            theirs.max(TIME2WAIT)
        }
        Key::DefaultTime2Retain => {
            agreed.time2retain = 0; // minimum (§13.16): tasks are not kept
            0
        }
        Key::MaxOutstandingR2t => {
            agreed.outstanding_r2ts_max = (theirs as u16).min(ours.outstanding_r2ts_max);
            u32::from(agreed.outstanding_r2ts_max)
        }
        Key::MaxConnections => 1,
        Key::ErrorRecoveryLevel => 0,
        _ => theirs.min(PROTOCOL_LEVEL),
    };
    reply.push(row.name, result);
}

fn pick_digest(policy: DigestPolicy, list: Digests) -> Option<bool> {
    match policy {
        DigestPolicy::AsOffered => Some(list.first_is_crc32c),
        DigestPolicy::Required => list.crc32c.then_some(true),
        DigestPolicy::Off => list.none.then_some(false),
    }
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
