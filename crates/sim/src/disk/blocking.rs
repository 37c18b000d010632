//! Straight-line access, for formatting, opening and looking at a disk; may lose its power on the way.

use std::sync::atomic::Ordering;

use dyad_pool::{BlockingDisk, DiskError};
use dyad_units::Bytes;

use super::faults::Kind;
use super::flight::parts;
use super::{SimDisk, Tick};

enum Turn {
    Goes,
    Fails,
    /// The power goes off in the middle of it.
    Cut,
}

impl SimDisk {
    fn turn(&mut self, kind: Kind, offset: u64, len: u64) -> Result<Turn, DiskError> {
        if self.is_off() || offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(DiskError::IO);
        }
        self.now += 1;
        self.counts.count(kind);
        if kind.changes() && self.cut_at.is_some_and(|at| self.counts.changes() >= at) {
            self.is_off.store(true, Ordering::Relaxed);
            return Ok(Turn::Cut);
        }
        Ok(if self.faults.strikes(kind, offset, len) { Turn::Fails } else { Turn::Goes })
    }

    fn change(&mut self, kind: Kind, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let turn = self.turn(kind, offset, bytes.len() as u64)?;
        self.writes += 1;
        let (id, grain) = (self.writes, if kind == Kind::Durable { self.medium.unit() } else { 4096 });
        let often = if matches!(turn, Turn::Goes) { 4 } else { self.rng.below(5) };
        for (start, len) in parts(offset, bytes.len()) {
            for at in (start..start + len).step_by(grain) {
                let part = &bytes[at..(at + grain).min(start + len)];
                if often == 4 || self.rng.chance(often, 4) {
                    let place = offset + at as u64;
                    match kind {
                        Kind::Durable => self.medium.write_durable(place, part),
                        _ => self.medium.write(id, None, place, part),
                    }
                }
            }
        }
        if !matches!(turn, Turn::Goes) {
            return Err(DiskError::IO);
        }
        self.medium.answer(id, offset, bytes.len() as u64, self.now);
        Ok(())
    }

    fn now_next(&mut self) -> Tick {
        self.now += 1;
        self.now
    }
}

impl BlockingDisk for SimDisk {
    fn size(&self) -> Bytes {
        Bytes::new(self.len)
    }

    fn physical_block(&self) -> u32 {
        self.medium.unit() as u32
    }

    fn read_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        match self.turn(Kind::Read, offset, to.len() as u64)? {
            Turn::Goes => {
                self.medium.read(to, offset);
                Ok(())
            }
            Turn::Fails | Turn::Cut => Err(DiskError::IO),
        }
    }

    fn read_direct_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        match self.turn(Kind::Read, offset, to.len() as u64)? {
            Turn::Goes => {
                self.medium.read_direct(to, offset);
                Ok(())
            }
            Turn::Fails | Turn::Cut => Err(DiskError::IO),
        }
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.change(Kind::Write, offset, bytes)
    }

    fn write_durable_at(&mut self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.change(Kind::Durable, offset, bytes)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let turn = self.turn(Kind::Sync, 0, 0)?;
        let started = self.now_next();
        match turn {
            Turn::Goes => self.medium.sync(started),
            Turn::Fails => self.medium.fail_sync(started, &mut self.rng),
            Turn::Cut => {}
        }
        if matches!(turn, Turn::Goes) { Ok(()) } else { Err(DiskError::IO) }
    }
}
