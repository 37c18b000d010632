//! The parameter list of EXTENDED COPY (SPC-4 §6.3.1 to §6.3.6): a header, descriptors of what is copied from and to,
//! and segment descriptors that name those by number.

use crate::cdb::{be16, be32, be64};
use crate::sense::{Asc, Condition, SenseKey};
use crate::unit::LogicalUnit;

use super::errand::{UnitName, Unreached};

pub(super) const HEADER_BYTES: usize = 16;
/// MAXIMUM CSCD DESCRIPTOR COUNT: one of each would do; some hosts repeat it.
pub(super) const CSCDS_MAX: usize = 4;
/// MAXIMUM SEGMENT DESCRIPTOR COUNT: hosts send one. With the longest segments 4 GiB, and well below a minute.
pub(super) const SEGMENTS_MAX: usize = 16;
/// MAXIMUM DESCRIPTOR LIST LENGTH.
pub(super) const LIST_BYTES_MAX: usize = CSCDS_MAX * CSCD_BYTES + SEGMENTS_MAX * BLOCK_TO_BLOCK_BYTES;

/// Identification descriptor CSCD descriptor (SPC-4 §6.3.5.2).
pub(super) const IDENTIFICATION: u8 = 0xe4;
const CSCD_BYTES: usize = 32;
/// Block device to block device (SPC-4 §6.3.6.3).
pub(super) const BLOCK_TO_BLOCK: u8 = 0x02;
const BLOCK_TO_BLOCK_BYTES: usize = 28;

/// One end of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct End {
    /// None: in this volume.
    pub(super) other: Option<UnitName>,
    pub(super) lba: u64,
}

/// What to copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    pub(super) source: End,
    pub(super) destination: End,
    pub(super) blocks: u64,
}

/// A list that was understood.
pub(crate) struct Request {
    /// LIST IDENTIFIER, if its status shall be kept.
    pub(super) id: Option<u8>,
    pub(super) segments: Vec<Segment>,
}

const TOO_SHORT: Condition = Condition::illegal(Asc::PARAMETER_LIST_LENGTH);
/// No CSCD descriptor has that number, or it leads nowhere.
const UNREACHABLE: Condition = Condition::new(SenseKey::CopyAborted, Asc::UNREACHABLE_COPY_TARGET);

/// Checks all of the list before anything is copied.
pub(super) fn parse(unit: &LogicalUnit, list: &[u8]) -> Result<Request, Condition> {
    let header = list.get(..HEADER_BYTES).ok_or(TOO_SHORT)?;
    let id = list_id(header)?;
    let cscd_bytes = be16(header, 2) as usize;
    let segment_bytes = be32(header, 8) as usize;
    if be32(header, 12) != 0 {
        return Err(Condition::illegal(Asc::INLINE_DATA_LENGTH));
    }
    if cscd_bytes.saturating_add(segment_bytes) > LIST_BYTES_MAX {
        return Err(TOO_SHORT); // PARAMETER LIST LENGTH ERROR also where it is too long (SPC-4 §6.3.1)
    }
    let segments_at = HEADER_BYTES + cscd_bytes;
    let cscds = list.get(HEADER_BYTES..segments_at).ok_or(TOO_SHORT)?;
    let segments = list.get(segments_at..segments_at + segment_bytes).ok_or(TOO_SHORT)?;
    let cscds = check_cscds(cscds)?;
    let descriptors = split_segments(segments, segments_at)?;
    let mut found = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        found.push(segment(unit, cscds, descriptor)?);
    }
    Ok(Request { id, segments: found })
}

/// LIST ID USAGE and LIST IDENTIFIER (SPC-4 table 104).
fn list_id(header: &[u8]) -> Result<Option<u8>, Condition> {
    match header[1] >> 3 & 0x03 {
        0b00 => Ok(Some(header[0])),
        0b10 => Ok(Some(header[0])), // need not be kept; it is all the same
        0b11 if header[0] == 0 => Ok(None),
        0b11 => Err(Condition::invalid_list(0)),
        _ => Err(Condition::invalid_list(1)),
    }
}

/// The CSCD descriptors: all of the one kind there is, and not too many. LU ID TYPE is not looked at: a designator needs
/// none (SPC-4 §6.3.5.1; SPC-3 had it reserved, and refusing it failed libiscsi's suite).
fn check_cscds(bytes: &[u8]) -> Result<&[[u8; CSCD_BYTES]], Condition> {
    let (cscds, rest) = bytes.as_chunks::<CSCD_BYTES>();
    if let Some(at) = cscds.iter().position(|cscd| cscd[0] != IDENTIFICATION) {
        let at = HEADER_BYTES + at * CSCD_BYTES;
        return Err(Condition { asc: Asc::TARGET_DESCRIPTOR_TYPE, ..Condition::invalid_list(at as u16) });
    }
    if cscds.len() > CSCDS_MAX {
        return Err(Condition::illegal(Asc::TOO_MANY_TARGET_DESCRIPTORS));
    }
    if !rest.is_empty() {
        return Err(Condition::invalid_list(2)); // CSCD DESCRIPTOR LIST LENGTH
    }
    for (number, cscd) in cscds.iter().enumerate() {
        const LONGEST: u8 = 20;
        let at = HEADER_BYTES + number * CSCD_BYTES;
        if cscd[7] > LONGEST {
            return Err(Condition::invalid_list(at as u16 + 7));
        }
    }
    Ok(cscds)
}

/// The segment descriptors; the first is at this byte of the list.
fn split_segments(mut bytes: &[u8], mut at: usize) -> Result<Vec<&[u8]>, Condition> {
    const HEADER: usize = 4;
    let mut all = Vec::new();
    while !bytes.is_empty() {
        if all.len() == SEGMENTS_MAX {
            return Err(Condition::illegal(Asc::TOO_MANY_SEGMENT_DESCRIPTORS));
        }
        if bytes[0] != BLOCK_TO_BLOCK {
            return Err(Condition { asc: Asc::SEGMENT_DESCRIPTOR_TYPE, ..Condition::invalid_list(at as u16) });
        }
        let len = HEADER + be16(bytes.get(..HEADER).ok_or(TOO_SHORT)?, 2) as usize;
        if len != BLOCK_TO_BLOCK_BYTES {
            return Err(Condition::invalid_list(at as u16 + 2));
        }
        let (descriptor, rest) = bytes.split_at_checked(len).ok_or(TOO_SHORT)?;
        all.push(descriptor);
        (bytes, at) = (rest, at + len);
    }
    Ok(all)
}

/// DC does not matter: the blocks of source and destination are of one length. Nor does CAT, and PAD of the CSCD
/// descriptors: whole blocks leave no residue that could be added to the next segment, or filled up (SPC-4 §5.16.7.2).
fn segment(unit: &LogicalUnit, cscds: &[[u8; CSCD_BYTES]], descriptor: &[u8]) -> Result<Segment, Condition> {
    let end = |index_at, lba_at| {
        let cscd = cscds.get(be16(descriptor, index_at) as usize).ok_or(UNREACHABLE)?;
        Ok::<End, Condition>(End { other: reach(unit, cscd)?, lba: be64(descriptor, lba_at) })
    };
    let (source, destination) = (end(4, 12)?, end(6, 20)?);
    if source.other.is_some() && destination.other.is_some() {
        return Err(Unreached::NotThere.condition());
    }
    Ok(Segment { blocks: be16(descriptor, 10), source, destination })
}

/// Which volume a CSCD descriptor names; none: this one.
fn reach(unit: &LogicalUnit, cscd: &[u8; CSCD_BYTES]) -> Result<Option<UnitName>, Condition> {
    const NUL: u8 = 0x20;
    const DISK: u8 = 0x00;
    // CODE SET, ASSOCIATION and DESIGNATOR TYPE, and how long it is: as in the Device Identification page.
    const NAA: (u8, u8, u8) = (0x01, 0x03, 16);
    if cscd[1] & NUL != 0 {
        return Err(UNREACHABLE);
    }
    if cscd[1] & 0x1f != DISK {
        return Err(Unreached::OtherBlocks.condition());
    }
    // A T10 designator does not fit: it is longer than 20 bytes.
    let name = (cscd[4] & 0x0f, cscd[5] & 0x3f, cscd[7]) == NAA;
    let name = cscd[8..].first_chunk().filter(|_| name).map(|bytes| UnitName(*bytes));
    let name = name.ok_or(Unreached::NotThere.condition())?;
    let block_bytes = be32(cscd, 28) & 0x00ff_ffff;
    if block_bytes != u64::from(unit.settings.shape.block().bytes()) {
        return Err(Unreached::OtherBlocks.condition());
    }
    Ok(Some(name).filter(|name| !unit.is_named(name)))
}
