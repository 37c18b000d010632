//! The config store of this node: opened as the settings say, and the one that was agreed upon (design section 8).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyad_cluster::{Store, StoreError};
use dyad_store::arbiter::ArbiterConfig;
use dyad_store::etcd::EtcdConfig;
use dyad_store::{ArbiterStore, Cache, CachedStore, ConfigError, EtcdStore, LocalStore, OpenError};
use dyad_units::StoreId;

use crate::clock;
use crate::identity::Identity;
use crate::settings::StoreChoice;

/// The config store's file in the data directory, where it is a local one.
const STORE_FILE: &str = "config.redb";
/// What was last seen of a config store elsewhere.
const CACHE_FILE: &str = "config-cache.redb";
/// How long a node that starts waits for a config store elsewhere to answer, and for all records to be learned: both
/// may be starting with it.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const ANSWER_PAUSE: Duration = Duration::from_millis(200);

/// The config store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreStartError {
    /// Its file, or the cache's.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It did not answer.
    #[error("the config store does not answer")]
    Silent(#[source] StoreError),
}

/// Opens the store; one elsewhere has to answer.
pub(crate) fn open(
    choice: &StoreChoice,
    dir: &Path,
    identity: Option<&Identity>,
) -> Result<Arc<dyn Store>, StoreStartError> {
    let fresh = || StoreId::from_bytes(clock::random_id());
    match choice {
        StoreChoice::Local => Ok(Arc::new(LocalStore::open(&dir.join(STORE_FILE), fresh)?)),
        StoreChoice::Arbiter { addresses, tls } => {
            let config = ArbiterConfig { addresses: addresses.clone(), tls: tls.clone() };
            let cache = cache(dir)?;
            let agreed = match identity {
                Some(identity) => identity.store,
                None => patiently(|| config.identify())?,
            };
            let store = Arc::new(ArbiterStore::open(&config, agreed, seen(&cache, agreed))?);
            cached(store, cache)
        }
        StoreChoice::Etcd { endpoints, prefix, tls, user, allow_plain } => {
            let config = EtcdConfig {
                endpoints: endpoints.clone(),
                prefix: prefix.clone(),
                tls: tls.clone(),
                user: user.clone(),
                allow_plain: *allow_plain,
            };
            let cache = cache(dir)?;
            let agreed = match identity {
                Some(identity) => identity.store,
                // The first node of a cluster makes the store; whoever comes at the same moment finds that one.
                None => patiently(|| config.create(fresh()))?,
            };
            let store = Arc::new(EtcdStore::open(&config, agreed, seen(&cache, agreed))?);
            cached(store, cache)
        }
    }
}

fn cache(dir: &Path) -> Result<Arc<Cache>, OpenError> {
    let (cache, damage) = Cache::open(&dir.join(CACHE_FILE))?;
    if let Some(damage) = damage {
        tracing::warn!(%damage, "the cache of the config store is made anew");
    }
    Ok(Arc::new(cache))
}

/// The newest version that is known of this store.
fn seen(cache: &Cache, agreed: StoreId) -> dyad_cluster::Version {
    if cache.store() == Some(agreed) { cache.seen() } else { dyad_cluster::Version(0) }
}

fn cached(store: Arc<dyn Store>, cache: Arc<Cache>) -> Result<Arc<dyn Store>, StoreStartError> {
    let store = CachedStore::new(store, cache)?;
    if !store.wait_until_synced(ANSWER_MAX) {
        let asked = store.list(dyad_cluster::Kind::Node);
        let reason = "not all of it could be read in time".to_owned();
        return Err(StoreStartError::Silent(asked.err().unwrap_or(StoreError::Unavailable { reason })));
    }
    Ok(Arc::new(store))
}

/// Asks until there is an answer.
fn patiently(ask: impl Fn() -> Result<Result<StoreId, StoreError>, ConfigError>) -> Result<StoreId, StoreStartError> {
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        match ask()? {
            Ok(store) => return Ok(store),
            Err(error) if Instant::now() >= deadline => return Err(StoreStartError::Silent(error)),
            Err(_) => std::thread::sleep(ANSWER_PAUSE),
        }
    }
}
