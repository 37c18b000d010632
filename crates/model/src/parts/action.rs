//! What may happen next.

use dyad_mirror::PartRole;

use crate::leases::Fate;
use crate::parts::case::Case;
use crate::parts::world::World;

/// One step of somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Time passes. Nodes of `runs` (one bit each) beat and tick; the others stand still.
    Tick { runs: u8 },
    /// The oldest message under way arrives.
    Deliver { from: u8, to: u8 },
    /// The proposal of a node goes to the store.
    Propose { node: u8, fate: Fate },
    /// A compare-and-set that was given up comes to the store.
    Arrive,
    /// A node hears what the store holds, by its watch.
    See { node: u8 },
    /// The next operation of the script is asked.
    Ask,
    /// The next hand-over of the script is told to a node that may own the segment.
    HandOver { node: u8 },
    /// The fault of the case with this place in its list happens.
    Fail { fault: u8 },
    /// A process starts.
    Start { node: u8 },
    /// A connection breaks; what was under way is lost.
    Cut { a: u8, b: u8 },
    /// A connection comes back.
    Mend { a: u8, b: u8 },
}

/// What may happen in this state.
pub(crate) fn possible(case: &Case, state: &World, out: &mut Vec<Action>) {
    let places = 0..state.nodes.len() as u8;
    time(case, state, out);
    for from in places.clone() {
        let to = places.clone().filter(|to| !state.links[usize::from(from)][usize::from(*to)].is_empty());
        out.extend(to.map(|to| Action::Deliver { from, to }));
    }
    out.extend(state.late.as_ref().map(|_| Action::Arrive));
    for node in &state.nodes {
        let at = node.at as u8;
        let Some(life) = &node.life else {
            out.push(Action::Start { node: at });
            continue;
        };
        if let Some((_, expected)) = life.proposal {
            let can_apply = state.store.epoch() == expected;
            out.push(Action::Propose { node: at, fate: Fate::Answered });
            if can_apply && state.spent.unknown < case.unknown {
                out.push(Action::Propose { node: at, fate: Fate::AnswerLost });
            }
            if can_apply && state.late.is_none() && state.spent.late < case.late {
                out.push(Action::Propose { node: at, fate: Fate::Late });
            }
        }
        if life.part.record().epoch < state.store.epoch() {
            out.push(Action::See { node: at });
        }
        if usize::from(state.spent.hand_overs) < case.script.hand_overs.len()
            && life.part.status().role == PartRole::Owner
        {
            out.push(Action::HandOver { node: at });
        }
    }
    let next = case.script.ops.get(usize::from(state.spent.ops));
    if next.is_some_and(|(node, _)| state.nodes[usize::from(*node)].life.is_some()) {
        out.push(Action::Ask);
    }
    faults(case, state, out);
}

fn time(case: &Case, state: &World, out: &mut Vec<Action>) {
    let up = state.nodes.iter().filter(|node| node.life.is_some()).fold(0_u8, |up, node| up | 1 << node.at);
    let left = case.delays - state.spent.delays;
    let ticks = (0..=up).filter(|runs| runs & !up == 0 && state.delays(*runs) <= left);
    out.extend(ticks.map(|runs| Action::Tick { runs }));
}

fn faults(case: &Case, state: &World, out: &mut Vec<Action>) {
    if state.spent.faults < case.faults_max {
        let can_fail = |node: u8| state.nodes[usize::from(node)].life.is_some();
        let faults = case.faults.iter().enumerate().filter(|(_, (node, _))| can_fail(*node));
        out.extend(faults.map(|(fault, _)| Action::Fail { fault: fault as u8 }));
    }
    let pairs = (0..state.nodes.len() as u8).flat_map(|b| (0..b).map(move |a| (a, b)));
    for (a, b) in pairs {
        if state.cut.contains(&(a, b)) {
            out.push(Action::Mend { a, b });
        } else if state.spent.cuts < case.cuts && state.are_connected(usize::from(a), usize::from(b)) {
            out.push(Action::Cut { a, b });
        }
    }
}
