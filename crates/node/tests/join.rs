//! How machines become nodes of a cluster, give everything away, and leave it.

mod cast;

use cast::pair::{Arbiter, Pair, certified, in_sync, wait_until};
use cast::{Stage, start_again};
use dyad_bench::disk::Disk;
use dyad_node::StartError;
use dyad_node::control::{DrainReport, NodeChangeError};
use dyad_node::join::{JoinError, Token, join};
use dyad_store::{Authority, Tls};

/// A node that may let others in.
fn host(arbiter: &Arbiter) -> Stage {
    let (authority, key) = Authority::create().unwrap();
    arbiter.node("one", |settings| {
        let path = settings.data_dir.with_extension("key");
        std::fs::write(&path, &key).unwrap();
        settings.peer.tls = Some(certified(&authority, "one"));
        settings.peer.authority_key = Some(path);
    })
}

#[test]
fn a_machine_joins_with_a_token_once() {
    let arbiter = Arbiter::new();
    let one = host(&arbiter);
    let (token, _) = one.handle().token().unwrap();
    let token: Token = token.to_string().parse().unwrap();
    // A name that is taken does not spend it.
    let taken = join(&token, &"one".parse().unwrap()).unwrap_err();
    assert!(taken.to_string().contains("there is already a node `one`"), "{taken}");
    let admitted = join(&token, &"two".parse().unwrap()).unwrap();
    assert_eq!(admitted.store.kind, "arbiter");
    let again = join(&token, &"three".parse().unwrap()).unwrap_err();
    assert!(again.to_string().contains("used already"), "{again}");
    let two = arbiter.node("two", |settings| {
        settings.peer.tls = Some(Tls {
            authority: admitted.authority.clone().into_bytes(),
            certificate: admitted.certificate.clone().into_bytes(),
            key: admitted.key.clone().into_bytes(),
        });
    });
    for stage in [&one, &two] {
        wait_until("connected", || stage.handle().status().unwrap().neighbours.iter().any(|node| node.is_connected));
    }
}

#[test]
fn who_has_not_the_authority_of_the_token_is_told_nothing() {
    let arbiter = Arbiter::new();
    let (one, other) = (host(&arbiter), host(&Arbiter::new()));
    let (token, _) = one.handle().token().unwrap();
    let (elsewhere, _) = other.handle().token().unwrap();
    let mut misled = token;
    misled.addresses = elsewhere.addresses;
    assert!(matches!(join(&misled, &"two".parse().unwrap()), Err(JoinError::Impostor { .. })));
}

#[test]
fn a_node_without_the_authority_makes_no_token() {
    let stage = Stage::new();
    let error = stage.handle().token().unwrap_err();
    assert!(error.to_string().contains("alone"), "{error}");
    let arbiter = Arbiter::new();
    let plain = arbiter.node("one", |_| {});
    let error = plain.handle().token().unwrap_err();
    assert!(error.to_string().contains("no certificates"), "{error}");
}

fn owned_by(pair: &Pair, name: &str) -> bool {
    pair.one.handle().drain_node(name, false).unwrap().owned == ["v"]
}

/// M12: a drain is a hand-over of everything, and back; whichever node is asked.
#[test]
fn a_node_that_is_drained_gives_its_volumes_away() {
    let pair = Pair::new();
    wait_until("both in sync", || in_sync(&pair.one) == 2 && in_sync(&pair.other) == 2);
    let (first, second) = if owned_by(&pair, "one") { ("one", "other") } else { ("other", "one") };
    for (goes, takes) in [(first, second), (second, first)] {
        wait_until("given away", || {
            let left = pair.other.handle().drain_node(goes, true).unwrap();
            assert_eq!(left.images, ["v"]);
            left.owned.is_empty()
        });
        assert!(owned_by(&pair, takes));
        // The node that is drained sends hosts on; this one may have to hear first that it is drained no more.
        let at = if takes == "one" { &pair.one } else { &pair.other };
        let login = || Disk::open(&at.login("v"));
        wait_until("a host", || login().is_ok_and(|mut host| host.write(0, vec![7; 4096]).is_ok()));
        let left = pair.one.handle().drain_node(goes, false).unwrap();
        assert_eq!(left, DrainReport { owned: vec![], images: vec!["v".into()] });
    }
    assert!(matches!(pair.one.handle().drain_node("three", true), Err(NodeChangeError::Unknown { .. })));
}

#[test]
fn a_node_leaves_only_without_images_and_never_comes_back() {
    let mut pair = Pair::new();
    let refused = pair.one.handle().remove_node("other").unwrap_err();
    assert_eq!(refused.to_string(), "node `other` has images of v");
    assert!(matches!(pair.one.handle().remove_node("one"), Err(NodeChangeError::Itself)));
    pair.one.handle().delete_volume("v", true).unwrap();
    wait_until("no image left", || pair.other.handle().pool("b").is_ok_and(|pool| pool.images == 0));
    wait_until("removed", || pair.one.handle().remove_node("other").is_ok());
    wait_until("forgotten", || pair.one.handle().status().unwrap().neighbours.is_empty());
    pair.other.stop();
    let back = start_again(&pair.other.settings);
    assert!(matches!(back, Err(StartError::Removed)), "{back:?}");
}
