//! ORWRITE (SBC-3 §5.9): one step against all other commands, although the volume only compares and writes.

mod common;

use common::{Bench, good, payload, sense};
use dyad_contract::volume::VolumeError;
use dyad_scsi::Status;

fn cdb(flags: u8, lba: u8, blocks: u8) -> [u8; 16] {
    [0x8b, flags, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0]
}

#[test]
fn what_is_there_is_or_ed_with_what_is_sent() {
    for mut bench in [Bench::new(), Bench::native()] {
        let block = bench.unit.shape().block().bytes() as usize;
        bench.volume.bytes[block..3 * block].fill(0xa0);
        good(bench.send(&cdb(0, 1, 3), &vec![0x05; 3 * block]));
        let expected = [vec![0; block], vec![0xa5; 2 * block], vec![0x05; block], vec![0; block]].concat();
        assert_eq!(bench.volume.bytes[..5 * block], expected);
        let range = format!("{block}+{}", 3 * block);
        assert_eq!(bench.asked(), [format!("read {range}"), format!("compare-and-write {range}")]);
    }
}

/// More than one buffer, with edges at odd places on both sides.
#[test]
fn a_long_one_is_or_ed_whole() {
    let mut bench = Bench::new();
    let was: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let mask: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(40_503) >> 7) as u8).collect();
    bench.volume.bytes.copy_from_slice(&was);
    good(bench.send(&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0], &mask));
    let expected: Vec<u8> = was.iter().zip(&mask).map(|(one, other)| one | other).collect();
    assert_eq!(bench.volume.bytes, expected);
}

/// A2.
#[test]
fn fua_makes_it_durable() {
    let mut bench = Bench::new();
    good(bench.send(&cdb(0x08, 1, 1), &[1; 512]));
    assert_eq!(bench.asked(), ["read 512+512", "compare-and-write 512+512 durable"]);
}

/// The update that came between is in the result: neither is lost.
#[test]
fn a_write_between_the_read_and_the_write_is_not_lost() {
    let mut bench = Bench::new();
    bench.volume.meanwhile = vec![(512, vec![0x10; 512]), (512, vec![0x20; 512])];
    good(bench.send(&cdb(0, 1, 1), &[0x01; 512]));
    assert_eq!(bench.volume.bytes[512..1024], [0x21; 512]);
    assert_eq!(bench.asked().len(), 6, "two tries lost, one won");
}

#[test]
fn a_host_is_told_to_come_again_when_others_write_without_end() {
    let mut bench = Bench::new();
    bench.volume.meanwhile = (1..=100).map(|turn| (512, vec![turn; 512])).collect();
    assert_eq!(bench.send(&cdb(0, 1, 1), &[0x80; 512]).status, Status::Busy);
    assert_eq!(bench.asked().len(), 32, "sixteen tries");
    assert!(bench.volume.bytes[512..1024].iter().all(|byte| byte & 0x80 == 0), "nothing of it was written");
}

#[test]
fn what_the_volume_refuses_is_told() {
    let mut bench = Bench::new();
    bench.volume.failures = vec![VolumeError::Medium { offset: 512 }];
    assert_eq!(sense(&bench.send(&cdb(0, 1, 1), &[1; 512])), (3, 0x11, 0));
    bench.volume.failures = vec![VolumeError::Busy];
    assert_eq!(bench.send(&cdb(0, 1, 1), &[1; 512]).status, Status::Busy);
    assert_eq!(sense(&bench.send(&cdb(0, 1, 2), &[1; 512])), (5, 0x0e, 3), "less data than blocks");
    assert_eq!(sense(&bench.send(&[0x8b, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0, 0], &[1; 512])), (5, 0x21, 0));
    good(bench.send(&cdb(0, 1, 0), &[]));
    assert_eq!(sense(&bench.send(&cdb(0x20, 1, 1), &[1; 512])), (5, 0x24, 0), "ORPROTECT");
}

/// The unit may have been protected or resized while the volume read.
#[test]
fn a_unit_that_was_resized_meanwhile_is_not_written_beyond_its_end() {
    use dyad_contract::volume::VolumeDone;
    use dyad_scsi::{Begun, Step, Transfer};
    let mut bench = Bench::new();
    let begun = bench.unit.begin(common::HOST, 0, &common::padded(&cdb(0, 200, 1)), Transfer::Out(512));
    let Begun::DataOut { task, .. } = begun else { panic!("it asks for its mask") };
    let Step::Volume { task, .. } = bench.unit.data_out(task, payload(&bench.slab, &[1; 512])) else {
        panic!("it reads");
    };
    bench.unit.resize(dyad_units::Bytes::kib(4)).unwrap();
    let found = VolumeDone::Data(payload(&bench.slab, &[0; 512]));
    let Step::Answer(response) = bench.unit.finish(task, Ok(found)) else { panic!("it ends") };
    assert_eq!(sense(&response), (5, 0x21, 0));
}
