//! How news reach whom they are for: nodes, pools, the config store.

use dyad_cluster::Outcome;
use dyad_mirror::PartEvent;

use super::{HOP, News, STORE_WAY, StoreMood, World, image_id, node_id};

impl World {
    pub(super) fn deliver(&mut self, news: News) {
        let to = match &news {
            News::Told { outcome: Some(_), .. } if self.holds_outcomes => return self.holding.push(news),
            News::Message { from, to, .. } => {
                if self.held.contains(&(*from, *to)) {
                    return self.holding.push(news);
                }
                *to
            }
            News::Beat { to, .. } | News::Answer { to, .. } => *to,
            News::PoolReady { node, .. } | News::SessionsClosed { node, .. } | News::Told { node, .. } => *node,
            News::Outcome { .. } | News::Read { .. } => return self.ask_store(news),
        };
        if self.nodes[to].is_paused {
            return self.nodes[to].paused.push(news);
        }
        self.receive(to, news);
    }

    fn receive(&mut self, at: usize, news: News) {
        let now = self.now;
        if self.nodes[at].part.is_none() {
            return;
        }
        let is_of_now = |known: u64, life: u64| known == life;
        match news {
            News::Message { from, to, connection, message }
                if self.connections.get(&Self::pair(from, to)) == Some(&connection) =>
            {
                self.event(at, PartEvent::Peer { from: node_id(from), message });
            }
            News::Beat { from, to, beat } => {
                let answer = self.nodes[at].leases.on_beat(now, node_id(from), &beat);
                if !self.deaf.contains(&(to, from)) {
                    self.post(HOP, News::Answer { from: to, to: from, answer });
                }
            }
            News::Answer { from, answer, .. } => self.nodes[at].leases.on_answer(now, node_id(from), &answer),
            News::PoolReady { life, .. } if is_of_now(self.nodes[at].life, life) => self.pool_works(at),
            News::SessionsClosed { life, .. } if is_of_now(self.nodes[at].life, life) => {
                self.event(at, PartEvent::SessionsClosed);
            }
            News::Told { life, outcome, seen, .. } if is_of_now(self.nodes[at].life, life) => {
                if let Some(outcome) = outcome {
                    self.event(at, PartEvent::Outcome(outcome));
                }
                match seen {
                    Some(Some(record)) => self.event(at, PartEvent::Seen(Some(record))),
                    Some(None) => self.event(at, PartEvent::Unseen),
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn pool_works(&mut self, at: usize) {
        if self.nodes[at].is_stuck {
            return;
        }
        loop {
            let image = self.nodes[at].image.as_mut().expect("it has one");
            if image.pending.is_empty() {
                return;
            }
            image.execute(0);
            let done = image.pending.pop_front().unwrap();
            let event = PartEvent::Pool { image: image_id(at), token: done.token, reply: done.reply.unwrap() };
            self.event(at, event);
        }
    }

    /// The node's watch tells what the store holds.
    pub fn watch(&mut self, at: usize) {
        let record = Box::new(self.store.clone());
        self.event(at, PartEvent::Seen(Some(record)));
    }

    /// The pool is no longer stuck.
    pub fn unstick(&mut self, at: usize) {
        self.nodes[at].is_stuck = false;
        self.pool_works(at);
    }

    fn ask_store(&mut self, news: News) {
        let told = match news {
            News::Outcome { node, life, record, expected } => {
                let outcome = match self.mood {
                    StoreMood::Away => Outcome::Unknown,
                    _ if self.store == *record => Outcome::Accepted,
                    _ if self.store.epoch != expected => {
                        Outcome::Rejected { current: Some(Box::new(self.store.clone())) }
                    }
                    StoreMood::Works => {
                        self.store = *record;
                        Outcome::Accepted
                    }
                    StoreMood::Forgets => {
                        self.store = *record;
                        Outcome::Unknown
                    }
                };
                News::Told { node, life, outcome: Some(outcome), seen: None }
            }
            News::Read { node, life } => {
                let record = (self.mood != StoreMood::Away).then(|| Box::new(self.store.clone()));
                News::Told { node, life, outcome: None, seen: Some(record) }
            }
            _ => return,
        };
        self.post(STORE_WAY, told);
    }
}
