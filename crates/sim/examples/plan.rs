//! `cargo run --release -p dyad-sim --example plan FIRST_SEED`: the next seed that breaks a rule, and what is left of its
//! plan when everything that does not matter is out of it: data for a named test.

use dyad_sim::cluster::{Campaign, Plan};

fn main() {
    let first = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(0_u64);
    let mut campaign = Campaign::default();
    for seed in first.. {
        let Some(violation) = campaign.play(Plan::draw(seed), false).violation else { continue };
        println!("seed {seed}: {violation}");
        let small = campaign.shrink(Plan::draw(seed));
        let left = campaign.play(small.clone(), false).violation;
        println!("smallest: {}\n{small:#?}", left.map_or_else(String::new, |violation| violation.to_string()));
        return;
    }
}
