//! Reading the ring back.

use std::collections::{BTreeMap, VecDeque};

use dyad_units::PoolId;

use crate::error::OpenError;
use crate::format::bytes::Reader;
use crate::format::change;
use crate::format::journal::{HEADER_BYTES, Live, MAGIC, PAGE, RECORD_BYTES_MAX, RingStart, VERSION, record_crc};
use crate::format::layout::Area;
use crate::format::state::Change;

/// What the ring says.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// From the tail to the newest, in order: sequence number and changes.
    pub(crate) records: Vec<(u64, Vec<Change>)>,
    /// Where the ring goes on.
    pub(crate) start: RingStart,
}

/// A whole record.
#[derive(Clone, Copy)]
struct Found<'a> {
    seq: u64,
    prev_crc: u64,
    crc: u64,
    /// Bytes that it takes.
    len: u64,
    tail_seq: u64,
    /// Byte on the disk.
    tail_offset: u64,
    changes: &'a [u8],
}

/// Finds the newest record in the ring's bytes, and reads from the tail that it names up to it.
///
/// What would come after the newest was never answered: a torn record is just not there (P2). But everything
/// from the tail on was, so there each record must be whole and follow the one before. The disk must have been
/// synced since the last program wrote to it, so that what is read here stays.
///
/// # Errors
/// [`OpenError::JournalDamaged`], also for a ring without any record: formatting writes the first.
pub(crate) fn scan(ring: &[u8], area: Area, pool: PoolId) -> Result<Scanned, OpenError> {
    let found = find(ring, area, pool);
    let damaged = |at: u64| OpenError::JournalDamaged { offset: area.offset.saturating_add(at) };
    let Some((&newest_at, newest)) = found.iter().max_by_key(|(_, record)| record.seq) else {
        return Err(damaged(0));
    };
    let mut at = newest.tail_offset.checked_sub(area.offset).ok_or(damaged(newest_at))?;
    let mut record = found.get(&at).filter(|record| record.seq == newest.tail_seq).ok_or(damaged(at))?;
    let (mut live, mut records) = (VecDeque::new(), Vec::new());
    loop {
        live.push_back(Live { seq: record.seq, at });
        records.push((record.seq, decode_changes(record.changes).ok_or(damaged(at))?));
        let after = (at + record.len) % area.len;
        if record.seq == newest.seq {
            let start = RingStart { head: after, next_seq: record.seq + 1, prev_crc: record.crc, live };
            return Ok(Scanned { records, start });
        }
        // It follows at once, or at the ring's start if the end was too near.
        let next = [after, 0].into_iter().find_map(|at| {
            let next = found.get(&at)?;
            (next.seq == record.seq + 1 && next.prev_crc == record.crc).then_some((at, next))
        });
        (at, record) = next.ok_or(damaged(after))?;
    }
}

/// Every whole record, of this lap and of former ones, by place within the ring.
fn find(ring: &[u8], area: Area, pool: PoolId) -> BTreeMap<u64, Found<'_>> {
    let mut found = BTreeMap::new();
    let ring = &ring[..ring.len().min(area.len as usize)];
    let mut at = 0;
    while at < ring.len() {
        at += match parse(&ring[at..], area.offset + at as u64, pool) {
            Some(record) => {
                found.insert(at as u64, record);
                record.len as usize
            }
            None => PAGE as usize,
        };
    }
    found
}

/// The record that begins where `bytes` begin, which is byte `offset` of the disk; `None` if none does.
fn parse(bytes: &[u8], offset: u64, pool: PoolId) -> Option<Found<'_>> {
    let mut from = Reader::new(bytes);
    if from.u32()? != MAGIC || from.u32()? != VERSION || from.array()? != pool.to_bytes() {
        return None;
    }
    let _mount = from.u64()?;
    let (seq, prev_crc) = (from.u64()?, from.u64()?);
    let (len, changes_len) = (u64::from(from.u32()?), from.u32()? as usize);
    let (tail_seq, tail_offset, crc) = (from.u64()?, from.u64()?, from.u64()?);
    if len == 0 || !len.is_multiple_of(PAGE) || len > RECORD_BYTES_MAX || tail_seq > seq || seq == u64::MAX {
        return None;
    }
    let record = bytes.get(..len as usize)?;
    let changes = record.get(HEADER_BYTES..)?.get(..changes_len)?;
    (crc == record_crc(pool, offset, record)).then_some(Found {
        seq,
        prev_crc,
        crc,
        len,
        tail_seq,
        tail_offset,
        changes,
    })
}

fn decode_changes(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut from = Reader::new(bytes);
    let mut changes = Vec::new();
    while !from.is_empty() {
        changes.push(change::decode(&mut from)?);
    }
    Some(changes)
}
