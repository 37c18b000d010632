//! What an image knows about how it stopped.

use dyad_contract::image::Survey;
use dyad_units::{Extent, Region};

use crate::codec::{Put, Take};
use crate::error::{Malformed, SendError};
use crate::receiver::MESSAGE_BYTES_MAX;

const PIECE_BYTES: usize = 6;
const INDEX_BYTES: usize = 4;

pub(super) fn put_survey(put: &mut Put<'_>, survey: &Survey) -> Result<(), SendError> {
    let lists = survey.unsettled.len() * PIECE_BYTES + (survey.marked.len() + survey.lost.len()) * INDEX_BYTES;
    // Room for everything before and between the lists.
    let len = lists + CONTROL_REST;
    if len > MESSAGE_BYTES_MAX {
        return Err(SendError::TooLong { len: len as u64, max: MESSAGE_BYTES_MAX as u64 });
    }
    put.stamp(survey.closed);
    put.epoch(survey.epoch);
    put.flag(survey.lived_through);
    put.flag(survey.progress.is_some());
    let (cursor, complete) = survey.progress.unwrap_or((Extent(0), dyad_units::Stamp::NEVER));
    put.extent(cursor);
    put.stamp(complete);
    put.record_bytes(&survey.record)?;
    put.u32(survey.unsettled.len() as u32);
    survey.unsettled.iter().for_each(|piece| put.piece(*piece));
    put.u32(survey.marked.len() as u32);
    survey.marked.iter().for_each(|region| put.u32(region.0));
    put.u32(survey.lost.len() as u32);
    survey.lost.iter().for_each(|extent| put.extent(*extent));
    Ok(())
}

/// A survey's longest record, its fixed fields, and the frame's fields before it.
const CONTROL_REST: usize = dyad_contract::image::RECORD_BYTES_MAX + 256;

pub(super) fn take_survey(take: &mut Take<'_>) -> Result<Survey, Malformed> {
    let (closed, epoch, lived_through) = (take.stamp()?, take.epoch()?, take.flag("lived through")?);
    let (has_progress, progress) = (take.flag("progress")?, (take.extent()?, take.stamp()?));
    Ok(Survey {
        closed,
        epoch,
        lived_through,
        progress: has_progress.then_some(progress),
        record: take.record_bytes()?.to_vec(),
        unsettled: take.list(PIECE_BYTES, Take::piece)?,
        marked: take.list(INDEX_BYTES, |take| take.u32().map(Region))?,
        lost: take.list(INDEX_BYTES, Take::extent)?,
    })
}
