//! Config stores: where the cluster's records are kept (design section 8).
//!
//! ```text
//!   node ── CachedStore ──┬── LocalStore            one file of one node (redb)
//!            │            ├── ArbiterStore ──TLS──▶ ArbiterServer ── LocalStore     two nodes and a tie-breaker
//!          Cache          └── EtcdStore ──gRPC──▶ three or more members of etcd     everything larger
//! ```
//!
//! All are behind one trait, [`dyad_cluster::Store`]: blocking, a compare-and-set answered after it is durable,
//! linearizable reads, changes in order over outages. A store has an identity that is agreed upon once; another
//! store at the same address, or an old copy, is refused.

pub mod arbiter;
mod authority;
mod cache;
mod error;
pub mod etcd;
mod export;
mod feed;
mod local;
mod pinned;
mod row;
mod seed;
mod shown;
mod tls;

pub use arbiter::{ArbiterServer, ArbiterStore};
pub use authority::{Authority, Certified, NewKey, PUBLIC_KEY_BYTES, fingerprint, fingerprint_of};
pub use cache::{Cache, CachedStore};
pub use error::{ConfigError, OpenError};
pub use etcd::EtcdStore;
pub use export::{ExportError, ReadError};
pub use local::LocalStore;
pub use pinned::pinned;
pub use seed::{Known, PlantError, Seed, SeedError, fill, plant};
pub use shown::Shown;
pub use tls::Tls;
