//! A reactor that is held up while the rest of the process goes on.
//!
//! What broke: only a pause of the whole process was noticed, by the thread that beats. A reactor that a system call held up
//! for longer than a lease went on with what lay in its sockets: a write that its host had given up, and had followed by
//! another one through another node, was executed over that one (M19).

use std::sync::mpsc::sync_channel;

use dyad_bench::initiator::{Transfer, cdb};

use super::message::{Message, Part};
use super::tests::cast::pair::{OTHER_OWNER, Pair, host, patiently, wait_until};

const BLOCK: u32 = 8;

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

#[test]
fn what_lay_in_the_sockets_of_a_reactor_that_was_held_up_is_not_executed() {
    let pair = Pair::new();
    let owner = || pair.one.handle().volume("v").unwrap().owner_name;
    wait_until("an owner", || owner().is_some());
    let (owner, front) =
        if owner().as_deref() == Some("one") { (&pair.one, &pair.other) } else { (&pair.other, &pair.one) };
    let (mut giver, mut other) = (host(front, 1), host(owner, 2));
    for disk in [&mut giver, &mut other] {
        patiently(|| disk.read(0, BLOCK), |sense| sense == OTHER_OWNER).unwrap();
    }

    let (go, until) = sync_channel(0);
    front.handle().mailbox.post(Message::Break(Part::Reactor(until)));
    giver.session().submit(7, cdb::write(0, BLOCK), Transfer::Out(block(1))).unwrap();
    giver.session().stream().flush().unwrap();
    // Answered when the image that does not answer is out, which takes longer than a lease.
    patiently(|| other.write(0, block(2)), |sense| sense == OTHER_OWNER).unwrap();
    drop(go);

    let ended = giver.session().wait();
    let found = patiently(|| other.read(0, BLOCK), |sense| sense == OTHER_OWNER).unwrap();
    assert!(found == block(2), "{:02x?}", &found[..4]);
    assert!(ended.is_err(), "the session goes on: {ended:?}");
    assert_eq!(front.handle().node().unwrap().faults, 0);
}
