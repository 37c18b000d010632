//! A session in full feature phase: submit commands, wait for completions, answer what the target asks.

use std::collections::VecDeque;

use super::cdb::Cdb;
use super::login::{self, LoginError, Negotiated, Numbers};
use super::options::Options;
use super::pdu::{FINAL, Header, NO_TAG, opcode, serial_at_most};
use super::stream::{Stream, StreamError};
use super::task::{Completion, Task, Transfer};
use super::text::Keys;

/// Data of a PDU that carries no task's data; larger is a broken target.
const SMALL_DATA_MAX: usize = 64 * 1024;

/// Why a session is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The login failed.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The target rejected a PDU (RFC 7143 §11.17).
    #[error("the target rejected a PDU with reason {0:#04x}")]
    Rejected(u8),
    /// The target broke the protocol.
    #[error("the target broke the protocol: {0}")]
    Protocol(&'static str),
    /// Asked to wait while nothing is in flight.
    #[error("nothing is in flight to wait for")]
    Idle,
}

/// What became of a task management function (RFC 7143 §11.6.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TmfOutcome(pub u8);

impl TmfOutcome {
    /// Function complete.
    pub const COMPLETE: Self = Self(0);
    /// The referenced task does not exist (it may have been answered already).
    pub const NO_TASK: Self = Self(1);
}

/// Function codes of RFC 7143 §11.5.1.
pub const ABORT_TASK: u8 = 1;
/// Aborts all commands of this session to the logical unit.
pub const ABORT_TASK_SET: u8 = 2;
/// Resets the logical unit.
pub const LOGICAL_UNIT_RESET: u8 = 5;

/// One session with one connection.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    negotiated: Negotiated,
    cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    tasks: Vec<Option<Task>>,
    in_flight: usize,
    finished: VecDeque<Completion>,
    tmf: Option<TmfOutcome>,
    pings_answered: u64,
    text: Option<(Header, Vec<u8>)>,
    logged_out: bool,
    logout_within: Option<u16>,
    lun: u64,
}

impl Session {
    /// Connects and logs in.
    pub fn login(options: &Options) -> Result<Self, SessionError> {
        let mut stream = Stream::connect(options.portal, options.patience)?;
        let (negotiated, Numbers { cmd_sn, exp_stat_sn, max_cmd_sn }) = login::login(&mut stream, options)?;
        Ok(Self {
            stream,
            negotiated,
            cmd_sn,
            exp_stat_sn,
            max_cmd_sn,
            tasks: Vec::new(),
            in_flight: 0,
            finished: VecDeque::new(),
            tmf: None,
            pings_answered: 0,
            text: None,
            logged_out: false,
            logout_within: None,
            // Peripheral device addressing (SAM-5 §4.7.7.2).
            lun: u64::from(options.lun) << 48,
        })
    }

    /// What the login agreed on.
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// The connection, for tests that misuse it.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Commands sent and not yet handed back by [`Session::wait`].
    pub fn in_flight(&self) -> usize {
        self.in_flight + self.finished.len()
    }

    /// Pings of the target that were answered.
    pub fn pings_answered(&self) -> u64 {
        self.pings_answered
    }

    /// Sends a command (perhaps only with the next [`Session::wait`]). Waits while the window is closed.
    pub fn submit(&mut self, user: u64, cdb: Cdb, transfer: Transfer) -> Result<(), SessionError> {
        self.submit_to(self.lun, user, cdb, transfer)
    }

    /// Sends a command to a logical unit, named by the eight bytes of SAM-5 §4.7.
    pub fn submit_to(&mut self, lun: u64, user: u64, cdb: Cdb, transfer: Transfer) -> Result<(), SessionError> {
        while !serial_at_most(self.cmd_sn, self.max_cmd_sn) {
            self.receive()?;
        }
        let mut flags = FINAL | 1;
        let mut immediate = 0;
        let mut unsolicited = 0;
        match &transfer {
            Transfer::None => {}
            Transfer::In(_) => flags |= 0x40,
            Transfer::Out(data) => {
                flags |= 0x20;
                let first = data.len().min(self.negotiated.first_burst);
                if self.negotiated.immediate_data {
                    immediate = first.min(self.negotiated.max_send);
                }
                if !self.negotiated.initial_r2t {
                    unsolicited = first - immediate;
                }
            }
        }
        if unsolicited > 0 {
            flags &= !FINAL;
        }
        let tag = self.free_tag();
        let mut header = Header::new(opcode::COMMAND, flags);
        header.set(8, &lun.to_be_bytes());
        header.set_u32(16, tag).set_u32(20, transfer.len() as u32).set_u32(24, self.cmd_sn);
        header.set_u32(28, self.exp_stat_sn).set(32, &cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let task = Task { user, transfer, lun };
        if let Transfer::Out(data) = &task.transfer {
            self.stream.push(header, &data[..immediate])?;
        } else {
            self.stream.push(header, &[])?;
        }
        self.tasks[tag as usize] = Some(task);
        self.in_flight += 1;
        if unsolicited > 0 { self.send_data(tag, NO_TAG, immediate, unsolicited) } else { Ok(()) }
    }

    /// The next completion, in the order in which the target answers.
    pub fn wait(&mut self) -> Result<Completion, SessionError> {
        loop {
            if let Some(completion) = self.finished.pop_front() {
                return Ok(completion);
            }
            if self.in_flight == 0 {
                return Err(SessionError::Idle);
            }
            self.receive()?;
        }
    }

    /// Within how many seconds the target wants a logout, if it asked for one.
    pub fn logout_within(&self) -> Option<u16> {
        self.logout_within
    }

    /// Submits one command and waits for its answer. Nothing else may be in flight.
    pub fn call(&mut self, cdb: Cdb, transfer: Transfer) -> Result<Completion, SessionError> {
        if self.in_flight() > 0 {
            return Err(SessionError::Protocol("a call was made while commands are in flight"));
        }
        self.submit(0, cdb, transfer)?;
        self.wait()
    }

    /// Pings the target and waits for its answer (RFC 7143 §11.18).
    pub fn ping(&mut self, data: &[u8]) -> Result<Vec<u8>, SessionError> {
        let mut header = Header::new(opcode::NOP_OUT | opcode::IMMEDIATE, FINAL);
        header.set_u32(16, PING_TAG).set_u32(20, NO_TAG).set_u32(24, self.cmd_sn).set_u32(28, self.exp_stat_sn);
        self.request(header, data).map(|(_, echoed)| echoed)
    }

    /// SendTargets (RFC 7143 §13.3): pairs of TargetName and TargetAddress.
    pub fn send_targets(&mut self) -> Result<Keys, SessionError> {
        let mut keys = Keys::new();
        keys.push("SendTargets", "All");
        let (mut ttt, mut data, mut text) = (NO_TAG, keys.emit(), Vec::new());
        loop {
            let mut header = Header::new(opcode::TEXT | opcode::IMMEDIATE, FINAL);
            header.set_u32(16, TEXT_TAG).set_u32(20, ttt).set_u32(24, self.cmd_sn).set_u32(28, self.exp_stat_sn);
            let (answer, part) = self.request(header, &data)?;
            text.extend_from_slice(&part);
            if answer.ttt() == NO_TAG {
                return Ok(Keys::parse(&text));
            }
            (ttt, data) = (answer.ttt(), Vec::new());
        }
    }

    /// Task management function of RFC 7143 §11.5.1; `referenced` is the `user` of a command, for ABORT TASK.
    pub fn manage(&mut self, function: u8, referenced: Option<u64>) -> Result<TmfOutcome, SessionError> {
        let of = |wanted: u64| move |task: &Option<Task>| task.as_ref().is_some_and(|task| task.user == wanted);
        let tag = referenced.and_then(|user| self.tasks.iter().position(of(user))).map_or(NO_TAG, |at| at as u32);
        let mut header = Header::new(opcode::TASK_MANAGEMENT | opcode::IMMEDIATE, FINAL | function);
        header.set(8, &self.lun.to_be_bytes());
        header.set_u32(16, TMF_TAG).set_u32(20, tag).set_u32(24, self.cmd_sn).set_u32(28, self.exp_stat_sn);
        header.set_u32(32, self.cmd_sn);
        self.stream.push(header, &[])?;
        self.tmf = None;
        let outcome = loop {
            if let Some(outcome) = self.tmf.take() {
                break outcome;
            }
            self.receive()?;
        };
        if outcome == TmfOutcome::COMPLETE {
            match function {
                ABORT_TASK => self.forget(tag),
                _ => (0..self.tasks.len() as u32).for_each(|tag| self.forget(tag)),
            }
        }
        Ok(outcome)
    }

    /// An aborted command is never answered.
    fn forget(&mut self, tag: u32) {
        if self.tasks.get_mut(tag as usize).and_then(Option::take).is_some() {
            self.in_flight -= 1;
        }
    }

    /// Logs out and closes (RFC 7143 §11.14).
    pub fn logout(mut self) -> Result<(), SessionError> {
        let mut header = Header::new(opcode::LOGOUT | opcode::IMMEDIATE, FINAL);
        header.set_u32(16, LOGOUT_TAG).set_u32(24, self.cmd_sn).set_u32(28, self.exp_stat_sn);
        self.stream.push(header, &[])?;
        while !self.logged_out {
            self.receive()?;
        }
        Ok(())
    }

    /// Handles what has arrived and what arrives within the patience: one PDU.
    pub fn receive(&mut self) -> Result<(), SessionError> {
        if !self.stream.has_input() {
            self.stream.flush()?;
        }
        let header = self.stream.header()?;
        match header.opcode() {
            opcode::DATA_IN => return self.on_data_in(&header),
            opcode::RESPONSE => return self.on_response(&header),
            opcode::R2T => return self.on_r2t(&header),
            _ => {}
        }
        let data = self.small_data(&header)?;
        self.note_window(&header);
        match header.opcode() {
            opcode::NOP_IN if header.ttt() != NO_TAG => {
                let mut pong = Header::new(opcode::NOP_OUT | opcode::IMMEDIATE, FINAL);
                pong.set(8, &header.0[8..16]);
                pong.set_u32(16, NO_TAG).set_u32(20, header.ttt());
                pong.set_u32(24, self.cmd_sn).set_u32(28, self.exp_stat_sn);
                self.pings_answered += 1;
                self.stream.push(pong, &data)?;
                self.stream.flush()?;
            }
            opcode::NOP_IN | opcode::TEXT_RESPONSE => {
                if header.itt() != NO_TAG {
                    self.note_status(&header);
                    self.text = Some((header, data));
                }
            }
            opcode::TASK_MANAGEMENT_RESPONSE => {
                self.note_status(&header);
                self.tmf = Some(TmfOutcome(header.0[2]));
            }
            opcode::LOGOUT_RESPONSE => self.logged_out = true,
            opcode::ASYNC => {
                self.note_status(&header);
                if header.0[36] == LOGOUT_REQUESTED {
                    self.logout_within = Some(u16::from_be_bytes([header.0[42], header.0[43]]));
                }
            }
            opcode::REJECT => return Err(SessionError::Rejected(header.0[2])),
            _ => return Err(SessionError::Protocol("it sent a PDU that no target sends")),
        }
        Ok(())
    }

    fn request(&mut self, header: Header, data: &[u8]) -> Result<(Header, Vec<u8>), SessionError> {
        self.stream.push(header, data)?;
        loop {
            if let Some(answer) = self.text.take() {
                return Ok(answer);
            }
            self.receive()?;
        }
    }

    fn on_data_in(&mut self, header: &Header) -> Result<(), SessionError> {
        let (tag, offset, len) = (header.itt(), header.u32_at(40) as usize, header.data_len());
        let Some(Some(Task { transfer: Transfer::In(buffer), .. })) = self.tasks.get_mut(tag as usize) else {
            return Err(SessionError::Protocol("it sent data for a command that reads nothing"));
        };
        let Some(place) = buffer.get_mut(offset..offset + len) else {
            return Err(SessionError::Protocol("it sent data beyond the expected length"));
        };
        self.stream.data(place)?;
        self.note_window(header);
        if header.flags() & 1 != 0 {
            // Status rides on the last data PDU (RFC 7143 §11.7.3).
            self.note_status(header);
            self.finish(tag, header.0[3], Vec::new(), residual(header))?;
        }
        Ok(())
    }

    fn on_response(&mut self, header: &Header) -> Result<(), SessionError> {
        let data = self.small_data(header)?;
        self.note_window(header);
        self.note_status(header);
        if header.0[2] != 0 {
            return Err(SessionError::Protocol("it could not complete a command (service response)"));
        }
        let sense_len = data.first_chunk().map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
        let sense = data.get(2..2 + sense_len).unwrap_or_default().to_vec();
        self.finish(header.itt(), header.0[3], sense, residual(header))
    }

    fn on_r2t(&mut self, header: &Header) -> Result<(), SessionError> {
        self.note_window(header);
        let (offset, len) = (header.u32_at(40) as usize, header.u32_at(44) as usize);
        if len > self.negotiated.max_burst {
            return Err(SessionError::Protocol("it asks for more than MaxBurstLength"));
        }
        self.send_data(header.itt(), header.ttt(), offset, len)
    }

    fn send_data(&mut self, tag: u32, ttt: u32, offset: usize, len: usize) -> Result<(), SessionError> {
        let Some(Some(Task { transfer: Transfer::Out(data), lun, .. })) = self.tasks.get(tag as usize) else {
            return Err(SessionError::Protocol("it asks for data of a command that writes nothing"));
        };
        let Some(burst) = data.get(offset..offset + len) else {
            return Err(SessionError::Protocol("it asks for data beyond the end"));
        };
        let mut sent = 0;
        for (data_sn, part) in (0..).zip(burst.chunks(self.negotiated.max_send)) {
            let last = sent + part.len() == len;
            let mut header = Header::new(opcode::DATA_OUT, if last { FINAL } else { 0 });
            header.set(8, &lun.to_be_bytes());
            header.set_u32(16, tag).set_u32(20, ttt).set_u32(28, self.exp_stat_sn);
            header.set_u32(36, data_sn).set_u32(40, (offset + sent) as u32);
            self.stream.push(header, part)?;
            sent += part.len();
        }
        Ok(())
    }

    fn finish(&mut self, tag: u32, status: u8, sense: Vec<u8>, residual: i64) -> Result<(), SessionError> {
        let Some(task) = self.tasks.get_mut(tag as usize).and_then(Option::take) else {
            return Err(SessionError::Protocol("it answered a command that is not in flight"));
        };
        self.in_flight -= 1;
        self.finished.push_back(Completion { user: task.user, status, sense, residual, transfer: task.transfer });
        Ok(())
    }

    fn small_data(&mut self, header: &Header) -> Result<Vec<u8>, SessionError> {
        let len = header.data_len();
        if len > SMALL_DATA_MAX {
            return Err(SessionError::Protocol("it sent too much data in a PDU that carries none"));
        }
        let mut data = vec![0; len];
        self.stream.data(&mut data)?;
        Ok(data)
    }

    fn note_window(&mut self, header: &Header) {
        let (expected, max) = header.window();
        if serial_at_most(expected.wrapping_sub(1), max) && serial_at_most(self.max_cmd_sn, max) {
            self.max_cmd_sn = max;
        }
    }

    fn note_status(&mut self, header: &Header) {
        self.exp_stat_sn = header.stat_sn().wrapping_add(1);
    }

    fn free_tag(&mut self) -> u32 {
        let at = self.tasks.iter().position(Option::is_none).unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        at as u32
    }
}

// Tags of requests that are no SCSI commands; those use 0, 1, 2 … by their place in the table.
/// AsyncEvent of an Asynchronous Message (RFC 7143 §11.9.1).
const LOGOUT_REQUESTED: u8 = 1;
const PING_TAG: u32 = 0xffff_0000;
const TEXT_TAG: u32 = 0xffff_0001;
const TMF_TAG: u32 = 0xffff_0002;
const LOGOUT_TAG: u32 = 0xffff_0003;

/// Positive for an underflow, negative for an overflow (RFC 7143 §11.4.5).
fn residual(header: &Header) -> i64 {
    let count = i64::from(header.u32_at(44));
    match header.flags() & 0x06 {
        0x02 => count,
        0x04 => -count,
        _ => 0,
    }
}
