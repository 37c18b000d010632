//! Rounds of one kind on one cluster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dyad_bench::random::Random;
use dyad_bench::verify::Mix;

use super::kind::Kind;
use super::witness::Witness;
use crate::cluster::{Cluster, Host, Shape, VOLUME};
use crate::net::Net;
use crate::wait;

/// Small, so that all of it is read from each image after every round, and blocks are written often.
const MIB: u64 = 24;
/// The host's part; the witnesses use what follows.
const HOST_MIB: u64 = MIB - 1;
/// Where the witnesses' blocks begin, in sectors.
const WITNESS: u64 = HOST_MIB << 11;
/// Pools of this size cannot hold all of the volume.
const FULL_MIB: u64 = 20;
/// The host has to get so far before a fault, and again after it.
const WRITES: u64 = 32;
/// A fault comes within this after the host has got that far, at a random moment.
const MOMENT_MAX_MILLIS: u64 = 150;
/// Tries of a round: on a machine that is too busy a node may have been taken out just before the fault, which then
/// leaves nobody who may serve, and shows nothing.
const TRIES_MAX: u32 = 10;
/// Whatever is waited for comes within this, or never.
const LONG: Duration = Duration::from_secs(60);

/// A cluster and the host that all rounds of a kind have in common.
pub struct Stage {
    kind: Kind,
    cluster: Cluster,
    host: Host,
    random: Random,
    rounds: u64,
}

/// What a round showed.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Writes acknowledged.
    pub writes: u64,
    /// Longest time between two acknowledged writes around the fault.
    pub pause: Duration,
    /// The same while all was made well again.
    pub back: Duration,
    /// How long all of the round took.
    pub length: Duration,
    /// Faults before this one that came when the volume was not redundant; nothing may be lost in these, either.
    pub in_vain: u32,
}

/// What became of a fault.
enum Played {
    /// It began and was mended at these times.
    Through(Instant, Instant),
    /// The volume was not redundant when it came.
    InVain,
}

impl Stage {
    /// A cluster to which this kind of fault can happen; `None`, said plainly, where that is not possible.
    pub fn new(kind: Kind, seed: u64) -> anyhow::Result<Option<Self>> {
        let net = if kind.needs_net() { Net::new()? } else { None };
        if kind.needs_net() && net.is_none() {
            return Ok(None);
        }
        let mut shape = Shape { net, is_encrypted: true, prefix: kind.prefix(), ..Shape::new(MIB) };
        let mut mix = Mix::default();
        if kind == Kind::FullPool {
            shape.pool_mib = FULL_MIB;
            // Extents are given back as well, or everything would be refused after a while.
            mix = Mix { unmaps: 15, blocks_max: 192, ..mix };
        }
        let cluster = Cluster::start_as(shape)?;
        // Before all space is taken.
        Witness::new(&cluster, WITNESS, 0)?;
        let mut host = Host::watched(&cluster, seed, HOST_MIB, mix)?;
        if kind == Kind::FullPool {
            host.work_until_full()?;
        }
        Ok(Some(Self { kind, cluster, host, random: Random::new(seed), rounds: 0 }))
    }

    /// One round. An error says what was lost, stale, torn or different, or what did not come in time.
    pub fn round(&mut self) -> anyhow::Result<Round> {
        let (begun, before) = (Instant::now(), self.host.tally());
        for in_vain in 0..TRIES_MAX {
            self.rounds += 1;
            let mut witness = Witness::new(&self.cluster, WITNESS, self.rounds)?;
            let played = self.play(&mut witness)?;
            let acks = self.host.take_acks();
            self.check(&mut witness)?;
            let Played::Through(fault, mended) = played else { continue };
            let (pause, back) = pauses(&acks, fault, mended)?;
            let tally = self.host.tally();
            ensure!(tally.errors == before.errors, "the host saw an error: {:?}", self.host.first_error());
            let may_be_full = self.kind == Kind::FullPool;
            ensure!(may_be_full || tally.no_space == before.no_space, "the host was refused for want of space");
            return Ok(Round { writes: tally.writes - before.writes, pause, back, length: begun.elapsed(), in_vain });
        }
        anyhow::bail!("the volume was never redundant when the fault came: the machine is too busy")
    }

    /// The host works while it happens.
    fn play(&mut self, witness: &mut Witness) -> anyhow::Result<Played> {
        let owner = self.cluster.owner()?;
        self.host.go_to(if self.kind.is_host_at_owner() { owner } else { 1 - owner });
        self.host.take_acks();
        let moment = Duration::from_millis(self.random.below(MOMENT_MAX_MILLIS));
        let (kind, cluster, host) = (self.kind, &mut self.cluster, &mut self.host);
        let (is_over, progress) = (AtomicBool::new(false), host.progress());
        std::thread::scope(|scope| {
            let working = scope.spawn(|| host.work(|| is_over.load(Ordering::Relaxed)));
            let played = play(kind, cluster, owner, moment, &progress, witness);
            is_over.store(true, Ordering::Relaxed);
            let worked = working.join().map_err(|_| anyhow::anyhow!("the host panicked"))?;
            worked.and(played)
        })
    }

    /// Everything was read as it should be; in the end no block may have had a wrong checksum.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let damaged = self.cluster.pool_counters("damaged_blocks")?;
        ensure!(damaged == [0, 0], "blocks with a wrong checksum: {damaged:?}");
        Ok(())
    }

    /// Where its files are, for whoever looks into a failure; they are kept until this is dropped.
    pub fn logs(&self) -> String {
        self.cluster.nodes.iter().map(|node| format!("--- {}\n{}", node.dir().display(), node.log())).collect()
    }

    /// Reads everything from the owner's image, then, handed over, from the other one (M17).
    fn check(&mut self, witness: &mut Witness) -> anyhow::Result<()> {
        let (paths, owner) = (self.cluster.paths()?, self.cluster.owner()?);
        self.host.check_at(owner).context("the owner's image")?;
        witness.check(&paths[owner]).context("the owner's image")?;
        self.cluster.move_owner()?;
        self.host.check_at(1 - owner).context("the other image")?;
        witness.check(&paths[1 - owner]).context("the other image")?;
        until_well(&self.cluster)
    }
}

/// The fault and its end. Returns when it began and when it was ended.
fn play(
    kind: Kind,
    cluster: &mut Cluster,
    owner: usize,
    moment: Duration,
    progress: &AtomicU64,
    witness: &mut Witness,
) -> anyhow::Result<Played> {
    until_further(progress).context("before the fault")?;
    std::thread::sleep(moment);
    let fault = Instant::now();
    kind.begin(cluster, owner)?;
    // A planned move keeps both images.
    let images = if kind == Kind::MoveOwner { 2 } else { 1 };
    let left = || cluster.in_sync().ok().filter(|left| left.len() == images);
    let left = wait::until("one image is taken out", LONG, left)?;
    if kind.is_victim_away() && left == [kind.victim(owner)] {
        kind.end(cluster, owner)?;
        until_well(cluster)?;
        return Ok(Played::InVain);
    }
    until_further(progress).context("after the fault")?;
    witness.ask(cluster)?;
    let mended = Instant::now();
    kind.end(cluster, owner)?;
    witness.judge()?;
    until_well(cluster)?;
    until_further(progress).context("after it was mended")?;
    Ok(Played::Through(fault, mended))
}

fn until_well(cluster: &Cluster) -> anyhow::Result<()> {
    for node in 0..2 {
        cluster.until_in_sync(node, VOLUME)?;
    }
    Ok(())
}

/// Waits until so many more writes are acknowledged.
fn until_further(progress: &AtomicU64) -> anyhow::Result<()> {
    let aim = progress.load(Ordering::Acquire) + WRITES;
    let what = format!("{WRITES} more writes are acknowledged");
    wait::until(&what, LONG, || (progress.load(Ordering::Acquire) >= aim).then_some(()))
}

/// The longest times between two acknowledged writes that follow each other: around the fault, and after it was mended.
fn pauses(acks: &[Instant], fault: Instant, mended: Instant) -> anyhow::Result<(Duration, Duration)> {
    let gaps = || acks.windows(2).map(|pair| (pair[0], pair[1]));
    let around = gaps().filter(|(from, to)| *to > fault && *from < mended);
    let after = gaps().filter(|(from, _)| *from >= mended);
    let longest = |gap: &mut dyn Iterator<Item = (Instant, Instant)>| gap.map(|(from, to)| to - from).max();
    let pause = longest(&mut around.into_iter()).context("no write was acknowledged around the fault")?;
    Ok((pause, longest(&mut after.into_iter()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::pauses;

    #[test]
    fn the_pause_is_the_longest_gap_that_touches_the_fault() {
        let begun = Instant::now();
        let at = |millis: u64| begun + Duration::from_millis(millis);
        let acks: Vec<_> = [0, 500, 510, 900, 905, 1700].map(at).to_vec();
        let (pause, back) = pauses(&acks, at(520), at(902)).unwrap();
        assert_eq!((pause, back), (Duration::from_millis(390), Duration::from_millis(795)));
        assert!(pauses(&acks, at(1800), at(1900)).is_err());
    }
}
