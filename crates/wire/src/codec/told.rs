//! Replies of an image to its owner.

use dyad_contract::image::{BlockState, CHANGED_MAX, Changed, Examined, ImageError, Reply, Token, Written};
use dyad_mirror::PeerMessage;
use dyad_payload::{BlockSum, Payload};
use dyad_units::{BLOCK_BYTES, Epoch, ImageId};

use crate::codec::survey::{put_survey, take_survey};
use crate::codec::{Attached, Put, Take, check_len};
use crate::error::{Malformed, SendError};
use crate::frame::Kind;

const DONE: u8 = 1;
const GRANTED: u8 = 2;
const SURVEY: u8 = 3;
const EXAMINED: u8 = 4;
const CHANGED: u8 = 5;
const FAILED: u8 = 6;

const UNWRITTEN: u8 = 0;
const VERIFIED: u8 = 1;
const UNVERIFIED: u8 = 2;
const UNREADABLE: u8 = 3;
const MISSING: u8 = 4;

const DAMAGED: u8 = 1;
const LOST: u8 = 2;
const FULL: u8 = 3;
const CANNOT_READ: u8 = 4;
const POISONED: u8 = 5;
const SUPERSEDED: u8 = 6;
const OVERLOADED: u8 = 7;

pub(super) fn encode<'a>(
    put: &mut Put<'_>,
    image: ImageId,
    link: u64,
    token: Token,
    reply: &'a Reply,
) -> Result<(Kind, Attached<'a>), SendError> {
    put.image(image);
    put.u64(link);
    put.u64(token.0);
    match reply {
        Reply::Data(data) => return Ok((Kind::ToldData, Attached::one(data))),
        Reply::Written(written) => {
            put.flag(written.used_slot);
            return Ok((Kind::ToldWritten, Attached::default()));
        }
        Reply::Done => put.u8(DONE),
        Reply::Granted(credits) => {
            put.u8(GRANTED);
            put.u32(*credits);
        }
        Reply::Survey(survey) => {
            put.u8(SURVEY);
            put_survey(put, survey)?;
        }
        Reply::Examined(examined) => {
            put.u8(EXAMINED);
            put_examined(put, examined);
        }
        Reply::Changed(changed) => {
            put.u8(CHANGED);
            put_changed(put, changed)?;
        }
        Reply::Failed(error) => {
            put.u8(FAILED);
            put_error(put, *error);
        }
    }
    Ok((Kind::Told, Attached::default()))
}

fn put_examined(put: &mut Put<'_>, examined: &Examined) {
    put.stamp(examined.stamp);
    for block in &examined.blocks {
        let (state, sum) = match block {
            BlockState::Unwritten => (UNWRITTEN, 0),
            BlockState::Missing => (MISSING, 0),
            BlockState::Verified(sum) => (VERIFIED, sum.0),
            BlockState::Unverified(sum) => (UNVERIFIED, sum.0),
            BlockState::Unreadable => (UNREADABLE, 0),
        };
        put.u8(state);
        put.u64(sum);
    }
}

pub(super) fn put_changed(put: &mut Put<'_>, changed: &Changed) -> Result<(), SendError> {
    if changed.extents.len() > CHANGED_MAX {
        return Err(SendError::TooLong { len: changed.extents.len() as u64, max: CHANGED_MAX as u64 });
    }
    put.flag(changed.next.is_some());
    put.extent(changed.next.unwrap_or(dyad_units::Extent(0)));
    put.u32(changed.extents.len() as u32);
    for (extent, stamp) in &changed.extents {
        put.extent(*extent);
        put.stamp(*stamp);
    }
    Ok(())
}

fn put_error(put: &mut Put<'_>, error: ImageError) {
    let (tag, number, blocks) = match error {
        ImageError::Damaged { extent, blocks } => (DAMAGED, extent.0, blocks),
        ImageError::Lost { extent } => (LOST, extent.0, 0),
        ImageError::Full => (FULL, 0, 0),
        ImageError::Unreadable => (CANNOT_READ, 0, 0),
        ImageError::Poisoned => (POISONED, 0, 0),
        ImageError::Superseded { newest } => (SUPERSEDED, newest.value(), 0),
        ImageError::Overloaded => (OVERLOADED, 0, 0),
    };
    put.u8(tag);
    put.u32(number);
    put.u64(blocks);
}

pub(super) fn decode(kind: Kind, mut take: Take<'_>, payload: &Payload) -> Result<PeerMessage, Malformed> {
    let (image, link, token) = (take.image()?, take.u64()?, take.token()?);
    let reply = match kind {
        Kind::ToldData if payload.is_empty() || !payload.len().is_multiple_of(BLOCK_BYTES as usize) => {
            return Err(Malformed::PayloadLength);
        }
        Kind::ToldData => Reply::Data(payload.clone()),
        Kind::ToldWritten => Reply::Written(Written { used_slot: take.flag("used slot")? }),
        _ => {
            check_len(payload, 0)?;
            take_other(&mut take)?
        }
    };
    take.end()?;
    Ok(PeerMessage::Told { image, link, token, reply })
}

fn take_other(take: &mut Take<'_>) -> Result<Reply, Malformed> {
    Ok(match take.u8()? {
        DONE => Reply::Done,
        GRANTED => Reply::Granted(take.u32()?),
        SURVEY => Reply::Survey(Box::new(take_survey(take)?)),
        EXAMINED => Reply::Examined(Box::new(take_examined(take)?)),
        CHANGED => Reply::Changed(Box::new(take_changed(take)?)),
        FAILED => Reply::Failed(take_error(take)?),
        _ => return Err(Malformed::Field("reply")),
    })
}

fn take_examined(take: &mut Take<'_>) -> Result<Examined, Malformed> {
    let stamp = take.stamp()?;
    let mut blocks = [BlockState::Unwritten; 64];
    for block in &mut blocks {
        let (state, sum) = (take.u8()?, BlockSum(take.u64()?));
        *block = match state {
            UNWRITTEN => BlockState::Unwritten,
            MISSING => BlockState::Missing,
            VERIFIED => BlockState::Verified(sum),
            UNVERIFIED => BlockState::Unverified(sum),
            UNREADABLE => BlockState::Unreadable,
            _ => return Err(Malformed::Field("block state")),
        };
    }
    Ok(Examined { stamp, blocks })
}

pub(super) fn take_changed(take: &mut Take<'_>) -> Result<Changed, Malformed> {
    let (has_next, next) = (take.flag("next")?, take.extent()?);
    let extents = take.list(12, |take| Ok((take.extent()?, take.stamp()?)))?;
    if extents.len() > CHANGED_MAX {
        return Err(Malformed::Field("extents"));
    }
    Ok(Changed { extents, next: has_next.then_some(next) })
}

fn take_error(take: &mut Take<'_>) -> Result<ImageError, Malformed> {
    let tag = take.u8()?;
    let (extent, blocks) = (take.extent()?, take.u64()?);
    Ok(match tag {
        DAMAGED => ImageError::Damaged { extent, blocks },
        LOST => ImageError::Lost { extent },
        FULL => ImageError::Full,
        CANNOT_READ => ImageError::Unreadable,
        POISONED => ImageError::Poisoned,
        SUPERSEDED => ImageError::Superseded { newest: Epoch::new(extent.0) },
        OVERLOADED => ImageError::Overloaded,
        _ => return Err(Malformed::Field("error")),
    })
}
