//! What all hosts together know of all volumes: every block's history, and who is busy with it.

use super::block::{Block, Nodes, Order, Rotted};
use super::wholes::Wholes;
use crate::pattern::{BLOCK, Value, identify};
use crate::rng::Rng;

/// What the SCSI state of a volume names as its block: far above every real one.
pub const STATE: u64 = 1 << 40;
/// Blocks of it at most.
pub const STATE_BLOCKS_MAX: usize = dyad_contract::volume::STATE_BYTES_MAX / BLOCK;

/// One block.
#[derive(Clone, Debug, Default)]
struct Cell {
    history: Block,
    /// Writes under way.
    changes: u16,
    /// Reads under way.
    reads: u16,
    /// One operation wants to be alone with it.
    is_taken: bool,
}

/// The book of one volume.
#[derive(Debug)]
pub struct Volume {
    number: u64,
    cells: Vec<Cell>,
    /// Blocks that anybody ever asked for.
    touched: Vec<u64>,
    /// The SCSI state (M20).
    state: Block,
    wholes: Wholes,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    volumes: Vec<Volume>,
    order: Order,
    next_version: u32,
    /// Whether a loss of power may leave a block in parts.
    tears: bool,
    /// When bits changed on disks.
    rotted: Rotted,
}

impl Book {
    /// Nothing was written yet on `volumes` volumes of so many blocks.
    pub fn new(volumes: usize, blocks: u64, tears: bool) -> Self {
        let volume = |number| Volume {
            number,
            cells: vec![Cell::default(); blocks as usize],
            touched: Vec::new(),
            state: Block::default(),
            wholes: Wholes::default(),
        };
        Self {
            volumes: (0..volumes as u64).map(volume).collect(),
            order: 1,
            next_version: 0,
            tears,
            rotted: Rotted::default(),
        }
    }

    /// The next moment.
    pub fn order(&mut self) -> Order {
        self.order += 1;
        self.order
    }

    /// A version that no write had.
    pub fn version(&mut self) -> u32 {
        self.next_version += 1;
        self.next_version
    }

    /// Blocks of a volume.
    pub fn blocks(&self) -> u64 {
        self.volumes[0].cells.len() as u64
    }

    /// Blocks of the volume that were ever asked for, in order.
    pub fn touched(&self, volume: usize) -> Vec<u64> {
        let mut touched = self.volumes[volume].touched.clone();
        touched.sort_unstable();
        touched
    }

    fn cell(&mut self, volume: usize, block: u64) -> &mut Cell {
        &mut self.volumes[volume].cells[block as usize]
    }

    /// Whether a write of the blocks may begin beside whatever is under way.
    pub fn may_write(&mut self, volume: usize, first: u64, count: u64) -> bool {
        (first..first + count).all(|block| !self.cell(volume, block).is_taken)
    }

    /// Whether zeros may be written: reads of older zeros must not be possible any more.
    pub fn may_clear(&mut self, volume: usize, first: u64, count: u64) -> bool {
        (first..first + count).all(|block| {
            let cell = self.cell(volume, block);
            !cell.is_taken && cell.reads == 0 && cell.history.zeros_are_gone()
        })
    }

    /// What the blocks hold, if that is certain and nobody is busy with them.
    pub fn certain(&mut self, volume: usize, first: u64, count: u64) -> Option<Vec<Value>> {
        let rotted = self.rotted;
        let certain = |block| {
            let cell = self.cell(volume, block);
            let is_busy = cell.is_taken || cell.changes > 0;
            if is_busy || cell.history.is_doubtful(rotted) { None } else { cell.history.certain() }
        };
        (first..first + count).map(certain).collect()
    }

    /// Whether any of the blocks may have lost something since then.
    pub fn has_new_era(&mut self, volume: usize, first: u64, count: u64, since: Order) -> bool {
        let rotted = self.rotted;
        (first..first + count).any(|block| {
            let history = &self.cell(volume, block).history;
            history.era() > since || history.is_doubtful(rotted) && history.lost_at() > since
        })
    }

    /// Whether nobody writes any of the blocks.
    pub fn is_calm(&mut self, volume: usize, first: u64, count: u64) -> bool {
        (first..first + count).all(|block| {
            let cell = self.cell(volume, block);
            !cell.is_taken && cell.changes == 0
        })
    }

    /// An atomic write of these values begins (M21). Nobody else may write meanwhile.
    pub fn begin_atomic(&mut self, volume: usize, first: u64, values: &[Value]) {
        self.begin(volume, first, values, true);
        self.volumes[volume].wholes.begin(first, values);
    }

    /// Blocks that an atomic write wrote, and nobody since.
    pub fn a_whole(&self, volume: usize, rng: &mut Rng) -> Option<(u64, u64)> {
        self.volumes[volume].wholes.any(rng)
    }

    /// Writes of these values begin; `alone`: nobody else may write meanwhile.
    pub fn begin(&mut self, volume: usize, first: u64, values: &[Value], alone: bool) {
        self.volumes[volume].wholes.overwrite(first, values.len() as u64);
        let now = self.order();
        for (block, &value) in (first..).zip(values) {
            self.touch(volume, block);
            let cell = self.cell(volume, block);
            cell.changes += 1;
            cell.is_taken |= alone;
            cell.history.begin(value, now);
        }
    }

    fn touch(&mut self, volume: usize, block: u64) {
        let volume = &mut self.volumes[volume];
        if !volume.touched.contains(&block) {
            volume.touched.push(block);
        }
    }

    /// A comparison that wants nobody to write meanwhile begins.
    pub fn take(&mut self, volume: usize, first: u64, count: u64) {
        (first..first + count).for_each(|block| self.cell(volume, block).is_taken = true);
    }

    /// It ended.
    pub fn release(&mut self, volume: usize, first: u64, count: u64) {
        (first..first + count).for_each(|block| self.cell(volume, block).is_taken = false);
    }

    /// Reads begin.
    pub fn begin_read(&mut self, volume: usize, first: u64, count: u64) {
        (first..first + count).for_each(|block| self.cell(volume, block).reads += 1);
    }

    /// Reads end, whatever came of them.
    pub fn end_read(&mut self, volume: usize, first: u64, count: u64) {
        (first..first + count).for_each(|block| self.cell(volume, block).reads -= 1);
    }

    /// Writes ended: acknowledged, or (`holders` is none) in a way that does not say whether they happened.
    pub fn end(
        &mut self,
        volume: usize,
        first: u64,
        values: &[Value],
        acked: Option<Nodes>,
        is_durable: bool,
        oldest: Order,
    ) -> Result<(), String> {
        let now = self.order();
        if acked.is_some() {
            self.volumes[volume].wholes.answered(first, values);
        }
        for (block, &value) in (first..).zip(values) {
            let cell = self.cell(volume, block);
            cell.changes -= 1;
            cell.is_taken = false;
            match acked {
                Some(holders) => {
                    let judged = cell.history.acked(value, now, holders, is_durable);
                    judged.map_err(|what| format!("block {block} of volume {volume}: {what}"))?;
                }
                None => cell.history.closed(value, now),
            }
            cell.history.prune(oldest);
        }
        Ok(())
    }

    /// A read that was asked at `asked` showed these bytes.
    pub fn read(
        &mut self,
        volume: usize,
        first: u64,
        bytes: &[u8],
        asked: Order,
        holders: Nodes,
    ) -> Result<(), String> {
        let (now, tears) = (self.order(), self.tears);
        let number = self.volumes[volume].number;
        let mut seen = Vec::with_capacity(bytes.len() / BLOCK);
        for (block, bytes) in (first..).zip(bytes.chunks_exact(BLOCK)) {
            let told = |what: String| format!("a read of block {block} of volume {volume}: {what}");
            let rotted = self.rotted;
            let history = &self.cell(volume, block).history;
            let rotten = || history.rotten(bytes, (number, block), asked, rotted);
            let value = identify(bytes, number, block).or_else(|what| rotten().ok_or(what)).map_err(told)?;
            self.cell(volume, block).history.read(value, asked, now, holders, tears).map_err(told)?;
            seen.push(value);
        }
        let torn = self.volumes[volume].wholes.judge(first, &seen);
        torn.map_err(|what| format!("a read of volume {volume}: {what}"))
    }

    /// A change of the SCSI state begins.
    pub fn begin_state(&mut self, volume: usize, value: Value) {
        let now = self.order();
        self.volumes[volume].state.begin(value, now);
    }

    /// It ended: acknowledged, and so durable (M20), or without a word on whether it happened.
    pub fn end_state(
        &mut self,
        volume: usize,
        value: Value,
        acked: Option<Nodes>,
        oldest: Order,
    ) -> Result<(), String> {
        let now = self.order();
        let state = &mut self.volumes[volume].state;
        match acked {
            Some(holders) => {
                let judged = state.acked(value, now, holders, true);
                judged.map_err(|what| format!("the state of volume {volume}: {what}"))?;
            }
            None => state.closed(value, now),
        }
        state.prune(oldest);
        Ok(())
    }

    /// A read of the SCSI state that was asked at `asked` showed these bytes. It is never torn (M20).
    pub fn read_state(&mut self, volume: usize, bytes: &[u8], asked: Order, holders: Nodes) -> Result<(), String> {
        let now = self.order();
        let told = |what: String| format!("a read of the state of volume {volume}: {what}");
        if !bytes.len().is_multiple_of(BLOCK) {
            return Err(told(format!("it has {} bytes, which nobody wrote", bytes.len())));
        }
        let mut value = Value::ZERO;
        for (at, bytes) in bytes.chunks_exact(BLOCK).enumerate() {
            let found = identify(bytes, volume as u64, STATE + at as u64).map_err(told)?;
            if at > 0 && found != value {
                return Err(told(format!("block {at} of it is of {found}, what comes before of {value}")));
            }
            value = found;
        }
        let rotted = self.rotted;
        let state = &mut self.volumes[volume].state;
        state.forget_if_doubtful(rotted, now);
        state.read(value, asked, now, holders, false).map_err(told)
    }

    /// Whether the block holds this for certain, but for what is under way.
    pub fn holds(&mut self, volume: usize, block: u64, value: Value) -> bool {
        let rotted = self.rotted;
        let history = &self.cell(volume, block).history;
        history.holds(value) && !history.is_doubtful(rotted)
    }

    /// The block's history in words.
    pub fn tell(&mut self, volume: usize, block: u64) -> String {
        self.cell(volume, block).history.tell()
    }

    /// A flush of the volume that was asked at `asked` was answered (A2).
    pub fn flushed(&mut self, volume: usize, asked: Order) {
        self.each(volume, |history, _| history.flushed(asked));
    }

    /// These nodes lost their memory.
    pub fn forgot(&mut self, nodes: Nodes) {
        for volume in 0..self.volumes.len() {
            self.each(volume, |history, now| history.forgot(nodes, now));
        }
    }

    /// Whether bits changed on one of these disks already.
    pub fn has_rotted(&self, nodes: Nodes) -> bool {
        self.rotted.has(nodes)
    }

    /// Bits change on the disks of these nodes.
    pub fn rots(&mut self, nodes: Nodes) {
        self.volumes.iter_mut().for_each(|volume| volume.wholes = Wholes::default());
        let now = self.order();
        self.rotted.add(nodes, now);
    }

    /// Only these nodes' images are in sync from now on; none: what an image could not read is bad on another one too (M15).
    pub fn left_with(&mut self, nodes: Nodes) {
        let now = self.order();
        self.rotted.left_with(nodes, now);
    }

    /// An image of the volume is in sync from now on.
    pub fn joined(&mut self, volume: usize, node: Nodes) {
        self.each(volume, |history, _| history.joined(node));
    }

    /// An image of the volume is not in sync any more.
    pub fn left(&mut self, volume: usize, node: Nodes) {
        self.each(volume, |history, _| history.left(node));
    }

    /// An image that was behind became owner (M10).
    pub fn forked(&mut self, volume: usize) {
        let now = self.order();
        // It may have been copied in part when it was left behind.
        self.volumes[volume].wholes = Wholes::default();
        self.volumes[volume].cells.iter_mut().for_each(|cell| cell.history.forked(now));
        self.volumes[volume].state.forked(now);
    }

    fn each(&mut self, volume: usize, mut change: impl FnMut(&mut Block, Order)) {
        let now = self.order();
        let volume = &mut self.volumes[volume];
        for &block in &volume.touched {
            change(&mut volume.cells[block as usize].history, now);
        }
        change(&mut volume.state, now);
    }
}
