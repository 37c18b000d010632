//! A node that was removed kept a certificate that is good for ever, and with it the arbiter: it could write records as
//! before. Now the arbiter looks into the records of nodes.

use dyad_cluster::{Incarnation, Key, NodeRecord, NodeState, Record, SetError, Store};
use dyad_store::ArbiterStore;
use dyad_units::{BootId, NodeId};

use super::arbiter::Arbiter;
use super::history::Heard;
use super::records::{eventually, get, pool, put, set};

fn node(id: u8, name: &str, state: NodeState) -> Record {
    let incarnation = Incarnation { boot: BootId::from_bytes([1; 16]), start: 1 };
    let (id, site) = (NodeId::from_bytes([id; 16]), "here".parse().unwrap());
    let (peers, portals, admin) = Default::default();
    Record::Node(NodeRecord { id, name: name.parse().unwrap(), site, incarnation, peers, portals, admin, state })
}

fn id_name(id: u8) -> String {
    format!("{}.node.dyad.internal", NodeId::from_bytes([id; 16]))
}

fn is_refused(store: &ArbiterStore) {
    let key = Key::Node(NodeId::from_bytes([1; 16]));
    let refused = store.get(key).unwrap_err();
    assert!(refused.to_string().contains("this node was removed from the cluster"), "{refused}");
    assert!(store.is_removed());
    let outcome = set(store, None, &pool(9, "stolen"));
    assert!(matches!(outcome, Err(SetError::Store(_))), "{outcome:?}");
}

#[test]
fn from_the_answer_of_its_removal_on_a_node_gets_nothing_on_old_and_new_connections() {
    let arbiter = Arbiter::new();
    let one = arbiter.open_as(&["one", &id_name(1)]);
    let two = arbiter.open_as(&["two", &id_name(2)]);
    let old = arbiter.open_as(&["old"]);
    for (id, name) in [(1, "one"), (2, "two"), (4, "old")] {
        put(&one, &node(id, name, NodeState::Active));
    }
    // Open connections, for calls and for changes.
    let heard = Heard::of(&two);
    heard.until(put(&one, &pool(1, "a")));
    for store in [&two, &old] {
        assert!(store.get(Key::Node(NodeId::from_bytes([1; 16]))).unwrap().is_some());
    }
    let end = put(&one, &node(2, "two", NodeState::Removed));
    put(&one, &node(4, "old", NodeState::Removed));
    is_refused(&two);
    is_refused(&old);
    assert_eq!(get(&one, pool(9, "stolen").key()), None);
    eventually("the status says it", || two.fault().filter(|fault| fault.contains("was removed")));
    // Who came after it under the same name is somebody else.
    let late = arbiter.open_as(&["two", &id_name(3)]);
    put(&late, &node(3, "two", NodeState::Active));
    is_refused(&two);
    assert!(!one.is_removed() && !late.is_removed());
    arbiter.stop();
    arbiter.start();
    put(&one, &pool(1, "b"));
    put(&late, &pool(1, "c"));
    is_refused(&two);
    assert!(heard.so_far().iter().all(|change| change.version <= end), "{:?}", heard.so_far());
}
