//! What is done with nodes.

use dyad_api::model::{ChangeNode, Drain, JoinToken};

use super::{Session, print_json};
use crate::client::escape;
use crate::failure::Failure;
use crate::table;

/// Prints a token, and what to do with it.
pub fn token(at: &Session) -> Result<(), Failure> {
    let made: JoinToken = at.client.post("/v1/join-tokens", &())?;
    if at.json {
        print_json(&made);
    } else {
        table::print(&format!(
            "On the machine that is to join, within {} minutes, with its own address:\n  \
             dyad node join {} --peer-listen ADDRESS:3261\n",
            made.seconds / 60,
            made.token
        ));
    }
    Ok(())
}

/// Drains a node, or lets it serve again.
pub fn drain(at: &Session, name: &str, undo: bool) -> Result<(), Failure> {
    let left: Drain = at.client.patch(&format!("/v1/nodes/{}", escape(name)), &ChangeNode { draining: !undo })?;
    if at.json {
        print_json(&left);
    } else {
        table::print(&drained(name, undo, &left));
    }
    Ok(())
}

fn drained(name: &str, undo: bool, left: &Drain) -> String {
    if undo {
        return format!("node {name} serves again\n");
    }
    let mut text = if left.owned.is_empty() {
        format!("node {name} owns no volume now; it may be stopped for service\n")
    } else {
        format!(
            "node {name} still owns {}: no other node has an in-sync image that can take over now. It goes on trying\n",
            left.owned.join(", ")
        )
    };
    if !left.images.is_empty() {
        let volumes = left.images.join(", ");
        text.push_str(&format!("it has images of {volumes}; while it is stopped these are not redundant\n"));
    }
    text
}

/// Takes a node out of the cluster.
pub fn remove(at: &Session, name: &str) -> Result<(), Failure> {
    at.client.delete(&format!("/v1/nodes/{}", escape(name)))?;
    at.done(&format!("node {name} is of the cluster no more"));
    Ok(())
}
