//! Orders to parts: an administrator's command goes to the node whose part has to carry it out, and its answer comes back.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use dyad_mirror::{CommandError, LossReport};
use dyad_units::{ImageId, NodeId, VolumeId};

use crate::config_store::Health;
use crate::control::LossInfo;
use crate::reactor::{Mailbox, Message, NotForgotten};
use crate::talk::{AnswerOf, Ask, ORDER_MAX, Order, Refused, Told, answer_channel, encode, refusal};

/// How long an owner is looked for: a failover takes a second.
const OWNER_MAX: Duration = Duration::from_secs(5);
const OWNER_PAUSE: Duration = Duration::from_millis(50);

/// Gives orders for this node.
#[derive(Clone)]
pub(crate) struct Orders {
    mailbox: Arc<Mailbox>,
    health: Arc<Health>,
    me: NodeId,
    /// How long one order may take.
    patience: Duration,
}

impl Orders {
    pub(crate) fn new(mailbox: Arc<Mailbox>, health: Arc<Health>, me: NodeId) -> Self {
        Self { mailbox, health, me, patience: ORDER_MAX }
    }

    /// For whoever has other things to do and comes again.
    pub(crate) fn hasty(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks a node something; where the answer comes. Nothing comes if it is not connected.
    pub(crate) fn ask(&self, node: NodeId, ask: &Ask) -> Option<AnswerOf> {
        let (reply, answer) = answer_channel();
        self.mailbox.ask(Message::AskNode { node, body: encode(ask), reply }).ok()?;
        Some(answer)
    }

    /// An order for the owner of a volume, which `owner` was when it was last seen; follows it where it is another one.
    pub(crate) fn to_owner(&self, owner: Option<NodeId>, volume: VolumeId, order: Order) -> Told {
        let deadline = Instant::now() + OWNER_MAX.min(self.patience);
        let mut owner = owner;
        loop {
            let told = match owner {
                Some(owner) => self.to(owner, volume, order),
                None => refusal("no node owns the volume now"),
            };
            match &told {
                Told::Refused(refused) if refused.owner.is_some() || refused.is_passing => {
                    if Instant::now() >= deadline {
                        return told;
                    }
                    owner = refused.owner.or(owner);
                    std::thread::sleep(OWNER_PAUSE);
                }
                _ => return told,
            }
        }
    }

    /// An order for a node's part in a volume.
    pub(crate) fn to(&self, node: NodeId, volume: VolumeId, order: Order) -> Told {
        if node == self.me {
            return self.here(volume, order);
        }
        self.tell(node, &Ask::Order { volume, order })
    }

    /// Lets another node export an image of its own, or end that.
    pub(crate) fn export(&self, node: NodeId, volume: VolumeId, image: ImageId, is_wanted: bool) -> Told {
        self.tell(node, &Ask::Export { volume, image, is_wanted })
    }

    /// Lets another node close a session of a host.
    pub(crate) fn close_session(&self, node: NodeId, id: u64) -> Told {
        self.tell(node, &Ask::CloseSession { id })
    }

    fn tell(&self, node: NodeId, ask: &Ask) -> Told {
        let Some(answer) = self.ask(node, ask) else {
            return refusal("the node has too many requests waiting");
        };
        match answer.wait(self.patience) {
            Ok(body) => serde_json::from_slice(&body).unwrap_or(Told::Unknown),
            Err(_) => refusal("the node that has to do it is not connected or does not answer"),
        }
    }

    /// An order for this node's part in a volume. A change of the record that began cannot be taken back (M7): while the store is
    /// away it would be answered after half a minute, and done all the same when the store is back, which may be a day later.
    pub(crate) fn here(&self, volume: VolumeId, order: Order) -> Told {
        if order.changes_record()
            && let Some(away) = self.health.away()
        {
            return refusal(&format!("{away}; nothing was changed"));
        }
        let command = match (order.command(), order) {
            (Some(command), _) => command,
            (None, Order::ForgetReservations { is_forced }) => return self.forget_here(volume, is_forced),
            (None, _) => return Told::Unknown,
        };
        let (reply, answer) = sync_channel(1);
        if self.mailbox.ask(Message::Command { volume, command, reply }).is_err() {
            return refusal("the node has too many requests waiting");
        }
        match answer.recv_timeout(self.patience) {
            Ok(Ok(None)) => Told::Done,
            Ok(Ok(Some(report))) => Told::Loss(Box::new(match *report {
                LossReport::Forecast(forecast) => LossInfo::from(*forecast),
                LossReport::List(list) => LossInfo::from(*list),
            })),
            Ok(Err(CommandError::TooLate)) if order.changes_record() && !matches!(order, Order::HandOver { .. }) => {
                let why = "it was not done in time; it may still be, as soon as the config store answers".into();
                Told::Refused(Refused { why, owner: None, is_passing: false, advice: None })
            }
            Ok(Err(error)) => Told::Refused(refused(&error)),
            Err(_) => refusal("the volume is not in service at the node that has to do it"),
        }
    }

    /// The unit of this node writes another state, if this node is the owner.
    fn forget_here(&self, volume: VolumeId, is_forced: bool) -> Told {
        let (reply, answer) = sync_channel(1);
        if self.mailbox.ask(Message::ForgetReservations { volume, is_forced, reply }).is_err() {
            return refusal("the node has too many requests waiting");
        }
        match answer.recv_timeout(self.patience) {
            Ok(Ok(())) => Told::Done,
            Ok(Err(error)) => Told::Refused(not_forgotten(error)),
            Err(RecvTimeoutError::Timeout) => {
                let why = "it was not done in time; it may still be, as soon as the volume's images answer".into();
                Told::Refused(Refused { why, owner: None, is_passing: false, advice: None })
            }
            Err(RecvTimeoutError::Disconnected) => {
                refusal("the volume went out of service at the node that has to do it")
            }
        }
    }
}

fn not_forgotten(error: NotForgotten) -> Refused {
    let mut advice = None;
    let (why, owner, is_passing) = match error {
        NotForgotten::NotOwner(None) => ("no node owns the volume now".into(), None, true),
        NotForgotten::NotOwner(owner) => ("another node owns the volume".into(), owner, true),
        NotForgotten::NotServing(None) => ("the volume is not in service at its owner".into(), None, true),
        NotForgotten::NotServing(Some(why)) => (format!("the volume is not in service: {why}"), None, false),
        NotForgotten::Underway => ("its reservations are being forgotten already".into(), None, true),
        NotForgotten::Known(held) => {
            advice = Some("let those hosts give them up; --force (`force`) forgets them all the same".into());
            (format!("the volume's reservations can be read: {held}"), None, false)
        }
        NotForgotten::Newer => {
            advice = Some("update the volume's owner; --force (`force`) forgets them all the same".into());
            ("a later version of Dyad wrote the volume's reservations".into(), None, false)
        }
        NotForgotten::Busy => ("the volume's owner or its reservations changed meanwhile".into(), None, true),
        NotForgotten::NotWritten => ("no image in sync took the new state; nothing was forgotten".into(), None, false),
    };
    Refused { why, owner, is_passing, advice }
}

fn refused(error: &CommandError) -> Refused {
    let (owner, is_passing) = match error {
        CommandError::NotOwner { owner } | CommandError::Overtaken { owner } => (*owner, true),
        CommandError::NotServing | CommandError::Underway => (None, true),
        _ => (None, false),
    };
    let why = match error {
        CommandError::Illegal(why) => why.to_string(),
        error => error.to_string(),
    };
    Refused { why, owner, is_passing, advice: None }
}
