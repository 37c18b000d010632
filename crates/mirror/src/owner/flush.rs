//! Flushes (A2): everything answered before is durable on every in-sync image.
//!
//! Whatever was answered before had a reply from every in-sync image before this flush is sent, and an image's
//! flush covers what it replied to.

use dyad_contract::volume::VolumeDone;

use crate::owner::core::Core;
use crate::owner::event::Action;
use crate::owner::interval::NO_PIECE;
use crate::owner::op::{Op, Phase, Step, Task};
use crate::owner::status::MirrorState;

impl Core {
    pub(crate) fn start_flush(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.begin(op, Phase::Flushing);
        op.steps.clear();
        // Who joins next must have durably what was flushed before (M16).
        let targets = self.members.in_sync.or(self.joining());
        op.steps.push(Step::new(NO_PIECE, targets));
        self.send_all(op, out);
    }

    pub(crate) fn on_flushed(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.task {
            Task::FlushAlone => {
                // Of the set that it was asked for: with another image in it again, the note would be of no use then, and false later.
                self.members.wants_flushed_alone = op.failure.is_none() && self.members.in_sync.count() == 1;
                self.end_own(op);
            }
            Task::FlushLast => {
                self.end_own(op);
                self.state = MirrorState::Stopped;
                out.push(Action::Stopped);
            }
            _ if op.atomic.is_some() && op.failure.is_none() => self.on_atomic_flushed(op, out),
            _ => match op.failure {
                Some(error) => self.finish(op, Err(error), out),
                None if op.is_change() => self.answer_change(op, out),
                None => self.finish(op, Ok(VolumeDone::Done), out),
            },
        }
    }
}
