//! EXTENDED COPY (LID1) and RECEIVE COPY RESULTS (SPC-4 §6.3, §6.21, §6.22).

mod common;

use common::copying::{cdb, list, pattern, third_party};
use common::{Bench, HOST, cscd, field, good, padded, payload, segment, sense};
use dyad_contract::volume::VolumeError;
use dyad_scsi::{Attention, Begun, NexusId, Response, Status, Step, Task, Transfer, Who};

const SEGMENT_DESCRIPTORS_MAX: usize = 16;

fn copy(bench: &mut Bench, list: &[u8]) -> Response {
    bench.send(&cdb(list.len()), list)
}

fn copy_blocks(bench: &mut Bench, source: u64, destination: u64, blocks: u16) -> Response {
    copy(bench, &list(&[cscd(512)], &[segment(0, 0, source, destination, blocks)]))
}

fn status(bench: &mut Bench, nexus: NexusId, id: u8) -> Response {
    bench.run_as(nexus, &[0x84, 0x00, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
}

#[test]
fn blocks_are_copied_within_the_volume() {
    let mut bench = Bench::new();
    let data = pattern(100 * 512);
    bench.volume.bytes[..data.len()].copy_from_slice(&data);
    let list = list(&[cscd(512), cscd(512)], &[segment(0, 1, 0, 1000, 60), segment(1, 0, 60, 2000, 40)]);
    good(copy(&mut bench, &list));
    assert_eq!(bench.volume.bytes[1000 * 512..1060 * 512], data[..60 * 512]);
    assert_eq!(bench.volume.bytes[2000 * 512..2040 * 512], data[60 * 512..]);
    assert_eq!(bench.asked(), ["read 0+30720", "write 512000+30720", "read 30720+20480", "write 1024000+20480"]);
    // AVAILABLE DATA, complete, two segments, in bytes.
    assert_eq!(good(status(&mut bench, HOST, 7)), [0, 0, 0, 8, 1, 0, 2, 0, 0, 0, 0xc8, 0]);
}

/// Each block is read before it is overwritten, whichever way the ranges overlap and however many chunks there are.
#[test]
fn overlapping_ranges_are_copied_as_they_were() {
    let settings = common::settings(dyad_scsi::BlockSize::Native4096, dyad_units::Bytes::mib(8));
    for (source, destination) in [(100_u64, 107_u64), (107, 100), (100, 100), (100, 1000), (0, 299)] {
        let mut bench = Bench::with(settings.clone());
        bench.volume.bytes = (0..8 << 20).map(|at: u32| ((at >> 12) as u8).wrapping_add(at as u8) | 1).collect();
        let was = bench.volume.bytes.clone();
        good(copy(&mut bench, &list(&[cscd(4096)], &[segment(0, 0, source, destination, 900)])));
        let (from, to, len) = (source as usize * 4096, destination as usize * 4096, 900 * 4096);
        assert!(bench.volume.bytes[to..to + len] == was[from..from + len], "{source} to {destination}");
        assert_eq!(bench.asked().len(), 8, "four chunks");
    }
}

/// What is zeros needs no space at the destination.
#[test]
fn zeros_are_unmapped_at_the_destination() {
    let mut bench = Bench::new();
    bench.volume.bytes[1000 * 512..1008 * 512].fill(9);
    good(copy_blocks(&mut bench, 0, 1000, 8));
    assert_eq!(bench.volume.bytes[1000 * 512..1008 * 512], [0; 4096]);
    assert_eq!(bench.asked(), ["read 0+4096", "unmap 512000+4096"]);
}

/// LU ID TYPE has no meaning beside a designator (SPC-4 §6.3.5.1). It was refused, as SPC-3 has it reserved; libiscsi's
/// suite sends it to a unit that says it speaks SPC-4.
#[test]
fn the_lu_id_type_of_a_designator_is_ignored() {
    let mut bench = Bench::new();
    let mut list = list(&[cscd(512)], &[segment(0, 0, 0, 100, 8)]);
    list[17] |= 0xc0;
    good(copy(&mut bench, &list));
}

/// CAT was refused, and with it what `sg_xcopy cat=1` asks for: whole blocks leave no residue that it could be about.
#[test]
fn what_becomes_of_a_residue_does_not_matter() {
    let mut bench = Bench::new();
    let data = pattern(4096);
    bench.volume.bytes[..4096].copy_from_slice(&data);
    let mut list = list(&[cscd(512)], &[segment(0, 0, 0, 100, 8)]);
    list[44] |= 0x04; // PAD
    list[49] |= 0x03; // DC, CAT
    good(copy(&mut bench, &list));
    assert_eq!(bench.volume.bytes[51_200..][..4096], data);
}

#[test]
fn an_empty_list_and_empty_segments_copy_nothing() {
    let mut bench = Bench::new();
    good(bench.send(&cdb(0), &[]));
    good(copy_blocks(&mut bench, 0, 1000, 0));
    good(copy(&mut bench, &list(&[], &[])));
    assert!(bench.asked().is_empty());
    assert_eq!(good(status(&mut bench, HOST, 7))[4..7], [1, 0, 0]);
}

/// Each row: a list, the codes, and the byte at fault.
#[test]
fn a_wrong_list_is_refused_where_it_is_wrong() {
    let one = segment(0, 0, 0, 1000, 8);
    let plain = list(&[cscd(512)], &[one]);
    let with = |at: usize, value: u8| {
        let mut list = plain.clone();
        list[at] = value;
        list
    };
    let at = |asc: (u8, u8), byte| ((5, asc.0, asc.1), Some((false, byte, None)));
    let none = |key: u8, asc: (u8, u8)| ((key, asc.0, asc.1), None);
    for (list, expected) in [
        (plain[..plain.len() - 1].to_vec(), none(5, (0x1a, 0))),
        (plain[..47].to_vec(), none(5, (0x1a, 0))),
        (plain[..15].to_vec(), none(5, (0x1a, 0))),
        (with(1, 0b01 << 3), at((0x26, 0), 1)), // LIST ID USAGE
        (with(1, 0b11 << 3), at((0x26, 0), 0)), // LIST IDENTIFIER with usage 11b
        (with(15, 1), none(5, (0x26, 0x0b))),   // INLINE DATA LENGTH
        (with(3, 31), at((0x26, 0), 2)),        // CSCD DESCRIPTOR LIST LENGTH
        (with(16, 0xe0), at((0x26, 0x07), 16)), // CSCD descriptor type
        (with(23, 21), at((0x26, 0), 23)),      // DESIGNATOR LENGTH
        (with(17, 0x20), none(10, (0x08, 4))),  // NUL
        (with(17, 0x01), none(10, (0x0d, 3))),  // a tape
        (with(20, 0x02), none(10, (0x0d, 2))),  // CODE SET
        (with(46, 0x10), none(10, (0x0d, 3))),  // DISK BLOCK LENGTH
        (with(48, 0x03), at((0x26, 0x09), 48)), // segment descriptor type
        (with(51, 0x14), at((0x26, 0), 50)),    // DESCRIPTOR LENGTH
        (with(53, 1), none(10, (0x08, 4))),     // no such source
        (with(55, 1), none(10, (0x08, 4))),     // no such destination
        (list(&[cscd(512); 5], &[one]), none(5, (0x26, 0x06))),
        (list(&[cscd(512)], &[one; SEGMENT_DESCRIPTORS_MAX + 1]), none(5, (0x26, 0x08))),
        (list(&[cscd(512); 5], &[one; SEGMENT_DESCRIPTORS_MAX + 1]), none(5, (0x1a, 0))),
    ] {
        let mut bench = Bench::new();
        let response = copy(&mut bench, &list);
        assert_eq!((sense(&response), field(&response)), expected, "{list:02x?}");
        assert!(bench.asked().is_empty());
        assert_eq!(sense(&status(&mut bench, HOST, 7)), (5, 0x24, 0), "nothing began");
    }
    let response = Bench::new().send(&cdb(plain.len()), &plain[..60]);
    assert_eq!(sense(&response), (5, 0x1a, 0), "the host sends less than it says");
}

#[test]
fn a_range_beyond_the_end_is_told_as_what_the_volume_would_say() {
    let mut bench = Bench::new();
    for (source, destination, is_source) in [(2000, 0, true), (0, 2000, false), (u64::MAX, 0, true)] {
        let list = list(&[cscd(512)], &[segment(0, 0, 0, 100, 1), segment(0, 0, source, destination, 100)]);
        let response = copy(&mut bench, &list);
        assert_eq!(third_party(&response), ((10, 0, 0), 1, is_source, 2, Some((5, 0x21, 0))));
    }
    assert!(bench.asked().is_empty(), "looked at before anything is copied");
}

#[test]
fn what_the_volume_refuses_ends_the_copy_with_its_words() {
    let mut bench = Bench::new();
    bench.volume.bytes[..4096].fill(7);
    bench.volume.failures = vec![VolumeError::Medium { offset: 512 }];
    let response = copy_blocks(&mut bench, 0, 100, 8);
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 0, true, 2, Some((3, 0x11, 0))));
    assert_eq!(good(status(&mut bench, HOST, 7)), [0, 0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0]);

    bench.volume.failures = vec![VolumeError::Busy; 5];
    let response = copy_blocks(&mut bench, 0, 100, 8);
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 0, true, 8, None), "BUSY for too long");
    bench.asked();
    bench.volume.failures = vec![VolumeError::Busy; 4];
    good(copy_blocks(&mut bench, 0, 100, 8));
    assert_eq!(bench.asked().len(), 6, "asked again after each BUSY");
    bench.volume.failures = vec![VolumeError::Aborted];
    assert_eq!(copy_blocks(&mut bench, 0, 100, 8).status, Status::TaskAborted);
}

/// A copy that asked for its first chunk.
fn begin(bench: &mut Bench, nexus: NexusId, id: u8) -> Result<Task, Response> {
    let mut list = list(&[cscd(512)], &[segment(0, 0, 0, 100, 8)]);
    list[0] = id;
    let task = match bench.unit.begin(nexus, 0, &padded(&cdb(list.len())), Transfer::Out(list.len() as u32)) {
        Begun::DataOut { task, .. } => task,
        Begun::Answer(response) => return Err(response),
        Begun::Volume { .. } | Begun::State { .. } | Begun::Node { .. } => panic!("a copy asks for its list"),
    };
    match bench.unit.data_out(task, payload(&bench.slab, &list)) {
        Step::State { .. } | Step::Node { .. } => panic!("the state is known"),
        Step::Volume { task, .. } => Ok(task),
        Step::Answer(response) => Err(response),
    }
}

#[test]
fn a_copy_under_way_is_told_and_its_identifier_is_taken() {
    let mut bench = Bench::new();
    let other = NexusId(9);
    bench.unit.add_nexus(other, None).unwrap();
    let task = begin(&mut bench, HOST, 7).unwrap();
    assert_eq!(good(status(&mut bench, HOST, 7))[4], 0, "in progress");
    assert_eq!(sense(&status(&mut bench, other, 7)), (5, 0x24, 0), "of another nexus");
    assert_eq!(sense(&begin(&mut bench, HOST, 7).unwrap_err()), (5, 0x00, 0x16));
    begin(&mut bench, other, 7).unwrap();
    drop(task); // an abort
    assert_eq!(good(status(&mut bench, HOST, 7))[4], 2, "ended before its end");
    begin(&mut bench, HOST, 7).unwrap();
}

/// The bound on memory: a chunk for each.
#[test]
fn only_so_many_copies_run_at_once() {
    let mut bench = Bench::new();
    let tasks: Vec<Task> = (0..16).map(|id| begin(&mut bench, HOST, id).unwrap()).collect();
    assert_eq!(begin(&mut bench, HOST, 16).unwrap_err().status, Status::Busy);
    drop(tasks);
    for id in 0..200 {
        begin(&mut bench, HOST, id).unwrap();
    }
    assert_eq!(sense(&status(&mut bench, HOST, 100)), (5, 0x24, 0), "forgotten");
    assert_eq!(good(status(&mut bench, HOST, 199))[4], 2);
}

#[test]
fn a_reset_and_a_lost_session_forget_what_was_kept() {
    let mut bench = Bench::new();
    good(copy_blocks(&mut bench, 0, 100, 8));
    bench.unit.reset();
    assert_eq!(sense(&bench.run(&[0; 6])), (6, 0x29, 3));
    assert_eq!(sense(&status(&mut bench, HOST, 7)), (5, 0x24, 0));
    good(copy_blocks(&mut bench, 0, 100, 8));
    bench.unit.remove_nexus(HOST);
    bench.unit.add_nexus(HOST, None).unwrap();
    bench.unit.attend(Who::All, Attention::CapacityChanged);
    assert_eq!(sense(&bench.run(&[0; 6])), (6, 0x2a, 9));
    assert_eq!(sense(&status(&mut bench, HOST, 7)), (5, 0x24, 0));
}

/// SWP set by another host while a copy runs: not a block more.
#[test]
fn a_copy_does_not_write_to_a_unit_that_was_protected_meanwhile() {
    use dyad_contract::volume::VolumeDone;
    let mut bench = Bench::new();
    let task = begin(&mut bench, HOST, 7).unwrap();
    let mut protect = vec![0, 0, 0, 0, 0x0a, 10, 0x02, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0];
    good(bench.send(&[0x15, 0x10, 0, 0, 16, 0], &protect));
    let chunk = VolumeDone::Data(payload(&bench.slab, &[3; 4096]));
    let Step::Answer(response) = bench.unit.finish(task, Ok(chunk)) else { panic!("it ends") };
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 0, false, 2, Some((7, 0x27, 2))));
    protect[8] = 0;
    good(bench.send(&[0x15, 0x10, 0, 0, 16, 0], &protect));
}

/// SPC-4 §6.21, table 241; byte for byte.
#[test]
fn the_operating_parameters_are_the_limits() {
    let data = good(Bench::new().run(&[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    let mut expected = vec![0, 0, 0, 42]; // AVAILABLE DATA
    expected.extend([1, 0, 0, 0]); // SNLID
    expected.extend([0, 4]); // MAXIMUM CSCD DESCRIPTOR COUNT
    expected.extend([0, 16]); // MAXIMUM SEGMENT DESCRIPTOR COUNT
    expected.extend([0, 0, 0x02, 0x40]); // MAXIMUM DESCRIPTOR LIST LENGTH: 4 of 32 and 16 of 28
    expected.extend([0x01, 0xff, 0xfe, 0x00]); // MAXIMUM SEGMENT LENGTH: 65,535 blocks
    expected.extend([0; 4]); // MAXIMUM INLINE DATA LENGTH
    expected.extend([0; 4]); // HELD DATA LIMIT
    expected.extend([0; 4]); // MAXIMUM STREAM DEVICE TRANSFER SIZE
    expected.extend([0, 0]);
    expected.extend([0, 16]); // TOTAL CONCURRENT COPIES
    expected.push(16); // MAXIMUM CONCURRENT COPIES
    expected.push(9); // DATA SEGMENT GRANULARITY: 512 bytes
    expected.extend([0, 0]); // of inline and held data
    expected.extend([0, 0, 0]);
    expected.extend([2, 0x02, 0xe4]); // IMPLEMENTED DESCRIPTOR LIST
    assert_eq!(data, expected);
}

/// SPC-4 §7.8.17; byte for byte.
#[test]
fn the_third_party_copy_page_says_what_can_be_copied() {
    let data = good(Bench::new().run(&[0x12, 1, 0x8f, 4, 0, 0]));
    let mut expected = vec![0, 0x8f, 0, 132];
    expected.extend([0, 0x01, 0, 8, 7, 0x83, 1, 0x00, 0x84, 2, 0x00, 0x03]); // Supported Commands
    expected.extend([0, 0x04, 0, 28, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0, 0x02, 0x40]); // Parameter Data
    expected.extend([0; 16]);
    expected.extend([0, 0x08, 0, 4, 2, 0x02, 0xe4, 0]); // Supported Descriptors
    expected.extend([0, 0x0c, 0, 4, 0, 0, 0, 0]); // Supported CSCD Descriptor IDs: none
    expected.extend([0x80, 0x01, 0, 32, 0, 0, 0, 16, 0, 0, 0, 16, 0x01, 0xff, 0xfe, 0x00, 9]); // General Copy Operations
    expected.extend([0; 19]);
    expected.extend([0xc0, 0x01, 0, 28]); // Held Data: none
    expected.extend([0; 28]);
    expected[3] = (expected.len() - 4) as u8;
    assert_eq!(data, expected);
}
