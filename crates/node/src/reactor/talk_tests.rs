//! Every question to another node is answered, or its place is given up.
//!
//! What broke: whoever asks keeps a place for the answer until the connection ends, and has few of them. A node answered nothing
//! when it found no thread for a question, when the answer had a fault, or when it was too long for a message; a thread that
//! asked and lost patience left its place behind. With no place left, this node asked that one nothing more, status and
//! orders included, while the link between them was well.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use dyad_units::NodeId;
use dyad_wire::TALK_BYTES_MAX;

use super::message::{Message, Part};
use super::talk::ASKED_MAX;
use super::tests::cast::pair::{Pair, wait_until};
use crate::talk::{AnswerOf, Ask, Refused, Told};

/// For an answer that comes in milliseconds, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pair, connected, and the other node's name to the first.
fn stage() -> (Pair, NodeId) {
    let pair = Pair::new();
    let mut found = None;
    wait_until("connected", || {
        let status = pair.one.handle().status().unwrap();
        found = status.neighbours.iter().find(|node| node.told.is_some()).map(|node| node.id);
        found.is_some()
    });
    (pair, found.unwrap())
}

fn ask(pair: &Pair, node: NodeId, ask: &Ask) -> AnswerOf {
    let mut asked = None;
    wait_until("room in the mailbox", || {
        asked = pair.one.handle().orders().ask(node, ask);
        asked.is_some()
    });
    asked.unwrap()
}

fn refused(answer: &AnswerOf) -> Refused {
    let body = answer.wait(PATIENCE).unwrap();
    match serde_json::from_slice(&body).unwrap() {
        Told::Refused(refused) => refused,
        told => panic!("{told:?}"),
    }
}

#[test]
fn a_fault_while_a_question_is_answered_is_an_answer() {
    let (pair, other) = stage();
    let refused = refused(&ask(&pair, other, &Ask::Break { bytes: None }));
    assert!(refused.is_passing && refused.why.contains("fault"), "{refused:?}");
}

#[test]
fn an_answer_that_is_too_long_is_refused() {
    let (pair, other) = stage();
    let refused = refused(&ask(&pair, other, &Ask::Break { bytes: Some(TALK_BYTES_MAX) }));
    assert!(refused.is_passing && refused.why.contains("too long"), "{refused:?}");
}

#[test]
fn who_does_not_wait_any_more_has_no_place() {
    let (pair, other) = stage();
    let (go, until) = sync_channel(0);
    pair.other.handle().mailbox.post(Message::Break(Part::Reactor(until)));
    let waiting: Vec<_> = (1..ASKED_MAX).map(|_| ask(&pair, other, &Ask::Status)).collect();
    drop(ask(&pair, other, &Ask::Status));
    // In the place of the one that lost patience, and of nobody else.
    let last = ask(&pair, other, &Ask::Status);
    let one_more = ask(&pair, other, &Ask::Status);
    assert_eq!(one_more.wait(PATIENCE).unwrap_err(), RecvTimeoutError::Disconnected);
    drop(go);
    for answer in waiting.iter().chain([&last]) {
        answer.wait(PATIENCE).unwrap();
    }
}
