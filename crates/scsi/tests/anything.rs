//! Whatever a host sends, it is answered, and the volume is never asked beyond its end.

mod common;

use common::{HOST, payload, settings};
use dyad_contract::volume::{
    ATOMIC_BLOCKS_MAX, Edition, STATE_BYTES_MAX, VolumeDone, VolumeError, VolumeOp, VolumeResult,
};
use dyad_payload::{Payload, Slab};
use dyad_scsi::{
    Attention, Begun, BlockSize, COMMANDS, Errand, InitiatorPort, LogicalUnit, NodeOp, Response, Run, Status, Step,
    Task, Transfer, Unreached, Who,
};
use dyad_units::{Bytes, Epoch, Period, Span};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

/// Steps of the longest command: an EXTENDED COPY of sixteen segments of 65,535 blocks of 4 KiB, by the MiB.
const STEPS_MAX: usize = 16 * 256 * 2;
/// MAXIMUM TRANSFER LENGTH, and both halves of the longest COMPARE AND WRITE.
const DATA_OUT_MAX: u32 = 8 << 20;

/// A command, and what becomes of it.
#[derive(Clone, Debug)]
struct Case {
    lun: u64,
    cdb: [u8; 16],
    transfer: Transfer,
    data: Vec<u8>,
    error: Option<VolumeError>,
    attention: bool,
}

/// Half of them complete noise; the others a known operation code with fields that are often right.
fn cdb() -> impl Strategy<Value = [u8; 16]> {
    let known =
        (0..COMMANDS.len(), any::<[u8; 16]>(), any::<[u8; 16]>(), 0..3_u8).prop_map(|(at, noise, mask, how)| {
            let command = &COMMANDS[at];
            let mut cdb = [0; 16];
            for (at, byte) in cdb.iter_mut().enumerate() {
                let usage = command.usage.get(at).copied().unwrap_or(0);
                *byte = match how {
                    0 => noise[at] & usage,
                    1 => noise[at] & usage & mask[at],
                    // Small numbers: high bytes zero.
                    _ if usage == 0xff && at < command.usage.len() - 4 => 0,
                    _ => noise[at] & usage & mask[at],
                };
            }
            cdb[0] = command.opcode();
            if let Some(action) = command.service_action {
                cdb[1] = cdb[1] & 0xe0 | action;
            }
            cdb
        });
    prop_oneof![1 => any::<[u8; 16]>(), 4 => known]
}

/// A list of PERSISTENT RESERVE OUT that is nearly right.
fn reserve_list() -> impl Strategy<Value = Vec<u8>> {
    let id = (0..3_u8, any::<bool>()).prop_map(|(host, is_port)| {
        let text =
            if is_port { format!("iqn.2026-11.example:h{host},i,0x00000000000{host}") } else { "iqn.x:host".into() };
        let len = (text.len() + 1).next_multiple_of(4).max(20);
        let mut id = vec![if is_port { 0x45 } else { 0x05 }, 0, 0, len as u8];
        id.extend(text.as_bytes());
        id.resize(4 + len, 0);
        id
    });
    (0..3_u64, 0..3_u64, 0..16_u8, any::<bool>(), vec(id, 0..3)).prop_map(|(key, new_key, flags, moves, ids)| {
        let mut list = Vec::new();
        list.extend(key.to_be_bytes());
        list.extend(new_key.to_be_bytes());
        let ids = ids.concat();
        let len = (ids.len() as u32).to_be_bytes();
        if moves {
            list.extend([0, flags & 3, 0, 1]);
        } else {
            list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
        }
        list.extend(len);
        list.extend(ids);
        if flags & 8 == 0 {
            list.truncate(24)
        }
        list
    })
}

/// Noise, zeros, or an UNMAP or MODE SELECT list that is nearly right.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let list = (0..40_u16, vec((0..5000_u64, 0..5000_u32), 0..40)).prop_map(|(count, descriptors)| {
        let mut list = vec![0, 0];
        list.extend((count * 16).to_be_bytes());
        list.extend([0; 4]);
        for (lba, blocks) in descriptors {
            list.extend(lba.to_be_bytes());
            list.extend(blocks.to_be_bytes());
            list.extend([0; 4]);
        }
        list
    });
    let copy = (0..3_usize, vec((0..400_u64, 0..400_u64, 0..300_u16), 0..4)).prop_map(copy_list);
    let pages = vec(prop_oneof![Just(0_u8), Just(8), Just(10), Just(18), any::<u8>()], 0..80);
    prop_oneof![
        vec(any::<u8>(), 0..2000),
        (0..9000_usize).prop_map(|len| vec![0; len]),
        list,
        pages,
        copy,
        reserve_list()
    ]
}

/// A list of EXTENDED COPY that is nearly right: of 4 KiB blocks, from and to the volume of every test, or another one.
fn copy_list((cscds, segments): (usize, Vec<(u64, u64, u16)>)) -> Vec<u8> {
    let mut list = vec![0; 16];
    list[2..4].copy_from_slice(&(32 * cscds as u16).to_be_bytes());
    list[8..12].copy_from_slice(&(28 * segments.len() as u32).to_be_bytes());
    for number in 0..cscds {
        let mut cscd = common::cscd(4096);
        cscd[23] ^= number as u8;
        list.extend(cscd);
    }
    for (source, destination, blocks) in segments {
        let (from, to) = if cscds == 2 { (source as u16 % 2, destination as u16 % 2) } else { (0, 0) };
        list.extend(common::segment(from, to, source, destination, blocks));
    }
    list
}

fn error() -> impl Strategy<Value = VolumeError> {
    prop_oneof![
        any::<u64>().prop_map(|offset| VolumeError::Miscompare { offset }),
        any::<u64>().prop_map(|offset| VolumeError::Medium { offset }),
        Just(VolumeError::NoSpace),
        Just(VolumeError::Busy),
        Just(VolumeError::Aborted),
        Just(VolumeError::WriteFault),
        Just(VolumeError::OutOfRange),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let lun = prop_oneof![9 => Just(0_u64), 1 => any::<u64>()];
    let len = prop_oneof![3 => Just(None), 1 => any::<u32>().prop_map(Some)];
    let error = prop_oneof![3 => Just(None), 1 => error().prop_map(Some)];
    (lun, cdb(), data(), len, 0..4_u8, error, any::<bool>()).prop_map(|(lun, cdb, data, len, way, error, attention)| {
        let len = len.unwrap_or(data.len() as u32);
        let transfer = match way {
            0 => Transfer::None,
            1 => Transfer::In(len),
            _ => Transfer::Out(len),
        };
        Case { lun, cdb, transfer, data, error, attention: attention && way == 0 }
    })
}

struct Checker {
    unit: LogicalUnit,
    slab: Slab,
    state: Vec<u8>,
    changes: u64,
}

impl Checker {
    fn new(block: BlockSize, size: Bytes) -> Self {
        let slab = Slab::new(64 << 20);
        let mut unit = LogicalUnit::new(settings(block, size), slab.clone());
        unit.add_nexus(HOST, None).unwrap();
        unit.set_initiator(HOST, InitiatorPort::new("iqn.2026-11.example:host", [1; 6]).unwrap());
        Self { unit, slab, state: Vec::new(), changes: 0 }
    }

    fn run(&mut self, case: &Case) {
        if case.attention {
            self.unit.attend(Who::All, Attention::CapacityChanged);
        }
        let mut cdb = case.cdb;
        if cdb[0] == 0x83 && cdb[10] == 0 {
            // Otherwise a copy's list hardly ever has the length that the CDB says.
            cdb[12..14].copy_from_slice(&(case.data.len() as u16).to_be_bytes());
        }
        let begun = self.unit.begin(HOST, case.lun, &cdb, case.transfer);
        let mut step = match self.with_state(begun, case) {
            Begun::Answer(response) => return self.check_response(&response),
            Begun::State { .. } => panic!("{case:02x?}: the state was brought"),
            Begun::Volume { task, op } => Step::Volume { task, op },
            Begun::Node { task, op } => Step::Node { task, op },
            Begun::DataOut { task, len } => {
                assert!((1..=DATA_OUT_MAX).contains(&len));
                let data = &case.data[..case.data.len().min(len as usize)];
                self.unit.data_out(task, payload(&self.slab, data))
            }
        };
        for _ in 0..=STEPS_MAX {
            let (task, op) = match step {
                Step::Answer(response) => return self.check_response(&response),
                Step::State { task } => match self.with_state(Begun::State { task }, case) {
                    Begun::Answer(response) => return self.check_response(&response),
                    Begun::Volume { task, op } => (task, op),
                    Begun::DataOut { .. } | Begun::State { .. } | Begun::Node { .. } => {
                        panic!("{case:02x?}: it has what it wants")
                    }
                },
                Step::Volume { task, op } => (task, op),
                Step::Node { task, op } => {
                    step = self.ask_node(task, op, case);
                    continue;
                }
            };
            if let VolumeOp::WriteState { data } = &op
                && case.error.is_none()
            {
                self.state = data.to_vec();
            }
            self.check_op(&op);
            assert_eq!(task.nexus(), HOST);
            let result = case.error.map_or_else(|| self.answer(&op), Err);
            step = self.unit.finish(task, result);
        }
        panic!("{case:02x?} does not end");
    }

    /// Runs of any length: what the node says is not trusted to fit.
    fn ask_node(&mut self, task: Task, op: NodeOp, case: &Case) -> Step {
        match (op, case.error) {
            (NodeOp::Pause { period }, _) => {
                assert!(period <= Period::from_secs(2));
                self.unit.paused(task)
            }
            (NodeOp::Errand(errand), error) => self.run_errand(task, errand, error),
            (_, Some(error)) => self.unit.finish(task, Err(error)),
            (NodeOp::Look { span }, None) => {
                assert!(span.end() <= self.unit.shape().size().value());
                let run = |&byte: &u8| Run { blocks: u32::from(byte), is_unwritten: byte % 2 == 0 };
                let runs: Vec<Run> = case.data.iter().map(run).collect();
                self.unit.looked(task, &runs)
            }
            (NodeOp::Move { .. }, None) => self.unit.finish(task, Ok(VolumeDone::Done)),
        }
    }

    /// The other volume has as many blocks as a chunk, or refuses with whatever the case has for an error.
    fn run_errand(&mut self, task: Task, errand: Errand, error: Option<VolumeError>) -> Step {
        let (cdb, transfer) = errand.command();
        let data = task.errand_data();
        let ended = match (transfer, error) {
            (_, Some(VolumeError::NoSpace)) => Err(Unreached::NotThere),
            (_, Some(VolumeError::Medium { .. })) => Err(Unreached::OtherBlocks),
            (_, Some(VolumeError::Busy)) => Ok(Response::status(Status::Busy)),
            (_, Some(_)) => Ok(Response::status(Status::ReservationConflict)),
            (Transfer::In(len), None) => {
                assert_eq!((cdb[0], data.len()), (0x88, 0));
                Ok(Response::data(payload(&self.slab, &vec![7; len as usize])))
            }
            (Transfer::Out(len), None) => {
                assert_eq!((cdb[0], data.len()), (0x8a, len as usize));
                Ok(Response::good())
            }
            (Transfer::None, None) => {
                assert_eq!((cdb[0], data.is_zero()), (0x93, true));
                Ok(Response::good())
            }
        };
        self.unit.ran(task, ended)
    }

    /// Brings the state when it is wanted; now and then it is gone at once.
    fn with_state(&mut self, begun: Begun, case: &Case) -> Begun {
        let Begun::State { task } = begun else { return begun };
        self.changes += 1;
        self.unit.adopt(Edition { epoch: Epoch::new(1), changes: self.changes }, &self.state).unwrap();
        let begun = self.unit.again(task);
        if case.attention {
            self.unit.forget_state();
        }
        begun
    }

    fn answer(&self, op: &VolumeOp) -> VolumeResult {
        let VolumeOp::Read { span } = op else { return Ok(VolumeDone::Done) };
        let mut data = Payload::new();
        let buf = self.slab.copy_of(&vec![0; Slab::LEN_MAX.min(span.len() as usize)]).unwrap();
        while (data.len() as u64) < span.len() {
            data.push(buf.slice(0, buf.len().min(span.len() as usize - data.len())));
        }
        Ok(VolumeDone::Data(data))
    }

    fn check_op(&self, op: &VolumeOp) {
        let end = self.unit.shape().size().value();
        let block = self.unit.shape().block().bytes() as usize;
        let check = |span: &Span| {
            assert!(span.end() <= end, "{op:?}");
            assert_eq!((span.offset() % block as u64, span.len() % block as u64), (0, 0));
        };
        match op {
            VolumeOp::Read { span } | VolumeOp::Verify { span } => check(span),
            VolumeOp::Write { span, data, .. } | VolumeOp::Compare { span, expected: data } => {
                check(span);
                assert_eq!(data.len() as u64, span.len());
            }
            VolumeOp::WriteAtomic { span, data } => {
                check(span);
                assert_eq!(data.len() as u64, span.len());
                let (first, last) = span.blocks();
                assert!(last.0 - first.0 < ATOMIC_BLOCKS_MAX, "{op:?}");
            }
            VolumeOp::Fill { span, pattern, .. } => {
                check(span);
                assert_eq!(pattern.len(), block);
            }
            VolumeOp::Unmap { spans, .. } => {
                assert!(!spans.is_empty());
                spans.iter().for_each(check);
            }
            VolumeOp::CompareAndWrite { span, expected, data, .. } => {
                check(span);
                assert_eq!((expected.len() as u64, data.len() as u64), (span.len(), span.len()));
            }
            VolumeOp::Flush => {}
            VolumeOp::WriteState { data } => assert!(data.len() <= STATE_BYTES_MAX),
            VolumeOp::ReadState => panic!("that is for whoever runs commands"),
        }
    }

    fn check_response(&self, response: &Response) {
        assert_eq!(response.sense.is_some(), response.status == Status::CheckCondition, "{response:?}");
        assert!(response.data_in.is_empty() || response.status == Status::Good);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_command_is_answered_and_stays_within_the_volume(case in case(), shape in 0..4_u8) {
        let (block, size) = match shape {
            0 => (BlockSize::Emulated512, Bytes::kib(4)),
            1 => (BlockSize::Emulated512, Bytes::mib(3)),
            2 => (BlockSize::Native4096, Bytes::mib(700)),
            _ => (BlockSize::Emulated512, Bytes::new(Span::END_MAX)),
        };
        Checker::new(block, size).run(&case);
    }

    /// Commands leave state behind (stopped, attentions); none of it is ever in the way of an answer.
    #[test]
    fn a_sequence_of_commands_is_answered(cases in vec(case(), 1..20)) {
        let mut checker = Checker::new(BlockSize::Native4096, Bytes::mib(3));
        for case in &cases {
            checker.run(case);
        }
    }
}
