//! `dyad-bench`: the clients of this crate on the command line, against any iSCSI target.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use dyad_bench::disk::Disk;
use dyad_bench::flood::{DEPTHS, Flood};
use dyad_bench::hold::Held;
use dyad_bench::initiator::{Credentials, Digests, Options, Session};
use dyad_bench::load::{Kind, Order, Spec, run};
use dyad_bench::verify::{Mix, SECTOR, Writer};

#[derive(Debug, Parser)]
#[command(name = "dyad-bench", about = "Loads and checks an iSCSI target; writes to it destroy what it holds", version)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Target {
    /// Portal of the target
    #[arg(long, default_value = "127.0.0.1:3260", global = true)]
    portal: SocketAddr,
    /// Name of the target; the first that discovery finds, if left out
    #[arg(long, global = true)]
    target: Option<String>,
    /// Number of the logical unit
    #[arg(long, default_value_t = 0, global = true)]
    lun: u8,
    /// Insist on CRC32C header and data digests
    #[arg(long, global = true)]
    digests: bool,
    /// CHAP user
    #[arg(long, requires = "secret", global = true)]
    user: Option<String>,
    /// CHAP secret
    #[arg(long, env = "DYAD_BENCH_SECRET", hide_env_values = true, global = true)]
    secret: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the targets that discovery shows
    Targets,
    /// Measure rate and latency
    Load(LoadArgs),
    /// Write at random, then read everything back and compare
    Verify {
        /// How long to write, in seconds
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// MiB from the start of the unit that are used
        #[arg(long, default_value_t = 64)]
        area: u64,
        /// Commands in flight
        #[arg(long, default_value_t = 16)]
        depth: usize,
        /// Seed of places and bytes
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Begin logins and never end them
    Flood {
        /// How many
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// How long to hold them, in seconds
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Keep sessions open that do nothing
    Hold {
        /// How many
        #[arg(long, default_value_t = 100)]
        count: u32,
        /// How long, in seconds
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

#[derive(Args, Debug)]
struct LoadArgs {
    /// What to do
    #[arg(long, value_enum, default_value_t = KindArg::Read)]
    kind: KindArg,
    /// One place after the other instead of anywhere
    #[arg(long)]
    sequential: bool,
    /// Bytes per command
    #[arg(long, default_value_t = 4096)]
    size: u32,
    /// Commands in flight per session
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Sessions
    #[arg(long, default_value_t = 1)]
    sessions: u32,
    /// MiB from the start of the unit that are used; 0 means all
    #[arg(long, default_value_t = 0)]
    area: u64,
    /// How long, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Read,
    Write,
    WriteFlush,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Command::Flood { count, seconds } = cli.command {
        let flood = Flood::open(cli.target.portal, count, &DEPTHS)?;
        println!("{} half-open logins, {} refused", flood.len(), flood.refused());
        std::thread::sleep(Duration::from_secs(seconds));
        return Ok(());
    }
    if matches!(cli.command, Command::Targets) {
        for (key, value) in discover(&cli.target)?.iter() {
            println!("{key}={value}");
        }
        return Ok(());
    }
    let options = options(&cli.target)?;
    match cli.command {
        Command::Load(args) => load(&options, &args),
        Command::Verify { seconds, area, depth, seed } => verify(&options, seconds, area, depth, seed),
        Command::Hold { count, seconds } => {
            let held = Held::open(&options, count)?;
            std::thread::sleep(Duration::from_secs(seconds));
            println!("{} of {count} sessions still open", held.alive());
            Ok(())
        }
        Command::Targets | Command::Flood { .. } => Ok(()),
    }
}

fn discover(target: &Target) -> anyhow::Result<dyad_bench::initiator::Keys> {
    let mut session = Session::login(&with_chap(Options::discovery(target.portal), target))?;
    let keys = session.send_targets()?;
    session.logout()?;
    Ok(keys)
}

fn options(target: &Target) -> anyhow::Result<Options> {
    let name = match &target.target {
        Some(name) => name.clone(),
        None => {
            let keys = discover(target).context("cannot discover the target; name it with --target")?;
            keys.find("TargetName").context("the portal shows no target")?.to_owned()
        }
    };
    let digests = Digests { header: target.digests, data: target.digests };
    Ok(with_chap(Options { digests, lun: target.lun, ..Options::new(target.portal, &name) }, target))
}

fn with_chap(options: Options, target: &Target) -> Options {
    let (Some(user), Some(secret)) = (&target.user, &target.secret) else { return options };
    Options { chap: Some(Credentials { user: user.clone(), secret: secret.clone() }), ..options }
}

fn load(options: &Options, args: &LoadArgs) -> anyhow::Result<()> {
    let kind = match args.kind {
        KindArg::Read => Kind::Read,
        KindArg::Write => Kind::Write,
        KindArg::WriteFlush => Kind::WriteFlush,
    };
    let spec = Spec {
        kind,
        order: if args.sequential { Order::Sequential } else { Order::Random },
        size: args.size,
        depth: args.depth,
        sessions: args.sessions,
        area: args.area << 20,
        duration: Duration::from_secs(args.seconds),
        count: 0,
        seed: 1,
    };
    let outcome = run(options, &spec)?;
    let mib = outcome.rate() * f64::from(args.size) / f64::from(1 << 20);
    println!(
        "{:.0} per second, {mib:.1} MiB/s, mean {:?}, p50 {:?}, p99 {:?}, max {:?}",
        outcome.rate(),
        outcome.latency.mean(),
        outcome.latency.quantile(0.5),
        outcome.latency.quantile(0.99),
        outcome.latency.max(),
    );
    Ok(())
}

fn verify(options: &Options, seconds: u64, area: u64, depth: usize, seed: u64) -> anyhow::Result<()> {
    let disk = Disk::open(options)?;
    let capacity = disk.capacity();
    let sectors = (area << 20).min(capacity.bytes()) / SECTOR as u64;
    let mut writer = Writer::new(seed, sectors, capacity.block_len, depth, Mix { unmaps: 0, ..Mix::default() });
    let mut session = disk.into_session();
    writer.prefill(&mut session)?;
    writer.run(&mut session, Instant::now() + Duration::from_secs(seconds))?;
    let report = writer.check(&mut session)?;
    session.logout()?;
    println!("{:?}\n{report:?}", writer.tally());
    if !report.is_clean() {
        bail!("the target lost or changed data");
    }
    Ok(())
}
