//! News of the config store: what other nodes changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use dyad_cluster::{Changed, Key, Record};

use super::Request;
use crate::reactor::{Mailbox, Message};

/// Hears of changes, on the store's thread, and passes them on.
pub(crate) struct News {
    requests: SyncSender<Request>,
    /// A rescan was asked for and has not begun.
    is_pending: AtomicBool,
    /// Nobody else changes anything.
    is_alone: bool,
}

impl News {
    pub(crate) fn new(requests: SyncSender<Request>, is_alone: bool) -> Self {
        Self { requests, is_pending: AtomicBool::new(false), is_alone }
    }

    /// Must return at once.
    pub(crate) fn hear(&self, changed: &Changed, mailbox: &Mailbox) {
        if self.is_alone {
            return;
        }
        if let Key::Segment(id) = changed.key {
            let record = changed.now.as_ref().and_then(|now| match &now.record {
                Record::Segment(record) => Some(Box::new(record.clone())),
                _ => None,
            });
            if record.is_some() == changed.now.is_some() {
                mailbox.post(Message::Watched(id, record));
            }
        }
        // If the thread is busy, it looks by itself every few seconds.
        self.want_look();
    }

    /// This node's own next step follows from what it did.
    pub(super) fn want_look(&self) {
        if !self.is_pending.swap(true, Ordering::AcqRel) && self.requests.try_send(Request::Rescan).is_err() {
            self.is_pending.store(false, Ordering::Release);
        }
    }

    /// A rescan begins: changes from here on want another one.
    pub(super) fn taken(&self) {
        self.is_pending.store(false, Ordering::Release);
    }

    /// Whether there are no other nodes.
    pub(super) const fn is_alone(&self) -> bool {
        self.is_alone
    }
}
