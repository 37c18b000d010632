//! An initiator and a node around one connection, without sockets: what the host sends goes in, in pieces of any
//! size; what the target sends is taken apart again.
#![allow(dead_code, reason = "each test file uses its part of the cast")]

pub mod actor;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::num::NonZeroU16;
use std::sync::Arc;

use dyad_iscsi::pdu::{
    BHS_BYTES, Bhs, DIGEST_BYTES, DataOut, LoginRequest, LoginResponse, NO_TAG, NopOut, Opcode, R2t, Reject,
    RejectReason, ScsiCommand, ScsiResponse, Stage, TaskRequest,
};
use dyad_iscsi::{Admission, Auth, CloseReason, Command, Connection, Event, Settings, TaskAttribute, TaskTag};
use dyad_payload::{Payload, Slab};
use dyad_units::{Moment, Period};

/// A PDU from the target.
#[derive(Clone, Debug)]
pub struct Received {
    pub bhs: Bhs,
    pub data: Vec<u8>,
}

/// The cast.
pub struct Pair {
    pub connection: Connection,
    pub slab: Slab,
    pub now: Moment,
    /// Bytes per receive buffer.
    pub cut: usize,
    /// Whether the host reads what is sent to it.
    pub is_host_reading: bool,
    pub events: VecDeque<Event>,
    pub received: VecDeque<Received>,
    pub header_digest: bool,
    pub data_digest: bool,
    pub cmd_sn: u32,
    pub next_tag: u32,
    pub admission: Admission,
    wire: Vec<u8>,
    unsent: VecDeque<u8>,
}

pub const TARGET: &str = "iqn.2026-11.example.dyad:vm1";
pub const INITIATOR: &str = "iqn.1994-05.com.example:host1";

/// What open-iscsi offers by default, but for the digests.
pub const USUAL: &[&str] = &[
    "HeaderDigest=None",
    "DataDigest=None",
    "DefaultTime2Wait=2",
    "DefaultTime2Retain=0",
    "IFMarker=No",
    "OFMarker=No",
    "ErrorRecoveryLevel=0",
    "InitialR2T=No",
    "ImmediateData=Yes",
    "MaxBurstLength=16776192",
    "FirstBurstLength=262144",
    "MaxOutstandingR2T=1",
    "MaxConnections=1",
    "DataPDUInOrder=Yes",
    "DataSequenceInOrder=Yes",
    "MaxRecvDataSegmentLength=262144",
];

impl Pair {
    /// Connected, nothing said.
    pub fn new(settings: Settings) -> Self {
        let now = Moment::from_nanos(1 << 40);
        Self {
            connection: Connection::new(Arc::new(settings), now),
            slab: Slab::new(256 << 20),
            now,
            cut: 1 << 16,
            is_host_reading: true,
            events: VecDeque::new(),
            received: VecDeque::new(),
            header_digest: false,
            data_digest: false,
            cmd_sn: 100,
            next_tag: 1,
            admission: Admission { portal_group: 1, alias: None, auth: Auth::None },
            wire: Vec::new(),
            unsent: VecDeque::new(),
        }
    }

    /// Logged in to the target with the usual offers.
    pub fn logged_in() -> Self {
        Self::logged_in_with(Settings::default(), &[])
    }

    /// Logged in with the usual offers, but for these.
    pub fn logged_in_with(settings: Settings, changes: &[&str]) -> Self {
        let mut pair = Self::new(settings);
        let key = |pair: &str| pair.split('=').next().map(str::to_owned);
        let mut offers: Vec<&str> =
            USUAL.iter().copied().filter(|usual| !changes.iter().any(|change| key(change) == key(usual))).collect();
        offers.extend(changes);
        let target = format!("TargetName={TARGET}");
        let initiator = format!("InitiatorName={INITIATOR}");
        let mut text = vec![initiator.as_str(), target.as_str(), "SessionType=Normal"];
        text.extend(offers);
        pair.login(&text);
        pair
    }

    /// A discovery session.
    pub fn discovering() -> Self {
        let mut pair = Self::new(Settings::default());
        let initiator = format!("InitiatorName={INITIATOR}");
        pair.login(&[&initiator, "SessionType=Discovery", "MaxRecvDataSegmentLength=512"]);
        pair
    }

    fn login(&mut self, text: &[&str]) {
        let response = self.login_step(Stage::Operational, Some(Stage::FullFeature), text).expect("a response");
        let header = LoginResponse::parse(&response.bhs).unwrap();
        assert_eq!(header.status, [0, 0], "login refused");
        assert_eq!(header.transit, Some(Stage::FullFeature));
        let text = String::from_utf8(response.data).unwrap();
        self.header_digest = text.contains("HeaderDigest=CRC32C");
        self.data_digest = text.contains("DataDigest=CRC32C");
    }

    /// One login request and its response; the node's part is played with `admission`.
    pub fn login_step(&mut self, stage: Stage, transit: Option<Stage>, text: &[&str]) -> Option<Received> {
        let bytes: Vec<u8> = text.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect();
        self.send(self.login_header(stage, transit).emit(), &bytes);
        self.play_node_at_login();
        self.receive_one()
    }

    pub fn login_header(&self, stage: Stage, transit: Option<Stage>) -> LoginRequest {
        LoginRequest {
            transit,
            is_continued: false,
            stage,
            version_max: 0,
            version_min: 0,
            isid: [0x40, 0, 0, 1, 2, 3],
            tsih: 0,
            task_tag: 0,
            cid: 1,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: 0,
        }
    }

    /// Admits and starts.
    pub fn play_node_at_login(&mut self) {
        while let Some(event) = self.events.pop_front() {
            match event {
                Event::Login(_) => self.connection.admit(self.admission.clone()),
                Event::SessionReady(_) => self.connection.start(NonZeroU16::new(7).unwrap()),
                other => {
                    self.events.push_front(other);
                    return;
                }
            }
            self.pump();
        }
    }

    /// Sends a PDU as it should be: padded, with digests, its data length set.
    pub fn send(&mut self, bhs: Bhs, data: &[u8]) {
        let bytes = self.encode(bhs, data);
        self.send_bytes(&bytes);
    }

    /// The bytes of a PDU.
    pub fn encode(&self, mut bhs: Bhs, data: &[u8]) -> Vec<u8> {
        bhs.set_data_len(data.len());
        let mut bytes = bhs.as_bytes().to_vec();
        if self.header_digest {
            bytes.extend(crc32c(bhs.as_bytes()));
        }
        if !data.is_empty() {
            let mut segment = data.to_vec();
            segment.resize(data.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(&segment);
            if self.data_digest {
                bytes.extend(crc32c(&segment));
            }
        }
        bytes
    }

    /// Sends bytes; what the target does not want to read yet stays with the host.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        self.pump();
    }

    /// Moves bytes and events until nothing more moves.
    pub fn pump(&mut self) {
        loop {
            self.take_output();
            while let Some(event) = self.connection.poll_event() {
                self.events.push_back(event);
            }
            if self.unsent.is_empty() || !self.connection.wants_input() {
                break;
            }
            let take = self.cut.min(self.unsent.len());
            let piece: Vec<u8> = self.unsent.drain(..take).collect();
            self.connection.receive(self.now, self.slab.copy_of(&piece).unwrap());
        }
    }

    fn take_output(&mut self) {
        while self.is_host_reading && self.connection.wants_output() {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.connection.gather(&mut slices);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            self.connection.transmitted(self.now, bytes.len());
            self.wire.extend(bytes);
        }
    }

    /// Bytes that the target has not read.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// The next PDU from the target; checks digests and padding.
    pub fn receive_one(&mut self) -> Option<Received> {
        self.pump();
        let head = BHS_BYTES + if self.header_digest { DIGEST_BYTES } else { 0 };
        if self.wire.len() < BHS_BYTES {
            assert!(self.wire.is_empty(), "half a PDU");
            return None;
        }
        let bhs = Bhs::from_bytes(*self.wire.first_chunk().unwrap());
        // Digests begin after the last login response.
        let is_login = bhs.opcode() == Some(Opcode::LoginResponse);
        let head = if is_login { BHS_BYTES } else { head };
        if self.header_digest && !is_login {
            assert_eq!(self.wire[BHS_BYTES..head], crc32c(&self.wire[..BHS_BYTES]), "header digest");
        }
        let len = bhs.data_len() as usize;
        let padded = len.next_multiple_of(4);
        let has_data_digest = self.data_digest && !is_login && len > 0;
        let total = head + padded + if has_data_digest { DIGEST_BYTES } else { 0 };
        let segment = self.wire[head..head + padded].to_vec();
        if has_data_digest {
            assert_eq!(self.wire[head + padded..total], crc32c(&segment), "data digest");
        }
        self.wire.drain(..total);
        Some(Received { bhs, data: segment[..len].to_vec() })
    }

    /// All PDUs from the target.
    pub fn receive_all(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.receive_one()).collect()
    }

    /// The next PDU, which must be there.
    pub fn expect_pdu(&mut self, opcode: Opcode) -> Received {
        let received = self.receive_one().unwrap_or_else(|| panic!("no {opcode:?} came"));
        assert_eq!(received.bhs.opcode(), Some(opcode));
        received
    }

    /// The next event, which must be a command.
    pub fn expect_command(&mut self) -> Command {
        match self.events.pop_front() {
            Some(Event::Command(command)) => command,
            other => panic!("no command came but {other:?}"),
        }
    }

    /// The next event, which must be data-out.
    pub fn expect_data_out(&mut self, task: TaskTag) -> Payload {
        match self.events.pop_front() {
            Some(Event::DataOut { task: of, data }) if of == task => data,
            other => panic!("no data-out came but {other:?}"),
        }
    }

    /// The next PDU, which must be a SCSI response.
    pub fn expect_response(&mut self) -> (ScsiResponse, Vec<u8>) {
        let received = self.expect_pdu(Opcode::ScsiResponse);
        (ScsiResponse::parse(&received.bhs).unwrap(), received.data)
    }

    /// The next PDU, which must be an R2T.
    pub fn expect_r2t(&mut self) -> R2t {
        R2t::parse(&self.expect_pdu(Opcode::R2t).bhs).unwrap()
    }

    pub fn expect_silence(&mut self) {
        let received = self.receive_all();
        assert!(received.is_empty(), "{received:?}");
    }

    /// A command that is next in order.
    pub fn command(&mut self, read: bool, write: bool, expected_len: u32) -> ScsiCommand {
        let command = ScsiCommand {
            immediate: false,
            is_final: true,
            read,
            write,
            attribute: TaskAttribute::Simple,
            lun: 0,
            task_tag: self.next_tag,
            expected_len,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: 0,
            cdb: [0; 16],
        };
        self.next_tag += 1;
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        command
    }

    /// Sends a read and hands it to the node.
    pub fn read(&mut self, expected_len: u32) -> Command {
        let command = self.command(true, false, expected_len);
        self.send(command.emit(), &[]);
        self.expect_command()
    }

    /// Sends a write without any data and hands it to the node.
    pub fn write(&mut self, expected_len: u32) -> Command {
        let command = self.command(false, true, expected_len);
        self.send(command.emit(), &[]);
        self.expect_command()
    }

    /// Sends Data-Out.
    pub fn data_out(&mut self, task_tag: u32, transfer_tag: u32, data_sn: u32, offset: u32, last: bool, data: &[u8]) {
        let pdu = DataOut { is_final: last, lun: 0, task_tag, transfer_tag, exp_stat_sn: 0, data_sn, offset };
        self.send(pdu.emit(), data);
    }

    /// Satisfies an R2T from the command's whole data, in segments of this size.
    pub fn satisfy(&mut self, r2t: &R2t, data: &[u8], segment: usize) {
        let part = &data[r2t.offset as usize..][..r2t.len as usize];
        let count = part.len().div_ceil(segment);
        for (at, piece) in part.chunks(segment).enumerate() {
            let offset = r2t.offset + (at * segment) as u32;
            self.data_out(r2t.task_tag, r2t.transfer_tag, at as u32, offset, at + 1 == count, piece);
        }
    }

    /// The node's answers.
    pub fn solicit(&mut self, task: TaskTag, len: u32) {
        self.connection.solicit(task, len);
        self.pump();
    }

    pub fn respond_good(&mut self, task: TaskTag, data_in: &[u8]) {
        let data = if data_in.is_empty() { Payload::new() } else { self.payload(data_in) };
        self.connection.respond(task, 0, &[], data);
        self.pump();
    }

    pub fn payload(&self, bytes: &[u8]) -> Payload {
        let mut payload = Payload::new();
        for piece in bytes.chunks(Slab::LEN_MAX) {
            payload.push(self.slab.copy_of(piece).unwrap());
        }
        payload
    }

    /// Lets time pass, looking at the clock whenever the connection wants it to.
    pub fn pass(&mut self, period: Period) {
        let end = self.now + period;
        while let Some(deadline) = self.connection.next_deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.connection.tick(self.now);
            self.pump();
        }
        self.now = end;
    }
}

/// Distinct bytes, so that a misplaced one shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8 ^ (at >> 8) as u8).collect()
}

/// A second opinion on CRC32C, bit by bit.
pub fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    (!crc).to_le_bytes()
}

pub const NONE: u32 = NO_TAG;

pub fn rejected(pair: &mut Pair, reason: RejectReason) {
    let received = pair.expect_pdu(Opcode::Reject);
    assert_eq!(Reject::parse(&received.bhs).unwrap().reason, reason as u8);
    assert_eq!(received.data.len(), 48);
}

pub fn closed(pair: &mut Pair) -> CloseReason {
    match pair.events.pop_back() {
        Some(Event::Closed(reason)) => reason,
        other => panic!("not closed but {other:?}"),
    }
}

pub fn ping(pair: &Pair, task_tag: u32, transfer_tag: u32) -> NopOut {
    NopOut { immediate: true, lun: 0, task_tag, transfer_tag, cmd_sn: pair.cmd_sn, exp_stat_sn: 0 }
}

pub fn task_request(pair: &Pair, function: u8, referenced_tag: u32) -> TaskRequest {
    TaskRequest {
        immediate: true,
        function,
        lun: 0,
        task_tag: 1000,
        referenced_tag,
        cmd_sn: pair.cmd_sn,
        exp_stat_sn: 0,
        referenced_cmd_sn: pair.cmd_sn.wrapping_sub(1),
    }
}
