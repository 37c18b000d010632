//! The clients that load the servers.

use std::time::Duration;

use anyhow::Context as _;
use dyad_bench::load::{Kind, Spec};
use dyad_e2e::process::finish;
use dyad_e2e::{Target, procfs, tools};

use super::workload::Workload;

/// No run takes this long; a server that hangs must not hang the benchmark.
const LIMIT: Duration = Duration::from_secs(120);

/// One run of one client against one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub count: u64,
    pub elapsed: Duration,
    /// CPU time of all the server's processes over the run.
    pub server_cpu: Duration,
}

impl Sample {
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Server CPU seconds per thousand commands.
    pub fn cpu_per_thousand(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1000.0 / self.count.max(1) as f64
    }
}

pub trait Client {
    fn name(&self) -> &'static str;
    /// Whether it can do this kind of work.
    fn can(&self, workload: &Workload) -> bool;
    /// Runs about `count` commands or for about `length`, whichever the client can bound.
    fn run(&self, target: &dyn Target, work: &Workload, count: u64, length: Duration) -> anyhow::Result<Sample>;
}

pub const ALL: [&dyn Client; 3] = [&Qemu, &Own, &Perf];

/// Runs the client, and measures what the server spent on it.
pub fn measure(
    client: &dyn Client,
    target: &dyn Target,
    workload: &Workload,
    count: u64,
    length: Duration,
) -> anyhow::Result<Sample> {
    let pids = target.pids();
    let cpu = || {
        let spent = pids.iter().map(|pid| procfs::cpu(*pid)).sum::<Option<Duration>>();
        spent.with_context(|| format!("{} is gone", target.label()))
    };
    let before = cpu()?;
    let sample = client.run(target, workload, count, length);
    let sample = sample.with_context(|| format!("{} against {}", client.name(), target.label()))?;
    Ok(Sample { server_cpu: cpu()?.saturating_sub(before), ..sample })
}

/// `qemu-img bench` over libiscsi.
struct Qemu;

/// A step that visits all of a volume in an order that no read-ahead guesses; odd in units of 4 KiB.
const STEP_RANDOM: u64 = 4096 * 4099;

impl Client for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn can(&self, _workload: &Workload) -> bool {
        true
    }

    fn run(&self, target: &dyn Target, work: &Workload, count: u64, _length: Duration) -> anyhow::Result<Sample> {
        let step = if work.random { STEP_RANDOM } else { u64::from(work.size) };
        let (count_arg, depth) = (count.to_string(), work.depth.to_string());
        let (size, step, url) = (work.size.to_string(), step.to_string(), target.url());
        let mut args = vec!["bench", "-f", "raw", "-t", "none", "-c", &count_arg, "-d", &depth, "-s", &size];
        args.extend(["-S", &step]);
        match work.kind {
            Kind::Read => {}
            Kind::Write => args.extend(["-w", "--pattern=90"]),
            Kind::WriteFlush => args.extend(["-w", "--pattern=90", "--flush-interval=1"]),
        }
        args.push(&url);
        let output = finish("qemu-img", &args, LIMIT)?.expect_success("qemu-img bench")?.output;
        let seconds = output.split("Run completed in ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let seconds = seconds.and_then(|seconds| seconds.parse::<f64>().ok());
        let elapsed = Duration::from_secs_f64(seconds.with_context(|| format!("no time in {output:?}"))?);
        Ok(Sample { count, elapsed, server_cpu: Duration::ZERO })
    }
}

/// The load generator of `dyad-bench`.
struct Own;

impl Client for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn can(&self, _workload: &Workload) -> bool {
        true
    }

    fn run(&self, target: &dyn Target, work: &Workload, _count: u64, length: Duration) -> anyhow::Result<Sample> {
        let spec = Spec {
            kind: work.kind,
            order: work.order(),
            size: work.size,
            depth: work.depth,
            sessions: 1,
            area: 0,
            duration: length,
            count: 0,
            seed: 11,
        };
        let outcome = dyad_bench::load::run(&target.options(), &spec)?;
        Ok(Sample { count: outcome.count, elapsed: outcome.elapsed, server_cpu: Duration::ZERO })
    }
}

/// libiscsi's iscsi-perf: reads only, whole seconds only.
struct Perf;

impl Client for Perf {
    fn name(&self) -> &'static str {
        "perf"
    }

    fn can(&self, workload: &Workload) -> bool {
        workload.kind == Kind::Read && tools::find("iscsi-perf").is_some()
    }

    fn run(&self, target: &dyn Target, work: &Workload, _count: u64, length: Duration) -> anyhow::Result<Sample> {
        let seconds = length.as_secs().max(1).to_string();
        let (blocks, depth, url) = ((work.size / 512).to_string(), work.depth.to_string(), target.url());
        let mut args = vec!["-m", &depth, "-b", &blocks, "-t", &seconds];
        if work.random {
            args.push("-r");
        }
        args.push(&url);
        let output = finish("iscsi-perf", &args, LIMIT)?.expect_success("iscsi-perf")?.output;
        let average = output.rsplit("iops average ").next().and_then(|rest| rest.split_whitespace().next());
        let rate: f64 = average.and_then(|rate| rate.parse().ok()).with_context(|| format!("no rate in {output:?}"))?;
        let elapsed = Duration::from_secs(length.as_secs().max(1));
        Ok(Sample { count: (rate * elapsed.as_secs_f64()) as u64, elapsed, server_cpu: Duration::ZERO })
    }
}
