//! GET LBA STATUS (SBC-3 §5.4): what is deallocated, and nothing that is not.

mod common;

use common::{Bench, SIZE, good, sense, settings};
use dyad_contract::volume::VolumeError;
use dyad_scsi::{Begun, BlockSize, NodeOp, RUNS_MAX, Run, Status, Step, Transfer};
use dyad_units::Bytes;

const BLOCK: usize = 4096;

fn cdb(lba: u64, allocation: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x9e, 0x12);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// LBA, count, status.
fn descriptors(data: &[u8]) -> Vec<(u64, u32, u8)> {
    assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) as usize, data.len() - 4);
    let of = |bytes: &[u8]| {
        let [lba, rest] = bytes.as_chunks::<8>().0 else { panic!("16 bytes") };
        (u64::from_be_bytes(*lba), u32::from_be_bytes(rest[..4].try_into().unwrap()), rest[4])
    };
    data[8..].chunks_exact(16).map(of).collect()
}

fn ask(bench: &mut Bench, lba: u64) -> Vec<(u64, u32, u8)> {
    descriptors(&good(bench.run(&cdb(lba, 8192))))
}

/// Byte for byte; the third block of 4 KiB is written.
#[test]
fn written_blocks_are_mapped_and_the_others_deallocated() {
    let mut bench = Bench::new();
    bench.volume.bytes[2 * BLOCK] = 1;
    let mut expected = vec![0, 0, 0, 52, 0, 0, 0, 0]; // PARAMETER DATA LENGTH
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 1, 0, 0, 0]); // deallocated
    expected.extend([0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 0, 0]); // mapped
    expected.extend([0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0x07, 0xe8, 1, 0, 0, 0]);
    assert_eq!(good(bench.run(&cdb(0, 8192))), expected);
    let mut native = Bench::native();
    native.volume.bytes[2 * BLOCK] = 1;
    assert_eq!(ask(&mut native, 0), [(0, 2, 1), (2, 1, 0), (3, 253, 1)]);
}

/// In the middle of a physical block too: the first descriptor is of the LBA that was asked for.
#[test]
fn the_first_descriptor_begins_where_it_was_asked() {
    let mut bench = Bench::new();
    bench.volume.bytes[2 * BLOCK] = 1;
    assert_eq!(ask(&mut bench, 3), [(3, 13, 1), (16, 8, 0), (24, 2024, 1)]);
    assert_eq!(ask(&mut bench, 17), [(17, 7, 0), (24, 2024, 1)]);
    assert_eq!(ask(&mut bench, 2047), [(2047, 1, 1)]);
    assert_eq!(sense(&bench.run(&cdb(2048, 8192))), (5, 0x21, 0));
    assert_eq!(sense(&bench.run(&cdb(u64::MAX, 8192))), (5, 0x21, 0));
}

/// SPC-4 §4.2.5.6: the lengths tell what there is, whatever was taken.
#[test]
fn the_allocation_length_cuts() {
    let mut bench = Bench::new();
    bench.volume.bytes[2 * BLOCK] = 1;
    let all = good(bench.run(&cdb(0, 8192)));
    for allocation in [0, 1, 7, 8, 23, 24, 25, 56, 57] {
        assert_eq!(good(bench.run(&cdb(0, allocation))), all[..all.len().min(allocation as usize)], "{allocation}");
    }
}

fn look(bench: &mut Bench, lba: u64) -> (dyad_scsi::Task, dyad_units::Span) {
    let begun = bench.unit.begin(common::HOST, 0, &cdb(lba, 8192), Transfer::In(8192));
    let Begun::Node { task, op: NodeOp::Look { span } } = begun else { panic!("{begun:?}") };
    (task, span)
}

fn answer(bench: &mut Bench, task: dyad_scsi::Task, runs: &[Run]) -> Vec<(u64, u32, u8)> {
    let step = bench.unit.looked(task, runs);
    let Step::Answer(response) = step else { panic!("{step:?}") };
    descriptors(&good(response))
}

/// A large volume is looked at in parts; runs beyond what was asked for, and more than are answered, are cut.
#[test]
fn one_command_looks_at_a_bounded_part() {
    let mut bench = Bench::with(settings(BlockSize::Emulated512, Bytes::gib(16 << 10)));
    let (task, span) = look(&mut bench, 5);
    assert_eq!((span.offset(), span.len()), (5 * 512, 2 << 30));
    let run = |blocks, is_unwritten| Run { blocks, is_unwritten };
    let all = answer(&mut bench, task, &[run(u32::MAX, true), run(u32::MAX, false)]);
    assert_eq!(all, [(5, 4 << 20, 1)]);
    let (task, _) = look(&mut bench, 8);
    let many: Vec<Run> = (0..10_000).map(|number| run(1, number % 2 == 0)).collect();
    let all = answer(&mut bench, task, &many);
    assert_eq!((all.len(), all[RUNS_MAX - 1]), (RUNS_MAX, (8 + 8 * 255, 8, 0)));
}

/// "Mapped or unknown" is the answer to a node that knows nothing.
#[test]
fn nothing_known_is_one_descriptor() {
    let mut bench = Bench::new();
    for runs in [&[][..], &[Run { blocks: 0, is_unwritten: true }]] {
        let (task, _) = look(&mut bench, 9);
        assert_eq!(answer(&mut bench, task, runs), [(9, 2039, 0)]);
    }
}

/// An answer that comes when the volume has shrunk is none; what the node cannot say now, the host asks again.
#[test]
fn errors_are_told() {
    let mut bench = Bench::new();
    let (task, _) = look(&mut bench, 2000);
    bench.unit.resize(Bytes::kib(512)).unwrap();
    let Step::Answer(response) = bench.unit.looked(task, &[]) else { panic!("an answer") };
    assert_eq!(sense(&response), (5, 0x21, 0));
    bench.unit.resize(SIZE).unwrap();
    assert_eq!(sense(&bench.run(&[0; 6])), (6, 0x2a, 9));
    bench.volume.failures = vec![VolumeError::Busy];
    assert_eq!(bench.run(&cdb(0, 8192)).status, Status::Busy);
}
