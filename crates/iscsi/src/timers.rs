//! What a connection waits for, and how long.

use dyad_units::Moment;

use crate::event::CloseReason;
use crate::settings::Settings;

/// How long a closed connection may take to send its last words.
const LINGER: dyad_units::Period = dyad_units::Period::from_secs(2);

/// What the clock has to look at; from the connection's state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// In full feature phase.
    pub is_in_session: bool,
    /// Bytes are read from the host; otherwise its silence is ours.
    pub is_reading: bool,
    /// Something is to be sent.
    pub has_output: bool,
    /// The host owes data for a command.
    pub awaits_data: bool,
    /// Data came or was asked for since the last look.
    pub has_data_moved: bool,
}

/// What the clock demands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    Ping,
    Close(CloseReason),
}

/// Since when. A wait begins at the first look at the clock that finds it, because answers come in without a time;
/// looks are at most one ping interval apart, however busy the host is.
#[derive(Debug)]
pub(crate) struct Timers {
    opened: Moment,
    looked: Moment,
    heard: Moment,
    pinged: Option<Moment>,
    /// Output that nobody takes.
    stuck: Option<Moment>,
    /// Data that does not come.
    starved: Option<Moment>,
    logout_by: Option<Moment>,
    linger_until: Option<Moment>,
}

impl Timers {
    pub fn new(now: Moment) -> Self {
        Self {
            opened: now,
            looked: now,
            heard: now,
            pinged: None,
            stuck: None,
            starved: None,
            logout_by: None,
            linger_until: None,
        }
    }

    /// The host sent something.
    pub fn on_received(&mut self, now: Moment) {
        self.heard = now;
        self.pinged = None;
    }

    /// The host took something.
    pub fn on_transmitted(&mut self) {
        self.stuck = None;
    }

    /// The host was asked to log out by then.
    pub fn expect_logout(&mut self, by: Moment) {
        self.logout_by = Some(by);
    }

    /// Looks at the clock of an open connection.
    pub fn tick(&mut self, now: Moment, watch: Watch, settings: &Settings) -> Option<Due> {
        self.looked = now;
        if !watch.is_in_session && now >= self.opened + settings.login_timeout {
            return Some(Due::Close(CloseReason::LoginTimeout));
        }
        if self.logout_by.is_some_and(|by| now >= by) {
            return Some(Due::Close(CloseReason::LogoutTimeout));
        }
        if is_over(&mut self.stuck, watch.has_output, now, settings.send_timeout) {
            return Some(Due::Close(CloseReason::NotReading));
        }
        if watch.has_data_moved {
            self.starved = None;
        }
        if is_over(&mut self.starved, watch.awaits_data && watch.is_reading, now, settings.data_timeout) {
            return Some(Due::Close(CloseReason::Stalled));
        }
        if !watch.is_in_session {
            return None;
        }
        if !watch.is_reading {
            self.on_received(now); // we would not hear it
            return None;
        }
        match self.pinged {
            Some(pinged) if now >= pinged + settings.ping_timeout => Some(Due::Close(CloseReason::Silent)),
            None if now >= self.heard + settings.ping_interval => {
                self.pinged = Some(now);
                Some(Due::Ping)
            }
            _ => None,
        }
    }

    /// When to look next.
    pub fn next_deadline(&self, is_in_session: bool, settings: &Settings) -> Moment {
        let silence = match (is_in_session, self.pinged) {
            (false, _) => self.opened + settings.login_timeout,
            (true, None) => self.heard.min(self.looked) + settings.ping_interval,
            (true, Some(pinged)) => pinged + settings.ping_timeout, // forgotten when anything comes
        };
        let others = [
            self.stuck.map(|since| since + settings.send_timeout),
            self.starved.map(|since| since + settings.data_timeout),
            self.logout_by,
        ];
        others.into_iter().flatten().fold(silence, Moment::min)
    }

    /// Whether a closed connection waited long enough to send its last words.
    pub fn has_lingered(&mut self, now: Moment) -> bool {
        now >= *self.linger_until.get_or_insert(now + LINGER)
    }

    /// When it will have, if it was looked at before.
    pub fn linger_until(&self) -> Option<Moment> {
        self.linger_until
    }
}

fn is_over(since: &mut Option<Moment>, condition: bool, now: Moment, limit: dyad_units::Period) -> bool {
    if !condition {
        *since = None;
        return false;
    }
    now >= *since.get_or_insert(now) + limit
}
