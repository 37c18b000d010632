//! Reads and writes through the transport and the command set, as a node runs them: no allocation, and no copy of
//! a payload, from the receive buffer to the volume and from the volume to the socket.
//!
//! One test function only: the counter belongs to the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dyad_contract::volume::{VolumeDone, VolumeOp};
use dyad_iscsi::pdu::{BHS_BYTES, Bhs, DataOut, NO_TAG, Opcode, R2t, ScsiCommand};
use dyad_iscsi::{Admission, Auth, Connection, Event, TaskAttribute, TaskTag};
use dyad_payload::{Payload, Slab};
use dyad_scsi::{Begun, BlockSize, Identity, LogicalUnit, NexusId, Response, Settings, Shape, Step, Task, Transfer};
use dyad_units::{Bytes, Moment, VolumeId};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is the test's: the harness has one of its own, which allocates when it likes.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KIB: usize = 1 << 10;
const NEXUS: NexusId = NexusId(1);
const NOW: Moment = Moment::START;
/// Largest Data-Out segment of the host.
const SEGMENT: usize = 256 * KIB;
const SIZE: Bytes = Bytes::new(1 << 30);

/// A host, a node's glue and a volume whose every block is the same.
struct Cast {
    connection: Connection,
    unit: LogicalUnit,
    slab: Slab,
    /// What a read of the longest command returns.
    content: Payload,
    tasks: Vec<Option<Task>>,
    /// Bytes on their way to the target, and how many of them arrived.
    wire: Vec<u8>,
    arrived: usize,
    /// What one call of `recv` brings at most.
    recv_max: usize,
    /// Bytes from the target, PDUs not yet complete.
    back: Vec<u8>,
    /// Where the receive buffers of this round lie: start and end addresses.
    received: Vec<(usize, usize)>,
    cmd_sn: u32,
    answers: usize,
    written: usize,
    offered: Vec<u8>,
}

fn range_of(bytes: &[u8]) -> (usize, usize) {
    let start = bytes.as_ptr() as usize;
    (start, start + bytes.len())
}

fn lies_within((start, end): (usize, usize), (outer, outer_end): (usize, usize)) -> bool {
    outer <= start && end <= outer_end
}

impl Cast {
    /// Logged in, the unit attention of the start out of the way. Reads come in `slices`.
    fn new(recv_max: usize, offers: &[u8], slices: usize) -> Self {
        let slab = Slab::new(512 << 20);
        let mut content = Payload::new();
        for _ in 0..slices {
            content.push(slab.copy_of(&vec![0x5a; SEGMENT / slices]).unwrap());
        }
        let identity = Identity {
            volume: VolumeId::from_bytes([7; 16]),
            target_name: "iqn.x:disk".to_owned(),
            target_port: 1,
            target_port_group: 1,
        };
        let shape = Shape::new(BlockSize::Emulated512, SIZE).unwrap();
        let settings = Settings { identity, shape, write_cache: true, read_only: false };
        let mut unit = LogicalUnit::new(settings, slab.clone());
        unit.adopt(dyad_contract::volume::Edition { epoch: dyad_units::Epoch::new(1), changes: 0 }, &[]).unwrap();
        unit.add_nexus(NEXUS, None).unwrap();
        let mut cast = Self {
            connection: Connection::new(Arc::default(), NOW),
            unit,
            slab,
            content,
            tasks: vec![None; 256],
            wire: Vec::with_capacity(64 << 20),
            arrived: 0,
            recv_max,
            back: Vec::with_capacity(64 << 20),
            received: Vec::with_capacity(1 << 16),
            cmd_sn: 1,
            answers: 0,
            written: 0,
            offered: vec![0x5a; SEGMENT],
        };
        cast.log_in(offers);
        cast
    }

    fn log_in(&mut self, offers: &[u8]) {
        let text = [b"InitiatorName=iqn.x:host\0TargetName=iqn.x:disk\0", offers].concat();
        let mut header = [0; BHS_BYTES];
        (header[0], header[1], header[27]) = (0x43, 0x87, 1);
        let mut bhs = Bhs::from_bytes(header);
        bhs.set_data_len(text.len());
        self.send(bhs, &text);
        self.pump();
        self.back.clear();
        assert!(self.connection.parameters().is_some());
    }

    fn send(&mut self, bhs: Bhs, data: &[u8]) {
        self.wire.extend_from_slice(bhs.as_bytes());
        self.wire.extend_from_slice(data);
        self.wire.resize(self.wire.len().next_multiple_of(4), 0);
    }

    /// A READ(10) or WRITE(10), with as much immediate data.
    fn command(&mut self, write: bool, len: usize, immediate: usize, is_final: bool) {
        let mut cdb = [0; 16];
        cdb[0] = if write { 0x2a } else { 0x28 };
        cdb[7..9].copy_from_slice(&((len / 512) as u16).to_be_bytes());
        let command = ScsiCommand {
            immediate: false,
            is_final,
            read: !write,
            write,
            attribute: TaskAttribute::Simple,
            lun: 0,
            task_tag: self.cmd_sn,
            expected_len: len as u32,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: 0,
            cdb,
        };
        self.cmd_sn += 1;
        let mut bhs = command.emit();
        bhs.set_data_len(immediate);
        let data = std::mem::take(&mut self.offered);
        self.send(bhs, &data[..immediate]);
        self.offered = data;
    }

    fn data_out(&mut self, task_tag: u32, transfer_tag: u32, offset: u32, len: usize) {
        let data = std::mem::take(&mut self.offered);
        for (data_sn, at) in (0..len).step_by(SEGMENT).enumerate() {
            let take = SEGMENT.min(len - at);
            let pdu = DataOut {
                is_final: at + take == len,
                lun: 0,
                task_tag,
                transfer_tag,
                exp_stat_sn: 0,
                data_sn: data_sn as u32,
                offset: offset + at as u32,
            };
            let mut bhs = pdu.emit();
            bhs.set_data_len(take);
            self.send(bhs, &data[..take]);
        }
        self.offered = data;
    }

    /// Until nothing moves.
    fn pump(&mut self) {
        while self.arrived < self.wire.len() {
            let hint = self.connection.receive_hint();
            let mut buf = self.slab.take(hint).unwrap();
            let rest = &self.wire[self.arrived..];
            let take = hint.min(rest.len()).min(self.recv_max);
            buf[..take].copy_from_slice(&rest[..take]);
            buf.truncate(take);
            self.arrived += take;
            self.received.push(range_of(&buf));
            self.connection.receive(NOW, buf.freeze());
            while let Some(event) = self.connection.poll_event() {
                self.on_event(event);
            }
            self.transmit();
            self.answer_r2ts();
        }
        self.wire.clear();
        self.arrived = 0;
        self.received.clear();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Login(_) => {
                self.connection.admit(Admission { portal_group: 1, alias: None, auth: Auth::None });
            }
            Event::SessionReady(_) => self.connection.start(NonZeroU16::MIN),
            Event::Command(command) => {
                let len = command.expected_len;
                let transfer = if command.write { Transfer::Out(len) } else { Transfer::In(len) };
                match self.unit.begin(NEXUS, command.lun, &command.cdb, transfer) {
                    Begun::Answer(response) => self.respond(command.task, response),
                    Begun::DataOut { task, len } => {
                        self.tasks[command.task.slot()] = Some(task);
                        self.connection.solicit(command.task, len);
                    }
                    Begun::Volume { task, op } => self.run(command.task, task, op),
                    Begun::State { .. } | Begun::Node { .. } => panic!("the state is known"),
                }
            }
            Event::DataOut { task: tag, data } => {
                let task = self.tasks[tag.slot()].take().unwrap();
                match self.unit.data_out(task, data) {
                    Step::Answer(response) => self.respond(tag, response),
                    Step::Volume { task, op } => self.run(tag, task, op),
                    Step::State { .. } | Step::Node { .. } => panic!("the state is known"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, tag: TaskTag, task: Task, op: VolumeOp) {
        let done = match op {
            VolumeOp::Read { span } => VolumeDone::Data(match span.len() as usize {
                len if len == self.content.len() => self.content.clone(),
                len => self.content.slice(0, len),
            }),
            VolumeOp::Write { data, .. } => {
                for slice in data.slices() {
                    let is_received = self.received.iter().any(|&buf| lies_within(range_of(slice), buf));
                    assert!(is_received, "written data are not where they were received: a copy");
                }
                self.written += data.len();
                VolumeDone::Done
            }
            other => panic!("{other:?}"),
        };
        match self.unit.finish(task, Ok(done)) {
            Step::Answer(response) => self.respond(tag, response),
            Step::Volume { .. } | Step::State { .. } | Step::Node { .. } => panic!("one step is enough"),
        }
    }

    fn respond(&mut self, tag: TaskTag, response: Response) {
        assert!(response.sense.is_none());
        self.connection.respond(tag, response.status as u8, &[], response.data_in);
    }

    fn transmit(&mut self) {
        while self.connection.wants_output() {
            let mut slices = [IoSlice::new(&[]); 64];
            let count = self.connection.gather(&mut slices);
            let mut sent = 0;
            for slice in &slices[..count] {
                let is_content = self.content.slices().iter().any(|buf| lies_within(range_of(slice), range_of(buf)));
                assert!(is_content || slice.len() < 512, "data sent are not where they were read: a copy");
                self.back.extend_from_slice(slice);
                sent += slice.len();
            }
            self.connection.transmitted(NOW, sent);
        }
    }

    fn answer_r2ts(&mut self) {
        let mut at = 0;
        while let Some(bytes) = self.back[at..].first_chunk::<BHS_BYTES>() {
            let bhs = Bhs::from_bytes(*bytes);
            at += BHS_BYTES + (bhs.data_len() as usize).next_multiple_of(4);
            match bhs.opcode() {
                Some(Opcode::R2t) => {
                    let r2t = R2t::parse(&bhs).unwrap();
                    self.data_out(r2t.task_tag, r2t.transfer_tag, r2t.offset, r2t.len as usize);
                }
                Some(Opcode::ScsiResponse | Opcode::DataIn) if bhs.as_bytes()[1] & 0x01 != 0 => self.answers += 1,
                Some(Opcode::ScsiResponse) => self.answers += 1,
                _ => {}
            }
        }
        assert_eq!(at, self.back.len(), "output ends with a PDU");
        self.back.clear();
    }
}

/// How a host sends its writes.
#[derive(Clone, Copy, Debug)]
struct Workload {
    name: &'static str,
    len: usize,
    write: bool,
    immediate: usize,
    unsolicited: usize,
    recv_max: usize,
    /// Buffers in which the volume hands out what is read.
    slices: usize,
}

const DEPTH: usize = 32;

fn round(cast: &mut Cast, work: &Workload) {
    for _ in 0..DEPTH {
        let tag = cast.cmd_sn;
        cast.command(work.write, work.len, work.immediate, work.unsolicited == 0);
        if work.unsolicited > 0 {
            cast.data_out(tag, NO_TAG, work.immediate as u32, work.unsolicited);
        }
    }
    cast.pump();
}

/// Allocations per command, of many commands after the first ones.
fn measure(work: &Workload) -> (usize, usize) {
    const WARM: usize = 12;
    const ROUNDS: usize = 24;
    let offers = b"InitialR2T=No\0ImmediateData=Yes\0FirstBurstLength=262144\0MaxBurstLength=1048576\0\
        MaxOutstandingR2T=1\0MaxRecvDataSegmentLength=262144\0";
    IS_COUNTED.set(true);
    let mut cast = Cast::new(work.recv_max, offers, work.slices);
    (0..WARM).for_each(|_| round(&mut cast, work));
    (cast.answers, cast.written) = (0, 0);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert_ne!(before, 0, "nothing is counted");
    (0..ROUNDS).for_each(|_| round(&mut cast, work));
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(cast.answers, ROUNDS * DEPTH, "{work:?}");
    assert_eq!(cast.written, if work.write { ROUNDS * DEPTH * work.len } else { 0 }, "{work:?}");
    (allocations, ROUNDS * DEPTH)
}

#[test]
fn reads_and_writes_allocate_and_copy_nothing() {
    let (small, large) = (4 * KIB, 256 * KIB);
    let read = Workload {
        name: "4 KiB read",
        len: small,
        write: false,
        immediate: 0,
        unsolicited: 0,
        recv_max: 1 << 20,
        slices: 1,
    };
    let write = Workload { name: "4 KiB write, immediate", write: true, immediate: small, ..read };
    let works = [
        read,
        write,
        Workload { name: "4 KiB write, R2T", immediate: 0, ..write },
        Workload { name: "4 KiB write, unsolicited", immediate: 0, unsolicited: small, ..write },
        Workload { name: "256 KiB read", len: large, ..read },
        Workload { name: "256 KiB read over two extents", len: large, slices: 2, ..read },
        Workload { name: "256 KiB write, R2T", len: large, immediate: 0, ..write },
        Workload { name: "256 KiB write, immediate", len: large, immediate: large, ..write },
        Workload { name: "256 KiB write, 64 KiB per recv", len: large, immediate: large, recv_max: 64 * KIB, ..write },
        Workload { name: "256 KiB write, 20 KiB per recv", len: large, immediate: large, recv_max: 20 * KIB, ..write },
        Workload { name: "4 KiB write, 1448 bytes per recv", recv_max: 1448, ..write },
    ];
    for work in works {
        let (allocations, commands) = measure(&work);
        println!("{:40} {allocations:6} allocations in {commands} commands", work.name);
        // A payload keeps two pieces in place; more of them, where the socket brings little at a time, take a
        // list that grows by doubling.
        let lists = if work.recv_max < KIB * 256 { 4 * commands } else { 0 };
        assert!(allocations <= lists, "{}: {allocations} allocations", work.name);
    }
}
