//! Reservations: any bytes as the state of a volume, and any parameter lists of PERSISTENT RESERVE OUT, TransportIDs included.
//! What was written is read again, and nothing that is refused changes anything.
#![no_main]

use dyad_contract::volume::{Edition, VolumeDone, VolumeOp};
use dyad_payload::{Payload, Slab};
use dyad_scsi::{
    AccessState, Begun, BlockSize, Identity, InitiatorPort, LogicalUnit, NexusId, PortGroup, Settings, Shape, Status, Transfer,
};
use dyad_units::{Bytes, Epoch, VolumeId};
use libfuzzer_sys::fuzz_target;

const HOSTS: u64 = 3;
/// Steps of one command: the state, the list, tries of a change.
const STEPS_MAX: usize = 64;

struct Cast {
    unit: LogicalUnit,
    slab: Slab,
    state: Vec<u8>,
    edition: Edition,
}

fuzz_target!(|data: &[u8]| {
    let slab = Slab::new(16 << 20);
    let settings = Settings {
        identity: Identity {
            volume: VolumeId::from_bytes([1; 16]),
            target_name: "iqn.2026-11.example:v".to_owned(),
            target_port: 1,
            target_port_group: 1,
        },
        shape: Shape::new(BlockSize::Emulated512, Bytes::new(1 << 20)).unwrap(),
        write_cache: true,
        read_only: false,
    };
    let mut unit = LogicalUnit::new(settings, slab.clone());
    unit.set_port_groups(&[1, 2].map(|port| PortGroup {
        group: port,
        port,
        state: AccessState::Optimized,
        is_preferred: false,
    }));
    for host in 0..HOSTS {
        unit.add_nexus(NexusId(host), None).unwrap();
        unit.set_initiator(NexusId(host), InitiatorPort::new(&format!("iqn.x:h{host}"), [host as u8; 6]).unwrap());
    }
    let edition = Edition { epoch: Epoch::new(1), changes: 0 };
    // The whole input as a state: it is refused, or understood.
    let _ = unit.adopt(edition, data);
    let mut cast = Cast { unit, slab, state: Vec::new(), edition };
    cast.unit.adopt(edition, &[]).unwrap();
    // A command: host, service action, type, length of the list; then the list.
    let mut rest = data;
    while let Some((&[host, action, kind, len], after)) = rest.split_first_chunk::<4>() {
        let (list, after) = after.split_at(after.len().min(usize::from(len)));
        rest = after;
        let before = cast.state.clone();
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5f, action % 9, kind, list.len() as u8);
        let status = cast.run(NexusId(u64::from(host) % HOSTS), &cdb, list);
        assert!(status == Status::Good || cast.state == before, "a refused command changed the state");
        cdb[0] = 0x5e;
        cdb[1] = host % 4;
        (cdb[2], cdb[8]) = (0, len);
        cast.run(NexusId(u64::from(host) % HOSTS), &cdb, &[]);
    }
});

impl Cast {
    fn run(&mut self, nexus: NexusId, cdb: &[u8; 16], list: &[u8]) -> Status {
        let transfer = if list.is_empty() { Transfer::In(255) } else { Transfer::Out(list.len() as u32) };
        let mut begun = self.unit.begin(nexus, 0, cdb, transfer);
        for _ in 0..STEPS_MAX {
            begun = match begun {
                Begun::Answer(response) => return response.status,
                Begun::State { task } => {
                    self.unit.adopt(self.edition, &self.state).expect("what a unit writes it can read");
                    self.unit.again(task)
                }
                Begun::DataOut { task, len } => {
                    let take = list.len().min(len as usize);
                    self.unit.data_out(task, Payload::from(self.slab.copy_of(&list[..take]).unwrap())).into()
                }
                Begun::Node { .. } => return Status::Good,
                Begun::Volume { task, op } => {
                    if let VolumeOp::WriteState { data } = &op {
                        self.state = data.to_vec();
                        self.edition = self.edition.next();
                    }
                    self.unit.finish(task, Ok(VolumeDone::Done)).into()
                }
            };
        }
        panic!("a command without an end");
    }
}
