//! A node's view of the arbiter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use dyad_cluster::{Key, Kind, Listed, Record, SetError, Store, StoreError, Version, Versioned, Watcher};
use dyad_units::StoreId;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::calls::{Calls, Dialer, ask, ping, senseless};
use super::follow::{self, Content, Leash};
use super::protocol::{Answer, Request, unavailable};
use crate::error::ConfigError;
use crate::feed::Feed;
use crate::local::{encoded, readable};
use crate::row::{self, Raw};
use crate::tls::Tls;

/// How the arbiter is reached.
#[derive(Clone, Debug)]
pub struct ArbiterConfig {
    /// Its addresses; whichever answers is used.
    pub addresses: Vec<SocketAddr>,
    /// Certificates, and the name that the arbiter's must have. None: loopback only.
    pub tls: Option<(Tls, String)>,
}

/// The records at the arbiter.
pub struct ArbiterStore {
    identity: StoreId,
    calls: Calls,
    feed: Arc<Feed>,
    leash: Arc<Leash>,
    follower: Option<JoinHandle<()>>,
}

impl ArbiterConfig {
    fn tls(&self) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, ConfigError> {
        if self.addresses.is_empty() {
            return Err(ConfigError::Address { address: String::new() });
        }
        match &self.tls {
            Some((tls, name)) => {
                let known = ServerName::try_from(name.clone());
                let known = known.map_err(|error| ConfigError::Tls { reason: format!("`{name}`: {error}") })?;
                Ok(Some((tls.client()?, known)))
            }
            None => match self.addresses.iter().find(|address| !address.ip().is_loopback()) {
                Some(open) => Err(ConfigError::Plain { address: open.to_string() }),
                None => Ok(None),
            },
        }
    }

    /// Which store is there? Asked once, when a node joins; from then on the answer is agreed upon.
    ///
    /// # Errors
    /// [`ConfigError`], or the store cannot be reached.
    pub fn identify(&self) -> Result<Result<StoreId, StoreError>, ConfigError> {
        let dialer = Dialer::new(self.addresses.clone(), self.tls()?, None, Version(0));
        let found = dialer.connect().map(|(_, store)| store);
        if dialer.is_removed.load(Ordering::Acquire) { Err(ConfigError::Removed) } else { Ok(found) }
    }
}

impl ArbiterStore {
    /// The store `identity` at the arbiter, which need not be there yet. `seen` is the newest version that this
    /// node knows of it: less is refused.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(config: &ArbiterConfig, identity: StoreId, seen: Version) -> Result<Self, ConfigError> {
        let dialer = Arc::new(Dialer::new(config.addresses.clone(), config.tls()?, Some(identity), seen));
        let (feed, leash) = (Arc::new(Feed::new()), Arc::new(Leash::default()));
        let follower = {
            let (dialer, feed, leash) = (Arc::clone(&dialer), Arc::clone(&feed), Arc::clone(&leash));
            let thread = thread::Builder::new().name("arbiter-feed".to_owned());
            thread.spawn(move || follow::run(&dialer, &feed, &leash))
        };
        let follower = follower.map_err(|source| ConfigError::Thread { source })?;
        Ok(Self { identity, calls: Calls::new(dialer), feed, leash, follower: Some(follower) })
    }

    /// Why the arbiter is not followed now; none: all is well. For the status.
    pub fn fault(&self) -> Option<String> {
        self.feed.fault()
    }

    /// Whether the arbiter refuses this node because it was removed from the cluster.
    pub fn is_removed(&self) -> bool {
        self.calls.dialer.is_removed.load(Ordering::Acquire)
    }

    fn saw(&self, version: Version) {
        self.calls.dialer.saw(version.0);
    }
}

impl Store for ArbiterStore {
    fn identity(&self) -> StoreId {
        self.identity
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        let request = Request::Get { key: row::key_bytes(key) };
        let found = self.calls.read(|link| match ask(link, &request)? {
            Answer::Found { row } => Ok(row.map(Raw::from)),
            other => Err(senseless(&other)),
        })?;
        let Some(raw) = found else { return Ok(None) };
        self.saw(raw.version);
        readable(key, raw.decode(key)).map(Some)
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        let request = Request::List { kind: row::kind_byte(kind) };
        let (content, version) = self.calls.read(|link| {
            link.send(&request).map_err(unavailable)?;
            Content::receive(link)
        })?;
        self.saw(version);
        let rows = content.rows.into_iter().filter(|(key, _)| key.kind() == kind);
        let mut listed = Listed::default();
        rows.for_each(|(key, raw)| listed.add(key, raw.decode(key)));
        Ok(listed)
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        let record = encoded(key, new)?;
        let request = Request::Set { key: row::key_bytes(key), expected: expected.map(|at| at.0), record };
        match self.calls.set(&request) {
            Err(error) => Err(SetError::Store(error)),
            Ok(Err(error)) => Err(SetError::Unknown(error)),
            Ok(Ok(Answer::Set { version })) => {
                self.saw(Version(version));
                Ok(Version(version))
            }
            Ok(Ok(Answer::Conflict { current })) => {
                let current = current.map(|row| readable(key, Raw::from(row).decode(key))).transpose();
                Err(SetError::Conflict { current: current.map_err(SetError::Store)?.map(Box::new) })
            }
            Ok(Ok(Answer::Failed { reason } | Answer::Refused { reason })) => Err(SetError::Store(unavailable(reason))),
            Ok(Ok(other)) => Err(SetError::Unknown(senseless(&other))),
        }
    }

    fn watch(&self, watcher: Watcher) {
        let after = if self.feed.wait_for_base() { self.calls.read(ping).ok() } else { None };
        if let Some(version) = after {
            self.feed.wait_for(version);
        }
        self.feed.add(watcher, after);
    }
}

impl Drop for ArbiterStore {
    fn drop(&mut self) {
        self.leash.pull();
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
    }
}
