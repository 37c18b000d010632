//! READ CAPACITY (SBC-3 §5.15, §5.16).

use crate::cdb::{be32, length};
use crate::response::Begun;
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;

/// Last LBA and block length; a last LBA that does not fit says "ask READ CAPACITY(16)".
pub(crate) fn read_capacity_10(unit: &mut LogicalUnit, _: &Call<'_>) -> Result<Begun, Refusal> {
    let shape = unit.settings.shape;
    let last = u32::try_from(shape.blocks() - 1).unwrap_or(u32::MAX);
    let mut data = [0; 8];
    data[..4].copy_from_slice(&last.to_be_bytes());
    data[4..].copy_from_slice(&shape.block().bytes().to_be_bytes());
    unit.reply(&data, data.len())
}

/// As above, with the physical block and logical block provisioning.
pub(crate) fn read_capacity_16(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const LBPME: u8 = 0x80;
    const LBPRZ: u8 = 0x40;
    let shape = unit.settings.shape;
    let mut data = [0; 32];
    data[..8].copy_from_slice(&(shape.blocks() - 1).to_be_bytes());
    data[8..12].copy_from_slice(&shape.block().bytes().to_be_bytes());
    data[13] = shape.block().physical_exponent() as u8;
    data[14] = LBPME | LBPRZ; // thin, and unmapped blocks read as zeros (P1)
    unit.reply(&data, length(be32(call.cdb, 10)))
}
