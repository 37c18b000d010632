//! The configurations, each with the bound to which it is searched in every interleaving.

use crate::leases::Rate::{self, Fast, Slow, True};
use crate::leases::{self};
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
}

impl Configuration {
    /// Searches it, no deeper than `depth_max`.
    pub fn run(&self, depth_max: u32) -> Report {
        match &self.search {
            Search::Leases(case) => explore(case, depth_max.min(self.depth_max)),
        }
    }
}

const PLAIN: leases::Case = leases::Case {
    rates: &[True, True],
    epochs: 3,
    restarts: 0,
    unknown: true,
    late: false,
    members: false,
    hand_over: false,
    in_flight: 1,
};

/// Every configuration, smallest first.
pub fn all() -> Vec<Configuration> {
    let leases = |name, about, is_quick, case| Configuration {
        name,
        about,
        is_quick,
        depth_max: 9,
        search: Search::Leases(case),
    };
    let rates = |rates: &'static [Rate]| leases::Case { rates, ..PLAIN };
    vec![
        leases("leases-true", "takeover between two nodes, true clocks", true, PLAIN),
        leases("leases-slow-fast", "as before, the clocks apart by the bound", true, rates(&[Slow, Fast])),
        leases("leases-fast-slow", "as before, the other way round", true, rates(&[Fast, Slow])),
        leases("leases-late", "a compare-and-set comes late", false, leases::Case { late: true, ..PLAIN }),
        leases("leases-restart", "a process starts again", false, leases::Case { restarts: 1, ..PLAIN }),
        leases("leases-hand-over", "the owner hands over", false, leases::Case { hand_over: true, epochs: 4, ..PLAIN }),
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
