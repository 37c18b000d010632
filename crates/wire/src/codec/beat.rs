//! Beats and their answers (M5).

use dyad_cluster::Incarnation;
use dyad_mirror::{Beat, BeatAnswer, OWNED_MAX};
use dyad_units::{Epoch, SegmentId};

use crate::codec::{Put, Take};
use crate::error::{Malformed, SendError};

const ENTRY_BYTES: usize = 20;

/// Segments with their epochs, in order.
type Listed = Vec<(SegmentId, Epoch)>;

pub(crate) fn encode_beat(put: &mut Put<'_>, beat: &Beat) -> Result<(), SendError> {
    encode(put, beat.number, beat.incarnation, &beat.owned)
}

pub(crate) fn encode_answer(put: &mut Put<'_>, answer: &BeatAnswer) -> Result<(), SendError> {
    encode(put, answer.number, answer.incarnation, &answer.granted)
}

fn encode(put: &mut Put<'_>, number: u64, life: Incarnation, listed: &[(SegmentId, Epoch)]) -> Result<(), SendError> {
    if listed.len() > OWNED_MAX {
        return Err(SendError::TooLong { len: listed.len() as u64, max: OWNED_MAX as u64 });
    }
    put.u64(number);
    put.incarnation(life);
    put.u32(listed.len() as u32);
    for (segment, epoch) in listed {
        put.bytes(&segment.to_bytes());
        put.epoch(*epoch);
    }
    Ok(())
}

pub(crate) fn decode_beat(take: Take<'_>) -> Result<Beat, Malformed> {
    let (number, incarnation, owned) = decode(take)?;
    Ok(Beat { number, incarnation, owned })
}

pub(crate) fn decode_answer(take: Take<'_>) -> Result<BeatAnswer, Malformed> {
    let (number, incarnation, granted) = decode(take)?;
    Ok(BeatAnswer { number, incarnation, granted })
}

fn decode(mut take: Take<'_>) -> Result<(u64, Incarnation, Listed), Malformed> {
    let (number, life) = (take.u64()?, take.incarnation()?);
    let entry = |take: &mut Take<'_>| Ok((SegmentId::from_bytes(take.array()?), take.epoch()?));
    let listed = take.list(ENTRY_BYTES, entry)?;
    take.end()?;
    // Whoever reads the list looks segments up in it: sorted, each once.
    if listed.len() > OWNED_MAX || !listed.is_sorted_by(|one, next| one.0 < next.0) {
        return Err(Malformed::Field("segments"));
    }
    Ok((number, life, listed))
}
