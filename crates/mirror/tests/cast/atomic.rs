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

/// So many requests are answered, those of the first image first.
pub fn some_steps(stage: &mut Stage, steps: usize) {
    for _ in 0..steps {
        if let Some(at) = stage.images.iter().position(|image| !image.pending.is_empty()) {
            stage.reply(at, 0);
        }
    }
}

/// A mirror of so many images, all ones; a range in it that was written atomically with twos, and is written with threes, of which so
/// many steps are done.
pub fn amid(images: u8, range: (u64, u64), steps: usize) -> (Stage, OpId) {
    let mut stage = Stage::serving(images);
    stage.put(0, 2 * E, 1);
    put(&mut stage, range, 2);
    let id = write(&mut stage, range, 3);
    some_steps(&mut stage, steps);
    (stage, id)
}

/// One image, whose process ended when an atomic write of twos was noted durably; the slots that its range took were not durable.
pub fn noted_without_slots(range: (u64, u64)) -> Stage {
    let mut one = Stage::serving(1);
    put(&mut one, (0, B), 1);
    let id = write(&mut one, range, 2);
    let mut kept = one.images[0].cells.clone();
    // Up to the moment at which the range begins to change.
    while !one.is_done(id) && one.images[0].cells.get(&(range.0 / B)).is_none_or(|cell| cell.bytes[0] != 2) {
        kept = one.images[0].cells.clone();
        one.reply(0, 0);
    }
    kept.retain(|block, _| *block >= HIDDEN || *block < 64);
    one.images[0].crash(|_| false);
    one.images[0].cells = kept;
    one
}

/// What is there, all of it the same, with nothing changed beside it.
pub fn found(stage: &mut Stage, (offset, len): (u64, u64), beside: u8) -> u8 {
    let all = stage.bytes(offset - 512, len + 1024);
    let (inner, first) = (&all[512..512 + len as usize], all[512]);
    assert!(inner.iter().all(|byte| *byte == first), "torn");
    assert!(all[..512].iter().chain(&all[512 + len as usize..]).all(|byte| *byte == beside));
    first
}
