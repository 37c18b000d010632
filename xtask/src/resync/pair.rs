//! Two nodes with a link of their own, and absences of one of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dyad_bench::initiator::Options;
use dyad_e2e::cluster::{Cluster, Shape, VOLUME};
use dyad_e2e::net::Net;
use dyad_e2e::wait;

use crate::bench::prefill;

/// Whatever is waited for comes within this, or never.
const LONG: Duration = Duration::from_secs(600);

pub struct Pair {
    pub cluster: Cluster,
    /// Size of the volume.
    pub bytes: u64,
    seeds: u64,
}

/// What a return cost.
pub struct Return {
    /// On the link, both ways, from the start of the node until both images were in sync.
    pub bytes: u64,
    /// Of these, to the node that returned.
    pub there: u64,
    /// From the moment when the image was being copied to until it was in sync.
    pub copying: Duration,
}

impl Pair {
    /// With a volume of so many MiB, all of it written; `None`, said plainly, where no networks can be made.
    pub fn start(mib: u64) -> anyhow::Result<Option<Self>> {
        let Some(net) = Net::new()? else { return Ok(None) };
        let shape = Shape { net: Some(net), pool_mib: mib + mib / 4 + 256, ..Shape::new(mib) };
        let cluster = Cluster::start_as(shape)?;
        let owner = cluster.owner()?;
        prefill(&cluster.nodes[owner].unit(VOLUME)?, mib)?;
        Ok(Some(Self { cluster, bytes: mib << 20, seeds: 100 }))
    }

    /// A seed not used before: what is written differs from all that was.
    pub fn seed(&mut self) -> u64 {
        self.seeds += 1;
        self.seeds
    }

    /// How a host reaches the owner.
    pub fn owner_path(&self) -> anyhow::Result<Options> {
        Ok(self.cluster.paths()?[self.cluster.owner()?].clone())
    }

    /// Waits until the last interval is closed and nothing is marked any more (M4).
    pub fn until_closed(&self) -> anyhow::Result<()> {
        self.until_well()?;
        let is_closed = || (self.cluster.marked_regions().ok()? == [0, 0]).then_some(());
        wait::until("nothing is marked any more", LONG, is_closed)
    }

    /// The node that is not the owner is away while `work` is done at the owner.
    pub fn absence(&mut self, work: impl FnOnce(&Options) -> anyhow::Result<()>) -> anyhow::Result<Return> {
        self.absence_with(work, |_| Ok(()))
    }

    /// The same, and `meanwhile` is done while the image is copied to, until it is told that this is over.
    pub fn absence_with(
        &mut self,
        work: impl FnOnce(&Options) -> anyhow::Result<()>,
        meanwhile: impl FnOnce(&dyn Fn() -> bool) -> anyhow::Result<()>,
    ) -> anyhow::Result<Return> {
        self.until_closed()?;
        let owner = self.cluster.owner()?;
        self.cluster.nodes[1 - owner].kill()?;
        let alone = || (self.cluster.in_sync().ok()? == [owner]).then_some(());
        wait::until("the image is taken out", LONG, alone)?;
        work(&self.owner_path()?)?;
        let before = self.sent()?;
        self.cluster.nodes[1 - owner].start()?;
        let is_over = AtomicBool::new(false);
        let (copying, worked) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let copying = self.copying();
                is_over.store(true, Ordering::Release);
                copying
            });
            let worked = meanwhile(&|| is_over.load(Ordering::Acquire));
            (watching.join().map_err(|_| anyhow::anyhow!("the watcher panicked")), worked)
        });
        worked.context("meanwhile")?;
        let copying = copying??;
        self.since(before, owner, copying)
    }

    /// The owner is killed, the other node goes on, the first one returns.
    pub fn owner_crash(&mut self) -> anyhow::Result<Return> {
        let owner = self.cluster.owner()?;
        let before = self.sent()?;
        self.cluster.nodes[owner].kill()?;
        let other = || (self.cluster.in_sync().ok()? == [1 - owner]).then_some(());
        wait::until("the other node goes on", LONG, other)?;
        self.cluster.nodes[owner].start()?;
        let copying = self.copying()?;
        self.since(before, 1 - owner, copying)
    }

    /// Waits until both images are in sync. How long it took since one was copied to.
    fn copying(&self) -> anyhow::Result<Duration> {
        let mut begun = None;
        let is_well = || {
            if self.cluster.is_syncing().ok()? {
                begun.get_or_insert_with(Instant::now);
            }
            (self.cluster.in_sync().ok()?.len() == 2).then(Instant::now)
        };
        let ended = wait::until("both images are in sync", LONG, is_well)?;
        self.until_well()?;
        Ok(ended - begun.unwrap_or(ended))
    }

    fn until_well(&self) -> anyhow::Result<()> {
        (0..2).try_for_each(|node| self.cluster.until_redundant(node))
    }

    /// What crossed the link since, with `source` as the owner that copied.
    fn since(&self, before: [u64; 2], source: usize, copying: Duration) -> anyhow::Result<Return> {
        let after = self.sent()?;
        let sent = [after[0] - before[0], after[1] - before[1]];
        Ok(Return { bytes: sent[0] + sent[1], there: sent[source], copying })
    }

    /// What each node sent over the link so far.
    fn sent(&self) -> anyhow::Result<[u64; 2]> {
        let net = self.cluster.net.as_ref().context("the nodes have no link of their own")?;
        let sent = [net.peer_bytes_sent(0)?, net.peer_bytes_sent(1)?];
        ensure!(sent.iter().all(|sent| *sent > 0), "nothing crosses the link that is watched");
        Ok(sent)
    }
}
