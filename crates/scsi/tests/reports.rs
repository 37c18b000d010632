//! LOG SENSE, READ and WRITE BUFFER, REPORT IDENTIFYING INFORMATION: every byte, with its section.

mod common;

use common::{Bench, HOST, field, good, sense};
use dyad_scsi::{NexusId, Provisioning};
use dyad_units::Bytes;

const TEST_UNIT_READY: [u8; 6] = [0; 6];

fn log(bench: &mut Bench, page: u8, subpage: u8, from: u8) -> dyad_scsi::Response {
    bench.run(&[0x4d, 0, page, subpage, 0, 0, from, 2, 0, 0])
}

fn provisioning(used: Bytes, available: Bytes, is_low: bool) -> Provisioning {
    Provisioning { used, available, is_low }
}

/// SPC-4 §7.3.15, §7.3.16.
#[test]
fn the_supported_log_pages_are_listed() {
    let mut bench = Bench::new();
    assert_eq!(good(log(&mut bench, 0x00, 0, 0)), [0x00, 0, 0, 2, 0x00, 0x0c]);
    // With subpages: SPF; pairs of page and subpage.
    assert_eq!(good(log(&mut bench, 0x00, 0xff, 0)), [0x40, 0xff, 0, 6, 0x00, 0, 0x00, 0xff, 0x0c, 0]);
    for page in [0x00, 0x0c] {
        for control in [0x00, 0x40, 0x80, 0xc0] {
            assert_eq!(good(log(&mut bench, control | page, 0, 0))[0], page, "PC {control:02x}");
        }
    }
}

/// SBC-3 §6.4.4: resources in units of 256 KiB, as the threshold exponent of VPD page B2h says.
#[test]
fn the_provisioning_page_counts_extents() {
    for mut bench in [Bench::new(), Bench::native()] {
        assert_eq!(good(log(&mut bench, 0x0c, 0, 0)), [0x0c, 0, 0, 0], "nothing is known yet");
        bench.unit.set_provisioning(provisioning(Bytes::mib(3), Bytes::gib(1), false));
        let mut expected = vec![0x0c, 0, 0, 24];
        // PARAMETER CODE, FORMAT AND LINKING 11b, PARAMETER LENGTH; RESOURCE COUNT; SCOPE: shared.
        expected.extend([0x00, 0x01, 0x03, 8, 0, 0, 0x10, 0, 2, 0, 0, 0]); // available
        expected.extend([0x00, 0x02, 0x03, 8, 0, 0, 0, 12, 2, 0, 0, 0]); // used
        assert_eq!(good(log(&mut bench, 0x0c, 0, 0)), expected);
        assert_eq!(good(log(&mut bench, 0x0c, 0, 2)), [&[0x0c, 0, 0, 12], &expected[16..]].concat());
        let exponent = good(bench.run(&[0x12, 1, 0xb2, 0, 255, 0]))[4];
        assert_eq!(u64::from(bench.unit.shape().block().bytes()) << exponent, 256 << 10);
    }
}

/// A count that does not fit says "as much as can be said".
#[test]
fn counts_saturate() {
    let mut bench = Bench::new();
    bench.unit.set_provisioning(provisioning(Bytes::ZERO, Bytes::new(u64::MAX), false));
    assert_eq!(good(log(&mut bench, 0x0c, 0, 0))[8..12], [0xff; 4]);
}

#[test]
fn log_pages_that_are_not_there_are_pointed_at() {
    let mut bench = Bench::new();
    for (page, subpage, from, at) in [
        (0x0d, 0, 0, (2, Some(5))), // temperature
        (0x3f, 0, 0, (2, Some(5))),
        (0x0c, 1, 0, (3, None)),
        (0x00, 1, 0, (3, None)),
        (0x0c, 0, 3, (5, None)),
        (0x00, 0, 1, (5, None)),
    ] {
        let response = log(&mut bench, page, subpage, from);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, at.0, at.1))));
    }
    let response = bench.run(&[0x4d, 1, 0, 0, 0, 0, 0, 2, 0, 0]);
    assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(0)))), "SP");
}

/// SBC-3 §4.7.3.7.3: once, until it was better.
#[test]
fn low_space_is_told_once_until_it_was_better() {
    let mut bench = Bench::new();
    let low = provisioning(Bytes::gib(9), Bytes::gib(1), true);
    bench.unit.set_provisioning(low);
    bench.unit.set_provisioning(Provisioning { available: Bytes::mib(900), ..low });
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x38, 7));
    good(bench.run(&TEST_UNIT_READY));
    bench.unit.set_provisioning(low);
    good(bench.run(&TEST_UNIT_READY));
    bench.unit.set_provisioning(Provisioning { is_low: false, ..low });
    good(bench.run(&TEST_UNIT_READY));
    bench.unit.set_provisioning(low);
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x38, 7));
}

/// SPC-4 §6.17.7, §6.17.8, §6.49.11.
#[test]
fn the_echo_buffer_gives_back_what_was_written() {
    let mut bench = Bench::new();
    let read = [0x3c, 0x0a, 0, 0, 0, 0, 0, 0x10, 0, 0];
    assert_eq!(good(bench.run(&[0x3c, 0x0b, 0, 0, 0, 0, 0, 0, 4, 0])), [1, 0, 0x10, 0], "EBOS; 4096 bytes");
    assert_eq!(sense(&bench.run(&read)), (5, 0x2c, 0), "nothing was written");
    let bytes: Vec<u8> = (0..4096_u32).map(|at| (at >> 4) as u8 ^ at as u8).collect();
    good(bench.send(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0x10, 0, 0], &bytes));
    assert_eq!(good(bench.run(&read)), bytes);
    assert_eq!(good(bench.run(&[0x3c, 0x0a, 9, 9, 9, 9, 0, 0, 3, 0])), bytes[..3], "identifier and offset are ignored");
    good(bench.send(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 2, 0], &[4, 5]));
    assert_eq!(good(bench.run(&read)), [4, 5]);
    good(bench.send(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0], &[]));
    assert_eq!(good(bench.run(&read)), [4, 5], "no data is no change");
    assert_eq!(sense(&bench.send(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 9, 0], &[1; 8])), (5, 0x0e, 3));
}

#[test]
fn another_nexus_does_not_see_what_was_written() {
    let mut bench = Bench::new();
    let other = NexusId(HOST.0 + 1);
    bench.unit.add_nexus(other, None).unwrap();
    good(bench.send(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 2, 0], &[4, 5]));
    assert_eq!(sense(&bench.run_as(other, &[0x3c, 0x0a, 0, 0, 0, 0, 0, 0, 2, 0])), (0x0b, 0x3f, 0x0f));
}

#[test]
fn other_buffers_are_not_there() {
    let mut bench = Bench::new();
    for opcode in [0x3b, 0x3c] {
        for mode in (0..0x20).filter(|mode| *mode != 0x0a && (opcode, *mode) != (0x3c, 0x0b)) {
            let response = bench.run(&[opcode, mode, 0, 0, 0, 0, 0, 0, 4, 0]);
            assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(4)))), "{mode:02x}");
        }
    }
    let response = bench.run(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0x10, 1, 0]);
    assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 6, None))), "too long");
}

/// SPC-4 §6.32.
#[test]
fn the_name_is_the_text_information() {
    let mut bench = Bench::new();
    let mut report = |kind: u8| bench.run(&[0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 0, kind << 1, 0]);
    assert_eq!(good(report(0x00)), [0, 0, 0, 0]);
    assert_eq!(good(report(0x02)), [&[0, 0, 0, 23], &b"iqn.2026-11.example:v1\0"[..]].concat());
    // Types with their MAXIMUM IDENTIFYING INFORMATION LENGTH.
    assert_eq!(good(report(0x7f)), [0, 0, 0, 8, 0, 0, 0, 0, 0x04, 0, 0, 224]);
    let response = report(0x01);
    assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 10, Some(7)))));
}
