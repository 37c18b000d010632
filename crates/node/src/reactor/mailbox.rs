//! How other threads reach the reactor: a bounded queue and a descriptor that wakes it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::message::Message;

/// Questions that may wait for the reactor, which takes all messages within one turn, before one is refused. Messages of the node
/// itself are never refused, and count for nothing here: there are a few per volume or pool at a time.
pub(crate) const QUESTIONS_MAX: usize = 64;

/// The queue.
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Queue {
    /// Each with whether it is a question.
    messages: VecDeque<(Message, bool)>,
    questions: usize,
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
            queue.messages.push_back((message, false));
            drop(queue);
            self.ring();
        }
    }

    /// Hands a question over, unless too many wait already; then tells how many.
    pub(crate) fn ask(&self, message: Message) -> Result<(), usize> {
        let mut queue = self.queue();
        if queue.questions >= QUESTIONS_MAX {
            return Err(queue.questions);
        }
        if !queue.is_closed {
            queue.questions += 1;
            queue.messages.push_back((message, true));
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
        let (message, is_question) = queue.messages.pop_front()?;
        queue.questions -= usize::from(is_question);
        Some(message)
    }

    /// The reactor has ended: messages that wait, and all to come, are dropped, and so are their replies.
    pub(crate) fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        queue.questions = 0;
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

#[cfg(test)]
mod tests {
    use super::{Mailbox, Message, QUESTIONS_MAX};

    /// What broke: while a node took a hundred volumes over, the config store's answers for them counted as questions, and it
    /// told administrators, and the other nodes, that too many asked already.
    #[test]
    fn messages_of_the_node_itself_keep_no_question_out() {
        let mailbox = Mailbox::new().unwrap();
        for _ in 0..2 * QUESTIONS_MAX {
            mailbox.post(Message::Open);
        }
        for _ in 0..QUESTIONS_MAX {
            assert_eq!(mailbox.ask(Message::Open), Ok(()));
        }
        assert_eq!(mailbox.ask(Message::Open), Err(QUESTIONS_MAX));
        while mailbox.take().is_some() {}
        assert_eq!(mailbox.ask(Message::Open), Ok(()));
        mailbox.close();
        assert_eq!(mailbox.ask(Message::Open), Ok(()), "its answer never comes, which says so");
    }
}
