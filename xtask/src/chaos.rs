//! `cargo xtask chaos`: real nodes, links and disks fail again and again under a host that remembers. A log of rounds
//! lets a campaign go on after an interruption.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dyad_e2e::chaos::{Kind, Line, Round, Stage, table};
use serde_json::{Value, json};

use crate::cargo;
use crate::packages::{self, Need};
use crate::tally::Tally;

/// Rounds on one cluster: what grows from round to round is seen, and a fresh volume has its first writes again.
const ROUNDS_PER_STAGE: usize = 20;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only this kind of fault (may be repeated); see --list
    #[arg(long)]
    kind: Vec<String>,
    /// Rounds of each kind
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// Seed of the work and of the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Log of rounds: those of the same commit and build count, and new ones are added
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the table to this file as well
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Use the build that tests use instead of the release build
    #[arg(long)]
    debug: bool,
    /// List the kinds and end
    #[arg(long)]
    list: bool,
}

pub fn run(args: &Args) -> anyhow::Result<Tally> {
    if args.list {
        Kind::ALL.iter().for_each(|kind| println!("{}", kind.name()));
        return Ok(Tally::default());
    }
    let kinds = wanted(&args.kind)?;
    packages::install(Need::Test)?;
    cargo::use_dyad(!args.debug)?;
    let mut book = Book::open(args)?;
    let mut tally = Tally::default();
    for kind in kinds {
        tally += campaign(kind, args, &mut book)?;
    }
    let lines = book.lines();
    let table = format!("Commit {}.\n\n{}", book.commit, table(&lines));
    println!("\n{table}");
    if let Some(path) = &args.output {
        fs::write(path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(tally)
}

fn wanted(names: &[String]) -> anyhow::Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(Kind::ALL.to_vec());
    }
    let found = |name: &String| Kind::named(name).with_context(|| format!("there is no kind {name:?}; see --list"));
    names.iter().map(found).collect()
}

/// Rounds of one kind until there are enough. The first that fails ends it.
fn campaign(kind: Kind, args: &Args, book: &mut Book) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    while book.count(kind) < args.rounds {
        let done = book.count(kind);
        let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(done as u64);
        let Some(mut stage) = Stage::new(kind, seed)? else {
            return Ok(Tally { skipped: 1, ..tally });
        };
        let last = args.rounds.min(done + ROUNDS_PER_STAGE);
        let played = (done..last).try_for_each(|number| {
            let round = stage.round().with_context(|| format!("{}, round {}, seed {seed}", kind.name(), number + 1))?;
            println!("{:24} {:3} {round:?}", kind.name(), number + 1);
            tally.passed += 1;
            book.add(kind, &round)
        });
        if let Err(error) = played.and_then(|()| stage.end()) {
            println!("error: {error:?}\n{}", stage.logs());
            tally.failed += 1;
            return Ok(tally);
        }
    }
    Ok(tally)
}

/// What was played so far.
struct Book {
    file: Option<File>,
    commit: String,
    lines: Vec<Line>,
}

impl Book {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let build = if args.debug { "debug" } else { "release" };
        let mut book = Self { file: None, commit: format!("{} ({build})", commit()?), lines: Vec::new() };
        if let Some(path) = &args.log {
            let is_torn = book.read(path)?;
            let opened = File::options().create(true).append(true).open(path);
            let mut file = opened.with_context(|| format!("cannot write {}", path.display()))?;
            if is_torn {
                writeln!(file)?;
            }
            book.file = Some(file);
        }
        Ok(book)
    }

    /// Takes in the rounds of the same commit and build; whether the last line lacks its end, as where a campaign was
    /// interrupted.
    fn read(&mut self, path: &Path) -> anyhow::Result<bool> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        for row in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let number = |name: &str| row[name].as_u64();
            let (Some(kind), Some(pause)) = (row["kind"].as_str().and_then(Kind::named), number("pause_us")) else {
                continue;
            };
            if row["commit"].as_str() == Some(&self.commit) {
                let micros = |name: &str| Duration::from_micros(number(name).unwrap_or_default());
                let (pause, back) = (Duration::from_micros(pause), micros("back_us"));
                let writes = number("writes").unwrap_or_default();
                self.count_in(kind, &Round { writes, pause, back, length: micros("length_us"), in_vain: 0 });
            }
        }
        Ok(!text.is_empty() && !text.ends_with('\n'))
    }

    fn add(&mut self, kind: Kind, round: &Round) -> anyhow::Result<()> {
        self.count_in(kind, round);
        let micros = |time: Duration| time.as_micros() as u64;
        let row = json!({
            "commit": self.commit, "kind": kind.name(), "writes": round.writes, "pause_us": micros(round.pause),
            "back_us": micros(round.back), "length_us": micros(round.length),
        });
        if let Some(file) = &mut self.file {
            writeln!(file, "{row}")?;
        }
        Ok(())
    }

    fn count_in(&mut self, kind: Kind, round: &Round) {
        let place = self.lines.iter().position(|line| line.kind == kind);
        let place = place.unwrap_or_else(|| {
            self.lines.push(Line { kind, pauses: Vec::new(), back_max: Duration::ZERO, writes: 0 });
            self.lines.len() - 1
        });
        let line = &mut self.lines[place];
        line.pauses.push(round.pause);
        line.back_max = line.back_max.max(round.back);
        line.writes += round.writes;
    }

    fn count(&self, kind: Kind) -> usize {
        self.lines.iter().find(|line| line.kind == kind).map_or(0, |line| line.pauses.len())
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = self.lines.clone();
        lines.sort_by_key(|line| Kind::ALL.iter().position(|kind| *kind == line.kind));
        lines
    }
}

/// Which commit this is, and whether anything was changed since.
fn commit() -> anyhow::Result<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--exclude", "*"]).output()?;
    ensure!(output.status.success(), "git does not say which commit this is");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
