//! Writes, fills and unmaps: spans become batches of pieces of whole blocks, and each batch goes to every
//! in-sync image (A1).
//!
//! ```text
//!  span ──▶ partial first and last block read and merged (P7) ──▶ batch ──▶ sums ──▶ space ──▶ apply ─┐
//!                                                                  ▲                                  │
//!                                                                  └────────── next batch, next span ─┘
//! ```

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_payload::{Buf, Exhausted, Payload, Sums};
use dyad_units::{BLOCK_BYTES, EXTENT_BYTES, Piece, Span};

use crate::owner::core::Core;
use crate::owner::event::Action;
use crate::owner::op::{BATCH, Op, Phase, Step, is_durable, is_of_state};
use crate::owner::read::{first_piece, hull_start};

const BLOCK: u64 = BLOCK_BYTES as u64;

impl Core {
    /// Begins the next span: reads the blocks that it covers in part.
    pub(crate) fn start_span(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let span = op.span();
        op.next_block = span.blocks().0.0;
        op.steps.clear();
        for block in edges(span).into_iter().flatten() {
            op.steps.push(Step::new(first_piece(block, block), self.members.in_sync));
        }
        if op.steps.is_empty() {
            self.start_batch(op, out);
        } else {
            self.start_reads(op, out);
        }
    }

    /// The partial blocks were read: merge them.
    pub(crate) fn on_edges_read(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let edges = edges(op.span());
        let mut read = op.steps.iter_mut().map(|step| std::mem::take(&mut step.data));
        let old = edges.map(|edge| edge.and_then(|_| read.next()));
        drop(read);
        self.merge_and_go_on(op, old, out);
    }

    /// A compared range is as expected: its partial blocks were read with it.
    pub(crate) fn on_equal(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let span = op.span();
        let block_at = |block: u64| op.gathered.slice((block * BLOCK - hull_start(span)) as usize, BLOCK as usize);
        let old = edges(span).map(|edge| edge.map(block_at));
        op.next_block = span.blocks().0.0;
        op.gathered = Payload::new();
        self.merge_and_go_on(op, old, out);
    }

    fn merge_and_go_on(&mut self, op: &mut Op, old: [Option<Payload>; 2], out: &mut Vec<Action>) {
        let [head, tail] = edges(op.span());
        let merge = |edge: Option<u64>, old: &Option<Payload>| match (edge, old) {
            (Some(block), Some(old)) => self.merge(op, block, old).map(Some),
            _ => Ok(None),
        };
        match (merge(head, &old[0]), merge(tail, &old[1])) {
            (Ok(head), Ok(tail)) => {
                (op.head, op.tail) = (head, tail);
                self.start_batch(op, out);
            }
            (Err(Exhausted { .. }), _) | (_, Err(Exhausted { .. })) => self.finish(op, Err(VolumeError::Busy), out),
        }
    }

    /// The block as it will be: what the span covers is new, the rest old. A copy of part of one block is
    /// the only one that a write costs.
    fn merge(&self, op: &Op, block: u64, old: &Payload) -> Result<Buf, Exhausted> {
        let span = op.span();
        let mut merged = self.slab.take(BLOCK as usize)?;
        old.copy_to(&mut merged);
        let start = span.offset().max(block * BLOCK);
        let end = span.end().min((block + 1) * BLOCK);
        let covered = &mut merged[(start - block * BLOCK) as usize..(end - block * BLOCK) as usize];
        match op.volume_op() {
            Some(
                VolumeOp::Write { data, .. }
                | VolumeOp::WriteAtomic { data, .. }
                | VolumeOp::CompareAndWrite { data, .. },
            ) => {
                data.slice((start - span.offset()) as usize, covered.len()).copy_to(covered);
            }
            Some(VolumeOp::Fill { pattern, .. }) => repeat(pattern, covered),
            _ => covered.fill(0),
        }
        Ok(merged.freeze())
    }

    /// Prepares and sends the next batch, or ends the span or the operation.
    pub(crate) fn start_batch(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if matches!(op.volume_op(), Some(VolumeOp::WriteAtomic { .. })) {
            return self.start_atomic(op, out);
        }
        let last = op.span().blocks().1.0;
        if op.next_block > last {
            (op.head, op.tail) = (None, None);
            if op.span_at + 1 < op.spans().len() && !op.is_aborted {
                op.span_at += 1;
                return self.start_span(op, out);
            }
            op.is_applied = op.span_at + 1 == op.spans().len();
            return self.on_all_applied(op, out);
        }
        if op.is_aborted {
            return self.finish(op, Err(VolumeError::Aborted), out);
        }
        if self.next_batch(op, last).is_err() {
            return self.finish(op, Err(VolumeError::Busy), out);
        }
        self.start_space(op, Phase::Applying, out);
    }

    fn next_batch(&mut self, op: &mut Op, last: u64) -> Result<(), Exhausted> {
        op.steps.clear();
        if op.fill.is_none()
            && let Some(VolumeOp::Fill { span, pattern, .. }) = op.volume_op()
        {
            let mut fill = self.slab.take(EXTENT_BYTES.min((span.len().div_ceil(BLOCK) * BLOCK) as u32) as usize)?;
            repeat(pattern, &mut fill);
            op.fill = Some(fill.freeze());
        }
        while op.next_block <= last && op.steps.len() < BATCH {
            let step = self.next_step(op, last)?;
            op.next_block += u64::from(step.piece.count());
            op.steps.push(step);
        }
        Ok(())
    }

    /// The next piece of the span and what is to be done with it.
    fn next_step(&mut self, op: &Op, last: u64) -> Result<Step, Exhausted> {
        let [head, tail] = edges(op.span());
        let next = op.next_block;
        if let Some(VolumeOp::Unmap { .. }) = op.volume_op() {
            let edge = if head == Some(next) { &op.head } else { &op.tail };
            let is_edge = head == Some(next) || tail == Some(next);
            let Some(merged) = edge.as_ref().filter(|_| is_edge) else {
                let last = if tail.is_some() { last - 1 } else { last };
                let piece = first_piece(next, last);
                let mut step = Step::new(piece, self.targets_of(piece.extent));
                step.is_unmap = true;
                return Ok(step);
            };
            let piece = first_piece(next, next);
            let mut step = Step::new(piece, self.targets_of(piece.extent));
            step.data.push(merged.clone());
            // What became zero entirely needs no slot (P9).
            step.is_unmap = step.data.is_zero();
            step.sums = Some(Sums::of(&step.data, &self.slab)?);
            return Ok(step);
        }
        let piece = first_piece(next, last);
        let mut step = Step::new(piece, self.targets_of(piece.extent));
        step.data = piece_data(op, step.piece);
        step.sums = Some(Sums::of(&step.data, &self.slab)?);
        Ok(step)
    }

    /// Gives the batch to its targets. From here on its range stays locked until all have it or are out (M2).
    pub(crate) fn start_apply(&mut self, op: &mut Op, phase: Phase, out: &mut Vec<Action>) {
        self.begin(op, phase);
        op.has_effect = true;
        for step in &mut op.steps {
            step.number = self.numbers.next();
        }
        self.send_all(op, out);
    }

    /// Every target has the batch.
    pub(crate) fn on_batch_applied(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        match op.failure {
            Some(error) => {
                self.doubt(op, out);
                self.finish(op, Err(error), out);
            }
            None if op.atomic.is_some() => self.on_atomic_applied(op, out),
            None if op.volume_op().is_some_and(is_of_state) => {
                // Locked until it is durable: the next one overwrites the only other home (M20).
                op.steps.clear();
                op.is_applied = true;
                self.start_flush(op, out);
            }
            None => self.start_batch(op, out),
        }
    }

    /// Every target has everything: unlock, make durable if asked, answer.
    fn on_all_applied(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.steps.clear();
        self.unlock(op);
        if !op.is_applied {
            self.finish(op, Err(VolumeError::Aborted), out);
        } else if op.volume_op().is_some_and(is_durable) {
            self.start_flush(op, out);
        } else {
            self.answer_change(op, out);
        }
    }

    /// A4: with too few images in sync, a write already applied is not acknowledged either.
    pub(crate) fn answer_change(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if self.has_enough_images() {
            self.finish(op, Ok(VolumeDone::Done), out);
        } else {
            self.on_few_images(op, out);
        }
    }
}

/// First and last block of the span, where it covers them in part. One block at both ends counts once.
fn edges(span: Span) -> [Option<u64>; 2] {
    let (first, last) = span.blocks();
    let is_head = !span.offset().is_multiple_of(BLOCK) || (first == last && !span.end().is_multiple_of(BLOCK));
    let is_tail = !span.end().is_multiple_of(BLOCK) && first != last;
    [is_head.then_some(first.0), is_tail.then_some(last.0)]
}

/// The new bytes of a piece: merged edges, and between them the host's.
pub(crate) fn piece_data(op: &Op, piece: Piece) -> Payload {
    let span = op.span();
    let [head, tail] = edges(span);
    let (mut start, mut end) = (piece.offset(), piece.offset() + piece.len() as u64);
    let mut data = Payload::new();
    if head == Some(start / BLOCK) {
        data.push(op.head.clone().expect("merged before"));
        start += BLOCK;
    }
    let tail = tail.filter(|block| *block == (end - 1) / BLOCK);
    if tail.is_some() {
        end -= BLOCK;
    }
    if start < end {
        let len = (end - start) as usize;
        match op.volume_op() {
            Some(
                VolumeOp::Write { data: new, .. }
                | VolumeOp::WriteAtomic { data: new, .. }
                | VolumeOp::CompareAndWrite { data: new, .. },
            ) => {
                data.append(new.slice((start - span.offset()) as usize, len));
            }
            // Every piece begins at a block, and so does the pattern or a multiple of it.
            _ => data.push(op.fill.clone().expect("made before").slice(0, len)),
        }
    }
    if tail.is_some() {
        data.push(op.tail.clone().expect("merged before"));
    }
    data
}

/// Fills `to` with repetitions of a short pattern that divides it.
fn repeat(pattern: &Payload, to: &mut [u8]) {
    let unit = pattern.len().min(to.len());
    pattern.slice(0, unit).copy_to(&mut to[..unit]);
    let mut done = unit;
    while done < to.len() {
        let more = done.min(to.len() - done);
        to.copy_within(..more, done);
        done += more;
    }
}

#[cfg(test)]
mod tests {
    use dyad_units::Span;

    use super::edges;

    #[test]
    fn only_blocks_covered_in_part_are_edges() {
        for (offset, len, expected) in [
            (0, 4096, [None, None]),
            (512, 512, [Some(0), None]),
            (0, 512, [Some(0), None]),
            (3584, 512, [Some(0), None]),
            (512, 3584, [Some(0), None]),
            (512, 4096, [Some(0), Some(1)]),
            (4096, 4608, [None, Some(2)]),
            (8192 - 512, 512 + 4096, [Some(1), None]),
        ] {
            assert_eq!(edges(Span::new(offset, len).unwrap()), expected, "{len} at {offset}");
        }
    }
}
