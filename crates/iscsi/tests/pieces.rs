//! Data that come in small pieces, what they pin of the receive buffers, and data that nobody has room for.

mod common;

use common::{NONE, Pair, pattern};
use dyad_iscsi::pdu::Residual;
use dyad_iscsi::{CloseReason, Event, Settings};
use dyad_payload::BufMut;

/// One segment of 256 KiB announced made every receive buffer 256 KiB, so that over a network that delivers a packet
/// at a time a single write pinned 46 MiB.
#[test]
fn a_write_that_comes_packet_by_packet_pins_little_more_than_its_length() {
    const PACKET: usize = 1448;
    const LEN: usize = 256 << 10;
    let settings = Settings { first_burst_bytes_max: LEN as u32, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    let command = pair.command(false, true, LEN as u32);
    let bytes = pair.encode(command.emit(), &pattern(LEN));
    for packet in bytes.chunks(PACKET) {
        let mut buf = pair.slab.take(pair.connection.receive_hint()).unwrap();
        let len = packet.len();
        assert!(len <= buf.len());
        buf[..len].copy_from_slice(packet);
        buf.truncate(len);
        pair.connection.receive(pair.now, buf.freeze());
    }
    let usage = pair.slab.usage();
    let pinned = usage.bytes_total - usage.bytes_free;
    assert!(pinned <= 4 * LEN, "{pinned} bytes pinned for {LEN}");
}

/// The list of slices of a large write was on the heap whenever its data came in more than two reads.
#[test]
fn a_large_write_that_comes_packet_by_packet_is_two_slices_at_most() {
    const LEN: usize = 256 << 10;
    let settings = Settings { first_burst_bytes_max: LEN as u32, ..Settings::default() };
    let mut pair = Pair::logged_in_with(settings, &[]);
    let mut kept: Option<(BufMut, usize)> = None;
    for round in 0..8 {
        let command = pair.command(false, true, LEN as u32);
        for packet in pair.encode(command.emit(), &pattern(LEN)).chunks(1448) {
            let mut rest = packet;
            while !rest.is_empty() {
                let fresh = || (pair.slab.take(pair.connection.receive_hint()).unwrap(), 0);
                let (mut buf, filled) = kept.take().unwrap_or_else(fresh);
                let (now, left) = rest.split_at(rest.len().min(buf.len()));
                rest = left;
                buf[..now.len()].copy_from_slice(now);
                pair.connection.receive_part(pair.now, buf.freeze_front(now.len()));
                if !buf.is_empty() && pair.connection.wants_rest() {
                    kept = Some((buf, filled + now.len()));
                } else {
                    pair.connection.buffer_used(filled + now.len());
                }
            }
        }
        assert!(kept.is_none(), "nothing is kept between commands");
        pair.pump();
        let task = pair.expect_command().task;
        pair.solicit(task, LEN as u32);
        let data = pair.expect_data_out(task);
        assert_eq!(data.to_vec(), pattern(LEN));
        assert!(round < 2 || data.slices().len() <= 2, "{} slices in round {round}", data.slices().len());
        pair.respond_good(task, &[]);
        pair.expect_response();
    }
}

#[test]
fn receive_buffers_grow_while_they_come_back_full() {
    let mut pair = Pair::logged_in();
    let command = pair.command(false, true, 262_144);
    let bytes = pair.encode(command.emit(), &pattern(262_144));
    let mut sizes = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let hint = pair.connection.receive_hint();
        let (part, left) = rest.split_at(hint.min(rest.len()));
        rest = left;
        pair.connection.receive(pair.now, pair.slab.copy_of(part).unwrap());
        sizes.push(hint);
    }
    assert_eq!(sizes, [4 << 10, 16 << 10, 64 << 10, 256 << 10]);
}

fn is_too_small(event: &Event) -> bool {
    matches!(event, Event::Closed(CloseReason::Protocol(reason)) if reason.contains("too small"))
}

/// Nothing bounded the count of pieces: 16 MiB byte by byte would have pinned 64 GiB of receive buffers.
#[test]
fn a_segment_that_comes_byte_by_byte_is_not_kept_for_long() {
    let mut pair = Pair::logged_in();
    let command = pair.command(false, true, 262_144);
    let bytes = pair.encode(command.emit(), &pattern(262_144));
    pair.cut = 1;
    pair.send_bytes(&bytes[..17_000]);
    assert!(pair.events.iter().any(is_too_small));
    assert!(pair.slab.usage().bytes_total <= 17_000 * 4096);
}

#[test]
fn many_tiny_segments_are_not_kept_either() {
    let mut pair = Pair::logged_in();
    let commands = [(); 4].map(|()| {
        let mut command = pair.command(false, true, 262_144);
        command.is_final = false;
        pair.send(command.emit(), &[]);
        pair.expect_command();
        command
    });
    for at in 0..4200 {
        commands.iter().for_each(|one| pair.data_out(one.task_tag, NONE, at, 4 * at, false, &[1; 4]));
    }
    assert!(pair.events.iter().any(is_too_small));
}

/// The smallest packets and segments that are met: neither is too small.
#[test]
fn the_smallest_usual_packets_and_segments_are_taken() {
    let mut pair = Pair::logged_in();
    let command = pair.command(false, true, 262_144);
    let bytes = pair.encode(command.emit(), &pattern(262_144));
    pair.cut = 536;
    pair.send_bytes(&bytes);
    let command = pair.expect_command();
    pair.solicit(command.task, 262_144);
    assert_eq!(pair.expect_data_out(command.task).to_vec(), pattern(262_144));
    pair.respond_good(command.task, &[]);
    pair.expect_response();

    pair.cut = 1 << 16;
    let mut command = pair.command(false, true, 65_536);
    command.is_final = false;
    pair.send(command.emit(), &[]);
    let task = pair.expect_command().task;
    for at in 0..128 {
        pair.data_out(command.task_tag, NONE, at, 512 * at, at == 127, &[1; 512]);
    }
    pair.solicit(task, 65_536);
    assert_eq!(pair.expect_data_out(task).len(), 65_536);
}

/// It was told "all of it was transferred", with not one byte sent.
#[test]
fn a_read_without_a_buffer_at_the_host_overflows_by_all_of_it() {
    let mut pair = Pair::logged_in();
    let task = pair.write(512).task;
    pair.respond_good(task, &[7; 512]);
    let (response, _) = pair.expect_response();
    assert_eq!((response.status, response.residual), (0, Residual::Overflow(512)));
}
