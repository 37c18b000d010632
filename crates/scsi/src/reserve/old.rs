//! RESERVE and RELEASE, 6 and 10 (SPC-2 §7.16, §7.17, §7.21, §7.22): of the whole unit, for the nexus that asks.

use crate::reserve::request::{self, Request};
use crate::response::Begun;
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;

const RESERVE_6: u8 = 0x16;
const RESERVE_10: u8 = 0x56;

/// RESERVE(6), (10), RELEASE(6), (10).
pub(crate) fn begin(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let request = if matches!(call.cdb[0], RESERVE_6 | RESERVE_10) { Request::Reserve } else { Request::Release };
    Ok(request::attempt(unit, request::task(call.nexus, request))?.into())
}
