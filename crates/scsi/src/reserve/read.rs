//! PERSISTENT RESERVE IN (SPC-4 §6.15).

use crate::cdb::be16;
use crate::reserve::state::{Kind, State};
use crate::response::Begun;
use crate::table::{Call, Refusal};
use crate::unit::LogicalUnit;

pub(crate) const READ_KEYS: u8 = 0x00;
pub(crate) const READ_RESERVATION: u8 = 0x01;
pub(crate) const REPORT_CAPABILITIES: u8 = 0x02;
pub(crate) const READ_FULL_STATUS: u8 = 0x03;

/// PRGENERATION and ADDITIONAL LENGTH.
const HEADER_BYTES: usize = 8;

pub(crate) fn begin(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let state = unit.shared.state();
    // SPC-2 §5.5.1: whoever holds the unit by RESERVE has to release it first.
    if state.reserved.is_some() {
        return Err(Refusal::Conflict);
    }
    let data = match call.cdb[1] & 0x1f {
        READ_KEYS => keys(state),
        READ_RESERVATION => reservation(state),
        REPORT_CAPABILITIES => capabilities(state),
        _ => full_status(state),
    };
    unit.reply(&data, be16(call.cdb, 7) as usize)
}

/// ADDITIONAL LENGTH is of all there is, whatever the allocation length cuts off (SPC-4 §4.2.5.6).
fn with_header(state: &State, body: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(HEADER_BYTES + body.len());
    data.extend(state.generation.to_be_bytes());
    data.extend((body.len() as u32).to_be_bytes());
    data.extend(body);
    data
}

/// SPC-4 §6.15.2.
fn keys(state: &State) -> Vec<u8> {
    let keys: Vec<u8> = state.registrations.iter().flat_map(|registration| registration.key.to_be_bytes()).collect();
    with_header(state, &keys)
}

/// SPC-4 §6.15.3: the key is zero where everybody who is registered holds it.
fn reservation(state: &State) -> Vec<u8> {
    let Some(reservation) = &state.reservation else { return with_header(state, &[]) };
    let holder = reservation.holder.as_ref().and_then(|holder| state.registration(holder));
    let mut body = [0; 16];
    body[..8].copy_from_slice(&holder.map_or(0, |registration| registration.key).to_be_bytes());
    body[13] = reservation.kind as u8; // SCOPE zero: the logical unit
    with_header(state, &body)
}

/// SPC-4 §6.15.4.
fn capabilities(state: &State) -> Vec<u8> {
    const CRH: u8 = 0x10;
    const SIP_C: u8 = 0x08;
    const ATP_C: u8 = 0x04;
    const PTPL_C: u8 = 0x01;
    const TMV: u8 = 0x80;
    // TEST UNIT READY passes every reservation; of the others nothing is said.
    const ALLOW_COMMANDS: u8 = 0b001 << 4;
    let mut data = vec![0, 8, CRH | SIP_C | ATP_C | PTPL_C, TMV | ALLOW_COMMANDS | u8::from(state.aptpl), 0, 0, 0, 0];
    for kind in Kind::ALL {
        // Types 0 to 7 are the bits of byte 4, type 8 is bit 0 of byte 5 (SPC-4 table 197).
        let (byte, bit) = (4 + kind as usize / 8, kind as usize % 8);
        data[byte] |= 1 << bit;
    }
    data
}

/// SPC-4 §6.15.5.
fn full_status(state: &State) -> Vec<u8> {
    const R_HOLDER: u8 = 0x01;
    const DESCRIPTOR_BYTES: usize = 24;
    let mut body = Vec::new();
    for registration in &state.registrations {
        let mut descriptor = [0; DESCRIPTOR_BYTES];
        descriptor[..8].copy_from_slice(&registration.key.to_be_bytes());
        if let Some(reservation) = state.reservation.as_ref().filter(|_| state.is_holder(&registration.path)) {
            descriptor[12] = R_HOLDER;
            descriptor[13] = reservation.kind as u8;
        }
        descriptor[18..20].copy_from_slice(&registration.path.target.to_be_bytes());
        let mut id = Vec::new();
        registration.path.initiator.emit(&mut id);
        descriptor[20..].copy_from_slice(&(id.len() as u32).to_be_bytes());
        body.extend(descriptor);
        body.extend(id);
    }
    with_header(state, &body)
}
