//! Commands that touch the medium, run to their end on a volume of plain memory.

mod common;

use common::{Bench, HOST, field, good, information, padded, payload, sense, settings};
use dyad_contract::volume::VolumeOp;
use dyad_scsi::{Begun, BlockSize, Response, Status, Step, Transfer};
use dyad_units::Bytes;

/// Forms of a command: CDBs for an LBA and a count.
type Form = fn(u8, u32, u8) -> Vec<u8>;

fn six(flags: u8, lba: u32, blocks: u8) -> Vec<u8> {
    assert_eq!(flags, 0);
    let [_, a, b, c] = lba.to_be_bytes();
    vec![0, a, b, c, blocks, 0]
}

fn ten(flags: u8, lba: u32, blocks: u8) -> Vec<u8> {
    let [a, b, c, d] = lba.to_be_bytes();
    vec![0, flags, a, b, c, d, 0, 0, blocks, 0]
}

fn twelve(flags: u8, lba: u32, blocks: u8) -> Vec<u8> {
    let [a, b, c, d] = lba.to_be_bytes();
    vec![0, flags, a, b, c, d, 0, 0, 0, blocks, 0, 0]
}

fn sixteen(flags: u8, lba: u32, blocks: u8) -> Vec<u8> {
    let [a, b, c, d] = lba.to_be_bytes();
    vec![0, flags, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, blocks, 0, 0]
}

fn cdb(opcode: u8, form: Form, flags: u8, lba: u32, blocks: u8) -> Vec<u8> {
    let mut cdb = form(flags, lba, blocks);
    cdb[0] = opcode;
    cdb
}

const READS: [(u8, Form); 4] = [(0x08, six), (0x28, ten), (0xa8, twelve), (0x88, sixteen)];
const WRITES: [(u8, Form); 4] = [(0x0a, six), (0x2a, ten), (0xaa, twelve), (0x8a, sixteen)];
const VERIFIES: [(u8, Form); 3] = [(0x2f, ten), (0xaf, twelve), (0x8f, sixteen)];
const WRITE_AND_VERIFIES: [(u8, Form); 3] = [(0x2e, ten), (0xae, twelve), (0x8e, sixteen)];

/// Bytes that differ from place to place.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed).collect()
}

/// SBC-3 §5.10 to §5.13, §5.30 and after.
#[test]
fn every_form_reads_what_every_form_wrote() {
    for (block, len) in [(Bench::new as fn() -> Bench, 512), (Bench::native, 4096)] {
        let mut bench = block();
        for (at, (write, write_form)) in WRITES.into_iter().enumerate() {
            let data = pattern(3 * len, at as u8);
            good(bench.send(&cdb(write, write_form, 0, 5, 3), &data));
            for (read, read_form) in READS {
                assert_eq!(good(bench.run(&cdb(read, read_form, 0, 5, 3))), data, "{write:02x} {read:02x}");
            }
        }
        let offset = 5 * len;
        assert_eq!(bench.asked()[..2], [format!("write {offset}+{}", 3 * len), format!("read {offset}+{}", 3 * len)]);
    }
}

/// SBC-3 §5.10: in the six-byte forms zero means 256 blocks; elsewhere it means none.
#[test]
fn a_count_of_zero_is_256_in_six_bytes_and_none_elsewhere() {
    let mut bench = Bench::new();
    assert_eq!(good(bench.run(&cdb(0x08, six, 0, 1, 0))).len(), 256 * 512);
    good(bench.send(&cdb(0x0a, six, 0, 1, 0), &pattern(256 * 512, 1)));
    assert_eq!(bench.asked(), ["read 512+131072", "write 512+131072"]);
    for (opcode, form) in READS[1..].iter().chain(&WRITES[1..]).chain(&VERIFIES).chain(&WRITE_AND_VERIFIES).copied() {
        assert_eq!(good(bench.send(&cdb(opcode, form, 0, 2048, 0), &[])), [], "even at the very end");
        assert_eq!(sense(&bench.send(&cdb(opcode, form, 0, 2049, 0), &[])), (5, 0x21, 0));
    }
    assert!(bench.asked().is_empty());
}

/// SBC-3 §4.5: LOGICAL BLOCK ADDRESS OUT OF RANGE before anything is asked.
#[test]
fn ranges_beyond_the_end_are_refused() {
    let mut bench = Bench::new();
    let all = READS[1..].iter().chain(&WRITES[1..]).chain(&VERIFIES).chain(&WRITE_AND_VERIFIES);
    for &(opcode, form) in all.chain(&[(0x34, ten as Form), (0x35, ten), (0x41, ten), (0x90, sixteen), (0x91, sixteen)])
    {
        for (lba, blocks) in [(2048, 1), (2047, 2), (1900, 200), (u32::MAX, 1), (u32::MAX, 255)] {
            let response = bench.send(&cdb(opcode, form, 0, lba, blocks), &[0; 512]);
            assert_eq!(sense(&response), (5, 0x21, 0), "{opcode:02x} {lba}+{blocks}");
        }
    }
    let mut endless = cdb(0x88, sixteen, 0, 0, 2);
    endless[2..10].fill(0xff);
    assert_eq!(sense(&bench.run(&endless)), (5, 0x21, 0), "the sum does not wrap");
    assert_eq!(sense(&bench.run(&cdb(0x08, six, 0, 2047, 2))), (5, 0x21, 0));
    assert!(bench.asked().is_empty());
}

/// SBC-3 §6.6.4, MAXIMUM TRANSFER LENGTH: INVALID FIELD IN CDB, pointing at the count.
#[test]
fn transfers_over_the_maximum_are_refused_at_their_count() {
    let mut bench = Bench::with(settings(BlockSize::Emulated512, Bytes::gib(1)));
    for (read, at) in [
        (&[0x28, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0][..], 7),
        (&[0xa8, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0, 0], 6),
        (&[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0, 0], 10),
        (&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0], 10),
        (&[0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0, 0], 10),
    ] {
        let response = bench.run(read);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, at, None))));
    }
    let longest = &[0x2a, 0, 0, 0, 0, 0, 0, 0x40, 0x00, 0];
    let begun = bench.unit.begin(HOST, 0, &padded(longest), Transfer::Out(8 << 20));
    assert!(matches!(begun, Begun::DataOut { len: 0x80_0000, .. }), "{begun:?}");
}

/// A2: FUA, and every write of a volume without cache, is answered when durable.
#[test]
fn fua_and_a_cache_that_is_off_make_writes_durable() {
    let data = pattern(512, 3);
    let mut bench = Bench::new();
    for (write, form) in &WRITES[1..] {
        good(bench.send(&cdb(*write, *form, 0x18, 4, 1), &data));
        assert_eq!(bench.asked(), ["write 2048+512 durable"]);
        good(bench.send(&cdb(*write, *form, 0x10, 4, 1), &data)); // DPO alone
        assert_eq!(bench.asked(), ["write 2048+512"]);
    }

    let mut settings = settings(BlockSize::Emulated512, common::SIZE);
    settings.write_cache = false;
    let mut bench = Bench::with(settings);
    good(bench.send(&cdb(0x2a, ten, 0, 4, 1), &data));
    good(bench.send(&cdb(0x41, ten, 0, 4, 1), &data));
    good(bench.send(&cdb(0x41, ten, 0x08, 4, 1), &[0; 512]));
    good(bench.send(&cdb(0x89, sixteen, 0, 4, 1), &[[0; 512], [1; 512]].concat()));
    good(bench.send(&cdb(0x42, ten, 0, 0, 24), &unmap_list(&[(4, 1)])));
    good(bench.run(&cdb(0x28, ten, 0x08, 4, 1)));
    assert_eq!(
        bench.asked(),
        [
            "write 2048+512 durable",
            "fill 2048+512 durable",
            "unmap 2048+512 durable",
            "compare-and-write 2048+512 durable",
            "unmap 2048+512 durable",
            "read 2048+512", // nothing is cached that a flush would have to bring out
        ]
    );
}

/// SBC-3 §5.11: what a READ with FUA returns is on the medium.
#[test]
fn a_read_with_fua_flushes_first() {
    let mut bench = Bench::new();
    for (read, form) in &READS[1..] {
        good(bench.run(&cdb(*read, *form, 0x08, 4, 1)));
        assert_eq!(bench.asked(), ["flush", "read 2048+512"]);
    }
}

/// In six bytes the bit that is FUA elsewhere belongs to the address.
#[test]
fn the_six_byte_forms_have_no_fua() {
    let mut bench = Bench::with(settings(BlockSize::Emulated512, Bytes::gib(1)));
    let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0x08, six, 0, 0x08_0000, 1)), Transfer::In(512));
    assert!(matches!(&begun, Begun::Volume { op: VolumeOp::Read { span }, .. } if span.offset() == 256 << 20));
    let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0x0a, six, 0, 0x08_0000, 1)), Transfer::Out(512));
    let Begun::DataOut { task, .. } = begun else { panic!("{begun:?}") };
    let step = bench.unit.data_out(task, payload(&bench.slab, &[0; 512]));
    assert!(matches!(step, Step::Volume { op: VolumeOp::Write { durable: false, .. }, .. }), "{step:?}");
}

/// RFC 7143 §11.4.5.1: the residual overflow, which the transport reports, tells the host.
#[test]
fn a_host_that_sends_less_than_its_cdb_says_gets_whole_blocks_written() {
    let mut bench = Bench::new();
    good(bench.send(&cdb(0x2a, ten, 0, 0, 2), &[b'a'; 1024]));
    for (sent, written) in [(0, 0), (200, 0), (512, 512), (700, 512), (1024, 1024)] {
        good(bench.send(&cdb(0x2a, ten, 0, 0, 2), &[b'a'; 1024]));
        good(bench.send(&cdb(0x2a, ten, 0, 0, 2), &vec![b'b'; sent]));
        let expected = [vec![b'b'; written], vec![b'a'; 1024 - written]].concat();
        assert_eq!(bench.volume.bytes[..1024], expected, "{sent}");
    }
    // More than asked for is not written either, wherever it comes from.
    let begun = bench.unit.begin(HOST, 0, &padded(&cdb(0x2a, ten, 0, 0, 1)), Transfer::Out(1024));
    let Begun::DataOut { task, len: 512 } = begun else { panic!("{begun:?}") };
    let step = bench.unit.data_out(task, payload(&bench.slab, &[b'c'; 1024]));
    assert!(matches!(&step, Step::Volume { op, .. } if format!("{op:?}").contains("len: 512")), "{step:?}");
}

/// SBC-3 §5.36 to §5.38: BYTCHK 00b, 01b, 11b; 10b is reserved.
#[test]
fn verify_checks_compares_or_compares_one_block_with_all() {
    let mut bench = Bench::new();
    let data = pattern(2048, 9);
    good(bench.send(&cdb(0x2a, ten, 0, 8, 4), &data));
    good(bench.send(&cdb(0x2a, ten, 0, 100, 200), &data[..512].repeat(200)));
    bench.asked();
    for (opcode, form) in VERIFIES {
        good(bench.run(&cdb(opcode, form, 0x10, 8, 4)));
        good(bench.send(&cdb(opcode, form, 0x02, 8, 4), &data));
        good(bench.send(&cdb(opcode, form, 0x06, 100, 200), &data[..512]));
        assert_eq!(bench.asked(), ["verify 4096+2048", "compare 4096+2048", "compare 51200+102400"]);

        let mut other = data.clone();
        other[1500] ^= 1;
        let response = bench.send(&cdb(opcode, form, 0x02, 8, 4), &other);
        assert_eq!((sense(&response), information(&response)), ((0xe, 0x1d, 0), Some(1500)));
        // The offset counts from the start of the data-out buffer, which is one block here.
        bench.volume.bytes[51200 + 512 * 7 + 20] ^= 1;
        let response = bench.send(&cdb(opcode, form, 0x06, 100, 200), &data[..512]);
        assert_eq!((sense(&response), information(&response)), ((0xe, 0x1d, 0), Some(20)));
        bench.volume.bytes[51200 + 512 * 7 + 20] ^= 1;

        let response = bench.send(&cdb(opcode, form, 0x04, 8, 4), &data);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(2)))));
        assert_eq!(sense(&bench.send(&cdb(opcode, form, 0x02, 8, 4), &data[..2047])), (5, 0x0e, 3));
        bench.asked();
    }
}

/// SBC-3 §5.40 to §5.42: durable first, then verified.
#[test]
fn write_and_verify_writes_durably_and_then_verifies() {
    let mut bench = Bench::new();
    for (seed, (opcode, form)) in WRITE_AND_VERIFIES.into_iter().enumerate() {
        let data = pattern(1024, seed as u8);
        good(bench.send(&cdb(opcode, form, 0, 8, 2), &data));
        good(bench.send(&cdb(opcode, form, 0x12, 8, 2), &data));
        let write = "write 4096+1024 durable";
        assert_eq!(bench.asked(), [write, "verify 4096+1024", write, "compare 4096+1024"]);
        assert_eq!(bench.volume.bytes[4096..5120], data);
        for flags in [0x04, 0x06] {
            assert_eq!(sense(&bench.send(&cdb(opcode, form, flags, 8, 2), &data)), (5, 0x24, 0));
        }
        good(bench.send(&cdb(opcode, form, 0x02, 8, 2), &data[..512]));
        assert_eq!(bench.asked(), ["write 4096+512 durable", "compare 4096+512"], "what came is what is verified");
    }
}

/// SBC-3 §5.3.
#[test]
fn compare_and_write_writes_only_over_what_was_expected() {
    let mut bench = Bench::new();
    let (old, new) = (pattern(1024, 1), pattern(1024, 2));
    good(bench.send(&cdb(0x2a, ten, 0, 8, 2), &old));
    let both = [old.clone(), new.clone()].concat();
    good(bench.send(&cdb(0x89, sixteen, 0, 8, 2), &both));
    assert_eq!(bench.volume.bytes[4096..5120], new);
    let mut wrong = [new.clone(), old].concat();
    wrong[997] ^= 0x80;
    let response = bench.send(&cdb(0x89, sixteen, 0x08, 8, 2), &wrong);
    assert_eq!((sense(&response), information(&response)), ((0xe, 0x1d, 0), Some(997)));
    assert_eq!(bench.volume.bytes[4096..5120], new);
    assert_eq!(bench.asked()[1..], ["compare-and-write 4096+1024", "compare-and-write 4096+1024 durable"]);
}

/// What the host sends must be what its CDB says, or a compare of the wrong half could succeed. A count of
/// zero asks for nothing (SBC-3 §5.3), unless what is announced shows that 256 wrapped to it.
#[test]
fn compare_and_write_refuses_another_length_than_the_cdb_says() {
    let mut bench = Bench::new();
    for (blocks, sent) in [(1, 4), (3, 4), (2, 0), (2, 3), (0, 512)] {
        let response = bench.send(&cdb(0x89, sixteen, 0, 0, blocks), &vec![0; sent * 512]);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 13, None))), "{blocks} {sent}");
    }
    for sent in [0, 1] {
        good(bench.send(&cdb(0x89, sixteen, 0, 0, 0), &vec![0; sent * 512]));
    }
    assert!(bench.asked().is_empty());
    good(bench.send(&cdb(0x89, sixteen, 0, 0, 255), &vec![0; 2 * 255 * 512]));
}

fn unmap_list(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let len = descriptors.len() as u16 * 16;
    let mut list = [&(len + 6).to_be_bytes()[..], &len.to_be_bytes(), &[0; 4]].concat();
    for (lba, blocks) in descriptors {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

fn unmap(bench: &mut Bench, list: &[u8]) -> Response {
    let [high, low] = (list.len() as u16).to_be_bytes();
    bench.send(&[0x42, 0, 0, 0, 0, 0, 0, high, low, 0], list)
}

/// SBC-3 §5.35, P9.
#[test]
fn unmapped_blocks_read_as_zeros_and_their_neighbours_stay() {
    let mut bench = Bench::new();
    bench.volume.bytes.fill(7);
    good(unmap(&mut bench, &unmap_list(&[(1, 2), (9, 0), (2047, 1), (2, 3)])));
    for lba in 0..2048 {
        let expected = if (1..5).contains(&lba) || lba == 2047 { 0 } else { 7 };
        assert!(bench.volume.bytes[lba * 512..][..512].iter().all(|&byte| byte == expected), "{lba}");
    }
}

#[test]
fn lists_that_name_no_block_are_good() {
    let mut bench = Bench::new();
    good(bench.send(&[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]));
    good(unmap(&mut bench, &unmap_list(&[])));
    good(unmap(&mut bench, &unmap_list(&[(2048, 0), (0, 0)])));
    let mut incomplete = unmap_list(&[(1, 1)]);
    incomplete[3] = 15; // the last descriptor is incomplete, and ignored
    good(unmap(&mut bench, &incomplete));
    assert!(bench.asked().is_empty());
    incomplete[3] = 24; // so is this one's second, of which the list has nothing
    good(unmap(&mut bench, &incomplete));
    assert_eq!(bench.asked(), ["unmap 512+512"]);
}

/// SBC-3 §5.35.2; nothing is unmapped unless the whole list is right.
#[test]
fn bad_lists_are_refused_whole() {
    let mut bench = Bench::with(settings(BlockSize::Emulated512, Bytes::gib(4)));
    let mut cut = unmap_list(&[(0, 1), (8, 1)]);
    cut.truncate(39);
    let many: Vec<_> = (0..257).map(|lba| (lba, 1)).collect();
    for (list, expected, at) in [
        (cut, (5, 0x1a, 0), None),
        (vec![0; 7], (5, 0x1a, 0), None),
        (unmap_list(&many), (5, 0x26, 0), Some((false, 2, None))),
        (unmap_list(&[(0, 1), (0, 1 << 20)]), (5, 0x26, 0), Some((false, 32, None))),
        (unmap_list(&[(0, 1), (8 << 20, 1)]), (5, 0x21, 0), None),
        (unmap_list(&[(0, 1), (u64::MAX, u32::MAX)]), (5, 0x21, 0), None),
    ] {
        let response = unmap(&mut bench, &list);
        assert_eq!((sense(&response), field(&response)), (expected, at));
    }
    let response = bench.send(&[0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0], &unmap_list(&[(0, 1)]));
    assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(0)))), "ANCHOR");
    let response = bench.send(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap_list(&[]));
    assert_eq!(sense(&response), (5, 0x1a, 0), "the host sends less than it says");
    assert!(bench.asked().is_empty());
}

/// SBC-3 §5.43, §5.44.
#[test]
fn write_same_fills_or_unmaps_by_what_the_block_is() {
    for (opcode, form) in [(0x41, ten as Form), (0x93, sixteen)] {
        let mut bench = Bench::new();
        bench.volume.bytes.fill(7);
        let block = pattern(512, 5);
        good(bench.send(&cdb(opcode, form, 0x00, 8, 3), &block));
        assert_eq!(bench.volume.bytes[4096..5632], block.repeat(3));
        good(bench.send(&cdb(opcode, form, 0x08, 8, 3), &block)); // UNMAP, but not zeros
        good(bench.send(&cdb(opcode, form, 0x00, 8, 3), &[0; 512])); // zeros, but not UNMAP
        good(bench.send(&cdb(opcode, form, 0x08, 8, 3), &[0; 512]));
        assert_eq!(bench.asked(), ["fill 4096+1536", "fill 4096+1536", "fill 4096+1536", "unmap 4096+1536"]);
        // WSNZ: a count of zero is not taken for "up to the end".
        let response = bench.send(&cdb(opcode, form, 0x08, 2000, 0), &[0; 512]);
        let count_at = if opcode == 0x41 { 7 } else { 10 };
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, count_at, None))));

        for (flags, at) in [(0x10, (1, Some(4))), (0x18, (1, Some(4)))] {
            let response = bench.send(&cdb(opcode, form, flags, 8, 3), &block);
            assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, at.0, at.1))));
        }
        for sent in [0, 256, 1024] {
            assert_eq!(sense(&bench.send(&cdb(opcode, form, 0x08, 8, 3), &vec![0; sent])), (5, 0x0e, 3));
        }
        assert!(bench.asked().is_empty());
    }
}

#[test]
fn write_same_without_data_out_means_zeros() {
    let mut bench = Bench::native();
    bench.volume.bytes.fill(7);
    good(bench.run(&cdb(0x93, sixteen, 0x01, 1, 2)));
    good(bench.run(&cdb(0x93, sixteen, 0x09, 4, 2)));
    assert_eq!(bench.asked(), ["fill 4096+8192", "unmap 16384+8192"]);
    assert_eq!(sense(&bench.run(&cdb(0x41, ten, 0x01, 1, 2))), (5, 0x24, 0), "not in ten bytes");
}

#[test]
fn write_same_over_its_maximum_is_refused_at_its_count() {
    let mut bench = Bench::with(settings(BlockSize::Emulated512, Bytes::gib(1)));
    for (cdb, at) in [
        (&[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..], 10),
        (&[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10),
        (&[0x41, 8, 0, 0, 0, 0, 0, 0, 0, 0], 7),
    ] {
        let response = bench.send(cdb, &[0; 512]);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, at, None))));
    }
    good(bench.send(&[0x41, 8, 0, 0, 0, 0, 0, 0x07, 0xff, 0], &[0; 512]));
}

/// SBC-3 §5.26, §5.27: whatever the range and IMMED say, everything is flushed before the answer.
#[test]
fn synchronize_cache_flushes_everything() {
    let mut bench = Bench::new();
    for (opcode, form) in [(0x35, ten as Form), (0x91, sixteen)] {
        for (flags, lba, blocks) in [(0, 0, 0), (2, 0, 0), (0, 2047, 1), (0, 2048, 0), (6, 5, 200)] {
            good(bench.run(&cdb(opcode, form, flags, lba, blocks)));
            assert_eq!(bench.asked(), ["flush"]);
        }
    }
}

/// SBC-3 §5.8, §5.9: nothing is fetched, which GOOD says.
#[test]
fn pre_fetch_checks_its_range_only() {
    let mut bench = Bench::new();
    for (opcode, form) in [(0x34, ten as Form), (0x90, sixteen)] {
        for (flags, lba, blocks) in [(0, 0, 0), (2, 0, 1), (2, 2047, 1)] {
            good(bench.run(&cdb(opcode, form, flags, lba, blocks)));
        }
        let mut grouped = cdb(opcode, form, 2, 0, 1);
        let group = if grouped.len() == 10 { 6 } else { 14 };
        grouped[group] = 3; // GROUP NUMBER is ignored
        good(bench.run(&grouped));
    }
    assert!(bench.asked().is_empty());
}

/// SBC-3 §5.18, §5.19.
#[test]
fn defect_lists_are_valid_and_empty() {
    let mut bench = Bench::new();
    assert_eq!(good(bench.run(&[0x37, 0, 0x1d, 0, 0, 0, 0, 0, 32, 0])), [0, 0x1d, 0, 0]);
    assert_eq!(good(bench.run(&[0xb7, 0x0d, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0])), [0, 0x0d, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_read_only_volume_refuses_what_changes_it() {
    let mut settings = settings(BlockSize::Emulated512, common::SIZE);
    settings.read_only = true;
    let mut bench = Bench::with(settings);
    let refused = WRITES.iter().chain(&WRITE_AND_VERIFIES);
    for &(opcode, form) in refused.chain(&[(0x41, ten as Form), (0x42, ten), (0x93, sixteen), (0x89, sixteen)]) {
        assert_eq!(sense(&bench.send(&cdb(opcode, form, 0, 0, 1), &[0; 512])), (7, 0x27, 0), "{opcode:02x}");
    }
    for (opcode, form) in READS.into_iter().chain(VERIFIES) {
        good(bench.run(&cdb(opcode, form, 0, 0, 1)));
    }
    good(bench.run(&cdb(0x35, ten, 0, 0, 0)));
}

/// RDPROTECT, WRPROTECT, VRPROTECT: there is no protection information (SBC-3 §4.22).
#[test]
fn protection_is_refused_at_its_field() {
    let all = READS[1..].iter().chain(&WRITES[1..]).chain(&VERIFIES).chain(&WRITE_AND_VERIFIES);
    for &(opcode, form) in all.chain(&[(0x41, ten as Form), (0x93, sixteen), (0x89, sixteen)]) {
        for protect in 1..8_u8 {
            let response = Bench::new().send(&cdb(opcode, form, protect << 5, 0, 1), &[0; 512]);
            assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 1, Some(7)))));
        }
    }
}

/// The volume shrank between the CDB and its data: the range is checked again.
#[test]
fn a_resize_between_the_steps_lets_nothing_beyond_the_end() {
    for (opcode, flags) in [(0x2a, 0), (0x2f, 2), (0x41, 0)] {
        for (lba, is_within) in [(1023, true), (1024, false), (2040, false)] {
            let mut bench = Bench::new();
            let begun = bench.unit.begin(HOST, 0, &padded(&cdb(opcode, ten, flags, lba, 1)), Transfer::Out(512));
            let Begun::DataOut { task, .. } = begun else { panic!("{begun:?}") };
            bench.unit.resize(Bytes::kib(512)).unwrap();
            match bench.unit.data_out(task, payload(&bench.slab, &[0; 512])) {
                Step::Answer(response) => assert_eq!((sense(&response), is_within), ((5, 0x21, 0), false)),
                Step::State { .. } | Step::Node { .. } | Step::Volume { .. } => {
                    assert!(is_within, "{opcode:02x} {lba}")
                }
            }
        }
    }
}

#[test]
fn no_memory_for_an_answer_is_busy() {
    let mut bench = Bench::new();
    let mut taken = Vec::new();
    while let Ok(buf) = bench.slab.take(1) {
        taken.push(buf);
    }
    assert_eq!(bench.run(&[0x12, 0, 0, 0, 96, 0]).status, Status::Busy);
    drop(taken);
    good(bench.run(&[0x12, 0, 0, 0, 96, 0]));
}
