//! Reads: each piece from the first in-sync image (M17); where that fails, from the next; where all fail the
//! piece, block by block, so that one bad block at each image costs nothing (P14).

use dyad_cluster::OutReason;
use dyad_contract::image::{ImageError, Reply};
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_payload::Payload;
use dyad_units::{BLOCK_BYTES, BLOCKS_PER_EXTENT, Extent, Piece, Span};

use crate::owner::core::Core;
use crate::owner::event::{Action, ImageIndex};
use crate::owner::images::Images;
use crate::owner::op::{BATCH, Op, Phase, Step, Task, is_of_state};

/// The first piece of the blocks `next ..= last`.
pub(crate) fn first_piece(next: u64, last: u64) -> Piece {
    let per_extent = u64::from(BLOCKS_PER_EXTENT);
    let first = next % per_extent;
    let count = (per_extent - first).min(last - next + 1);
    // A span ends below STATE_EXTENT, so the index fits; the counts are at most 64.
    Piece::new(Extent((next / per_extent) as u32), first as u8, count as u8).expect("within one extent")
}

/// Where the blocks of a span begin, in bytes.
pub(crate) const fn hull_start(span: Span) -> u64 {
    span.blocks().0.0 * BLOCK_BYTES as u64
}

impl Core {
    /// Reads the next batch of all blocks that the span touches.
    pub(crate) fn start_read_batch(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.next_pieces(op, BATCH);
        self.start_reads(op, out);
    }

    /// Fills `op.steps` with the next `max` pieces of the span, to be read from any readable image.
    pub(crate) fn next_pieces(&mut self, op: &mut Op, max: usize) {
        op.steps.clear();
        let last = op.span().blocks().1.0;
        while op.next_block <= last && op.steps.len() < max {
            let piece = first_piece(op.next_block, last);
            op.next_block += u64::from(piece.count());
            op.steps.push(Step::new(piece, self.members.in_sync));
        }
    }

    /// Reads each piece in `op.steps` from one of its targets.
    pub(crate) fn start_reads(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        self.begin(op, Phase::Reading);
        op.left = op.steps.len();
        self.timers.watch_silence(self.now, self.tuning.silence);
        for at in 0..op.steps.len() {
            self.ask_next(op, at, out);
        }
    }

    /// Asks the next image that has not failed it.
    pub(crate) fn ask_next(&mut self, op: &mut Op, at: usize, out: &mut Vec<Action>) {
        let is_any = op.id.is_some() || op.atomic.is_some();
        let step = &mut op.steps[at];
        if is_any {
            step.targets = self.members.in_sync; // whoever joined meanwhile has it too (M16)
        }
        let left = step.targets.and(self.members.readable()).minus(step.tried);
        step.again = Images::NONE;
        if let Some(image) = self.members.nearest(left) {
            step.pending = Images::one(image);
            self.send(op, at, Images::one(image), out);
        } else if !step.silent.and(self.members.readable()).is_empty() {
            // Nobody who answers has it; whoever was asked and did not answer may still.
            step.pending = step.silent.and(self.members.readable());
        } else if step.block.is_none() && step.piece.count() > 1 {
            (step.block, step.tried, step.data) = (Some(0), Images::NONE, Payload::new());
            self.ask_next(op, at, out);
        } else {
            self.on_nobody_left(op, at);
        }
    }

    /// No image has the block.
    fn on_nobody_left(&mut self, op: &mut Op, at: usize) {
        let asked = op.steps[at].asked();
        if self.members.readable().minus(self.members.gone).is_empty() {
            op.fail(VolumeError::Busy); // nobody said that it is bad; nobody can be asked
        } else {
            self.counters.medium_errors += u64::from(op.id.is_some());
            // A byte of the block that the host asked for, where it asked for part of it.
            let within = op.spans().get(op.span_at).map_or(0, |span| span.offset());
            op.fail(VolumeError::Medium { offset: asked.offset().max(within) });
        }
        self.complete_read(op, at);
    }

    /// The piece was read, or failed.
    pub(crate) fn complete_read(&mut self, op: &mut Op, at: usize) {
        op.steps[at].pending = Images::NONE;
        op.left -= 1;
        if op.left == 0 {
            self.advance_later(op);
        }
    }

    pub(crate) fn on_read_reply(
        &mut self,
        op: &mut Op,
        at: usize,
        image: ImageIndex,
        reply: Reply,
        out: &mut Vec<Action>,
    ) {
        let step = &mut op.steps[at];
        step.silent.remove(image);
        match reply {
            Reply::Data(data) if data.len() == step.asked().len() => {
                step.data.append(data);
                let silent = std::mem::take(&mut step.silent);
                match step.block {
                    Some(block) if block + 1 < step.piece.count() => {
                        (step.block, step.tried) = (Some(block + 1), Images::NONE);
                        self.ask_next(op, at, out);
                    }
                    Some(_) | None => self.complete_read(op, at),
                }
                for image in silent {
                    self.fail_image(image, OutReason::Silent, out);
                }
            }
            reply => {
                step.tried.insert(image);
                let asked = step.asked();
                self.on_read_failure(op, image, asked, reply, out);
                self.ask_next(op, at, out);
            }
        }
    }

    /// What a failed read says about the image.
    pub(crate) fn on_read_failure(
        &mut self,
        op: &Op,
        image: ImageIndex,
        asked: Piece,
        reply: Reply,
        out: &mut Vec<Action>,
    ) {
        match reply {
            Reply::Failed(ImageError::Lost { .. }) => {
                self.fail_image(image, OutReason::LostExtents, out);
            }
            Reply::Failed(ImageError::Poisoned) => {
                self.fail_image(image, OutReason::WriteFailed, out);
            }
            // A heal that meets damage wants no other heal: two bad copies would call each other for ever.
            _ if op.id.is_none() && op.atomic.is_none() => {}
            // Damaged, or unreadable: sectors are readable again once they are written.
            _ => self.want_heal(image, asked.extent),
        }
    }

    /// All pieces were read, or failed.
    pub(crate) fn on_all_read(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if matches!(op.task, Task::Equalise(_)) {
            return self.on_fetched(op, out);
        }
        if op.is_aborted {
            return self.finish(op, Err(VolumeError::Aborted), out);
        }
        if op.atomic.is_some() {
            return self.on_atomic_read(op, out);
        }
        if op.volume_op().is_some_and(is_of_state) {
            return self.on_state_read(op, out);
        }
        if let Some(error) = op.failure {
            return self.finish(op, Err(error), out);
        }
        match op.volume_op() {
            Some(VolumeOp::Verify { .. }) => self.start_verify_batch(op, out),
            Some(
                VolumeOp::Write { .. } | VolumeOp::WriteAtomic { .. } | VolumeOp::Fill { .. } | VolumeOp::Unmap { .. },
            ) => self.on_edges_read(op, out),
            _ => {
                for step in &mut op.steps {
                    op.gathered.append(std::mem::take(&mut step.data));
                }
                if op.next_block <= op.span().blocks().1.0 {
                    self.start_read_batch(op, out);
                } else {
                    self.on_gathered(op, out);
                }
            }
        }
    }

    /// Every block that the span touches was read.
    fn on_gathered(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let span = op.span();
        if !matches!(op.task, Task::Volume(VolumeOp::Read { .. })) {
            return self.on_comparable(op, out);
        }
        let mut data = std::mem::take(&mut op.gathered);
        if !span.is_whole_blocks() {
            data = data.slice((span.offset() - hull_start(span)) as usize, span.len() as usize);
        }
        self.finish(op, Ok(VolumeDone::Data(data)), out);
    }
}
