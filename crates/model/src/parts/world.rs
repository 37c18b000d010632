//! All nodes, the store, and what is under way between them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};

use dyad_cluster::{NewSegment, SegmentRecord};
use dyad_mirror::PeerMessage;
use dyad_payload::{Payload, Slab};
use dyad_units::{BLOCK_BYTES, Bytes, Epoch, LayerId, Moment, Period, PoolId, SegmentId, VolumeId};

use crate::digest::{Digest, Rules, Shape, Shared, Treat};
use crate::leases::Known;
use crate::parts::history::History;
use crate::parts::node::{Node, image_id, node_id};

/// Memory for data; the same bytes of a block are the same memory everywhere.
pub(crate) struct Buffers {
    pub(crate) slab: Slab,
    blocks: Vec<Payload>,
}

/// Bound of data in all states that are kept at once.
const BYTES_MAX: usize = 4 << 30;

impl Buffers {
    pub(crate) fn all() -> &'static Self {
        static BUFFERS: OnceLock<Buffers> = OnceLock::new();
        BUFFERS.get_or_init(|| {
            let slab = Slab::new(BYTES_MAX);
            let block = |value: u8| slab.copy_of(&[value; BLOCK_BYTES as usize]).expect("far below the bound");
            let blocks = (0..=u8::MAX).map(|value| Payload::from(block(value))).collect();
            Self { slab, blocks }
        })
    }

    /// A block of this byte.
    pub(crate) fn block(&self, value: u8) -> Payload {
        self.blocks[usize::from(value)].clone()
    }
}

/// Messages from one node to another, oldest first.
pub(crate) type Link = Shared<VecDeque<Arc<PeerMessage>>>;

/// What has happened of that which happens only so often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) ops: u8,
    pub(crate) hand_overs: u8,
    pub(crate) faults: u8,
    pub(crate) cuts: u8,
    pub(crate) unknown: u8,
    pub(crate) late: u8,
    pub(crate) delays: u8,
}

/// The whole.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Shared<Node>>,
    /// By sender, then by receiver.
    pub(crate) links: Vec<Vec<Link>>,
    /// Pairs of nodes, the lower first, between which there is no connection although both run.
    pub(crate) cut: Vec<(u8, u8)>,
    pub(crate) store: Known,
    /// A compare-and-set that its sender gave up, still on its way (M7).
    pub(crate) late: Option<(Known, Epoch)>,
    pub(crate) history: History,
    pub(crate) spent: Spent,
    /// What was ever seen to happen, one bit each; no part of what makes two states the same.
    pub(crate) reached: u32,
    pub(crate) now: Moment,
}

/// Clocks begin far from zero, so that nothing is before their start.
const BEGIN: Moment = Moment::from_nanos(1 << 50);

impl World {
    pub(crate) fn new(count: usize) -> Self {
        let images = (0..count).map(|at| (image_id(at), node_id(at), PoolId::from_bytes([0x20 + at as u8; 16])));
        let store = Known::new(SegmentRecord::new(NewSegment {
            id: SegmentId::from_bytes([0x77; 16]),
            volume: VolumeId::from_bytes([0x66; 16]),
            layer: LayerId::from_bytes([0x67; 16]),
            size: Bytes::kib(256),
            images: images.collect(),
        }));
        let links = || (0..count).map(|_| Shared::new(VecDeque::new())).collect();
        Self {
            nodes: (0..count).map(|at| Shared::new(Node::new(at))).collect(),
            links: (0..count).map(|_| links()).collect(),
            cut: Vec::new(),
            store,
            late: None,
            history: History::default(),
            spent: Spent::default(),
            reached: 0,
            now: BEGIN,
        }
    }

    /// Whether two nodes have a connection.
    pub(crate) fn are_connected(&self, a: usize, b: usize) -> bool {
        let pair = (a.min(b) as u8, a.max(b) as u8);
        a != b && [a, b].iter().all(|&at| self.nodes[at].life.is_some()) && !self.cut.contains(&pair)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        let proposes = |node: &Shared<Node>| node.life.as_ref().is_some_and(|life| life.proposal.is_some());
        self.links.iter().flatten().all(|link| link.is_empty()) && !self.nodes.iter().any(proposes)
    }

    pub(crate) fn digest(&self) -> u128 {
        let mut digest = Digest::new(FORGET);
        for node in &self.nodes {
            digest.add(node.shape(rules), self.now);
        }
        for link in self.links.iter().flatten() {
            digest.add(link.shape(rules), self.now);
        }
        let between = (&self.cut, &self.store, &self.late, &self.history, self.spent);
        digest.add(&Shape::of(&between, &rules()), self.now);
        digest.finish()
    }

    pub(crate) fn show(&self) -> String {
        let mut text = format!("store {:?}", self.store);
        for node in &self.nodes {
            let image = &node.image;
            text += &format!(" | {}: {:?}@{}", node.at, image.blocks, image.epoch);
            let Some(life) = &node.life else {
                text += " down";
                continue;
            };
            let status = life.part.status();
            text += &format!(" {:?} knows {:?}", status.role, Known::new(life.part.record().clone()));
            if let Some((record, _)) = &life.proposal {
                text += &format!(" proposes {record:?}");
            }
            for (to, link) in self.links[node.at].iter().enumerate() {
                let names = link.iter().map(|message| name_of(message)).collect::<Vec<_>>();
                if !names.is_empty() {
                    text += &format!(" →{to}: {}", names.join(" "));
                }
            }
        }
        text + " | " + &self.history.show()
    }
}

/// The first word of a message, and of what it asks or says.
pub(crate) fn name_of(message: &PeerMessage) -> String {
    let word = |shown: &dyn fmt::Debug| {
        let text = format!("{shown:?}");
        text.split(|byte: char| !byte.is_alphanumeric()).next().unwrap_or_default().to_owned()
    };
    match message {
        PeerMessage::Ask { request, .. } => word(request),
        PeerMessage::Told { reply, .. } => format!("Told-{}", word(reply)),
        other => word(other),
    }
}

/// Nobody looks back farther than this: a lease, and the longest wait of a part.
const FORGET: Period = Period::from_millis(700);

/// Names whose order matters, by class.
const TOKEN: u8 = 1;
const LINK: u8 = 2;
const ROUND: u8 = 3;
const TURN: u8 = 4;
const PAUSES: u8 = 5;
const EVERYONE: u8 = 6;
const HISTORY: u8 = 7;
const TAG: u8 = 8;
const ORDER: u8 = 9;

/// How states are looked at; see [`crate::digest`].
fn rules() -> Rules {
    let mut named = vec![
        ("everyone", Treat::Own(EVERYONE)),
        ("void", Treat::Own(EVERYONE)),
        ("sent", Treat::Sent),
        ("Moment", Treat::Since(FORGET)),
        ("Token", Treat::Name(TOKEN)),
        ("own_token", Treat::Name(TOKEN)),
        ("link", Treat::Name(LINK)),
        ("claims", Treat::Own(ROUND)),
        ("turn", Treat::Own(TURN)),
        ("pauses", Treat::Own(PAUSES)),
        ("pauses_seen", Treat::Own(PAUSES)),
        ("asked_turn", Treat::Name(HISTORY)),
        ("answered_turn", Treat::Name(HISTORY)),
        ("tag", Treat::Own(TAG)),
        ("order", Treat::Own(ORDER)),
        // Of a forwarded command, the newest one heard of (M19), and the newest of all.
        ("beat", Treat::Beat),
        ("number", Treat::Beat),
    ];
    // A beat is due at every step. Counters are for people; the time and the setup are the same for all.
    let left_out = ["now", "next_beat", "beaten", "heard", "counters", "setup", "slab", "tuning"];
    named.extend(left_out.map(|name| (name, Treat::Skip)));
    Rules { named }
}
