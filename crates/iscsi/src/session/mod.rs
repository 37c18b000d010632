//! Full feature phase: one session with its one connection.
//!
//! Each concern has a file: commands, data-out, data-in, task management, pings, text, logout. This one keeps what
//! they share: sequence numbers, the window, and who may speak when.
//!
//! Invariants:
//! - StatSN rises by one with each PDU that carries a status, in the order of sending.
//! - ExpCmdSN + room − 1 = MaxCmdSN, where room is the queue depth less the commands in flight: it never falls.
//! - A task is answered once, and not while its host may still be sending data for it (§11.4.2).

mod command;
mod datain;
mod dataout;
mod logout;
mod nop;
mod textual;
mod tmf;

use std::collections::VecDeque;

use dyad_payload::{Buf, Payload, Slab};
use smallvec::SmallVec;

use crate::event::{CloseReason, Event, SessionKey, TaskTag};
use crate::login::LoggedIn;
use crate::negotiate::Parameters;
use crate::pdu::{Bhs, NO_TAG, Numbers, Opcode, Reject, RejectReason, sn_before};
use crate::settings::Settings;
use crate::tasks::Tasks;
use crate::tx::{Output, PDU_COST};
use textual::TextExchange;
use tmf::Managements;

/// Commands aborted before they came (§11.5.5, case b) that are remembered at a time.
const SKIPPED_MAX: usize = 8;

/// Bytes that a piece of held data must have on average: the smallest packets of ordinary networks bring 536. Each
/// piece pins its receive buffer, 4 KiB at least.
const PIECE_BYTES_MIN: usize = 512;
/// Smaller pieces that a command may hold before anybody counts.
const PIECES_FREE: usize = 64;
/// Smaller pieces that a session may hold: they pin 64 MiB, no more than its data may have bytes.
const PIECES_MAX: usize = 16 << 10;

/// What a session may touch beside itself.
pub(crate) struct Io<'a> {
    pub output: &'a mut Output,
    pub events: &'a mut VecDeque<Event>,
    pub settings: &'a Settings,
}

/// What a request's CmdSN says (§4.2.2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    /// Execute it now.
    Now,
    /// Not within the window, or aborted before it came: ignore it silently.
    Ignore,
}

/// The PDU that is coming in.
#[derive(Debug)]
struct Incoming {
    bhs: Bhs,
    has_ahs: bool,
    data: Payload,
}

/// State of the session.
#[derive(Debug)]
pub(crate) struct Session {
    pub parameters: Parameters,
    pub key: SessionKey,
    cid: u16,
    stat_sn: u32,
    exp_cmd_sn: u32,
    skipped: SmallVec<[u32; SKIPPED_MAX]>,
    incoming: Option<Incoming>,
    tasks: Tasks,
    /// Tasks whose host is sending data, or was asked to.
    data_open: u16,
    /// Whether data came or was asked for since the last look at the clock.
    data_moved: bool,
    /// Tasks that wait for the budget of solicited bytes, oldest first; may hold tags of ended tasks.
    waiting: VecDeque<TaskTag>,
    /// Solicited bytes asked for or held.
    reserved: u64,
    /// Data-in that commands in flight may return.
    promised: u64,
    managements: Managements,
    text: Option<TextExchange>,
    text_serial: u32,
    /// Transfer tag of our last ping.
    ping_serial: u32,
    /// The host logs out with this tag.
    logout: Option<u32>,
}

impl Session {
    pub fn new(login: LoggedIn, settings: &Settings) -> Self {
        Self {
            parameters: login.parameters,
            key: login.key,
            cid: login.cid,
            stat_sn: login.stat_sn,
            exp_cmd_sn: login.cmd_sn,
            skipped: SmallVec::new(),
            incoming: None,
            tasks: Tasks::new(settings.window()),
            data_open: 0,
            data_moved: false,
            waiting: VecDeque::new(),
            reserved: 0,
            promised: 0,
            managements: Managements::default(),
            text: None,
            text_serial: 0,
            ping_serial: 0,
            logout: None,
        }
    }

    /// Whether no more of the host's requests may be read: it must take answers first, or it has logged out.
    pub fn is_full(&self, output: &Output, settings: &Settings) -> bool {
        self.logout.is_some() || self.promised + output.cost() > settings.output_bytes_max
    }

    /// Whether the host is sending data or was asked to.
    pub fn awaits_data(&self) -> bool {
        self.data_open > 0
    }

    /// Whether data came or was asked for since the last call.
    pub fn has_data_moved(&mut self) -> bool {
        std::mem::take(&mut self.data_moved)
    }

    /// Bytes of buffers that wait for this host: data of commands that is not complete, answers that it does not take.
    pub fn held_bytes(&self, output: &Output) -> u64 {
        let of_tasks: u64 = self.tasks.iter().map(|(_, task)| task.out.data.len() as u64).sum();
        of_tasks + self.incoming.as_ref().map_or(0, |incoming| incoming.data.len() as u64) + output.cost()
    }

    pub fn tasks(&self) -> impl Iterator<Item = TaskTag> + '_ {
        self.tasks.iter().filter(|(_, task)| task.is_with_node()).map(|(tag, _)| tag)
    }

    /// A PDU begins.
    pub fn on_header(&mut self, bhs: Bhs, has_ahs: bool) {
        self.incoming = Some(Incoming { bhs, has_ahs, data: Payload::new() });
    }

    /// Part of its data.
    pub fn on_data(&mut self, part: Buf) -> Result<(), CloseReason> {
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        incoming.data.push(part);
        let small = small_pieces(&incoming.data);
        self.check_pieces(small)
    }

    /// Data in tiny pieces would pin far more memory than they have bytes; `small` is what just grew.
    fn check_pieces(&self, small: usize) -> Result<(), CloseReason> {
        if small <= PIECES_FREE {
            return Ok(());
        }
        let of_tasks: usize = self.tasks.iter().map(|(_, task)| small_pieces(&task.out.data)).sum();
        let incoming = self.incoming.as_ref().map_or(0, |incoming| small_pieces(&incoming.data));
        match of_tasks + incoming > PIECES_MAX {
            true => Err(CloseReason::Protocol("data in pieces too small to be kept")),
            false => Ok(()),
        }
    }

    /// It is complete; its data digest is right or not.
    pub fn on_end(&mut self, is_right: bool, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let Some(Incoming { bhs, has_ahs, data }) = self.incoming.take() else { return Ok(()) };
        let opcode = bhs.opcode();
        if opcode == Some(Opcode::DataOut) {
            return self.on_data_out(&bhs, data, is_right, io);
        }
        if !is_right {
            // §7.8: the PDU counts as never received. At ErrorRecoveryLevel 0 nobody sends it again.
            self.reject(&bhs, RejectReason::DataDigest, io);
            return Err(CloseReason::Digest("data digest of a request"));
        }
        if has_ahs && opcode != Some(Opcode::ScsiCommand) {
            self.reject(&bhs, RejectReason::InvalidField, io);
            return Ok(());
        }
        match opcode {
            Some(
                Opcode::ScsiCommand
                | Opcode::TaskRequest
                | Opcode::TextRequest
                | Opcode::LogoutRequest
                | Opcode::NopOut,
            ) => self.on_request(&bhs, has_ahs, data, io),
            Some(Opcode::Snack) => {
                self.reject(&bhs, RejectReason::Snack, io);
                Ok(())
            }
            Some(Opcode::LoginRequest) => {
                self.reject(&bhs, RejectReason::Protocol, io);
                Err(CloseReason::Protocol("a login request in full feature phase"))
            }
            // §11.17.1: what targets send is known, and not allowed here.
            Some(_) => {
                self.reject(&bhs, RejectReason::Protocol, io);
                Err(CloseReason::Protocol("a PDU that initiators do not send"))
            }
            // Whether it has a CmdSN nobody knows.
            None => {
                self.reject(&bhs, RejectReason::NotSupported, io);
                Err(CloseReason::Protocol("a PDU of an unknown kind"))
            }
        }
    }

    /// A PDU with a CmdSN.
    fn on_request(&mut self, bhs: &Bhs, has_ahs: bool, data: Payload, io: &mut Io<'_>) -> Result<(), CloseReason> {
        if self.order(bhs)? == Order::Ignore {
            return Ok(());
        }
        let is_discovery = self.key.target.is_none();
        if bhs.opcode() != Some(Opcode::NopOut)
            && let Some(reason) = self.fault_of_tag(bhs.task_tag())
        {
            self.reject(bhs, reason, io);
            return Ok(());
        }
        match bhs.opcode() {
            Some(Opcode::NopOut) => self.on_nop_out(bhs, data, io),
            Some(Opcode::TextRequest) => return self.on_text_request(bhs, &data, io),
            Some(Opcode::LogoutRequest) => self.on_logout(bhs, io),
            // §4.3: a discovery session takes nothing else.
            _ if is_discovery => self.reject(bhs, RejectReason::NotSupported, io),
            Some(Opcode::TaskRequest) => self.on_task_request(bhs, io),
            _ => self.on_command(bhs, has_ahs, data, io),
        }
        Ok(())
    }

    /// §11.2.1.8: each request has a tag of its own; only a ping that wants no answer has none.
    fn fault_of_tag(&self, task_tag: u32) -> Option<RejectReason> {
        if task_tag == NO_TAG {
            return Some(RejectReason::InvalidField);
        }
        self.tasks.by_task_tag(task_tag).map(|_| RejectReason::TaskInProgress)
    }

    /// A PDU whose data are more than was agreed; the connection ends, as they are not read.
    pub fn on_long_segment(&mut self, bhs: &Bhs, io: &mut Io<'_>) {
        self.reject(bhs, RejectReason::Protocol, io);
    }

    /// Where a request stands in the order of commands; takes its CmdSN if it is the next.
    fn order(&mut self, bhs: &Bhs) -> Result<Order, CloseReason> {
        if bhs.is_immediate() {
            return Ok(Order::Now);
        }
        self.skip_aborted();
        let cmd_sn = bhs.cmd_sn();
        if sn_before(cmd_sn, self.exp_cmd_sn) || sn_before(self.max_cmd_sn(), cmd_sn) {
            return Ok(Order::Ignore);
        }
        if cmd_sn != self.exp_cmd_sn {
            // One connection keeps order, so what is missing was never sent; at ErrorRecoveryLevel 0 it never will.
            return Err(CloseReason::Protocol("a CmdSN was left out"));
        }
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        Ok(Order::Now)
    }

    /// Counts commands as received that were aborted before they came.
    fn skip_aborted(&mut self) {
        while let Some(at) = self.skipped.iter().position(|&cmd_sn| cmd_sn == self.exp_cmd_sn) {
            self.skipped.swap_remove(at);
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        }
    }

    fn max_cmd_sn(&self) -> u32 {
        let room = self.tasks.window().saturating_sub(self.tasks.queued());
        self.exp_cmd_sn.wrapping_add(u32::from(room)).wrapping_sub(1)
    }

    /// Numbers of a PDU with a status: uses up a StatSN.
    fn numbers(&mut self) -> Numbers {
        let numbers = self.numbers_unused();
        self.stat_sn = self.stat_sn.wrapping_add(1);
        numbers
    }

    /// Numbers of a PDU that shows the next StatSN without using it.
    fn numbers_unused(&self) -> Numbers {
        Numbers { stat_sn: self.stat_sn, exp_cmd_sn: self.exp_cmd_sn, max_cmd_sn: self.max_cmd_sn() }
    }

    fn reject(&mut self, bhs: &Bhs, reason: RejectReason, io: &mut Io<'_>) {
        let reject = Reject { reason: reason as u8, numbers: self.numbers() };
        io.output.push_small(reject.emit(), bhs.as_bytes());
    }

    /// What a read of this length may add to the cost of the output: its buffers, and a header for each segment.
    fn cost_of_read(&self, len: u32) -> u64 {
        let segments = u64::from(len.div_ceil(self.parameters.send_segment_bytes_max.max(1)));
        Slab::bytes_for(len as usize) as u64 + segments * PDU_COST
    }

    /// Ends a task and gives back what it held.
    fn end_task(&mut self, tag: TaskTag) -> Option<crate::tasks::Task> {
        let task = self.tasks.remove(tag)?;
        if task.is_data_open() {
            self.data_open -= 1;
        }
        if task.out.is_waiting {
            self.waiting.retain(|&waiting| waiting != tag);
        }
        self.reserved -= u64::from(task.out.reserved);
        self.promised -= task.promised;
        Some(task)
    }

    /// Ends a task without an answer.
    pub fn abort_task(&mut self, tag: TaskTag, io: &mut Io<'_>) {
        if self.end_task(tag).is_some() {
            self.solicit_waiting(io);
        }
    }

    /// A ping of ours.
    pub fn ping(&mut self, output: &mut Output) {
        self.ping_serial = (self.ping_serial.wrapping_add(1)) & !(1 << 31);
        debug_assert_ne!(self.ping_serial, NO_TAG);
        self.send_ping(output);
    }
}

/// Pieces beyond what data of that length may be cut into.
fn small_pieces(data: &Payload) -> usize {
    data.slices().len().saturating_sub(data.len() / PIECE_BYTES_MIN)
}
