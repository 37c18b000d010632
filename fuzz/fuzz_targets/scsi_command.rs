//! Any commands with any data-out: each ends with an answer, and what the volume is asked lies within it.
#![no_main]

use dyad_contract::volume::{Edition, VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_payload::{Payload, Slab};
use dyad_scsi::{
    Begun, BlockSize, Identity, LogicalUnit, NexusId, NodeOp, Response, Run, Settings, Shape, Step, Transfer, Unreached,
};
use dyad_units::{Bytes, Epoch, Span, VolumeId};
use libfuzzer_sys::fuzz_target;

const SIZE: u64 = 1 << 20;

/// Steps that one command may take: a COMPARE or a WRITE SAME of the whole volume in small parts.
const STEPS_MAX: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let slab = Slab::new(64 << 20);
    let block = if data.len() % 2 == 0 { BlockSize::Emulated512 } else { BlockSize::Native4096 };
    let settings = Settings {
        identity: Identity {
            volume: VolumeId::from_bytes([1; 16]),
            target_name: "iqn.2026-11.example:v".to_owned(),
            target_port: 1,
            target_port_group: 1,
        },
        shape: Shape::new(block, Bytes::new(SIZE)).unwrap(),
        write_cache: true,
        read_only: false,
    };
    let mut unit = LogicalUnit::new(settings, slab.clone());
    unit.adopt(Edition { epoch: Epoch::new(1), changes: 0 }, &[]).unwrap();
    unit.add_nexus(NexusId(1), None).unwrap();
    // A command: how it transfers, how the volume answers, 16 bytes of CDB; then its data-out.
    let mut rest = data;
    while let Some((&[kind, fate, len], after)) = rest.split_first_chunk::<3>() {
        let Some((cdb, after)) = after.split_first_chunk::<16>() else { return };
        let expected = u32::from(len) * 64;
        let transfer = [Transfer::None, Transfer::In(expected), Transfer::Out(expected)][usize::from(kind % 3)];
        let take = if kind % 3 == 2 { after.len().min(expected as usize) } else { 0 };
        let (bytes, after) = after.split_at(take);
        rest = after;
        let lun = if kind & 0x80 == 0 { 0 } else { u64::from(fate) << 48 };
        run(&mut unit, &slab, lun, cdb, transfer, bytes, fate);
    }
});

fn run(unit: &mut LogicalUnit, slab: &Slab, lun: u64, cdb: &[u8; 16], transfer: Transfer, bytes: &[u8], fate: u8) {
    let mut begun = unit.begin(NexusId(1), lun, cdb, transfer);
    if let Begun::State { task } = begun {
        begun = unit.again(task);
    }
    let mut step = match begun {
        Begun::Answer(_) | Begun::State { .. } => return,
        Begun::Volume { task, op } => Step::Volume { task, op },
        Begun::Node { task, op } => Step::Node { task, op },
        Begun::DataOut { task, len } => {
            let take = bytes.len().min(len as usize);
            let data = Payload::from(slab.copy_of(&bytes[..take]).unwrap());
            unit.data_out(task, data)
        }
    };
    for _ in 0..STEPS_MAX {
        match step {
            Step::Answer(_) => return,
            Step::State { task } => match unit.again(task) {
                Begun::Volume { task, op } => step = Step::Volume { task, op },
                _ => return,
            },
            Step::Volume { task, op } => step = unit.finish(task, answer(slab, &op, fate)),
            Step::Node { task, op: NodeOp::Look { .. } } => {
                let run = |&byte: &u8| Run { blocks: u32::from(byte) << (fate % 32), is_unwritten: byte % 2 == 0 };
                step = unit.looked(task, &bytes.iter().map(run).collect::<Vec<_>>());
            }
            Step::Node { task, op: NodeOp::Move { .. } } => step = unit.finish(task, Ok(VolumeDone::Done)),
            Step::Node { task, op: NodeOp::Pause { .. } } => step = unit.paused(task),
            Step::Node { task, op: NodeOp::Errand(errand) } => {
                let data = task.errand_data();
                let ended = match errand.command().1 {
                    Transfer::In(len) => Ok(Response::data(filled(slab, len as usize, fate))),
                    Transfer::Out(len) => {
                        assert_eq!(data.len(), len as usize);
                        Err(Unreached::NotThere)
                    }
                    Transfer::None => Ok(Response::good()),
                };
                step = unit.ran(task, ended);
            }
        }
    }
    panic!("the command takes more than {STEPS_MAX} steps");
}

fn filled(slab: &Slab, len: usize, with: u8) -> Payload {
    let mut data = Payload::new();
    let mut left = len;
    while left > 0 {
        let mut buf = slab.take(left.min(Slab::LEN_MAX)).unwrap();
        buf.fill(with);
        left -= buf.len();
        data.push(buf.freeze());
    }
    data
}

fn answer(slab: &Slab, op: &VolumeOp, fate: u8) -> VolumeResult {
    check(op);
    match (op, fate % 16) {
        (_, 1) => Err(VolumeError::Busy),
        (_, 2) => Err(VolumeError::NoSpace),
        (_, 3) => Err(VolumeError::Medium { offset: u64::from(fate) << 12 }),
        (VolumeOp::CompareAndWrite { .. } | VolumeOp::Compare { .. }, 4) => {
            Err(VolumeError::Miscompare { offset: u64::from(fate) })
        }
        (VolumeOp::Read { span }, _) => {
            Ok(VolumeDone::Data(filled(slab, span.len() as usize, fate)))
        }
        _ => Ok(VolumeDone::Done),
    }
}

fn check(op: &VolumeOp) {
    let within = |span: &Span| assert!(span.end() <= SIZE, "{span:?} is beyond the volume");
    match op {
        VolumeOp::Read { span } | VolumeOp::Verify { span } => within(span),
        VolumeOp::Write { span, data, .. } => {
            within(span);
            assert_eq!(span.len(), data.len() as u64);
        }
        VolumeOp::Fill { span, pattern, .. } => {
            within(span);
            assert!(matches!(pattern.len(), 512 | 4096));
        }
        VolumeOp::Unmap { spans, .. } => spans.iter().for_each(within),
        VolumeOp::CompareAndWrite { span, expected, data, .. } => {
            within(span);
            assert_eq!((span.len(), span.len()), (expected.len() as u64, data.len() as u64));
        }
        VolumeOp::Compare { span, expected } => {
            within(span);
            assert_eq!(span.len(), expected.len() as u64);
        }
        VolumeOp::Flush | VolumeOp::ReadState | VolumeOp::WriteState { .. } => {}
    }
}
