//! How far a resync is, for people.

use dyad_units::{Bytes, ImageId, Moment, Period};

use crate::owner::resync::{Run, Stage};
use crate::owner::status::{ResyncStage, ResyncStatus};

impl Run {
    pub(crate) fn status(&self, image: ImageId, now: Moment) -> ResyncStatus {
        let stage = match self.stage {
            Stage::Wanted | Stage::Proposed | Stage::Adopting | Stage::Surveying => ResyncStage::Beginning,
            Stage::Listing => ResyncStage::Listing,
            Stage::Copying => ResyncStage::Copying,
            Stage::AwaitingLease(_) | Stage::Closing | Stage::Completing | Stage::Ready => ResyncStage::Joining,
        };
        let (needed, nanos) = (self.need.count(), now.since(self.began).as_nanos());
        let rate = u128::from(self.done) * 1_000_000_000 / u128::from(nanos.max(1));
        let left = (u128::from(nanos) * u128::from(needed)).checked_div(u128::from(self.done));
        let left = left.map(|nanos| Period::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        ResyncStatus {
            image,
            stage,
            done: self.done,
            needed,
            sent: Bytes::new(self.sent),
            rate: u64::try_from(rate).unwrap_or(u64::MAX),
            time_left: if stage == ResyncStage::Joining { Some(Period::ZERO) } else { left },
        }
    }
}
