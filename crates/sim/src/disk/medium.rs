//! What a disk and the page cache before it hold: for every unit (the physical block) its durable content
//! and the newer contents that no successful sync has covered yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rng::{Rng, split_mix};

const PAGE: usize = 4096;

/// A moment of the disk's own count of happenings.
pub(super) type Tick = u64;

/// One content of one unit that sits in the page cache.
#[derive(Clone, Debug)]
struct Version {
    /// When the write was answered; `None` while it is in flight.
    done: Option<Tick>,
    /// The write it belongs to.
    write: u64,
    bytes: Arc<[u8]>,
    start: usize,
    /// A failed sync gave up on it: still read from the cache, never written to the disk (P11).
    dropped: bool,
}

/// What survives a power cut, besides what is durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything that reached the page cache.
    Everything,
    /// Each unit for itself keeps any of its contents.
    EachUnit,
    /// Each unit for itself, most keep the durable content.
    FewUnits,
    /// Each write for itself, wholly or not at all.
    WholeWrites,
}

impl Survival {
    /// All of them, for tests that try each.
    pub const ALL: [Self; 5] = [Self::Nothing, Self::Everything, Self::EachUnit, Self::FewUnits, Self::WholeWrites];
}

/// The content. Pages are shared between clones, so that forking a whole disk costs little.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    unit: usize,
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    pending: BTreeMap<u64, Vec<Version>>,
}

impl Medium {
    pub(super) fn new(len: u64, unit: usize) -> Self {
        assert!(unit.is_power_of_two() && unit <= PAGE, "a unit is at most a page");
        Self { unit, pages: vec![None; len.div_ceil(PAGE as u64) as usize], pending: BTreeMap::new() }
    }

    /// Cuts the end off, or adds zeros.
    pub(super) fn resize(&mut self, len: u64) {
        self.pages.resize(len.div_ceil(PAGE as u64) as usize, None);
        self.pending.retain(|index, _| (index + 1) * self.unit as u64 <= len);
    }

    pub(super) fn unit(&self) -> usize {
        self.unit
    }

    /// Units that hold something unsynced.
    pub(super) fn dirty_units(&self) -> usize {
        self.pending.len()
    }

    /// Reads through the page cache.
    pub(super) fn read(&self, to: &mut [u8], offset: u64) {
        self.read_durable(to, offset);
        self.overlay(to, offset, |_| true);
    }

    /// Reads past the page cache (O_DIRECT): what is dirty is written back first, what a failed sync dropped
    /// is not there.
    pub(super) fn read_direct(&self, to: &mut [u8], offset: u64) {
        self.read_durable(to, offset);
        self.overlay(to, offset, |version| !version.dropped);
    }

    /// Reads what a power cut that lets nothing survive would leave.
    pub(super) fn read_durable(&self, to: &mut [u8], offset: u64) {
        let mut at = 0;
        while at < to.len() {
            let position = offset + at as u64;
            let within = (position % PAGE as u64) as usize;
            let len = (PAGE - within).min(to.len() - at);
            match &self.pages[(position / PAGE as u64) as usize] {
                Some(page) => to[at..at + len].copy_from_slice(&page[within..within + len]),
                None => to[at..at + len].fill(0),
            }
            at += len;
        }
    }

    fn overlay(&self, to: &mut [u8], offset: u64, counts: impl Fn(&Version) -> bool) {
        let unit = self.unit as u64;
        let end = offset + to.len() as u64;
        for (&index, versions) in self.pending.range(offset / unit..end.div_ceil(unit)) {
            let Some(version) = versions.iter().rev().find(|version| counts(version)) else { continue };
            let (from, until) = ((index * unit).max(offset), ((index + 1) * unit).min(end));
            let start = version.start + (from - index * unit) as usize;
            let len = (until - from) as usize;
            to[(from - offset) as usize..][..len].copy_from_slice(&version.bytes[start..start + len]);
        }
    }

    /// A write reaches the page cache. Whole units only.
    pub(super) fn write(&mut self, write: u64, done: Option<Tick>, offset: u64, bytes: &[u8]) {
        self.assert_whole(offset, bytes.len());
        let shared: Arc<[u8]> = bytes.into();
        for (at, index) in (offset / self.unit as u64..).take(bytes.len() / self.unit).enumerate() {
            let start = at * self.unit;
            let version = Version { done, write, bytes: shared.clone(), start, dropped: false };
            self.pending.entry(index).or_default().push(version);
        }
    }

    /// A write was answered: a sync that starts from now on covers it.
    pub(super) fn answer(&mut self, write: u64, offset: u64, len: u64, now: Tick) {
        let unit = self.unit as u64;
        for (_, versions) in self.pending.range_mut(offset / unit..(offset + len).div_ceil(unit)) {
            for version in versions.iter_mut().filter(|version| version.write == write) {
                version.done = Some(now);
            }
        }
    }

    /// Everything in the page cache counts as answered: after a crash of the process its writes are simply there.
    pub(super) fn answer_all(&mut self, now: Tick) {
        for version in self.pending.values_mut().flatten() {
            version.done.get_or_insert(now);
        }
    }

    /// Writes past the page cache, durable at once; cached contents of the place are gone.
    pub(super) fn write_durable(&mut self, offset: u64, bytes: &[u8]) {
        self.assert_whole(offset, bytes.len());
        let unit = self.unit as u64;
        for (at, index) in (offset / unit..).take(bytes.len() / self.unit).enumerate() {
            self.pending.remove(&index);
            self.store(index, &bytes[at * self.unit..][..self.unit]);
        }
    }

    /// A sync that started at `started` succeeded: what was answered before is durable.
    pub(super) fn sync(&mut self, started: Tick) {
        self.settle(started, |_| true);
    }

    /// A sync failed as Linux fails it: some of what it covered was written, the rest is marked clean and
    /// never tried again.
    pub(super) fn fail_sync(&mut self, started: Tick, rng: &mut Rng) {
        self.settle(started, |_| rng.chance(1, 2));
    }

    fn settle(&mut self, started: Tick, mut keeps: impl FnMut(u64) -> bool) {
        let mut written = Vec::new();
        self.pending.retain(|&index, versions| {
            let covered = |version: &Version| version.done.is_some_and(|done| done < started) && !version.dropped;
            let Some(last) = versions.iter().rposition(covered) else { return true };
            if !keeps(index) {
                versions[..=last].iter_mut().for_each(|version| version.dropped = true);
                return true;
            }
            let newer = versions.split_off(last + 1);
            written.extend(versions.pop().map(|version| (index, version)));
            *versions = newer;
            !versions.is_empty()
        });
        for (index, version) in written {
            self.store(index, &version.bytes[version.start..][..self.unit]);
        }
    }

    /// The page cache lets go of clean pages: what a failed sync dropped reads as the old content from now on.
    pub(super) fn evict_clean(&mut self) {
        self.pending.retain(|_, versions| {
            if versions.last().is_some_and(|version| version.dropped) {
                versions.retain(|version| !version.dropped);
            }
            !versions.is_empty()
        });
    }

    /// The power fails.
    pub(super) fn cut_power(&mut self, survival: Survival, rng: &mut Rng) {
        let salt = rng.bits();
        for (index, mut versions) in std::mem::take(&mut self.pending) {
            versions.retain(|version| !version.dropped);
            let any = |rng: &mut Rng| rng.index(versions.len() + 1).checked_sub(1);
            // `None` stands for the durable content.
            let chosen = match survival {
                Survival::Nothing => None,
                Survival::Everything => versions.len().checked_sub(1),
                Survival::EachUnit => any(rng),
                Survival::FewUnits if rng.chance(1, 8) => any(rng),
                Survival::FewUnits => None,
                Survival::WholeWrites => versions.iter().rposition(|version| is_lucky(version.write, salt)),
            };
            if let Some(version) = chosen.map(|chosen| &versions[chosen]) {
                self.store(index, &version.bytes[version.start..][..self.unit]);
            }
        }
    }

    /// Flips bits of a byte wherever it is kept.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        let unit = self.unit as u64;
        let mut bytes = vec![0; self.unit];
        self.read_durable(&mut bytes, offset / unit * unit);
        bytes[(offset % unit) as usize] ^= mask;
        self.store(offset / unit, &bytes);
        for version in self.pending.get_mut(&(offset / unit)).into_iter().flatten() {
            let mut copy = version.bytes.to_vec();
            copy[version.start + (offset % unit) as usize] ^= mask;
            version.bytes = copy.into();
        }
    }

    fn store(&mut self, index: u64, bytes: &[u8]) {
        let position = index * self.unit as u64;
        let page = &mut self.pages[(position / PAGE as u64) as usize];
        let page = page.get_or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(page)[(position % PAGE as u64) as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn assert_whole(&self, offset: u64, len: usize) {
        let whole = offset.is_multiple_of(self.unit as u64) && len.is_multiple_of(self.unit);
        assert!(whole, "a write of {len} bytes at {offset} is not made of whole units of {}", self.unit);
    }
}

fn is_lucky(write: u64, salt: u64) -> bool {
    split_mix(&mut (write ^ salt)) & 1 == 1
}
