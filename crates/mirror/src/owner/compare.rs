//! Comparing: COMPARE AND WRITE, VERIFY with and without data.

use dyad_contract::image::Reply;
use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp};
use dyad_payload::Payload;

use crate::owner::core::Core;
use crate::owner::event::{Action, ImageIndex};
use crate::owner::images::Images;
use crate::owner::op::{Op, Phase};
use crate::owner::read::hull_start;

/// Most pieces that a verify reads at once from each image: 4 MiB of buffers each.
const VERIFY_BATCH: usize = 16;

impl Core {
    /// The bytes to be compared are there.
    pub(crate) fn on_comparable(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        let span = op.span();
        let found = op.gathered.slice((span.offset() - hull_start(span)) as usize, span.len() as usize);
        let (expected, writes) = match op.volume_op() {
            Some(VolumeOp::Compare { expected, .. }) => (expected, false),
            Some(VolumeOp::CompareAndWrite { expected, .. }) => (expected, true),
            _ => unreachable!("only compares gather to compare"),
        };
        match first_difference(&found, expected) {
            Some(offset) => self.finish(op, Err(VolumeError::Miscompare { offset }), out),
            None if writes => self.on_equal(op, out),
            None => self.finish(op, Ok(VolumeDone::Done), out),
        }
    }

    /// Reads the next pieces of the span from every image at once.
    pub(crate) fn start_verify_batch(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        if op.next_block > op.span().blocks().1.0 {
            return self.finish(op, Ok(VolumeDone::Done), out);
        }
        self.next_pieces(op, VERIFY_BATCH);
        for step in &mut op.steps {
            step.targets = self.members.readable();
        }
        self.begin(op, Phase::Verifying);
        self.send_all(op, out);
    }

    pub(crate) fn on_verify_reply(
        &mut self,
        op: &mut Op,
        at: usize,
        image: ImageIndex,
        reply: Reply,
        out: &mut Vec<Action>,
    ) {
        let step = &mut op.steps[at];
        match reply {
            Reply::Data(data) if data.len() == step.piece.len() => {}
            reply => {
                step.tried.insert(image);
                let piece = step.piece;
                self.on_read_failure(op, image, piece, reply, out);
            }
        }
        self.done(op, at, image, out);
    }

    /// Every image read its pieces. Where none has the whole piece, the blocks are looked at one by one.
    pub(crate) fn on_verified(&mut self, op: &mut Op, out: &mut Vec<Action>) {
        op.steps.retain(|step| step.targets.minus(step.tried).is_empty());
        if op.is_aborted {
            self.finish(op, Err(VolumeError::Aborted), out);
        } else if op.steps.is_empty() {
            self.start_verify_batch(op, out);
        } else {
            for step in &mut op.steps {
                step.tried = Images::NONE;
            }
            self.start_reads(op, out);
        }
    }
}

/// Where two strings of bytes of equal length differ first.
fn first_difference(one: &Payload, other: &Payload) -> Option<u64> {
    let (mut ones, mut others) = (one.slices().iter(), other.slices().iter());
    let (mut a, mut b): (&[u8], &[u8]) = (&[], &[]);
    let mut before = 0;
    loop {
        if a.is_empty() {
            a = ones.next()?;
        }
        if b.is_empty() {
            b = others.next()?;
        }
        let len = a.len().min(b.len());
        if a[..len] != b[..len] {
            let at = a.iter().zip(b).position(|(x, y)| x != y)?;
            return Some(before + at as u64);
        }
        (a, b) = (&a[len..], &b[len..]);
        before += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use dyad_payload::{Payload, Slab};

    use super::first_difference;

    #[test]
    fn the_first_difference_is_found_wherever_the_buffers_break() {
        let slab = Slab::new(1 << 20);
        let payload = |parts: &[&[u8]]| {
            let mut payload = Payload::new();
            for part in parts {
                payload.push(slab.copy_of(part).unwrap());
            }
            payload
        };
        let whole = payload(&[b"abcdefgh"]);
        for (parts, at) in [
            (&[&b"abc"[..], b"defgh"][..], None),
            (&[b"abc", b"dXfgh"], Some(4)),
            (&[b"Xbcdefgh"], Some(0)),
            (&[b"abcdefg", b"X"], Some(7)),
        ] {
            assert_eq!(first_difference(&whole, &payload(parts)), at);
        }
    }
}
