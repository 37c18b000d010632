//! What an owner is told of an image after opening (P6, P8, M11).

use dyad_contract::image::{Reply, Survey, Token};
use dyad_units::Region;

use crate::engine::Pool;
use crate::engine::marks::extents_of;
use crate::entry::LOST;

impl Pool {
    /// A survey begins the reign of a new owner: promises to the one before are void (P15).
    pub(super) fn survey(&mut self, at: usize, token: Token) {
        self.space.void_promises(at);
        let image = self.image(at);
        let suspect = |region: &Region| image.has_suspect_in(extents_of(*region));
        let marked =
            if image.lived_through { Vec::new() } else { image.regions.iter_marked().filter(suspect).collect() };
        let lost = image.map.entries().filter(|(_, entry)| entry.has(LOST)).map(|(extent, _)| extent).collect();
        let survey = Survey {
            closed: image.meta.closed,
            epoch: image.meta.epoch,
            record: image.meta.record.clone(),
            lived_through: image.lived_through,
            unsettled: image.unsettled.clone(),
            marked,
            lost,
        };
        self.reply(at, token, Reply::Survey(Box::new(survey)));
    }
}
