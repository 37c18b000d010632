//! A host, a logical unit and a volume of plain memory.

#![allow(dead_code)] // each test file uses its part

pub mod cluster;
pub mod copying;
pub mod play;

use dyad_contract::volume::{Edition, VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_payload::{Payload, Slab};
use dyad_scsi::{
    AccessState, Begun, BlockSize, Errand, Identity, InitiatorPort, LogicalUnit, NexusId, NodeOp, PortGroup, Response,
    Right, Run, Settings, Shape, Status, Step, Task, Transfer, Unreached,
};
use dyad_units::{Bytes, Epoch, Span, VolumeId};

/// The volume's id in every test.
pub const VOLUME: VolumeId = VolumeId::from_bytes(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10");
/// The nexus that the host speaks through.
pub const HOST: NexusId = NexusId(7);
/// The state that a unit of the tests begins with is there from the start.
pub const EDITION: Edition = Edition { epoch: Epoch::new(1), changes: 0 };
/// Size of the volume, unless a test says otherwise.
pub const SIZE: Bytes = Bytes::mib(1);

pub fn settings(block: BlockSize, size: Bytes) -> Settings {
    Settings {
        identity: Identity {
            volume: VOLUME,
            target_name: "iqn.2026-11.example:v1".into(),
            target_port: 1,
            target_port_group: 2,
        },
        shape: Shape::new(block, size).unwrap(),
        write_cache: true,
        read_only: false,
    }
}

/// A volume of plain memory that can be told to fail.
pub struct Memory {
    pub bytes: Vec<u8>,
    /// Answers of the next operations, first first, instead of carrying them out.
    pub failures: Vec<VolumeError>,
    /// The same, of flushes alone.
    pub flush_failures: Vec<VolumeError>,
    /// Answers of the next writes, which are carried out all the same: their owner was lost before it could say so.
    pub forgotten: Vec<VolumeError>,
    /// What was asked, in short.
    pub asked: Vec<String>,
    /// Writes of another host: one takes place before each compare-and-write, first first.
    pub meanwhile: Vec<(usize, Vec<u8>)>,
    /// The SCSI state.
    pub state: Vec<u8>,
}

impl Memory {
    fn new(size: Bytes) -> Self {
        Self {
            bytes: vec![0; size.value() as usize],
            failures: Vec::new(),
            forgotten: Vec::new(),
            flush_failures: Vec::new(),
            asked: Vec::new(),
            meanwhile: Vec::new(),
            state: Vec::new(),
        }
    }

    fn at(&mut self, span: Span) -> &mut [u8] {
        &mut self.bytes[span.offset() as usize..span.end() as usize]
    }

    fn compare(&mut self, span: Span, expected: &Payload) -> Result<(), VolumeError> {
        assert_eq!(expected.len() as u64, span.len());
        let expected = expected.to_vec();
        match self.at(span).iter().zip(&expected).position(|(is, should)| is != should) {
            None => Ok(()),
            Some(at) => Err(VolumeError::Miscompare { offset: at as u64 }),
        }
    }

    fn note(&mut self, op: &VolumeOp) {
        let (what, span, durable) = match op {
            VolumeOp::Read { span } => ("read", Some(span), false),
            VolumeOp::Write { span, durable, .. } => ("write", Some(span), *durable),
            VolumeOp::Fill { span, durable, .. } => ("fill", Some(span), *durable),
            VolumeOp::Unmap { spans, durable } => ("unmap", spans.first(), *durable),
            VolumeOp::CompareAndWrite { span, durable, .. } => ("compare-and-write", Some(span), *durable),
            VolumeOp::WriteAtomic { span, .. } => ("write-atomic", Some(span), true),
            VolumeOp::Compare { span, .. } => ("compare", Some(span), false),
            VolumeOp::Verify { span } => ("verify", Some(span), false),
            VolumeOp::Flush => ("flush", None, false),
            VolumeOp::ReadState => ("read-state", None, false),
            VolumeOp::WriteState { .. } => ("write-state", None, true),
        };
        let durable = if durable { " durable" } else { "" };
        let range = span.map(|span| format!(" {}+{}", span.offset(), span.len())).unwrap_or_default();
        self.asked.push(format!("{what}{range}{durable}"));
    }

    fn run(&mut self, slab: &Slab, op: VolumeOp) -> VolumeResult {
        self.note(&op);
        if !self.failures.is_empty() {
            return Err(self.failures.remove(0));
        }
        let is_write = matches!(
            op,
            VolumeOp::Write { .. }
                | VolumeOp::WriteAtomic { .. }
                | VolumeOp::Unmap { .. }
                | VolumeOp::CompareAndWrite { .. }
        );
        match op {
            VolumeOp::Flush if !self.flush_failures.is_empty() => return Err(self.flush_failures.remove(0)),
            VolumeOp::Read { span } => return Ok(VolumeDone::Data(payload(slab, self.at(span)))),
            VolumeOp::Write { span, data, .. } => data.copy_to(self.at(span)),
            VolumeOp::WriteAtomic { span, data } => {
                assert_eq!(data.len() as u64, span.len());
                data.copy_to(self.at(span));
            }
            VolumeOp::Fill { span, pattern, .. } => {
                assert_eq!(span.len() % pattern.len() as u64, 0);
                let pattern = pattern.to_vec();
                self.at(span).chunks_exact_mut(pattern.len()).for_each(|block| block.copy_from_slice(&pattern));
            }
            VolumeOp::Unmap { spans, .. } => {
                assert!(!spans.is_empty());
                spans.into_iter().for_each(|span| self.at(span).fill(0));
            }
            VolumeOp::CompareAndWrite { span, expected, data, .. } => {
                if !self.meanwhile.is_empty() {
                    let (at, bytes) = self.meanwhile.remove(0);
                    self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                self.compare(span, &expected)?;
                data.copy_to(self.at(span));
            }
            VolumeOp::Compare { span, expected } => self.compare(span, &expected)?,
            VolumeOp::Verify { span } => drop(self.at(span).to_vec()),
            VolumeOp::ReadState => return Ok(VolumeDone::Data(payload(slab, &self.state))),
            VolumeOp::WriteState { data } => self.state = data.to_vec(),
            VolumeOp::Flush => {}
        }
        if is_write && !self.forgotten.is_empty() {
            return Err(self.forgotten.remove(0));
        }
        Ok(VolumeDone::Done)
    }
}

/// Bytes in buffers that break at odd places, as a transport's do.
pub fn payload(slab: &Slab, bytes: &[u8]) -> Payload {
    let mut payload = Payload::new();
    for (at, part) in bytes.chunks(60_001).enumerate() {
        let cut = if at == 0 { part.len() / 3 } else { 0 };
        payload.push(slab.copy_of(&part[..cut]).unwrap());
        payload.push(slab.copy_of(&part[cut..]).unwrap());
    }
    payload
}

/// Everything together.
pub struct Bench {
    pub unit: LogicalUnit,
    pub volume: Memory,
    pub slab: Slab,
    /// LUN that commands go to.
    pub lun: u64,
    /// Where errands go.
    pub other: Option<Box<Bench>>,
    /// What errands may do here.
    pub right: Right,
}

/// The nexus of errands.
pub const ERRAND: NexusId = NexusId(99);

impl Bench {
    pub fn new() -> Self {
        Self::with(settings(BlockSize::Emulated512, SIZE))
    }

    /// With 4096-byte logical blocks.
    pub fn native() -> Self {
        Self::with(settings(BlockSize::Native4096, SIZE))
    }

    pub fn with(settings: Settings) -> Self {
        let slab = Slab::new(64 << 20);
        let memory = settings.shape.size().min(SIZE);
        let mut unit = LogicalUnit::new(settings, slab.clone());
        unit.adopt(EDITION, &[]).unwrap();
        unit.add_nexus(HOST, None).unwrap();
        Self { unit, volume: Memory::new(memory), slab, lun: 0, other: None, right: Right::Full }
    }

    /// A command that takes data in, or none.
    pub fn run(&mut self, cdb: &[u8]) -> Response {
        self.run_as(HOST, cdb)
    }

    pub fn run_as(&mut self, nexus: NexusId, cdb: &[u8]) -> Response {
        let begun = self.unit.begin(nexus, self.lun, &padded(cdb), Transfer::In(u32::MAX));
        self.complete(begun, &[])
    }

    /// A command with data-out, announced in its length.
    pub fn send(&mut self, cdb: &[u8], data: &[u8]) -> Response {
        self.send_as(HOST, cdb, data)
    }

    pub fn send_as(&mut self, nexus: NexusId, cdb: &[u8], data: &[u8]) -> Response {
        let begun = self.unit.begin(nexus, self.lun, &padded(cdb), Transfer::Out(data.len() as u32));
        self.complete(begun, data)
    }

    fn complete(&mut self, begun: Begun, data: &[u8]) -> Response {
        let step = match begun {
            Begun::Answer(response) => return response,
            Begun::State { task } => {
                let begun = self.read_state(task);
                return self.complete(begun, data);
            }
            Begun::Volume { task, op } => Step::Volume { task, op },
            Begun::Node { task, op } => Step::Node { task, op },
            Begun::DataOut { task, len } => {
                assert_ne!(len, 0);
                let data = &data[..data.len().min(len as usize)];
                self.unit.data_out(task, payload(&self.slab, data))
            }
        };
        self.drive(step)
    }

    fn drive(&mut self, mut step: Step) -> Response {
        loop {
            let (task, op): (Task, VolumeOp) = match step {
                Step::Answer(response) => return response,
                Step::State { task } => {
                    let begun = self.read_state(task);
                    return self.complete(begun, &[]);
                }
                Step::Volume { task, op } => (task, op),
                Step::Node { task, op: NodeOp::Look { span } } => {
                    step = self.look(task, span);
                    continue;
                }
                Step::Node { task, op: NodeOp::Move { group } } => {
                    step = self.make_owner(task, group);
                    continue;
                }
                Step::Node { task, op: NodeOp::Pause { .. } } => {
                    step = self.unit.paused(task);
                    continue;
                }
                Step::Node { task, op: NodeOp::Errand(errand) } => {
                    step = self.run_errand(task, errand);
                    continue;
                }
            };
            let result = self.volume.run(&self.slab, op);
            step = self.unit.finish(task, result);
        }
    }

    /// As a node does that knows one other volume, and whose hosts may do there what the unit lets them.
    fn run_errand(&mut self, task: Task, errand: Errand) -> Step {
        let data = task.errand_data().to_vec();
        let ended = match &mut self.other {
            Some(other) if !other.unit.is_named(&errand.to) => Err(Unreached::NotThere),
            Some(other) if other.unit.shape().block() != errand.block => Err(Unreached::OtherBlocks),
            Some(other) => Ok(other.serve(errand, &data)),
            None => Err(Unreached::NotThere),
        };
        self.unit.ran(task, ended)
    }

    fn serve(&mut self, errand: Errand, data: &[u8]) -> Response {
        let port = InitiatorPort::new("iqn.2026-11.example:host", [1; 6]);
        self.unit.add_errand(ERRAND, self.right, port).unwrap();
        let (cdb, transfer) = errand.command();
        let begun = self.unit.begin(ERRAND, 0, &cdb, transfer);
        let response = self.complete(begun, data);
        self.unit.remove_errand(ERRAND);
        response
    }

    /// Blocks of zeros count as never written here.
    fn look(&mut self, task: Task, span: Span) -> Step {
        if !self.volume.failures.is_empty() {
            let error = self.volume.failures.remove(0);
            return self.unit.finish(task, Err(error));
        }
        let (first, last) = span.blocks();
        let blocks = self.volume.bytes.chunks(4096).skip(first.0 as usize).take((last.0 - first.0) as usize + 1);
        let runs: Vec<Run> =
            blocks.map(|block| Run { blocks: 1, is_unwritten: block.iter().all(|&byte| byte == 0) }).collect();
        self.unit.looked(task, &runs)
    }

    /// As the node does: the states change, then the answer comes.
    fn make_owner(&mut self, task: Task, group: u16) -> Step {
        if !self.volume.failures.is_empty() {
            let error = self.volume.failures.remove(0);
            return self.unit.finish(task, Err(error));
        }
        let state = |known: u16| if known == group { AccessState::Optimized } else { AccessState::NonOptimized };
        let groups: Vec<PortGroup> =
            self.unit.port_groups().iter().map(|known| PortGroup { state: state(known.group), ..*known }).collect();
        self.unit.set_port_groups(&groups);
        self.unit.finish(task, Ok(VolumeDone::Done))
    }

    /// A task of the unit's own, to its end.
    pub fn go_on(&mut self, task: Task) -> Response {
        self.drive(Step::State { task })
    }

    fn read_state(&mut self, task: Task) -> Begun {
        let edition = self.unit.edition().unwrap_or(EDITION);
        self.unit.adopt(edition, &self.volume.state).unwrap();
        self.unit.again(task)
    }

    /// What the volume was asked since the last look.
    pub fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.volume.asked)
    }
}

/// The CDB as the transport carries it.
pub fn padded(cdb: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..cdb.len()].copy_from_slice(cdb);
    padded
}

/// The data of a command that must succeed.
#[track_caller]
pub fn good(response: Response) -> Vec<u8> {
    assert_eq!(response.status, Status::Good, "{response:?}");
    assert!(response.sense.is_none());
    response.data_in.to_vec()
}

/// Key, code and qualifier of a command that must end in CHECK CONDITION.
#[track_caller]
pub fn sense(response: &Response) -> (u8, u8, u8) {
    assert_eq!(response.status, Status::CheckCondition, "{response:?}");
    assert!(response.data_in.is_empty());
    let sense = response.sense_bytes();
    assert_eq!((sense.len(), sense[0] & 0x7f, sense[7]), (18, 0x70, 10));
    (sense[2], sense[12], sense[13])
}

/// INFORMATION, if VALID is set.
pub fn information(response: &Response) -> Option<u32> {
    let sense = response.sense_bytes();
    (sense[0] & 0x80 != 0).then(|| u32::from_be_bytes(sense[3..7].try_into().unwrap()))
}

/// What the field pointer names: in the CDB?, byte, bit.
pub fn field(response: &Response) -> Option<(bool, u16, Option<u8>)> {
    let sense = response.sense_bytes();
    let [flags, high, low] = sense[15..18] else { panic!("short sense data") };
    let bit = (flags & 0x08 != 0).then_some(flags & 0x07);
    (flags & 0x80 != 0).then_some((flags & 0x40 != 0, u16::from_be_bytes([high, low]), bit))
}

/// An identification descriptor CSCD descriptor of the volume of every test (SPC-4 §6.3.5.2): by NAA designator.
pub fn cscd(block_bytes: u32) -> [u8; 32] {
    let mut cscd = [0; 32];
    cscd[0] = 0xe4;
    cscd[4..8].copy_from_slice(&[0x01, 0x03, 0, 16]);
    cscd[8..16].copy_from_slice(&[0x6d, 0x25, 0x9a, 0xd7, 0x89, 0xab, 0xcd, 0xef]);
    cscd[16..24].copy_from_slice(&[0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10]);
    cscd[28..].copy_from_slice(&block_bytes.to_be_bytes());
    cscd
}

/// A block to block segment descriptor (SPC-4 §6.3.6.3).
pub fn segment(from: u16, to: u16, source: u64, destination: u64, blocks: u16) -> [u8; 28] {
    let mut segment = [0; 28];
    segment[..4].copy_from_slice(&[0x02, 0, 0, 0x18]);
    segment[4..6].copy_from_slice(&from.to_be_bytes());
    segment[6..8].copy_from_slice(&to.to_be_bytes());
    segment[10..12].copy_from_slice(&blocks.to_be_bytes());
    segment[12..20].copy_from_slice(&source.to_be_bytes());
    segment[20..28].copy_from_slice(&destination.to_be_bytes());
    segment
}
