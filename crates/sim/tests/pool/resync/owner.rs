//! The owner of a segment with two images, one of which is behind, as the mirror plays it (M13 to M16).

use std::collections::BTreeMap;

use dyad_contract::image::{BlockState, Request};
use dyad_payload::Payload;
use dyad_sim::pattern::{BLOCK, Value, identify};
use dyad_sim::rng::Rng;
use dyad_units::{Bytes, Epoch, Extent, Interval, Piece, STATE_EXTENT, Stamp, WriteNumber};

use super::side::{IMAGE, Order, Side, Stopped, bytes_of};

/// Extents that are used: some with neighbours in their region, one alone, the state.
const EXTENTS: [Extent; 9] =
    [Extent(0), Extent(1), Extent(2), Extent(15), Extent(16), Extent(17), Extent(40), Extent(130), STATE_EXTENT];
/// Blocks of an extent that are used.
const BLOCKS: u8 = 4;

pub struct Owner {
    pub source: Side,
    pub behind: Side,
    content: BTreeMap<(Extent, u8), u32>,
    stamp: Stamp,
    number: u64,
    versions: u32,
    rng: Rng,
    /// The source's closed.
    closed: Stamp,
    /// Extents below it are up to date on both (M14); none: no resync is under way.
    front: Option<Front>,
    /// Extents copied so far.
    pub copied: u64,
}

/// How far the present run is.
#[derive(Clone, Copy, Debug)]
struct Front {
    /// Extents before this one are done in this run.
    at: Option<Extent>,
    /// What an earlier run left: below this, k counts in place of closed.
    cursor: Extent,
    closed: Stamp,
    complete: Stamp,
}

impl Front {
    fn base(&self, extent: Extent) -> Stamp {
        if extent < self.cursor { self.complete } else { self.closed }
    }

    fn is_done(&self, extent: Extent) -> bool {
        self.at.is_none_or(|at| extent < at)
    }
}

impl Owner {
    /// Two images that were equal and closed; then one was taken out, with writes of its own that the other has not.
    pub fn new(seed: u64) -> Self {
        let size = Bytes::mib(64);
        let mut owner = Self {
            source: Side::new(seed, size),
            behind: Side::new(seed + 1, size),
            content: BTreeMap::new(),
            stamp: Stamp::new(Epoch::new(1), Interval::new(1)),
            number: 0,
            versions: 0,
            rng: Rng::new(seed + 2),
            closed: Stamp::NEVER,
            front: None,
            copied: 0,
        };
        owner.diverge().expect("nothing fails so far");
        owner
    }

    fn diverge(&mut self) -> Result<(), Stopped> {
        self.record(1)?;
        for _ in 0..14 {
            self.host(true)?;
        }
        let stamp = self.begin_close()?;
        self.behind.must(Request::Close { interval: stamp.interval })?;
        self.end_close(stamp)?;
        self.behind.must(Request::Closed { stamp })?;
        for _ in 0..4 {
            self.host(true)?;
        }
        for _ in 0..4 {
            self.stray()?;
        }
        self.record(2)?;
        for nth in 0..12 {
            self.host(false)?;
            if nth % 5 == 4 {
                let stamp = self.begin_close()?;
                self.end_close(stamp)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, epoch: u32) -> Result<(), Stopped> {
        let epoch = Epoch::new(epoch);
        self.stamp = Stamp::new(epoch, Interval::new(1));
        for side in [&mut self.source, &mut self.behind] {
            let record = Payload::from(side.rig.slab.copy_of(b"a record").expect("the slab is large"));
            side.must(Request::Record { epoch, record })?;
        }
        Ok(())
    }

    fn order(&mut self) -> Order {
        self.number += 1;
        let settled = WriteNumber::new(self.number - 1);
        Order { stamp: self.stamp, number: WriteNumber::new(self.number), settled }
    }

    fn piece(&mut self) -> Piece {
        let extent = EXTENTS[self.rng.index(EXTENTS.len())];
        let first = self.rng.below(u64::from(BLOCKS)) as u8;
        let count = 1 + self.rng.below(u64::from(BLOCKS - first)) as u8;
        Piece::new(extent, first, count).expect("within the extent")
    }

    /// A host's write or unmap, to the source and, where that is up to date, to the image behind.
    fn host(&mut self, both: bool) -> Result<(), Stopped> {
        let (mut piece, order, is_unmap) = (self.piece(), self.order(), self.rng.chance(1, 4));
        if is_unmap && self.rng.chance(1, 2) {
            piece = Piece::whole(piece.extent);
        }
        let is_done = self.front.is_some_and(|front| front.is_done(piece.extent));
        self.versions += 1;
        let version = if is_unmap { 0 } else { self.versions };
        for block in piece.first()..piece.first() + piece.count() {
            self.content.insert((piece.extent, block), version);
        }
        let sides = [Some(&mut self.source), (both || is_done).then_some(&mut self.behind)];
        for side in sides.into_iter().flatten() {
            match is_unmap {
                true => side.unmap(piece, order, false)?,
                false => side.write(piece, &bytes_of(piece, version), order, false)?,
            }
        }
        Ok(())
    }

    /// A write that only the image behind has, and that was never answered.
    fn stray(&mut self) -> Result<(), Stopped> {
        let (piece, order) = (self.piece(), self.order());
        self.versions += 1;
        self.behind.write(piece, &bytes_of(piece, self.versions), order, false)
    }

    /// The next interval opens, the source has all of the one before.
    fn begin_close(&mut self) -> Result<Stamp, Stopped> {
        let stamp = self.stamp;
        self.stamp.interval = stamp.interval.next();
        self.source.must(Request::Close { interval: stamp.interval })?;
        Ok(stamp)
    }

    fn end_close(&mut self, stamp: Stamp) -> Result<(), Stopped> {
        self.source.must(Request::Closed { stamp })?;
        self.closed = stamp;
        Ok(())
    }

    /// M4 with the image behind taking part, for k (M15). Hosts go on between the phases.
    fn close_for_progress(&mut self) -> Result<(), Stopped> {
        let stamp = self.begin_close()?;
        let at = self.front.and_then(|front| front.at);
        self.behind.must(Request::Close { interval: stamp.interval })?;
        self.host(false)?;
        self.end_close(stamp)?;
        let Some(front) = &mut self.front else { return Ok(()) };
        // Before the run has come past the cursor of the one before, nothing more can be said.
        if let Some(at) = at.filter(|at| *at >= front.cursor) {
            (front.cursor, front.complete) = (at, stamp);
            self.behind.must(Request::Progress { cursor: Some(at), complete: stamp })?;
        }
        Ok(())
    }

    /// One run, from wherever the last one came to, until the image is in sync.
    pub fn resync(&mut self) -> Result<(), Stopped> {
        self.record(self.stamp.epoch.value() + 1)?;
        let survey = self.behind.survey()?;
        let (cursor, complete) = survey.progress.unwrap_or((Extent(0), survey.closed));
        let (at, closed) = (Some(Extent(0)), survey.closed);
        self.front = Some(Front { at, cursor, closed, complete });
        while let Some(extent) = self.next_needed()? {
            self.copy(extent)?;
            let next = extent.0.checked_add(1).map(Extent);
            if let Some(front) = &mut self.front {
                front.at = next;
            }
            for _ in 0..self.rng.below(3) {
                self.host(false)?;
            }
            if self.rng.chance(1, 2) {
                self.close_for_progress()?;
            }
        }
        if let Some(front) = &mut self.front {
            front.at = None;
        }
        self.host(false)?;
        self.join()
    }

    /// M16: it has all that was acknowledged, durable, and takes the set's closed.
    fn join(&mut self) -> Result<(), Stopped> {
        let stamp = self.begin_close()?;
        self.behind.must(Request::Close { interval: stamp.interval })?;
        self.end_close(stamp)?;
        self.behind.must(Request::Progress { cursor: None, complete: stamp })?;
        self.behind.must(Request::Closed { stamp })?;
        self.front = None;
        Ok(())
    }

    /// M13: what either side wrote after what counts as complete, or what is lost, from where the run is.
    fn next_needed(&mut self) -> Result<Option<Extent>, Stopped> {
        let front = self.front.expect("a run is under way");
        let Some(from) = front.at else { return Ok(None) };
        let after = front.closed.min(front.complete);
        let lost = self.behind.survey()?.lost;
        let mut found: Option<Extent> = None;
        for side in [&mut self.source, &mut self.behind] {
            let changed = side.changed(after, from)?;
            assert_eq!(changed.next, None, "few extents are used");
            let needed = changed.extents.into_iter();
            let needed = needed.filter(|(extent, stamp)| *stamp > front.base(*extent) || lost.contains(extent));
            let first = needed.map(|(extent, _)| extent).next();
            found = [found, first].into_iter().flatten().min();
        }
        Ok(found)
    }

    fn copy(&mut self, extent: Extent) -> Result<(), Stopped> {
        self.copied += 1;
        let (right, found) = (self.source.examine(extent)?, self.behind.examine(extent)?);
        for (block, (right_state, state)) in (0..).zip(right.blocks.into_iter().zip(found.blocks)) {
            let piece = Piece::new(extent, block, 1).expect("a block");
            let order = self.order();
            match right_state {
                BlockState::Unwritten | BlockState::Missing if state != BlockState::Unwritten => {
                    self.behind.unmap(piece, order, true)?
                }
                BlockState::Unwritten | BlockState::Missing => {}
                BlockState::Verified(_) if state == right_state => {}
                BlockState::Verified(_) => {
                    let bytes = self.source.read(piece)?;
                    self.behind.write(piece, &bytes, order, true)?;
                }
                BlockState::Unverified(_) | BlockState::Unreadable => panic!("the source's disk is whole"),
            }
        }
        self.behind.must(Request::Copied { extent, stamp: right.stamp })
    }

    /// Every block that was ever used, on the image that was behind.
    pub fn check(&mut self, when: &str) {
        for extent in EXTENTS {
            let piece = Piece::new(extent, 0, 64).expect("a whole extent");
            let bytes = self.behind.read(piece).expect("nothing fails any more");
            for (block, bytes) in (0..).zip(bytes.chunks_exact(BLOCK)) {
                let version = self.content.get(&(extent, block)).copied().unwrap_or(0);
                let value = if version == 0 { Value::ZERO } else { Value::of(version) };
                let held = identify(bytes, IMAGE, u64::from(extent.0) * 64 + u64::from(block));
                assert_eq!(held, Ok(value), "{when}: block {block} of extent {}", extent.0);
            }
        }
    }

    /// M1, M13, P9: whoever resyncs from the image that was behind finds what it would find at the source.
    pub fn check_stamps(&mut self, when: &str) {
        let [right, found] = [&mut self.source, &mut self.behind].map(|side| {
            let changed = side.changed(Stamp::NEVER, Extent(0)).expect("nothing fails any more");
            changed.extents.into_iter().collect::<BTreeMap<_, _>>()
        });
        for (extent, stamp) in right {
            let other = found.get(&extent).copied().unwrap_or(Stamp::NEVER);
            assert!(other >= stamp, "{when}: extent {} has {other}, the source {stamp}", extent.0);
        }
    }
}
