//! One TCP connection of a host: the door to everything else here.

use std::io::IoSlice;
use std::num::NonZeroU16;
use std::sync::Arc;

use dyad_payload::{Buf, Payload};
use dyad_units::Moment;

use crate::event::{
    Admission, AsyncEvent, CloseReason, DiscoveredTarget, Event, LoginRefusal, ManagementOutcome, ManagementTag,
    TaskTag,
};
use crate::settings::Settings;

/// State of one connection. See the crate's head for who calls what when.
#[derive(Debug)]
pub struct Connection {
    _settings: Arc<Settings>,
}

impl Connection {
    /// A connection just accepted.
    pub fn new(settings: Arc<Settings>, _now: Moment) -> Self {
        Self { _settings: settings }
    }

    /// A good size for the next receive buffer, in bytes: small before full feature phase, larger when much is
    /// expected.
    pub fn receive_hint(&self) -> usize {
        4096
    }

    /// Whether to read from the socket. False while the node's answer to a login is awaited, while too much output
    /// waits for the host, and once closed; what was received already is kept.
    pub fn wants_input(&self) -> bool {
        true
    }

    /// Takes bytes from the socket. PDUs may break anywhere. Data segments keep sharing `buf`.
    pub fn receive(&mut self, _now: Moment, _buf: Buf) {}

    /// The next thing to know or decide.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Answers [`Event::Login`]: go on.
    pub fn admit(&mut self, _admission: Admission) {}

    /// Answers [`Event::Login`] or [`Event::SessionReady`]: no. The connection closes after the response.
    pub fn refuse(&mut self, _refusal: LoginRefusal) {}

    /// Answers [`Event::SessionReady`]: full feature phase begins, under this session handle, unique in the node.
    pub fn start(&mut self, _tsih: NonZeroU16) {}

    /// Answers [`Event::Discover`].
    pub fn discovered(&mut self, _targets: &[DiscoveredTarget]) {}

    /// The command needs `len` bytes of data-out. [`Event::DataOut`] brings them: fewer if the host's expected
    /// length is less (that is reported to the host as residual overflow).
    pub fn solicit(&mut self, _task: TaskTag, _len: u32) {}

    /// Answers a command. `sense` is the sense data without the length that iSCSI puts before it; at most 252
    /// bytes. `data_in` is all that the command returns; what exceeds the host's expected length is cut and
    /// reported as residual. A tag that was answered or aborted before is ignored.
    pub fn respond(&mut self, _task: TaskTag, _status: u8, _sense: &[u8], _data_in: Payload) {}

    /// Ends a task without an answer (task management, reset). A tag that is not in flight is ignored.
    pub fn abort_task(&mut self, _task: TaskTag) {}

    /// Tasks in flight.
    pub fn tasks(&self) -> impl Iterator<Item = TaskTag> + '_ {
        std::iter::empty()
    }

    /// Answers [`Event::Management`].
    pub fn management_done(&mut self, _tag: ManagementTag, _outcome: ManagementOutcome) {}

    /// Answers [`Event::Logout`].
    pub fn logout_done(&mut self) {}

    /// Tells the host something unasked. Ignored outside full feature phase.
    pub fn announce(&mut self, _now: Moment, _event: AsyncEvent) {}

    /// Ends the connection: nothing more is read; what is queued may still be sent. [`Event::Closed`] follows.
    pub fn close(&mut self, _reason: CloseReason) {}

    /// Fills `slices` with what is to be sent, in order, and says how many were filled. Nothing is copied.
    pub fn gather<'a>(&'a self, _slices: &mut [IoSlice<'a>]) -> usize {
        0
    }

    /// Whether something is to be sent.
    pub fn wants_output(&self) -> bool {
        false
    }

    /// The socket took the first `bytes` of what is to be sent.
    pub fn transmitted(&mut self, _now: Moment, _bytes: usize) {}

    /// Looks at the clock. Call when [`Self::next_deadline`] has come; earlier does no harm.
    pub fn tick(&mut self, _now: Moment) {}

    /// When [`Self::tick`] is due. Changes with every call; only moves nearer when something is sent or received.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }
}
