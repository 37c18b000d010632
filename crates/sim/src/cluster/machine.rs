//! A machine with its disk, its memory and its clock, and the process on it.

use std::collections::VecDeque;

use dyad_cluster::Incarnation;
use dyad_contract::image::Request;
use dyad_mirror::{Leases, OpId, Part, PartAction};
use dyad_payload::Slab;
use dyad_pool::{DiskOp, FormatConfig, ImageHandle, OpenConfig, OpenError, Pool};
use dyad_units::{BootId, DiskId, ImageId, NodeId, PoolId};

use super::clock::Clock;
use super::happening::{Local, SessionNo};
use super::plan::Trigger;
use super::queue::Time;
use crate::disk::SimDisk;
use crate::log::SimLog;
use crate::rng::Rng;

/// The id of the node with this place.
pub fn node_id(node: usize) -> NodeId {
    NodeId::from_bytes([0xa0 + node as u8; 16])
}

/// The pool of the node with this place.
pub fn pool_id(node: usize) -> PoolId {
    PoolId::from_bytes([0xb0 + node as u8; 16])
}

/// What the process keeps of one segment.
pub struct PartSlot {
    /// The machine under test.
    pub part: Part,
    /// Images of this node in this segment.
    pub images: Vec<(ImageId, ImageHandle)>,
    /// Reads and writes that these were asked for and have not answered.
    pub asked: Vec<(ImageId, dyad_contract::image::Token)>,
    /// Flushes and closes that these were asked for and have not answered, and when.
    pub flushing: Vec<(ImageId, dyad_contract::image::Token, super::block::Order)>,
    /// The read of the store under way.
    pub reading: Option<u64>,
    /// The proposal under way.
    pub proposing: Option<u64>,
    /// An image was asked to write what an atomic write notes, and nothing that it is about yet (M21).
    pub has_noted: bool,
}

impl PartSlot {
    /// Which moment of an atomic write it is when its image is asked for this.
    pub fn note_atomic(&mut self, request: &Request) -> Option<Trigger> {
        let Request::Write(write) = request else { return None };
        let is_noted = std::mem::replace(&mut self.has_noted, write.piece.extent.is_hidden());
        match (is_noted, self.has_noted) {
            (false, true) => Some(Trigger::Noting),
            (true, false) => Some(Trigger::Carrying),
            _ => None,
        }
    }

    /// Its image is asked for something.
    pub fn note(
        &mut self,
        image: ImageId,
        token: dyad_contract::image::Token,
        request: &Request,
        now: super::block::Order,
    ) {
        match request {
            Request::Read { .. } | Request::Write { .. } => self.asked.push((image, token)),
            Request::Flush | Request::Close { .. } => self.flushing.push((image, token, now)),
            _ => {}
        }
    }
}

/// A session of a host.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose.
    pub host: usize,
    /// Its number, unique in the run.
    pub number: SessionNo,
    /// Of which segment's volume.
    pub segment: usize,
    /// Whether commands are taken.
    pub is_open: bool,
}

/// An operation that was handed to a part and not answered.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Its name at the part.
    pub id: OpId,
    /// Its session.
    pub session: SessionNo,
    /// Its number at the host, and which try.
    pub op: u64,
    /// Which try.
    pub attempt: u32,
    /// Another node, the owner, has answered it.
    pub is_forwarded: bool,
}

/// The process.
pub struct Process {
    /// Its life of the node.
    pub incarnation: Incarnation,
    /// Its only pool, if it could be opened.
    pub pool: Option<Pool>,
    /// Its table of leases.
    pub leases: Leases,
    /// By place of the segment; none until the store was read.
    pub parts: Vec<Option<PartSlot>>,
    /// Sessions of hosts.
    pub sessions: Vec<Session>,
    /// Operations of hosts.
    pub pending: Vec<Pending>,
    /// Logins that wait until operations of an older session are answered (session reinstatement).
    pub logins: Vec<(SessionNo, SessionNo)>,
    /// Name of the next operation.
    pub next_op: u64,
    /// The lives of the other nodes, as their last hello said.
    pub peers: Vec<Option<Incarnation>>,
    /// Of each of them, which segments it has a part of, as it said on this connection.
    pub theirs: Vec<Vec<bool>>,
    /// When the earliest tick is under way.
    pub tick_at: Option<Time>,
    /// Whether a step of the disk is under way.
    pub is_disk_busy: bool,
    /// Times a tick came without time passing.
    pub spins: u32,
    /// What has to be done.
    pub actions: VecDeque<(usize, PartAction)>,
    /// What the pool wants of the disk.
    pub disk_ops: Vec<DiskOp>,
}

/// A machine.
pub struct Machine {
    /// Place in the run.
    pub no: usize,
    /// Whether its power is on.
    pub is_on: bool,
    /// Its present start.
    pub boot: BootId,
    /// Starts of the machine so far.
    pub boots: u8,
    /// Starts of the node so far; durable.
    pub starts: u64,
    /// Rises when a process begins and when it ends: what belongs to another life is void.
    pub life: u32,
    /// Its clock.
    pub clock: Clock,
    /// How wrong the clock shall run from the next start on.
    pub ppm: i64,
    /// The process, if one runs.
    pub process: Option<Box<Process>>,
    /// Its disk; outlives everything.
    pub disk: SimDisk,
    /// Its L; outlives processes.
    pub log: SimLog,
    /// Count of reasons for which the process is stopped.
    pub pauses: u32,
    /// What waits for a process that is stopped.
    pub backlog: Vec<Local>,
    /// How much slower than usual the disk is; none: it does nothing.
    pub disk_pace: Option<u64>,
    /// The process dies in the next call of its pool.
    pub dies_amid_call: bool,
    /// Nothing starts it before this time.
    pub rests_until: Time,
    /// The disk as it was at some time before.
    pub old_disk: Option<SimDisk>,
    /// The disk that stands in the place of this one at the next start, if the others went on without this node.
    pub other_disk: Option<SimDisk>,
    /// Chance of this machine alone.
    pub rng: Rng,
}

impl Machine {
    /// The life that runs now, or ran last.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation { boot: self.boot, start: self.starts }
    }

    /// Whether a process runs and is not stopped.
    pub fn is_running(&self) -> bool {
        self.process.is_some() && self.pauses == 0
    }

    /// The machine's next start.
    pub fn switch_on(&mut self, now: Time) {
        self.boots += 1;
        self.boot = BootId::from_bytes([self.no as u8 + 1, self.boots, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
        (self.is_on, self.clock) = (true, Clock::started(now, self.ppm));
    }

    /// Opens the pool.
    pub fn open_pool(&mut self, slab: &Slab) -> Result<Pool, OpenError> {
        let config = OpenConfig { pool: Some(pool_id(self.no)), slab: slab.clone() };
        let (pool, _) = Pool::open(&mut self.disk, Box::new(self.log.clone()), &config)?;
        self.log.mark();
        Ok(pool)
    }

    /// Makes an empty pool of this node on another disk.
    pub fn format(&self, to: &mut SimDisk) -> Result<(), dyad_pool::FormatError> {
        let disk = DiskId::from_bytes([0xd0 + self.no as u8, self.boots, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        let config = FormatConfig { pool: pool_id(self.no), disk, node: node_id(self.no), overwrite: false };
        Pool::format(to, &config)
    }
}
