//! Reading L after a crash of the process.

use dyad_units::DiskId;

use crate::format::bytes::{Reader, Writer, crc};
use crate::format::recent::entry::{self, ENTRY_BYTES, RecentEntry, RecentKind};
use crate::format::recent::{CAPACITY_MIN, HEADER_BYTES, HEADERS, MAGIC, POISONED, RING_AT, VERSION, ring_bytes};
use crate::log::RecentLog;

/// L as the process before left it.
#[derive(Debug)]
pub(crate) struct ReadBack {
    /// Oldest first. The last may be missing: the process died while storing it, and its data was not submitted.
    pub(crate) entries: Vec<RecentEntry>,
    /// The disk had failed (P11).
    pub(crate) is_poisoned: bool,
    /// Where the next entry goes.
    pub(super) next: u64,
    pub(super) superblock_mount: u64,
    pub(super) header: Header,
}

impl ReadBack {
    /// Where the next entry goes.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The disk failed while the pool was opened (P11): the process that tries again must know, for the kernel tells of what
    /// it could not write once. Nothing else is changed; it holds until an opening succeeds.
    pub(crate) fn note_poison(&mut self, log: &mut dyn RecentLog, disk: DiskId) {
        self.header.turn += 1;
        self.header.flags |= POISONED;
        self.header.store(log, disk);
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) mount: u64,
    pub(super) from: u64,
    pub(super) life: u64,
    pub(super) turn: u64,
    pub(super) tail: u64,
    pub(super) flushed: u64,
    pub(super) flags: u32,
}

impl Header {
    pub(super) fn store(&self, log: &mut dyn RecentLog, disk: DiskId) {
        let mut bytes = [0; HEADER_BYTES];
        let mut to = Writer::new(&mut bytes);
        to.u32(MAGIC);
        to.u32(VERSION);
        to.bytes(&disk.to_bytes());
        for field in [self.mount, self.from, self.life, self.turn, self.tail, self.flushed] {
            to.u64(field);
        }
        to.u32(self.flags);
        to.u32(0);
        let sum = crc(disk.to_bytes(), &[&bytes[..HEADER_BYTES - 8]]);
        bytes[HEADER_BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
        log.store((self.turn as usize % HEADERS) * HEADER_BYTES, &bytes);
    }
}

/// What is in L, if it belongs to the superblock's mount of the disk: it was begun by that mount, or a process that died
/// before it raised the mount number had taken it over.
pub(crate) fn read_back(log: &dyn RecentLog, disk: DiskId, mount: u64) -> Option<ReadBack> {
    if log.capacity() < CAPACITY_MIN {
        return None;
    }
    let headers = (0..HEADERS).filter_map(|nth| read_header(log, nth, disk));
    let ours = headers.filter(|header| header.mount == mount || header.from == mount);
    let header = ours.max_by_key(|header| header.turn)?;
    let ring = ring_bytes(log.capacity());
    let (mut entries, mut at) = (Vec::new(), header.tail);
    while at < header.tail.saturating_add(ring) {
        let to_end = ring - at % ring;
        if to_end < ENTRY_BYTES as u64 {
            at += to_end;
            continue;
        }
        let Some((mut entry, len)) = read_entry(log, ring, (disk, header.life, at)) else { break };
        if entry.head.kind == RecentKind::Pad {
            at += to_end;
            continue;
        }
        entry.flushed = at < header.flushed;
        entries.push(entry);
        at += len;
    }
    let is_poisoned = header.flags & POISONED != 0;
    let next = at.max(header.flushed);
    Some(ReadBack { entries, is_poisoned, next, superblock_mount: mount, header })
}

fn read_header(log: &dyn RecentLog, nth: usize, disk: DiskId) -> Option<Header> {
    let mut bytes = [0; HEADER_BYTES];
    log.load(nth * HEADER_BYTES, &mut bytes);
    let mut from = Reader::new(&bytes);
    if from.u32()? != MAGIC || from.u32()? != VERSION || from.array()? != disk.to_bytes() {
        return None;
    }
    let header = Header {
        mount: from.u64()?,
        from: from.u64()?,
        life: from.u64()?,
        turn: from.u64()?,
        tail: from.u64()?,
        flushed: from.u64()?,
        flags: from.u32()?,
    };
    let (_, sum) = (from.u32()?, from.u64()?);
    (sum == crc(disk.to_bytes(), &[&bytes[..HEADER_BYTES - 8]])).then_some(header)
}

fn read_entry(log: &dyn RecentLog, ring: u64, place: entry::Place) -> Option<(RecentEntry, u64)> {
    let position = place.2;
    let at = RING_AT + (position % ring) as usize;
    let mut fixed = [0; ENTRY_BYTES];
    log.load(at, &mut fixed);
    let len = entry::claimed_len(&fixed)?;
    if len as u64 > ring - position % ring {
        return None;
    }
    let mut bytes = vec![0; len];
    log.load(at, &mut bytes);
    let done = entry::take_done(&mut bytes);
    let (head, sums) = entry::decode(&bytes, place)?;
    Some((RecentEntry { head, sums, position, flushed: false, done }, len as u64))
}
