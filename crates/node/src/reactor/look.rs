//! What hosts ask of the node and not of the volume: which blocks were ever written (GET LBA STATUS), and to make another
//! node owner (SET TARGET PORT GROUPS).
//!
//! ```text
//!  front ── Look ──▶ owner: looks at its image's map ─▶ reads a block as any host would ─▶ looks again ── Looked ──▶ front
//! ```
//!
//! "Never written" lets a backup leave a block out, so it has to be as true as what a read says (M5): only the owner says
//! it, of its own image in sync. The map is looked at, then something is read, which is answered only while the leases
//! hold, then the map is looked at again. In the same epoch nobody else was owner in between, so every write that was
//! acknowledged before the first look is in it; and whatever either look saw written counts as written.

use dyad_cluster::ImageState;
use dyad_contract::volume::{Edition, VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_mirror::{Command, CommandError, OpId, PartEvent};
use dyad_pool::{ImageHandle, Pool};
use dyad_scsi::{NodeOp, RUNS_MAX, Run, Step, Task};
use dyad_units::{BLOCKS_PER_EXTENT, Epoch, Extent, NodeId, SECTOR_BYTES, Span, Stamp, VolumeId};

use super::errand::errand_of;
use super::ops::{Op, Weight, Whose};
use super::paths::port_number;
use super::run::{Reactor, guarded};
use super::talk::{Asker, Commanded, Waiting};
use crate::talk::{Ask, Look, Order, Refused, Told, encode, refusal};

/// Looks of one volume under way, 64 KiB each; more are told to come again.
const LOOKS_MAX: usize = 32;

/// Extents of one look; what a unit asks for at most, and one more where that begins in the middle of one.
pub(super) const EXTENTS_MAX: usize = 8193;

/// Who wants to know.
#[derive(Clone, Copy, Debug)]
enum Whom {
    Here(OpId),
    Peer(NodeId, u64),
}

/// A look between its two looks at the map.
struct UnderWay {
    whom: Whom,
    span: Span,
    /// The read that is answered only while this node is owner.
    gate: OpId,
    epoch: Epoch,
    seen: Vec<u64>,
}

/// The looks of a volume.
#[derive(Default)]
pub(super) struct Looks(Vec<UnderWay>);

impl Looks {
    pub(super) fn is_gate(&self, id: OpId) -> bool {
        self.0.iter().any(|look| look.gate == id)
    }
}

impl Reactor {
    /// A host's command needs something of the node.
    pub(super) fn ask_of_node(&mut self, index: u32, id: OpId, task: Task, op: NodeOp) {
        let errand = errand_of(op, &task);
        let Some(volume) = self.volume_mut(index) else { return };
        let waiting = Waiting { volume: volume.record.id, id, op };
        let Some(entry) = volume.ops.get_mut(id) else { return };
        entry.task = Some(task);
        entry.weight.get_or_insert(Weight::Other);
        // A look has no effect, and whoever gives it up waits for nothing. A move that began goes on to its end, and what an
        // errand wrote is written (M19).
        entry.is_parked = matches!(op, NodeOp::Look { .. } | NodeOp::Pause { .. });
        if let Some((errand, data)) = errand {
            return self.send_errand(index, waiting, errand, data);
        }
        let is_asked = match op {
            NodeOp::Look { span } => self.look_for_host(index, waiting, span),
            NodeOp::Move { group } => self.move_for_host(index, waiting, group),
            NodeOp::Pause { period } => return self.pause(index, waiting, period),
            NodeOp::Errand(_) => return, // sent
        };
        if let Err(error) = is_asked {
            self.end_waiting(waiting, Err(error));
        }
    }

    fn look_for_host(&mut self, index: u32, waiting: Waiting, span: Span) -> Result<(), VolumeError> {
        let volume = self.volume(index).ok_or(VolumeError::Busy)?;
        let edition = volume.unit.edition().ok_or(VolumeError::Busy)?;
        let owner = volume.part.record().owner.filter(|owner| *owner != self.node);
        let Some(owner) = owner else { return self.begin_look(index, Whom::Here(waiting.id), span, edition) };
        let Edition { epoch, changes } = edition;
        let look = Look { offset: span.offset(), len: span.len(), epoch: epoch.value(), changes };
        let body = encode(&Ask::Look { volume: waiting.volume, look });
        if self.ask_node_as(owner, &body, Asker::Host(waiting)) { Ok(()) } else { Err(VolumeError::Busy) }
    }

    fn move_for_host(&mut self, index: u32, waiting: Waiting, group: u16) -> Result<(), VolumeError> {
        let volume = self.volume(index).ok_or(VolumeError::Busy)?;
        let record = volume.part.record();
        let (owner, images) = (record.owner, record.images.iter().map(|image| image.node));
        let mut nodes = self.nodes.iter().copied().chain(images).chain(owner);
        let to = nodes.find(|node| port_number(*node) == group).ok_or(VolumeError::WriteFault)?;
        let owner = owner.ok_or(VolumeError::Busy)?;
        if owner == self.node {
            self.command_as(index, Command::HandOver { to }, Asker::Host(waiting));
            return Ok(());
        }
        let body = encode(&Ask::Order { volume: waiting.volume, order: Order::HandOver { to } });
        if self.ask_node_as(owner, &body, Asker::Host(waiting)) { Ok(()) } else { Err(VolumeError::Busy) }
    }

    /// A part answered a host's command.
    pub(super) fn on_commanded(&mut self, waiting: Waiting, result: Commanded) {
        let is_passing = |error: &CommandError| {
            matches!(
                error,
                CommandError::NotOwner { .. }
                    | CommandError::NotServing
                    | CommandError::Underway
                    | CommandError::Overtaken { .. }
            )
        };
        self.end_waiting(
            waiting,
            match result {
                Ok(_) => Ok(VolumeDone::Done),
                Err(error) if is_passing(&error) => Err(VolumeError::Busy),
                Err(_) => Err(VolumeError::WriteFault),
            },
        );
    }

    /// Another node answered a host's command.
    pub(super) fn on_told(&mut self, waiting: Waiting, told: Told) {
        match (waiting.op, told) {
            (NodeOp::Look { .. }, Told::Looked(runs)) => {
                let run = |(blocks, is_unwritten)| Run { blocks, is_unwritten };
                let runs: Vec<Run> = runs.into_iter().take(RUNS_MAX).map(run).collect();
                self.show(waiting, &runs);
            }
            // It runs an older program: nothing is known.
            (NodeOp::Look { .. }, Told::Unknown) => self.show(waiting, &[]),
            (NodeOp::Move { .. }, Told::Done) => self.end_waiting(waiting, Ok(VolumeDone::Done)),
            (NodeOp::Move { .. }, Told::Refused(Refused { owner: None, is_passing: false, .. }) | Told::Unknown) => {
                self.end_waiting(waiting, Err(VolumeError::WriteFault));
            }
            _ => self.end_waiting(waiting, Err(VolumeError::Busy)),
        }
    }

    /// What a host's command waited for has ended.
    pub(super) fn end_waiting(&mut self, waiting: Waiting, result: VolumeResult) {
        let is_error = result.is_err();
        self.go_on_waiting(waiting, is_error, |unit, task| unit.finish(task, result));
    }

    fn show(&mut self, waiting: Waiting, runs: &[Run]) {
        self.go_on_waiting(waiting, false, |unit, task| unit.looked(task, runs));
    }

    pub(super) fn go_on_waiting(
        &mut self,
        waiting: Waiting,
        is_error: bool,
        step: impl FnOnce(&mut dyad_scsi::LogicalUnit, Task) -> Step,
    ) {
        let id = waiting.id;
        let Some(index) = self.volume_with_id(waiting.volume) else { return };
        let Some(volume) = self.volume_mut(index) else { return };
        let Some(entry) = volume.ops.get_mut(id) else { return };
        entry.is_parked = false;
        let Some(task) = entry.task.take() else {
            // Its host gave it up; whoever waits for its end may go on now (M19).
            if let NodeOp::Move { group } = waiting.op
                && is_error
            {
                volume.unit.not_moved(group);
            }
            self.forget_op(index, id);
            return self.on_op_over(index, id);
        };
        let unit = &mut volume.unit;
        match guarded(|| step(unit, task)) {
            Ok(step) => self.go_on(index, id, step.into(), is_error),
            Err(fault) => self.fail_volume(index, &fault.0),
        }
    }

    // --- at the owner -----------------------------------------------------------------------------------------------

    /// Another node's host wants to know.
    pub(super) fn on_look_asked(&mut self, from: NodeId, id: u64, volume: VolumeId, look: Look) {
        let edition = Edition { epoch: Epoch::new(look.epoch), changes: look.changes };
        let begun = match (self.volume_with_id(volume), Span::new(look.offset, look.len)) {
            (Some(index), Ok(span)) if !span.is_empty() => {
                self.begin_look(index, Whom::Peer(from, id), span, edition).is_ok()
            }
            _ => false,
        };
        if !begun {
            self.refuse_look(from, id);
        }
    }

    fn refuse_look(&mut self, to: NodeId, id: u64) {
        self.tell_node(to, id, &encode(&refusal("the volume cannot be looked at now")));
    }

    /// Looks at the map, and has something read.
    fn begin_look(&mut self, index: u32, whom: Whom, span: Span, edition: Edition) -> Result<(), VolumeError> {
        let now = self.now;
        let extents = extents_of(span);
        let volume = self.volume(index).ok_or(VolumeError::Busy)?;
        // As with every command, the host's reservation was checked against the newest state, or it is checked again (M20).
        let is_newest = volume.shared.is_newest(edition);
        if !is_newest || volume.looks.0.len() >= LOOKS_MAX || extents.len() > EXTENTS_MAX {
            return Err(VolumeError::Busy);
        }
        let (epoch, seen) = (volume.part.record().epoch, self.seen(index, extents));
        let first = Span::new(span.offset(), u64::from(SECTOR_BYTES)).map_err(|_| VolumeError::OutOfRange)?;
        let volume = self.volume_mut(index).ok_or(VolumeError::Busy)?;
        let gate = volume.ops.add(Op::own(Whose::Node, now));
        volume.looks.0.push(UnderWay { whom, span, gate, epoch, seen });
        self.volume_event(index, PartEvent::Op { id: gate, op: VolumeOp::Read { span: first }, arrived: now });
        Ok(())
    }

    /// What was read between the two looks came, or did not.
    pub(super) fn on_gate(&mut self, index: u32, gate: OpId, result: &VolumeResult) {
        self.forget_op(index, gate);
        let me = self.node;
        let Some(volume) = self.volume_mut(index) else { return };
        let Some(at) = volume.looks.0.iter().position(|look| look.gate == gate) else { return };
        let UnderWay { whom, span, epoch, mut seen, .. } = volume.looks.0.swap_remove(at);
        let record = volume.part.record();
        let is_same = (record.epoch, record.owner) == (epoch, Some(me));
        let runs = match result {
            Ok(_) if is_same => {
                for (first, second) in seen.iter_mut().zip(self.seen(index, extents_of(span))) {
                    *first |= second;
                }
                Some(runs_of(span, &seen))
            }
            // The block is bad, which says nothing of who is owner.
            Err(VolumeError::Medium { .. }) => Some(Vec::new()),
            _ => None,
        };
        let Some(volume) = self.volume(index).map(|volume| volume.record.id) else { return };
        match (whom, runs) {
            (Whom::Here(id), Some(runs)) => self.show(Waiting { volume, id, op: NodeOp::Look { span } }, &runs),
            (Whom::Here(id), None) => {
                self.end_waiting(Waiting { volume, id, op: NodeOp::Look { span } }, Err(VolumeError::Busy));
            }
            (Whom::Peer(node, id), Some(runs)) => {
                let runs = runs.iter().map(|run| (run.blocks, run.is_unwritten)).collect();
                self.tell_node(node, id, &encode(&Told::Looked(runs)));
            }
            (Whom::Peer(node, id), None) => self.refuse_look(node, id),
        }
    }

    /// The volume goes out of service: other nodes wait for nothing.
    pub(super) fn refuse_looks(&mut self, looks: &Looks) {
        for look in &looks.0 {
            if let Whom::Peer(node, id) = look.whom {
                self.refuse_look(node, id);
            }
        }
    }

    /// A mask for each extent: the blocks that this node's image in sync has seen written, or of which nothing is known.
    fn seen(&self, index: u32, extents: impl Iterator<Item = Extent>) -> Vec<u64> {
        let image = self.volume(index).and_then(|volume| {
            let mut images = volume.part.record().images.iter();
            let own = images.find(|image| image.node == self.node && image.state == ImageState::InSync)?;
            let place = volume.places.iter().find(|place| place.image == own.id)?;
            let room = self.pools.get(place.pool as usize)?.as_deref()?;
            Some((&room.pool, place.handle))
        });
        extents.map(|extent| mask_of(image, extent)).collect()
    }
}

/// The blocks of an extent that an image has seen written, or of which nothing is known.
pub(super) fn mask_of(image: Option<(&Pool, ImageHandle)>, extent: Extent) -> u64 {
    const UNKNOWN: u64 = u64::MAX;
    match image.and_then(|(pool, handle)| pool.peek(handle, extent)) {
        // What a crash left behind is not compared yet, or lost (P8, P12).
        Some(peek) if !peek.is_lost && peek.stamp != Stamp::NEWEST => peek.written,
        _ => UNKNOWN,
    }
}

/// The extents that a span touches.
pub(super) fn extents_of(span: Span) -> impl ExactSizeIterator<Item = Extent> {
    let (first, last) = span.blocks();
    let extent = |block: u64| (block / u64::from(BLOCKS_PER_EXTENT)) as u32; // a span ends where an extent has a number
    let (first, count) = (extent(first.0), extent(last.0) - extent(first.0) + 1);
    (0..count).map(move |number| Extent(first + number))
}

/// Runs from the first block that the span touches on, as many as are told.
pub(super) fn runs_of(span: Span, seen: &[u64]) -> Vec<Run> {
    let (first, last) = span.blocks();
    let base = first.0 / u64::from(BLOCKS_PER_EXTENT) * u64::from(BLOCKS_PER_EXTENT);
    let mut runs: Vec<Run> = Vec::new();
    let mut block = first.0;
    while block <= last.0 {
        let (at, bit) = ((block - base) / 64, (block - base) % 64);
        let Some(mask) = seen.get(at as usize).map(|mask| mask >> bit) else { break };
        let is_unwritten = mask & 1 == 0;
        let alike = if is_unwritten { mask.trailing_zeros() } else { mask.trailing_ones() };
        let blocks = u64::from(alike).min(64 - bit).min(last.0 - block + 1) as u32;
        block += u64::from(blocks);
        if let Some(run) = runs.last_mut().filter(|run| run.is_unwritten == is_unwritten) {
            run.blocks += blocks;
        } else if runs.len() < RUNS_MAX {
            runs.push(Run { blocks, is_unwritten });
        } else {
            break;
        }
    }
    runs
}

const _: () = assert!(BLOCKS_PER_EXTENT == 64, "a mask is one word");

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(offset: u64, len: u64, seen: &[u64]) -> Vec<(u32, bool)> {
        let span = Span::new(offset, len).unwrap();
        runs_of(span, seen).iter().map(|run| (run.blocks, run.is_unwritten)).collect()
    }

    /// Against the simplest way to say it: block by block.
    #[test]
    fn runs_say_what_the_masks_say() {
        let mut random = 1_u64;
        let mut next = || {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            random >> 20
        };
        for _ in 0..20_000 {
            let masks: Vec<u64> = (0..4)
                .map(|_| match next() % 4 {
                    0 => 0,
                    1 => u64::MAX,
                    2 => 1_u64 << (next() % 64),
                    _ => next() << 20 ^ next(),
                })
                .collect();
            let first = next() % 256;
            let count = 1 + next() % (256 - first);
            let told = runs(first * 4096, count * 4096, &masks[first as usize / 64..]);
            let spread: Vec<bool> =
                told.iter().flat_map(|(blocks, is_unwritten)| vec![*is_unwritten; *blocks as usize]).collect();
            let expected: Vec<bool> =
                (first..first + count).map(|block| masks[block as usize / 64] >> (block % 64) & 1 == 0).collect();
            assert_eq!(spread, expected);
            assert!(told.windows(2).all(|two| two[0].1 != two[1].1), "alike ones are one run");
        }
    }

    /// A part of a block counts as the block.
    #[test]
    fn runs_begin_with_the_first_block_touched() {
        assert_eq!(runs(512, 512, &[0b10]), [(1, true)]);
        assert_eq!(runs(4096 - 512, 1024, &[0b10]), [(1, true), (1, false)]);
        assert_eq!(
            extents_of(Span::new(256 * 1024 - 512, 1024).unwrap()).map(|extent| extent.0).collect::<Vec<_>>(),
            [0, 1]
        );
    }

    #[test]
    fn no_more_runs_are_told_than_fit() {
        let told = runs(0, 8192 * 256 * 1024, &vec![0xaaaa_aaaa_aaaa_aaaa; 8192]);
        assert_eq!((told.len(), told[0], told[1]), (RUNS_MAX, (1, true), (1, false)));
        assert_eq!(runs(0, 8192 * 256 * 1024, &vec![0; 8192]), [(8192 * 64, true)]);
    }
}
