//! The configurations, each with the bound to which it is searched in every interleaving.

use crate::leases;
use crate::leases::Rate::{self, Fast, Slow, True};
use crate::parts::{self, Fault, HostOp, Reached, Script};
use crate::search::{Report, explore};

/// A named case and its bound.
pub struct Configuration {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it looks at, in half a sentence.
    pub about: &'static str,
    /// Small enough for a unit test.
    pub is_quick: bool,
    /// Bound of the search in steps: every interleaving of so many.
    pub depth_max: u32,
    search: Search,
}

enum Search {
    Leases(leases::Case),
    Parts(parts::Case),
}

impl Configuration {
    /// Searches it, no deeper than `depth_max`.
    pub fn run(&self, depth_max: u32) -> Report {
        match &self.search {
            Search::Leases(case) => explore(case, depth_max.min(self.depth_max)),
            Search::Parts(case) => explore(case, depth_max.min(self.depth_max)),
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

/// Either may die under two writes to one block, and an answer of the store be lost.
const TWO_WRITES: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (0, WRITE), (0, READ)], hand_overs: &[], behind: None },
    faults: &[(0, Fault::Crash), (1, Fault::Crash)],
    unknown: 1,
    ..WRITES
};

/// A compare-and-set comes late, after others went on.
const LATE: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (1, READ)], hand_overs: &[], behind: None },
    faults: &[(0, Fault::Crash), (1, Fault::Crash)],
    late: 1,
    expects: &[Reached::Done, Reached::ServedAgain, Reached::TakenOut, Reached::Late, Reached::Rest],
    ..WRITES
};

/// Nobody dies, but nodes stand still and messages are late: the owner is deposed without knowing.
const PAUSED: parts::Case = parts::Case {
    script: Script { ops: &[(1, WRITE), (0, READ)], hand_overs: &[], behind: None },
    faults: &[],
    faults_max: 0,
    delays: 3,
    expects: &[Reached::Done, Reached::ServedAgain, Reached::Refused, Reached::Paused, Reached::TakenOut],
    ..WRITES
};

/// The connection breaks under writes, and comes back or not.
const CUT: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (0, READ)], hand_overs: &[], behind: None },
    faults: &[],
    faults_max: 0,
    cuts: 1,
    unknown: 1,
    expects: &[Reached::Done, Reached::TakenOut, Reached::Joined, Reached::Rest],
    ..WRITES
};

/// An image that is behind comes back and catches up under a write; either node may die meanwhile.
const RESYNC: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (1, READ)], hand_overs: &[], behind: Some(1) },
    faults: &[(0, Fault::Crash), (1, Fault::Crash)],
    expects: &[Reached::Done, Reached::Joined, Reached::ResyncEnded, Reached::ServedAgain, Reached::Rest],
    ..WRITES
};

/// The owner hands over under a write and a read; it may die.
const HAND_OVER: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (1, READ)], hand_overs: &[1], behind: None },
    expects: &[Reached::Done, Reached::ServedAgainWithOpsUnderWay, Reached::Rest],
    unknown: 1,
    ..WRITES
};

/// A machine loses its power: what was not flushed is gone there.
const POWER: parts::Case = parts::Case {
    script: Script { ops: &[(0, WRITE), (0, HostOp::Flush), (0, READ)], hand_overs: &[], behind: None },
    faults: &[(0, Fault::PowerLoss), (1, Fault::PowerLoss)],
    expects: &[Reached::Done, Reached::ServedAgain, Reached::TakenOut, Reached::Joined, Reached::Rest],
    ..WRITES
};

/// Three images: the write may be on any of them when the owner dies.
const THREE_PARTS: parts::Case =
    parts::Case { nodes: 3, script: Script { ops: &[(0, WRITE), (1, READ)], hand_overs: &[], behind: None }, ..WRITES };

/// Three images, one of which is behind.
const THREE_RESYNC: parts::Case = parts::Case {
    nodes: 3,
    script: Script { ops: &[(0, WRITE)], hand_overs: &[], behind: Some(2) },
    faults: &[(0, Fault::Crash)],
    expects: &[Reached::Done, Reached::Joined, Reached::ServedAgain, Reached::Rest],
    ..WRITES
};

/// Every configuration, smallest first.
pub fn all() -> Vec<Configuration> {
    let leases = |name, about, is_quick, case| Configuration {
        name,
        about,
        is_quick,
        depth_max: u32::MAX,
        search: Search::Leases(case),
    };
    let parts = |name, about, is_quick, case| Configuration {
        name,
        about,
        is_quick,
        depth_max: u32::MAX,
        search: Search::Parts(case),
    };
    let rates = |rates: &'static [Rate]| leases::Case { rates, ..PLAIN };
    vec![
        leases("leases-true", "takeover between two nodes, true clocks", true, PLAIN),
        leases("leases-slow-fast", "as before, the clocks apart by the bound", true, rates(&[Slow, Fast])),
        leases("leases-fast-slow", "as before, the other way round", true, rates(&[Fast, Slow])),
        leases("leases-late", "a compare-and-set comes late", false, leases::Case { late: 1, ..PLAIN }),
        leases("leases-restart", "a process starts again", false, leases::Case { restarts: 1, ..PLAIN }),
        leases("leases-three", "three nodes, two delays", false, THREE),
        leases("leases-hand-over", "the owner hands over", false, leases::Case { hand_over: true, epochs: 4, ..PLAIN }),
        parts("parts-write", "the owner dies under a write and a read", false, WRITES),
        parts("parts-two-writes", "either dies under two writes, an answer of the store is lost", false, TWO_WRITES),
        parts("parts-late", "a compare-and-set comes late", false, LATE),
        parts("parts-paused", "nodes stand still, messages are late", false, PAUSED),
        parts("parts-cut", "the connection breaks", false, CUT),
        parts("parts-resync", "an image catches up, either node dies", false, RESYNC),
        parts("parts-hand-over", "the owner hands over, and dies", false, HAND_OVER),
        parts("parts-power", "a machine loses its power", false, POWER),
        parts("parts-three", "three images, the owner dies", false, THREE_PARTS),
        parts("parts-three-resync", "three images, one catches up, the owner dies", false, THREE_RESYNC),
    ]
}

#[cfg(test)]
mod tests {
    use super::all;

    /// Short searches of the quick configurations, in every run of the tests.
    #[test]
    fn two_nodes_never_answer_at_the_same_time() {
        for configuration in all().iter().filter(|configuration| configuration.is_quick) {
            let report = configuration.run(7);
            assert!(report.found.is_none(), "{}: {:#?}", configuration.name, report.found);
            assert!(report.states > 1000, "{}", report.states);
        }
    }
}
