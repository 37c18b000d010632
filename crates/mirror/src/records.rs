//! Buffers for encoded records.

use dyad_cluster::SegmentRecord;
use dyad_payload::{Payload, Slab};

/// Encoded records are a few hundred bytes, and at most two are in use at once.
const RECORD_BUFFERS_BYTES: usize = 64 * 1024;

/// Memory for the encoded records of one machine. A copy of the machine (the model checker makes many) has its own: what
/// one of them holds does not count for the other.
#[derive(Debug)]
pub(crate) struct RecordBuffers(Slab);

impl RecordBuffers {
    pub(crate) fn new() -> Self {
        Self(Slab::new(RECORD_BUFFERS_BYTES))
    }

    /// The record, encoded.
    pub(crate) fn encode(&self, record: &SegmentRecord) -> Payload {
        // A record's bytes are bounded by its bounded lists, far below the buffers'.
        Payload::from(self.0.copy_of(&record.encode()).expect("the buffers hold several records"))
    }
}

impl Clone for RecordBuffers {
    fn clone(&self) -> Self {
        Self::new()
    }
}
