//! Logout and asynchronous messages (RFC 7143 §11.9, §11.14, §11.15).

use dyad_units::Period;

use super::{Io, Session};
use crate::event::{AsyncEvent, CloseReason, Event};
use crate::pdu::{Async, Bhs, LogoutRequest, LogoutResponse, RejectReason};

/// Codes of §11.14.1.
mod reason {
    pub const CLOSE_SESSION: u8 = 0;
    pub const CLOSE_CONNECTION: u8 = 1;
    pub const REMOVE_FOR_RECOVERY: u8 = 2;
}

/// Codes of §11.15.1.
mod response {
    pub const CLOSED: u8 = 0;
    pub const CID_NOT_FOUND: u8 = 1;
    pub const RECOVERY_NOT_SUPPORTED: u8 = 2;
}

impl Session {
    pub(super) fn on_logout(&mut self, bhs: &Bhs, io: &mut Io<'_>) {
        let Ok(request) = LogoutRequest::parse(bhs) else { return };
        match request.reason {
            reason::CLOSE_CONNECTION if request.cid != self.cid => {
                self.answer_logout(request.task_tag, response::CID_NOT_FOUND, io);
            }
            // The only connection of the session, so both mean the same.
            reason::CLOSE_SESSION | reason::CLOSE_CONNECTION => {
                self.logout = Some(request.task_tag);
                io.events.push_back(Event::Logout);
            }
            reason::REMOVE_FOR_RECOVERY => {
                self.answer_logout(request.task_tag, response::RECOVERY_NOT_SUPPORTED, io);
            }
            _ => self.reject(bhs, RejectReason::InvalidField, io),
        }
    }

    /// The node ended the tasks.
    pub fn logout_done(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let Some(task_tag) = self.logout else { return Ok(()) };
        self.answer_logout(task_tag, response::CLOSED, io);
        Err(CloseReason::LoggedOut)
    }

    fn answer_logout(&mut self, task_tag: u32, response: u8, io: &mut Io<'_>) {
        let (time2wait, time2retain) = (self.parameters.time2wait, self.parameters.time2retain);
        let response = LogoutResponse { response, task_tag, numbers: self.numbers(), time2wait, time2retain };
        io.output.push(response.emit());
    }

    /// Tells the host something unasked.
    pub fn announce(&mut self, event: AsyncEvent, io: &mut Io<'_>) {
        let seconds = |period: Period| u16::try_from(period.as_nanos() / 1_000_000_000).unwrap_or(u16::MAX);
        let (event, parameters) = match event {
            AsyncEvent::LogoutRequested(within) => (1, [0, 0, seconds(within)]),
            AsyncEvent::SessionDropped { wait, retain } => (3, [0, seconds(wait), seconds(retain)]),
            AsyncEvent::NegotiationRequested(within) => (4, [0, 0, seconds(within)]),
        };
        let message = Async { lun: 0, numbers: self.numbers(), event, parameters };
        io.output.push(message.emit());
    }
}
