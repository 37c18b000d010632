//! Unit attentions, LUNs, stopping, and what a volume's errors become.

mod common;

use common::{Bench, HOST, field, good, information, sense};
use dyad_contract::volume::VolumeError;
use dyad_scsi::{Attention, NEXUSES_MAX, NexusId, Status, TooManyNexuses, Who};
use dyad_units::Bytes;

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 9, 0, 0, 2, 0];
const OTHER: NexusId = NexusId(8);

/// SAM-5 §5.14.1.
#[test]
fn a_new_session_learns_of_the_power_on_once() {
    let mut bench = Bench::new();
    bench.unit.add_nexus(OTHER, Some(Attention::PowerOn)).unwrap();
    good(bench.run(&TEST_UNIT_READY)); // another nexus is not concerned
    assert_eq!(sense(&bench.run_as(OTHER, &READ)), (6, 0x29, 0));
    good(bench.run_as(OTHER, &READ));
    assert_eq!(bench.asked(), ["read 4608+1024"]);
}

/// SPC-4 §6.6.1, §6.33, §6.39: INQUIRY and REPORT LUNS leave it pending, REQUEST SENSE takes it as data.
#[test]
fn a_pending_attention_lets_inquiry_report_luns_and_request_sense_pass() {
    let mut bench = Bench::new();
    bench.unit.attend(Who::All, Attention::CapacityChanged);
    good(bench.run(&[0x12, 0, 0, 0, 36, 0]));
    good(bench.run(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]));
    let data = good(bench.run(&REQUEST_SENSE));
    assert_eq!((data[0], data[2], data[12], data[13]), (0x70, 6, 0x2a, 9));
    let data = good(bench.run(&REQUEST_SENSE));
    assert_eq!((data[2], data[12], data[13]), (0, 0, 0), "none is left");
}

/// An attention comes before anything that is wrong with the command.
#[test]
fn an_attention_is_reported_before_the_command_is_looked_at() {
    let mut bench = Bench::new();
    for cdb in [&[0xff; 16][..], &[0x28, 0xff, 0, 0, 0, 0, 0, 0, 0, 0], &[0x00, 0, 0, 0, 0, 4]] {
        bench.unit.attend(Who::Only(HOST), Attention::InquiryChanged);
        assert_eq!(sense(&bench.run(cdb)), (6, 0x3f, 3));
        assert_eq!(sense(&bench.run(cdb)).0, 5);
    }
}

/// SAM-5 §5.14.2: resets first, which clear what happened before them; each condition once.
#[test]
fn attentions_queue_in_order_of_weight_and_without_end() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.unit.attend(Who::All, Attention::CapacityChanged);
        bench.unit.attend(Who::All, Attention::CommandsCleared);
        bench.unit.attend(Who::AllBut(HOST), Attention::PowerOn);
    }
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2f, 0));
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2a, 9));
    good(bench.run(&TEST_UNIT_READY));
    bench.unit.attend(Who::All, Attention::CapacityChanged);
    bench.unit.reset();
    bench.unit.attend(Who::All, Attention::ModeParametersChanged);
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x29, 3));
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x2a, 1));
    good(bench.run(&TEST_UNIT_READY));
}

#[test]
fn a_resize_is_told_to_every_nexus() {
    let mut bench = Bench::new();
    bench.unit.add_nexus(OTHER, None).unwrap();
    assert!(bench.unit.resize(Bytes::new(4097)).is_err());
    assert!(bench.unit.resize(Bytes::ZERO).is_err());
    good(bench.run(&TEST_UNIT_READY));
    bench.unit.resize(Bytes::kib(8)).unwrap();
    for nexus in [HOST, OTHER] {
        assert_eq!(sense(&bench.run_as(nexus, &TEST_UNIT_READY)), (6, 0x2a, 9));
        assert_eq!(good(bench.run_as(nexus, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]))[3], 15);
    }
}

#[test]
fn nexuses_come_and_go_within_a_bound() {
    let mut bench = Bench::new();
    for id in 0..2000 {
        bench.unit.add_nexus(NexusId(id), Some(Attention::PowerOn)).ok();
    }
    assert_eq!(bench.unit.nexuses(), NEXUSES_MAX);
    assert_eq!(bench.unit.add_nexus(NexusId(5000), None), Err(TooManyNexuses));
    for id in 0..2000 {
        bench.unit.remove_nexus(NexusId(id));
    }
    assert_eq!(bench.unit.nexuses(), 0);
    bench.unit.add_nexus(HOST, None).unwrap();
    good(bench.run(&TEST_UNIT_READY));
}

/// SAM-5 §4.7, SPC-4 §6.6.2.
#[test]
fn other_luns_are_said_not_to_be_there() {
    let mut bench = Bench::new();
    bench.unit.attend(Who::All, Attention::PowerOn);
    for lun in [1 << 48, 0x4001 << 48, 1, 0x0100 << 48, 0x8000 << 48, 0xc101 << 48] {
        bench.lun = lun;
        let data = good(bench.run(&[0x12, 0, 0, 0, 96, 0]));
        assert_eq!((data[0], data.len()), (0x7f, 96), "{lun:x}");
        assert_eq!(good(bench.run(&[0x12, 1, 0, 0, 96, 0])), [0x7f, 0, 0, 1, 0]);
        assert_eq!(sense(&bench.run(&[0x12, 1, 0x83, 0, 96, 0])), (5, 0x24, 0));
        assert_eq!(sense(&bench.run(&[0x12, 0x80, 0, 0, 96, 0])), (5, 0x24, 0));
        let data = good(bench.run(&REQUEST_SENSE));
        assert_eq!((data[2], data[12], data[13]), (5, 0x25, 0));
        for cdb in [&TEST_UNIT_READY[..], &READ, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], &[0xff; 16]] {
            assert_eq!(sense(&bench.run(cdb)), (5, 0x25, 0), "{lun:x}");
        }
    }
    for lun in [0, 0x4000 << 48] {
        bench.unit.attend(Who::All, Attention::PowerOn);
        bench.lun = lun;
        assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x29, 0), "the attention waited for LUN 0");
    }
}

#[test]
fn unknown_codes_and_service_actions_are_told_apart() {
    let mut bench = Bench::new();
    for opcode in [0x48, 0x7f, 0x9a, 0xff] {
        let response = bench.run(&[opcode, 0, 0, 0, 0, 0]);
        assert_eq!((sense(&response), field(&response)), ((5, 0x20, 0), None));
    }
    for (opcode, action) in [(0x9e, 0x13), (0xa3, 0x0b), (0x83, 0x01), (0x84, 0x04), (0x9e, 0), (0x5e, 4), (0x5f, 8)] {
        let response = bench.run(&[opcode, action, 0, 0, 0, 0]);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(4)))));
    }
}

/// SPC-4 §6.39: DESC asks for descriptor format; there is no field pointer to spare.
#[test]
fn request_sense_answers_in_the_format_asked_for() {
    let mut bench = Bench::new();
    bench.unit.attend(Who::All, Attention::PowerOn);
    assert_eq!(good(bench.run(&[0x03, 1, 0, 0, 252, 0])), [0x72, 6, 0x29, 0, 0, 0, 0, 0]);
    assert_eq!(good(bench.run(&[0x03, 0, 0, 0, 4, 0])), [0x70, 0, 0, 0]);
}

/// SBC-3 §5.25: what was acknowledged is made durable, then the medium is not accessible.
#[test]
fn a_stopped_unit_is_not_ready_until_it_is_started() {
    let mut bench = Bench::new();
    let stop = [0x1b, 0, 0, 0, 0, 0];
    let start = [0x1b, 1, 0, 0, 1, 0];
    good(bench.run(&stop));
    assert_eq!(bench.asked(), ["flush"]);
    for cdb in [&TEST_UNIT_READY[..], &READ, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(sense(&bench.run(cdb)), (2, 0x04, 2));
    }
    let data = good(bench.run(&REQUEST_SENSE));
    assert_eq!((data[2], data[12], data[13]), (2, 0x04, 2));
    good(bench.run(&[0x12, 0, 0, 0, 96, 0]));
    good(bench.run(&[0x1a, 0, 0x3f, 0, 255, 0]));
    good(bench.run(&stop)); // again
    good(bench.run(&start));
    good(bench.run(&TEST_UNIT_READY));
    assert!(bench.asked().is_empty());

    good(bench.run(&[0x1b, 0, 0, 0, 0x04, 0])); // NO_FLUSH
    assert!(bench.asked().is_empty());
    bench.unit.reset();
    assert_eq!(sense(&bench.run(&TEST_UNIT_READY)), (6, 0x29, 3));
    good(bench.run(&TEST_UNIT_READY)); // a reset starts it
}

#[test]
fn a_stop_whose_flush_fails_stops_nothing() {
    let mut bench = Bench::new();
    bench.volume.failures.push(VolumeError::WriteFault);
    assert_eq!(sense(&bench.run(&[0x1b, 0, 0, 0, 0, 0])), (3, 0x03, 0));
    good(bench.run(&TEST_UNIT_READY));
}

/// The medium cannot be taken out, and there are no power conditions.
#[test]
fn eject_and_power_conditions_are_refused_at_their_bits() {
    let mut bench = Bench::new();
    for (flags, bit) in [(0x02, 1), (0x03, 1), (0x10, 7), (0x31, 7), (0xf0, 7), (0x08, 3)] {
        let response = bench.run(&[0x1b, 1, 0, 0, flags, 0]);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 4, Some(bit)))));
    }
    good(bench.run(&TEST_UNIT_READY));
}

/// The one mapping of a volume's errors; the read asks for LBA 9 and 10 of 512 bytes.
#[test]
fn every_volume_error_has_its_status() {
    let failing = |error| {
        let mut bench = Bench::new();
        bench.volume.failures.push(error);
        bench.run(&READ)
    };
    for (error, expected, lba) in [
        (VolumeError::Medium { offset: 10 * 512 }, (3, 0x11, 0), Some(10)),
        (VolumeError::Medium { offset: 10 * 512 + 511 }, (3, 0x11, 0), Some(10)),
        // A bad 4 KiB block begins before the range: the first bad block *of the command* is named.
        (VolumeError::Medium { offset: 4096 }, (3, 0x11, 0), Some(9)),
        (VolumeError::Medium { offset: 1 << 40 }, (3, 0x11, 0), Some(10)),
        (VolumeError::NoSpace, (7, 0x27, 7), None),
        (VolumeError::WriteFault, (3, 0x03, 0), None),
        (VolumeError::OutOfRange, (5, 0x21, 0), None),
        (VolumeError::Miscompare { offset: 77 }, (0xe, 0x1d, 0), Some(77)),
    ] {
        let response = failing(error);
        assert_eq!((sense(&response), information(&response)), (expected, lba), "{error:?}");
        assert_eq!(field(&response), None);
    }
    for (error, status) in [(VolumeError::Busy, Status::Busy), (VolumeError::Aborted, Status::TaskAborted)] {
        let response = failing(error);
        assert_eq!((response.status, response.sense.is_none()), (status, true));
    }
}

/// A failure at any step of a long command ends it.
#[test]
fn later_steps_fail_like_the_first() {
    let mut bench = Bench::new();
    bench.volume.failures.push(VolumeError::Busy);
    assert_eq!(bench.run(&[0x28, 0x08, 0, 0, 0, 9, 0, 0, 2, 0]).status, Status::Busy, "the flush before a FUA read");
    assert_eq!(bench.asked(), ["flush"]);
    bench.volume.failures.push(VolumeError::NoSpace);
    assert_eq!(sense(&bench.send(&[0x2e, 0, 0, 0, 0, 9, 0, 0, 1, 0], &[1; 512])), (7, 0x27, 7));
    assert_eq!(bench.asked(), ["write 4608+512 durable"]);
}
