//! Any bytes into the receiving half of a peer connection, as they come and behind right sums, before the greeting and
//! after it. The first bytes choose.
#![no_main]

#[path = "../../crates/wire/tests/common/mod.rs"]
mod common;

use common::{SEGMENTS, announced, greeted, receive};
use crc_fast::{CrcAlgorithm, checksum};
use dyad_payload::Slab;
use dyad_wire::{ConnectionKind, Kind, Receiver};
use libfuzzer_sys::fuzz_target;

/// Frames with right sums around the fuzzer's control parts: kind, length, bytes.
fn frames(mut bytes: &[u8], mut sequence: u32) -> Vec<u8> {
    let mut all = Vec::new();
    while let [kind, len, payload, rest @ ..] = bytes {
        let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
        let (control, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        let payload = vec![0; usize::from(*payload % 3) * 4096];
        let sum = |bytes: &[u8]| if bytes.is_empty() { 0 } else { checksum(CrcAlgorithm::Crc64Nvme, bytes) };
        let mut header = [0; 48];
        header[..6].copy_from_slice(&[b'D', b'y', b'P', b'r', 1, kind.code()]);
        header[8] = u8::from(kind.code() >= 0x20);
        header[12..16].copy_from_slice(&(control.len() as u32).to_le_bytes());
        header[16..20].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[20..24].copy_from_slice(&sequence.to_le_bytes());
        header[24..32].copy_from_slice(&sum(&payload).to_le_bytes());
        header[32..40].copy_from_slice(&sum(control).to_le_bytes());
        let header_sum = sum(&header[..40]).to_le_bytes();
        header[40..].copy_from_slice(&header_sum);
        all.extend(header);
        all.extend(control);
        all.extend(payload);
        bytes = rest;
        sequence += 1;
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let [mode, step, rest @ ..] = data else { return };
    let (slab, step) = (Slab::new(64 << 20), usize::from(*step) * 16 + 1);
    match mode % 4 {
        0 => drop(receive(&mut Receiver::new(slab), rest, step)),
        1 => drop(receive(&mut greeted(ConnectionKind::Beats, &slab).1, &frames(rest, 1), step)),
        2 => drop(receive(&mut greeted(SEGMENTS, &slab).1, rest, step)),
        _ => drop(receive(&mut announced(&slab).1, &frames(rest, 2), step)),
    }
});
