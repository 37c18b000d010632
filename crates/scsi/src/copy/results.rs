//! What hosts learn of copies: RECEIVE COPY STATUS (LID1), RECEIVE COPY OPERATING PARAMETERS (SPC-4 §6.22, §6.21), and
//! the Third-party Copy page (§7.8.17).

use super::list::{BLOCK_TO_BLOCK, CSCDS_MAX, IDENTIFICATION, LIST_BYTES_MAX, SEGMENTS_MAX};
use super::state::COPIES_MAX;
use crate::cdb::{be32, length};
use crate::response::Begun;
use crate::sense::{Condition, Field};
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;

/// HELD DATA LIMIT and granularity: no data are held, only the status of a copy.
const HELD_DATA_BYTES: u32 = 0;
/// Descriptor type codes, in ascending order.
const DESCRIPTORS: [u8; 2] = [BLOCK_TO_BLOCK, IDENTIFICATION];

/// RECEIVE COPY STATUS (LID1).
pub(crate) fn status(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const LIST_ID_AT: u8 = 2;
    let id = call.cdb[usize::from(LIST_ID_AT)];
    let (copy, status) =
        unit.copies.find(call.nexus, id).ok_or(Condition::invalid_cdb(Field::cdb(u16::from(LIST_ID_AT))))?;
    // TRANSFER COUNT UNITS: bytes, or KiB where those do not fit (SPC-4 table 252).
    let (units, count) = match u32::try_from(copy.bytes()) {
        Ok(bytes) => (0x00, bytes),
        Err(_) => (0x01, u32::try_from(copy.bytes() >> 10).unwrap_or(u32::MAX)),
    };
    let mut data = vec![0, 0, 0, 8, status as u8];
    data.extend(copy.processed().to_be_bytes());
    data.push(units);
    data.extend(count.to_be_bytes());
    unit.reply(&data, length(be32(call.cdb, 10)))
}

/// RECEIVE COPY OPERATING PARAMETERS: the limits.
pub(crate) fn operating_parameters(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    const LIST_AT: usize = 44;
    let mut data = [0; LIST_AT + DESCRIPTORS.len()];
    data[3] = data.len() as u8 - 4; // AVAILABLE DATA
    data[4] = 0x01; // SNLID: a copy without a list identifier
    data[8..10].copy_from_slice(&(CSCDS_MAX as u16).to_be_bytes());
    data[10..12].copy_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    data[12..16].copy_from_slice(&(LIST_BYTES_MAX as u32).to_be_bytes());
    data[16..20].copy_from_slice(&segment_bytes_max(unit).to_be_bytes());
    data[24..28].copy_from_slice(&HELD_DATA_BYTES.to_be_bytes());
    data[34..36].copy_from_slice(&(COPIES_MAX as u16).to_be_bytes());
    data[36] = COPIES_MAX as u8;
    data[37] = unit.settings.shape.block().shift() as u8; // DATA SEGMENT GRANULARITY
    data[43] = DESCRIPTORS.len() as u8;
    data[LIST_AT..].copy_from_slice(&DESCRIPTORS);
    unit.reply(&data, length(be32(call.cdb, 10)))
}

/// MAXIMUM SEGMENT LENGTH: what a block to block descriptor's 16-bit count can say.
fn segment_bytes_max(unit: &LogicalUnit) -> u32 {
    u32::from(u16::MAX) << unit.settings.shape.block().shift()
}

/// Body of the Third-party Copy page: the mandatory descriptors, in ascending order, each a multiple of four.
pub(crate) fn vpd_page(unit: &LogicalUnit) -> Vec<u8> {
    const COMMANDS: u16 = 0x0001;
    const PARAMETER_DATA: u16 = 0x0004;
    const SUPPORTED_DESCRIPTORS: u16 = 0x0008;
    const CSCD_IDS: u16 = 0x000c;
    const GENERAL: u16 = 0x8001;
    const HELD_DATA: u16 = 0xc001;
    let mut page = Vec::new();
    // EXTENDED COPY (LID1); RECEIVE COPY STATUS (LID1) and OPERATING PARAMETERS.
    let commands = [0x83, 1, 0x00, 0x84, 2, 0x00, 0x03];
    descriptor(&mut page, COMMANDS, &[&[commands.len() as u8][..], &commands].concat());
    let mut limits = [0; 28];
    limits[4..6].copy_from_slice(&(CSCDS_MAX as u16).to_be_bytes());
    limits[6..8].copy_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    limits[8..12].copy_from_slice(&(LIST_BYTES_MAX as u32).to_be_bytes());
    descriptor(&mut page, PARAMETER_DATA, &limits);
    descriptor(&mut page, SUPPORTED_DESCRIPTORS, &[&[DESCRIPTORS.len() as u8][..], &DESCRIPTORS].concat());
    descriptor(&mut page, CSCD_IDS, &[0, 0]); // none beside the descriptors' numbers
    let mut general = [0; 32];
    general[..4].copy_from_slice(&(COPIES_MAX as u32).to_be_bytes()); // TOTAL CONCURRENT COPIES
    general[4..8].copy_from_slice(&(COPIES_MAX as u32).to_be_bytes()); // MAXIMUM IDENTIFIED CONCURRENT COPIES
    general[8..12].copy_from_slice(&segment_bytes_max(unit).to_be_bytes());
    general[12] = unit.settings.shape.block().shift() as u8;
    descriptor(&mut page, GENERAL, &general);
    let mut held = [0; 28];
    held[..4].copy_from_slice(&HELD_DATA_BYTES.to_be_bytes());
    descriptor(&mut page, HELD_DATA, &held);
    page
}

fn descriptor(page: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let len = body.len().next_multiple_of(4);
    page.extend(kind.to_be_bytes());
    page.extend((len as u16).to_be_bytes());
    page.extend(body);
    page.resize(page.len() + len - body.len(), 0);
}
