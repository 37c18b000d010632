//! Operations of hosts on their way to the owner, and their results (M18, M19).

use dyad_contract::volume::{Edition, STATE_BYTES_MAX, VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_mirror::PeerMessage;
use dyad_payload::Payload;
use dyad_units::{BLOCK_BYTES, Epoch, Period, SECTOR_BYTES, Span};
use smallvec::SmallVec;

use crate::codec::{Attached, Put, Take, check_len};
use crate::error::{Malformed, SendError};
use crate::frame::PAYLOAD_BYTES_MAX;

const READ: u8 = 1;
const WRITE: u8 = 2;
const FILL: u8 = 3;
const UNMAP: u8 = 4;
const COMPARE_AND_WRITE: u8 = 5;
const COMPARE: u8 = 6;
const VERIFY: u8 = 7;
const FLUSH: u8 = 8;
const READ_STATE: u8 = 9;
const WRITE_STATE: u8 = 10;
const WRITE_ATOMIC: u8 = 11;

const DONE: u8 = 0;
const DATA: u8 = 1;
const MISCOMPARE: u8 = 2;
const MEDIUM: u8 = 3;
const NO_SPACE: u8 = 4;
const BUSY: u8 = 5;
const ABORTED: u8 = 6;
const WRITE_FAULT: u8 = 7;
const OUT_OF_RANGE: u8 = 8;

/// Most spans of one unmap: four times the most descriptors that a host's UNMAP may have.
const SPANS_MAX: usize = 1024;
const SPAN_BYTES: usize = 16;

/// Tag, whether durable, then the span (of most) or the spans.
pub(super) fn put_op<'a>(put: &mut Put<'_>, op: &'a VolumeOp) -> Result<Attached<'a>, SendError> {
    let (tag, is_durable, span, attached) = match op {
        VolumeOp::Read { span } => {
            check_bytes(span.len(), PAYLOAD_BYTES_MAX)?;
            (READ, false, Some(*span), Attached::default())
        }
        VolumeOp::Write { span, data, durable } => (WRITE, *durable, Some(*span), Attached::one(data)),
        VolumeOp::Fill { span, pattern, durable } => (FILL, *durable, Some(*span), Attached::one(pattern)),
        VolumeOp::Unmap { spans, durable } => {
            check_bytes(spans.len() as u64, SPANS_MAX)?;
            put.u8(UNMAP);
            put.flag(*durable);
            put.u32(spans.len() as u32);
            spans.iter().for_each(|span| put.span(*span));
            return Ok(Attached::default());
        }
        VolumeOp::CompareAndWrite { span, expected, data, durable } => {
            (COMPARE_AND_WRITE, *durable, Some(*span), Attached([Some(expected), Some(data)]))
        }
        VolumeOp::WriteAtomic { span, data } => (WRITE_ATOMIC, true, Some(*span), Attached::one(data)),
        VolumeOp::Compare { span, expected } => (COMPARE, false, Some(*span), Attached::one(expected)),
        VolumeOp::Verify { span } => (VERIFY, false, Some(*span), Attached::default()),
        VolumeOp::Flush => (FLUSH, false, None, Attached::default()),
        VolumeOp::ReadState => (READ_STATE, false, None, Attached::default()),
        VolumeOp::WriteState { data } => (WRITE_STATE, false, None, Attached::one(data)),
    };
    put.u8(tag);
    put.flag(is_durable);
    span.into_iter().for_each(|span| put.span(span));
    check_bytes(attached.len() as u64, PAYLOAD_BYTES_MAX)?;
    Ok(attached)
}

fn check_bytes(len: u64, max: usize) -> Result<(), SendError> {
    if len > max as u64 { Err(SendError::TooLong { len, max: max as u64 }) } else { Ok(()) }
}

pub(super) fn take_forward(mut take: Take<'_>, payload: &Payload) -> Result<(PeerMessage, Option<Edition>), Malformed> {
    let (id, epoch) = (take.u64()?, take.epoch()?);
    let (age, beat) = (Period::from_nanos(take.u64()?), take.u64()?);
    let (has_edition, edition) = (take.flag("edition")?, take_edition(&mut take)?);
    let op = take_op(&mut take, payload)?;
    take.end()?;
    Ok((PeerMessage::Forward { id, epoch, age, beat, op }, has_edition.then_some(edition)))
}

/// Whether there is one, then which.
pub(super) fn put_perhaps(put: &mut Put<'_>, edition: Option<Edition>) {
    put.flag(edition.is_some());
    put_edition(put, edition.unwrap_or(Edition { epoch: Epoch::new(0), changes: 0 }));
}

pub(crate) fn put_edition(put: &mut Put<'_>, edition: Edition) {
    put.epoch(edition.epoch);
    put.u64(edition.changes);
}

fn take_edition(take: &mut Take<'_>) -> Result<Edition, Malformed> {
    Ok(Edition { epoch: take.epoch()?, changes: take.u64()? })
}

/// An operation, and the edition that is the newest.
pub(crate) fn take_stale(mut take: Take<'_>) -> Result<(u64, Edition), Malformed> {
    let (id, edition) = (take.u64()?, take_edition(&mut take)?);
    take.end()?;
    Ok((id, edition))
}

pub(crate) fn take_changed(mut take: Take<'_>) -> Result<Edition, Malformed> {
    let edition = take_edition(&mut take)?;
    take.end()?;
    Ok(edition)
}

fn take_op(take: &mut Take<'_>, payload: &Payload) -> Result<VolumeOp, Malformed> {
    let (tag, durable) = (take.u8()?, take.flag("durable")?);
    let has_payload = matches!(tag, WRITE | FILL | COMPARE_AND_WRITE | WRITE_ATOMIC | COMPARE | WRITE_STATE);
    if !has_payload {
        check_len(payload, 0)?;
    }
    let whole = |span: Span| -> Result<Payload, Malformed> {
        if span.len() == payload.len() as u64 { Ok(payload.clone()) } else { Err(Malformed::PayloadLength) }
    };
    Ok(match tag {
        READ => {
            let span = take.span()?;
            // The answer could not be sent.
            if span.len() > PAYLOAD_BYTES_MAX as u64 {
                return Err(Malformed::Field("span"));
            }
            VolumeOp::Read { span }
        }
        WRITE => {
            let span = take.span()?;
            VolumeOp::Write { span, data: whole(span)?, durable }
        }
        FILL => {
            let (span, len) = (take.span()?, payload.len());
            let is_block = len == SECTOR_BYTES as usize || len == BLOCK_BYTES as usize;
            // The owner counts on both: what it is asked for is whole blocks of the pattern's length.
            if !is_block || !span.len().is_multiple_of(len as u64) || !span.offset().is_multiple_of(len as u64) {
                return Err(Malformed::PayloadLength);
            }
            VolumeOp::Fill { span, pattern: payload.clone(), durable }
        }
        UNMAP => VolumeOp::Unmap { spans: take_spans(take)?, durable },
        COMPARE_AND_WRITE => {
            let span = take.span()?;
            // Twice the span: what is expected, then what is written.
            let half = payload.len() / 2;
            if !payload.len().is_multiple_of(2) || span.len() != half as u64 {
                return Err(Malformed::PayloadLength);
            }
            let (expected, data) = (payload.slice(0, half), payload.slice(half, half));
            VolumeOp::CompareAndWrite { span, expected, data, durable }
        }
        WRITE_ATOMIC => {
            let span = take.span()?;
            VolumeOp::WriteAtomic { span, data: whole(span)? }
        }
        COMPARE => {
            let span = take.span()?;
            VolumeOp::Compare { span, expected: whole(span)? }
        }
        VERIFY => VolumeOp::Verify { span: take.span()? },
        FLUSH => VolumeOp::Flush,
        READ_STATE => VolumeOp::ReadState,
        WRITE_STATE if payload.len() <= STATE_BYTES_MAX => VolumeOp::WriteState { data: payload.clone() },
        WRITE_STATE => return Err(Malformed::PayloadLength),
        _ => return Err(Malformed::Field("operation")),
    })
}

fn take_spans(take: &mut Take<'_>) -> Result<SmallVec<[Span; 1]>, Malformed> {
    let count = take.u32()? as usize;
    if count == 0 || count > SPANS_MAX {
        return Err(Malformed::Field("spans"));
    }
    if count > take.0.len() / SPAN_BYTES {
        return Err(Malformed::Short);
    }
    (0..count).map(|_| take.span()).collect()
}

/// Tag, then where in the range (or the volume) it failed.
pub(super) fn put_result<'a>(put: &mut Put<'_>, result: &'a VolumeResult) -> Result<Attached<'a>, SendError> {
    let (tag, offset, attached) = match result {
        Ok(VolumeDone::Done) => (DONE, 0, Attached::default()),
        Ok(VolumeDone::Data(data)) => (DATA, 0, Attached::one(data)),
        Err(VolumeError::Miscompare { offset }) => (MISCOMPARE, *offset, Attached::default()),
        Err(VolumeError::Medium { offset }) => (MEDIUM, *offset, Attached::default()),
        Err(VolumeError::NoSpace) => (NO_SPACE, 0, Attached::default()),
        Err(VolumeError::Busy) => (BUSY, 0, Attached::default()),
        Err(VolumeError::Aborted) => (ABORTED, 0, Attached::default()),
        Err(VolumeError::WriteFault) => (WRITE_FAULT, 0, Attached::default()),
        Err(VolumeError::OutOfRange) => (OUT_OF_RANGE, 0, Attached::default()),
    };
    put.u8(tag);
    put.u64(offset);
    check_bytes(attached.len() as u64, PAYLOAD_BYTES_MAX)?;
    Ok(attached)
}

pub(super) fn take_forwarded(mut take: Take<'_>, payload: &Payload) -> Result<PeerMessage, Malformed> {
    let (id, tag, offset) = (take.u64()?, take.u8()?, take.u64()?);
    take.end()?;
    if tag != DATA {
        check_len(payload, 0)?;
    }
    let result = match tag {
        DONE => Ok(VolumeDone::Done),
        DATA => Ok(VolumeDone::Data(payload.clone())),
        MISCOMPARE => Err(VolumeError::Miscompare { offset }),
        MEDIUM => Err(VolumeError::Medium { offset }),
        NO_SPACE => Err(VolumeError::NoSpace),
        BUSY => Err(VolumeError::Busy),
        ABORTED => Err(VolumeError::Aborted),
        WRITE_FAULT => Err(VolumeError::WriteFault),
        OUT_OF_RANGE => Err(VolumeError::OutOfRange),
        _ => return Err(Malformed::Field("result")),
    };
    Ok(PeerMessage::Forwarded { id, result })
}
