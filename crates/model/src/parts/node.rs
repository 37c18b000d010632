//! One node: its image, and its present life.

use dyad_cluster::{AckPolicy, Incarnation};
use dyad_mirror::{Leases, Part, PartSetup};
use dyad_units::{BootId, Epoch, ImageId, Moment, NodeId};

use crate::leases::{Known, STORE};
use crate::parts::case::{LEASE_TUNING, tuning};
use crate::parts::image::Image;
use crate::parts::world::Buffers;

/// Between the first start counters of two nodes.
const LIVES: u64 = 64;

pub(crate) fn node_id(at: usize) -> NodeId {
    NodeId::from_bytes([at as u8 + 1; 16])
}

pub(crate) fn image_id(at: usize) -> ImageId {
    ImageId::from_bytes([0x10 + at as u8; 16])
}

pub(crate) fn place_of(node: NodeId) -> usize {
    usize::from(node.to_bytes()[0]) - 1
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    start: u64,
    boots: u8,
    pub(crate) image: Image,
    /// None while the process is down.
    pub(crate) life: Option<Life>,
}

/// What a process has in memory.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) part: Part,
    pub(crate) leases: Leases,
    /// What it proposed and has heard nothing of.
    pub(crate) proposal: Option<(Known, Epoch)>,
}

impl Node {
    pub(crate) fn new(at: usize) -> Self {
        Self { at, start: at as u64 * LIVES, boots: 0, image: Image::new(), life: None }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        let boot = BootId::from_bytes([self.at as u8 + 1 + self.boots * 0x10; 16]);
        Incarnation { boot, start: self.start }
    }

    /// The process starts: it knows of the store's record what it finds there.
    pub(crate) fn start(&mut self, record: &Known, now: Moment, buffers: &Buffers) {
        self.start += 1;
        let (node, incarnation) = (node_id(self.at), self.incarnation());
        let setup = PartSetup { node, incarnation, store: STORE, policy: AckPolicy::default(), tuning: tuning() };
        let part =
            Part::new((*record.0).clone(), setup, buffers.slab.clone()).expect("a record of the model is usable");
        let leases = Leases::new(node, incarnation, LEASE_TUNING, now);
        self.life = Some(Life { part, leases, proposal: None });
    }

    pub(crate) fn crash(&mut self) {
        self.life = None;
        self.image.crash();
    }

    pub(crate) fn lose_power(&mut self) {
        self.life = None;
        self.boots += 1;
        self.image.lose_power();
    }
}
