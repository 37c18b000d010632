//! The configurations: each small enough to be searched completely, together every fault that the rules speak of.

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
    /// More states than it has: a search that comes here is no proof.
    pub states_max: u64,
    search: Search,
}

enum Search {
    Leases(leases::Case),
}

impl Configuration {
    /// Searches it.
    pub fn run(&self) -> Report {
        match &self.search {
            Search::Leases(case) => explore(case, self.states_max),
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
        states_max: 1_500_000,
        search: Search::Leases(case),
    };
    let rates = |rates: &'static [Rate]| leases::Case { rates, ..PLAIN };
    vec![
        leases("leases-true", "takeover between two nodes, true clocks", true, PLAIN),
        leases("leases-slow-fast", "as before, the clocks apart by the bound", true, rates(&[Slow, Fast])),
        leases("leases-fast-slow", "as before, the other way round", true, rates(&[Fast, Slow])),
    ]
}
