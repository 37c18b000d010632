//! Medians, and the table for docs/performance.md.

use std::fmt;

use super::clients::Sample;
use super::workload::Workload;

/// Label of a server that keeps one image.
pub const ONE_IMAGE: &str = "one image";
/// Label of a server that mirrors.
pub const TWO_IMAGES: &str = "two images";
/// Label of a volume with an image on each of two nodes, at its owner.
pub const OWNER: &str = "two nodes, owner";
/// The same at the other node, which forwards.
pub const OTHER: &str = "two nodes, other";

/// Median, smallest and largest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// # Panics
    /// If there are no values.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        assert!(!values.is_empty(), "no value has no median");
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

/// One server against the first one, in one workload.
#[derive(Debug)]
pub struct Line {
    about: &'static str,
    client: &'static str,
    server: String,
    peer_rate: Spread,
    rate: Spread,
    ratio: Spread,
    cpu_ratio: Spread,
    cpu: Spread,
    rate_target: Option<f64>,
    cpu_target: Option<f64>,
}

impl Line {
    pub fn new(workload: &Workload, client: &'static str, server: &str, rounds: &[Vec<Sample>], index: usize) -> Self {
        let over = |value: fn(&Sample) -> f64, at: usize| Spread::of(rounds.iter().map(|round| value(&round[at])));
        let ratio = |value: fn(&Sample) -> f64| {
            Spread::of(rounds.iter().map(|round| value(&round[index]) / value(&round[0]).max(1e-12)))
        };
        let (rate_target, cpu_target) = match server {
            TWO_IMAGES => (workload.two_images_target, None),
            OWNER => (workload.two_nodes_target, workload.two_nodes_cpu),
            OTHER => (None, None),
            _ => (workload.rate_target, workload.cpu_target),
        };
        Self {
            about: workload.about,
            client,
            server: server.to_owned(),
            peer_rate: over(Sample::rate, 0),
            rate: over(Sample::rate, index),
            ratio: ratio(Sample::rate),
            cpu_ratio: ratio(Sample::cpu_per_thousand),
            cpu: over(Sample::cpu_per_thousand, index),
            rate_target,
            cpu_target,
        }
    }

    fn verdict(&self) -> &'static str {
        let rate = self.rate_target.is_none_or(|target| self.ratio.median >= target);
        let cpu = self.cpu_target.is_none_or(|target| self.cpu_ratio.median <= target);
        match (rate, cpu) {
            _ if self.rate_target.is_none() && self.cpu_target.is_none() => "–",
            (true, true) => "yes",
            (false, true) => "rate: no",
            (true, false) => "CPU: no",
            (false, false) => "no",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = |sign: &str, target: Option<f64>| target.map_or_else(|| "–".into(), |t| format!("{sign} {t:.2}"));
        let (rate, peer, ratio, cpu) = (self.rate, self.peer_rate, self.ratio, self.cpu_ratio);
        write!(f, "| {} | {} | {} | {:.0} | {:.0} ", self.about, self.client, self.server, peer.median, rate.median)?;
        write!(f, "| {:.2} ({:.2}–{:.2}) | {} ", ratio.median, ratio.min, ratio.max, wanted("≥", self.rate_target))?;
        write!(f, "| {:.4} | {:.2} ({:.2}–{:.2}) ", self.cpu.median, cpu.median, cpu.min, cpu.max)?;
        write!(f, "| {} | {} |", wanted("≤", self.cpu_target), self.verdict())
    }
}

/// The table in Markdown.
pub fn table(lines: &[Line]) -> String {
    let mut table = String::from(
        "| workload | client | server | tgt /s | /s | ratio (min–max) | wanted | CPU s/1000 | CPU ratio | wanted | met |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        table.push_str(&format!("{line}\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 9.0]), Spread { median: 3.0, min: 1.0, max: 9.0 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]).median, 3.0);
    }
}
