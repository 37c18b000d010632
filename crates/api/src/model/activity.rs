//! Counts of operations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Operations, bytes and time. All of it only rises, until the node is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Time that all reads together took, in microseconds.
    pub read_micros: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Time that all writes together took, in microseconds.
    pub write_micros: u64,
    /// Flushes, unmaps and everything else.
    pub others: u64,
    /// Time that those together took, in microseconds.
    pub other_micros: u64,
    /// Longest time that one operation took, in microseconds.
    pub micros_max: u64,
    /// Operations answered with an error.
    pub errors: u64,
}
