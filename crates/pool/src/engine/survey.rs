//! What an owner is told of an image after opening (P6, P8, M11), or when it takes over (M9).

use dyad_contract::image::{Reply, Survey, Token};

use crate::engine::Pool;

impl Pool {
    /// A survey begins the reign of a new owner: promises to the one before are void (P15).
    ///
    /// Without L all marked regions are named, also those in which nothing is left: what was first written there and
    /// vanished is on other images. Once everything was compared, the image has what they have: later surveys in this
    /// life say that it lived through.
    pub(super) fn survey(&mut self, at: usize, token: Token) {
        self.void_promises(at);
        self.show(at, token);
        let image = self.image_mut(at);
        image.lived_through |= image.uncompared.is_empty() && !image.suspect;
    }

    /// What a survey says, without its effects.
    pub(super) fn show(&mut self, at: usize, token: Token) {
        let image = self.image(at);
        // Marks of this life, where the opening found none, are of what it has: it had nothing to forget (M11).
        let is_of_this_life = image.regions.marked() > 0 && image.uncompared.is_empty() && !image.suspect;
        let lived_through = image.lived_through || is_of_this_life;
        let marked = if lived_through { Vec::new() } else { image.regions.iter_marked().collect() };
        let survey = Survey {
            closed: image.meta.closed,
            epoch: image.meta.epoch,
            record: image.meta.record.clone(),
            lived_through,
            unsettled: image.unsettled.iter().map(|write| write.piece).collect(),
            marked,
            lost: image.lost().collect(),
            progress: image.meta.cursor.map(|cursor| (cursor, image.meta.complete)),
        };
        self.reply(at, token, Reply::Survey(Box::new(survey)));
    }
}
