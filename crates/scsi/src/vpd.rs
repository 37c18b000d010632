//! Vital product data (SPC-4 §7.8, SBC-3 §6.6).

use crate::copy;
use crate::inquiry::VENDOR;
use crate::log;
use crate::shape::{COMPARE_AND_WRITE_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, WRITE_SAME_BLOCKS_MAX};
use crate::unit::{Identity, LogicalUnit};

/// Supported VPD Pages, mandatory.
pub(crate) const SUPPORTED_PAGES: u8 = 0x00;
const SERIAL_NUMBER: u8 = 0x80;
const DEVICE_IDENTIFICATION: u8 = 0x83;
const THIRD_PARTY_COPY: u8 = 0x8f;
const BLOCK_LIMITS: u8 = 0xb0;
const BLOCK_CHARACTERISTICS: u8 = 0xb1;
const PROVISIONING: u8 = 0xb2;

/// In ascending order (SPC-4 §7.8.15).
const ALL: [u8; 7] = [
    SUPPORTED_PAGES,
    SERIAL_NUMBER,
    DEVICE_IDENTIFICATION,
    THIRD_PARTY_COPY,
    BLOCK_LIMITS,
    BLOCK_CHARACTERISTICS,
    PROVISIONING,
];

/// The page with its header, if it is supported.
pub(crate) fn page(unit: &LogicalUnit, code: u8) -> Option<Vec<u8>> {
    let body = match code {
        SUPPORTED_PAGES => ALL.to_vec(),
        SERIAL_NUMBER => serial_number(&unit.settings.identity).into_bytes(),
        DEVICE_IDENTIFICATION => device_identification(&unit.settings.identity),
        THIRD_PARTY_COPY => copy::vpd_page(unit),
        BLOCK_LIMITS => block_limits(unit),
        BLOCK_CHARACTERISTICS => block_characteristics(),
        PROVISIONING => provisioning(unit),
        _ => return None,
    };
    let len = u16::try_from(body.len()).expect("pages are short");
    let mut page = vec![0, code];
    page.extend(len.to_be_bytes());
    page.extend(body);
    Some(page)
}

/// The volume's id in 32 hexadecimal digits (SPC-4 §7.8.17).
fn serial_number(identity: &Identity) -> String {
    format!("{:032x}", u128::from_be_bytes(identity.volume.to_bytes()))
}

/// Longest iSCSI name (RFC 7143 §4.2.7.1).
pub(crate) const NAME_BYTES_MAX: usize = 223;

const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF_8: u8 = 3;
/// Association of a designator (SPC-4 table 609).
const LOGICAL_UNIT: u8 = 0x00;
/// With PIV set, as PROTOCOL IDENTIFIER is iSCSI's.
const TARGET_PORT: u8 = 0x90;
const TARGET_DEVICE: u8 = 0xa0;

/// IEEE COMPANY_ID of the NAA designator. None was bought: this one is of those that IEEE 802c leaves to whoever
/// administers a network (the first octet's low four bits are 0010b), so no company can have it, now or later.
const COMPANY_ID: u128 = 0x00d2_59ad;

/// A name of the volume, the same wherever and whenever it is served.
struct Designator {
    code_set: u8,
    /// ASSOCIATION and DESIGNATOR TYPE.
    kind: u8,
    bytes: Vec<u8>,
}

/// NAA 6h, IEEE Registered Extended: 4 bits, 24 bits of the company, 100 bits of the volume's random id (SPC-4
/// §7.8.6.6.5).
pub(crate) fn naa(identity: &Identity) -> [u8; 16] {
    const ID_BITS: u32 = 100;
    let id = u128::from_be_bytes(identity.volume.to_bytes()) & ((1 << ID_BITS) - 1);
    (0x6 << 124 | COMPANY_ID << ID_BITS | id).to_be_bytes()
}

/// The volume's designators.
fn unit_designators(identity: &Identity) -> [Designator; 2] {
    let t10 = [&VENDOR[..], serial_number(identity).as_bytes()].concat();
    [
        Designator { code_set: BINARY, kind: LOGICAL_UNIT | 0x3, bytes: naa(identity).to_vec() },
        Designator { code_set: ASCII, kind: LOGICAL_UNIT | 0x1, bytes: t10 },
    ]
}

/// The target's name, as far as iSCSI allows.
pub(crate) fn target_name(identity: &Identity) -> &str {
    cut(&identity.target_name, NAME_BYTES_MAX)
}

/// Designators of the volume, then of the port and the target device that this session goes through (SPC-4 §7.8.6).
fn device_identification(identity: &Identity) -> Vec<u8> {
    let [port_high, port_low] = identity.target_port.to_be_bytes();
    let [group_high, group_low] = identity.target_port_group.to_be_bytes();
    let name = target_name(identity);
    let port_name = format!("{name},t,0x{:04x}", identity.target_port_group);
    let mut page = Vec::new();
    for known in unit_designators(identity) {
        designator(&mut page, known.code_set, known.kind, &known.bytes);
    }
    designator(&mut page, BINARY, TARGET_PORT | 0x4, &[0, 0, port_high, port_low]);
    designator(&mut page, BINARY, TARGET_PORT | 0x5, &[0, 0, group_high, group_low]);
    designator(&mut page, UTF_8, TARGET_PORT | 0x8, &name_string(&port_name));
    designator(&mut page, UTF_8, TARGET_DEVICE | 0x8, &name_string(name));
    page
}

fn designator(page: &mut Vec<u8>, code_set: u8, kind: u8, designator: &[u8]) {
    const ISCSI: u8 = 0x5;
    let protocol = if kind & 0x80 == 0 { 0 } else { ISCSI };
    let len = u8::try_from(designator.len()).expect("names are cut");
    page.extend([protocol << 4 | code_set, kind, 0, len]);
    page.extend(designator);
}

/// SCSI name string: ends with a zero, padded with zeros to a multiple of four (SPC-4 §7.8.6.11).
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

fn cut(name: &str, len_max: usize) -> &str {
    let mut len = name.len().min(len_max);
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    &name[..len]
}

/// Body of the pages that SBC-3 gives 64 bytes.
const SBC_PAGE_BYTES: usize = 60;

/// SBC-3 §6.6.4. Offsets are those of the page, whose header is four bytes.
fn block_limits(unit: &LogicalUnit) -> Vec<u8> {
    let limits = unit.limits;
    let mut page = [0; SBC_PAGE_BYTES + 4];
    page[4] = 0x01; // WSNZ: a WRITE SAME says how many blocks it means
    page[5] = COMPARE_AND_WRITE_BLOCKS_MAX;
    page[6..8].copy_from_slice(&(limits.granularity as u16).to_be_bytes());
    page[8..12].copy_from_slice(&limits.transfer.to_be_bytes());
    page[12..16].copy_from_slice(&limits.transfer_optimal.to_be_bytes());
    page[16..20].copy_from_slice(&limits.transfer.to_be_bytes());
    page[20..24].copy_from_slice(&limits.unmap.to_be_bytes());
    page[24..28].copy_from_slice(&UNMAP_DESCRIPTORS_MAX.to_be_bytes());
    page[28..32].copy_from_slice(&limits.granularity.to_be_bytes());
    page[32] = 0x80; // UGAVALID; UNMAP GRANULARITY ALIGNMENT is zero
    page[36..44].copy_from_slice(&WRITE_SAME_BLOCKS_MAX.to_be_bytes());
    // SBC-4 §6.6.4. ATOMIC ALIGNMENT and GRANULARITY are zero: any range will do; so are the two fields of ATOMIC BOUNDARY,
    // which is not supported.
    page[44..48].copy_from_slice(&limits.atomic.to_be_bytes());
    page[4..].to_vec()
}

/// SBC-3 §6.6.3: a medium that does not rotate, so that hosts do not order by address.
fn block_characteristics() -> Vec<u8> {
    let mut body = [0; SBC_PAGE_BYTES];
    body[1] = 1;
    body.to_vec()
}

/// SBC-3 §6.6.5: THRESHOLD EXPONENT; LBPU, LBPWS, LBPWS10, LBPRZ; thin.
fn provisioning(unit: &LogicalUnit) -> Vec<u8> {
    vec![log::threshold_exponent(unit.settings.shape.block().shift()), 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0]
}
