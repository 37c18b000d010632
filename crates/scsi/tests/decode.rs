//! Pages decoded from their bytes by the standard's tables, field by field, with the table's section: what a host's
//! tools would show. Bits that belong to no field of a table must be zero.

mod common;

use common::{Bench, good};
use dyad_scsi::{AccessState, PortGroup, Provisioning};
use dyad_units::Bytes;

/// A field: first byte, its most significant bit there, how many bits, name.
type Row = (usize, u32, u32, &'static str);

/// Fields of `bytes` that are not zero, one a line; those not listed must be zero.
fn decode(section: &str, rows: &[Row], bytes: &[u8]) -> String {
    let mut left = bytes.to_vec();
    let mut text = format!("{section}\n");
    for &(byte, high, width, name) in rows {
        let mut value = 0_u128;
        for at in 0..width {
            let bit = (7 - high) + at;
            let (byte, mask) = (byte + (bit / 8) as usize, 0x80 >> (bit % 8));
            value = value << 1 | u128::from(left[byte] & mask != 0);
            left[byte] &= !mask;
        }
        if value != 0 {
            text += &format!("  {name}: {value}\n");
        }
    }
    assert_eq!(left, vec![0; left.len()], "{section}: bits outside its fields");
    text
}

fn vpd(bench: &mut Bench, page: u8) -> Vec<u8> {
    good(bench.run(&[0x12, 1, page, 0x10, 0, 0]))
}

const HEADER: [Row; 3] = [(0, 7, 8, "PERIPHERAL"), (1, 7, 8, "PAGE CODE"), (2, 7, 16, "PAGE LENGTH")];

fn page_of(section: &str, rows: &[Row], bytes: &[u8]) -> String {
    decode(section, &[&HEADER[..], rows].concat(), bytes)
}

#[test]
fn standard_inquiry_data() {
    let rows = [
        (0, 7, 3, "PERIPHERAL QUALIFIER"),
        (0, 4, 5, "PERIPHERAL DEVICE TYPE"),
        (1, 7, 1, "RMB"),
        (2, 7, 8, "VERSION"),
        (3, 5, 1, "NORMACA"),
        (3, 4, 1, "HISUP"),
        (3, 3, 4, "RESPONSE DATA FORMAT"),
        (4, 7, 8, "ADDITIONAL LENGTH"),
        (5, 7, 1, "SCCS"),
        (5, 5, 2, "TPGS"),
        (5, 3, 1, "3PC"),
        (5, 0, 1, "PROTECT"),
        (6, 6, 1, "ENCSERV"),
        (6, 4, 1, "MULTIP"),
        (7, 1, 1, "CMDQUE"),
        (58, 7, 16, "VERSION DESCRIPTOR 1"),
        (60, 7, 16, "VERSION DESCRIPTOR 2"),
        (62, 7, 16, "VERSION DESCRIPTOR 3"),
        (64, 7, 16, "VERSION DESCRIPTOR 4"),
    ];
    let mut bytes = good(Bench::new().run(&[0x12, 0, 0, 1, 0, 0]));
    assert!(bytes[8..36].iter().all(|byte| (0x20..0x7f).contains(byte)), "left-aligned ASCII (SPC-4 §4.3.1)");
    bytes[8..36].fill(0);
    let expected = "SPC-4 §6.6.2
  VERSION: 6
  HISUP: 1
  RESPONSE DATA FORMAT: 2
  ADDITIONAL LENGTH: 91
  TPGS: 3
  3PC: 1
  CMDQUE: 1
  VERSION DESCRIPTOR 1: 160
  VERSION DESCRIPTOR 2: 1120
  VERSION DESCRIPTOR 3: 1216
  VERSION DESCRIPTOR 4: 2400
";
    assert_eq!(decode("SPC-4 §6.6.2", &rows, &bytes), expected);
}

const DESIGNATORS: &str = "SPC-4 §7.8.6.1
  CODE SET: 1
  DESIGNATOR TYPE: 3
  DESIGNATOR LENGTH: 16
SPC-4 §7.8.6.6.5
  NAA: 6
  IEEE COMPANY_ID: 13785517
  VENDOR SPECIFIC IDENTIFIER: 32374509039
  VENDOR SPECIFIC IDENTIFIER EXTENSION: 18364758544493064720
SPC-4 §7.8.6.1
  CODE SET: 2
  DESIGNATOR TYPE: 1
  DESIGNATOR LENGTH: 40
SPC-4 §7.8.6.1
  PROTOCOL IDENTIFIER: 5
  CODE SET: 1
  PIV: 1
  ASSOCIATION: 1
  DESIGNATOR TYPE: 4
  DESIGNATOR LENGTH: 4
SPC-4 §7.8.6.1
  PROTOCOL IDENTIFIER: 5
  CODE SET: 1
  PIV: 1
  ASSOCIATION: 1
  DESIGNATOR TYPE: 5
  DESIGNATOR LENGTH: 4
SPC-4 §7.8.6.1
  PROTOCOL IDENTIFIER: 5
  CODE SET: 3
  PIV: 1
  ASSOCIATION: 1
  DESIGNATOR TYPE: 8
  DESIGNATOR LENGTH: 32
SPC-4 §7.8.6.1
  PROTOCOL IDENTIFIER: 5
  CODE SET: 3
  PIV: 1
  ASSOCIATION: 2
  DESIGNATOR TYPE: 8
  DESIGNATOR LENGTH: 24
";

/// Association, designator type, code set and protocol of each, and how it begins.
#[test]
fn device_identification() {
    let page = vpd(&mut Bench::new(), 0x83);
    let (mut text, mut rest) = (String::new(), &page[4..]);
    let rows = [
        (0, 7, 4, "PROTOCOL IDENTIFIER"),
        (0, 3, 4, "CODE SET"),
        (1, 7, 1, "PIV"),
        (1, 5, 2, "ASSOCIATION"),
        (1, 3, 4, "DESIGNATOR TYPE"),
        (3, 7, 8, "DESIGNATOR LENGTH"),
    ];
    while !rest.is_empty() {
        let (header, body) = rest.split_at(4);
        text += &decode("SPC-4 §7.8.6.1", &rows, header);
        rest = &body[usize::from(header[3])..];
        if header[1] & 0x0f == 3 {
            let rows = [
                (0, 7, 4, "NAA"),
                (0, 3, 24, "IEEE COMPANY_ID"),
                (3, 3, 36, "VENDOR SPECIFIC IDENTIFIER"),
                (8, 7, 64, "VENDOR SPECIFIC IDENTIFIER EXTENSION"),
            ];
            text += &decode("SPC-4 §7.8.6.6.5", &rows, &body[..16]);
        }
    }
    assert_eq!(text, DESIGNATORS);
}

#[test]
fn block_limits() {
    let rows = [
        (4, 0, 1, "WSNZ"),
        (5, 7, 8, "MAXIMUM COMPARE AND WRITE LENGTH"),
        (6, 7, 16, "OPTIMAL TRANSFER LENGTH GRANULARITY"),
        (8, 7, 32, "MAXIMUM TRANSFER LENGTH"),
        (12, 7, 32, "OPTIMAL TRANSFER LENGTH"),
        (16, 7, 32, "MAXIMUM PREFETCH LENGTH"),
        (20, 7, 32, "MAXIMUM UNMAP LBA COUNT"),
        (24, 7, 32, "MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT"),
        (28, 7, 32, "OPTIMAL UNMAP GRANULARITY"),
        (32, 7, 1, "UGAVALID"),
        (32, 6, 31, "UNMAP GRANULARITY ALIGNMENT"),
        (36, 7, 64, "MAXIMUM WRITE SAME LENGTH"),
        // SBC-4 §6.6.4: no alignment, no granularity, no ATOMIC BOUNDARY.
        (44, 7, 32, "MAXIMUM ATOMIC TRANSFER LENGTH"),
        (48, 7, 32, "ATOMIC ALIGNMENT"),
        (52, 7, 32, "ATOMIC TRANSFER LENGTH GRANULARITY"),
        (56, 7, 32, "MAXIMUM ATOMIC TRANSFER LENGTH WITH ATOMIC BOUNDARY"),
        (60, 7, 32, "MAXIMUM ATOMIC BOUNDARY SIZE"),
    ];
    let expected = "SBC-3 §6.6.4
  PAGE CODE: 176
  PAGE LENGTH: 60
  WSNZ: 1
  MAXIMUM COMPARE AND WRITE LENGTH: 255
  OPTIMAL TRANSFER LENGTH GRANULARITY: 1
  MAXIMUM TRANSFER LENGTH: 2048
  OPTIMAL TRANSFER LENGTH: 256
  MAXIMUM PREFETCH LENGTH: 2048
  MAXIMUM UNMAP LBA COUNT: 131072
  MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT: 256
  OPTIMAL UNMAP GRANULARITY: 1
  UGAVALID: 1
  MAXIMUM WRITE SAME LENGTH: 65535
  MAXIMUM ATOMIC TRANSFER LENGTH: 256
";
    assert_eq!(page_of("SBC-3 §6.6.4", &rows, &vpd(&mut Bench::native(), 0xb0)), expected);
}

#[test]
fn block_characteristics_and_provisioning() {
    let mut bench = Bench::new();
    let rows = [
        (4, 7, 16, "MEDIUM ROTATION RATE"),
        (6, 7, 8, "PRODUCT TYPE"),
        (7, 7, 2, "WABEREQ"),
        (7, 5, 2, "WACEREQ"),
        (7, 3, 4, "NOMINAL FORM FACTOR"),
    ];
    let expected = "SBC-3 §6.6.3\n  PAGE CODE: 177\n  PAGE LENGTH: 60\n  MEDIUM ROTATION RATE: 1\n";
    assert_eq!(page_of("SBC-3 §6.6.3", &rows, &vpd(&mut bench, 0xb1)), expected);
    let rows = [
        (4, 7, 8, "THRESHOLD EXPONENT"),
        (5, 7, 1, "LBPU"),
        (5, 6, 1, "LBPWS"),
        (5, 5, 1, "LBPWS10"),
        (5, 4, 3, "LBPRZ"),
        (5, 1, 1, "ANC_SUP"),
        (5, 0, 1, "DP"),
        (6, 2, 3, "PROVISIONING TYPE"),
    ];
    let expected = "SBC-3 §6.6.5
  PAGE CODE: 178
  PAGE LENGTH: 4
  THRESHOLD EXPONENT: 9
  LBPU: 1
  LBPWS: 1
  LBPWS10: 1
  LBPRZ: 1
  PROVISIONING TYPE: 2
";
    assert_eq!(page_of("SBC-3 §6.6.5", &rows, &vpd(&mut bench, 0xb2)), expected);
}

const COPY_DESCRIPTORS: &str = "SPC-4 §7.8.17.4, table 667
  THIRD-PARTY COPY DESCRIPTOR TYPE: 1
  DESCRIPTOR LENGTH: 8
  COMMANDS SUPPORTED LIST LENGTH: 7
  COMMANDS: 36874323675447299
SPC-4 §7.8.17.5
  THIRD-PARTY COPY DESCRIPTOR TYPE: 4
  DESCRIPTOR LENGTH: 28
  MAXIMUM CSCD DESCRIPTOR COUNT: 4
  MAXIMUM SEGMENT DESCRIPTOR COUNT: 16
  MAXIMUM DESCRIPTOR LIST LENGTH: 576
SPC-4 §7.8.17.6
  THIRD-PARTY COPY DESCRIPTOR TYPE: 8
  DESCRIPTOR LENGTH: 4
  SUPPORTED DESCRIPTOR LIST LENGTH: 2
  DESCRIPTORS: 740
SPC-4 §7.8.17.7
  THIRD-PARTY COPY DESCRIPTOR TYPE: 12
  DESCRIPTOR LENGTH: 4
SPC-4 §7.8.17.9
  THIRD-PARTY COPY DESCRIPTOR TYPE: 32769
  DESCRIPTOR LENGTH: 32
  TOTAL CONCURRENT COPIES: 16
  MAXIMUM IDENTIFIED CONCURRENT COPIES: 16
  MAXIMUM SEGMENT LENGTH: 268431360
  DATA SEGMENT GRANULARITY: 12
SPC-4 §7.8.17.12
  THIRD-PARTY COPY DESCRIPTOR TYPE: 49153
  DESCRIPTOR LENGTH: 28
";

#[test]
fn third_party_copy() {
    let page = vpd(&mut Bench::native(), 0x8f);
    assert_eq!(usize::from(u16::from_be_bytes([page[2], page[3]])), page.len() - 4);
    let header = [(0, 7, 16, "THIRD-PARTY COPY DESCRIPTOR TYPE"), (2, 7, 16, "DESCRIPTOR LENGTH")];
    let of = |rows: &[Row]| [&header[..], rows].concat();
    let tables = [
        ("SPC-4 §7.8.17.4, table 667", of(&[(4, 7, 8, "COMMANDS SUPPORTED LIST LENGTH"), (5, 7, 56, "COMMANDS")])),
        (
            "SPC-4 §7.8.17.5",
            of(&[
                (8, 7, 16, "MAXIMUM CSCD DESCRIPTOR COUNT"),
                (10, 7, 16, "MAXIMUM SEGMENT DESCRIPTOR COUNT"),
                (12, 7, 32, "MAXIMUM DESCRIPTOR LIST LENGTH"),
                (16, 7, 32, "MAXIMUM INLINE DATA LENGTH"),
            ]),
        ),
        ("SPC-4 §7.8.17.6", of(&[(4, 7, 8, "SUPPORTED DESCRIPTOR LIST LENGTH"), (5, 7, 16, "DESCRIPTORS")])),
        ("SPC-4 §7.8.17.7", of(&[(4, 7, 16, "SUPPORTED CSCD DESCRIPTOR ID LIST LENGTH")])),
        (
            "SPC-4 §7.8.17.9",
            of(&[
                (4, 7, 32, "TOTAL CONCURRENT COPIES"),
                (8, 7, 32, "MAXIMUM IDENTIFIED CONCURRENT COPIES"),
                (12, 7, 32, "MAXIMUM SEGMENT LENGTH"),
                (16, 7, 8, "DATA SEGMENT GRANULARITY"),
                (17, 7, 8, "INLINE DATA GRANULARITY"),
            ]),
        ),
        ("SPC-4 §7.8.17.12", of(&[(4, 7, 32, "HELD DATA LIMIT"), (8, 7, 8, "HELD DATA GRANULARITY")])),
    ];
    let (mut text, mut rest) = (String::new(), &page[4..]);
    for (section, rows) in tables {
        let len = 4 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        assert_eq!(len % 4, 0);
        text += &decode(section, &rows, &rest[..len]);
        rest = &rest[len..];
    }
    assert!(rest.is_empty());
    assert_eq!(text, COPY_DESCRIPTORS);
}

#[test]
fn mode_pages() {
    let mut bench = Bench::new();
    let page = |bench: &mut Bench, code: u8| good(bench.run(&[0x1a, 0x08, code, 0, 255, 0]))[4..].to_vec();
    let header = [(0, 7, 1, "PS"), (0, 6, 1, "SPF"), (0, 5, 6, "PAGE CODE"), (1, 7, 8, "PAGE LENGTH")];
    let caching = [
        (2, 7, 1, "IC"),
        (2, 6, 1, "ABPF"),
        (2, 5, 1, "CAP"),
        (2, 4, 1, "DISC"),
        (2, 3, 1, "SIZE"),
        (2, 2, 1, "WCE"),
        (2, 1, 1, "MF"),
        (2, 0, 1, "RCD"),
        (12, 7, 1, "FSW"),
        (12, 5, 1, "DRA"),
        (12, 0, 1, "NV_DIS"),
    ];
    let expected = "SBC-3 §6.5.5\n  PAGE CODE: 8\n  PAGE LENGTH: 18\n  WCE: 1\n";
    assert_eq!(decode("SBC-3 §6.5.5", &[&header[..], &caching].concat(), &page(&mut bench, 0x08)), expected);
    let control = [
        (2, 7, 3, "TST"),
        (2, 4, 1, "TMF_ONLY"),
        (2, 3, 1, "DPICZ"),
        (2, 2, 1, "D_SENSE"),
        (2, 1, 1, "GLTSD"),
        (2, 0, 1, "RLEC"),
        (3, 7, 4, "QUEUE ALGORITHM MODIFIER"),
        (3, 3, 1, "NUAR"),
        (3, 2, 2, "QERR"),
        (4, 6, 1, "RAC"),
        (4, 5, 2, "UA_INTLCK_CTRL"),
        (4, 3, 1, "SWP"),
        (5, 7, 1, "ATO"),
        (5, 6, 1, "TAS"),
        (5, 5, 1, "ATMPE"),
        (5, 4, 1, "RWWP"),
        (5, 2, 3, "AUTOLOAD MODE"),
        (8, 7, 16, "BUSY TIMEOUT PERIOD"),
        (10, 7, 16, "EXTENDED SELF-TEST COMPLETION TIME"),
    ];
    let expected = "SPC-4 §7.5.8
  PAGE CODE: 10
  PAGE LENGTH: 10
  GLTSD: 1
  QUEUE ALGORITHM MODIFIER: 1
  BUSY TIMEOUT PERIOD: 65535
";
    assert_eq!(decode("SPC-4 §7.5.8", &[&header[..], &control].concat(), &page(&mut bench, 0x0a)), expected);
}

#[test]
fn provisioning_log_page() {
    let mut bench = Bench::new();
    let space = Provisioning { used: Bytes::gib(2), available: Bytes::gib(6), is_low: false };
    bench.unit.set_provisioning(space);
    let page = good(bench.run(&[0x4d, 0, 0x0c, 0, 0, 0, 0, 2, 0, 0]));
    let header = [(0, 7, 1, "DS"), (0, 6, 1, "SPF"), (0, 5, 6, "PAGE CODE"), (2, 7, 16, "PAGE LENGTH")];
    let rows = [
        (0, 7, 16, "PARAMETER CODE"),
        (2, 7, 1, "DU"),
        (2, 5, 1, "TSD"),
        (2, 1, 2, "FORMAT AND LINKING"),
        (3, 7, 8, "PARAMETER LENGTH"),
        (4, 7, 32, "RESOURCE COUNT"),
        (8, 1, 2, "SCOPE"),
    ];
    let parameters: String = page[4..].chunks(12).map(|one| decode("SBC-3 §6.4.4.2", &rows, one)).collect();
    let expected = "SPC-4 §7.3.2
  PAGE CODE: 12
  PAGE LENGTH: 24
SBC-3 §6.4.4.2
  PARAMETER CODE: 1
  FORMAT AND LINKING: 3
  PARAMETER LENGTH: 8
  RESOURCE COUNT: 24576
  SCOPE: 2
SBC-3 §6.4.4.2
  PARAMETER CODE: 2
  FORMAT AND LINKING: 3
  PARAMETER LENGTH: 8
  RESOURCE COUNT: 8192
  SCOPE: 2
";
    assert_eq!(decode("SPC-4 §7.3.2", &header, &page[..4]) + &parameters, expected);
}

#[test]
fn target_port_groups() {
    let mut bench = Bench::new();
    bench.unit.set_port_groups(&[PortGroup {
        group: 7,
        port: 9,
        state: AccessState::NonOptimized,
        is_preferred: true,
    }]);
    let report = good(bench.run(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]));
    let rows = [
        (0, 7, 32, "RETURN DATA LENGTH"),
        (4, 7, 1, "PREF"),
        (4, 3, 4, "ASYMMETRIC ACCESS STATE"),
        (5, 7, 1, "T_SUP"),
        (5, 6, 1, "O_SUP"),
        (5, 4, 1, "LBD_SUP"),
        (5, 3, 1, "U_SUP"),
        (5, 2, 1, "S_SUP"),
        (5, 1, 1, "AN_SUP"),
        (5, 0, 1, "AO_SUP"),
        (6, 7, 16, "TARGET PORT GROUP"),
        (9, 7, 8, "STATUS CODE"),
        (11, 7, 8, "TARGET PORT COUNT"),
        (14, 7, 16, "RELATIVE TARGET PORT IDENTIFIER"),
    ];
    let expected = "SPC-4 §6.36
  RETURN DATA LENGTH: 12
  PREF: 1
  ASYMMETRIC ACCESS STATE: 1
  T_SUP: 1
  U_SUP: 1
  AN_SUP: 1
  AO_SUP: 1
  TARGET PORT GROUP: 7
  TARGET PORT COUNT: 1
  RELATIVE TARGET PORT IDENTIFIER: 9
";
    assert_eq!(decode("SPC-4 §6.36", &rows, &report), expected);
}
