//! What has to hold in every state, and what a search should have seen.

use crate::leases::node::{Role, in_sync};
use crate::leases::{Case, Cluster};
use crate::search::Violation;

/// Checks every rule.
pub(crate) fn check(state: &Cluster) -> Result<(), Violation> {
    let may_answer = |at: &usize| {
        let node = &state.nodes[*at];
        node.life.as_ref().is_some_and(|life| life.may_answer(node.at, node.clock))
    };
    let answering: Vec<usize> = (0..state.nodes.len()).filter(may_answer).collect();
    if answering.len() > 1 {
        return Err(Violation::new("M5", format!("nodes {answering:?} may answer at the same time")));
    }
    if in_sync(&state.store) == 0 {
        return Err(Violation::new("M8", "no image is in sync"));
    }
    for node in &state.nodes {
        let known = node.life.as_ref().map_or(&node.kept, |life| &life.known);
        for record in [known, &node.kept] {
            if record.epoch() > state.store.epoch() {
                let (at, epoch) = (node.at, record.epoch());
                return Err(Violation::new("M7", format!("node {at} knows epoch {epoch}, which is not stored")));
            }
            if record.epoch() == state.store.epoch() && *record != state.store {
                return Err(Violation::new(
                    "§8",
                    format!("node {} knows another record of the store's epoch", node.at),
                ));
            }
        }
        // A3: whoever serves at an epoch that the store has left does so only until the leases end, which M5 covers; but
        // it never serves with an image of its set that has not adopted the epoch and yet gives it leases.
        if let Some(life) = &node.life
            && let Role::Owner { fenced, serves: true } = life.role
            && life.may_answer(node.at, node.clock)
            && fenced & in_sync(&life.known) != in_sync(&life.known)
        {
            // Leases at the record's epoch are given only by images that adopted it; the answer may just be under way.
            let lacks = in_sync(&life.known) & !fenced;
            let adopted = |at: usize| state.nodes[at].kept.epoch() >= life.known.epoch();
            if !crate::leases::node::bits(lacks).all(adopted) {
                return Err(Violation::new("M3", format!("node {} may answer before its images adopted", node.at)));
            }
        }
    }
    Ok(())
}

/// By bit.
pub(crate) const MILESTONES: [&str; 6] =
    ["served", "served again by another", "answer possible with leases", "alone", "joined again", "restarted"];

/// What this state has reached; what the case cannot reach counts as reached.
pub(crate) fn milestones(case: &Case, state: &Cluster) -> u32 {
    let mut reached = 0;
    let alone = |node: &crate::digest::Shared<crate::leases::node::Node>| {
        node.life.as_ref().is_some_and(|life| in_sync(&life.known).count_ones() == 1)
    };
    for node in &state.nodes {
        let Some(life) = &node.life else { continue };
        let Role::Owner { serves: true, .. } = life.role else { continue };
        reached |= 1 | u32::from(node.at > 0) << 1;
        let set = in_sync(&life.known).count_ones();
        reached |= u32::from(set > 1 && life.may_answer(node.at, node.clock)) << 2;
    }
    // Of two, whoever follows a silent owner is alone; of more, only if images are taken out.
    let cannot_be_alone = case.rates.len() > 2 && !case.members;
    reached |= u32::from(cannot_be_alone || state.nodes.iter().any(alone)) << 3;
    let joined = state.store.0.images.iter().filter(|image| image.incarnation.is_some()).count();
    let is_late = state.store.epoch().value() > 3;
    reached |= u32::from(!case.members || is_late && joined > 1 && in_sync(&state.store).count_ones() > 1) << 4;
    reached |= u32::from(case.restarts == 0 || state.spent.restarts > 0) << 5;
    reached
}
