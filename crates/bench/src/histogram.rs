//! Latencies in log-linear buckets: 32 steps per power of two, so a quantile is right within 3 %.

use std::time::Duration;

const STEPS_LOG2: u32 = 5;
const STEPS: usize = 1 << STEPS_LOG2;
/// Enough for 2^40 ns, about 18 minutes; anything slower counts as that.
const BUCKETS: usize = (40 - STEPS_LOG2 as usize + 1) * STEPS;

/// Counts of latencies. Adding one allocates nothing.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0, sum: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    /// Counts everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The slowest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The arithmetic mean, zero when nothing was counted.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.total).unwrap_or(0))
    }

    /// The latency below which `part` (0 to 1) of all stayed.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return Duration::from_nanos(floor(index).min(self.max));
            }
        }
        self.max()
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS as u64 {
        return nanos as usize;
    }
    let power = 63 - nanos.leading_zeros();
    let step = (nanos >> (power - STEPS_LOG2)) as usize - STEPS;
    ((power - STEPS_LOG2 + 1) as usize * STEPS + step).min(BUCKETS - 1)
}

/// The smallest latency that falls in bucket `index`.
fn floor(index: usize) -> u64 {
    let (row, step) = (index / STEPS, (index % STEPS) as u64);
    if row == 0 { step } else { (STEPS as u64 + step) << (row - 1) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histogram, bucket, floor};

    #[test]
    fn every_latency_lies_at_most_one_step_above_the_floor_of_its_bucket() {
        for shift in 0..39 {
            for add in [0, 1, 3, 77] {
                let nanos = (1u64 << shift) + add;
                let floor = floor(bucket(nanos));
                assert!(floor <= nanos && nanos - floor <= nanos / 32, "{nanos} in a bucket from {floor}");
            }
        }
    }

    #[test]
    fn quantiles_of_a_hundred_equal_steps_are_where_they_belong() {
        let mut histogram = Histogram::default();
        for micros in 1..=100 {
            histogram.add(Duration::from_micros(micros));
        }
        let (half, most) = (histogram.quantile(0.5).as_nanos(), histogram.quantile(0.99).as_nanos());
        assert!((48_000..=50_000).contains(&half), "{half}");
        assert!((96_000..=99_000).contains(&most), "{most}");
        assert_eq!(histogram.max(), Duration::from_micros(100));
        assert_eq!(histogram.mean(), Duration::from_nanos(50_500));
    }
}
