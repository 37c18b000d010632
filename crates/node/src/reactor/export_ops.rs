//! Commands of hosts to an exported image: its unit decides, this node's pool answers.
//!
//! A command reads one piece of the image at a time, so what is under way is bounded by the queues of the sessions. Nothing
//! here has an effect: whoever gives a command up waits for nothing (M19).

use dyad_contract::image::ImageError;
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_iscsi::{CloseReason, Command, Management, ManagementFunction, ManagementOutcome, TaskTag};
use dyad_payload::Payload;
use dyad_scsi::{Attention, Begun, NodeOp, Response, Run, Status, Step, Task, Transfer, Unreached, Who};
use dyad_units::{BLOCK_BYTES, EXTENT_BYTES, Moment, Piece, Span};

use super::command::count;
use super::conns::{ConnRef, Held};
use super::copy::{Copied, Reader};
use super::exports::Export;
use super::look::{EXTENTS_MAX, extents_of, mask_of, runs_of};
use super::manage::LUN_ZERO;
use super::ops::Weight;
use super::overlay::Overlay;
use super::run::{Reactor, guarded};
use crate::clock;

/// A command that waits for the pool.
pub(super) struct ExportOp {
    id: u64,
    pub(super) host: (ConnRef, TaskTag),
    task: Task,
    what: What,
    span: Span,
    /// Bytes of the span that came.
    done: u64,
    /// Those bytes, where the host wants them.
    data: Payload,
    begun: Moment,
}

/// What a command does with the bytes.
enum What {
    Read,
    Verify,
    Compare(Payload),
    /// Which blocks were ever written: no bytes.
    Look,
}

impl ExportOp {
    /// The piece that comes next, and which of its bytes are wanted: how many before them, and how many.
    fn next(&self) -> Option<(Piece, usize, usize)> {
        let (offset, left) = (self.span.offset() + self.done, self.span.len() - self.done);
        let piece = Span::new(offset, left).ok()?.pieces().next()?;
        let skip = offset.checked_sub(start_of(piece))?;
        let len = (piece.len() as u64).checked_sub(skip)?.min(left);
        Some((piece, skip as usize, len as usize))
    }

    /// Takes the bytes of the next piece; the end, if that was the last.
    fn take(&mut self, copied: Copied) -> Option<VolumeResult> {
        let Some((piece, skip, len)) = self.next() else { return Some(Err(VolumeError::OutOfRange)) };
        let got = match copied {
            Ok(data) if data.len() > skip => data.slice(skip, len.min(data.len() - skip)),
            Ok(_) => return Some(Err(VolumeError::Medium { offset: self.span.offset() + self.done })),
            Err(error) => return Some(Err(self.failed(piece, &error))),
        };
        let len = got.len();
        match &self.what {
            What::Read => self.data.append(got),
            What::Verify | What::Look => {}
            What::Compare(expected) => {
                let (got, expected) = (got.to_vec(), expected.slice(self.done as usize, len).to_vec());
                if let Some(at) = got.iter().zip(&expected).position(|(one, other)| one != other) {
                    return Some(Err(VolumeError::Miscompare { offset: self.done + at as u64 }));
                }
            }
        }
        self.done += len as u64;
        if self.done < self.span.len() {
            return None;
        }
        Some(Ok(match self.what {
            What::Read => VolumeDone::Data(std::mem::take(&mut self.data)),
            What::Verify | What::Compare(_) | What::Look => VolumeDone::Done,
        }))
    }

    /// There is no other image to ask: what cannot be read here is a medium error, at the first bad block of the range.
    fn failed(&self, piece: Piece, error: &ImageError) -> VolumeError {
        let first = match error {
            ImageError::Overloaded => return VolumeError::Busy,
            ImageError::Damaged { extent, blocks } => {
                let base = u64::from(extent.0) * u64::from(EXTENT_BYTES);
                base + u64::from(blocks.trailing_zeros().min(63)) * u64::from(BLOCK_BYTES)
            }
            _ => start_of(piece),
        };
        VolumeError::Medium { offset: first.max(self.span.offset() + self.done) }
    }
}

/// Where a piece begins, in bytes of the volume.
fn start_of(piece: Piece) -> u64 {
    u64::from(piece.extent.0) * u64::from(EXTENT_BYTES) + u64::from(piece.first()) * u64::from(BLOCK_BYTES)
}

impl Reactor {
    /// A command came from a session with an export.
    pub(super) fn on_export_command(&mut self, at: ConnRef, command: &Command) {
        let Some((index, nexus)) = self.export_used(at) else { return };
        let Some(export) = self.exports.get_mut(index) else { return };
        let transfer = match (command.write, command.read) {
            (true, _) => Transfer::Out(command.expected_len),
            (false, true) => Transfer::In(command.expected_len),
            (false, false) => Transfer::None,
        };
        let unit = &mut export.unit;
        match guarded(|| unit.begin(nexus, command.lun, &command.cdb, transfer)) {
            Ok(begun) => self.go_on_export(index, (at, command.task), begun),
            Err(fault) => self.fail_export(index, &fault.0),
        }
    }

    /// The data of a command came; what it is about changes nothing, so it is taken at once.
    pub(super) fn on_export_data(&mut self, at: ConnRef, tag: TaskTag, data: Payload) {
        let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) else { return };
        let held = session.take(tag);
        self.budget.give_back(held.asked_bytes());
        self.advance_line(at);
        let Some((index, _)) = self.export_used(at) else { return };
        let (Held::DataOut { task, .. }, Some(export)) = (held, self.exports.get_mut(index)) else { return };
        let unit = &mut export.unit;
        match guarded(|| unit.data_out(task, data)) {
            Ok(step) => self.go_on_export(index, (at, tag), step.into()),
            Err(fault) => self.fail_export(index, &fault.0),
        }
    }

    /// What a command needs next.
    fn go_on_export(&mut self, index: u32, host: (ConnRef, TaskTag), begun: Begun) {
        let (at, tag) = host;
        match begun {
            Begun::Answer(response) => self.respond(at, tag, response),
            Begun::DataOut { task, len } => self.want_data(at, tag, task, len),
            Begun::Volume { task, op: VolumeOp::Read { span } } => {
                self.read_export(index, host, task, What::Read, span)
            }
            Begun::Volume { task, op: VolumeOp::Verify { span } } => {
                self.read_export(index, host, task, What::Verify, span);
            }
            Begun::Volume { task, op: VolumeOp::Compare { span, expected } } => {
                self.read_export(index, host, task, What::Compare(expected), span);
            }
            Begun::Volume { task, op: VolumeOp::Flush } => {
                self.step_export(index, host, |export| export.unit.finish(task, Ok(VolumeDone::Done)));
            }
            // Writes do not come so far. Reservations and mode parameters are state of an image that is not to change.
            Begun::Volume { task, .. } | Begun::Node { task, op: NodeOp::Move { .. } } => {
                self.step_export(index, host, |export| export.unit.finish(task, Err(VolumeError::WriteFault)));
            }
            Begun::Node { task, op: NodeOp::Look { span } } => {
                self.read_export(index, host, task, What::Look, span);
            }
            // Copies between volumes know volumes only.
            Begun::Node { task, op: NodeOp::Errand(_) } => {
                self.step_export(index, host, |export| export.unit.ran(task, Err(Unreached::NotThere)));
            }
            // Only a copy that writes here would wait.
            Begun::State { .. } | Begun::Node { op: NodeOp::Pause { .. }, .. } => {
                self.respond(at, tag, Response::status(Status::Busy))
            }
        }
    }

    fn step_export(&mut self, index: u32, host: (ConnRef, TaskTag), step: impl FnOnce(&mut Export) -> Step) {
        let Some(export) = self.exports.get_mut(index) else { return };
        match guarded(|| step(export)) {
            Ok(step) => self.go_on_export(index, host, step.into()),
            Err(fault) => self.fail_export(index, &fault.0),
        }
    }

    fn read_export(&mut self, index: u32, host: (ConnRef, TaskTag), task: Task, what: What, span: Span) {
        let (id, begun) = (self.fresh_id(), clock::now());
        let Some(export) = self.exports.get_mut(index) else { return };
        export.ops.push(ExportOp { id, host, task, what, span, done: 0, data: Payload::new(), begun });
        let (at, tag) = host;
        if let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) {
            session.hold(tag, Held::Volume { tag, op: 0 });
        }
        self.ask_export(index, id);
    }

    /// Asks the pool for a command's next piece.
    fn ask_export(&mut self, index: u32, id: u64) {
        let Some(export) = self.exports.get(index) else { return };
        let Some(op) = export.ops.iter().find(|op| op.id == id) else { return };
        let of = export.detached();
        let reader = Reader::Export { image: of.image, id };
        let is_asked = match (&op.what, op.next()) {
            (What::Look, _) => self.learn_overlay(of, reader),
            (_, Some((piece, ..))) => self.read_detached(of, piece, reader),
            (_, None) => false,
        };
        if !is_asked {
            self.on_export_piece(index, id, Err(ImageError::Unreadable));
        }
    }

    /// The pool answered; the export may be over.
    pub(super) fn on_export_piece(&mut self, index: u32, id: u64, copied: Copied) {
        let Some(export) = self.exports.get_mut(index) else { return };
        let Some(place) = export.ops.iter().position(|op| op.id == id) else { return };
        if matches!(export.ops[place].what, What::Look) {
            return self.look_at_export(index, place, &copied);
        }
        let Some(result) = export.ops[place].take(copied) else { return self.ask_export(index, id) };
        let ExportOp { host, task, what, span, begun, .. } = export.ops.swap_remove(place);
        let weight = if matches!(what, What::Read) { Weight::Read(span.len()) } else { Weight::Other };
        let (at, tag) = host;
        if let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) {
            count(&mut session.io, weight, clock::now().since(begun), result.is_err());
            session.take(tag);
        }
        self.step_export(index, host, |export| export.unit.finish(task, result));
    }

    /// It is known what is seen in the place of the image's blocks, or there is no room just now.
    fn look_at_export(&mut self, index: u32, place: usize, copied: &Copied) {
        let Some(export) = self.exports.get_mut(index) else { return };
        let ExportOp { host: (at, tag), task, span, .. } = export.ops.swap_remove(place);
        if let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) {
            session.take(tag);
        }
        if matches!(copied, Err(ImageError::Overloaded)) {
            return self.step_export(index, (at, tag), |export| export.unit.finish(task, Err(VolumeError::Busy)));
        }
        let runs = self.runs_of_export(index, span);
        self.step_export(index, (at, tag), |export| export.unit.looked(task, &runs));
    }

    /// Which blocks were ever written: of an image that nobody changes its map says it, and of those that are seen in their place
    /// what is known of them.
    fn runs_of_export(&self, index: u32, span: Span) -> Vec<Run> {
        let extents = extents_of(span);
        let overlay =
            self.exports.get(index).and_then(|export| self.overlays.known(export.image)).unwrap_or(Overlay::Unknown);
        let place = self.exports.get(index).filter(|_| extents.len() <= EXTENTS_MAX).and_then(|export| {
            let room = self.pools.get(self.pool_with_id(export.pool)? as usize)?.as_deref()?;
            Some((&room.pool, room.pool.find(export.image)?))
        });
        let Some(place) = place else { return Vec::new() };
        let seen: Vec<u64> = extents.map(|extent| mask_of(Some(place), extent) | overlay.mask(extent)).collect();
        runs_of(span, &seen)
    }

    /// A task management function for an export's unit.
    pub(super) fn on_export_management(&mut self, at: ConnRef, management: Management) {
        let Management { tag, function, lun } = management;
        let Some((index, nexus)) = self.export_used(at) else { return };
        let is_target_wide =
            matches!(function, ManagementFunction::TargetWarmReset | ManagementFunction::TargetColdReset);
        let mut outcome = ManagementOutcome::Complete;
        match function {
            _ if !LUN_ZERO.contains(&lun) && !is_target_wide => outcome = ManagementOutcome::LunDoesNotExist,
            ManagementFunction::AbortTask(task) => self.abort_at_export(at, Some(task)),
            ManagementFunction::AbortTaskSet => self.abort_at_export(at, None),
            ManagementFunction::ClearTaskSet => {
                self.abort_all_at_export(index);
                self.attend_export(index, Who::AllBut(nexus), Attention::CommandsCleared);
            }
            ManagementFunction::LogicalUnitReset
            | ManagementFunction::TargetWarmReset
            | ManagementFunction::TargetColdReset => {
                self.abort_all_at_export(index);
                if let Some(export) = self.exports.get_mut(index) {
                    // The state that its task would reset is not there.
                    drop(export.unit.reset());
                }
            }
        }
        if function == ManagementFunction::TargetColdReset {
            for other in self.export_sessions(index, Some(at)) {
                self.close(other, CloseReason::TargetReset, false);
            }
        }
        if let Some(conn) = self.conns.get_mut(at) {
            conn.iscsi.management_done(tag, outcome);
            self.list(at);
        }
    }

    fn abort_all_at_export(&mut self, index: u32) {
        for session in self.export_sessions(index, None) {
            self.abort_at_export(session, None);
        }
    }

    /// Gives up one command of a session, or all.
    fn abort_at_export(&mut self, at: ConnRef, only: Option<TaskTag>) {
        let tags = match only {
            Some(tag) => vec![tag],
            None => self.conns.get(at).map(super::manage::tags_of).unwrap_or_default(),
        };
        for tag in tags {
            let Some(conn) = self.conns.get_mut(at) else { return };
            conn.iscsi.abort_task(tag);
            self.forget_at_export(at, tag);
        }
    }

    /// Forgets a command of a session; what it had of the budget is for others.
    pub(super) fn forget_at_export(&mut self, at: ConnRef, tag: TaskTag) {
        let session = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut());
        let held = session.map_or(Held::Nothing, |session| session.take(tag));
        self.release(at, tag, &held);
        let index = self.export_used(at).map(|(index, _)| index);
        if let Some(export) = index.and_then(|index| self.exports.get_mut(index)) {
            export.ops.retain(|op| op.host != (at, tag));
        }
    }

    /// A fault of ours in an export: it ends, everything else stays.
    fn fail_export(&mut self, index: u32, fault: &str) {
        self.faults += 1;
        let Some(export) = self.exports.get(index) else { return };
        let image = export.image;
        tracing::error!(%image, fault, "the export of an image ends after a fault of this program");
        self.unexport_image(image);
    }
}
