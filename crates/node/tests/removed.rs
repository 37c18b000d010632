//! A node that was removed, with certificates everywhere: it is refused by the arbiter and by the other nodes, while it runs
//! and when it comes back, and a machine may join under its name.

mod cast;

use std::path::Path;

use cast::pair::{Arbiter, wait_until};
use cast::{Stage, start_again};
use dyad_node::StartError;
use dyad_node::join::join;
use dyad_node::settings::Settings;
use dyad_store::{Authority, Shown, Tls};
use dyad_units::NodeId;

struct Cluster {
    arbiter: Arbiter,
    one: Stage,
}

/// A node with this certificate.
fn node(arbiter: &Arbiter, name: &str, tls: &Tls, change: impl FnOnce(&mut Settings)) -> Stage {
    arbiter.node(name, |settings| {
        settings.store = arbiter.choice_with(tls);
        settings.peer.tls = Some(tls.clone());
        change(settings);
    })
}

impl Cluster {
    fn new() -> Self {
        let (authority, key) = Authority::create().unwrap();
        let arbiter = Arbiter::encrypted(&authority);
        let made = authority.issue_node("one", NodeId::from_bytes([1; 16])).unwrap();
        let (certificate, kept) = (made.certificate.into_bytes(), made.key.into_bytes());
        let tls = Tls { authority: authority.certificate().as_bytes().to_vec(), certificate, key: kept };
        let one = node(&arbiter, "one", &tls, |settings| {
            let path = settings.data_dir.with_extension("key");
            std::fs::write(&path, &key).unwrap();
            settings.peer.authority_key = Some(path);
        });
        Self { arbiter, one }
    }

    /// What a machine gets that joins under this name.
    fn certificate(&self, name: &str) -> Tls {
        let (token, _) = self.one.handle().token().unwrap();
        let got = join(&token, &name.parse().unwrap()).unwrap();
        let (authority, certificate, key) =
            (got.authority.into_bytes(), got.certificate.into_bytes(), got.key.into_bytes());
        Tls { authority, certificate, key }
    }

    fn join(&self, name: &str) -> Stage {
        let stage = node(&self.arbiter, name, &self.certificate(name), |_| {});
        wait_until("connected", || neighbours(&self.one) == [true] && neighbours(&stage) == [true]);
        stage
    }

    fn remove(&self, name: &str) {
        wait_until("removed", || self.one.handle().remove_node(name).is_ok());
        assert!(neighbours(&self.one).is_empty());
    }
}

/// Which of the others are connected.
fn neighbours(stage: &Stage) -> Vec<bool> {
    stage.handle().status().unwrap().neighbours.iter().map(|node| node.is_connected).collect()
}

fn id_of(stage: &Stage) -> NodeId {
    stage.handle().node().unwrap().id
}

fn refusal(settings: &Settings) -> String {
    let refused = start_again(settings).expect_err("started");
    refused.to_string()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_node_that_runs_loses_all_connections_when_it_is_removed_and_its_name_is_free() {
    let cluster = Cluster::new();
    let two = cluster.join("two");
    cluster.remove("two");
    // It may have heard of its removal before it was cut off, or not: nothing answers it in either case.
    wait_until("cut off", || !neighbours(&two).contains(&true));
    wait_until("refused by the arbiter", || two.handle().create_volume(two.volume("v", &[])).is_err());
    let new = cluster.join("two");
    assert_ne!(id_of(&new), id_of(&two));
    let key = two.settings.peer.tls.as_ref().unwrap();
    assert_eq!(Shown::in_pem(&key.certificate).unwrap().node, Some(id_of(&two)));
    assert!(!neighbours(&two).contains(&true));
}

/// It knew nothing of its removal when it started: it took the arbiter that refuses it for one that is away, and served on.
#[test]
fn a_node_that_was_removed_while_it_was_down_does_not_start() {
    let cluster = Cluster::new();
    let mut two = cluster.join("two");
    two.stop();
    cluster.remove("two");
    let refused = start_again(&two.settings);
    assert!(matches!(refused, Err(StartError::Removed)), "{refused:?}");
    // Nor does a machine that has its key and nothing else.
    let mut settings = two.settings.clone();
    settings.data_dir = two.dir.path().join("empty");
    assert!(refusal(&settings).contains("removed from the cluster"), "{}", refusal(&settings));
}

#[test]
fn a_certificate_goes_with_the_data_directory_of_its_node() {
    let cluster = Cluster::new();
    let mut two = cluster.join("two");
    two.stop();
    // A copy of the key on another machine, or a data directory that was lost.
    let mut settings = two.settings.clone();
    settings.data_dir = two.dir.path().join("empty");
    assert!(refusal(&settings).contains("has run before"), "{}", refusal(&settings));
    // A data directory of another node.
    copy(&two.settings.data_dir, &two.dir.path().join("copied"));
    let mut settings = two.settings.clone();
    let tls = cluster.certificate("three");
    settings.data_dir = two.dir.path().join("copied");
    (settings.node_name, settings.store) = ("three".into(), cluster.arbiter.choice_with(&tls));
    settings.peer.tls = Some(tls);
    assert!(refusal(&settings).contains("of another node than the data directory"), "{}", refusal(&settings));
    two.start();
    wait_until("connected", || neighbours(&two) == [true]);
}
