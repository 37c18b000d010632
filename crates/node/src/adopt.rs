//! Another config store in the place of the one that was agreed upon: seeded, and accepted by a node that is stopped
//! (design section 8).
//!
//! A node refuses every store but its own, so that an old copy or a wrong address takes nothing over. Accepting another is
//! an administrator's word. What the node knew is kept beside, and the records say of which store they are: none of their
//! segments changes its owner before nothing newer was shown.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dyad_cluster::{Key, Store, StoreError, Version};
use dyad_store::arbiter::ArbiterConfig;
use dyad_store::etcd::EtcdConfig;
use dyad_store::{ArbiterStore, Cache, ConfigError, EtcdStore, Known, OpenError, Seed, SeedError, fill};
use dyad_units::{ClusterId, StoreId};

use crate::clock;
use crate::config_store::CACHE_FILE;
use crate::identity::Identity;
use crate::settings::{Settings, StoreChoice};

/// Another store was not seeded, or not accepted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// Nothing to accept for.
    #[error("this node has not been started yet: it takes the store that it finds")]
    New,
    /// A local store is never another.
    #[error("the configuration names no config store that nodes share (`store.kind`)")]
    Local,
    /// Only etcd is seeded over the network.
    #[error("the configuration names an arbiter: seed it where it runs, with `dyad arbiter seed`")]
    NotEtcd,
    /// The store there is empty, or of another cluster.
    #[error("the config store {found} does not know this node: seed it first, or look whether it is the right one")]
    Unknown {
        /// Its identity.
        found: StoreId,
    },
    /// There is none.
    #[error("there is no config store yet: seed it first")]
    Missing,
    /// The node runs, or its files cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot be asked.
    #[error("the config store cannot be asked")]
    Store(#[from] StoreError),
    /// Records do not go into it.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The node's files.
    #[error("{} cannot be written", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What accepting came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adopted {
    /// The store until now.
    pub before: StoreId,
    /// The one from now on.
    pub now: StoreId,
    /// Where a copy of what the node knew of the old one is; none: it is the same store, nothing was done.
    pub copy: Option<PathBuf>,
}

/// Makes the store of the configuration, etcd, from what nodes know of a lost or stopped one.
///
/// # Errors
/// [`AdoptError`]. It may be repeated.
pub fn seed_store(settings: &Settings, lost: StoreId, known: Vec<Known>) -> Result<StoreId, AdoptError> {
    let StoreChoice::Etcd { .. } = settings.store else { return Err(AdoptError::NotEtcd) };
    let config = etcd(settings).ok_or(AdoptError::NotEtcd)?;
    let seed = Seed::gather(lost, known, Vec::new())?;
    let made = config.create(StoreId::from_bytes(clock::random_id()))??;
    fill(&EtcdStore::open(&config, made, Version(0))?, &seed)?;
    Ok(made)
}

/// Accepts the store that the configuration names; the node has to be stopped.
///
/// # Errors
/// [`AdoptError`].
pub fn adopt_store(settings: &Settings) -> Result<Adopted, AdoptError> {
    let dir = &settings.data_dir;
    let failed = |path: &Path, source| AdoptError::Io { path: path.to_owned(), source };
    let read = Identity::read(dir).map_err(|source| failed(dir, source))?;
    let identity = read.ok_or(AdoptError::New)?;
    let path = dir.join(CACHE_FILE);
    // Locked by a node that runs; closed again, so that the copy is whole.
    let before = Cache::open(&path)?.0;
    let (now, store): (StoreId, Box<dyn Store>) = match (&settings.store, etcd(settings)) {
        (StoreChoice::Arbiter { addresses, tls }, _) => {
            let config = ArbiterConfig { addresses: addresses.clone(), tls: tls.clone() };
            let found = config.identify()??;
            (found, Box::new(ArbiterStore::open(&config, found, Version(0))?))
        }
        (_, Some(config)) => {
            let found = config.identify()??.ok_or(AdoptError::Missing)?;
            (found, Box::new(EtcdStore::open(&config, found, Version(0))?))
        }
        _ => return Err(AdoptError::Local),
    };
    if now == identity.store {
        return Ok(Adopted { before: now, now, copy: None });
    }
    if store.get(Key::Node(identity.node))?.is_none() {
        return Err(AdoptError::Unknown { found: now });
    }
    drop(before);
    let copy = dir.join(format!("config-cache.{}.redb", identity.store));
    fs::copy(&path, &copy).and_then(|_| File::open(&copy)?.sync_all()).map_err(|source| failed(&copy, source))?;
    // Known by the store until now to nodes that still use that one, and by the new one to those that come later.
    let cluster = ClusterId::from_bytes(identity.store.to_bytes());
    let accepted = Identity { store: now, cluster, ..identity.clone() };
    accepted.write(dir).map_err(|source| failed(dir, source))?;
    Ok(Adopted { before: identity.store, now, copy: Some(copy) })
}

fn etcd(settings: &Settings) -> Option<EtcdConfig> {
    match settings.store.clone() {
        StoreChoice::Etcd { endpoints, prefix, tls, user, allow_plain } => {
            Some(EtcdConfig { endpoints, prefix, tls, user, allow_plain })
        }
        _ => None,
    }
}
