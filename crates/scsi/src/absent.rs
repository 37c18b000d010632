//! Commands to a LUN that is not there: a target has one logical unit, LUN 0 (SAM-5 §4.7, incorrect logical
//! unit selection; SPC-4 §6.6.2).

use crate::inquiry;
use crate::response::Begun;
use crate::sense::{Asc, Condition};
use crate::status;
use crate::table::{self, Call, Refusal};
use crate::unit::LogicalUnit;

const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;

/// INQUIRY and REQUEST SENSE say that nothing is there; all else is refused.
#[cold]
pub(crate) fn begin(unit: &LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let absent = Condition::illegal(Asc::LUN_NOT_SUPPORTED);
    if !matches!(call.cdb[0], INQUIRY | REQUEST_SENSE) {
        return Err(absent.into());
    }
    let row = table::find(call.cdb)?;
    row.command().check(row, call.cdb)?;
    if call.cdb[0] == INQUIRY { inquiry::absent(unit, call) } else { status::sense_data(unit, call, absent) }
}
