//! Several nodes with a unit each, one state of the volume, and an owner that refuses what was checked against an older one.

#![allow(dead_code)] // each test file uses its part

use dyad_contract::volume::{Edition, VolumeDone, VolumeOp, VolumeResult};
use dyad_payload::{Payload, Slab};
use dyad_scsi::{
    AccessState, Attention, Begun, BlockSize, InitiatorPort, LogicalUnit, NexusId, NodeOp, PortGroup, Response, Task,
    Transfer, Unreached,
};
use dyad_units::Epoch;

use super::{SIZE, padded, payload, settings};

/// One node.
pub struct Node {
    pub unit: LogicalUnit,
    /// Commands that were carried out on the medium here.
    pub done: usize,
}

/// All of it.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub state: Vec<u8>,
    /// The owner's.
    pub edition: Edition,
    pub slab: Slab,
    /// Answers of the next writes of the state, first first; whether it is written all the same.
    pub doubts: Vec<bool>,
}

/// A session: at which node, and of which host.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct At {
    pub node: usize,
    pub host: u8,
}

impl At {
    pub fn nexus(self) -> NexusId {
        NexusId(u64::from(self.host))
    }

    /// The target port of the node.
    pub fn target(self) -> u16 {
        self.node as u16 + 1
    }
}

pub fn name_of(host: u8) -> String {
    format!("iqn.2026-11.example:host{host}")
}

pub fn port_of(host: u8) -> InitiatorPort {
    InitiatorPort::new(&name_of(host), [0, 0, 0, 0, 0, host]).unwrap()
}

/// The TransportID of a host's port.
pub fn id_of(host: u8) -> Vec<u8> {
    let mut id = format!("{},i,0x0000000000{host:02x}", name_of(host)).into_bytes();
    id.resize((id.len() + 1).next_multiple_of(4), 0);
    [&[0x45, 0, 0, id.len() as u8][..], &id].concat()
}

impl Cluster {
    /// `hosts` have a session at each of the nodes.
    pub fn new(nodes: usize, hosts: u8) -> Self {
        Self::of_ports(nodes, hosts, |at| at as u16 + 1)
    }

    /// With other numbers of the nodes' target ports.
    pub fn of_ports(nodes: usize, hosts: u8, port_of: impl Fn(usize) -> u16) -> Self {
        let slab = Slab::new(64 << 20);
        let group = |port| PortGroup { group: port, port, state: AccessState::Optimized, is_preferred: false };
        let groups: Vec<PortGroup> = (1..=nodes as u16).map(group).collect();
        let node = |at: usize| {
            let mut settings = settings(BlockSize::Emulated512, SIZE);
            settings.identity.target_port = port_of(at);
            let mut unit = LogicalUnit::new(settings, slab.clone());
            unit.set_port_groups(&groups);
            Node { unit, done: 0 }
        };
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let edition = Edition { epoch: Epoch::new(1), changes: 0 };
        let mut cluster = Self { nodes, state: Vec::new(), edition, slab, doubts: Vec::new() };
        for node in 0..cluster.nodes.len() {
            (0..hosts).for_each(|host| cluster.login(At { node, host }, None));
        }
        cluster
    }

    pub fn login(&mut self, at: At, first: Option<Attention>) {
        let unit = &mut self.nodes[at.node].unit;
        unit.add_nexus(at.nexus(), first).unwrap();
        unit.set_initiator(at.nexus(), port_of(at.host));
    }

    /// The session is lost.
    pub fn lose(&mut self, at: At) {
        if let Some(task) = self.nodes[at.node].unit.remove_nexus(at.nexus()) {
            self.go_on(at, Begun::State { task }, &[]);
        }
    }

    /// A LOGICAL UNIT RESET through one node.
    pub fn reset(&mut self, node: usize) {
        let task = self.nodes[node].unit.reset();
        self.go_on(At { node, host: 0 }, Begun::State { task }, &[]);
    }

    /// An administrator has the state forgotten through one node.
    pub fn forget(&mut self, node: usize, is_forced: bool) -> Response {
        let task = self.nodes[node].unit.forget_reservations(is_forced);
        self.go_on(At { node, host: 0 }, Begun::State { task }, &[])
    }

    /// The same, where nobody can read the state.
    pub fn forget_unread(&mut self, node: usize) -> Response {
        let edition = self.edition;
        let unit = &mut self.nodes[node].unit;
        unit.forget_state();
        let task = unit.forget_reservations(false);
        let Begun::Volume { task, op } = unit.begin_anew(task, edition) else { panic!("nothing is written") };
        let result = self.carry_out(node, &op);
        let begun = self.nodes[node].unit.finish(task, result).into();
        self.go_on(At { node, host: 0 }, begun, &[])
    }

    /// Another owner, or the same one after a change of the images: a new edition of the same state.
    pub fn next_epoch(&mut self) {
        self.edition = Edition { epoch: self.edition.epoch.next(), changes: 0 };
    }

    /// A command, to its end.
    pub fn run(&mut self, at: At, cdb: &[u8], data: &[u8]) -> Response {
        let transfer = if data.is_empty() { Transfer::In(u32::MAX) } else { Transfer::Out(data.len() as u32) };
        let begun = self.nodes[at.node].unit.begin(at.nexus(), 0, &padded(cdb), transfer);
        self.go_on(at, begun, data)
    }

    fn go_on(&mut self, at: At, mut begun: Begun, data: &[u8]) -> Response {
        for _ in 0..100 {
            begun = match begun {
                Begun::Answer(response) => return response,
                Begun::State { task } => {
                    self.bring_state(at.node);
                    self.nodes[at.node].unit.again(task)
                }
                Begun::DataOut { task, len } => {
                    let data = payload(&self.slab, &data[..data.len().min(len as usize)]);
                    self.nodes[at.node].unit.data_out(task, data).into()
                }
                Begun::Volume { task, op } => self.ask(at.node, task, op),
                Begun::Node { task, op } => {
                    let Node { unit, done } = &mut self.nodes[at.node];
                    *done += 1;
                    match op {
                        NodeOp::Look { .. } => unit.looked(task, &[]).into(),
                        NodeOp::Move { .. } => unit.finish(task, Ok(VolumeDone::Done)).into(),
                        NodeOp::Pause { .. } => unit.paused(task).into(),
                        NodeOp::Errand(_) => unit.ran(task, Err(Unreached::NotThere)).into(),
                    }
                }
            };
        }
        panic!("a command without an end");
    }

    /// A node reads the state.
    pub fn bring_state(&mut self, node: usize) {
        self.nodes[node].unit.adopt(self.edition, &self.state).unwrap();
    }

    /// The owner is asked: it carries out only what was checked against the newest state.
    fn ask(&mut self, node: usize, task: Task, op: VolumeOp) -> Begun {
        if self.nodes[node].unit.edition() != Some(self.edition) {
            self.bring_state(node);
            return self.nodes[node].unit.overtaken(task, op);
        }
        let result = self.carry_out(node, &op);
        self.nodes[node].unit.finish(task, result).into()
    }

    fn carry_out(&mut self, node: usize, op: &VolumeOp) -> VolumeResult {
        match op {
            VolumeOp::WriteState { data } => {
                let is_doubtful = !self.doubts.is_empty();
                if !is_doubtful || self.doubts.remove(0) {
                    self.state = data.to_vec();
                }
                if is_doubtful {
                    // As at a change of the owner: nobody knows whether it was written (M9).
                    self.next_epoch();
                    return Err(dyad_contract::volume::VolumeError::Busy);
                }
                self.edition = self.edition.next();
            }
            VolumeOp::Read { span } => {
                self.nodes[node].done += 1;
                let zeros: Payload = payload(&self.slab, &vec![0; span.len() as usize]);
                return Ok(VolumeDone::Data(zeros));
            }
            _ => self.nodes[node].done += 1,
        }
        Ok(VolumeDone::Done)
    }
}

/// PERSISTENT RESERVE OUT with the basic list.
pub fn reserve_out(action: u8, kind: u8, key: u64, new_key: u64, flags: u8) -> ([u8; 10], Vec<u8>) {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes()].concat();
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    (reserve_out_cdb(action, kind, list.len()), list)
}

/// REGISTER with SPEC_I_PT.
pub fn register_others(new_key: u64, flags: u8, ids: &[Vec<u8>]) -> ([u8; 10], Vec<u8>) {
    let (_, mut list) = reserve_out(0, 0, 0, new_key, flags | 0x08);
    let ids = ids.concat();
    list.extend((ids.len() as u32).to_be_bytes());
    list.extend(ids);
    (reserve_out_cdb(0, 0, list.len()), list)
}

/// REGISTER AND MOVE.
pub fn register_and_move(key: u64, new_key: u64, flags: u8, to: At) -> ([u8; 10], Vec<u8>) {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes()].concat();
    let id = id_of(to.host);
    list.extend([0, flags]);
    list.extend(to.target().to_be_bytes());
    list.extend((id.len() as u32).to_be_bytes());
    list.extend(id);
    (reserve_out_cdb(7, 0, list.len()), list)
}

fn reserve_out_cdb(action: u8, kind: u8, len: usize) -> [u8; 10] {
    let [_, _, high, low] = (len as u32).to_be_bytes();
    [0x5f, action, kind, 0, 0, 0, 0, high, low, 0]
}

/// PERSISTENT RESERVE IN.
pub fn reserve_in(action: u8) -> [u8; 10] {
    [0x5e, action, 0, 0, 0, 0, 0, 0xff, 0xff, 0]
}
