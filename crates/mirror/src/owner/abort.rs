//! Aborts (M19): an operation given up by its host is answered once it has taken effect or never will.

use dyad_contract::volume::VolumeError;

use crate::owner::core::Core;
use crate::owner::event::Action;
use crate::owner::op::{Op, Phase};

impl Core {
    /// What waits is answered at once. What reads or reserves is answered when its requests are back, for
    /// until then its range must stay locked (M2). What is being applied goes on to its end.
    pub(crate) fn on_abort(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if Self::is_waiting(op) {
            self.turn_away(op, VolumeError::Aborted, out);
        } else if op.phase == Phase::Parked {
            // It took effect and may not be acknowledged (A4).
            self.finish(op, Err(VolumeError::WriteFault), out);
        } else {
            op.is_aborted = true;
        }
    }
}
