//! Which seeds the unmutated code passed: kept beside the copy, so that trying one mutant after the other does not run
//! them each time. Void as soon as the code changes.

use std::path::PathBuf;

use anyhow::Context as _;

use super::copy::Copy;
use super::hunt::Mix;

/// A run of the unmutated code.
struct Run {
    mix: String,
    from: u64,
    seeds: u64,
    failed: Vec<u64>,
}

/// All runs of this code.
#[derive(Default)]
pub struct Passed {
    path: PathBuf,
    hash: u64,
    runs: Vec<Run>,
}

impl Passed {
    pub fn load(copy: &Copy) -> anyhow::Result<Self> {
        let (path, hash) = (copy.passed(), copy.hash()?);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let runs =
            text.strip_prefix(&head(hash)).map_or_else(Vec::new, |rest| rest.lines().filter_map(parse).collect());
        Ok(Self { path, hash, runs })
    }

    pub fn has(&self, mix: Mix, from: u64, seeds: u64) -> bool {
        let mix = mix.to_string();
        let holds = |run: &Run| run.mix == mix && run.from <= from && from + seeds <= run.from + run.seeds;
        self.runs.iter().any(holds)
    }

    pub fn note(&mut self, mix: Mix, from: u64, seeds: u64, failed: &[u64]) -> anyhow::Result<()> {
        self.runs.push(Run { mix: mix.to_string(), from, seeds, failed: failed.to_vec() });
        let lines = self.runs.iter().map(|run| {
            let failed: Vec<_> = run.failed.iter().map(u64::to_string).collect();
            format!("{} {} {} {}\n", run.mix, run.from, run.seeds, failed.join(","))
        });
        let text = head(self.hash) + &lines.collect::<String>();
        std::fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Seeds that were not passed.
    pub fn failing(&self, mix: Mix, from: u64, seeds: u64) -> Vec<u64> {
        (from..from + seeds).filter(|&seed| self.fails(mix, seed)).collect()
    }

    /// Whether this seed was not passed.
    pub fn fails(&self, mix: Mix, seed: u64) -> bool {
        let mix = mix.to_string();
        self.runs.iter().any(|run| run.mix == mix && run.failed.contains(&seed))
    }
}

fn head(hash: u64) -> String {
    format!("{hash:016x}\n")
}

fn parse(line: &str) -> Option<Run> {
    let mut words = line.split(' ');
    let mix = words.next()?.to_owned();
    let (from, seeds) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let failed = words.next()?.split(',').filter_map(|seed| seed.parse().ok()).collect();
    Some(Run { mix, from, seeds, failed })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_run_is_kept_with_what_it_did_not_pass() {
        let run = parse("cluster 1000 5000 1017,3000").unwrap();
        assert_eq!((run.mix.as_str(), run.from, run.seeds, run.failed), ("cluster", 1000, 5000, vec![1017, 3000]));
        assert!(parse("pool 0 10 ").unwrap().failed.is_empty());
        assert!(parse("pool 0").is_none());
    }
}
