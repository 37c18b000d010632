//! A host that uses whichever node is there, and holds the volume to what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Options, Session};
use dyad_bench::verify::{Mix, Report, RunError, SECTOR, Tally, Writer};

use crate::cluster::{Cluster, LONG, LOOK};

/// Commands that the host keeps in flight.
const DEPTH: usize = 16;
/// How long the host works before it looks around.
const SPELL: Duration = Duration::from_millis(200);
/// The same for a host that is watched closely.
const SHORT_SPELL: Duration = Duration::from_millis(50);
/// A watched host sends about 1,000 commands a second: enough for writes in flight at every moment, and the machine
/// has time for the nodes.
const PAUSE: Duration = Duration::from_millis(1);
/// A watched host gives a login up after this and tries the other path.
const LOGIN: Duration = Duration::from_secs(1);
/// It gives a silent session up after this: longer than any pause that the nodes are allowed.
const SILENCE: Duration = Duration::from_secs(4);

/// A host with a path to each node.
pub struct Host {
    paths: [Options; 2],
    at: usize,
    session: Option<Session>,
    writer: Writer,
    spell: Duration,
    progress: Arc<AtomicU64>,
    acked: Option<(u64, Instant)>,
    /// Longest time from the end of one spell of work, of 200 ms, to the end of the next that got anywhere.
    pub longest_spell: Duration,
}

impl Host {
    /// A host of a volume of so many MiB that holds zeros.
    pub fn new(cluster: &Cluster, seed: u64, mib: u64) -> anyhow::Result<Self> {
        let writer = Writer::new(seed, (mib << 20) / SECTOR as u64, 512, DEPTH, Mix::default());
        let (paths, longest_spell) = (cluster.paths()?, Duration::ZERO);
        let progress = Arc::default();
        Ok(Self { paths, at: 0, session: None, writer, spell: SPELL, progress, acked: None, longest_spell })
    }

    /// A host that does not use up the machine, remembers when each write was acknowledged, and does not wait long for
    /// a node that says nothing.
    pub fn watched(cluster: &Cluster, seed: u64, mib: u64, mix: Mix) -> anyhow::Result<Self> {
        let writer = Writer::new(seed, (mib << 20) / SECTOR as u64, 512, DEPTH, mix).with_pause(PAUSE);
        let mut host = Self { writer, spell: SHORT_SPELL, ..Self::new(cluster, seed, 1)? };
        host.writer.take_acks();
        host.paths.iter_mut().for_each(|path| path.patience = LOGIN);
        Ok(host)
    }

    /// The next session is with this node.
    pub fn go_to(&mut self, node: usize) {
        if self.at != node {
            self.session = None;
        }
        self.at = node;
    }

    /// Writes acknowledged so far.
    pub fn writes(&self) -> u64 {
        self.writer.tally().writes
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        self.writer.tally()
    }

    /// The first answer after which a host does not just try again, in words.
    pub fn first_error(&self) -> Option<&str> {
        self.writer.first_error()
    }

    /// Counts the writes acknowledged, as of the last look around, for whoever watches.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// When writes were acknowledged, since this was last asked.
    pub fn take_acks(&mut self) -> Vec<Instant> {
        self.writer.take_acks()
    }

    /// Works until `is_over`, wherever it is served; an error is a read of what may not be there.
    pub fn work(&mut self, mut is_over: impl FnMut() -> bool) -> anyhow::Result<()> {
        self.acked = None;
        while !is_over() {
            let Some(mut session) = self.session.take().or_else(|| self.connect()) else { continue };
            let before = self.tally();
            match self.writer.run(&mut session, Instant::now() + self.spell) {
                // Refused all the time: there may be more to get on the other path.
                Ok(()) if self.is_stuck(before) => self.at = 1 - self.at,
                Ok(()) => self.session = Some(session),
                Err(RunError::Session(_)) => self.at = 1 - self.at,
                Err(wrong) => return Err(wrong).context("a read while writing"),
            }
            self.note_progress();
        }
        Ok(())
    }

    /// Works until a write is refused for want of space.
    pub fn work_until_full(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LONG;
        while self.tally().no_space == 0 {
            ensure!(Instant::now() < deadline, "no write was refused for want of space");
            let mut was_asked = false;
            self.work(|| std::mem::replace(&mut was_asked, true))?;
        }
        Ok(())
    }

    fn is_stuck(&self, before: Tally) -> bool {
        let now = self.tally();
        let busy = |tally: Tally| tally.refused - tally.no_space;
        now.writes == before.writes && busy(now) > busy(before)
    }

    fn note_progress(&mut self) {
        let (writes, now) = (self.writes(), Instant::now());
        self.progress.store(writes, Ordering::Release);
        match self.acked {
            Some((before, at)) if before < writes => self.longest_spell = self.longest_spell.max(now - at),
            Some(_) => return,
            None => {}
        }
        self.acked = Some((writes, now));
    }

    fn connect(&mut self) -> Option<Session> {
        let opened = Disk::open(&self.paths[self.at]).ok().map(Disk::into_session);
        let session = opened.and_then(|mut session| session.stream().set_patience(SILENCE).ok().map(|()| session));
        if session.is_none() {
            self.at = 1 - self.at;
            std::thread::sleep(LOOK);
        }
        session
    }

    /// Reads everything back through each node.
    pub fn check(&mut self) -> anyhow::Result<()> {
        (0..2).try_for_each(|node| self.check_at(node))
    }

    /// Reads everything back through a node. What was seen counts as acknowledged.
    pub fn check_at(&mut self, node: usize) -> anyhow::Result<()> {
        self.session = None;
        let deadline = Instant::now() + LONG;
        let report: Report = loop {
            let tried = Disk::open(&self.paths[node]).map_err(anyhow::Error::from).and_then(|disk| {
                let mut session = disk.into_session();
                Ok(self.writer.check(&mut session)?)
            });
            match tried {
                Ok(report) => break report,
                Err(error) => ensure!(Instant::now() < deadline, "it cannot be read back: {error:#}"),
            }
            std::thread::sleep(LOOK);
        };
        let Report { wrong, torn, .. } = report;
        ensure!(report.is_clean(), "{wrong} sectors wrong, {torn} blocks torn: {:?}", report.spelled);
        Ok(())
    }
}
