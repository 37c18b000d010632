//! What campaigns write down, so that they add up: which code, which seeds, what came of them.
//!
//! ```text
//! run date=2026-11-21T16:40:00Z commit=… code=… from=0 seeds=1000 violations=0 ops=… events=… seconds=…
//! count 123 fault: pause
//! …
//! end
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cluster::Coverage;

/// The code of `mirror`, `cluster`, `pool` and this crate, as it was built.
pub const CODE: &str = env!("DYAD_SIM_CODE");

/// Seeds after which a campaign is written down: what is lost when somebody ends it.
pub const SEEDS_PER_ENTRY: u64 = 1000;

/// A part of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// First seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Rules broken.
    pub violations: u64,
    /// Host operations answered.
    pub ops: u64,
    /// Events.
    pub events: u64,
    /// How long it took.
    pub seconds: f64,
    /// What it saw.
    pub coverage: Coverage,
}

impl Entry {
    /// Adds the entry to the file.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn append(&self, file: &Path, commit: &str) -> io::Result<()> {
        let Self { from, seeds, violations, ops, events, seconds, coverage } = self;
        let date = date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        let mut text = format!(
            "run date={date} commit={commit} code={CODE} from={from} seeds={seeds} violations={violations} ops={ops} \
             events={events} seconds={seconds:.1}\n"
        );
        for (what, times) in coverage.rows() {
            let _ = writeln!(text, "count {times} {what}");
        }
        text.push_str("end\n");
        // One write, so that two campaigns may share a file.
        OpenOptions::new().create(true).append(true).open(file)?.write_all(text.as_bytes())
    }
}

/// The sum of a file's entries that ran on the present code.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sum {
    /// (first, behind the last) of each entry.
    pub ranges: Vec<(u64, u64)>,
    /// Rules broken.
    pub violations: u64,
    /// Host operations answered.
    pub ops: u64,
    /// Events.
    pub events: u64,
    /// What was seen.
    pub counts: BTreeMap<String, u64>,
    /// Entries of other code.
    pub others: u64,
}

impl Sum {
    /// Reads the file's whole entries; a last one that was cut off does not count, nor do seeds that ran before.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(file: &Path, code: &str) -> io::Result<Self> {
        Ok(Self::of(&fs::read_to_string(file)?, code))
    }

    fn of(text: &str, code: &str) -> Self {
        let mut sum = Self::default();
        for entry in text.split_inclusive("\nend\n").filter(|entry| entry.ends_with("\nend\n")) {
            sum.add(entry, code);
        }
        sum
    }

    fn add(&mut self, entry: &str, code: &str) {
        let mut lines = entry.lines();
        let Some(head) = lines.next() else { return };
        let text_of = |name: &str| head.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number_of = |name: &str| text_of(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if text_of("code") != Some(code) {
            self.others += 1;
            return;
        }
        let (from, seeds) = (number_of("from"), number_of("seeds"));
        let range = (from, from + seeds);
        if self.ranges.iter().any(|known| known.0 < range.1 && range.0 < known.1) {
            return;
        }
        self.ranges.push(range);
        self.violations += number_of("violations");
        self.ops += number_of("ops");
        self.events += number_of("events");
        for line in lines.filter_map(|line| line.strip_prefix("count ")) {
            if let Some((times, what)) = line.split_once(' ') {
                *self.counts.entry(what.to_owned()).or_default() += times.parse::<u64>().unwrap_or(0);
            }
        }
    }

    /// All seeds.
    pub fn seeds(&self) -> u64 {
        self.ranges.iter().map(|(from, until)| until - from).sum()
    }

    /// The sum in lines.
    pub fn tell(&self) -> String {
        let mut text = String::new();
        for (what, times) in &self.counts {
            let _ = writeln!(text, "{times:>12}  {what}");
        }
        let (seeds, Self { violations, ops, events, others, .. }) = (self.seeds(), self);
        let _ = write!(
            text,
            "code {CODE}: {seeds} seeds, {ops} host operations, {events} events, {violations} violations; {others} \
             entries of other code left out"
        );
        text
    }
}

/// Seconds since 1970 as a date (Howard Hinnant's civil_from_days).
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::{Sum, date};

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(1_795_276_799), "2026-11-21T15:59:59Z");
    }

    #[test]
    fn only_whole_entries_of_the_same_code_add_up_and_each_seed_once() {
        let entry = |code: &str, from: u64| {
            format!(
                "run date=x commit=y code={code} from={from} seeds=10 violations=1 ops=5 events=7\ncount 3 fault: pause\nend\n"
            )
        };
        let all = [entry("a", 0), entry("b", 10), entry("a", 5), entry("a", 10)].concat();
        let sum = Sum::of(&format!("{all}run code=a from=90 seeds=10 ops=5\ncount 3 fault"), "a");
        assert_eq!((sum.seeds(), sum.ops, sum.violations, sum.others), (20, 10, 2, 1));
        assert_eq!(sum.counts["fault: pause"], 6);
    }
}
