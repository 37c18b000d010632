//! Requests of an owner to an image.

use dyad_contract::image::{RECORD_BYTES_MAX, Request, Space, Token, Unmap, Write};
use dyad_mirror::PeerMessage;
use dyad_payload::{Payload, Slab, Sums};
use dyad_units::{Epoch, ImageId, Interval, Piece};

use crate::codec::{Attached, Fault, Put, Take, check_len};
use crate::error::Malformed;
use crate::frame::Kind;
use crate::mends::Common;

const FLUSH: u8 = 1;
const CLOSE: u8 = 2;
const CLOSED: u8 = 3;
const GRANT: u8 = 4;
const RESERVE: u8 = 5;
const RELEASE: u8 = 6;
const RECORD: u8 = 7;
const SURVEY: u8 = 8;
const SHOW: u8 = 9;
const EXAMINE: u8 = 10;
const UNMAP: u8 = 11;
const MEND_UNMAP: u8 = 12;
const ADOPT: u8 = 13;
const CHANGED: u8 = 14;
const COPIED: u8 = 15;
const PROGRESS: u8 = 16;
const SETTLED: u8 = 17;
const GIVE_BACK: u8 = 18;

const CREDIT: u8 = 1;
const RESERVED: u8 = 2;
const BLOCK_SUM_BYTES: usize = 8;

pub(super) fn encode<'a>(
    put: &mut Put<'_>,
    image: ImageId,
    link: u64,
    token: Token,
    request: &'a Request,
) -> (Kind, Attached<'a>) {
    put.image(image);
    put.u64(link);
    put.u64(token.0);
    match request {
        Request::Read { piece } => {
            put.piece(*piece);
            (Kind::AskRead, Attached::default())
        }
        Request::Write(write) => {
            put_write(put, write);
            (Kind::AskWrite, Attached::one(&write.data))
        }
        Request::Mend(_) => unreachable!("mends are sent together"),
        other => (Kind::Ask, put_other(put, other)),
    }
}

fn put_piece(put: &mut Put<'_>, write: &Write) {
    put.piece(write.piece);
    put.u8(match write.space {
        Space::Credit => CREDIT,
        Space::Reserved => RESERVED,
    });
    put.u8(0);
}

fn take_piece(take: &mut Take<'_>) -> Result<(Piece, Space), Malformed> {
    let piece = take.piece()?;
    let space = match take.u8()? {
        CREDIT => Space::Credit,
        RESERVED => Space::Reserved,
        _ => return Err(Malformed::Field("space")),
    };
    take.u8()?;
    Ok((piece, space))
}

fn put_write(put: &mut Put<'_>, write: &Write) {
    put_piece(put, write);
    put.stamp(write.stamp);
    put.u64(write.number.value());
    put.u64(write.settled.value());
    write.sums.iter().for_each(|sum| put.u64(sum.0));
}

/// Mends of one frame; their payloads follow one after the other.
pub(crate) fn encode_mends(put: &mut Put<'_>, common: &Common, each: &[(Token, Write)]) {
    put.image(common.image);
    put.u64(common.link);
    put.stamp(common.stamp);
    put.u64(common.settled.value());
    for (token, write) in each {
        put.u64(token.0);
        put_piece(put, write);
        put.u64(write.number.value());
        write.sums.iter().for_each(|sum| put.u64(sum.0));
    }
}

/// Reads them. They may carry sums that their blocks do not match: what is bad at the source is bad here too (M15).
pub(crate) fn decode_mends(mut take: Take<'_>, payload: &Payload, slab: &Slab) -> Result<Vec<PeerMessage>, Fault> {
    let (image, link, stamp, settled) = (take.image()?, take.u64()?, take.stamp()?, take.number()?);
    let (mut mends, mut at) = (Vec::new(), 0);
    while !take.0.is_empty() || mends.is_empty() {
        let token = take.token()?;
        let (piece, space) = take_piece(&mut take)?;
        let number = take.number()?;
        let sums = take.bytes(usize::from(piece.count()) * BLOCK_SUM_BYTES)?;
        if payload.len() - at < piece.len() {
            return Err(Malformed::PayloadLength.into());
        }
        let (data, sums) = (payload.slice(at, piece.len()), Sums::from_le_bytes(sums, slab)?);
        at += piece.len();
        let request = Request::Mend(Write { piece, stamp, number, settled, data, sums, space });
        mends.push(PeerMessage::Ask { image, link, token, request });
    }
    check_len(payload, at)?;
    Ok(mends)
}

fn put_other<'a>(put: &mut Put<'_>, request: &'a Request) -> Attached<'a> {
    match request {
        Request::Read { .. } | Request::Write(_) | Request::Mend(_) => unreachable!("they have kinds of their own"),
        Request::Flush => put.u8(FLUSH),
        Request::Close { interval } => {
            put.u8(CLOSE);
            put.u32(interval.value());
        }
        Request::Closed { stamp } => {
            put.u8(CLOSED);
            put.stamp(*stamp);
        }
        Request::Grant { credits } => {
            put.u8(GRANT);
            put.u32(*credits);
        }
        Request::GiveBack { epoch } => {
            put.u8(GIVE_BACK);
            put.epoch(*epoch);
        }
        Request::Reserve { piece } => {
            put.u8(RESERVE);
            put.piece(*piece);
        }
        Request::Release { piece } => {
            put.u8(RELEASE);
            put.piece(*piece);
        }
        Request::Record { epoch, record } => {
            put.u8(RECORD);
            put.epoch(*epoch);
            return Attached::one(record);
        }
        Request::Survey => put.u8(SURVEY),
        Request::Show => put.u8(SHOW),
        Request::Examine { extent } => {
            put.u8(EXAMINE);
            put.extent(*extent);
        }
        Request::Unmap(unmap) => put_unmap(put, UNMAP, unmap),
        Request::MendUnmap(unmap) => put_unmap(put, MEND_UNMAP, unmap),
        Request::Adopt { piece } => {
            put.u8(ADOPT);
            put.piece(*piece);
        }
        Request::Changed { after, from } => {
            put.u8(CHANGED);
            put.stamp(*after);
            put.extent(*from);
        }
        Request::Copied { extent, stamp } => {
            put.u8(COPIED);
            put.extent(*extent);
            put.stamp(*stamp);
        }
        Request::Progress { cursor, complete } => {
            put.u8(PROGRESS);
            put.flag(cursor.is_some());
            put.extent(cursor.unwrap_or(dyad_units::Extent(0)));
            put.stamp(*complete);
        }
        Request::Settled { extent, stamp } => {
            put.u8(SETTLED);
            put.extent(*extent);
            put.stamp(*stamp);
        }
    }
    Attached::default()
}

fn put_unmap(put: &mut Put<'_>, tag: u8, unmap: &Unmap) {
    put.u8(tag);
    put.piece(unmap.piece);
    put.stamp(unmap.stamp);
    put.u64(unmap.number.value());
    put.u64(unmap.settled.value());
}

pub(super) fn decode(kind: Kind, mut take: Take<'_>, payload: &Payload, slab: &Slab) -> Result<PeerMessage, Fault> {
    let (image, link, token) = (take.image()?, take.u64()?, take.token()?);
    let request = match kind {
        Kind::AskRead => Request::Read { piece: take.piece()? },
        Kind::AskWrite => {
            let write = take_write(&mut take, payload, slab)?;
            // P7: made where the data entered the cluster, verified wherever it arrives.
            if !write.sums.iter().eq(payload.block_sums()) {
                return Err(Fault::DamagedPayload);
            }
            Request::Write(write)
        }
        _ => take_other(&mut take, payload)?,
    };
    take.end()?;
    Ok(PeerMessage::Ask { image, link, token, request })
}

fn take_write(take: &mut Take<'_>, payload: &Payload, slab: &Slab) -> Result<Write, Fault> {
    let (piece, space) = take_piece(take)?;
    let (stamp, number, settled) = (take.stamp()?, take.number()?, take.number()?);
    let sums = take.bytes(usize::from(piece.count()) * BLOCK_SUM_BYTES)?;
    check_len(payload, piece.len())?;
    let sums = Sums::from_le_bytes(sums, slab)?;
    Ok(Write { piece, stamp, number, settled, data: payload.clone(), sums, space })
}

fn take_other(take: &mut Take<'_>, payload: &Payload) -> Result<Request, Malformed> {
    let tag = take.u8()?;
    if tag != RECORD {
        check_len(payload, 0)?;
    }
    Ok(match tag {
        FLUSH => Request::Flush,
        CLOSE => Request::Close { interval: Interval::new(take.u32()?) },
        CLOSED => Request::Closed { stamp: take.stamp()? },
        GRANT => Request::Grant { credits: take.u32()? },
        GIVE_BACK => Request::GiveBack { epoch: Epoch::new(take.u32()?) },
        RESERVE => Request::Reserve { piece: take.piece()? },
        RELEASE => Request::Release { piece: take.piece()? },
        RECORD if payload.len() <= RECORD_BYTES_MAX => {
            Request::Record { epoch: Epoch::new(take.u32()?), record: payload.clone() }
        }
        RECORD => return Err(Malformed::PayloadLength),
        SURVEY => Request::Survey,
        SHOW => Request::Show,
        EXAMINE => Request::Examine { extent: take.extent()? },
        UNMAP => Request::Unmap(take_unmap(take)?),
        MEND_UNMAP => Request::MendUnmap(take_unmap(take)?),
        ADOPT => Request::Adopt { piece: take.piece()? },
        CHANGED => Request::Changed { after: take.stamp()?, from: take.extent()? },
        COPIED => Request::Copied { extent: take.extent()?, stamp: take.stamp()? },
        PROGRESS => {
            let (is_some, cursor) = (take.flag("cursor")?, take.extent()?);
            Request::Progress { cursor: is_some.then_some(cursor), complete: take.stamp()? }
        }
        SETTLED => Request::Settled { extent: take.extent()?, stamp: take.stamp()? },
        _ => return Err(Malformed::Field("request")),
    })
}

fn take_unmap(take: &mut Take<'_>) -> Result<Unmap, Malformed> {
    Ok(Unmap { piece: take.piece()?, stamp: take.stamp()?, number: take.number()?, settled: take.number()? })
}
