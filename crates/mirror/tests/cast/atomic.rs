//! What tests of atomic writes (M21) share.

use dyad_contract::volume::VolumeOp;
use dyad_mirror::OpId;
use dyad_units::EXTENT_BYTES;

use super::{BLOCK, Stage, span};

pub const B: u64 = BLOCK as u64;
pub const E: u64 = EXTENT_BYTES as u64;
/// Over the end of an extent, and not of whole blocks.
pub const WHERE: (u64, u64) = (E - 3 * B - 512, 6 * B);

/// First block of the homes, and of what is hidden before them.
pub const HOMES: u64 = u32::MAX as u64 * 64;
pub const HIDDEN: u64 = HOMES - 4 * 64;

pub fn write(stage: &mut Stage, (offset, len): (u64, u64), byte: u8) -> OpId {
    let data = stage.payload(&vec![byte; len as usize]);
    stage.ask(VolumeOp::WriteAtomic { span: span(offset, len), data })
}

pub fn put(stage: &mut Stage, at: (u64, u64), byte: u8) {
    let id = write(stage, at, byte);
    stage.drive();
    assert!(stage.is_done(id), "{:?}", stage.answer(id));
}

pub fn some_steps(stage: &mut Stage, steps: usize) {
    for _ in 0..steps {
        if let Some(at) = (0..2).find(|&at| !stage.images[at].pending.is_empty()) {
            stage.reply(at, 0);
        }
    }
}

/// What is there, all of it the same, with nothing changed beside it.
pub fn found(stage: &mut Stage, (offset, len): (u64, u64), beside: u8) -> u8 {
    let all = stage.bytes(offset - 512, len + 1024);
    let (inner, first) = (&all[512..512 + len as usize], all[512]);
    assert!(inner.iter().all(|byte| *byte == first), "torn");
    assert!(all[..512].iter().chain(&all[512 + len as usize..]).all(|byte| *byte == beside));
    first
}

/// The only image answers so many requests.
pub fn some_replies(one: &mut Stage, steps: usize) {
    for _ in 0..steps {
        if !one.images[0].pending.is_empty() {
            one.reply(0, 0);
        }
    }
}
