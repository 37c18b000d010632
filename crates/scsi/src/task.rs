//! One command between its steps.

use dyad_payload::Payload;

use crate::nexus::NexusId;

/// One command between its steps: plain data, owned by whoever runs it. Dropping it forgets the command.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) nexus: NexusId,
    pub(crate) kept: Payload,
}

impl Task {
    /// The nexus that sent the command.
    pub fn nexus(&self) -> NexusId {
        self.nexus
    }
}
