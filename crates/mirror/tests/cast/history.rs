//! What a host saw, sector by sector, and whether one disk could have shown it.
//!
//! Every write has its own value. Times are steps of the play. A write that was not answered may have taken
//! effect until the crash that ended it, or never.

/// When something began and ended.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub start: u64,
    pub end: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wrote {
    value: u32,
    time: Time,
    /// Answered with success.
    is_sure: bool,
    /// Answered as without effect: must never be seen.
    is_void: bool,
    /// Covered by a flush that was answered.
    is_durable: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    value: u32,
    time: Time,
}

/// One sector's life since its history began.
#[derive(Clone, Debug, Default)]
pub struct Sector {
    writes: Vec<Wrote>,
    reads: Vec<Seen>,
}

impl Sector {
    /// A history that begins with a known value.
    pub fn begin(value: u32, now: u64) -> Self {
        let time = Time { start: 0, end: now };
        let first = Wrote { value, time, is_sure: true, is_void: false, is_durable: true };
        Self { writes: vec![first], reads: Vec::new() }
    }

    pub fn wrote(&mut self, value: u32, time: Time, is_sure: bool) {
        self.writes.push(Wrote { value, time, is_sure, is_void: false, is_durable: false });
    }

    pub fn refused(&mut self, value: u32, time: Time) {
        self.writes.push(Wrote { value, time, is_sure: false, is_void: true, is_durable: false });
    }

    pub fn read(&mut self, value: u32, time: Time) {
        self.reads.push(Seen { value, time });
    }

    /// A flush that began at `start` was answered.
    pub fn flushed(&mut self, start: u64) {
        for write in self.writes.iter_mut().filter(|write| write.is_sure && write.time.end < start) {
            write.is_durable = true;
        }
    }

    /// Whether the value may be here after a loss of power (A5): written before, and not overwritten by
    /// something durable.
    pub fn may_survive(&self, value: u32) -> bool {
        self.writes
            .iter()
            .filter(|write| write.value == value && !write.is_void)
            .any(|write| !self.writes.iter().any(|later| later.is_durable && write.time.end < later.time.start))
    }

    /// Says what is wrong, if one disk could not have shown this.
    pub fn judge(&self) -> Result<(), String> {
        for read in &self.reads {
            let could =
                |write: &&Wrote| write.value == read.value && !write.is_void && write.time.start < read.time.end;
            let mut sources = self.writes.iter().filter(could);
            let is_between = |write: &Wrote, later: &Wrote| {
                later.is_sure && write.time.end < later.time.start && later.time.end < read.time.start
            };
            let is_fresh = |write: &Wrote| !self.writes.iter().any(|later| is_between(write, later));
            if !sources.any(is_fresh) {
                return Err(format!("{read:?} saw what was never or no longer there: {:?}", self.writes));
            }
        }
        self.judge_order()
    }

    /// Gibbons and Korach: with values that are written once, a history is that of one register if and only
    /// if the zones of its values do not collide. Zero, which many unmaps write, is left to the rule above.
    fn judge_order(&self) -> Result<(), String> {
        let zones: Vec<_> = self.writes.iter().filter(|write| write.value != 0).filter_map(|w| self.zone(w)).collect();
        for (at, &(first, last, value)) in zones.iter().enumerate() {
            for &(other_first, other_last, other) in &zones[at + 1..] {
                let (a, b) = (first < last, other_first < other_last);
                let collide = match (a, b) {
                    (true, true) => first < other_last && other_first < last,
                    (true, false) => first < other_last && other_first < last,
                    (false, true) => other_first < last && first < other_last,
                    (false, false) => false,
                };
                if collide {
                    return Err(format!("values {value} and {other} were seen in no possible order: {self:?}"));
                }
            }
        }
        Ok(())
    }

    /// From the first end to the last start of everything that has the value.
    fn zone(&self, write: &Wrote) -> Option<(u64, u64, u32)> {
        let reads = self.reads.iter().filter(|read| read.value == write.value);
        let (mut first, mut last) = (write.time.end, write.time.start);
        let mut is_seen = write.is_sure;
        for read in reads {
            first = first.min(read.time.end);
            last = last.max(read.time.start);
            is_seen = true;
        }
        is_seen.then_some((first, last, write.value))
    }
}
