//! One TCP connection of a host: the door to everything else here.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::num::NonZeroU16;
use std::sync::Arc;

use dyad_payload::{Buf, Payload};
use dyad_units::Moment;

use crate::event::{
    Admission, AsyncEvent, CloseReason, DiscoveredTarget, Event, LoginRefusal, ManagementOutcome, ManagementTag,
    SessionKey, TaskTag,
};
use crate::login::{LOGIN_SEGMENT_BYTES_MAX, Login};
use crate::negotiate::Parameters;
use crate::pdu::{Bhs, LoginRequest, Opcode};
use crate::rx::{Input, Receiver, RxError, Step};
use crate::session::{Io, Session};
use crate::settings::Settings;
use crate::timers::{Due, Timers, Watch};
use crate::tx::Output;

/// Receive buffers: what a login needs, what a queue of reads needs, and the most that is read at once.
const RECEIVE_SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// A read that fills less than this part of its buffer asks for a smaller one: held data pin whole buffers, so this
/// bounds what they pin.
const RECEIVE_FILL: usize = 8;
/// So many reads in a row have to fill little of it before it is made smaller. The rest of a write that just did not fit
/// is such a read; made smaller for it, the buffer would be too small for each write that follows.
const RECEIVE_SMALL_MAX: u8 = 8;

#[derive(Debug)]
enum Phase {
    Login(Box<Login>),
    Session(Box<Session>),
    Closed(CloseReason),
}

/// State of one connection. See the crate's head for who calls what when.
#[derive(Debug)]
pub struct Connection {
    settings: Arc<Settings>,
    phase: Phase,
    input: Input,
    receiver: Receiver,
    output: Output,
    events: VecDeque<Event>,
    timers: Timers,
    /// Index into [`RECEIVE_SIZES`], following what the host sends.
    receive_size: u8,
    /// Reads in a row that filled little of it.
    receive_small: u8,
    is_finished: bool,
}

impl Connection {
    /// A connection just accepted.
    pub fn new(settings: Arc<Settings>, now: Moment) -> Self {
        Self {
            settings,
            phase: Phase::Login(Box::new(Login::new())),
            input: Input::default(),
            receiver: Receiver::new(LOGIN_SEGMENT_BYTES_MAX),
            output: Output::default(),
            events: VecDeque::new(),
            timers: Timers::new(now),
            receive_size: 0,
            receive_small: 0,
            is_finished: false,
        }
    }

    /// A good size for the next receive buffer, in bytes: small before full feature phase, then what reads have
    /// brought of late. What the host announces does not count: on a slow network, or from a host that means ill,
    /// each packet of a large segment would pin a large buffer.
    pub fn receive_hint(&self) -> usize {
        let Phase::Session(_) = &self.phase else { return RECEIVE_SIZES[0] };
        RECEIVE_SIZES[usize::from(self.receive_size)]
    }

    /// Whether to read from the socket. False while the node's answer to a login is awaited, while too much output
    /// waits for the host, and once closed; what was received already is kept.
    pub fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::Login(login) => !login.is_waiting(),
            Phase::Session(session) => !session.is_full(&self.output, &self.settings),
            Phase::Closed(_) => false,
        }
    }

    /// Takes bytes from the socket. PDUs may break anywhere. Data segments keep sharing `buf`.
    pub fn receive(&mut self, now: Moment, buf: Buf) {
        let len = buf.len();
        self.receive_part(now, buf);
        self.buffer_used(len);
    }

    /// As [`Self::receive`], for a buffer whose rest may still be filled: while [`Self::wants_rest`], the next bytes
    /// belong behind these, so that data that come in many packets are one slice. [`Self::buffer_used`] ends it.
    pub fn receive_part(&mut self, now: Moment, buf: Buf) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.timers.on_received(now);
        self.input.push(buf);
        self.parse();
    }

    /// Whether more data of a command is to come: the rest of a receive buffer is then worth keeping. Otherwise nobody
    /// knows when it would be filled.
    pub fn wants_rest(&self) -> bool {
        self.awaits_data() || self.session().is_some() && self.receiver.is_in_data()
    }

    /// A receive buffer is given up with this many bytes in it: what the size of the next one follows.
    pub fn buffer_used(&mut self, received: usize) {
        let size = RECEIVE_SIZES[usize::from(self.receive_size)];
        self.receive_small = if received < size / RECEIVE_FILL { self.receive_small + 1 } else { 0 };
        if received >= size {
            self.receive_size = (self.receive_size + 1).min(RECEIVE_SIZES.len() as u8 - 1);
        } else if self.receive_small == RECEIVE_SMALL_MAX {
            (self.receive_size, self.receive_small) = (self.receive_size.saturating_sub(1), 0);
        }
    }

    /// The next thing to know or decide.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Answers [`Event::Login`]: go on.
    pub fn admit(&mut self, admission: Admission) {
        let Phase::Login(login) = &mut self.phase else { return };
        match login.admit(admission, &self.settings, &mut self.output) {
            Ok(event) => self.events.extend(event),
            Err(refusal) => return self.refuse(refusal),
        }
        self.parse();
    }

    /// Answers [`Event::Login`] or [`Event::SessionReady`]: no. The connection closes after the response.
    pub fn refuse(&mut self, refusal: LoginRefusal) {
        let Phase::Login(login) = &self.phase else { return };
        login.refuse(&refusal, &self.settings, &mut self.output);
        self.close(CloseReason::LoginRefused(refusal));
    }

    /// Answers [`Event::SessionReady`]: full feature phase begins, under this session handle, unique in the node.
    pub fn start(&mut self, tsih: NonZeroU16) {
        let Phase::Login(login) = &mut self.phase else { return };
        let Some(logged_in) = login.start(tsih, &self.settings, &mut self.output) else { return };
        let parameters = &logged_in.parameters;
        let (header, data) = (parameters.header_digest, parameters.data_digest);
        self.receiver.configure(header, data, parameters.receive_segment_bytes_max);
        self.output.configure(header, data);
        self.phase = Phase::Session(Box::new(Session::new(logged_in, &self.settings)));
        self.parse();
    }

    /// Answers [`Event::Discover`].
    pub fn discovered(&mut self, targets: &[DiscoveredTarget]) {
        self.in_session(|session, io| session.discovered(targets, io));
    }

    /// The command needs `len` bytes of data-out. [`Event::DataOut`] brings them: fewer if the host's expected
    /// length is less (that is reported to the host as residual overflow).
    pub fn solicit(&mut self, task: TaskTag, len: u32) {
        self.in_session(|session, io| session.solicit(task, len, io));
    }

    /// Answers a command. `sense` is the sense data without the length that iSCSI puts before it; at most 252
    /// bytes. `data_in` is all that the command returns; what exceeds the host's expected length is cut and
    /// reported as residual. A tag that was answered or aborted before is ignored.
    pub fn respond(&mut self, task: TaskTag, status: u8, sense: &[u8], data_in: Payload) {
        self.in_session(|session, io| session.respond(task, status, sense, data_in, io));
    }

    /// Ends a task without an answer (task management, reset). A tag that is not in flight is ignored.
    pub fn abort_task(&mut self, task: TaskTag) {
        self.in_session(|session, io| session.abort_task(task, io));
    }

    /// Tasks that the node still has to answer.
    pub fn tasks(&self) -> impl Iterator<Item = TaskTag> + '_ {
        self.session().into_iter().flat_map(Session::tasks)
    }

    /// Answers [`Event::Management`].
    pub fn management_done(&mut self, tag: ManagementTag, outcome: ManagementOutcome) {
        self.try_in_session(|session, io| session.management_done(tag, outcome, io));
    }

    /// Answers [`Event::Logout`].
    pub fn logout_done(&mut self) {
        self.try_in_session(Session::logout_done);
    }

    /// Tells the host something unasked. Ignored outside full feature phase.
    pub fn announce(&mut self, now: Moment, event: AsyncEvent) {
        if let (AsyncEvent::LogoutRequested(within), Phase::Session(_)) = (event, &self.phase) {
            self.timers.expect_logout(now + self.settings.logout_timeout.max(within));
        }
        self.in_session(|session, io| session.announce(event, io));
    }

    /// Ends the connection: nothing more is read; what is queued may still be sent. [`Event::Closed`] is the only
    /// event that follows, once: what was not yet taken from the queue is never executed (M19).
    pub fn close(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        // A host that does not take or send anything does not take last words either.
        let is_deaf = matches!(reason, CloseReason::Silent | CloseReason::NotReading | CloseReason::LoginTimeout);
        self.is_finished = is_deaf;
        self.phase = Phase::Closed(reason.clone());
        self.input.clear();
        self.events.clear();
        self.events.push_back(Event::Closed(reason));
    }

    /// Whether a closed connection has sent its last words, or had the time to: the socket may be closed.
    pub fn is_finished(&self) -> bool {
        self.is_finished || matches!(self.phase, Phase::Closed(_)) && self.output.is_empty()
    }

    /// Fills `slices` with what is to be sent, in order, and says how many were filled. Nothing is copied.
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.gather(slices)
    }

    /// Whether something is to be sent.
    pub fn wants_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether it is the host's turn: it owes data for a command.
    pub fn awaits_data(&self) -> bool {
        self.session().is_some_and(Session::awaits_data)
    }

    /// Bytes of buffers that wait for this host to send the rest, or to take what is for it.
    pub fn held_bytes(&self) -> u64 {
        self.session().map_or(0, |session| session.held_bytes(&self.output))
    }

    /// The socket took the first `bytes` of what is to be sent.
    pub fn transmitted(&mut self, _now: Moment, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.output.transmitted(bytes);
        self.timers.on_transmitted();
        self.parse();
    }

    /// Looks at the clock. Call when [`Self::next_deadline`] has come; earlier does no harm.
    pub fn tick(&mut self, now: Moment) {
        let is_reading = self.wants_input();
        let (is_in_session, awaits_data, has_data_moved) = match &mut self.phase {
            Phase::Login(_) => (false, false, false),
            Phase::Session(session) => (true, session.awaits_data(), session.has_data_moved()),
            Phase::Closed(_) => {
                self.is_finished |= self.timers.has_lingered(now);
                return;
            }
        };
        let has_output = !self.output.is_empty();
        let watch = Watch { is_in_session, is_reading, has_output, awaits_data, has_data_moved };
        match (self.timers.tick(now, watch, &self.settings), &mut self.phase) {
            (Some(Due::Close(reason)), _) => self.close(reason),
            (Some(Due::Ping), Phase::Session(session)) => session.ping(&mut self.output),
            _ => {}
        }
    }

    /// When [`Self::tick`] is due; `None` if there is nothing to wait for. It moves with every call, so look at it
    /// once per turn; looking late by a second does no harm.
    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.phase {
            _ if self.is_finished() => None,
            Phase::Login(_) => Some(self.timers.next_deadline(false, &self.settings)),
            Phase::Session(_) => Some(self.timers.next_deadline(true, &self.settings)),
            Phase::Closed(_) => Some(self.timers.linger_until().unwrap_or(Moment::START)),
        }
    }

    /// Why it is over, if it is.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        if let Phase::Closed(reason) = &self.phase { Some(reason) } else { None }
    }

    /// Whose session this is, in full feature phase.
    pub fn session_key(&self) -> Option<&SessionKey> {
        self.session().map(|session| &session.key)
    }

    /// What was negotiated, in full feature phase.
    pub fn parameters(&self) -> Option<&Parameters> {
        self.session().map(|session| &session.parameters)
    }

    fn session(&self) -> Option<&Session> {
        if let Phase::Session(session) = &self.phase { Some(session) } else { None }
    }

    fn in_session(&mut self, act: impl FnOnce(&mut Session, &mut Io<'_>)) {
        self.try_in_session(|session, io| {
            act(session, io);
            Ok(())
        });
    }

    fn try_in_session(&mut self, act: impl FnOnce(&mut Session, &mut Io<'_>) -> Result<(), CloseReason>) {
        let Phase::Session(session) = &mut self.phase else { return };
        let mut io = Io { output: &mut self.output, events: &mut self.events, settings: &self.settings };
        match act(session, &mut io) {
            Ok(()) => self.parse(), // an answer may have made room for more
            Err(reason) => self.close(reason),
        }
    }

    /// Follows the input until it is used up or must wait. The end of a PDU may be due although no byte is left.
    fn parse(&mut self) {
        while self.wants_input() {
            let result = match self.receiver.next(&mut self.input) {
                Ok(None) => return,
                Ok(Some(step)) => self.on_step(step),
                Err(error) => self.on_rx_error(error),
            };
            if let Err(reason) = result {
                self.close(reason);
            }
        }
    }

    fn on_step(&mut self, step: Step) -> Result<(), CloseReason> {
        match &mut self.phase {
            Phase::Closed(_) => Ok(()),
            Phase::Session(session) => {
                let mut io = Io { output: &mut self.output, events: &mut self.events, settings: &self.settings };
                match step {
                    Step::Header(bhs, has_ahs) => session.on_header(bhs, has_ahs),
                    Step::Data(part) => return session.on_data(part),
                    Step::End(is_right) => return session.on_end(is_right, &mut io),
                }
                Ok(())
            }
            Phase::Login(login) => {
                let result = match step {
                    Step::Header(bhs, _) => match login_request(&bhs)? {
                        Some(request) => login.on_header(request, bhs.data_len()).map(|()| None),
                        None => Err(LoginRefusal::InitiatorError),
                    },
                    Step::Data(part) => login.on_text(&part).map(|()| None),
                    Step::End(_) => login.on_end(&self.settings, &mut self.output),
                };
                match result {
                    Ok(event) => self.events.extend(event),
                    Err(refusal) => self.refuse(refusal),
                }
                Ok(())
            }
        }
    }

    fn on_rx_error(&mut self, error: RxError) -> Result<(), CloseReason> {
        match error {
            RxError::HeaderDigest => Err(CloseReason::Digest("header digest")),
            RxError::SegmentTooLong(bhs) => {
                if let (Phase::Login(login), Ok(Some(request))) = (&mut self.phase, login_request(&bhs)) {
                    // Noted, so that the refusal can be addressed; the text will not be read.
                    let _ = login.on_header(request, 0);
                    self.refuse(LoginRefusal::InitiatorError);
                    return Ok(());
                }
                if let Phase::Session(session) = &mut self.phase {
                    let mut io = Io { output: &mut self.output, events: &mut self.events, settings: &self.settings };
                    session.on_long_segment(&bhs, &mut io);
                }
                Err(CloseReason::Protocol("a data segment longer than was agreed"))
            }
        }
    }
}

/// §6.3: before full feature phase there is nothing but login requests. `None` if one cannot be understood.
fn login_request(bhs: &Bhs) -> Result<Option<LoginRequest>, CloseReason> {
    if bhs.opcode() != Some(Opcode::LoginRequest) {
        return Err(CloseReason::Protocol("something else than a login before login"));
    }
    Ok(LoginRequest::parse(bhs).ok())
}
