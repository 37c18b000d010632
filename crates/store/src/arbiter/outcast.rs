//! Nodes that were removed from the cluster: their certificates are still good, and are refused all the same.
//!
//! The records say who was removed, so nothing else is kept, and an arbiter that was made anew from them knows it too. A
//! record that only newer software can read is left alone: its node is let in, as by an arbiter that knew nothing of this.

use std::ops::ControlFlow;

use dyad_cluster::{Kind, NodeRecord, NodeState, Record, StoreError};
use redb::Database;

use crate::local::tables;
use crate::shown::Shown;

/// The nodes that were ever in the cluster.
pub(super) fn nodes(database: &Database) -> Result<Vec<NodeRecord>, StoreError> {
    let mut nodes = Vec::new();
    tables::each(database, Some(Kind::Node), |key, raw| {
        if let Ok(found) = raw.decode(key)
            && let Record::Node(node) = found.record
        {
            nodes.push(node);
        }
        ControlFlow::Continue(())
    })?;
    Ok(nodes)
}

/// Whether the certificate is of a node that was removed. One without an id goes by its name: it is refused as long as no
/// other node has taken the name of the one that was removed.
pub(super) fn is_outcast(shown: &Shown, nodes: &[NodeRecord]) -> bool {
    if let Some(id) = shown.node {
        return nodes.iter().any(|node| node.id == id && node.state == NodeState::Removed);
    }
    let bears = |node: &&NodeRecord| shown.names.iter().any(|name| name.eq_ignore_ascii_case(node.name.as_str()));
    let mut bearers = nodes.iter().filter(bears).peekable();
    bearers.peek().is_some() && bearers.all(|node| node.state == NodeState::Removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyad_cluster::Incarnation;
    use dyad_units::{BootId, NodeId};

    fn node(id: u8, name: &str, state: NodeState) -> NodeRecord {
        let incarnation = Incarnation { boot: BootId::from_bytes([1; 16]), start: 1 };
        let (id, site) = (NodeId::from_bytes([id; 16]), "here".parse().unwrap());
        let (peers, portals, admin) = Default::default();
        NodeRecord { id, name: name.parse().unwrap(), site, incarnation, peers, portals, admin, state }
    }

    #[test]
    fn ids_count_where_there_are_some_and_names_else() {
        use NodeState::{Active, Draining, Removed};
        let nodes =
            [node(1, "one", Active), node(2, "two", Removed), node(3, "two", Draining), node(4, "four", Removed)];
        let by_id = |id: u8| Shown { names: vec!["two".into()], node: Some(NodeId::from_bytes([id; 16])) };
        let by_name = |name: &str| Shown { names: vec![name.into()], node: None };
        // A machine that just joined has no record yet, whatever its name.
        for (shown, is_refused) in [
            (by_id(1), false),
            (by_id(2), true),
            (by_id(3), false),
            (by_id(9), false),
            (by_name("one"), false),
            (by_name("two"), false),
            (by_name("four"), true),
            (by_name("FOUR"), true),
            (by_name("arbiter"), false),
        ] {
            assert_eq!(is_outcast(&shown, &nodes), is_refused, "{shown:?}");
        }
    }
}
