//! Images of this node: what they tell, and which leases they let the node grant (M5, M16).

use dyad_cluster::{ImageState, OutReason, SegmentRecord};
use dyad_contract::image::{ImageError, Reply, Survey};
use dyad_units::{Epoch, ImageId, NodeId};

use crate::image::{Asker, Image, ImageAction};
use crate::lease::Leases;
use crate::owner::Event;
use crate::part::event::{PartAction, PartNote};
use crate::part::message::PeerMessage;
use crate::part::part::Part;
use crate::part::peers::Says;

/// Nothing that the image ever replied to is missing (M11): it lived through, or no region was written since it closed.
pub(super) fn has_everything(survey: &Survey) -> bool {
    survey.lived_through || survey.marked.is_empty()
}

impl Part {
    pub(super) fn image(&self, id: ImageId) -> Option<&Image> {
        self.images.iter().find(|image| image.id() == id)
    }

    pub(super) fn on_image_action(
        &mut self,
        image: ImageId,
        action: ImageAction,
        leases: &mut Leases,
        out: &mut Vec<PartAction>,
    ) {
        match action {
            ImageAction::Pool { token, request } => out.push(PartAction::Pool { image, token, request }),
            ImageAction::Told { to, token, reply, .. } if to == self.me() => self.on_told_here(image, token, reply),
            ImageAction::Told { to, link, token, reply } => {
                out.push(PartAction::Send { to, message: PeerMessage::Told { image, link, token, reply } });
            }
            ImageAction::Opened { to, epoch, link } => {
                self.counters.adopted += 1;
                out.push(PartAction::Note(PartNote::Adopted { image, epoch }));
                if to == self.me() {
                    self.on_opened(image, epoch, link);
                } else {
                    out.push(PartAction::Send { to, message: PeerMessage::Opened { image, epoch, link } });
                }
            }
            ImageAction::Refused { to, epoch, record } => {
                self.counters.refused += 1;
                out.push(PartAction::Note(PartNote::RefusedOwner { image, epoch }));
                self.learn(record.clone(), leases, out);
                if to != self.me() {
                    out.push(PartAction::Send { to, message: PeerMessage::Refused { image, record } });
                }
            }
            ImageAction::Down { to, reason } if to == self.me() => self.on_said(image, Says::Down(reason)),
            ImageAction::Down { to, reason } => {
                out.push(PartAction::Send { to, message: PeerMessage::ImageDown { image, reason } });
            }
            ImageAction::Shown { to, survey } => self.on_shown_here(image, to, survey, out),
            ImageAction::Looked { to, reply } => self.on_looked(image, to, reply, out),
            ImageAction::Adopted { .. } => self.again = true,
            ImageAction::Came { survey } => self.on_came(image, &survey, leases, out),
        }
    }

    /// The pool of an image of this node answered for the first time.
    fn on_came(&mut self, image: ImageId, survey: &Survey, leases: &mut Leases, out: &mut Vec<PartAction>) {
        if let Ok(record) = SegmentRecord::decode(&survey.record) {
            self.learn(Box::new(record), leases, out);
        }
        let has_everything = has_everything(survey);
        self.say_of_image(|| PeerMessage::ImageUp { image, has_everything }, out);
        self.on_said(image, Says::Up { has_everything });
        self.came.retain(|(known, _)| *known != image);
        self.came.push((image, has_everything));
        self.news();
    }

    pub(super) fn on_pool_down(&mut self, image: ImageId, reason: OutReason, out: &mut Vec<PartAction>) {
        self.with_image(image, |image, to| image.pool_down(reason, to));
        self.came.retain(|(known, _)| *known != image);
        self.say_of_image(|| PeerMessage::ImageDown { image, reason }, out);
        self.on_said(image, Says::Down(reason));
    }

    /// What is said of an image is said once and heard only by whoever knows the image (M8). So the record goes first, as
    /// when a connection begins: a node that was cut off from the owner may not have seen the one that adds the image.
    fn say_of_image(&self, message: impl Fn() -> PeerMessage, out: &mut Vec<PartAction>) {
        for to in self.peers.up() {
            let record = Box::new(self.record.clone());
            out.push(PartAction::Send { to, message: PeerMessage::Record { record } });
            out.push(PartAction::Send { to, message: message() });
        }
    }

    fn on_shown_here(&mut self, image: ImageId, to: Asker, survey: Option<Box<Survey>>, out: &mut Vec<PartAction>) {
        match to {
            Asker::Part => self.on_shown_to_claim(image, self.setup.incarnation, survey),
            Asker::Mirror(token) => {
                let reply = survey.map_or(Reply::Failed(ImageError::Unreadable), Reply::Survey);
                self.on_told_here(image, token, reply);
            }
            Asker::Peer(node, token) => {
                let incarnation = self.setup.incarnation;
                let message = PeerMessage::Shown { image, token, survey, incarnation };
                out.push(PartAction::Send { to: node, message });
            }
            Asker::Loss(_) | Asker::Lister(..) => {} // shown nothing: they look
        }
    }

    fn on_looked(&mut self, image: ImageId, to: Asker, reply: Option<Reply>, out: &mut Vec<PartAction>) {
        match to {
            Asker::Loss(asked) => {
                self.losses.on_reply(asked, reply);
                self.again = true;
            }
            Asker::Lister(node, token) => {
                let changed = reply.and_then(|reply| match reply {
                    Reply::Changed(changed) => Some(changed),
                    _ => None,
                });
                out.push(PartAction::Send { to: node, message: PeerMessage::Listed { image, token, changed } });
            }
            Asker::Part | Asker::Mirror(_) | Asker::Peer(..) => {}
        }
    }

    /// The mirror's image, on this node, replied.
    fn on_told_here(&mut self, image: ImageId, token: dyad_contract::image::Token, reply: Reply) {
        if let Some(index) = self.reign.as_ref().and_then(|reign| reign.mirror.index_of(image)) {
            self.tell_mirror(Event::Image { image: index, token, reply });
        }
    }

    /// What this node may grant (M5): nothing while it is, or thinks of becoming, owner (M6); else the epoch that its
    /// images in sync adopted from the owner, if that is the newest known, and one that catches up counts where it is the
    /// only one (M16). An image that forgot has no stream, and grants nothing (M11).
    pub(super) fn update_grants(&mut self, leases: &mut Leases) {
        let is_own = self.reign.is_some()
            || self.claim.as_ref().is_some_and(|claim| claim.is_near)
            || self.commands.is_promoting();
        let epoch = if is_own { None } else { self.grantable() };
        leases.grant_for(self.record.id, epoch);
    }

    fn grantable(&self) -> Option<Epoch> {
        let owner = self.record.owner.filter(|&owner| owner != self.me())?;
        let obeys = |id| self.image(id).is_some_and(|image| self.obeys(image, owner));
        let mine = |state| {
            let images = self.record.images.iter().filter(move |image| image.node == self.me() && image.state == state);
            images.map(|image| image.id)
        };
        let is_given = if mine(ImageState::InSync).next().is_some() {
            mine(ImageState::InSync).all(obeys)
        } else {
            mine(ImageState::Syncing).any(obeys)
        };
        is_given.then_some(self.record.epoch)
    }

    fn obeys(&self, image: &Image, owner: NodeId) -> bool {
        image.adopted() == Some(self.record.epoch) && image.obeys() == Some(owner)
    }
}
