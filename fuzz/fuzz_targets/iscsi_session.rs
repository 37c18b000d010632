//! Any PDUs into a session. The input is cut into chunks: a header, whose lengths are made small enough to be
//! followed, and its data.
#![no_main]

#[path = "../../crates/iscsi/tests/common/actor.rs"]
mod actor;

use actor::{Actor, Choices};
use libfuzzer_sys::fuzz_target;

/// Bytes that choose.
const CHOICES: usize = 64;

/// Bytes of a header.
const BHS: usize = 48;

fuzz_target!(|data: &[u8]| {
    let (choices, input) = data.split_at(data.len().min(CHOICES));
    let mut stream = Vec::with_capacity(input.len() * 2);
    let mut rest = input;
    while let Some((header, after)) = rest.split_first_chunk::<BHS>() {
        let mut header = *header;
        // At most 127 bytes of data and one additional segment of four, so that the next header is reached.
        let (data_len, ahs_len) = (usize::from(header[7] & 0x7f), usize::from(header[4] & 1) * 4);
        (header[4], header[5], header[6], header[7]) = (ahs_len as u8 / 4, 0, 0, data_len as u8);
        stream.extend_from_slice(&header);
        let take = (ahs_len + data_len.next_multiple_of(4)).min(after.len());
        stream.extend_from_slice(&after[..take]);
        rest = &after[take..];
    }
    let mut actor = Actor::new(actor::tight());
    actor.log_in(choices.first().copied().unwrap_or(0));
    actor.run(&stream, &mut Choices(choices));
});
