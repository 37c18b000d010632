//! Hosts' sessions are shown and closed at any node.
//!
//! What broke: a number names a session at its node, and was looked for at the node that was asked: there it named none, or
//! another host's.

mod cast;

use cast::Stage;
use cast::pair::{Pair, host, in_sync, wait_until};
use dyad_bench::disk::DiskError;
use dyad_node::control::{CloseSessionError, QueryError, SessionInfo};

/// The session of this host, as a node tells it.
fn session_of(asked: &Stage, number: u32) -> SessionInfo {
    let name = format!("iqn.2026-11.example:host{number}");
    let sessions = asked.handle().sessions().unwrap();
    sessions.into_iter().find(|session| session.initiator == name).expect("it is listed")
}

#[test]
fn a_session_at_another_node_is_closed_and_none_beside_it() {
    let mut pair = Pair::new();
    wait_until("both in sync", || in_sync(&pair.one) == 2 && in_sync(&pair.other) == 2);
    let (mut here, mut there, mut beside) = (host(&pair.one, 1), host(&pair.other, 2), host(&pair.other, 3));
    let seen = [1, 2, 3].map(|number| session_of(&pair.one, number));
    assert_eq!(seen.each_ref().map(|session| session.node_name.as_str()), ["one", "other", "other"]);

    let handle = pair.one.handle();
    handle.close_session("other", seen[1].id).unwrap();
    wait_until("it is closed", || matches!(there.read(0, 1), Err(DiskError::Session(_))));
    for disk in [&mut here, &mut beside] {
        // News of paths may come first.
        wait_until("it goes on", || match disk.read(0, 1) {
            Ok(_) => true,
            Err(DiskError::Status { .. }) => false,
            Err(error) => panic!("{error}"),
        });
    }
    let unknown = |kind, name: String| CloseSessionError::Node(QueryError::Unknown { kind, name });
    let id = seen[1].id;
    assert_eq!(handle.close_session("other", id), Err(unknown("session", format!("other:{id}"))));
    assert_eq!(handle.close_session("one", u64::MAX), Err(unknown("session", format!("one:{}", u64::MAX))));
    assert_eq!(handle.close_session("third", id), Err(unknown("node", "third".into())));

    pair.other.stop();
    let away = pair.one.handle().close_session("other", seen[2].id).unwrap_err();
    assert!(matches!(&away, CloseSessionError::NotDone { node, .. } if node == "other"), "{away}");
}
