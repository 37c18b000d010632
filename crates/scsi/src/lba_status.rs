//! GET LBA STATUS (SBC-3 §5.4): which blocks were ever written, and which read as zeros because they were not.
//!
//! Backup programs skip what is said to be deallocated, so that is said only of what the owner's image has never seen
//! written, at a moment when it was owner; of everything else status 0h, "mapped or unknown", is true.

use dyad_units::Span;

use crate::cdb::{be32, be64, length, out_of_range};
use crate::response::{Begun, NodeOp, Step};
use crate::steps;
use crate::table::{Call, Refusal};
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

/// Looked at by one command: 8,192 extents, half a millisecond of the node's thread. Hosts ask on behind the last
/// descriptor.
const LOOK_BYTES_MAX: u64 = 2 << 30;

/// Runs of one answer, a page of LBA status descriptors.
pub const RUNS_MAX: usize = 256;

/// Blocks of 4 KiB that are alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// How many.
    pub blocks: u32,
    /// Whether they read as zeros because nothing was ever written, or all of it was unmapped. Otherwise they are written,
    /// or nothing is known of them.
    pub is_unwritten: bool,
}

/// Asks the node.
pub(crate) fn begin(unit: &mut LogicalUnit, call: &Call<'_>) -> Result<Begun, Refusal> {
    let (lba, capacity) = (be64(call.cdb, 2), unit.settings.shape.blocks());
    if lba >= capacity {
        return Err(out_of_range().into());
    }
    let blocks = (capacity - lba).min(LOOK_BYTES_MAX >> unit.settings.shape.block().shift());
    let range = Range { lba, blocks };
    let task = Task::new(call.nexus, Phase::Look { allocation: be32(call.cdb, 10) as u32 }, range);
    Ok(Begun::Node { task, op: NodeOp::Look { span: unit.settings.shape.span(range) } })
}

/// The node looked: the runs begin with the first block of 4 KiB that the span touches.
pub(crate) fn answer(unit: &LogicalUnit, range: Range, allocation: u32, runs: &[Run]) -> Result<Step, Refusal> {
    let range = steps::still_within(unit, range)?;
    let mut found: Vec<(Range, bool)> = Vec::new();
    let exponent = unit.settings.shape.block().physical_exponent();
    let mut at = range.lba >> exponent << exponent;
    for run in runs.iter().take(RUNS_MAX) {
        let end = at.saturating_add(u64::from(run.blocks) << exponent);
        let (from, to) = (at.max(range.lba), end.min(range.lba + range.blocks));
        at = end;
        if from >= to {
            continue;
        }
        match found.last_mut() {
            Some((last, is_unwritten)) if *is_unwritten == run.is_unwritten => last.blocks += to - from,
            _ => found.push((Range { lba: from, blocks: to - from }, run.is_unwritten)),
        }
    }
    if found.is_empty() {
        found.push((range, false)); // at least one descriptor; nothing is known
    }
    let data = parameter_data(&found);
    unit.reply_step(&data, length(u64::from(allocation)))
}

/// SBC-3 §5.4.2: PARAMETER DATA LENGTH, then LBA status descriptors.
fn parameter_data(found: &[(Range, bool)]) -> Vec<u8> {
    /// PROVISIONING STATUS.
    const MAPPED_OR_UNKNOWN: u8 = 0x0;
    const DEALLOCATED: u8 = 0x1;
    const HEADER_BYTES: usize = 8;
    const DESCRIPTOR_BYTES: usize = 16;
    let mut data = vec![0; HEADER_BYTES];
    let len = (HEADER_BYTES - 4 + found.len() * DESCRIPTOR_BYTES) as u32;
    data[..4].copy_from_slice(&len.to_be_bytes());
    for (range, is_unwritten) in found {
        let status = if *is_unwritten { DEALLOCATED } else { MAPPED_OR_UNKNOWN };
        data.extend(range.lba.to_be_bytes());
        data.extend((range.blocks as u32).to_be_bytes()); // at most LOOK_BYTES_MAX
        data.extend([status, 0, 0, 0]);
    }
    data
}

const _: () = assert!(LOOK_BYTES_MAX >> dyad_units::SECTOR_BYTES.ilog2() <= u32::MAX as u64, "a run fits a descriptor");
const _: () = assert!(LOOK_BYTES_MAX <= Span::END_MAX);
