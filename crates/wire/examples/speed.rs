//! What the peer protocol costs a 4 KiB write: made by one side, taken by the other, and the answer back.
//!
//! `cargo run --release -p dyad-wire --example speed`

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{announced, drain, receive, write};
use dyad_contract::image::{Reply, Request, Token, Written};
use dyad_mirror::PeerMessage;
use dyad_payload::Slab;
use dyad_units::ImageId;

const ROUNDS: u32 = 10_000;
const DEPTH: u32 = 32;

fn main() {
    let slab = Slab::new(64 << 20);
    let (mut owner, mut image, to_image) = announced(&slab);
    let (mut answers, mut answered, to_owner) = announced(&slab);
    let (id, link, token) = (ImageId::from_bytes([1; 16]), 1, Token(9));
    let ask = PeerMessage::Ask { image: id, link, token, request: Request::Write(write(&slab, 1)) };
    let told = PeerMessage::Told { image: id, link, token, reply: Reply::Written(Written { used_slot: false }) };
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for _ in 0..DEPTH {
            owner.send(to_image, &ask).expect("room");
            answers.send(to_owner, &told).expect("room");
        }
        assert_eq!(receive(&mut image, &drain(&mut owner), usize::MAX).0.len(), DEPTH as usize);
        assert_eq!(receive(&mut answered, &drain(&mut answers), usize::MAX).0.len(), DEPTH as usize);
    }
    let writes = ROUNDS * DEPTH;
    let each = start.elapsed().as_nanos() / u128::from(writes);
    println!("{each} ns for a write of 4 KiB and its answer, with copies that stand for the socket");
}
