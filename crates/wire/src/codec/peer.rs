//! Messages between the parts of a segment.

use dyad_contract::image::Token;
use dyad_contract::volume::Edition;
use dyad_mirror::PeerMessage;
use dyad_payload::{Payload, Slab};
use dyad_units::ImageId;

use crate::codec::forward::{put_op, put_perhaps, put_result, take_forward, take_forwarded};
use crate::codec::survey::{put_survey, take_survey};
use crate::codec::{Attached, Fault, Put, Take, ask, told};
use crate::error::{Malformed, SendError};
use crate::frame::Kind;

/// Writes the message's control part; says which kind it is and what goes behind it. `edition`: of an operation of a host.
pub(crate) fn encode<'a>(
    put: &mut Put<'_>,
    message: &'a PeerMessage,
    edition: Option<Edition>,
) -> Result<(Kind, Attached<'a>), SendError> {
    match message {
        PeerMessage::Ask { image, link, token, request } => Ok(ask::encode(put, *image, *link, *token, request)),
        PeerMessage::Told { image, link, token, reply } => told::encode(put, *image, *link, *token, reply),
        PeerMessage::Forward { id, epoch, age, beat, op } => {
            put.u64(*id);
            put.epoch(*epoch);
            put.u64(age.as_nanos());
            put.u64(*beat);
            put_perhaps(put, edition);
            Ok((Kind::Forward, put_op(put, op)?))
        }
        PeerMessage::Forwarded { id, result } => {
            put.u64(*id);
            Ok((Kind::Forwarded, put_result(put, result)?))
        }
        message => Ok((encode_plain(put, message)?, Attached::default())),
    }
}

/// Messages that are all control part.
fn encode_plain(put: &mut Put<'_>, message: &PeerMessage) -> Result<Kind, SendError> {
    Ok(match message {
        PeerMessage::ForwardAbort { id } => {
            put.u64(*id);
            Kind::ForwardAbort
        }
        PeerMessage::Record { record } => {
            put.record(record)?;
            Kind::Record
        }
        PeerMessage::ImageUp { image, has_everything } => {
            put.image(*image);
            put.flag(*has_everything);
            Kind::ImageUp
        }
        PeerMessage::ImageDown { image, reason } => {
            put.image(*image);
            put.reason(*reason);
            Kind::ImageDown
        }
        PeerMessage::Open { image, record } | PeerMessage::Refused { image, record } => {
            put.image(*image);
            put.record(record)?;
            if matches!(message, PeerMessage::Open { .. }) { Kind::Open } else { Kind::Refused }
        }
        PeerMessage::Opened { image, epoch, link } => {
            put.image(*image);
            put.epoch(*epoch);
            put.u64(*link);
            Kind::Opened
        }
        PeerMessage::Survey { image, token } => {
            put_question(put, *image, *token);
            Kind::Survey
        }
        PeerMessage::Shown { image, token, survey, incarnation } => {
            put_question(put, *image, *token);
            put.incarnation(*incarnation);
            put.flag(survey.is_some());
            survey.as_ref().map_or(Ok(()), |survey| put_survey(put, survey))?;
            Kind::Shown
        }
        PeerMessage::List { image, token, after, from } => {
            put_question(put, *image, *token);
            put.stamp(*after);
            put.extent(*from);
            Kind::List
        }
        PeerMessage::Listed { image, token, changed } => {
            put_question(put, *image, *token);
            put.flag(changed.is_some());
            changed.as_ref().map_or(Ok(()), |changed| told::put_changed(put, changed))?;
            Kind::Listed
        }
        PeerMessage::Released { epoch } => {
            put.epoch(*epoch);
            Kind::Released
        }
        PeerMessage::Ask { .. }
        | PeerMessage::Told { .. }
        | PeerMessage::Forward { .. }
        | PeerMessage::Forwarded { .. } => {
            unreachable!("encoded above, with what goes behind it")
        }
    })
}

fn put_question(put: &mut Put<'_>, image: ImageId, token: Token) {
    put.image(image);
    put.u64(token.0);
}

/// Reads a message of one of the kinds above 0x30. The payload is complete, and verified unless its blocks have sums.
pub(crate) fn decode(
    kind: Kind,
    control: &[u8],
    payload: &Payload,
    slab: &Slab,
) -> Result<(PeerMessage, Option<Edition>), Fault> {
    let take = Take(control);
    let message = match kind {
        Kind::AskRead | Kind::AskWrite | Kind::Ask => ask::decode(kind, take, payload, slab)?,
        Kind::ToldData | Kind::ToldWritten | Kind::Told => told::decode(kind, take, payload)?,
        Kind::Forward => return Ok(take_forward(take, payload)?),
        Kind::Forwarded => take_forwarded(take, payload)?,
        _ => decode_plain(kind, take)?,
    };
    Ok((message, None))
}

fn decode_plain(kind: Kind, mut take: Take<'_>) -> Result<PeerMessage, Malformed> {
    let take = &mut take;
    let message = match kind {
        Kind::Record => PeerMessage::Record { record: take.record()? },
        Kind::ImageUp => PeerMessage::ImageUp { image: take.image()?, has_everything: take.flag("has everything")? },
        Kind::ImageDown => PeerMessage::ImageDown { image: take.image()?, reason: take.reason()? },
        Kind::Open => PeerMessage::Open { image: take.image()?, record: take.record()? },
        Kind::Opened => PeerMessage::Opened { image: take.image()?, epoch: take.epoch()?, link: take.u64()? },
        Kind::Refused => PeerMessage::Refused { image: take.image()?, record: take.record()? },
        Kind::Survey => PeerMessage::Survey { image: take.image()?, token: take.token()? },
        Kind::Shown => {
            let (image, token, incarnation) = (take.image()?, take.token()?, take.incarnation()?);
            let survey = match take.flag("survey")? {
                true => Some(Box::new(take_survey(take)?)),
                false => None,
            };
            PeerMessage::Shown { image, token, survey, incarnation }
        }
        Kind::List => {
            PeerMessage::List { image: take.image()?, token: take.token()?, after: take.stamp()?, from: take.extent()? }
        }
        Kind::Listed => {
            let (image, token) = (take.image()?, take.token()?);
            let changed = match take.flag("list")? {
                true => Some(Box::new(told::take_changed(take)?)),
                false => None,
            };
            PeerMessage::Listed { image, token, changed }
        }
        Kind::Released => PeerMessage::Released { epoch: take.epoch()? },
        Kind::ForwardAbort => PeerMessage::ForwardAbort { id: take.u64()? },
        _ => unreachable!("the receiver hands over messages of parts only"),
    };
    Take(take.0).end()?;
    Ok(message)
}
