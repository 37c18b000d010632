//! What an administrator asks about nodes.

use std::time::Duration;

use dyad_cluster::{SetError, StoreError};

use super::{NodeHandle, QueryError};
use crate::admin::Request;
use crate::join::{Token, TokenError};

/// What a node still has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DrainReport {
    /// Volumes of which it orders the writes; they could not be given to another node yet.
    pub owned: Vec<String>,
    /// Volumes of which it has an image.
    pub images: Vec<String>,
}

/// A node was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeChangeError {
    /// There is no such node.
    #[error("there is no node `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A node does not remove itself.
    #[error("a node cannot remove itself: stop it, then ask another node")]
    Itself,
    /// Images live there.
    #[error("node `{name}` has images of {}", .volumes.join(", "))]
    InUse {
        /// The node.
        name: String,
        /// Of which volumes.
        volumes: Vec<String>,
    },
    /// The config store cannot be read.
    #[error("the config store cannot be read")]
    ReadStore(#[from] StoreError),
    /// The config store cannot be written.
    #[error("the config store was not written")]
    WriteStore(#[from] SetError),
    /// The node did not answer.
    #[error(transparent)]
    Node(#[from] QueryError),
}

impl NodeHandle {
    /// A token with which another machine joins the cluster, and how long it is good for.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn token(&self) -> Result<(Token, Duration), TokenError> {
        self.reception.token()
    }

    /// Lets a node (name or id) give its volumes to others and take none, or serve again. Says what is there after some
    /// seconds; the node goes on with it.
    ///
    /// # Errors
    /// See [`NodeChangeError`].
    pub fn drain_node(&self, which: &str, is_wanted: bool) -> Result<DrainReport, NodeChangeError> {
        self.request(|reply| Request::DrainNode(which.into(), is_wanted, reply))?
    }

    /// Takes a node (name or id) without images out of the cluster.
    ///
    /// # Errors
    /// See [`NodeChangeError`].
    pub fn remove_node(&self, which: &str) -> Result<(), NodeChangeError> {
        self.request(|reply| Request::RemoveNode(which.into(), reply))?
    }
}
