//! MODE SENSE and MODE SELECT (SPC-4 §6.11 to §6.14, §7.5; SBC-3 §6.5).

mod common;

use common::{Bench, HOST, field, good, padded, payload, sense, settings};
use dyad_contract::volume::{VolumeDone, VolumeOp};
use dyad_scsi::{Attention, Begun, BlockSize, NexusId, Step, Transfer, Who};
use dyad_units::Bytes;

const CACHING: [u8; 20] = [0x08, 18, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CONTROL: [u8; 12] = [0x0a, 10, 0x02, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
/// 2048 blocks of 512 bytes.
const DESCRIPTOR: [u8; 8] = [0, 0, 8, 0, 0, 0, 2, 0];

fn sense_6(bench: &mut Bench, flags: u8, page: u8, subpage: u8) -> Vec<u8> {
    good(bench.run(&[0x1a, flags, page, subpage, 255, 0]))
}

#[test]
fn all_pages_come_in_order_behind_header_and_block_descriptor() {
    let mut bench = Bench::new();
    let body = [&DESCRIPTOR[..], &CACHING, &CONTROL].concat();
    let expected = [&[43, 0, 0x10, 8], &body[..]].concat(); // DPOFUA
    for subpage in [0, 0xff] {
        assert_eq!(sense_6(&mut bench, 0, 0x3f, subpage), expected);
    }
    let long = good(bench.run(&[0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0, 0]));
    assert_eq!(long, [&[0, 46, 0, 0x10, 0, 0, 0, 8], &body[..]].concat());
}

#[test]
fn one_page_comes_alone_and_without_descriptor_if_disabled() {
    let mut bench = Bench::new();
    assert_eq!(sense_6(&mut bench, 0x08, 0x08, 0), [&[23, 0, 0x10, 0], &CACHING[..]].concat());
    assert_eq!(sense_6(&mut bench, 0x08, 0x0a, 0xff), [&[15, 0, 0x10, 0], &CONTROL[..]].concat());
}

#[test]
fn wce_and_swp_are_changeable_and_nothing_saved() {
    let mut bench = Bench::new();
    let changeable = sense_6(&mut bench, 0x08, 0x40 | 0x3f, 0);
    let mut expected = [&[35, 0, 0x10, 0], &CACHING[..], &CONTROL].concat();
    expected[6] = 0x04;
    expected[7..24].fill(0);
    expected[26..].fill(0);
    expected[28] = 0x08;
    assert_eq!(changeable, expected);
    assert_eq!(sense_6(&mut bench, 0x08, 0x80 | 0x08, 0), sense_6(&mut bench, 0x08, 0x08, 0));
    assert_eq!(sense(&bench.run(&[0x1a, 0, 0xc0 | 0x08, 0, 255, 0])), (5, 0x39, 0));
}

#[test]
fn the_long_descriptor_counts_beyond_32_bits() {
    let mut bench = Bench::with(settings(BlockSize::Native4096, Bytes::gib(32_768)));
    let short = good(bench.run(&[0x5a, 0x00, 0x0a, 0, 0, 0, 0, 1, 0, 0]));
    assert_eq!(short[8..16], [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]);
    let long = good(bench.run(&[0x5a, 0x10, 0x0a, 0, 0, 0, 0, 1, 0, 0]));
    assert_eq!(long[..8], [0, 34, 0, 0x10, 1, 0, 0, 16]); // LONGLBA
    assert_eq!(long[8..24], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]);
}

#[test]
fn unknown_pages_and_subpages_are_pointed_at() {
    let mut bench = Bench::new();
    for (page, subpage, at) in [(0x1c, 0, (2, Some(5))), (0x08, 1, (3, None)), (0x3f, 1, (3, None))] {
        let response = bench.run(&[0x1a, 0, page, subpage, 255, 0]);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, at.0, at.1))));
    }
}

#[test]
fn the_pages_show_what_the_administrator_set() {
    let mut settings = settings(BlockSize::Emulated512, common::SIZE);
    settings.read_only = true;
    let mut bench = Bench::with(settings);
    bench.unit.set_write_cache(false);
    assert_eq!(sense(&bench.run(&[0x00, 0, 0, 0, 0, 0])), (6, 0x2a, 1), "mode parameters changed");
    let data = sense_6(&mut bench, 0x08, 0x08, 0);
    assert_eq!(data[2], 0x90, "WP, DPOFUA");
    assert_eq!(data[6], 0, "WCE");
}

/// Setting what is set already is no change.
#[test]
fn switching_the_cache_to_what_it_is_tells_nobody() {
    let mut bench = Bench::new();
    bench.unit.set_write_cache(true);
    good(bench.run(&[0x00, 0, 0, 0, 0, 0]));
    bench.unit.attend(Who::All, Attention::ModeParametersChanged);
    assert_eq!(sense(&bench.run(&[0x00, 0, 0, 0, 0, 0])), (6, 0x2a, 1));
}

#[test]
fn selecting_what_was_sensed_is_good() {
    let mut bench = Bench::new();
    let mut list = sense_6(&mut bench, 0, 0x3f, 0);
    list[0] = 0;
    assert_eq!(good(bench.send(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)), []);
    let mut list = good(bench.run(&[0x5a, 0x10, 0x3f, 0, 0, 0, 0, 1, 0, 0]));
    list[..2].fill(0);
    assert_eq!(good(bench.send(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list)), []);
    assert_eq!(good(bench.send(&[0x15, 0, 0, 0, 0, 0], &[])), [], "no list is no error");
}

/// Each row: a list, the code, and the byte of the list that is at fault.
#[test]
fn a_list_that_would_change_something_is_refused_where_it_would() {
    let with = |at: usize, value: u8, list: &[u8]| {
        let mut list = list.to_vec();
        list[at] = value;
        list
    };
    let plain = [&[0, 0, 0, 0], &CACHING[..]].concat();
    let described = [&[0, 0, 0, 8], &DESCRIPTOR[..], &CACHING].concat();
    let list_length = ((5, 0x1a, 0), None);
    let at = |byte| ((5, 0x26, 0), Some((false, byte, None)));
    for (list, expected) in [
        (with(6, 5, &plain), at(6)),             // RCD
        (with(23, 1, &plain), at(23)),           // last byte
        (with(5, 17, &plain), at(5)),            // PAGE LENGTH
        (with(4, 0x48, &plain), at(4)),          // SPF
        (with(4, 0x01, &plain), at(4)),          // another page
        (with(1, 1, &plain), at(1)),             // MEDIUM TYPE
        (with(3, 7, &plain), at(3)),             // BLOCK DESCRIPTOR LENGTH
        (with(6, 9, &described), at(4)),         // NUMBER OF LOGICAL BLOCKS
        (with(10, 16, &described), at(9)),       // LOGICAL BLOCK LENGTH
        (plain[..23].to_vec(), list_length),     // the page is cut
        (plain[..5].to_vec(), list_length),      // within its header
        (plain[..3].to_vec(), list_length),      // the header is cut
        (described[..11].to_vec(), list_length), // the descriptor is cut
    ] {
        let response = Bench::new().send(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list);
        assert_eq!((sense(&response), field(&response)), expected, "{list:02x?}");
    }
    let response = Bench::new().send(&[0x15, 0x10, 0, 0, 24, 0], &plain[..10]);
    assert_eq!(sense(&response), (5, 0x1a, 0), "the host sends less than it says");
}

/// MODE SELECT(6) of a Control page with this byte 4.
fn select_control(bench: &mut Bench, byte_4: u8) -> dyad_scsi::Response {
    let mut list = [&[0, 0, 0, 0], &CONTROL[..]].concat();
    list[8] = byte_4;
    bench.send(&[0x15, 0x10, 0, 0, 16, 0], &list)
}

const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const SOFTWARE_PROTECTED: (u8, u8, u8) = (7, 0x27, 2);

/// SPC-4 §7.5.8, SWP: what is cached is written, then nothing more; all nexuses but the one that did it learn it.
#[test]
fn a_host_can_protect_the_unit_from_writes() {
    let mut bench = Bench::new();
    let other = NexusId(99);
    bench.unit.add_nexus(other, None).unwrap();
    good(select_control(&mut bench, 0x08));
    assert_eq!(bench.asked(), ["write-state durable", "flush"]);
    assert_eq!(sense(&bench.run_as(other, &[0; 6])), (6, 0x2a, 1));
    let data = sense_6(&mut bench, 0x08, 0x0a, 0);
    assert_eq!((data[2], data[8]), (0x90, 0x08), "WP and SWP");
    assert_eq!(sense_6(&mut bench, 0x08, 0x80 | 0x0a, 0)[8], 0, "the default stays");
    assert_eq!(sense(&bench.send(&WRITE, &[1; 512])), SOFTWARE_PROTECTED);
    good(bench.run(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    good(select_control(&mut bench, 0x08));
    good(bench.run_as(other, &[0; 6])); // no news
    assert_eq!(bench.asked()[1..], ["flush"], "what is so already is flushed again, and not written");

    good(select_control(&mut bench, 0));
    assert_eq!(bench.asked(), ["write-state durable"]);
    assert_eq!(sense(&bench.run_as(other, &[0; 6])), (6, 0x2a, 1));
    good(bench.send(&WRITE, &[1; 512]));
    let response = select_control(&mut bench, 0x18);
    assert_eq!((sense(&response), field(&response)), ((5, 0x26, 0), Some((false, 8, None))), "UA_INTLCK_CTRL");
}

#[test]
fn a_write_that_waits_for_its_data_does_not_slip_past_the_protection() {
    let mut bench = Bench::new();
    let Begun::DataOut { task, .. } = bench.unit.begin(HOST, 0, &padded(&WRITE), Transfer::Out(512)) else {
        panic!("a write asks for its data");
    };
    good(select_control(&mut bench, 0x08));
    let Step::Answer(response) = bench.unit.data_out(task, payload(&bench.slab, &[1; 512])) else {
        panic!("it is refused");
    };
    assert_eq!(sense(&response), SOFTWARE_PROTECTED);
}

/// SPC-4 §6.14: a reset brings back what was saved, which is the default.
#[test]
fn a_reset_ends_what_was_set() {
    let mut bench = Bench::new();
    good(select_control(&mut bench, 0x08));
    good(select_caching(&mut bench, 0));
    assert!(bench.unit.is_changed_by_reset());
    let task = bench.unit.reset();
    good(bench.go_on(task));
    assert_eq!(sense(&bench.run(&[0; 6])), (6, 0x29, 3));
    assert!(!bench.unit.is_changed_by_reset());
    good(bench.send(&WRITE, &[1; 512]));
    assert_eq!(bench.asked().last().unwrap(), "write 0+512");
    good(bench.run(&[0; 6]));
}

/// The host learns that its cache may not be empty; to write is forbidden all the same.
#[test]
fn protection_that_could_not_flush_is_set_and_told() {
    let mut bench = Bench::new();
    let flush_fails = |bench: &mut Bench| {
        bench.volume.flush_failures.push(dyad_contract::volume::VolumeError::WriteFault);
        select_control(bench, 0x08)
    };
    for _ in 0..2 {
        assert_eq!(sense(&flush_fails(&mut bench)), (3, 0x03, 0));
        assert_eq!(sense(&bench.send(&WRITE, &[1; 512])), SOFTWARE_PROTECTED);
    }
    good(select_control(&mut bench, 0x08));
}

/// Mode data of Caching with this WCE, as select(6) takes it.
fn select_caching(bench: &mut Bench, wce: u8) -> dyad_scsi::Response {
    let mut list = vec![0; 24];
    (list[4], list[5], list[6]) = (0x08, 18, wce);
    bench.send(&[0x15, 0x10, 0, 0, 24, 0], &list)
}

/// SBC-3 §6.5.5: without a cache every write is durable before it is answered (A2), and what was cached is flushed first.
#[test]
fn a_host_switches_the_write_cache_off_and_on() {
    let mut bench = Bench::new();
    let other = NexusId(99);
    bench.unit.add_nexus(other, None).unwrap();
    assert_eq!(sense_6(&mut bench, 0x08, 0x40 | 0x08, 0)[6], 0x04, "WCE can be changed");
    for (wce, durable) in [(0, " durable"), (0x04, ""), (0, " durable")] {
        good(select_caching(&mut bench, wce));
        let expected: &[_] = if wce == 0 { &["write-state durable", "flush"] } else { &["write-state durable"] };
        assert_eq!(bench.asked(), expected);
        assert_eq!(sense(&bench.run_as(other, &[0; 6])), (6, 0x2a, 1));
        good(bench.run(&[0; 6]));
        assert_eq!(sense_6(&mut bench, 0x08, 0x08, 0)[6], wce);
        assert_eq!(sense_6(&mut bench, 0x08, 0x80 | 0x08, 0)[6], 0x04, "the default stays");
        good(bench.send(&WRITE, &[1; 512]));
        assert_eq!(bench.asked(), [format!("write 0+512{durable}")]);
    }
    // Both pages in one list; protection does not touch the cache.
    let mut list = sense_6(&mut bench, 0x08, 0x3f, 0);
    (list[0], list[4 + 2], list[4 + 20 + 4]) = (0, 0x04, 0x08);
    good(bench.send(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list));
    assert_eq!((sense_6(&mut bench, 0x08, 0x08, 0)[6], sense_6(&mut bench, 0x08, 0x0a, 0)[8]), (0x04, 0x08));
}

/// What broke: writes whose data were still awaited when a host switched the cache off were acknowledged without being durable,
/// after that host had been told that the cache is off (A2): the bit was looked at when they began, and not when they went to
/// the volume.
#[test]
fn a_cache_that_is_switched_off_is_off_for_writes_that_wait_for_their_data() {
    const COMPARE_AND_WRITE: [u8; 16] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    const OR_WRITE: [u8; 16] = [0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    for (cdb, blocks) in [(&WRITE[..], 1), (&COMPARE_AND_WRITE, 2), (&OR_WRITE, 1)] {
        let mut bench = Bench::new();
        let other = NexusId(99);
        bench.unit.add_nexus(other, None).unwrap();
        let len = blocks * 512;
        let begun = bench.unit.begin(other, 0, &padded(cdb), Transfer::Out(len));
        let Begun::DataOut { task, .. } = begun else { panic!("no data wanted") };
        good(select_caching(&mut bench, 0));
        let data = payload(&bench.slab, &vec![0; len as usize]);
        let mut step = bench.unit.data_out(task, data);
        if let Step::Volume { task, op: VolumeOp::Read { .. } } = step {
            let found = payload(&bench.slab, &[0; 512]);
            step = bench.unit.finish(task, Ok(VolumeDone::Data(found)));
        }
        let Step::Volume { op, .. } = step else { panic!("it ends without a write") };
        let (VolumeOp::Write { durable, .. } | VolumeOp::CompareAndWrite { durable, .. }) = op else {
            panic!("not a write: {op:?}")
        };
        assert!(durable, "{cdb:02x?}");
    }
}

/// Switched off by the administrator it cannot be switched on, and what hosts may change says so.
#[test]
fn a_cache_that_the_administrator_has_off_stays_off() {
    let mut settings = settings(BlockSize::Emulated512, common::SIZE);
    settings.write_cache = false;
    let mut bench = Bench::with(settings);
    assert_eq!(sense_6(&mut bench, 0x08, 0x40 | 0x08, 0)[6], 0, "nothing can be changed");
    let response = select_caching(&mut bench, 0x04);
    assert_eq!((sense(&response), field(&response)), ((5, 0x26, 0), Some((false, 6, None))));
    good(select_caching(&mut bench, 0));
    assert!(!bench.unit.is_changed_by_reset(), "that is no host's to remember");
    good(bench.send(&WRITE, &[1; 512]));
    assert_eq!(bench.asked().last().unwrap(), "write 0+512 durable");
}
