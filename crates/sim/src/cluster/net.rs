//! Connections between nodes: messages in order, none missing, until a connection breaks; then some are lost, and each
//! side notices in its own time.
//!
//! A cut direction holds back what is sent, as TCP does, until it is whole again or the connection is given up.

use std::collections::VecDeque;

use dyad_mirror::PeerMessage;

use super::queue::{MILLIS, Time};

/// A node's place in the cluster.
pub type NodeNo = usize;

/// What travels: of which segment, and what.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Place of the segment in the run.
    pub segment: usize,
    /// What one part tells the other; none: the sender has a part of the segment from now on.
    pub message: Option<PeerMessage>,
}

impl Letter {
    /// Whether it says in which stream it belongs (M3).
    const fn has_link_number(&self) -> bool {
        matches!(self.message, Some(PeerMessage::Ask { .. } | PeerMessage::Told { .. }))
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    /// How many cuts are in force.
    cuts: u32,
    /// On their way, with their time of arrival.
    flying: VecDeque<(Time, Letter)>,
    /// Sent into a cut.
    held: VecDeque<Letter>,
    /// Arrival of the last letter.
    last: Time,
    /// How much slower than usual.
    delay: Time,
    /// What was on its way when the connection before broke, and how long after the next begins it is read.
    late: Vec<(Time, Letter)>,
}

/// How one side sees the connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Side {
    /// There is none.
    #[default]
    Down,
    /// It will be told at this time.
    Rising(Time),
    Up,
    /// It broke, and this side does not know yet.
    Broken,
}

/// The connection of two nodes, `nodes.0 < nodes.1`.
#[derive(Debug)]
pub struct Link {
    nodes: (NodeNo, NodeNo),
    /// Number of the connection: what belongs to an older one is void.
    generation: u32,
    sides: [Side; 2],
    ways: [Way; 2],
}

impl Link {
    fn side(&self, node: NodeNo) -> usize {
        usize::from(node == self.nodes.1)
    }

    /// The node at the other end.
    fn other(&self, side: usize) -> NodeNo {
        if side == 0 { self.nodes.1 } else { self.nodes.0 }
    }
}

/// What the run has to let happen later.
#[derive(Debug)]
pub enum NetEvent {
    /// The next letter of this way arrives.
    Arrives {
        /// Between which nodes.
        from: NodeNo,
        /// Between which nodes.
        to: NodeNo,
        /// Of which connection.
        generation: u32,
    },
    /// One side learns that the connection is there.
    Begins {
        /// Who learns.
        at: NodeNo,
        /// About whom.
        peer: NodeNo,
        /// Which connection.
        generation: u32,
    },
    /// One side learns that it is gone.
    Ends {
        /// Who learns.
        at: NodeNo,
        /// About whom.
        peer: NodeNo,
    },
    /// Somebody tries to connect.
    Connects(NodeNo, NodeNo),
    /// A cut has lasted for so long that the connection is given up.
    GivesUp {
        /// Between which nodes.
        from: NodeNo,
        /// Between which nodes.
        to: NodeNo,
        /// Which connection.
        generation: u32,
    },
    /// A letter of the connection before, read amid this one, as from a buffer that somebody forgot. Only what carries a link
    /// number (M3): for everything else the end of a connection is the end.
    Lags {
        /// Who gets it.
        to: NodeNo,
        /// Whose it is.
        from: NodeNo,
        /// The connection amid which it comes.
        generation: u32,
        /// What it says.
        letter: Box<Letter>,
    },
    /// A letter of a broken connection that still arrived in time.
    Straggles {
        /// Who gets it.
        to: NodeNo,
        /// Whose it is.
        from: NodeNo,
        /// What it says.
        letter: Box<Letter>,
    },
}

/// All connections.
#[derive(Debug)]
pub struct Net {
    links: Vec<Link>,
    count: usize,
    /// Shortest time that a letter takes.
    pub delay: Time,
}

impl Net {
    /// No connection yet between `count` nodes.
    pub fn new(count: usize, delay: Time) -> Self {
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        let fresh = |nodes| Link { nodes, generation: 0, sides: Default::default(), ways: Default::default() };
        Self { links: pairs.map(fresh).collect(), count, delay }
    }

    fn at(&self, a: NodeNo, b: NodeNo) -> usize {
        let (a, b) = (a.min(b), a.max(b));
        (0..a).map(|skipped| self.count - 1 - skipped).sum::<usize>() + b - a - 1
    }

    fn link(&mut self, a: NodeNo, b: NodeNo) -> &mut Link {
        let at = self.at(a, b);
        &mut self.links[at]
    }

    fn way(&mut self, from: NodeNo, to: NodeNo) -> &mut Way {
        let link = self.link(from, to);
        let side = link.side(from);
        &mut link.ways[side]
    }

    /// Whether nothing gets from one to the other now.
    pub fn is_cut(&mut self, from: NodeNo, to: NodeNo) -> bool {
        self.way(from, to).cuts > 0
    }

    /// How much slower letters are than usual.
    pub fn slow_down(&mut self, from: NodeNo, to: NodeNo, delay: Time) {
        self.way(from, to).delay = delay;
    }

    /// Sends; `jitter` is added to the shortest time. What has to happen then, if anything.
    pub fn send(
        &mut self,
        now: Time,
        from: NodeNo,
        to: NodeNo,
        letter: Letter,
        jitter: Time,
    ) -> Option<(Time, NetEvent)> {
        let base = self.delay;
        let link = self.link(from, to);
        let side = link.side(from);
        if link.sides[side] != Side::Up {
            return None; // Not connected, or into a connection that is gone.
        }
        let earliest = match link.sides[1 - side] {
            Side::Rising(at) => at + 1,
            _ => 0,
        };
        let generation = link.generation;
        let way = &mut link.ways[side];
        if way.cuts > 0 || !way.held.is_empty() {
            way.held.push_back(letter);
            return None;
        }
        let arrival = (now + base + way.delay + jitter).max(way.last).max(earliest);
        way.last = arrival;
        way.flying.push_back((arrival, letter));
        Some((arrival, NetEvent::Arrives { from, to, generation }))
    }

    /// The letter that arrives now, unless it was lost or held up.
    pub fn arrive(&mut self, now: Time, from: NodeNo, to: NodeNo, generation: u32) -> Option<Letter> {
        let link = self.link(from, to);
        if link.generation != generation {
            return None;
        }
        let side = link.side(from);
        let way = &mut link.ways[side];
        way.flying.pop_front_if(|(arrival, _)| *arrival <= now).map(|(_, letter)| letter)
    }

    /// Cuts one direction. `patience` is how long the connection stands it.
    pub fn cut(&mut self, now: Time, from: NodeNo, to: NodeNo, patience: Time) -> Option<(Time, NetEvent)> {
        let link = self.link(from, to);
        let side = link.side(from);
        let generation = link.generation;
        let way = &mut link.ways[side];
        way.cuts += 1;
        let flying = std::mem::take(&mut way.flying);
        way.held.extend(flying.into_iter().map(|(_, letter)| letter));
        Some((now + patience, NetEvent::GivesUp { from, to, generation }))
    }

    /// One cut less; what was held back travels on.
    pub fn mend(&mut self, now: Time, from: NodeNo, to: NodeNo, jitter: Time, out: &mut Vec<(Time, NetEvent)>) {
        let base = self.delay;
        let link = self.link(from, to);
        let side = link.side(from);
        let generation = link.generation;
        let way = &mut link.ways[side];
        way.cuts = way.cuts.saturating_sub(1);
        if way.cuts > 0 {
            return;
        }
        for letter in std::mem::take(&mut way.held) {
            let arrival = (now + base + jitter).max(way.last);
            way.last = arrival;
            way.flying.push_back((arrival, letter));
            out.push((arrival, NetEvent::Arrives { from, to, generation }));
        }
    }

    /// Whether a connection that was cut for long is given up now.
    pub fn gives_up(&mut self, from: NodeNo, to: NodeNo, generation: u32) -> bool {
        let link = self.link(from, to);
        let side = link.side(from);
        link.generation == generation && link.ways[side].cuts > 0 && link.sides != [Side::Down; 2]
    }

    /// The connection breaks. Side 0 and side 1 notice after `notices`; `keeps` says for each direction how many of
    /// 256 letters under way still arrive before that.
    pub fn break_up(
        &mut self,
        now: Time,
        pair: (NodeNo, NodeNo),
        notices: [Time; 2],
        keeps: [u64; 2],
        out: &mut Vec<(Time, NetEvent)>,
    ) {
        let link = self.link(pair.0, pair.1);
        link.generation += 1;
        for side in 0..2 {
            let (from, to) = (link.other(1 - side), link.other(side));
            let way = &mut link.ways[side];
            way.held.clear();
            let flying = std::mem::take(&mut way.flying);
            let told = now + notices[1 - side];
            // Rounded to the nearest: one letter alone arrives in every other case.
            let kept = ((flying.len() as u64 * keeps[side] + 128) / 256) as usize;
            way.late.clear();
            for (nth, (arrival, letter)) in flying.into_iter().enumerate() {
                if nth < kept && arrival < told {
                    out.push((arrival, NetEvent::Straggles { to, from, letter: Box::new(letter) }));
                } else if letter.has_link_number() {
                    way.late.push((2 * way.delay + (1 + keeps[side]) * LAG, letter));
                }
            }
            way.last = 0;
        }
        for (side, notice) in notices.into_iter().enumerate() {
            let (at, peer) = (link.other(1 - side), link.other(side));
            match link.sides[side] {
                Side::Up => {
                    link.sides[side] = Side::Broken;
                    out.push((now + notice, NetEvent::Ends { at, peer }));
                }
                // It was not told of the beginning, and will not be told of the end.
                Side::Rising(_) => link.sides[side] = Side::Down,
                Side::Down | Side::Broken => {}
            }
        }
    }

    /// A process died: its side is gone with it.
    pub fn forget_side(&mut self, node: NodeNo, peer: NodeNo) {
        let link = self.link(node, peer);
        let side = link.side(node);
        link.sides[side] = Side::Down;
        link.ways.iter_mut().for_each(|way| way.late.clear());
    }

    /// Whether the node did not know yet; now it does.
    pub fn ends(&mut self, at: NodeNo, peer: NodeNo) -> bool {
        let link = self.link(at, peer);
        let side = link.side(at);
        let was_broken = link.sides[side] == Side::Broken;
        if was_broken {
            link.sides[side] = Side::Down;
        }
        was_broken
    }

    /// Connects, if nothing is in the way; the sides are told at these times.
    pub fn connect(&mut self, pair: (NodeNo, NodeNo), told: [Time; 2], out: &mut Vec<(Time, NetEvent)>) -> bool {
        let link = self.link(pair.0, pair.1);
        if link.sides != [Side::Down; 2] || link.ways.iter().any(|way| way.cuts > 0) {
            return false;
        }
        link.generation += 1;
        let generation = link.generation;
        for (side, told) in told.into_iter().enumerate() {
            let (at, peer) = (link.other(1 - side), link.other(side));
            link.sides[side] = Side::Rising(told);
            out.push((told, NetEvent::Begins { at, peer, generation }));
            for (after, letter) in std::mem::take(&mut link.ways[1 - side].late) {
                let letter = Box::new(letter);
                out.push((told + after, NetEvent::Lags { to: at, from: peer, generation, letter }));
            }
        }
        true
    }

    /// Whether the node is to be told of this connection now.
    pub fn begins(&mut self, at: NodeNo, peer: NodeNo, generation: u32) -> bool {
        let link = self.link(at, peer);
        let side = link.side(at);
        let is_new = link.generation == generation && matches!(link.sides[side], Side::Rising(_));
        if is_new {
            link.sides[side] = Side::Up;
        }
        is_new
    }

    /// Whether this is still the connection amid which a letter of the one before comes.
    pub fn lags(&mut self, from: NodeNo, to: NodeNo, generation: u32) -> bool {
        self.link(from, to).generation == generation
    }

    /// Whether both sides are connected.
    pub fn is_whole(&mut self, a: NodeNo, b: NodeNo) -> bool {
        let link = self.link(a, b);
        link.sides == [Side::Up; 2]
    }
}

/// What a letter of the connection before comes later by: this, times what was drawn for how many letters arrived in time (at
/// most 256), so that it comes amid what is asked again.
const LAG: Time = MILLIS / 4;

/// How long a connection stands a cut: what the nodes' own bound on unacknowledged bytes allows.
pub const PATIENCE_MAX: Time = 1000 * MILLIS;
