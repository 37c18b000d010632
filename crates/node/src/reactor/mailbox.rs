//! How other threads reach the reactor: a bounded queue and a descriptor that wakes it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::message::Message;

/// Messages that may wait for the reactor, which takes all of them within one turn, before a question is refused. Messages of
/// the node itself are never refused: there are a few per volume or pool at a time.
pub(crate) const QUESTIONS_MAX: usize = 64;

/// The queue.
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    /// Nobody will look any more: whoever asks learns it from the answer that never comes.
    is_closed: bool,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), wake })
    }

    /// Hands a message over.
    pub(crate) fn post(&self, message: Message) {
        let mut queue = self.queue();
        if !queue.is_closed {
            queue.messages.push_back(message);
            drop(queue);
            self.ring();
        }
    }

    /// Hands a question over, unless too many wait already; then tells how many.
    pub(crate) fn ask(&self, message: Message) -> Result<(), usize> {
        let mut queue = self.queue();
        if queue.messages.len() >= QUESTIONS_MAX {
            return Err(queue.messages.len());
        }
        if !queue.is_closed {
            queue.messages.push_back(message);
            drop(queue);
            self.ring();
        }
        Ok(())
    }

    /// The next message. Resets the wake-up first, so that none is missed.
    pub(crate) fn take(&self) -> Option<Message> {
        let mut queue = self.queue();
        if queue.messages.is_empty() {
            let mut count = [0; 8];
            // Under the lock: whoever posts now rings after this.
            let _ = rustix::io::read(&self.wake, &mut count);
        }
        queue.messages.pop_front()
    }

    /// The reactor has ended: messages that wait, and all to come, are dropped, and so are their replies.
    pub(crate) fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        let waiting = std::mem::take(&mut queue.messages);
        drop(queue);
        drop(waiting);
    }

    /// Whether the reactor has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue().is_closed
    }

    /// Readable while there may be a message.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn ring(&self) {
        // Fails only when 2^64 - 1 wake-ups are pending; then it is readable already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A push or a pop is the only use: the queue stays whole whatever panics elsewhere.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailbox({} waiting)", self.queue().messages.len())
    }
}
