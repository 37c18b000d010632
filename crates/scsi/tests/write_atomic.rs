//! WRITE ATOMIC (16) (SBC-4, "Atomic writes"): one operation of the volume, which makes all of it new or nothing (M21);
//! nothing that the volume could not do as one is ever begun.

mod common;

use common::cluster::Cluster;
use common::play::{A, B, EXCLUSIVE_ACCESS, Play, RESERVE, RESERVE_6, WRITE_EXCLUSIVE, conflict};
use common::{Bench, HOST, SIZE, field, good, padded, payload, sense, settings};
use dyad_contract::volume::{ATOMIC_BLOCKS_MAX, VolumeError, VolumeOp};
use dyad_scsi::{Begun, BlockSize, Right, Status, Step, Task, Transfer};
use dyad_units::Bytes;

const OUT_OF_RANGE: (u8, u8, u8) = (5, 0x21, 0);
const INVALID_FIELD: (u8, u8, u8) = (5, 0x24, 0);
/// INVALID FIELD IN COMMAND INFORMATION UNIT, as with every command that can do nothing with less.
const TOO_FEW_DATA: (u8, u8, u8) = (5, 0x0e, 3);
const PROTECTED: (u8, u8, u8) = (7, 0x27, 0);
const SOFTWARE_PROTECTED: (u8, u8, u8) = (7, 0x27, 2);
const DPO_AND_FUA: u8 = 0x18;

fn cdb(flags: u8, lba: u64, blocks: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x9c, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// The Control page with SWP, as MODE SELECT(6) takes it.
fn protect(bench: &mut Bench) {
    let mut list = [0; 16];
    (list[4], list[5], list[6], list[7], list[8]) = (0x0a, 10, 0x02, 0x10, 0x08);
    (list[12], list[13]) = (0xff, 0xff);
    good(bench.send(&[0x15, 0x10, 0, 0, 16, 0], &list));
    bench.asked();
}

/// One block that waits for its data.
fn begin(bench: &mut Bench) -> Task {
    match bench.unit.begin(HOST, 0, &padded(&cdb(0, 1, 1)), Transfer::Out(512)) {
        Begun::DataOut { task, len: 512 } => task,
        begun => panic!("{begun:?}"),
    }
}

#[test]
fn it_is_one_operation_with_the_range_and_the_bytes_of_the_host() {
    for mut bench in [Bench::new(), Bench::native()] {
        let block = bench.unit.shape().block().bytes() as usize;
        let data = noise(3 * block);
        good(bench.send(&cdb(0, 5, 3), &data));
        assert_eq!(bench.asked(), [format!("write-atomic {}+{} durable", 5 * block, 3 * block)]);
        assert!(bench.volume.bytes[5 * block..8 * block] == data);
        assert!(bench.volume.bytes[..5 * block].iter().chain(&bench.volume.bytes[8 * block..]).all(|&byte| byte == 0));
    }
}

/// It is durable in any case; a bit that asks for that, or for the cache to forget, asks for nothing more.
#[test]
fn dpo_and_fua_change_nothing_nor_does_the_cache() {
    for write_cache in [true, false] {
        let mut bench = Bench::new();
        bench.unit.set_write_cache(write_cache);
        bench.run(&[0; 6]);
        for flags in [0, DPO_AND_FUA] {
            good(bench.send(&cdb(flags, 1, 1), &[7; 512]));
            assert_eq!(bench.asked(), ["write-atomic 512+512 durable"]);
        }
    }
}

/// GROUP NUMBER is ignored, as with every write.
#[test]
fn protection_information_is_refused_and_a_group_is_not() {
    let mut bench = Bench::new();
    for bit in 5..8 {
        let response = bench.send(&cdb(1 << bit, 1, 1), &[1; 512]);
        assert_eq!((sense(&response), field(&response)), (INVALID_FIELD, Some((true, 1, Some(7)))), "WRPROTECT");
    }
    let mut grouped = cdb(0, 1, 1);
    grouped[14] = 0x1f;
    good(bench.send(&grouped, &[1; 512]));
}

/// MAXIMUM ATOMIC BOUNDARY SIZE is zero: there is no atomic write that may fall apart at boundaries.
#[test]
fn an_atomic_boundary_is_refused() {
    let mut bench = Bench::new();
    for bit in 0..16 {
        let mut bounded = cdb(0, 1, 1);
        bounded[10..12].copy_from_slice(&(1_u16 << bit).to_be_bytes());
        let response = bench.send(&bounded, &[1; 512]);
        assert_eq!((sense(&response), field(&response)), (INVALID_FIELD, Some((true, 10, None))), "{bounded:02x?}");
    }
    assert_eq!(bench.asked(), [""; 0]);
}

/// What is longer would have to be taken apart.
#[test]
fn what_is_longer_than_the_limit_is_refused_whole() {
    for (block, blocks_max) in [(BlockSize::Emulated512, 2040), (BlockSize::Native4096, 256)] {
        let mut bench = Bench::with(settings(block, Bytes::gib(1)));
        for blocks in [blocks_max + 1, u16::MAX] {
            let response = bench.send(&cdb(0, 0, blocks), &[1; 4096]);
            assert_eq!((sense(&response), field(&response)), (INVALID_FIELD, Some((true, 12, None))), "{blocks}");
        }
        assert_eq!(bench.asked(), [""; 0]);
        let data = noise(usize::from(blocks_max) * block.bytes() as usize);
        good(bench.send(&cdb(0, 0, blocks_max), &data));
        assert!(bench.volume.bytes[..data.len()] == data);
    }
}

/// ATOMIC ALIGNMENT is zero: the longest one begins wherever it likes.
#[test]
fn the_longest_one_touches_no_more_blocks_than_the_volume_writes_as_one() {
    let mut bench = Bench::new();
    for lba in 0..8 {
        let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0, lba, 2040)), Transfer::Out(2040 * 512));
        let Begun::DataOut { task, .. } = begun else { panic!("{begun:?}") };
        let step = bench.unit.data_out(task, payload(&bench.slab, &vec![1; 2040 * 512]));
        let Step::Volume { op: VolumeOp::WriteAtomic { span, .. }, .. } = step else { panic!("{step:?}") };
        let (first, last) = span.blocks();
        assert!(last.0 - first.0 < ATOMIC_BLOCKS_MAX, "from {lba}");
    }
}

#[test]
fn none_at_all_is_good_and_asks_for_nothing() {
    let mut bench = Bench::new();
    let blocks = bench.unit.shape().blocks();
    for lba in [0, 9, blocks] {
        good(bench.send(&cdb(DPO_AND_FUA, lba, 0), &[]));
    }
    assert_eq!(sense(&bench.send(&cdb(0, blocks + 1, 0), &[])), OUT_OF_RANGE);
    assert_eq!(bench.asked(), [""; 0]);
}

#[test]
fn what_is_beyond_the_end_is_refused() {
    for mut bench in [Bench::new(), Bench::native()] {
        let blocks = bench.unit.shape().blocks();
        for (lba, count) in [(blocks, 1), (blocks - 1, 2), (u64::MAX, 1), (blocks - 1, u16::MAX)] {
            assert_eq!(sense(&bench.send(&cdb(0, lba, count), &[1; 8192])), OUT_OF_RANGE, "{lba}+{count}");
        }
        assert_eq!(bench.asked(), [""; 0]);
        let block = bench.unit.shape().block().bytes() as usize;
        good(bench.send(&cdb(0, blocks - 1, 1), &vec![3; block]));
        assert!(bench.volume.bytes[SIZE.value() as usize - block..].iter().all(|&byte| byte == 3));
    }
}

/// The volume may have shrunk while the data were on their way.
#[test]
fn a_volume_that_was_resized_meanwhile_is_not_written_beyond_its_end() {
    let mut bench = Bench::new();
    let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0, 200, 1)), Transfer::Out(512));
    let Begun::DataOut { task, .. } = begun else { panic!("{begun:?}") };
    bench.unit.resize(Bytes::kib(4)).unwrap();
    let step = bench.unit.data_out(task, payload(&bench.slab, &[1; 512]));
    let Step::Answer(response) = step else { panic!("{step:?}") };
    assert_eq!(sense(&response), OUT_OF_RANGE);
}

/// A part of it must never be there, so the blocks that came are not written as WRITE(16) would. Its data are asked for all
/// the same, in the CDB's length: from that the transport tells the host how much was missing (RFC 7143 §11.4.5.1).
#[test]
fn a_host_that_sends_less_than_its_cdb_says_gets_nothing_written() {
    for (mut bench, block) in [(Bench::new(), 512), (Bench::native(), 4096)] {
        for sent in [0, 1, block - 1, block, block + 1, 2 * block, 3 * block - 1] {
            let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0, 5, 3)), Transfer::Out(sent as u32));
            assert!(matches!(begun, Begun::DataOut { len, .. } if len == 3 * block as u32), "{sent}: {begun:?}");
            let response = bench.send(&cdb(0, 5, 3), &vec![1; sent]);
            assert_eq!((sense(&response), field(&response)), (TOO_FEW_DATA, None), "{sent}");
        }
        let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0, 5, 3)), Transfer::None);
        let Begun::DataOut { task, .. } = begun else { panic!("{begun:?}") };
        let step = bench.unit.data_out(task, payload(&bench.slab, &[]));
        let Step::Answer(response) = step else { panic!("{step:?}") };
        assert_eq!(sense(&response), TOO_FEW_DATA, "a command that announces none");
        assert_eq!(bench.asked(), [""; 0]);
        assert!(bench.volume.bytes.iter().all(|&byte| byte == 0));
        good(bench.send(&cdb(0, 5, 3), &vec![1; 3 * block]));
    }
}

/// All that the CDB asks for is there. The rest stays with the host, which the residual underflow tells, as with WRITE(16).
#[test]
fn of_a_host_that_sends_more_than_its_cdb_says_the_range_is_written() {
    let mut bench = Bench::new();
    for sent in [2 * 512 + 1, 3 * 512, 100 * 512] {
        bench.volume.bytes.fill(0);
        let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0, 5, 2)), Transfer::Out(sent));
        assert!(matches!(begun, Begun::DataOut { len: 1024, .. }), "{sent}: {begun:?}");
        good(bench.send(&cdb(0, 5, 2), &noise(sent as usize)));
        assert_eq!(bench.asked(), ["write-atomic 2560+1024 durable"]);
        assert!(bench.volume.bytes[2560..3584] == noise(1024));
        assert!(bench.volume.bytes[3584..].iter().all(|&byte| byte == 0));
    }
    // Nor does a transport that hands over more get more written.
    let task = begin(&mut bench);
    let step = bench.unit.data_out(task, payload(&bench.slab, &[1; 513]));
    let Step::Volume { op: VolumeOp::WriteAtomic { span, data }, .. } = step else { panic!("{step:?}") };
    assert_eq!((span.len(), data.len()), (512, 512));
    // A count of zero asks for none of it.
    good(bench.send(&cdb(0, 5, 0), &[1; 512]));
    assert_eq!(bench.asked(), [""; 0]);
}

#[test]
fn a_protected_medium_is_not_written() {
    let mut read_only = settings(BlockSize::Emulated512, SIZE);
    read_only.read_only = true;
    let mut bench = Bench::with(read_only);
    assert_eq!(sense(&bench.send(&cdb(0, 1, 1), &[1; 512])), PROTECTED);
    assert_eq!(bench.asked(), [""; 0]);

    let mut bench = Bench::new();
    bench.unit.set_right(HOST, Right::ReadOnly);
    bench.run(&[0; 6]); // it is told
    assert_eq!(sense(&bench.send(&cdb(0, 1, 1), &[1; 512])), PROTECTED);
    assert_eq!(bench.asked(), [""; 0]);

    let mut bench = Bench::new();
    protect(&mut bench);
    assert_eq!(sense(&bench.send(&cdb(0, 1, 1), &[1; 512])), SOFTWARE_PROTECTED);
    assert_eq!(bench.asked(), [""; 0]);
}

/// Whoever was told that nothing is written any more is told the truth.
#[test]
fn protection_that_comes_amid_holds_for_one_that_is_under_way() {
    // For its data,
    for right in [Right::ReadOnly, Right::None] {
        let mut bench = Bench::new();
        let task = begin(&mut bench);
        bench.unit.set_right(HOST, right);
        let step = bench.unit.data_out(task, payload(&bench.slab, &[1; 512]));
        let Step::Answer(response) = step else { panic!("{step:?}") };
        assert_eq!(sense(&response), PROTECTED);
    }
    // and on its way to the owner, who knows of a newer state (M20).
    let mut bench = Bench::new();
    let task = begin(&mut bench);
    let step = bench.unit.data_out(task, payload(&bench.slab, &[1; 512]));
    let Step::Volume { task, op } = step else { panic!("{step:?}") };
    protect(&mut bench);
    let begun = bench.unit.overtaken(task, op);
    let Begun::Answer(response) = begun else { panic!("{begun:?}") };
    assert_eq!(sense(&response), SOFTWARE_PROTECTED);
}

/// SBC-4, commands allowed in the presence of reservations: as for every write.
#[test]
fn another_hosts_reservation_keeps_it_out() {
    for kind in [WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS] {
        let mut cluster = Cluster::new(1, 2);
        cluster.register(A, 1);
        good(cluster.out(A, RESERVE, kind, 1, 0));
        conflict(&cluster.run(B, &cdb(0, 1, 1), &[1; 512]));
        conflict(&cluster.run(B, &cdb(0, 1, 0), &[]));
        good(cluster.run(A, &cdb(0, 1, 1), &[1; 512]));
        assert_eq!(cluster.nodes[0].done, 1);
    }
    let mut cluster = Cluster::new(1, 2);
    good(cluster.run(A, &RESERVE_6, &[]));
    conflict(&cluster.run(B, &cdb(0, 1, 1), &[1; 512]));
    assert_eq!(cluster.nodes[0].done, 0);
}

#[test]
fn a_reservation_that_comes_before_its_data_keeps_it_out() {
    let mut cluster = Cluster::new(1, 2);
    let begun = cluster.nodes[0].unit.begin(B.nexus(), 0, &padded(&cdb(0, 1, 1)), Transfer::Out(512));
    let begun = match begun {
        Begun::State { task } => {
            cluster.bring_state(0);
            cluster.nodes[0].unit.again(task)
        }
        begun => begun,
    };
    let Begun::DataOut { task, .. } = begun else { panic!("{begun:?}") };
    cluster.register(A, 1);
    good(cluster.out(A, RESERVE, WRITE_EXCLUSIVE, 1, 0));
    let step = cluster.nodes[0].unit.data_out(task, payload(&cluster.slab, &[1; 512]));
    let Step::Answer(response) = step else { panic!("{step:?}") };
    conflict(&response);
}

/// BUSY where it may have taken effect, too: sent again it writes the same.
#[test]
fn what_the_volume_refuses_is_told() {
    for (error, expected) in [
        (VolumeError::NoSpace, (7, 0x27, 7)),
        (VolumeError::WriteFault, (3, 0x03, 0)),
        (VolumeError::OutOfRange, OUT_OF_RANGE),
    ] {
        let mut bench = Bench::new();
        bench.volume.failures = vec![error];
        assert_eq!(sense(&bench.send(&cdb(0, 1, 1), &[1; 512])), expected);
    }
    let mut bench = Bench::new();
    bench.volume.failures = vec![VolumeError::Busy];
    assert_eq!(bench.send(&cdb(0, 1, 1), &[1; 512]).status, Status::Busy);
    let task = begin(&mut bench);
    assert!(task.is_repeatable());
}
