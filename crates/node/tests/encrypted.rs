//! Connections between nodes with certificates: the right ones, and every wrong one that a hurried administrator makes.

mod cast;

use cast::Stage;
use cast::pair::{Pair, certified, in_sync, wait_until};
use dyad_store::Authority;

fn authority() -> Authority {
    Authority::create().unwrap().0
}

/// What this node says about why it is not connected to the other.
fn trouble(stage: &Stage) -> String {
    let status = stage.handle().status().unwrap();
    assert!(status.neighbours.iter().all(|node| !node.is_connected), "{status:?}");
    status.neighbours.into_iter().find_map(|node| node.trouble).unwrap_or_default()
}

/// Both nodes know each other, are not connected, and say why: one of these sentences.
fn is_refused(pair: &Pair, sentences: &[&str]) {
    for stage in [&pair.one, &pair.other] {
        let mut said = String::new();
        wait_until("a reason", || {
            said = trouble(stage);
            sentences.iter().any(|sentence| said.contains(sentence))
        });
    }
}

#[test]
fn what_is_written_at_one_is_read_at_the_other_and_certificates_are_renewed_by_restarts() {
    let authority = authority();
    let mut pair = Pair::encrypted(&authority);
    for stage in [&pair.one, &pair.other] {
        assert_eq!(stage.handle().node().unwrap().is_encrypted, Some(true));
    }
    pair.one.host("v").write(0, vec![1; 256 << 10]).unwrap();
    assert_eq!(pair.other.host("v").read(0, 512).unwrap(), vec![1; 256 << 10]);
    for goes in [0, 1] {
        let (stage, stays) = if goes == 0 { (&mut pair.one, &pair.other) } else { (&mut pair.other, &pair.one) };
        stage.stop();
        stage.settings.peer.tls = Some(certified(&authority, &stage.settings.node_name.clone()));
        stage.start();
        wait_until("both in sync", || in_sync(stays) == 2 && in_sync(stage) == 2);
    }
    wait_until("a read", || {
        let host = dyad_bench::disk::Disk::open(&pair.one.login("v"));
        host.is_ok_and(|mut host| host.read(0, 512).is_ok_and(|data| data == vec![1; 256 << 10]))
    });
}

#[test]
fn a_node_of_another_authority_is_not_let_in() {
    let pair = Pair::bare(|settings| settings.peer.tls = Some(certified(&authority(), &settings.node_name)));
    is_refused(&pair, &["not of this cluster's authority", "does not know the authority of this node's certificate"]);
}

#[test]
fn a_node_with_the_certificate_of_another_name_is_not_let_in() {
    let authority = authority();
    let pair = Pair::bare(|settings| settings.peer.tls = Some(certified(&authority, "a-third")));
    is_refused(&pair, &["certificate is of another n", "does not accept this node's certificate"]);
}

#[test]
fn a_node_without_tls_does_not_meet_one_with_it_whichever_dials() {
    let authority = authority();
    for encrypted in ["one", "other"] {
        let pair = Pair::bare(|settings| {
            if settings.node_name == encrypted {
                settings.peer.tls = Some(certified(&authority, encrypted));
            }
        });
        is_refused(&pair, &["does not use TLS", "over TLS only", "it uses TLS and this node does not"]);
    }
}
