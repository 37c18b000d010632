//! Config stores: where the cluster's records are kept (design section 8).
//!
//! [`LocalStore`] is one file of one node (redb). The arbiter of a two-node cluster and etcd come later behind
//! the same trait, [`dyad_cluster::Store`].

mod error;
mod local;
mod row;

pub use error::OpenError;
pub use local::LocalStore;
