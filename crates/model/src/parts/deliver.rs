//! What happens: events go to parts, and what these want is carried out.

use std::collections::VecDeque;
use std::sync::Arc;

use dyad_cluster::ImageState;
use dyad_contract::volume::{VolumeDone, VolumeOp, VolumeResult};
use dyad_mirror::{Command, Note, OpId, PartAction, PartEvent, PartNote, PartRole, PeerMessage};
use dyad_units::{BLOCK_BYTES, NodeId, Span};

use crate::leases::{Fate, Known, put};
use crate::parts::action::Action;
use crate::parts::case::{Case, Fault, STEP};
use crate::parts::history::{Ended, HostOp};
use crate::parts::node::{image_id, node_id, place_of};
use crate::parts::rules::Reached;
use crate::parts::world::{Buffers, World};
use crate::search::Violation;

type Checked = Result<(), Violation>;

impl World {
    /// Lets it happen.
    pub(crate) fn act(&mut self, case: &Case, action: Action) -> Checked {
        match action {
            Action::Tick { runs } => {
                self.spent.delays += self.delays(runs);
                self.tick(runs)
            }
            Action::Deliver { from, to } => {
                let (from, to) = (usize::from(from), usize::from(to));
                let Some(message) = self.links[from][to].make_mut().pop_front() else { return Ok(()) };
                self.event(to, PartEvent::Peer { from: node_id(from), message: Arc::unwrap_or_clone(message) })
            }
            Action::Propose { node, fate } => self.propose(usize::from(node), fate),
            Action::Arrive => {
                if let Some((record, expected)) = self.late.take() {
                    let before = self.store.epoch();
                    self.store = put(&self.store, &record, expected, Fate::Answered).0;
                    self.reach_if(self.store.epoch() > before, Reached::Late);
                }
                Ok(())
            }
            Action::See { node } => {
                let record = Some(Box::new((*self.store.0).clone()));
                self.event(usize::from(node), PartEvent::Seen(record))
            }
            Action::Ask => self.ask(case),
            Action::HandOver { node } => {
                let id = u64::from(self.spent.hand_overs);
                let to = node_id(usize::from(case.script.hand_overs[id as usize]));
                self.spent.hand_overs += 1;
                self.event(usize::from(node), PartEvent::Command { id, command: Command::HandOver { to } })
            }
            Action::Fail { fault } => {
                self.spent.faults += 1;
                let (node, fault) = case.faults[usize::from(fault)];
                self.fail(usize::from(node), fault)
            }
            Action::Start { node } => self.start(usize::from(node)),
            Action::Cut { a, b } => {
                self.spent.cuts += 1;
                self.cut.push((a, b));
                self.cut.sort_unstable();
                self.disconnect(usize::from(a), usize::from(b))
            }
            Action::Mend { a, b } => {
                self.cut.retain(|pair| *pair != (a, b));
                self.connect(usize::from(a), usize::from(b))
            }
        }
    }

    pub(super) fn reach_if(&mut self, is_so: bool, what: Reached) {
        self.reached |= u32::from(is_so) << what as u32;
    }

    /// What a step of time in which these nodes run costs of the delays allowed.
    pub(crate) fn delays(&self, runs: u8) -> u8 {
        let idle = self.nodes.iter().filter(|node| node.life.is_some() && runs >> node.at & 1 == 0).count();
        idle as u8 + u8::from(!self.is_quiet())
    }

    fn tick(&mut self, runs: u8) -> Checked {
        self.now = self.now + STEP;
        let runs: Vec<usize> = (0..self.nodes.len()).filter(|at| runs >> at & 1 == 1).collect();
        for &at in &runs {
            self.tick_part(at)?;
        }
        for &at in &runs {
            self.beat(at, &runs);
        }
        // What the leases now allow.
        for &at in &runs {
            self.tick_part(at)?;
        }
        Ok(())
    }

    fn beat(&mut self, at: usize, runs: &[usize]) {
        let now = self.now;
        let Some(life) = &mut self.nodes[at].make_mut().life else { return };
        let Some(beat) = life.leases.beat(now) else { return };
        for &other in runs.iter().filter(|&&other| other != at) {
            if !self.are_connected(at, other) {
                continue;
            }
            let Some(life) = &mut self.nodes[other].make_mut().life else { continue };
            let answer = life.leases.on_beat(now, node_id(at), &beat);
            if let Some(life) = &mut self.nodes[at].make_mut().life {
                life.leases.on_answer(now, node_id(other), &answer);
            }
        }
    }

    fn tick_part(&mut self, at: usize) -> Checked {
        let Some(life) = &mut self.nodes[at].make_mut().life else { return Ok(()) };
        let mut actions = Vec::new();
        life.part.tick(self.now, &mut life.leases, &mut actions);
        self.carry_out_all(at, actions)
    }

    /// A part hears something.
    pub(super) fn event(&mut self, at: usize, event: PartEvent) -> Checked {
        let Some(life) = &mut self.nodes[at].make_mut().life else { return Ok(()) };
        let mut actions = Vec::new();
        life.part.handle(self.now, event, &mut life.leases, &mut actions);
        self.carry_out_all(at, actions)
    }

    /// Does what a part wants, and what it wants thereupon.
    fn carry_out_all(&mut self, at: usize, actions: Vec<PartAction>) -> Checked {
        let mut actions = VecDeque::from(actions);
        let mut answers = Vec::new();
        while let Some(action) = actions.pop_front() {
            let Some(event) = self.carry_out(at, action)? else { continue };
            let Some(life) = &mut self.nodes[at].make_mut().life else { return Ok(()) };
            life.part.handle(self.now, event, &mut life.leases, &mut answers);
            actions.extend(answers.drain(..));
        }
        Ok(())
    }

    fn carry_out(&mut self, at: usize, action: PartAction) -> Result<Option<PartEvent>, Violation> {
        match action {
            PartAction::Answer { id: OpId(id), result } => self.answer(id as usize, &result)?,
            PartAction::Pool { image, token, request } => {
                let node = self.nodes[at].make_mut();
                let reply = node.image.carry_out(&request, Buffers::all())?;
                return Ok(Some(PartEvent::Pool { image, token, reply }));
            }
            PartAction::Send { to, message } => self.send(at, to, message),
            PartAction::Propose { record, expected } => {
                let Some(life) = &mut self.nodes[at].make_mut().life else { return Ok(None) };
                let claims = life.part.status().role == PartRole::Claiming;
                if claims && life.leases.promised_until(record.id) > self.now {
                    return Err(Violation::new("M6", format!("node {at} claims although it promised not to")));
                }
                life.proposal = Some((Known::new(*record), expected));
            }
            PartAction::Read => return Ok(Some(PartEvent::Seen(Some(Box::new((*self.store.0).clone()))))),
            PartAction::Note(note) => self.note(note),
            PartAction::CloseSessions => return Ok(Some(PartEvent::SessionsClosed)),
            PartAction::Done { .. } | PartAction::Loss { .. } | PartAction::Stopped => {}
        }
        Ok(None)
    }

    fn note(&mut self, note: PartNote) {
        match note {
            PartNote::Mirror(Note::Serving { suspect, .. }) => {
                let asked = self.history.ops.iter().any(|op| op.answered_turn.is_none());
                self.reach_if(true, Reached::ServedAgain);
                self.reach_if(asked, Reached::ServedAgainWithOpsUnderWay);
                self.reach_if(suspect > 0, Reached::Equalised);
            }
            PartNote::Mirror(Note::Joined { .. }) => self.reach_if(true, Reached::Joined),
            PartNote::Mirror(Note::TakenOut { .. }) => self.reach_if(true, Reached::TakenOut),
            PartNote::Mirror(Note::ResyncEnded { .. }) => self.reach_if(true, Reached::ResyncEnded),
            PartNote::RefusedOwner { .. } => self.reach_if(true, Reached::Refused),
            PartNote::Paused => self.reach_if(true, Reached::Paused),
            _ => {}
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: PeerMessage) {
        let to = place_of(to);
        if self.are_connected(from, to) {
            self.links[from][to].make_mut().push_back(Arc::new(message));
        }
    }

    fn propose(&mut self, at: usize, fate: Fate) -> Checked {
        let proposal = self.nodes[at].make_mut().life.as_mut().and_then(|life| life.proposal.take());
        let Some((record, expected)) = proposal else { return Ok(()) };
        let (store, outcome) = put(&self.store, &record, expected, fate);
        self.store = store;
        self.spent.unknown += u8::from(fate == Fate::AnswerLost);
        if fate == Fate::Late {
            self.spent.late += 1;
            self.late = Some((record, expected));
        }
        self.event(at, PartEvent::Outcome(outcome))
    }

    fn ask(&mut self, case: &Case) -> Checked {
        let (node, op) = case.script.ops[usize::from(self.spent.ops)];
        self.spent.ops += 1;
        self.ask_of(node, op)
    }

    fn ask_of(&mut self, node: u8, op: HostOp) -> Checked {
        let at = self.history.ops.len();
        let value = self.history.ask(op);
        let span = |block: u8| {
            let bytes = u64::from(BLOCK_BYTES);
            Span::new(u64::from(block) * bytes, bytes).expect("within the segment")
        };
        let data = Buffers::all().block(value);
        let op = match op {
            HostOp::Write { block } => VolumeOp::Write { span: span(block), data, durable: false },
            HostOp::Read { block } => VolumeOp::Read { span: span(block) },
            HostOp::Flush => VolumeOp::Flush,
        };
        let arrived = self.now;
        self.event(usize::from(node), PartEvent::Op { id: OpId(at as u64), op, arrived })
    }

    fn answer(&mut self, id: usize, result: &VolumeResult) -> Checked {
        let ended = match result {
            Ok(VolumeDone::Data(data)) => Ended::Done { found: data.slices().first().map_or(0, |slice| slice[0]) },
            Ok(VolumeDone::Done) => Ended::Done { found: 0 },
            Err(_) => Ended::Refused,
        };
        self.reach_if(ended != Ended::Refused, Reached::Done);
        self.history.answer(id, ended)
    }

    fn fail(&mut self, at: usize, fault: Fault) -> Checked {
        match fault {
            Fault::Crash => self.nodes[at].make_mut().crash(),
            Fault::PowerLoss => self.nodes[at].make_mut().lose_power(),
        }
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            self.links[at][other].make_mut().clear();
            self.links[other][at].make_mut().clear();
            let is_cut = self.cut.contains(&(at.min(other) as u8, at.max(other) as u8));
            if self.nodes[other].life.is_some() && !is_cut {
                self.event(other, PartEvent::PeerDown { node: node_id(at) })?;
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, at: usize) -> Checked {
        let (store, now) = (self.store.clone(), self.now);
        self.nodes[at].make_mut().start(&store, now, Buffers::all());
        self.event(at, PartEvent::PoolUp { image: image_id(at) })?;
        for other in 0..self.nodes.len() {
            if self.are_connected(at, other) {
                self.connect(at, other)?;
            }
        }
        Ok(())
    }

    fn connect(&mut self, a: usize, b: usize) -> Checked {
        if !self.are_connected(a, b) {
            return Ok(());
        }
        for (me, other) in [(a, b), (b, a)] {
            let incarnation = self.nodes[other].incarnation();
            self.event(me, PartEvent::PeerUp { node: node_id(other), incarnation })?;
        }
        Ok(())
    }

    fn disconnect(&mut self, a: usize, b: usize) -> Checked {
        for (me, other) in [(a, b), (b, a)] {
            self.links[me][other].make_mut().clear();
            self.event(me, PartEvent::PeerDown { node: node_id(other) })?;
            self.links[me][other].make_mut().clear();
        }
        Ok(())
    }

    /// The first state of a case: node 0 serves and holds the leases of all others; if the script says so, one image was
    /// taken out and missed a write.
    pub(crate) fn serving(case: &Case) -> Self {
        let mut world = Self::new(case.nodes);
        let all = (1 << case.nodes) - 1;
        world.begin(case, all).expect("nothing goes wrong before anything is done to it");
        world.reached = 0;
        world
    }

    fn begin(&mut self, case: &Case, all: u8) -> Checked {
        (0..case.nodes).try_for_each(|at| self.start(at))?;
        self.settle(all, Self::is_serving)?;
        let Some(behind) = case.script.behind else { return Ok(()) };
        self.fail(usize::from(behind), Fault::Crash)?;
        self.ask_of(0, HostOp::Write { block: 0 })?;
        self.settle(all & !(1 << behind), |world| world.history.is_at_rest() && world.is_serving())
    }

    fn is_serving(&self) -> bool {
        let serves = self.nodes[0].life.as_ref().is_some_and(|life| life.part.status().role == PartRole::Owner);
        let all = self.store.0.images.iter().filter(|image| image.state == ImageState::InSync).count();
        serves && all > 0 && self.is_quiet()
    }

    /// Lets everything take its course without any fault, until it is so.
    fn settle(&mut self, runs: u8, is_so: impl Fn(&Self) -> bool) -> Checked {
        /// Steps until which a course without faults ends.
        const STEPS_MAX: usize = 2000;
        for _ in 0..STEPS_MAX {
            let count = self.nodes.len();
            let link = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
            let full = link.clone().find(|(from, to)| !self.links[*from][*to].is_empty());
            let proposes =
                (0..count).find(|at| self.nodes[*at].life.as_ref().is_some_and(|life| life.proposal.is_some()));
            if let Some((from, to)) = full {
                let message = self.links[from][to].make_mut().pop_front().expect("looked at just now");
                self.event(to, PartEvent::Peer { from: node_id(from), message: Arc::unwrap_or_clone(message) })?;
            } else if let Some(at) = proposes {
                self.propose(at, Fate::Answered)?;
            } else if is_so(self) {
                return Ok(());
            } else {
                self.tick(runs)?;
            }
        }
        Err(Violation::new("course", "it never comes to what it should"))
    }
}
