//! What may happen next.

use dyad_cluster::ImageState;

use crate::leases::node::{Life, Role, bits, in_sync};
use crate::leases::store::Fate;
use crate::leases::{Case, Cluster};

/// One step of somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Time passes. Of `runs` (one bit each) the node beats and its reactor ticks; the others are paused.
    Tick { runs: u8 },
    /// The oldest beat under way arrives, and is answered.
    GiveBeat { from: u8, to: u8 },
    /// The oldest answer under way arrives.
    GiveAnswer { from: u8, to: u8 },
    /// What is under way from one node to another is lost.
    Lose { from: u8, to: u8 },
    /// A node asks the nodes of `asked` (one bit each) what their images know, and claims if it is its turn.
    Claim { node: u8, asked: u8 },
    /// The proposal of a node goes to the store.
    Propose { node: u8, fate: Fate },
    /// A compare-and-set that was given up comes to the store.
    Arrive,
    /// An owner opens a stream to an image; the answer may be lost.
    Open { owner: u8, to: u8, answered: bool },
    /// An owner begins to serve.
    Serve { node: u8 },
    /// An owner takes an image out.
    TakeOut { owner: u8, image: u8 },
    /// An image that has everything joins (M16).
    Join { owner: u8, image: u8 },
    /// An owner hands over (M12).
    HandOver { owner: u8, to: u8 },
    /// The word that the old owner will not answer again arrives.
    GiveRelease { to: u8 },
    /// A node sees what the store holds.
    See { node: u8 },
    /// A process dies.
    Crash { node: u8 },
    /// A process starts.
    Start { node: u8 },
}

/// What may happen in this state.
pub(crate) fn possible(case: &Case, state: &Cluster, out: &mut Vec<Action>) {
    let all = (1_u8 << state.nodes.len()) - 1;
    let left = case.delays.map_or(u8::MAX, |delays| delays - state.spent.delays);
    let ticks = (0..=all).filter(|&runs| case.delays.is_none() || state.delays(runs) <= left);
    out.extend(ticks.map(|runs| Action::Tick { runs }));
    if state.late.is_some() {
        out.push(Action::Arrive);
    }
    for node in &state.nodes {
        let at = node.at as u8;
        match &node.life {
            None => out.push(Action::Start { node: at }),
            Some(life) => {
                if state.spent.restarts < case.restarts {
                    out.push(Action::Crash { node: at });
                }
                messages(case, state, at, life, out);
                decisions(case, state, at, life, out);
            }
        }
    }
}

fn messages(case: &Case, state: &Cluster, at: u8, life: &Life, out: &mut Vec<Action>) {
    let node = usize::from(at);
    for from in (0..state.nodes.len()).filter(|from| *from != node) {
        if !state.beats[from][node].is_empty() {
            out.push(Action::GiveBeat { from: from as u8, to: at });
        }
        if !state.answers[from][node].is_empty() {
            out.push(Action::GiveAnswer { from: from as u8, to: at });
        }
        let is_any = !state.beats[from][node].is_empty() || !state.answers[from][node].is_empty();
        if is_any && case.delays.is_some_and(|delays| state.spent.delays < delays) {
            out.push(Action::Lose { from: from as u8, to: at });
        }
    }
    if state.release.as_ref().is_some_and(|release| release.to == node) {
        out.push(Action::GiveRelease { to: at });
    }
    if state.store.epoch() > life.known.epoch() {
        out.push(Action::See { node: at });
    }
}

fn decisions(case: &Case, state: &Cluster, at: u8, life: &Life, out: &mut Vec<Action>) {
    if let Some(proposal) = &life.proposal {
        let can_apply = state.store.epoch() == proposal.expected;
        out.push(Action::Propose { node: at, fate: Fate::Answered });
        if state.spent.unknown < case.unknown && can_apply {
            // Lost before the store: as if it was sent later. Only the lost answer is another state.
            out.push(Action::Propose { node: at, fate: Fate::AnswerLost });
        }
        if state.spent.late < case.late && can_apply && state.late.is_none() {
            out.push(Action::Propose { node: at, fate: Fate::Late });
        }
    }
    let may_change = life.proposal.is_none() && life.known.epoch().value() < case.epochs;
    let others = (0..state.nodes.len() as u8).filter(|other| *other != at);
    match life.role {
        Role::Follower if may_change => {
            let others: u8 = others.fold(0, |set, other| set | 1 << other);
            out.extend((0..8).filter(|set| set & !others == 0).map(|asked| Action::Claim { node: at, asked }));
        }
        Role::Follower => {}
        Role::Owner { fenced, serves } => {
            let to_fence = others.clone().filter(|to| fenced >> to & 1 == 0);
            for to in to_fence.filter(|to| state.nodes[usize::from(*to)].life.is_some()) {
                out.extend([true, false].map(|answered| Action::Open { owner: at, to, answered }));
            }
            if !serves {
                out.push(Action::Serve { node: at });
            }
            if may_change {
                changes(case, at, life, fenced, out);
            }
        }
    }
}

fn changes(case: &Case, at: u8, life: &Life, fenced: u8, out: &mut Vec<Action>) {
    let others = bits(in_sync(&life.known) & !(1 << at));
    if case.members {
        out.extend(others.clone().map(|image| Action::TakeOut { owner: at, image: image as u8 }));
        let images = life.known.0.images.iter().enumerate();
        let stale = images.filter(|(_, image)| image.state == ImageState::Stale).map(|(image, _)| image as u8);
        out.extend(stale.filter(|image| fenced >> image & 1 == 1).map(|image| Action::Join { owner: at, image }));
    }
    if case.hand_over && matches!(life.role, Role::Owner { serves: true, .. }) {
        out.extend(others.map(|to| Action::HandOver { owner: at, to: to as u8 }));
    }
}
