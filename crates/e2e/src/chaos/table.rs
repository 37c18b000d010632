//! Distributions of pauses, and the table for docs/proof.md.

use std::time::Duration;

use super::kind::{Goal, Kind};

/// All rounds of one kind.
#[derive(Clone, Debug)]
pub struct Line {
    /// The kind.
    pub kind: Kind,
    /// Pauses at the fault, one of each round.
    pub pauses: Vec<Duration>,
    /// Longest pause while all was made well again.
    pub back_max: Duration,
    /// Writes acknowledged in all rounds.
    pub writes: u64,
}

impl Line {
    /// The pause that so many of 100 rounds do not exceed (nearest rank).
    fn percentile(&self, percent: usize) -> Duration {
        let mut pauses = self.pauses.clone();
        pauses.sort();
        let rank = (pauses.len() * percent).div_ceil(100);
        pauses.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Whether the goal of the kind is met; `None` where there is none.
    pub fn is_met(&self) -> Option<bool> {
        let goal = self.kind.goal()?;
        Some(goal.p50.is_none_or(|p50| self.percentile(50) <= p50) && self.percentile(99) <= goal.p99)
    }
}

/// The table in Markdown.
pub fn table(lines: &[Line]) -> String {
    let mut table = String::from(
        "| kind | rounds | acknowledged writes | pause p50 | p99 | max | wanted | met | longest pause at the return |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let [p50, p99, max] = [50, 99, 100].map(|percent| millis(line.percentile(percent)));
        let met = line.is_met().map_or("–", |met| if met { "yes" } else { "no" });
        let wanted = line.kind.goal().map_or_else(|| "–".to_owned(), wanted);
        let (name, rounds, writes, back) = (line.kind.name(), line.pauses.len(), line.writes, millis(line.back_max));
        table.push_str(&format!(
            "| {name} | {rounds} | {writes} | {p50} | {p99} | {max} | {wanted} | {met} | {back} |\n"
        ));
    }
    table
}

fn wanted(goal: Goal) -> String {
    let p50 = goal.p50.map(|p50| format!("p50 ≤ {}, ", millis(p50))).unwrap_or_default();
    format!("{p50}p99 ≤ {}", millis(goal.p99))
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Kind, Line};

    #[test]
    fn percentiles_are_pauses_that_occurred() {
        let pauses = (1..=60).map(Duration::from_millis).collect();
        let line = Line { kind: Kind::Kill9Other, pauses, back_max: Duration::ZERO, writes: 0 };
        assert_eq!([50, 99, 100].map(|percent| line.percentile(percent).as_millis()), [30, 60, 60]);
        assert_eq!(line.is_met(), Some(true));
        let line = Line { pauses: vec![Duration::from_millis(201)], ..line };
        assert_eq!(line.is_met(), Some(false));
    }
}
