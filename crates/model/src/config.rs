//! The configurations, each with what may happen in it and how often; within that, every interleaving is looked at.

use crate::leases;
use crate::leases::Rate::{self, Fast, Slow, True};
use crate::parts::{self, Fault, HostOp, Reached, Script};
use crate::search::{Bounds, Report, explore};

/// A named case.
pub struct Configuration {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it looks at, in half a sentence.
    pub about: &'static str,
    /// Small enough for a unit test.
    pub is_quick: bool,
    /// Too large to be looked at as a whole: the search ends after about so many states, nearest to the first one first.
    pub states_max: Option<u64>,
    search: Search,
}

/// Of a configuration that is too large: several seconds.
const STATES_MAX: u64 = 60_000;

enum Search {
    Leases(leases::Case),
    Parts(parts::Case),
}

impl Configuration {
    /// Searches it.
    pub fn run(&self, bounds: Bounds) -> Report {
        let states = self.states_max.map_or(bounds.states, |states| states.min(bounds.states));
        let bounds = Bounds { states, ..bounds };
        match &self.search {
            Search::Leases(case) => explore(case, bounds),
            Search::Parts(case) => explore(case, bounds),
        }
    }
}

const PLAIN: leases::Case = leases::Case {
    rates: &[True, True],
    epochs: 3,
    restarts: 0,
    delays: None,
    unknown: 1,
    late: 0,
    members: false,
    hand_over: false,
};

/// Messages are late and nodes stand still only so often: with clocks that differ, or more events, there are too many
/// states otherwise.
const DELAYED: leases::Case = leases::Case { delays: Some(4), ..PLAIN };

const THREE: leases::Case = leases::Case { rates: &[True, True, True], delays: Some(2), ..PLAIN };

const WRITE: HostOp = HostOp::Write { block: 0 };
const READ: HostOp = HostOp::Read { block: 0 };

/// The owner dies under a write; whoever goes on makes equal what only one image has.
const WRITES: parts::Case = parts::Case {
    nodes: 2,
    script: Script { ops: &[(0, WRITE), (1, READ)], hand_overs: &[], behind: None },
    faults: &[(0, Fault::Crash)],
    faults_max: 1,
    cuts: 0,
    unknown: 0,
    late: 0,
    delays: 0,
    expects: &[Reached::Done, Reached::ServedAgainWithOpsUnderWay, Reached::Equalised, Reached::Rest],
};

/// Two writes to one block.
const TWO_WRITES: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (0, WRITE)], hand_overs: &[], behind: None },
    expects: &[Reached::Done, Reached::ServedAgainWithOpsUnderWay, Reached::Equalised, Reached::Rest],
    ..WRITES
};

/// A compare-and-set comes late, after others went on.
const LATE: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE)], hand_overs: &[], behind: None },
    faults: &[(1, Fault::Crash)],
    late: 1,
    expects: &[Reached::Done, Reached::TakenOut, Reached::Late, Reached::Rest],
    ..WRITES
};

/// The connection breaks: one node takes over and takes a write, the other is asked for what it has.
const CUT_READ: parts::Case = parts::Case {
    script: Script { ops: &[(1, WRITE), (0, READ)], hand_overs: &[], behind: None },
    faults: &[],
    faults_max: 0,
    cuts: 1,
    expects: &[Reached::Done, Reached::ServedAgain, Reached::TakenOut, Reached::Rest],
    ..WRITES
};

/// The connection breaks under a write, and comes back or not.
const CUT: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE)], hand_overs: &[], behind: None },
    faults: &[],
    faults_max: 0,
    cuts: 1,
    expects: &[Reached::Done, Reached::TakenOut, Reached::Joined, Reached::Rest],
    ..WRITES
};

/// An image that is behind comes back and catches up under a write.
const RESYNC: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE)], hand_overs: &[], behind: Some(1) },
    faults: &[],
    faults_max: 0,
    expects: &[Reached::Done, Reached::Joined, Reached::Rest],
    ..WRITES
};

/// An image that is behind comes back and catches up; either node dies meanwhile.
const RESYNC_CRASH: parts::Case = parts::Case {
    script: Script { ops: &[], hand_overs: &[], behind: Some(1) },
    faults: &[(0, Fault::Crash), (1, Fault::Crash)],
    expects: &[Reached::Joined, Reached::ServedAgain, Reached::Rest],
    ..WRITES
};

/// The owner hands over under a write and a read.
const HAND_OVER: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (1, READ)], hand_overs: &[1], behind: None },
    faults: &[],
    faults_max: 0,
    expects: &[Reached::Done, Reached::ServedAgainWithOpsUnderWay, Reached::Rest],
    ..WRITES
};

/// A machine loses its power: what was not flushed is gone there.
const POWER: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (0, HostOp::Flush)], hand_overs: &[], behind: None },
    faults: &[(1, Fault::PowerLoss)],
    expects: &[Reached::Done, Reached::TakenOut, Reached::Joined, Reached::Rest],
    ..WRITES
};

/// Three images: the write may be on any of them when the owner dies.
const THREE_PARTS: parts::Case =
    parts::Case { nodes: 3, script: Script { ops: &[(0, WRITE)], hand_overs: &[], behind: None }, ..WRITES };

/// Every configuration, smallest first.
pub fn all() -> Vec<Configuration> {
    let leases = |name, about, is_quick, case| Configuration {
        name,
        about,
        is_quick,
        states_max: None,
        search: Search::Leases(case),
    };
    let parts = |name, about, is_quick, case| Configuration {
        name,
        about,
        is_quick,
        states_max: None,
        search: Search::Parts(case),
    };
    let large = |name, about, is_quick, case| {
        let states_max = Some(STATES_MAX);
        Configuration { states_max, ..parts(name, about, is_quick, case) }
    };
    let rates = |rates: &'static [Rate]| leases::Case { rates, ..DELAYED };
    vec![
        leases("leases-true", "takeover between two nodes, true clocks, any delays", false, PLAIN),
        leases("leases-slow-fast", "four delays, the clocks apart by the bound", true, rates(&[Slow, Fast])),
        leases("leases-fast-slow", "as before, the other way round", true, rates(&[Fast, Slow])),
        leases(
            "leases-late",
            "a compare-and-set comes late, three delays",
            false,
            leases::Case { late: 1, delays: Some(3), ..PLAIN },
        ),
        leases("leases-restart", "a process starts again, four delays", false, leases::Case { restarts: 1, ..DELAYED }),
        leases("leases-three", "three nodes, two delays", false, THREE),
        leases(
            "leases-hand-over",
            "the owner hands over, one delay",
            false,
            leases::Case { hand_over: true, epochs: 4, delays: Some(1), ..PLAIN },
        ),
        parts("parts-write", "the owner dies under a write and a read", false, WRITES),
        large("parts-two-writes", "the owner dies under two writes to one block", false, TWO_WRITES),
        large("parts-late", "the other image dies under a write, a compare-and-set comes late", false, LATE),
        large("parts-cut-read", "the connection breaks, one node is written, the other read", false, CUT_READ),
        parts("parts-cut", "the connection breaks under a write", false, CUT),
        parts("parts-resync", "an image catches up under a write", true, RESYNC),
        parts("parts-resync-crash", "an image catches up, either node dies", false, RESYNC_CRASH),
        parts("parts-hand-over", "the owner hands over under a write and a read", false, HAND_OVER),
        large("parts-power", "an image's machine loses its power under a write and a flush", false, POWER),
        large("parts-three", "three images, the owner dies under a write", false, THREE_PARTS),
    ]
}

#[cfg(test)]
mod tests {
    use super::all;
    use crate::search::Bounds;

    fn of(name: &str) -> super::Configuration {
        all().into_iter().find(|configuration| configuration.name == name).expect("a configuration's name")
    }

    /// A short search, in every run of the tests.
    #[test]
    fn two_nodes_never_answer_at_the_same_time() {
        for name in ["leases-true", "leases-slow-fast"] {
            let report = of(name).run(Bounds { depth: 7, ..Bounds::NONE });
            assert!(report.found.is_none(), "{name}: {:#?}", report.found);
            assert!(report.states > 500, "{}", report.states);
        }
    }

    /// A whole one: every interleaving of a write with an image that catches up.
    #[test]
    fn an_image_that_catches_up_has_every_acknowledged_write() {
        let report = of("parts-resync").run(Bounds::NONE);
        assert!(report.is_proof(), "{report:#?}");
    }
}
