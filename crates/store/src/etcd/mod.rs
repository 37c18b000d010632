//! Records in etcd, version 3 of its API: three or more members, for everything larger than two nodes.
//!
//! ```text
//!   /dyad/store                      which store this is
//!   /dyad/volume/0123…               a record each, its version is etcd's revision of its last change
//!   /dyad/segment/… /dyad/pool/… /dyad/node/…
//! ```
//!
//! Every read is linearizable; every change is a transaction that compares the record's revision *and* the store's
//! identity. A connection to a member is used only after it has shown that it leads to the store that was agreed
//! upon, with nothing lost, and it never reconnects by itself: what is sent on it cannot reach another store.
//! Neither locks nor leases of etcd are used: what fences is the epoch at the image (section 8).

mod calls;
mod config;
mod follow;
mod keys;
mod member;
mod outcome;
mod request;

use std::future::Future;
use std::sync::{Arc, mpsc};

use dyad_cluster::{Key, Kind, Listed, Record, SetError, Store, StoreError, Version, Versioned, Watcher};
use dyad_units::StoreId;
use tokio::runtime::{Builder, Runtime};

use calls::Calls;
pub use config::{EtcdConfig, EtcdTls};

use crate::error::ConfigError;
use crate::feed::Feed;
use crate::local::encoded;
use outcome::unavailable;

#[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated from proto/etcd.proto")]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

/// The records in etcd.
pub struct EtcdStore {
    identity: StoreId,
    calls: Arc<Calls>,
    feed: Arc<Feed>,
    /// None only while the value is dropped.
    runtime: Option<Runtime>,
}

impl EtcdConfig {
    /// Which store is there? None: none yet. Asked once, when a node joins; from then on the answer is agreed upon.
    ///
    /// # Errors
    /// [`ConfigError`], or the store cannot be reached.
    pub fn identify(&self) -> Result<Result<Option<StoreId>, StoreError>, ConfigError> {
        self.found(None)
    }

    /// Makes a store, with `fresh` as the seed of its identity, unless there is one; returns the identity.
    ///
    /// # Errors
    /// [`ConfigError`], or the store cannot be reached, or is not known to have been made.
    pub fn create(&self, fresh: StoreId) -> Result<Result<StoreId, StoreError>, ConfigError> {
        let found = self.found(Some(fresh))?;
        Ok(found.and_then(|found| found.ok_or_else(|| unavailable("the store was made and is gone again"))))
    }

    fn found(&self, fresh: Option<StoreId>) -> Result<Result<Option<StoreId>, StoreError>, ConfigError> {
        let calls = Arc::new(Calls::new(self.check()?, None, Version(0)));
        let runtime = runtime()?;
        let found = wait(&runtime, async move { calls.found(fresh).await });
        runtime.shutdown_background();
        Ok(found)
    }
}

impl EtcdStore {
    /// The store `identity` in etcd, which need not be reachable yet. `seen` is the newest version that this node
    /// knows of it: less is refused.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(config: &EtcdConfig, identity: StoreId, seen: Version) -> Result<Self, ConfigError> {
        let calls = Arc::new(Calls::new(config.check()?, Some(identity), seen));
        let (feed, runtime) = (Arc::new(Feed::new()), runtime()?);
        runtime.spawn(follow::run(Arc::clone(&calls), Arc::clone(&feed)));
        Ok(Self { identity, calls, feed, runtime: Some(runtime) })
    }

    /// Why etcd is not followed now; none: all is well. For the status.
    pub fn fault(&self) -> Option<String> {
        self.feed.fault()
    }

    fn wait<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let runtime = self.runtime.as_ref().ok_or_else(|| unavailable("it is being closed"))?;
        wait(runtime, call)
    }
}

impl Store for EtcdStore {
    fn identity(&self) -> StoreId {
        self.identity
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        let calls = Arc::clone(&self.calls);
        self.wait(async move { calls.get(key).await })
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        let calls = Arc::clone(&self.calls);
        self.wait(async move { calls.list_readable(kind).await })
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        let record = encoded(key, new)?;
        let calls = Arc::clone(&self.calls);
        let set = async move { Ok(calls.set(key, expected, record).await) };
        // A runtime that ended in between may have sent it.
        self.wait(set).unwrap_or_else(|error| Err(SetError::Unknown(error)))
    }

    fn watch(&self, watcher: Watcher) {
        let calls = Arc::clone(&self.calls);
        let after = match self.feed.wait_for_base() {
            true => self.wait(async move { calls.version().await }).ok(),
            false => None,
        };
        if let Some(version) = after {
            self.feed.wait_for(version);
        }
        self.feed.add(watcher, after);
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: the value may be dropped where waiting is forbidden.
            runtime.shutdown_background();
        }
    }
}

/// One thread of its own: the callers wait, and need not be in a runtime, or may be in another.
fn runtime() -> Result<Runtime, ConfigError> {
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("etcd").enable_all().build();
    runtime.map_err(|source| ConfigError::Thread { source })
}

fn wait<T: Send + 'static>(
    runtime: &Runtime,
    call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let (answer, answered) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // Nobody waits any more only if the waiting thread is gone.
        let _ = answer.send(call.await);
    });
    answered.recv().unwrap_or_else(|_| Err(unavailable("it is being closed")))
}
