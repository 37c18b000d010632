//! The config store of this node: opened as the settings say, and the one that was agreed upon (design section 8).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dyad_cluster::{Key, Kind, Listed, Record, SetError, Store, StoreError, Version, Versioned, Watcher};
use dyad_store::arbiter::ArbiterConfig;
use dyad_store::etcd::EtcdConfig;
use dyad_store::{ArbiterStore, Cache, CachedStore, ConfigError, EtcdStore, LocalStore, OpenError};
use dyad_units::StoreId;

use crate::clock;
use crate::identity::Identity;
use crate::reactor::Mailbox;
use crate::settings::StoreChoice;

/// The config store's file in the data directory, where it is a local one.
const STORE_FILE: &str = "config.redb";
/// What was last seen of a config store elsewhere.
pub(crate) const CACHE_FILE: &str = "config-cache.redb";
/// How long a node that starts waits for a config store elsewhere to answer, and for all records to be learned: both
/// may be starting with it.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long a node waits that has all records in its cache: it can go on without (section 8).
const CACHED_ANSWER_MAX: Duration = Duration::from_secs(5);
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
    /// It lets this node in no more.
    #[error("this node was removed from the cluster")]
    Removed,
    /// It did not answer.
    #[error("the config store does not answer")]
    Silent(#[source] StoreError),
}

/// The store, and what is known without asking it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// Of one elsewhere.
    pub(crate) cache: Option<Arc<Cache>>,
    /// It did not answer yet: the cache's records are all that is known.
    pub(crate) is_away: bool,
    pub(crate) health: Arc<Health>,
}

/// Opens the store; one elsewhere has to answer, unless all its records are known here from before.
pub(crate) fn open(choice: &StoreChoice, dir: &Path, identity: Option<&Identity>) -> Result<Opened, StoreStartError> {
    let fresh = || StoreId::from_bytes(clock::random_id());
    match choice {
        StoreChoice::Local => {
            let store = Arc::new(LocalStore::open(&dir.join(STORE_FILE), fresh)?);
            Ok(Opened { store, cache: None, is_away: false, health: Arc::default() })
        }
        StoreChoice::Arbiter { addresses, tls } => {
            let config = ArbiterConfig { addresses: addresses.clone(), tls: tls.clone() };
            let cache = cache(dir)?;
            let agreed = match identity {
                Some(identity) => identity.store,
                None => patiently(|| config.identify())?,
            };
            let store = Arc::new(ArbiterStore::open(&config, agreed, seen(&cache, agreed))?);
            let (asked, fault) = (store.clone(), store.clone());
            let opened = cached(asked, cache, move || fault.fault());
            // Else it would be taken for an arbiter that is away.
            if store.is_removed() { Err(StoreStartError::Removed) } else { opened }
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
            let fault = store.clone();
            cached(store, cache, move || fault.fault())
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
fn seen(cache: &Cache, agreed: StoreId) -> Version {
    if cache.store() == Some(agreed) { cache.seen() } else { Version(0) }
}

fn cached(
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    fault: impl Fn() -> Option<String> + Send + Sync + 'static,
) -> Result<Opened, StoreStartError> {
    let has_all = cache.store() == Some(store.identity()) && cache.at() > Version(0);
    let store = CachedStore::new(store, cache.clone())?;
    let is_away = !store.wait_until_synced(if has_all { CACHED_ANSWER_MAX } else { ANSWER_MAX });
    if is_away {
        let reason = "not all of it could be read in time".to_owned();
        let asked = store.list(Kind::Node).err().unwrap_or(StoreError::Unavailable { reason });
        if !has_all || !matches!(asked, StoreError::Unavailable { .. }) {
            return Err(StoreStartError::Silent(asked));
        }
        tracing::warn!(reason = %asked, "the config store is away: this node starts with what it knew of it");
    }
    let health = Health { store: Some(Box::new(fault)), cache: Some(cache.clone()), told: Mutex::default() };
    Ok(Opened { store: Arc::new(store), cache: Some(cache), is_away, health: Arc::new(health) })
}

/// Whether the config store can be followed, and what is known of it kept: without the one no node that dies is followed, and
/// without the other this node starts with old records. Everything goes on meanwhile, so somebody has to be told.
#[derive(Default)]
pub(crate) struct Health {
    /// Asks a store elsewhere why it is not followed; a local one cannot be away.
    store: Option<Box<dyn Fn() -> Option<String> + Send + Sync>>,
    cache: Option<Arc<Cache>>,
    /// What the log was told last.
    told: Mutex<Option<String>>,
}

impl Health {
    /// That the store is away, and why, one sentence without full stop: no record can be changed.
    pub(crate) fn away(&self) -> Option<String> {
        let away = self.store.as_ref().and_then(|fault| fault());
        away.map(|why| format!("the config store is away: {why}"))
    }

    /// What is wrong, one sentence without full stop; none: all is well.
    pub(crate) fn trouble(&self) -> Option<String> {
        let unwritten = || self.cache.as_ref().and_then(|cache| cache.fault());
        self.away()
            .or_else(|| unwritten().map(|why| format!("what is known of the config store cannot be written: {why}")))
    }

    /// Tells the log when a trouble begins, and when it is over.
    pub(crate) fn look(&self) {
        let trouble = self.trouble();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*told, &trouble) {
            (None, Some(trouble)) => tracing::warn!(trouble, "a node that dies now may not be followed"),
            (Some(_), None) => tracing::info!("the config store is there, and what is known of it is kept"),
            // It may be said differently each time.
            _ => {}
        }
        *told = trouble;
    }
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

/// The store, as long as the node's reactor runs. What other threads still ask after that is for nobody, and where the store is
/// away each question would keep the end of the node for seconds.
pub(crate) struct UntilTheEnd {
    store: Arc<dyn Store>,
    mailbox: Arc<Mailbox>,
}

impl UntilTheEnd {
    pub(crate) fn new(store: Arc<dyn Store>, mailbox: Arc<Mailbox>) -> Self {
        Self { store, mailbox }
    }

    fn open(&self) -> Result<&dyn Store, StoreError> {
        match self.mailbox.is_closed() {
            true => Err(StoreError::Unavailable { reason: "this node stops".to_owned() }),
            false => Ok(&*self.store),
        }
    }
}

impl Store for UntilTheEnd {
    fn identity(&self) -> StoreId {
        self.store.identity()
    }

    fn get(&self, key: Key) -> Result<Option<Versioned>, StoreError> {
        self.open()?.get(key)
    }

    fn list_readable(&self, kind: Kind) -> Result<Listed, StoreError> {
        self.open()?.list_readable(kind)
    }

    fn compare_and_set(&self, key: Key, expected: Option<Version>, new: Option<&Record>) -> Result<Version, SetError> {
        self.open().map_err(SetError::Store)?.compare_and_set(key, expected, new)
    }

    fn watch(&self, watcher: Watcher) {
        self.store.watch(watcher);
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Health({:?})", self.trouble())
    }
}
