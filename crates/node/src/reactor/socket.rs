//! Sockets: accepting, receiving, sending, closing.

use std::io::IoSlice;

use dyad_iscsi::{CloseReason, Connection};
use dyad_payload::{BufMut, Slab};
use dyad_units::{Moment, Period};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::conns::{Conn, ConnRef, Interest};
use super::listen::{ACCEPTS_PER_TURN, local_address};
use super::run::{Reactor, guarded};
use super::timers::Timer;

/// Bytes received from one connection per turn, so that one host does not keep the others waiting.
const RECEIVE_PER_TURN: usize = 1 << 20;
/// Bytes sent to one connection per turn.
const SEND_PER_TURN: usize = 4 << 20;
/// Slices handed to the kernel per send.
const SLICES: usize = 64;
/// Time for the last bytes of a connection that is over.
const LINGER: Period = Period::from_secs(2);
/// Pause of a connection that found no buffer, and of listeners that found no descriptor.
const STARVED_PAUSE: Period = Period::from_millis(2);
const LISTEN_PAUSE: Period = Period::from_millis(100);

impl Reactor {
    /// Takes the connections that wait at a listener.
    pub(super) fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(number) else { return };
            if self.listen_again.is_some() {
                return;
            }
            match listener.accept() {
                Ok(None) => return,
                Ok(Some((socket, peer))) => {
                    let portal = local_address(&socket).unwrap_or(listener.address);
                    self.make_room();
                    if self.conns.len() >= self.settings.iscsi.connections_max as usize {
                        self.refused += 1;
                        continue;
                    }
                    let iscsi = Connection::new(self.iscsi.clone(), self.now);
                    self.add_conn(Conn {
                        socket,
                        iscsi,
                        peer,
                        portal,
                        claim: None,
                        is_half_open: true,
                        session: None,
                        rest: None,
                        still_since: None,
                        interest: Interest { input: true, output: false },
                        is_starved: false,
                        closes_at: None,
                        is_listed: false,
                        timer: None,
                    });
                }
                // No descriptor or no memory is left. A half-open connection may free one; otherwise rest.
                Err(_) => {
                    if !self.drop_oldest_half_open() {
                        self.rest_listeners();
                    }
                    return;
                }
            }
        }
    }

    fn add_conn(&mut self, conn: Conn) {
        let at = self.conns.add(conn);
        self.half_open += 1;
        self.arrivals.push_back(at);
        let Some(conn) = self.conns.get(at) else { return };
        let data = epoll::EventData::new_u64(at.to_u64());
        if epoll::add(&self.epoll, &conn.socket, data, flags_of(conn.interest)).is_err() {
            self.remove_conn(at);
            return;
        }
        self.list(at);
    }

    /// Drops the oldest connections that have not logged in while there are too many. A host that means it
    /// logs in within milliseconds; a flood only pushes out itself.
    fn make_room(&mut self) {
        while self.half_open >= self.settings.iscsi.half_open_max as usize
            || self.conns.len() >= self.settings.iscsi.connections_max as usize
        {
            if !self.drop_oldest_half_open() {
                return;
            }
        }
    }

    fn drop_oldest_half_open(&mut self) -> bool {
        while let Some(at) = self.arrivals.pop_front() {
            if self.conns.get(at).is_some_and(|conn| conn.is_half_open) {
                self.refused += 1;
                self.remove_conn(at);
                return true;
            }
        }
        false
    }

    fn rest_listeners(&mut self) {
        self.listen_again = Some(self.now + LISTEN_PAUSE);
        for listener in &self.listeners {
            let _ = epoll::delete(&self.epoll, &listener.socket);
        }
        self.wake_in(LISTEN_PAUSE);
    }

    pub(super) fn wake_listeners(&mut self) {
        let Some(again) = self.listen_again else { return };
        if again > self.now {
            return self.wake_in(again.since(self.now));
        }
        self.listen_again = None;
        for (number, listener) in self.listeners.iter().enumerate() {
            let data = epoll::EventData::new_u64(super::run::listener_name(number));
            let _ = epoll::add(&self.epoll, &listener.socket, data, epoll::EventFlags::IN);
        }
    }

    /// Something happened at a socket.
    pub(super) fn on_socket(&mut self, at: ConnRef, flags: epoll::EventFlags) {
        let Some(conn) = self.conns.get(at) else { return };
        let is_broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        if is_broken && !conn.interest.input {
            return self.close(at, CloseReason::Node("the connection broke"), true);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP) || is_broken {
            self.receive(at);
        }
        self.list(at);
    }

    fn receive(&mut self, at: ConnRef) {
        let mut budget = RECEIVE_PER_TURN;
        while budget > 0 {
            let Some(conn) = self.conns.get_mut(at) else { return };
            if conn.closes_at.is_some() || !conn.iscsi.wants_input() {
                return;
            }
            let Some((mut buf, filled)) = receive_buffer(conn, &self.slab) else {
                conn.is_starved = true;
                self.starved.push(at);
                return self.wake_in(STARVED_PAUSE);
            };
            let room = buf.len();
            let received = match rustix::net::recv(&conn.socket, &mut buf[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.close(at, CloseReason::Node("the host closed the connection"), false),
                Ok((received, _)) => received,
                Err(error @ (Errno::AGAIN | Errno::INTR)) => {
                    conn.rest = Some((buf, filled)).filter(|_| filled > 0);
                    if error == Errno::INTR {
                        continue;
                    }
                    return;
                }
                Err(_) => return self.close(at, CloseReason::Node("the connection broke"), true),
            };
            conn.still_since = None;
            let (now, iscsi) = (self.now, &mut conn.iscsi);
            let parsed = guarded(|| {
                iscsi.receive_part(now, buf.freeze_front(received));
                let keeps_rest = received < room && iscsi.wants_rest();
                if !keeps_rest {
                    iscsi.buffer_used(filled + received);
                }
                keeps_rest
            });
            match parsed {
                Ok(true) => conn.rest = Some((buf, filled + received)),
                Ok(false) => {}
                Err(fault) => return self.fail_conn(at, &fault.0),
            }
            self.drain_events(at);
            // Less than there was room for: the socket is empty, as far as we know; epoll knows.
            if received < room {
                return;
            }
            budget = budget.saturating_sub(received);
        }
    }

    /// Connections that found no buffer try again.
    pub(super) fn wake_starved(&mut self) {
        self.look_at_turn();
        for at in std::mem::take(&mut self.starved) {
            if let Some(conn) = self.conns.get_mut(at) {
                conn.is_starved = false;
                self.receive(at);
                self.list(at);
            }
        }
    }

    /// Sends what is to be sent and sees to what comes next for the connection.
    pub(super) fn send(&mut self, at: ConnRef) {
        let is_blocked = self.transmit(at);
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        if is_blocked || conn.iscsi.awaits_data() {
            conn.still_since.get_or_insert(now);
        } else {
            conn.still_since = None;
        }
        let wants_output = conn.iscsi.wants_output();
        if let Some(deadline) = conn.closes_at
            && (!wants_output || deadline <= self.now)
        {
            return self.remove_conn(at);
        }
        let interest = Interest {
            input: conn.closes_at.is_none() && !conn.is_starved && conn.iscsi.wants_input(),
            output: is_blocked || wants_output,
        };
        if interest != conn.interest {
            conn.interest = interest;
            let data = epoll::EventData::new_u64(at.to_u64());
            let _ = epoll::modify(&self.epoll, &conn.socket, data, flags_of(interest));
        }
        let deadline = earlier(conn.iscsi.next_deadline(), conn.closes_at);
        self.timers.want(Timer::Conn(at), &mut conn.timer, deadline);
    }

    /// Sends until nothing is left, the socket takes no more, or the turn's share is used up. Whether the
    /// socket took no more.
    fn transmit(&mut self, at: ConnRef) -> bool {
        let mut budget = SEND_PER_TURN;
        while budget > 0 {
            let Some(conn) = self.conns.get_mut(at).filter(|conn| conn.iscsi.wants_output()) else { return false };
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = conn.iscsi.gather(&mut slices);
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = rustix::net::sendmsg(&conn.socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags);
            match sent {
                Ok(sent) => {
                    conn.still_since = None;
                    let (now, iscsi) = (self.now, &mut conn.iscsi);
                    if let Err(fault) = guarded(|| iscsi.transmitted(now, sent)) {
                        self.fail_conn(at, &fault.0);
                        return false;
                    }
                    budget = budget.saturating_sub(sent);
                    self.drain_events(at);
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.close(at, CloseReason::Node("the connection broke"), true);
                    return false;
                }
            }
        }
        false
    }

    pub(super) fn on_conn_timer(&mut self, at: ConnRef, deadline: Moment) {
        let Some(conn) = self.conns.get_mut(at).filter(|conn| conn.timer == Some(deadline)) else { return };
        conn.timer = None;
        let (now, iscsi) = (self.now, &mut conn.iscsi);
        if let Err(fault) = guarded(|| iscsi.tick(now)) {
            return self.fail_conn(at, &fault.0);
        }
        self.list(at);
    }

    /// Ends a connection. What is queued may still be sent, unless the socket is `broken`.
    pub(super) fn close(&mut self, at: ConnRef, reason: CloseReason, broken: bool) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let iscsi = &mut conn.iscsi;
        if let Err(fault) = guarded(|| iscsi.close(reason)) {
            return self.fail_conn(at, &fault.0);
        }
        self.drain_events(at);
        if broken {
            self.remove_conn(at);
        } else {
            self.list(at);
        }
    }

    /// The connection said that it is over.
    pub(super) fn on_closed(&mut self, at: ConnRef, reason: &CloseReason) {
        self.end_session(at);
        let now = self.now;
        if let Some(conn) = self.conns.get_mut(at) {
            tracing::debug!(peer = %conn.peer, initiator = conn.claim, %reason, "connection over");
            conn.closes_at.get_or_insert(now + LINGER);
            conn.rest = None;
            self.list(at);
        }
    }

    /// A fault of ours while the connection was served: it goes, everybody else stays.
    pub(super) fn fail_conn(&mut self, at: ConnRef, fault: &str) {
        self.faults += 1;
        if let Some(conn) = self.conns.get(at) {
            tracing::error!(peer = %conn.peer, initiator = conn.claim, fault, "session closed after a fault of this program");
        }
        self.remove_conn(at);
    }

    /// Closes the socket and forgets the connection. Closing takes it out of epoll.
    pub(super) fn remove_conn(&mut self, at: ConnRef) {
        self.end_session(at);
        if let Some(conn) = self.conns.remove(at) {
            self.half_open -= usize::from(conn.is_half_open);
        }
        if self.arrivals.len() > ARRIVALS_SPARE + 2 * self.half_open {
            let conns = &self.conns;
            self.arrivals.retain(|&at| conns.get(at).is_some_and(|conn| conn.is_half_open));
        }
    }
}

/// The rest of the last buffer, or a new one; how much of it is filled. `None`: there is no memory now.
fn receive_buffer(conn: &mut Conn, slab: &Slab) -> Option<(BufMut, usize)> {
    if let Some(rest) = conn.rest.take() {
        return Some(rest);
    }
    let size = conn.iscsi.receive_hint().clamp(512, Slab::LEN_MAX);
    slab.take(size).ok().map(|buf| (buf, 0))
}

/// Entries of connections that are gone or logged in, beyond which the list of arrivals is swept.
const ARRIVALS_SPARE: usize = 1024;

fn flags_of(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    if interest.input {
        flags |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
    }
    if interest.output {
        flags |= epoll::EventFlags::OUT;
    }
    flags
}

fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
