//! A few rounds of every kind of fault with real processes, links and disks: nothing acknowledged is lost, stale or
//! torn, and both images are equal after every round (A1, A3, M5, M8, M9, M11 to M16, M19, P11, P15). How long hosts
//! wait is measured by `cargo xtask chaos`, on a machine that does nothing else.

use dyad_e2e::chaos::{Kind, Stage};

#[test]
fn whatever_fails_nothing_acknowledged_is_lost_and_the_images_are_equal() {
    let rounds: usize = std::env::var("DYAD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let only = std::env::var("DYAD_KIND").unwrap_or_default();
    for kind in Kind::ALL.into_iter().filter(|kind| only.is_empty() || kind.name() == only) {
        let Some(mut stage) = Stage::new(kind, 7).unwrap_or_else(|error| panic!("{}: {error:#}", kind.name())) else {
            continue;
        };
        for number in 1..=rounds {
            let round = stage.round().unwrap_or_else(|error| {
                panic!("{}, round {number}: {error:#}\n{}", kind.name(), stage.logs());
            });
            println!("{}: {round:?}", kind.name());
        }
        stage.end().unwrap_or_else(|error| panic!("{}: {error:#}", kind.name()));
    }
}
