//! One operation between the moment it is handed over and its answer.

use std::fmt;

use dyad_payload::BufMut;
use dyad_pool::{DiskDone, DiskError, DiskOp, DiskToken};

use super::Answer;
use super::faults::Kind;
use super::medium::{Medium, Tick};
use crate::rng::Rng;

const PAGE: u64 = 4096;

enum Work {
    Read(BufMut),
    Write {
        bytes: Vec<u8>,
        /// Pages (or units, if durable) as offsets into `bytes` that are still to reach their place.
        left: Vec<(usize, usize)>,
        is_durable: bool,
    },
    Sync,
}

/// An operation in flight.
pub(super) struct Job {
    id: u64,
    started: Tick,
    token: DiskToken,
    offset: u64,
    len: u64,
    work: Work,
}

impl Job {
    pub(super) fn new(op: DiskOp, id: u64, started: Tick) -> Self {
        let (token, offset, len, work) = match op {
            DiskOp::Read { token, offset, buf } => (token, offset, buf.len() as u64, Work::Read(buf)),
            DiskOp::Write { token, offset, data } => {
                (token, offset, data.len() as u64, Work::write(data.to_vec(), offset, false))
            }
            DiskOp::WriteDurable { token, offset, data } => {
                (token, offset, data.len() as u64, Work::write(data.to_vec(), offset, true))
            }
            DiskOp::Sync { token } => (token, 0, 0, Work::Sync),
        };
        Self { id, started, token, offset, len, work }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.work {
            Work::Read(_) => Kind::Read,
            Work::Write { is_durable: false, .. } => Kind::Write,
            Work::Write { is_durable: true, .. } => Kind::Durable,
            Work::Sync => Kind::Sync,
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether no correct pool has both in flight at once: the disk may do them in either order.
    pub(super) fn clashes_with(&self, other: &Self) -> bool {
        let overlaps = self.offset < other.offset + other.len && other.offset < self.offset + self.len;
        overlaps && [self, other].into_iter().any(|job| job.kind() != Kind::Read)
    }

    /// Sometimes lets a part of a write happen and nothing more.
    pub(super) fn goes_halfway(&mut self, medium: &mut Medium, rng: &mut Rng) -> bool {
        let Work::Write { bytes, left, is_durable } = &mut self.work else { return false };
        if left.len() < 2 || !rng.chance(1, 4) {
            return false;
        }
        let count = 1 + rng.index(left.len() - 1);
        for _ in 0..count {
            let (start, len) = left.swap_remove(rng.index(left.len()));
            put(medium, self.id, self.offset, &bytes[start..start + len], start, *is_durable);
        }
        true
    }

    /// A crash: any part of the operation has happened.
    pub(super) fn leave_part(&self, medium: &mut Medium, rng: &mut Rng) {
        let often = rng.below(5);
        match &self.work {
            Work::Read(_) | Work::Sync => {}
            Work::Write { bytes, left, is_durable } => {
                // Past the page cache nothing holds a page together.
                let grain = if *is_durable { medium.unit() } else { PAGE as usize };
                for &(start, len) in left {
                    for at in (start..start + len).step_by(grain) {
                        let end = (at + grain).min(start + len);
                        if rng.chance(often, 4) {
                            put(medium, self.id, self.offset, &bytes[at..end], at, *is_durable);
                        }
                    }
                }
            }
        }
    }

    /// The rest happens and the operation is answered.
    pub(super) fn finish(self, medium: &mut Medium, now: Tick, fails: bool, rng: &mut Rng) -> Answer {
        let (kind, token) = (self.kind(), self.token);
        if fails {
            match self.work {
                Work::Sync => medium.fail_sync(self.started, rng),
                _ => self.leave_part(medium, rng),
            }
            return (kind, token, Err(DiskError::IO));
        }
        let done = match self.work {
            Work::Read(mut buf) => {
                medium.read(&mut buf, self.offset);
                DiskDone::Read(buf)
            }
            Work::Write { bytes, left, is_durable } => {
                for (start, len) in left {
                    put(medium, self.id, self.offset, &bytes[start..start + len], start, is_durable);
                }
                medium.answer(self.id, self.offset, self.len, now);
                DiskDone::Done
            }
            Work::Sync => {
                medium.sync(self.started);
                DiskDone::Done
            }
        };
        (kind, token, Ok(done))
    }
}

fn put(medium: &mut Medium, id: u64, offset: u64, bytes: &[u8], start: usize, is_durable: bool) {
    let place = offset + start as u64;
    if is_durable { medium.write_durable(place, bytes) } else { medium.write(id, None, place, bytes) }
}

impl Work {
    fn write(bytes: Vec<u8>, offset: u64, is_durable: bool) -> Self {
        let left = parts(offset, bytes.len());
        Self::Write { bytes, left, is_durable }
    }
}

/// The runs of `len` bytes at `offset` that lie in one page each.
pub(super) fn parts(offset: u64, len: usize) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < len {
        let part = ((PAGE - (offset + at as u64) % PAGE) as usize).min(len - at);
        parts.push((at, part));
        at += part;
    }
    parts
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} of {} bytes at {}", self.kind(), self.len, self.offset)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
