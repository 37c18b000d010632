//! What clippy cannot know: lengths, rooms that stay pure, words that stay the same.

mod lengths;
mod rooms;
mod source;
mod words;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::cargo;
use crate::tally::Tally;

/// A tracked file, path relative to the root.
pub struct Tracked {
    pub path: String,
    pub text: String,
}

impl Tracked {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

type Check = fn(&[Tracked]) -> anyhow::Result<Vec<String>>;

const CHECKS: [(&str, Check); 6] = [
    ("files have at most 500 lines, functions at most 70", lengths::check),
    ("pure rooms call nothing that acts, waits or depends on chance", rooms::check_calls),
    ("pure rooms depend on pure rooms only", rooms::check_dependencies),
    ("pure rooms compile without an operating system", rooms::check_target),
    ("one word per idea", words::check_ideas),
    ("nothing names the places where this was made", words::check_places),
];

pub fn run() -> anyhow::Result<Tally> {
    let files = tracked()?;
    let mut tally = Tally::default();
    for (rule, check) in CHECKS {
        let problems = check(&files)?;
        println!("{} {rule}", if problems.is_empty() { "ok    " } else { "FAILED" });
        for problem in &problems {
            println!("         {problem}");
        }
        tally += Tally::one(problems.is_empty());
    }
    Ok(tally)
}

/// Every text file that is tracked, or about to be.
fn tracked() -> anyhow::Result<Vec<Tracked>> {
    let args = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let output = Command::new("git").args(args).current_dir(cargo::root()).output().context("cannot run git")?;
    anyhow::ensure!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let read = |path: &str| {
        let file: PathBuf = cargo::root().join(path);
        // Binary files have no words; deleted ones are listed until they are committed.
        let text = std::fs::read_to_string(file).ok()?;
        Some(Tracked { path: path.to_owned(), text })
    };
    Ok(names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect())
}
