//! A small image in memory: one extent of a few blocks, each of one byte repeated. It keeps the contract of
//! `dyad_contract::image` and says where the owner does not keep its side.

use std::sync::OnceLock;

use dyad_cluster::SegmentRecord;
use dyad_contract::image::{BlockState, Changed, Examined, ImageError, Reply, Request, Survey, Unmap, Write, Written};
use dyad_payload::{BlockSum, Payload};
use dyad_units::{BLOCK_BYTES, BLOCKS_PER_EXTENT, Epoch, Extent, Piece, Region, Stamp};

use crate::leases::Known;
use crate::parts::world::Buffers;
use crate::search::Violation;

/// Blocks that hosts use; the others of the extent stay unwritten.
pub(crate) const BLOCKS: usize = 2;
const EXTENT: Extent = Extent(0);
/// Of a block whose sum is not looked up: [`u8::MAX`] values and zero.
const VALUES: usize = 256;

fn sum_of(value: u8) -> BlockSum {
    static SUMS: OnceLock<Vec<BlockSum>> = OnceLock::new();
    let of = |value: usize| BlockSum::of(&[value as u8; BLOCK_BYTES as usize]);
    SUMS.get_or_init(|| (0..VALUES).map(of).collect())[usize::from(value)]
}

/// The image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The byte of each block; zero: never written.
    pub(crate) blocks: [u8; BLOCKS],
    /// What a loss of power leaves.
    durable: [u8; BLOCKS],
    pub(crate) kept: Option<Known>,
    pub(crate) epoch: Epoch,
    closed: Stamp,
    /// Of the extent; none: never written.
    stamp: Option<Stamp>,
    /// Resync: cursor and k (M15).
    progress: Option<(Extent, Stamp)>,
    /// When the region was written last since it was clean.
    marked: Option<Stamp>,
    /// Writes of the present life in L: number, stamp, place; and the highest settled heard of (M3).
    written: Vec<(u64, Stamp, Piece)>,
    settled: u64,
    /// Of earlier lives.
    unsettled: Vec<Piece>,
    pub(crate) lived_through: bool,
    /// It was not compared yet since the machine ended.
    is_suspect: bool,
}

impl Image {
    pub(crate) fn new() -> Self {
        Self {
            blocks: [0; BLOCKS],
            durable: [0; BLOCKS],
            kept: None,
            epoch: Epoch::new(0),
            closed: Stamp::NEVER,
            stamp: None,
            progress: None,
            marked: None,
            written: Vec::new(),
            settled: 0,
            unsettled: Vec::new(),
            lived_through: true,
            is_suspect: false,
        }
    }

    /// Carries a request out.
    pub(crate) fn carry_out(&mut self, request: &Request, buffers: &Buffers) -> Result<Reply, Violation> {
        Ok(match request {
            Request::Read { piece } => Reply::Data(self.read(*piece, buffers)),
            Request::Write(Write { piece, .. }) if self.is_suspect && piece.extent == EXTENT => {
                return Err(Violation::new("P8", format!("{piece:?} is written before it was compared")));
            }
            Request::Write(write) | Request::Mend(write) => self.write(write)?,
            Request::Unmap(unmap) | Request::MendUnmap(unmap) => self.unmap(unmap)?,
            Request::Flush | Request::Close { .. } => {
                self.durable = self.blocks;
                Reply::Done
            }
            Request::Closed { stamp } => self.closed(*stamp)?,
            Request::Grant { credits } => Reply::Granted(*credits),
            Request::GiveBack { .. } | Request::Reserve { .. } | Request::Release { .. } | Request::Adopt { .. } => {
                Reply::Done
            }
            Request::Record { epoch, record } => self.record(*epoch, record)?,
            Request::Survey | Request::Show => Reply::Survey(Box::new(self.survey())),
            Request::Examine { extent } => Reply::Examined(Box::new(self.examine(*extent))),
            Request::Changed { after, from } => {
                let changed = self.stamp.filter(|stamp| stamp > after && *from == EXTENT);
                let extents = changed.into_iter().map(|stamp| (EXTENT, stamp)).collect();
                Reply::Changed(Box::new(Changed { extents, next: None }))
            }
            Request::Copied { extent, stamp } if *extent == EXTENT => {
                self.stamp = Some(*stamp);
                self.settle();
                Reply::Done
            }
            Request::Progress { cursor, complete } => {
                self.durable = self.blocks;
                self.progress = cursor.map(|cursor| (cursor, *complete));
                if cursor.is_none() {
                    self.lived_through = true;
                }
                Reply::Done
            }
            Request::Settled { extent, .. } if *extent == EXTENT => {
                self.settle();
                Reply::Done
            }
            Request::Copied { .. } | Request::Settled { .. } => Reply::Done,
        })
    }

    /// It was compared with the others.
    fn settle(&mut self) {
        self.is_suspect = false;
        self.unsettled.clear();
        self.written.clear();
    }

    fn read(&self, piece: Piece, buffers: &Buffers) -> Payload {
        let first = usize::from(piece.first());
        let mut data = Payload::new();
        for block in first..first + usize::from(piece.count()) {
            data.append(buffers.block(self.value(piece.extent, block)));
        }
        data
    }

    fn value(&self, extent: Extent, block: usize) -> u8 {
        self.blocks.get(block).copied().filter(|_| extent == EXTENT).unwrap_or(0)
    }

    fn refuse(&self, stamp: Stamp) -> Option<Reply> {
        (stamp.epoch < self.epoch).then_some(Reply::Failed(ImageError::Superseded { newest: self.epoch }))
    }

    fn write(&mut self, write: &Write) -> Result<Reply, Violation> {
        if let Some(refused) = self.refuse(write.stamp) {
            return Ok(refused);
        }
        self.note(write.piece, write.stamp, write.number.value(), write.settled.value())?;
        let bytes = write.data.to_vec();
        for (at, block) in bytes.chunks(BLOCK_BYTES as usize).enumerate() {
            if sum_of(block[0]) != write.sums.at(at) {
                return Err(Violation::new("P7", "data and checksum do not belong together"));
            }
            self.blocks[usize::from(write.piece.first()) + at] = block[0];
        }
        Ok(Reply::Written(Written { used_slot: false }))
    }

    fn unmap(&mut self, unmap: &Unmap) -> Result<Reply, Violation> {
        if let Some(refused) = self.refuse(unmap.stamp) {
            return Ok(refused);
        }
        self.note(unmap.piece, unmap.stamp, unmap.number.value(), unmap.settled.value())?;
        let mask = unmap.piece.mask();
        let blocks = self.blocks.iter_mut().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
        blocks.for_each(|(_, block)| *block = 0);
        Ok(Reply::Written(Written { used_slot: false }))
    }

    fn note(&mut self, piece: Piece, stamp: Stamp, number: u64, settled: u64) -> Result<(), Violation> {
        if number <= settled {
            return Err(Violation::new("M3", format!("write {number} is said to be settled when it is sent")));
        }
        self.marked = self.marked.max(Some(stamp));
        self.stamp = self.stamp.max(Some(stamp)); // M1
        self.written.push((number, stamp, piece));
        self.settled = self.settled.max(settled);
        Ok(())
    }

    fn closed(&mut self, stamp: Stamp) -> Result<Reply, Violation> {
        if stamp < self.closed {
            return Err(Violation::new("M4", format!("closed falls from {} to {stamp}", self.closed)));
        }
        self.closed = stamp;
        self.marked = self.marked.filter(|written| *written >= stamp);
        self.written.retain(|(_, written, _)| *written > stamp);
        Ok(Reply::Done)
    }

    fn record(&mut self, epoch: Epoch, record: &Payload) -> Result<Reply, Violation> {
        if epoch < self.epoch {
            return Err(Violation::new("M3", format!("epoch {epoch} is adopted after {}", self.epoch)));
        }
        let record = SegmentRecord::decode(&record.to_vec());
        let record = record.map_err(|_| Violation::new("M3", "a record that cannot be read"))?;
        (self.epoch, self.kept) = (epoch, Some(Known::new(record)));
        Ok(Reply::Done)
    }

    fn survey(&self) -> Survey {
        let recent = self.written.iter().filter(|(number, ..)| *number > self.settled).map(|(.., piece)| *piece);
        let unsettled = self.unsettled.iter().copied().chain(recent).filter(|_| self.lived_through);
        let marked = self.marked.filter(|_| !self.lived_through).map(|_| Region(0));
        Survey {
            closed: self.closed,
            epoch: self.epoch,
            record: self.kept.as_ref().map(|kept| kept.0.encode()).unwrap_or_default(),
            lived_through: self.lived_through,
            unsettled: unsettled.collect(),
            marked: marked.into_iter().collect(),
            lost: Vec::new(),
            progress: self.progress,
        }
    }

    fn examine(&self, extent: Extent) -> Examined {
        let state = |at: usize| match self.value(extent, at) {
            0 => BlockState::Unwritten,
            value => BlockState::Verified(sum_of(value)),
        };
        let stamp = self.stamp.filter(|_| extent == EXTENT).unwrap_or_default();
        Examined { stamp, blocks: std::array::from_fn::<_, { BLOCKS_PER_EXTENT as usize }, _>(state) }
    }

    /// The process ends; the machine stays up, and L with it: nothing is suspect, but the next owner wants to know which
    /// writes others may lack (M3, P6).
    pub(crate) fn crash(&mut self) {
        let recent = self.written.drain(..).filter(|(number, ..)| *number > self.settled);
        for (.., piece) in recent {
            if !self.unsettled.contains(&piece) {
                self.unsettled.push(piece);
            }
        }
    }

    /// The machine ends: what was not flushed is gone.
    pub(crate) fn lose_power(&mut self) {
        self.blocks = self.durable;
        self.written.clear();
        self.unsettled.clear();
        self.is_suspect = self.marked.is_some();
        self.lived_through = self.marked.is_none();
    }
}
