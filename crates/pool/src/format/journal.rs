//! J, the commit journal: a ring of records, each durable before the next is begun (P2).
//!
//! ```text
//!        tail (oldest needed)                newest        head (next)
//!  | free | 41 | 42 | 43 | …                 | 57 |        | free … | skipped |
//! ```
//!
//! A record fills whole pages and never wraps; where the end of the ring is too near, the next record lies at
//! its start. Each record names the tail, so that the newest one says what must be there. Trimming frees
//! space only once a record that names the new tail is durable: were it reused before, by a record that is
//! torn, the newest whole record would name a tail that is overwritten.

use std::collections::VecDeque;

use dyad_payload::{Buf, Slab};
use dyad_units::PoolId;

use crate::format::bytes::{Writer, crc};
use crate::format::change;
use crate::format::layout::Area;
use crate::format::state::Change;

mod scan;

pub(crate) use scan::{Scanned, scan};

/// Longest record: what a disk writes in a fraction of a millisecond, some six thousand changes.
pub(crate) const RECORD_BYTES_MAX: u64 = 256 << 10;
/// Records fill pages, for O_DIRECT.
const PAGE: u64 = 4096;
/// Only records without changes may take the last bytes, so that there is always room to name a new tail.
const SEAL_BYTES: u64 = 4 * PAGE;

const MAGIC: u32 = u32::from_le_bytes(*b"DyJr");
const VERSION: u32 = 1;
/// magic u32 | version u32 | pool [16] | mount u64 | seq u64 | crc of the record before u64 | bytes u32 |
/// bytes of changes u32 | tail seq u64 | tail offset u64 | crc u64.
const HEADER_BYTES: usize = 80;
const CRC_AT: usize = HEADER_BYTES - 8;

/// Where a ring goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RingStart {
    /// Place of the next record within the ring.
    head: u64,
    next_seq: u64,
    prev_crc: u64,
    /// Records from the tail that the newest one names to the newest itself.
    live: VecDeque<Live>,
}

impl RingStart {
    /// An empty ring, whose bytes were all zeroed: formatting appends a first record to it, because a ring
    /// without any record is damaged.
    pub(crate) fn empty() -> Self {
        Self { head: 0, next_seq: 1, prev_crc: 0, live: VecDeque::new() }
    }
}

/// A record that is still needed, or at least still named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Live {
    seq: u64,
    /// Within the ring.
    at: u64,
}

/// A record to be written durably before the next is appended.
#[derive(Debug)]
pub(crate) struct Appended {
    /// Byte on the disk.
    pub(crate) offset: u64,
    /// The record.
    pub(crate) bytes: Buf,
    /// Its sequence number.
    pub(crate) seq: u64,
    /// How many changes it carries.
    pub(crate) taken: usize,
}

/// Bookkeeping of the ring in memory.
#[derive(Debug)]
pub(crate) struct Ring {
    area: Area,
    pool: PoolId,
    mount: u64,
    at: RingStart,
    /// Records below are no longer needed.
    needed_from: u64,
    /// The tail that the newest record names.
    named: u64,
    /// What the record before the newest named, and its checksum; to take the newest back.
    before: Option<(u64, u64)>,
}

impl Ring {
    /// A ring that goes on at `start`.
    pub(crate) fn new(area: Area, pool: PoolId, mount: u64, start: RingStart) -> Self {
        let named = start.live.front().map_or(0, |tail| tail.seq);
        Self { area, pool, mount, at: start, needed_from: named, named, before: None }
    }

    /// Records from here on are of a later mount.
    pub(crate) fn set_mount(&mut self, mount: u64) {
        self.mount = mount;
    }

    /// Bytes in all.
    pub(crate) fn capacity(&self) -> u64 {
        self.area.len
    }

    /// Bytes from the first record that is still needed up to the head, with what was skipped at the end. When
    /// they are many it is time to write pages.
    pub(crate) fn used(&self) -> u64 {
        self.used_from(self.needed_from)
    }

    /// Bytes that the next record may take at most. Less than what is not used as long as no record has named
    /// the new tail.
    pub(crate) fn free(&self) -> u64 {
        self.capacity() - self.used_from(self.named)
    }

    fn used_from(&self, seq: u64) -> u64 {
        match self.at.live.iter().find(|live| live.seq >= seq) {
            None => 0,
            Some(tail) if tail.at < self.at.head => self.at.head - tail.at,
            Some(tail) => self.capacity() - tail.at + self.at.head,
        }
    }

    /// The sequence number of the next record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.at.next_seq
    }

    /// Records with a lower `seq` are no longer needed. Their space is free after the next record, which says
    /// so on disk.
    pub(crate) fn trim_before(&mut self, seq: u64) {
        self.needed_from = self.needed_from.max(seq.min(self.at.next_seq));
    }

    /// Whether the next record will free space.
    pub(crate) fn is_trim_pending(&self) -> bool {
        self.named < self.needed_from
    }

    /// Encodes a record of as many of `changes`, from the front, as fit [`RECORD_BYTES_MAX`] and the free space
    /// beyond `reserve`. Without any change it is a *seal*: the record before it is then not the last, so that rot
    /// in it is told from a torn write. If not even the first change fits, but a trim is pending, the result is a
    /// seal that names the new tail; the changes fit after it. `None` if nothing fits, or the slab has no buffer.
    ///
    /// The record before must be durable by now (one commit is in flight, P2), or have been taken back.
    pub(crate) fn append(&mut self, changes: &[Change], reserve: u64, slab: &Slab) -> Option<Appended> {
        self.append_some(changes, reserve, slab).or_else(|| {
            let seal_helps = !changes.is_empty() && self.is_trim_pending();
            seal_helps.then(|| self.append_some(&[], 0, slab)).flatten()
        })
    }

    /// Forgets the newest record, whose write failed: the next one takes its place and its sequence number. Were
    /// it to follow behind, it would be a valid record beyond a bad one.
    pub(crate) fn take_back(&mut self) {
        if let Some((named, prev_crc)) = self.before.take()
            && let Some(newest) = self.at.live.pop_back()
        {
            self.named = named;
            self.at.prev_crc = prev_crc;
            self.at.next_seq = newest.seq;
            self.at.head = newest.at;
        }
    }

    fn append_some(&mut self, changes: &[Change], reserve: u64, slab: &Slab) -> Option<Appended> {
        let spare = if changes.is_empty() { reserve } else { reserve.saturating_add(SEAL_BYTES) };
        let (_, wanted) = fitting(changes, RECORD_BYTES_MAX);
        let (at, room) = self.place(wanted, self.free().saturating_sub(spare) / PAGE * PAGE);
        let (taken, len) = fitting(changes, room.min(RECORD_BYTES_MAX));
        if len > room || (taken == 0 && !changes.is_empty()) {
            return None;
        }
        let mut data = slab.take(len as usize).ok()?;
        let seq = self.at.next_seq;
        let tail = self.at.live.iter().find(|live| live.seq >= self.needed_from).copied();
        let tail = tail.unwrap_or(Live { seq, at });
        let sum = self.encode(&mut data, Live { seq, at }, tail, &changes[..taken]);

        // What the record before named is kept: this one may be taken back.
        self.at.live.retain(|live| live.seq >= self.named);
        self.at.live.push_back(Live { seq, at });
        self.before = Some((self.named, self.at.prev_crc));
        self.named = tail.seq;
        self.at.prev_crc = sum;
        self.at.next_seq += 1;
        self.at.head = (at + len) % self.capacity();
        Some(Appended { offset: self.area.offset + at, bytes: data.freeze(), seq, taken })
    }

    /// Where the next record goes, and how long it may be there, if it may take `budget` bytes at most: at the
    /// head, or at the ring's start if more of it fits there.
    fn place(&self, wanted: u64, budget: u64) -> (u64, u64) {
        let to_end = self.capacity() - self.at.head;
        let here = budget.min(to_end);
        let at_start = budget.saturating_sub(to_end);
        if here >= wanted || here >= at_start { (self.at.head, here) } else { (0, at_start) }
    }

    fn encode(&self, data: &mut [u8], this: Live, tail: Live, changes: &[Change]) -> u64 {
        let len = data.len() as u32;
        let (header, body) = data.split_at_mut(HEADER_BYTES);
        let mut to = Writer::new(body);
        changes.iter().for_each(|change| change::encode(change, &mut to));
        let body_len = to.at() as u32;
        to.zero_rest();
        let mut to = Writer::new(header);
        to.u32(MAGIC);
        to.u32(VERSION);
        to.bytes(&self.pool.to_bytes());
        to.u64(self.mount);
        to.u64(this.seq);
        to.u64(self.at.prev_crc);
        to.u32(len);
        to.u32(body_len);
        to.u64(tail.seq);
        to.u64(self.area.offset + tail.at);
        let sum = record_crc(self.pool, self.area.offset + this.at, data);
        data[CRC_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        sum
    }
}

/// How many of `changes` fit a record of `max` bytes, and how long it is then.
fn fitting(changes: &[Change], max: u64) -> (usize, u64) {
    let mut bytes = HEADER_BYTES as u64;
    let mut taken = 0;
    for change in changes {
        let with = bytes + change::encoded_len(change) as u64;
        if with.next_multiple_of(PAGE) > max {
            break;
        }
        bytes = with;
        taken += 1;
    }
    (taken, bytes.next_multiple_of(PAGE))
}

/// Covers every byte of the record and its place, so that one written to the wrong place is none.
fn record_crc(pool: PoolId, offset: u64, record: &[u8]) -> u64 {
    crc(pool.to_bytes(), &[&offset.to_le_bytes(), &record[..CRC_AT], &record[HEADER_BYTES..]])
}

#[cfg(test)]
mod tests;
