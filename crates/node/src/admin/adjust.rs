//! What an administrator changes of a volume in use: its record, and from there every node's reactor.

use dyad_cluster::{AccessError, Key, Limits, PreferredOwner, Record, Right, SetError, VolumeRecord, Whom};

use super::Admin;
use crate::catalog::KnownVolume;
use crate::control::QueryError;
use crate::reactor::Message;

/// A change of a volume in use.
#[derive(Clone, Debug)]
pub(crate) enum Adjustment {
    /// The node that should own it.
    Prefer(Option<PreferredOwner>),
    /// How much its hosts may ask of it.
    Limit(Limits),
    /// Hosts are let in, or get another right.
    Allow(Whom, Right),
    /// Hosts are kept out.
    Deny(Whom),
}

/// The change was not recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdjustError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Set(#[from] SetError),
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Nobody of that name was let in.
    #[error("that host is not on the list of volume `{volume}`")]
    NotListed { volume: String },
}

impl Adjustment {
    fn apply(&self, volume: &mut VolumeRecord) -> Result<(), AdjustError> {
        match self {
            Self::Prefer(wish) => volume.preferred = *wish,
            Self::Limit(limits) => volume.limits = *limits,
            Self::Allow(whom, right) => volume.access.allow(whom.clone(), *right),
            Self::Deny(whom) => {
                if !volume.access.deny(whom)? {
                    return Err(AdjustError::NotListed { volume: volume.name.to_string() });
                }
            }
        }
        volume.access.check()?;
        Ok(())
    }
}

impl Admin {
    /// Records a change, and lets this node's hosts feel it; the other nodes hear of it from the config store.
    pub(super) fn adjust(&self, which: &str, adjustment: &Adjustment) -> Result<(), AdjustError> {
        let known = self.catalog.lock().volume(which).cloned();
        let known = known.ok_or_else(|| QueryError::Unknown { kind: "volume", name: which.into() })?;
        let (id, refused) = (known.record.id, std::cell::RefCell::new(None));
        let changed = std::cell::RefCell::new(None);
        self.change(Key::Volume(id), |record| match record {
            Record::Volume(mut volume) => {
                let before = volume.clone();
                match adjustment.apply(&mut volume) {
                    Ok(()) => {
                        *changed.borrow_mut() = Some(volume.clone());
                        Some(Record::Volume(volume))
                    }
                    Err(error) => {
                        *refused.borrow_mut() = Some(error);
                        Some(Record::Volume(before))
                    }
                }
            }
            other => Some(other),
        })?;
        match (refused.into_inner(), changed.into_inner()) {
            (Some(error), _) => Err(error),
            (None, Some(volume)) => {
                self.refresh(&volume);
                Ok(())
            }
            (None, None) => Err(QueryError::Unknown { kind: "volume", name: which.into() }.into()),
        }
    }

    /// A volume in use was changed, here or by another node.
    pub(super) fn refresh(&self, volume: &VolumeRecord) {
        let mut catalog = self.catalog.lock();
        let known = catalog.volumes.iter().find(|known| known.record.id == volume.id).cloned();
        if let Some(known) = known.filter(|known| known.record != *volume) {
            catalog.put_volume(KnownVolume { record: volume.clone(), ..known });
            drop(catalog);
            self.mailbox.post(Message::VolumeChanged(Box::new(volume.clone())));
        }
    }
}
