//! Questions of administration and their answers: bytes that mean something to the nodes' programs only.

use crate::codec::{Put, Take};
use crate::error::Malformed;
use crate::receiver::TALK_BYTES_MAX;

pub(crate) fn encode_talk(put: &mut Put<'_>, id: u64, body: &[u8]) {
    put.u64(id);
    put.bytes(body);
}

pub(crate) fn decode_talk(mut take: Take<'_>) -> Result<(u64, Vec<u8>), Malformed> {
    let id = take.u64()?;
    match take.0 {
        body if body.len() <= TALK_BYTES_MAX => Ok((id, body.to_vec())),
        _ => Err(Malformed::Field("body")),
    }
}
