//! Memory for write data: asked for only while there is room to take it.
//!
//! A write's data occupies buffers from its arrival until every image has it. A host is asked for data
//! (R2T) only within a budget shared by all sessions, so that whatever was asked for can be taken and every
//! write that was begun comes to its end; the others wait with nothing but their CDB. Data that hosts send
//! unasked is bounded per session; when it becomes too much together, its commands are answered TASK SET FULL.
//!
//! A session has only a part of that budget at a time; its other commands stand in its own line.
//!
//! A host that does not take the answers to its reads holds buffers too: a small part of them per session. Where many
//! such sessions together, or hosts that owe the rest of their data, fill the memory, those that stand still are
//! dropped, the one that holds most first: it is they or everybody else.

use std::collections::VecDeque;

use dyad_iscsi::{CloseReason, TaskTag};
use dyad_payload::Slab;
use dyad_units::{Moment, Period};

use super::conns::{Conn, ConnRef};
use super::run::Reactor;

/// Part of the buffers that solicited data may occupy, in eighths; the rest is for unsolicited data, for
/// reads and for the rooms' own needs.
const SOLICITED_EIGHTHS: u64 = 4;
/// Part of what may be asked for that one session may have, so that it takes as many hosts that never send what they were
/// asked for to stop the others; of the default 512 MiB a session may have 32 MiB in flight.
const SOLICITED_OF_SESSION: u64 = 8;
/// Fullness in eighths beyond which writes are refused.
const CROWDED_EIGHTHS: u64 = 7;
/// Part of the buffers that the answers to one session may hold: 16 hosts that never read hold a quarter of them, and
/// of the default 512 MiB each session may have 8 MiB in flight, which at 1 ms per read is 8 GB/s.
pub(super) const ANSWERS_OF_SESSION: u64 = 64;
/// How long a session may stand still while memory is short: hosts and networks pause, but rarely for so long, and
/// whoever is dropped comes again at once.
const STILL_MAX: Period = Period::from_secs(1);
/// Pause between two sessions that are dropped, so that what the first one held is back before the next is chosen.
const RELIEF_PAUSE: Period = Period::from_millis(10);

/// Fullness in eighths down to which sessions are dropped when a write was refused lately: memory that is just below the bound
/// is above it with the data of the next write.
const RELIEVED_EIGHTHS: u64 = 6;
/// How long a refusal counts: whoever was refused has tried again by then.
const REFUSED_LATELY: Period = Period::from_secs(1);

/// What may be asked for.
#[derive(Debug)]
pub(super) struct Budget {
    buffers: u64,
    max: u64,
    used: u64,
    waiting: VecDeque<Wish>,
    /// No session is dropped before.
    relief_after: Moment,
    /// Until when a refusal of a write counts.
    short_until: Moment,
}

/// A command that waits to be asked for its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) conn: ConnRef,
    pub(super) tag: TaskTag,
    pub(super) len: u32,
}

impl Budget {
    pub(super) fn new(buffers: u64) -> Self {
        Self {
            buffers,
            max: buffers / 8 * SOLICITED_EIGHTHS,
            used: 0,
            waiting: VecDeque::new(),
            relief_after: Moment::START,
            short_until: Moment::START,
        }
    }

    /// What one session may wish for at a time.
    pub(super) fn session_max(&self) -> u64 {
        self.max / SOLICITED_OF_SESSION
    }

    /// Whether somebody waits to be asked for data because others were, and did not send it.
    fn is_blocked(&self) -> bool {
        self.waiting.front().is_some_and(|wish| !self.fits(wish.len))
    }

    /// Whether the wish may be granted now; otherwise it waits. One alone is granted whatever its size.
    pub(super) fn ask(&mut self, wish: Wish) -> bool {
        if self.waiting.is_empty() && self.fits(wish.len) {
            self.used += u64::from(wish.len);
            return true;
        }
        self.waiting.push_back(wish);
        false
    }

    /// What was granted is free again.
    pub(super) fn give_back(&mut self, len: u32) {
        self.give_back_all(u64::from(len));
    }

    /// As [`Self::give_back`], for many at once.
    pub(super) fn give_back_all(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// A wish is over that was not granted: whoever gives up and wishes anew must not fill the line.
    pub(super) fn forget(&mut self, conn: ConnRef, tag: TaskTag) {
        self.waiting.retain(|wish| wish.conn != conn || wish.tag != tag);
    }

    /// The next wish that may be granted.
    pub(super) fn next(&mut self) -> Option<Wish> {
        let wish = *self.waiting.front().filter(|wish| self.fits(wish.len))?;
        self.waiting.pop_front();
        self.used += u64::from(wish.len);
        Some(wish)
    }

    /// Whether a write has to be refused.
    pub(super) fn is_crowded(&self, slab: &Slab) -> bool {
        self.is_fuller(slab, CROWDED_EIGHTHS)
    }

    fn is_fuller(&self, slab: &Slab, eighths: u64) -> bool {
        let usage = slab.usage();
        (usage.bytes_total - usage.bytes_free.min(usage.bytes_total)) as u64 > self.buffers / 8 * eighths
    }

    /// Whether somebody has to go for the others.
    fn is_short(&self, slab: &Slab, now: Moment) -> bool {
        let enough = if now < self.short_until { RELIEVED_EIGHTHS } else { CROWDED_EIGHTHS };
        self.is_fuller(slab, enough) || self.is_blocked()
    }

    /// A write was refused.
    pub(super) fn note_refusal(&mut self, now: Moment) {
        self.short_until = now + REFUSED_LATELY;
    }

    fn fits(&self, len: u32) -> bool {
        self.used == 0 || self.used + u64::from(len) <= self.max
    }
}

impl Reactor {
    /// Drops a session that stands still, if memory is short.
    pub(super) fn relieve(&mut self) {
        if !self.budget.is_short(&self.slab, self.now) {
            return;
        }
        self.wake_in(RELIEF_PAUSE);
        if self.now < self.budget.relief_after {
            return;
        }
        self.budget.relief_after = self.now + RELIEF_PAUSE;
        let now = self.now;
        let is_still = |conn: &Conn| conn.still_since.is_some_and(|since| now.since(since) >= STILL_MAX);
        let held_of = |conn: &Conn| conn.iscsi.held_bytes() + conn.session.as_ref().map_or(0, |session| session.wished);
        let still = self.conns.iter().filter(|(_, conn)| is_still(conn));
        let Some((at, conn)) = still.max_by_key(|(_, conn)| held_of(conn)) else { return };
        let held = held_of(conn);
        tracing::warn!(peer = %conn.peer, initiator = conn.claim, held, "session dropped: it stands still and memory for others is short");
        self.refused += 1;
        self.close(at, CloseReason::NotReading, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_served_in_order() {
        // Tags can only be made by a connection; whose wish it is does not matter here.
        let mut budget = Budget::new(800);
        assert!(budget.fits(5000), "one alone, whatever its size");
        budget.used += 350;
        assert!(!budget.fits(100));
        assert!(budget.fits(50));
        budget.give_back(350);
        assert!(budget.next().is_none());
        assert!(!budget.is_crowded(&Slab::new(800)));
    }
}
