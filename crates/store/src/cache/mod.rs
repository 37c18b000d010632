//! What a node knows of the records when it cannot ask: the newest of each kind that it ever saw.
//!
//! ```text
//!   CachedStore ──asks──▶ store          an answer older than what is known is refused
//!        │ learns                         reads of the cache never wait for the store
//!        ▼
//!      Cache ──in the background──▶ a file: a restarted node knows as much, a lost store is re-seeded from it
//! ```

mod file;
mod known;
mod through;

use dyad_cluster::Kind;
pub(crate) use file::CacheFile;
pub use known::Cache;
pub use through::CachedStore;

/// All kinds of records.
const KINDS: [Kind; 4] = [Kind::Node, Kind::Pool, Kind::Segment, Kind::Volume];
