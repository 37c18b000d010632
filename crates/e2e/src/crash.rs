//! kill -9 in the middle of writes: every acknowledged write must be there, on every image.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dyad_bench::disk::Disk;
use dyad_bench::random::Random;
use dyad_bench::verify::{Mix, Report, RunError, SECTOR, Writer};

use crate::lab::{Lab, Volume};
use crate::target::Target as _;

/// A campaign of kills.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often to kill.
    pub rounds: u32,
    /// Repeats work and moments; the scheduling of the kernel stays its own.
    pub seed: u64,
    /// After every so many rounds both images are read apart from each other.
    pub compare_every: u32,
    /// Size of the volume; small, so that blocks are written many times.
    pub mib: u64,
    /// After every so many rounds a fresh volume, so that first writes to thin extents are always among the work.
    pub renew_every: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rounds: 10, seed: 1, compare_every: 5, mib: 64, renew_every: 4 }
    }
}

/// What a campaign did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Campaign {
    /// Kills.
    pub kills: u32,
    /// Writes acknowledged.
    pub writes: u64,
    /// Writes without an answer when the process died.
    pub unanswered: u64,
    /// Longest time from the start after a kill until everything was served.
    pub slowest_start: Duration,
}

const POOLS: [&str; 2] = ["a", "b"];
const DEPTH: usize = 24;
/// A kill comes this long after the work began, at most.
const WORK_MAX_MILLIS: u64 = 700;

/// Runs the campaign; the first violation ends it with an error that names the round.
pub fn run(plan: &Plan, mut report: impl FnMut(u32, &Campaign)) -> anyhow::Result<Campaign> {
    let mut lab = Lab::with_pools(&POOLS, 4 * plan.mib + 192)?;
    let mut random = Random::new(plan.seed);
    let mut campaign = Campaign::default();
    let mut host = Host::new(&lab, plan, 0)?;
    for round in 1..=plan.rounds {
        let moment = Duration::from_millis(random.below(WORK_MAX_MILLIS));
        let mut step = || -> anyhow::Result<()> {
            host.work_until_killed(&mut lab, moment)?;
            let begin = Instant::now();
            lab.start()?;
            host.check(&lab)?;
            campaign.slowest_start = campaign.slowest_start.max(begin.elapsed());
            if round.is_multiple_of(plan.compare_every) {
                host.check_images_apart(&mut lab)?;
            }
            Ok(())
        };
        step().with_context(|| {
            format!("round {round}, seed {}, killed after {moment:?}; files in {}", plan.seed, keep(&lab))
        })?;
        campaign.kills += 1;
        if round.is_multiple_of(plan.renew_every) || round == plan.rounds {
            let tally = host.writer.tally();
            campaign.writes += tally.writes;
            campaign.unanswered += tally.unanswered;
            ensure!(tally.refused == 0, "a command was refused: {:?}", host.writer.first_refusal());
            lab.admin().delete(&format!("/v1/volumes/{}", host.volume))?;
            host = Host::new(&lab, plan, round)?;
        }
        report(round, &campaign);
    }
    for pool in POOLS {
        let damaged = lab.pool_counter(pool, "damaged_blocks")?;
        ensure!(damaged == 0, "pool {pool} counts {damaged} blocks with a wrong checksum");
    }
    lab.stop()?;
    Ok(campaign)
}

/// One volume and the writer that knows what it must hold.
struct Host {
    volume: String,
    writer: Writer,
}

impl Host {
    fn new(lab: &Lab, plan: &Plan, round: u32) -> anyhow::Result<Self> {
        let volume = format!("v{round}");
        let unit = lab.create_volume(&Volume::new(&volume, plan.mib, &POOLS))?;
        let disk = Disk::open(&unit.options())?;
        let (sectors, block_len) = (disk.capacity().bytes() / SECTOR as u64, disk.capacity().block_len);
        disk.logout()?;
        // No prefill: the first writes to thin extents are what a crash must not lose.
        let seed = plan.seed.wrapping_add(u64::from(round));
        Ok(Self { volume, writer: Writer::new(seed, sectors, block_len, DEPTH, Mix::default()) })
    }

    /// Works until the process is killed after `moment`.
    fn work_until_killed(&mut self, lab: &mut Lab, moment: Duration) -> anyhow::Result<()> {
        let mut session = Disk::open(&lab.unit(&self.volume)?.options())?.into_session();
        let forever = Instant::now() + Duration::from_secs(60);
        let writer = &mut self.writer;
        let ended = std::thread::scope(|scope| {
            let worker = scope.spawn(move || writer.run(&mut session, forever));
            std::thread::sleep(moment);
            let killed = lab.kill();
            let ended = worker.join().map_err(|_| anyhow::anyhow!("the writer panicked"));
            killed.and(ended)
        })?;
        match ended {
            Err(RunError::Session(_)) => Ok(()),
            Err(wrong) => Err(wrong).context("a read while writing"),
            Ok(()) => anyhow::bail!("the writer went on although the process was killed"),
        }
    }

    fn check(&mut self, lab: &Lab) -> anyhow::Result<()> {
        let mut session = Disk::open(&lab.unit(&self.volume)?.options())?.into_session();
        let report = self.writer.check(&mut session)?;
        session.logout()?;
        judge(&report)
    }

    /// Serves the volume from each pool alone, and must read the same (both images are equal after recovery): what was
    /// read from one counts as acknowledged for the other.
    fn check_images_apart(&mut self, lab: &mut Lab) -> anyhow::Result<()> {
        lab.with_each_alone(&POOLS, |lab, _| self.check(lab))
    }
}

fn judge(report: &Report) -> anyhow::Result<()> {
    ensure!(report.is_clean(), "{} sectors wrong, {} blocks torn: {:?}", report.wrong, report.torn, report.spelled);
    Ok(())
}

/// Keeps the files of a failure for whoever looks into it, where the caller asks for that.
fn keep(lab: &Lab) -> String {
    let Some(dir) = std::env::var_os("DYAD_KEEP") else {
        return "no place (set DYAD_KEEP to a directory to keep them)".to_owned();
    };
    let to = std::path::PathBuf::from(dir).join(format!("crash-{}", std::process::id()));
    match crate::lab::copy_tree(lab.dir(), &to) {
        Ok(()) => to.display().to_string(),
        Err(error) => format!("no place: {error:#}"),
    }
}
