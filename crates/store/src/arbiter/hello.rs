//! The first messages of a connection: which protocol, which store. They have no version; they never change.

use dyad_cluster::{StoreError, Version};
use dyad_units::StoreId;
use serde::{Deserialize, Serialize};

/// Starts a client's first message.
const MAGIC: [u8; 8] = *b"dyadarb\0";
/// Why a node that was removed is refused, for ever in these words: its software knows it by them.
pub(super) const REMOVED: &str = "this node was removed from the cluster";
/// Versions of the protocol that this software speaks.
const OLDEST: u16 = 1;
const NEWEST: u16 = 1;

/// The client's first message.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    magic: [u8; 8],
    oldest: u16,
    newest: u16,
    /// The store that it wants; none: it asks which one this is.
    store: Option<[u8; 16]>,
}

/// The server's answer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) enum Welcome {
    /// The connection is open, with the newest version that both speak.
    Open { protocol: u16, store: [u8; 16], version: u64 },
    /// It is closed: another store.
    Other { store: [u8; 16] },
    /// It is closed: no version that both speak, or no hello at all.
    Refused { reason: String },
}

impl Hello {
    pub(super) fn new(store: Option<StoreId>) -> Self {
        Self { magic: MAGIC, oldest: OLDEST, newest: NEWEST, store: store.map(StoreId::to_bytes) }
    }

    /// The answer of the store `ours`, which is at `version`.
    pub(super) fn answer(&self, ours: StoreId, version: Version) -> Welcome {
        if self.magic != MAGIC {
            return Welcome::Refused { reason: "this is an arbiter of Dyad, and this is no hello".to_owned() };
        }
        let protocol = self.newest.min(NEWEST);
        if self.oldest > protocol || protocol < OLDEST {
            let (oldest, newest) = (self.oldest, self.newest);
            let reason = format!(
                "the node speaks versions {oldest} to {newest} of the arbiter's protocol, the arbiter {OLDEST} to \
                 {NEWEST}: bring the older one up to date"
            );
            return Welcome::Refused { reason };
        }
        match self.store {
            Some(store) if store != ours.to_bytes() => Welcome::Other { store: ours.to_bytes() },
            Some(_) | None => Welcome::Open { protocol, store: ours.to_bytes(), version: version.0 },
        }
    }
}

impl Welcome {
    /// Whether it is closed because this node was removed.
    pub(super) fn is_removal(&self) -> bool {
        matches!(self, Self::Refused { reason } if reason == REMOVED)
    }

    /// Whether the connection is open, for a client that wants `store` and saw `seen` before it said hello.
    pub(super) fn check(self, store: Option<StoreId>, seen: Version) -> Result<(StoreId, Version), StoreError> {
        let other = |expected, found| StoreError::Other { expected, found: StoreId::from_bytes(found) };
        match (self, store) {
            (Self::Open { store: found, .. } | Self::Other { store: found }, Some(store))
                if found != store.to_bytes() =>
            {
                Err(other(store, found))
            }
            (Self::Open { version, .. }, _) if Version(version) < seen => {
                Err(StoreError::WentBack { seen, found: Version(version) })
            }
            (Self::Open { protocol, store, version }, _) if (OLDEST..=NEWEST).contains(&protocol) => {
                Ok((StoreId::from_bytes(store), Version(version)))
            }
            (Self::Open { .. } | Self::Other { .. }, _) => {
                Err(super::protocol::unavailable("the arbiter's hello makes no sense"))
            }
            (Self::Refused { reason }, _) => Err(super::protocol::unavailable(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use dyad_cluster::{StoreError, Version};
    use dyad_units::StoreId;

    use super::{Hello, MAGIC, Welcome};
    use crate::arbiter::protocol::encode;

    const OURS: StoreId = StoreId::from_bytes([1; 16]);
    const OTHER: StoreId = StoreId::from_bytes([2; 16]);

    fn speaks(oldest: u16, newest: u16) -> Welcome {
        Hello { magic: MAGIC, oldest, newest, store: None }.answer(OURS, Version(9))
    }

    #[test]
    fn the_newest_common_version_is_spoken_and_none_is_said() {
        assert!(matches!(speaks(1, 1), Welcome::Open { protocol: 1, version: 9, .. }));
        assert!(matches!(speaks(1, 7), Welcome::Open { protocol: 1, .. }));
        assert!(matches!(speaks(2, 7), Welcome::Refused { .. }));
        assert!(matches!(speaks(0, 0), Welcome::Refused { .. }));
    }

    #[test]
    fn another_store_is_refused_by_both_sides() {
        let answer = Hello::new(Some(OTHER)).answer(OURS, Version(0));
        assert_eq!(answer, Welcome::Other { store: OURS.to_bytes() });
        let refused = answer.check(Some(OTHER), Version(0)).unwrap_err();
        assert!(matches!(refused, StoreError::Other { expected: OTHER, found: OURS }), "{refused}");
        let open = Welcome::Open { protocol: 1, store: OURS.to_bytes(), version: 0 };
        assert!(matches!(open.check(Some(OTHER), Version(0)), Err(StoreError::Other { .. })));
    }

    #[test]
    fn a_store_that_lost_history_is_refused() {
        let open = Welcome::Open { protocol: 1, store: OURS.to_bytes(), version: 4 };
        assert_eq!(open.clone().check(Some(OURS), Version(4)).unwrap(), (OURS, Version(4)));
        assert!(matches!(open.check(Some(OURS), Version(5)), Err(StoreError::WentBack { .. })));
    }

    #[test]
    fn the_hello_has_these_bytes_for_ever() {
        assert_eq!(encode(&Hello::new(None)), b"dyadarb\0\x01\x01\0");
        assert_eq!(encode(&Hello::new(Some(OURS)))[10..], [&[1][..], &[1; 16]].concat());
        let open = Welcome::Open { protocol: 1, store: [3; 16], version: 2 };
        assert_eq!(encode(&open), [&[0, 1][..], &[3; 16], &[2]].concat());
        assert_eq!(encode(&Welcome::Other { store: [3; 16] })[..2], [1, 3]);
        assert_eq!(encode(&Welcome::Refused { reason: "x".to_owned() }), [2, 1, b'x']);
        assert_eq!(super::REMOVED, "this node was removed from the cluster");
    }
}
