//! A new store in the place of a lost one, from what nodes and disks know (section 8).
//!
//! Every node caches all records, every image keeps its segment's. The records of the cache that is furthest are
//! right about what exists; a record that another cache has in a later version, or an image at a higher epoch, is
//! newer. The new store has another identity, so until the images have shown that nothing newer exists nobody takes
//! a segment over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use dyad_cluster::{Key, Kind, Record, SegmentRecord, SetError, Store, StoreError, Version, Versioned};
use dyad_units::{Epoch, StoreId};

use crate::error::OpenError;
use crate::local::{LocalStore, sync_parent};

/// What one node's cache holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Known {
    /// The store that it is of.
    pub store: StoreId,
    /// Every change up to here is in it.
    pub at: Version,
    /// The records.
    pub records: Vec<Versioned>,
}

/// Records for a new store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seed {
    /// One of each.
    pub records: Vec<Record>,
    /// What images keep of segments that no cache knows: of deleted volumes, or the caches are too old. They are
    /// not put into the store.
    pub orphans: Vec<SegmentRecord>,
}

/// Records cannot become a store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// Only caches know volumes, pools and nodes.
    #[error("no node knows the records of the config store {store}: start a node that was there when it was lost")]
    Nothing {
        /// The lost store.
        store: StoreId,
    },
    /// Two nodes know different content of the same version or epoch: two stores accepted changes.
    #[error("{key:?} is known twice, differently, at {at}: decide by hand which node is right")]
    Differs {
        /// Which record.
        key: Key,
        /// Its version or epoch.
        at: String,
    },
    /// The new store holds something else already.
    #[error("the new config store already holds {key:?} with another content: seed an empty one")]
    NotEmpty {
        /// Which record.
        key: Key,
    },
    /// The new store failed; the same can be repeated.
    #[error("the new config store did not take all records: repeat it")]
    Store(#[source] StoreError),
}

impl Seed {
    /// The newest records of `store`, from nodes' caches and from the records that images keep.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn gather(store: StoreId, caches: Vec<Known>, images: Vec<SegmentRecord>) -> Result<Self, SeedError> {
        let mut caches: Vec<_> = caches.into_iter().filter(|known| known.store == store).collect();
        caches.sort_by_key(|known| std::cmp::Reverse(known.at));
        let furthest = caches.first().ok_or(SeedError::Nothing { store })?.at;
        let mut newest: BTreeMap<Key, Versioned> = BTreeMap::new();
        for (at, known) in caches.into_iter().enumerate() {
            for found in known.records {
                let key = found.record.key();
                match newest.get(&key) {
                    Some(kept) if kept.version > found.version => {}
                    Some(kept) if kept.version == found.version => {
                        if kept.record != found.record {
                            return Err(SeedError::Differs { key, at: found.version.to_string() });
                        }
                    }
                    // The furthest cache knows of its deletion.
                    None if at > 0 && found.version <= furthest => {}
                    Some(_) | None => drop(newest.insert(key, found)),
                }
            }
        }
        let mut records: BTreeMap<_, _> = newest.into_iter().map(|(key, found)| (key, found.record)).collect();
        let orphans = add_images(&mut records, images)?;
        Ok(Self { records: records.into_values().collect(), orphans })
    }
}

/// Puts what images know of known segments in the place of what is older; returns the others.
fn add_images(
    records: &mut BTreeMap<Key, Record>,
    images: Vec<SegmentRecord>,
) -> Result<Vec<SegmentRecord>, SeedError> {
    let mut orphans: Vec<SegmentRecord> = Vec::new();
    for image in images {
        let key = Key::Segment(image.id);
        match records.get(&key) {
            Some(Record::Segment(kept)) if kept.epoch > image.epoch => {}
            Some(Record::Segment(kept)) if kept.epoch == image.epoch => {
                if *kept != image {
                    return Err(differs(key, image.epoch));
                }
            }
            Some(_) => drop(records.insert(key, Record::Segment(image))),
            None => match orphans.iter_mut().find(|orphan| orphan.id == image.id) {
                Some(orphan) if orphan.epoch < image.epoch => *orphan = image,
                Some(_) => {}
                None => orphans.push(image),
            },
        }
    }
    Ok(orphans)
}

fn differs(key: Key, epoch: Epoch) -> SeedError {
    SeedError::Differs { key, at: format!("epoch {epoch}") }
}

/// Makes a new store in the file `path` with the records, which is there whole or not at all: an arbiter must not
/// serve a half of it. Its identity is `fresh`.
///
/// # Errors
/// [`PlantError`].
pub fn plant(path: &Path, fresh: StoreId, seed: &Seed) -> Result<(), PlantError> {
    let io = |source| PlantError::Open(OpenError::Io { path: path.to_owned(), source });
    if path.try_exists().map_err(io)? {
        return Err(PlantError::Exists { path: path.to_owned() });
    }
    let unfinished = path.with_extension("seed");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    fill(&LocalStore::open(&unfinished, || fresh)?, seed)?;
    fs::rename(&unfinished, path).and_then(|()| sync_parent(path)).map_err(io)
}

/// A new store cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlantError {
    /// There is one.
    #[error("there is a config store already: {}", .path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
    /// Its file cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The records do not go into it.
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// Puts the records into an empty store. May be repeated, after a failure too: what is there already is left.
/// Volumes come last, so that none is seen before its segments.
///
/// # Errors
/// [`SeedError`].
pub fn fill(store: &dyn Store, seed: &Seed) -> Result<(), SeedError> {
    let wanted: BTreeMap<Key, &Record> = seed.records.iter().map(|record| (record.key(), record)).collect();
    let order = [Kind::Node, Kind::Pool, Kind::Segment, Kind::Volume];
    let mut there = BTreeMap::new();
    for kind in order {
        for found in store.list(kind).map_err(SeedError::Store)? {
            let key = found.record.key();
            if wanted.get(&key) != Some(&&found.record) {
                return Err(SeedError::NotEmpty { key });
            }
            there.insert(key, found.version);
        }
    }
    for kind in order {
        let missing = wanted.iter().filter(|(key, _)| key.kind() == kind && !there.contains_key(key));
        for (&key, record) in missing {
            match store.compare_and_set(key, None, Some(record)) {
                Ok(_) => {}
                // An attempt before, whose answer was lost, may have put it there.
                Err(SetError::Conflict { current: Some(current) }) if current.record == **record => {}
                Err(SetError::Conflict { .. }) => return Err(SeedError::NotEmpty { key }),
                Err(SetError::Unknown(error) | SetError::Store(error)) => return Err(SeedError::Store(error)),
                Err(error) => {
                    let reason = error.to_string();
                    return Err(SeedError::Store(StoreError::Unavailable { reason }));
                }
            }
        }
    }
    Ok(())
}
