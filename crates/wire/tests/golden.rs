//! The examples of docs/peer-protocol.md are what the software sends, byte for byte, one of every kind.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use common::{LIFE, SEGMENT, SEGMENTS, announced, drain, greeted, local, messages};
use dyad_contract::volume::Edition;
use dyad_mirror::{Beat, BeatAnswer};
use dyad_payload::Slab;
use dyad_units::Epoch;
use dyad_wire::{Bye, ByeReason, ConnectionKind, Kind, RefusalReason, Sender};

const PAGE: &str = include_str!("../../../docs/peer-protocol.md");

/// Header and control part of the first frame of each kind.
fn examples() -> BTreeMap<Kind, Vec<u8>> {
    let slab = Slab::new(256 << 20);
    let mut found = BTreeMap::new();
    let mut add = |frame: Vec<u8>| {
        let control = u32::from_le_bytes(frame[12..16].try_into().unwrap()) as usize;
        found.entry(Kind::from_code(frame[5]).unwrap()).or_insert_with(|| frame[..48 + control].to_vec());
    };
    let (here, there) = (local(1), local(2));
    let hello = here.hello(there.node, SEGMENTS);
    let mut sender = Sender::new();
    sender.hello(&hello);
    add(drain(&mut sender));
    let mut sender = Sender::new();
    sender.welcome(&there.answer(&hello, None).unwrap());
    add(drain(&mut sender));
    let mut sender = Sender::new();
    sender.refuse(&there.refuse(RefusalReason::Stopping, "this node stops".to_owned()));
    add(drain(&mut sender));
    let (mut sender, _) = greeted(ConnectionKind::Beats, &slab);
    let listed = vec![(SEGMENT, Epoch::new(5))];
    sender.beat(&Beat { number: 9, incarnation: LIFE, owned: listed.clone() }).unwrap();
    add(drain(&mut sender));
    sender.beat_answer(&BeatAnswer { number: 9, incarnation: LIFE, granted: listed }).unwrap();
    add(drain(&mut sender));
    sender.bye(&Bye { reason: ByeReason::Stopping, text: "this node stops".to_owned() });
    add(drain(&mut sender));
    let (mut sender, _) = greeted(SEGMENTS, &slab);
    sender.question(7, b"how are you?").unwrap();
    add(drain(&mut sender));
    sender.answer(7, b"well").unwrap();
    add(drain(&mut sender));
    let number = sender.announce(SEGMENT).unwrap();
    add(drain(&mut sender));
    sender.withdraw(number).unwrap();
    add(drain(&mut sender));
    let (mut sender, _, number) = announced(&slab);
    let edition = Edition { epoch: Epoch::new(5), changes: 3 };
    for message in messages(&slab) {
        sender.send_checked(number, &message, Some(edition)).unwrap();
        add(drain(&mut sender));
    }
    sender.stale(number, 6, edition).unwrap();
    add(drain(&mut sender));
    sender.state_changed(number, edition).unwrap();
    add(drain(&mut sender));
    found
}

#[test]
fn the_page_shows_what_is_sent() {
    let mut section = String::new();
    for (kind, bytes) in examples() {
        writeln!(section, "{kind:?}").unwrap();
        for line in bytes.chunks(32) {
            let hex: Vec<String> =
                line.chunks(4).map(|word| word.iter().map(|b| format!("{b:02x}")).collect()).collect();
            writeln!(section, "  {}", hex.join(" ")).unwrap();
        }
    }
    let (_, shown) = PAGE.split_once("```hex\n").expect("examples");
    let (shown, _) = shown.split_once("```").expect("an end of the examples");
    assert!(shown == section, "docs/peer-protocol.md shows other bytes than these:\n{section}");
}

#[test]
fn every_kind_but_a_continuation_has_an_example_and_every_kind_a_row() {
    let examples = examples();
    for kind in Kind::ALL {
        assert!(*kind == Kind::More || examples.contains_key(kind), "{kind:?} has no example");
        assert!(PAGE.contains(&format!("| {:02x} | {kind:?} |", kind.code())), "{kind:?} has no row");
    }
}
