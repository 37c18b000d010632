//! Handshakes over sockets of this machine, and the record layer on both their ends.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use dyad_cluster::Name;
use dyad_payload::Slab;
use dyad_store::{Authority, Tls};
use dyad_wire::{Receiver, Sender};

use super::{PeerTls, Records, TlsError, accept, check_name, connect};

fn tls(authority: &Authority, name: &str) -> PeerTls {
    let made = authority.issue(name, &[]).unwrap();
    let (certificate, key) = (made.certificate.into_bytes(), made.key.into_bytes());
    PeerTls::new(&Tls { authority: authority.certificate().as_bytes().to_vec(), certificate, key }).unwrap()
}

fn authority() -> Authority {
    Authority::create().unwrap().0
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dialed = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (dialed, listener.accept().unwrap().0)
}

type Met = (Result<Records, TlsError>, Result<Records, TlsError>);

/// Both sides meet; the dialing one looks for the node `to`, the accepting one takes only `from`.
fn meet(dials: PeerTls, to: &str, accepts: PeerTls, from: &str) -> Met {
    let (there, here) = sockets();
    let end = Instant::now() + Duration::from_secs(5);
    let from = name(from);
    let accepting = std::thread::spawn(move || {
        let (records, shown) = accept(&accepts, &here, end)?;
        check_name(&shown, &from).map(|()| records)
    });
    let dialed = connect(&dials, &there, &name(to), end).map(|(records, _)| records);
    drop(there);
    (dialed, accepting.join().unwrap())
}

/// A pair of record layers that trust each other.
fn pair() -> (Records, Records) {
    let authority = authority();
    let (one, other) = meet(tls(&authority, "one"), "two", tls(&authority, "two"), "one");
    (one.unwrap(), other.unwrap())
}

#[test]
fn nodes_of_one_authority_meet_by_their_names() {
    let authority = authority();
    let (dialed, accepted) = meet(tls(&authority, "one"), "two", tls(&authority, "two"), "one");
    assert!(dialed.is_ok() && accepted.is_ok());
}

#[test]
fn another_authority_is_refused_by_whoever_looks_first() {
    let (dialed, accepted) = meet(tls(&authority(), "one"), "two", tls(&authority(), "two"), "one");
    let error = dialed.err().unwrap().to_string();
    assert_eq!(error, "its certificate is not of this cluster's authority");
    let error = accepted.err().unwrap().to_string();
    assert!(error.contains("does not know the authority of this node's certificate"), "{error}");
}

#[test]
fn a_certificate_of_another_name_is_refused_on_either_side() {
    let authority = authority();
    let (dialed, _) = meet(tls(&authority, "one"), "two", tls(&authority, "three"), "one");
    let error = dialed.err().unwrap().to_string();
    assert!(error.starts_with("its certificate is of another node"), "{error}");
    let (_, accepted) = meet(tls(&authority, "three"), "two", tls(&authority, "two"), "one");
    let error = accepted.err().unwrap().to_string();
    assert!(error.starts_with("its certificate is of another name than `one`"), "{error}");
}

fn carry(from: &mut Records, to: &mut Records, most: usize) -> usize {
    let part = from.output().len().min(to.room().len()).min(most);
    let bytes = from.output()[..part].to_vec();
    to.room()[..part].copy_from_slice(&bytes);
    to.received(part);
    from.transmitted(part);
    part
}

fn bye(text: &str) -> dyad_wire::Refusal {
    let versions = dyad_wire::VERSIONS;
    dyad_wire::Refusal { reason: dyad_wire::RefusalReason::Stopping, versions, text: text.into() }
}

/// One frame, over the records, in pieces of at most `most` bytes; what the other side makes of it.
fn say(from: &mut Records, to: &mut Records, most: usize) -> Result<String, TlsError> {
    let (mut sender, mut receiver) = (Sender::new(), Receiver::new(Slab::new(1 << 20)));
    sender.refuse(&bye("a sentence"));
    from.seal(&mut sender)?;
    loop {
        match receiver.poll().unwrap() {
            dyad_wire::Polled::Incoming(dyad_wire::Incoming::Refusal(refusal)) => return Ok(refusal.text),
            dyad_wire::Polled::NeedsBytes => {
                if !to.open(&mut receiver)? {
                    assert!(carry(from, to, most) > 0, "nothing is left to carry");
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn frames_come_through_whole_however_they_are_cut() {
    let (mut one, mut other) = pair();
    for most in [1, 4, 5, 6, 100, usize::MAX] {
        assert_eq!(say(&mut one, &mut other, most).unwrap(), "a sentence");
        assert_eq!(say(&mut other, &mut one, most).unwrap(), "a sentence");
    }
}

/// AES-GCM is safe for so many records only: keys are renewed in the stream, each direction for itself.
#[test]
fn keys_are_renewed_on_the_way() {
    let (mut one, mut other) = pair();
    one.renew_after(3);
    let before = one.output().len();
    assert_eq!(before, 0);
    for _ in 0..20 {
        assert_eq!(say(&mut one, &mut other, 7).unwrap(), "a sentence");
        assert_eq!(say(&mut other, &mut one, usize::MAX).unwrap(), "a sentence");
    }
    assert!(one.records_of_this_key() <= 3);
}

#[test]
fn what_was_changed_repeated_or_left_out_is_refused() {
    // A flipped bit.
    let (mut one, mut other) = pair();
    let mut sender = Sender::new();
    sender.refuse(&bye("x"));
    one.seal(&mut sender).unwrap();
    let sealed = one.output().to_vec();
    let mut open = |bytes: &[u8]| {
        let mut receiver = Receiver::new(Slab::new(1 << 20));
        other.room()[..bytes.len()].copy_from_slice(bytes);
        other.received(bytes.len());
        other.open(&mut receiver)
    };
    assert!(open(&sealed).unwrap());
    // The same record again.
    assert!(matches!(open(&sealed), Err(TlsError::Damaged)));
    for at in [0, 3, 4, 5, 20, sealed.len() - 1] {
        let (mut one, mut other) = pair();
        let mut sender = Sender::new();
        sender.refuse(&bye("x"));
        one.seal(&mut sender).unwrap();
        let mut bytes = one.output().to_vec();
        bytes[at] ^= 1;
        let mut receiver = Receiver::new(Slab::new(1 << 20));
        other.room()[..bytes.len()].copy_from_slice(&bytes);
        other.received(bytes.len());
        // A longer length waits for bytes that never come; everything else is seen at once.
        assert!(matches!(other.open(&mut receiver), Err(TlsError::Damaged) | Ok(false)), "bit at {at}");
    }
}

#[test]
fn a_node_without_tls_is_told_apart() {
    use std::io::Write as _;
    let authority = authority();
    let (mut there, here) = sockets();
    let accepts = tls(&authority, "two");
    there.write_all(b"DyPr of a node that does not encrypt").unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    assert!(matches!(accept(&accepts, &here, end), Err(TlsError::Plain)));
}

#[test]
fn a_silent_stranger_is_given_up() {
    let (_there, here) = sockets();
    let end = Instant::now() + Duration::from_millis(50);
    assert!(matches!(accept(&tls(&authority(), "two"), &here, end), Err(TlsError::Socket(_))));
}
