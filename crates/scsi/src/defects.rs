//! READ DEFECT DATA (SBC-3 §5.18, §5.19): the lists are there, and empty. Bad blocks of the disks below are
//! healed or reported where they are met (P14), never by address to a host.

use crate::cdb::{be16, be32, length};
use crate::response::Begun;
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;

/// The header says which lists are valid, in the format that was asked for.
pub(crate) fn read_10(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    unit.reply(&[0, call.cdb[2] & 0x1f, 0, 0], length(be16(call.cdb, 7)))
}

/// As above, with a longer header.
pub(crate) fn read_12(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    unit.reply(&[0, call.cdb[1] & 0x1f, 0, 0, 0, 0, 0, 0], length(be32(call.cdb, 6)))
}
