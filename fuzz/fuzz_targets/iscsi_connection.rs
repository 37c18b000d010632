//! Any bytes into a connection that was just accepted. The first bytes choose how the node answers and where the
//! stream is cut.
#![no_main]

#[path = "../../crates/iscsi/tests/common/actor.rs"]
mod actor;

use actor::{Actor, Choices};
use libfuzzer_sys::fuzz_target;

/// Bytes that choose.
const CHOICES: usize = 32;

fuzz_target!(|data: &[u8]| {
    let (choices, bytes) = data.split_at(data.len().min(CHOICES));
    Actor::new(actor::tight()).run(bytes, &mut Choices(choices));
});
