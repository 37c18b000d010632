//! EXTENDED COPY (LID1) between two volumes (SPC-4 §5.16, §6.3).

mod common;

use common::copying::{cdb, list, pattern, third_party};
use common::{Bench, HOST, VOLUME, cscd, good, segment, sense};
use dyad_contract::volume::VolumeError;
use dyad_scsi::{BlockSize, InitiatorPort, Response, Right, Settings, Status};
use dyad_units::{Bytes, VolumeId};

const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;

/// The other volume: its id differs in one byte of those that stand in the NAA designator.
fn other(block: BlockSize) -> Settings {
    let mut id = VOLUME.to_bytes();
    id[15] ^= 0xff;
    let mut settings = common::settings(block, Bytes::mib(1));
    settings.identity.volume = VolumeId::from_bytes(id);
    settings
}

fn other_cscd(block_bytes: u32) -> [u8; 32] {
    let mut cscd = cscd(block_bytes);
    cscd[23] ^= 0xff;
    cscd
}

/// A volume whose node knows another one.
fn two() -> Bench {
    let mut bench = Bench::new();
    bench.other = Some(Box::new(Bench::with(other(BlockSize::Emulated512))));
    bench
}

fn far(bench: &mut Bench) -> &mut Bench {
    bench.other.as_mut().unwrap()
}

/// Descriptor 0 is the volume that the command is sent to, 1 the other one.
fn copy(bench: &mut Bench, segments: &[[u8; 28]]) -> Response {
    let list = list(&[cscd(512), other_cscd(512)], segments);
    bench.send(&cdb(list.len()), &list)
}

fn pull(bench: &mut Bench) -> Response {
    copy(bench, &[segment(1, 0, 8, 100, 16)])
}

fn push(bench: &mut Bench) -> Response {
    copy(bench, &[segment(0, 1, 8, 100, 16)])
}

#[test]
fn blocks_are_copied_from_and_to_another_volume() {
    let mut bench = two();
    let data = pattern(100 * 512);
    bench.volume.bytes[..data.len()].copy_from_slice(&data);
    good(copy(&mut bench, &[segment(0, 1, 0, 1000, 100)]));
    assert_eq!(bench.asked(), ["read 0+51200"]);
    assert_eq!(far(&mut bench).asked(), ["write 512000+51200"]);
    assert_eq!(far(&mut bench).volume.bytes[1000 * 512..1100 * 512], data);
    // Overlapping numbers mean nothing here, and a list may go both ways, and within.
    let all = [segment(1, 0, 1000, 1010, 100), segment(0, 0, 1010, 0, 8), segment(0, 1, 1010, 0, 8)];
    good(copy(&mut bench, &all));
    assert_eq!(bench.volume.bytes[1010 * 512..1110 * 512], data);
    assert_eq!(far(&mut bench).volume.bytes[..8 * 512], data[..8 * 512]);
    let status = good(bench.run(&[0x84, 0x00, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    assert_eq!(status[4..], [1, 0, 3, 0, 0, 0, 0xe8, 0], "three segments, 116 blocks");
}

/// A chunk at a time, in rising order, whatever the two addresses are.
#[test]
fn a_long_copy_goes_by_chunks_and_zeros_are_unmapped() {
    let mut bench = two();
    bench.volume.bytes = pattern(1 << 20);
    bench.volume.bytes[8 * 512..].fill(0);
    good(copy(&mut bench, &[segment(0, 1, 0, 1, 8), segment(0, 1, 8, 16, 16)]));
    assert_eq!(far(&mut bench).asked(), ["write 512+4096", "unmap 8192+8192"]);
    let whole = two().volume.bytes.len() as u64 / 512;
    good(copy(&mut bench, &[segment(1, 0, 0, 0, whole as u16)]));
    assert_eq!(far(&mut bench).asked(), ["read 0+1048576"]);
}

/// WCE of the destination decides, not that of the volume that the command was sent to.
#[test]
fn the_destinations_cache_counts() {
    let mut bench = two();
    bench.volume.bytes.fill(7);
    far(&mut bench).unit.set_write_cache(false);
    good(push(&mut bench));
    assert_eq!(far(&mut bench).asked(), ["write 51200+8192 durable"]);
}

#[test]
fn a_volume_that_is_not_there_is_not_reachable() {
    let mut bench = two();
    let mut list = list(&[cscd(512), other_cscd(512)], &[segment(0, 1, 0, 0, 8)]);
    list[48 + 8 + 4] ^= 1;
    let response = bench.send(&cdb(list.len()), &list);
    assert_eq!(sense(&response), (10, 0x0d, 2));
    assert!(far(&mut bench).asked().is_empty());
    let status = good(bench.run(&[0x84, 0x00, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    assert_eq!(status[4..7], [2, 0, 0], "failed, no segment");
}

/// Then no chunk passes through the volume that the command was sent to (M19).
#[test]
fn a_copy_between_two_others_is_refused() {
    let mut bench = two();
    assert_eq!(sense(&copy(&mut bench, &[segment(0, 0, 0, 8, 8), segment(1, 1, 0, 8, 8)])), (10, 0x0d, 2));
    assert!(bench.asked().is_empty() && far(&mut bench).asked().is_empty(), "looked at before anything is copied");
}

#[test]
fn blocks_of_another_length_are_refused() {
    let mut bench = two();
    let wrong = list(&[cscd(512), other_cscd(4096)], &[segment(0, 1, 0, 0, 8)]);
    assert_eq!(sense(&bench.send(&cdb(wrong.len()), &wrong)), (10, 0x0d, 3), "the host says so");
    bench.other = Some(Box::new(Bench::with(other(BlockSize::Native4096))));
    bench.volume.bytes.fill(1);
    assert_eq!(sense(&push(&mut bench)), (10, 0x0d, 3), "the host says otherwise, and is wrong");
    assert!(far(&mut bench).asked().is_empty());
}

#[test]
fn what_the_other_volume_refuses_ends_the_copy_with_its_words() {
    let mut bench = two();
    bench.volume.bytes.fill(3);
    let response = copy(&mut bench, &[segment(0, 1, 0, 0, 1), segment(0, 1, 0, 2047, 2)]);
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 1, false, 2, Some((5, 0x21, 0))), "beyond its end");
    let response = copy(&mut bench, &[segment(1, 0, u64::MAX, 0, 2)]);
    assert_eq!(third_party(&response), ((10, 0x0d, 1), 0, true, 2, Some((5, 0x21, 0))));
    far(&mut bench).volume.failures = vec![VolumeError::Medium { offset: 4096 }];
    assert_eq!(third_party(&pull(&mut bench)), ((10, 0x0d, 1), 0, true, 2, Some((3, 0x11, 0))));
    far(&mut bench).volume.failures = vec![VolumeError::NoSpace];
    assert_eq!(third_party(&push(&mut bench)), ((10, 0x0d, 1), 0, false, 2, Some((7, 0x27, 7))));
    far(&mut bench).volume.failures = vec![VolumeError::Aborted];
    assert_eq!(third_party(&push(&mut bench)), ((10, 0x0d, 1), 0, false, 0x40, None), "a reset there");
}

/// The owner changes: the chunk is written again.
#[test]
fn busy_is_asked_again_a_bounded_number_of_times() {
    let mut bench = two();
    bench.volume.bytes.fill(3);
    far(&mut bench).volume.failures = vec![VolumeError::Busy; 4];
    good(push(&mut bench));
    assert_eq!((bench.asked().len(), far(&mut bench).asked().len()), (1, 5));
    far(&mut bench).volume.failures = vec![VolumeError::Busy; 5];
    assert_eq!(third_party(&push(&mut bench)), ((10, 0x0d, 1), 0, false, 8, None));
}

#[test]
fn a_host_that_may_only_read_there_reads_there() {
    let mut bench = two();
    bench.volume.bytes.fill(3);
    far(&mut bench).right = Right::ReadOnly;
    good(pull(&mut bench));
    assert_eq!(third_party(&push(&mut bench)), ((10, 0x0d, 1), 0, false, 2, Some((7, 0x27, 0))));
    assert_eq!(far(&mut bench).asked(), ["read 4096+8192"]);
    // A read-only volume, and one that was stopped, as well.
    let mut bench = two();
    bench.volume.bytes.fill(3);
    good(far(&mut bench).run(&[0x1b, 0, 0, 0, 0, 0]));
    assert_eq!(third_party(&pull(&mut bench)), ((10, 0x0d, 1), 0, true, 2, Some((2, 0x04, 2))));
}

/// PERSISTENT RESERVE OUT at the other volume, by a host there.
fn reserve_out(bench: &mut Bench, action: u8, kind: u8, key: u64, new_key: u64) {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes()].concat();
    list.resize(24, 0);
    good(far(bench).send(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list));
}

/// SPC-4 §5.13.1: as if the initiator port that copies had sent the read or the write there.
#[test]
fn a_reservation_there_holds_for_the_copy() {
    const CONFLICT: u8 = 0x18;
    let holder = |isid| InitiatorPort::new("iqn.2026-11.example:host", [isid; 6]).unwrap();
    for (isid, kind, may_read, may_write) in [
        (2, WRITE_EXCLUSIVE, true, false),
        (2, EXCLUSIVE_ACCESS, false, false),
        (1, EXCLUSIVE_ACCESS, true, true), // the port that copies holds it
    ] {
        let mut bench = two();
        bench.volume.bytes.fill(3);
        far(&mut bench).unit.set_initiator(HOST, holder(isid));
        reserve_out(&mut bench, 0, 0, 0, 1);
        reserve_out(&mut bench, 1, kind, 1, 0);
        far(&mut bench).asked();
        for (response, may, is_source) in [(pull(&mut bench), may_read, true), (push(&mut bench), may_write, false)] {
            match may {
                true => drop(good(response)),
                false => {
                    assert_eq!(third_party(&response), ((10, 0x0d, 1), 0, is_source, CONFLICT, None), "{kind}");
                }
            }
        }
        let is_write = |asked: &String| asked.starts_with("write ") || asked.starts_with("unmap ");
        assert_eq!(far(&mut bench).asked().iter().any(is_write), may_write);
        // What the errands' nexus was called does not stay, and a reservation of the same port does.
        reserve_out(&mut bench, 2, kind, 1, 0);
        good(push(&mut bench));
    }
}

/// SPC-2 §5.5.1: it is lost with the session that holds it, not with an errand of the same port.
#[test]
fn the_end_of_an_errand_gives_up_nothing_that_its_port_reserved() {
    let mut bench = two();
    bench.volume.bytes.fill(3);
    let port = InitiatorPort::new("iqn.2026-11.example:host", [1; 6]).unwrap();
    far(&mut bench).unit.set_initiator(HOST, port);
    good(far(&mut bench).run(&[0x16, 0, 0, 0, 0, 0]));
    good(push(&mut bench));
    let other = InitiatorPort::new("iqn.2026-11.example:other", [1; 6]).unwrap();
    far(&mut bench).unit.add_nexus(dyad_scsi::NexusId(50), None).unwrap();
    far(&mut bench).unit.set_initiator(dyad_scsi::NexusId(50), other);
    let read = far(&mut bench).run_as(dyad_scsi::NexusId(50), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(read.status, Status::ReservationConflict, "it is reserved still");
}

/// What waits for a session of the same host there is that session's, and stays.
#[test]
fn an_attention_there_waits_for_its_host() {
    let mut bench = two();
    bench.volume.bytes.fill(3);
    far(&mut bench).unit.attend(dyad_scsi::Who::All, dyad_scsi::Attention::CapacityChanged);
    good(push(&mut bench));
    assert_eq!(sense(&far(&mut bench).run(&[0; 6])), (6, 0x2a, 9));
}
