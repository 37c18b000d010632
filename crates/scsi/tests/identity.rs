//! What the unit says of itself: INQUIRY, VPD pages, capacity, LUNs; every byte, with its section.

mod common;

use common::{Bench, good, sense, settings};
use dyad_scsi::BlockSize;
use dyad_units::Bytes;

/// INQUIRY with EVPD for a page.
fn vpd(bench: &mut Bench, page: u8) -> Vec<u8> {
    good(bench.run(&[0x12, 1, page, 0x10, 0, 0]))
}

/// A page from its parts; zeros fill up to `len`.
fn bytes(parts: &[(usize, &[u8])], len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    for (at, part) in parts {
        all[*at..at + part.len()].copy_from_slice(part);
    }
    all
}

/// SPC-4 §6.6.2.
#[test]
fn standard_inquiry_data_name_a_disk_that_speaks_spc_4_and_sbc_3() {
    let data = good(Bench::new().run(&[0x12, 0, 0, 1, 0, 0]));
    let expected = bytes(
        &[
            (2, &[0x06]),                                            // VERSION: SPC-4
            (3, &[0x12]),                                            // HISUP, RESPONSE DATA FORMAT 2
            (4, &[91]),                                              // ADDITIONAL LENGTH
            (5, &[0x38]),                                            // TPGS 11b, 3PC
            (7, &[0x02]),                                            // CMDQUE
            (8, b"DYAD    "),                                        // T10 VENDOR IDENTIFICATION
            (16, b"VIRTUAL-DISK    "),                               // PRODUCT IDENTIFICATION
            (58, &[0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0, 0x09, 0x60]), // SAM-5, SPC-4, SBC-3, iSCSI
        ],
        96,
    );
    assert_eq!(data[..32], expected[..32]);
    assert!(data[32..36].iter().all(u8::is_ascii_graphic) || data[35] == b' ', "PRODUCT REVISION LEVEL");
    assert_eq!(data[36..], expected[36..]);
}

/// SPC-4 §7.8.15.
#[test]
fn every_supported_page_can_be_read_and_names_itself() {
    let mut bench = Bench::new();
    let pages = vpd(&mut bench, 0x00);
    assert_eq!(pages, [0, 0x00, 0, 7, 0x00, 0x80, 0x83, 0x8f, 0xb0, 0xb1, 0xb2]);
    for &code in &pages[4..] {
        let page = vpd(&mut bench, code);
        assert_eq!((page[0], page[1]), (0, code));
        assert_eq!(usize::from(u16::from_be_bytes([page[2], page[3]])), page.len() - 4);
    }
    assert_eq!(sense(&bench.run(&[0x12, 1, 0x81, 0, 255, 0])), (5, 0x24, 0));
}

/// SPC-4 §7.8.17.
#[test]
fn the_serial_number_is_the_volume_s_id() {
    let page = vpd(&mut Bench::new(), 0x80);
    assert_eq!(page[..4], [0, 0x80, 0, 32]);
    assert_eq!(&page[4..], b"0123456789abcdeffedcba9876543210");
}

/// SPC-4 §7.8.6. The first two are the same on every node that serves the volume (M18).
#[test]
fn the_volume_the_port_and_the_target_have_designators() {
    let page = vpd(&mut Bench::new(), 0x83);
    let mut expected = vec![0, 0x83, 0, 0];
    // NAA 6h, the company's 24 bits, 100 bits of the id.
    expected.extend([0x01, 0x03, 0, 16, 0x6d, 0x25, 0x9a, 0xd7, 0x89, 0xab, 0xcd, 0xef]);
    expected.extend([0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10]);
    // T10 vendor id.
    expected.extend([0x02, 0x01, 0, 40]);
    expected.extend(b"DYAD    0123456789abcdeffedcba9876543210");
    // Relative target port 1 and target port group 2; iSCSI, PIV, association target port.
    expected.extend([0x51, 0x94, 0, 4, 0, 0, 0, 1]);
    expected.extend([0x51, 0x95, 0, 4, 0, 0, 0, 2]);
    // Names of the port and of the device, ended and padded with zeros.
    expected.extend([0x53, 0x98, 0, 32]);
    expected.extend(b"iqn.2026-11.example:v1,t,0x0002\0");
    expected.extend([0x53, 0xa8, 0, 24]);
    expected.extend(b"iqn.2026-11.example:v1\0\0");
    expected[3] = (expected.len() - 4) as u8;
    assert_eq!(page, expected);
}

/// A name longer than iSCSI allows is cut; its designator's length byte cannot overflow.
#[test]
fn an_endless_target_name_is_cut() {
    let mut settings = settings(BlockSize::Emulated512, common::SIZE);
    settings.identity.target_name = "ä".repeat(4000);
    let page = vpd(&mut Bench::with(settings), 0x83);
    assert_eq!(usize::from(u16::from_be_bytes([page[2], page[3]])), page.len() - 4);
}

/// SBC-3 §6.6.4, SBC-4 §6.6.4.
#[test]
fn block_limits_of_512_byte_blocks() {
    let page = vpd(&mut Bench::new(), 0xb0);
    let expected = bytes(
        &[
            (1, &[0xb0, 0, 0x3c]),
            (4, &[1]),                            // WSNZ: zero is refused
            (5, &[255]),                          // MAXIMUM COMPARE AND WRITE LENGTH
            (6, &[0, 8]),                         // OPTIMAL TRANSFER LENGTH GRANULARITY: 4 KiB
            (8, &16_384_u32.to_be_bytes()),       // MAXIMUM TRANSFER LENGTH: 8 MiB
            (12, &2048_u32.to_be_bytes()),        // OPTIMAL TRANSFER LENGTH: 1 MiB
            (16, &16_384_u32.to_be_bytes()),      // MAXIMUM PREFETCH LENGTH
            (20, &1_048_576_u32.to_be_bytes()),   // MAXIMUM UNMAP LBA COUNT: 512 MiB
            (24, &256_u32.to_be_bytes()),         // MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT
            (28, &8_u32.to_be_bytes()),           // OPTIMAL UNMAP GRANULARITY: 4 KiB
            (32, &0x8000_0000_u32.to_be_bytes()), // UGAVALID, alignment 0
            (36, &0xffff_u64.to_be_bytes()),      // MAXIMUM WRITE SAME LENGTH
            (44, &2040_u32.to_be_bytes()),        // MAXIMUM ATOMIC TRANSFER LENGTH: unaligned, it touches 256 of 4 KiB
        ],
        64,
    );
    assert_eq!(page, expected);
}

#[test]
fn block_limits_of_4096_byte_blocks_are_the_same_in_bytes() {
    let page = vpd(&mut Bench::native(), 0xb0);
    assert_eq!(page[6..8], [0, 1]);
    assert_eq!(page[8..12], 2048_u32.to_be_bytes());
    assert_eq!(page[12..16], 256_u32.to_be_bytes());
    assert_eq!(page[20..24], 131_072_u32.to_be_bytes());
    assert_eq!(page[28..32], 1_u32.to_be_bytes());
    assert_eq!(page[44..48], 256_u32.to_be_bytes(), "here nothing is unaligned");
}

/// SBC-3 §6.6.3 and §6.6.5.
#[test]
fn the_disk_does_not_rotate_and_is_thin() {
    let mut bench = Bench::new();
    assert_eq!(vpd(&mut bench, 0xb1), bytes(&[(1, &[0xb1, 0, 0x3c]), (5, &[1])], 64));
    // THRESHOLD EXPONENT: 2^9 blocks, 256 KiB; LBPU, LBPWS, LBPWS10, LBPRZ; thin provisioned.
    assert_eq!(vpd(&mut bench, 0xb2), [0, 0xb2, 0, 4, 9, 0xe4, 2, 0]);
    assert_eq!(vpd(&mut Bench::native(), 0xb2)[4], 6);
}

/// SPC-4 §6.6.1: a page code without EVPD is a field at fault.
#[test]
fn inquiry_cuts_at_the_allocation_length() {
    let mut bench = Bench::new();
    for len in 0..=96 {
        assert_eq!(good(bench.run(&[0x12, 0, 0, 0, len, 0])).len(), usize::from(len));
    }
    assert_eq!(good(bench.run(&[0x12, 0, 0, 0xff, 0xff, 0])).len(), 96);
    assert_eq!(sense(&bench.run(&[0x12, 0, 1, 0, 255, 0])), (5, 0x24, 0));
}

/// SBC-3 §5.15, §5.16.
#[test]
fn capacity_is_the_last_block_and_its_length() {
    let mut bench = Bench::new();
    assert_eq!(good(bench.run(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])), [0, 0, 0x07, 0xff, 0, 0, 2, 0]);
    let long = good(bench.run(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]));
    // Exponent 3: eight logical blocks to a physical one. LBPME and LBPRZ.
    assert_eq!(long, bytes(&[(6, &[0x07, 0xff, 0, 0, 2, 0, 0, 3, 0xc0])], 32));

    let mut native = Bench::native();
    assert_eq!(good(native.run(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])), [0, 0, 0, 0xff, 0, 0, 0x10, 0]);
    let long = good(native.run(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]));
    assert_eq!(long, bytes(&[(7, &[0xff, 0, 0, 0x10, 0, 0, 0, 0xc0])], 32));
}

#[test]
fn a_capacity_beyond_32_bits_sends_hosts_to_the_long_form() {
    let mut bench = Bench::with(settings(BlockSize::Emulated512, Bytes::gib(4096)));
    assert_eq!(good(bench.run(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]))[..4], [0xff; 4]);
    let long = good(bench.run(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]));
    assert_eq!(long, (8_589_934_592_u64 - 1).to_be_bytes());
}

/// SPC-4 §6.33.
#[test]
fn lun_0_is_the_only_one_reported() {
    let mut bench = Bench::new();
    let mut report = |select: u8, len: u8| bench.run(&[0xa0, 0, select, 0, 0, 0, 0, 0, 0, len, 0, 0]);
    let one = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for select in [0x00, 0x02, 0x11] {
        assert_eq!(good(report(select, 255)), one);
    }
    for select in [0x01, 0x10] {
        assert_eq!(good(report(select, 255)), [0; 8]);
    }
    assert_eq!(sense(&report(0x03, 255)), (5, 0x24, 0));
    assert_eq!(sense(&report(0x00, 15)), (5, 0x24, 0));
}
